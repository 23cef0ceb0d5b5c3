"""How many tokens a request has where no engine has counted them: learned from what engines report.

Of a prompt, tokens per byte of the request's body, by what kind it is and by size. The size
matters, because a short body is mostly JSON and Harmony's fixed preamble. No tokenizer runs here:
it would cost more than the whole of the gateway's path. Of an answer that was cut before anything
of it was seen, tokens per second.
"""

_LEARNING_RATE = 0.1
# Before anything is learned: English text has some 4 bytes a token, code and other scripts fewer.
_FIRST_GUESS = 1 / 3
_PREAMBLE = 64
_MOST_PER_BYTE = 4.0
_FIRST_PACE = 50.0  # tokens per second of one answer; an H100 gives gpt-oss-120b some 50 to 200


class Estimator:
    """Tokens per byte, by kind of prompt and by the power of two below its size; per second too."""

    def __init__(self) -> None:
        self._per_byte: dict[tuple[str, int], float] = {}
        self._per_second: dict[str, float] = {}

    def prompt(self, kind: str, size: int) -> int:
        """Prompt tokens of a body of `size` bytes; at least 1."""
        known = self._per_byte.get((kind, size.bit_length()))
        estimate = size * _FIRST_GUESS + _PREAMBLE if known is None else size * known
        return max(round(estimate), 1)

    def answer(self, model: str, seconds: float) -> int:
        """Tokens of an answer on which an engine worked for that long, waiting included."""
        return round(seconds * self._per_second.get(model, _FIRST_PACE))

    def learn_answer(self, model: str, seconds: float, tokens: int) -> None:
        """Take in how long a whole answer took. `model` must be one that is served."""
        if seconds > 0:
            known = self._per_second.get(model, tokens / seconds)
            self._per_second[model] = known + _LEARNING_RATE * (tokens / seconds - known)

    def learn_prompt(self, kind: str, size: int, tokens: int) -> None:
        """Take in what an engine counted. `kind` must be one of few: each is kept."""
        if size <= 0 or tokens <= 0:
            return
        seen = min(tokens / size, _MOST_PER_BYTE)
        key = (kind, size.bit_length())
        known = self._per_byte.get(key, seen)
        self._per_byte[key] = known + _LEARNING_RATE * (seen - known)
