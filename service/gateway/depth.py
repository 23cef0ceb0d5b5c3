"""How deep a JSON body is nested, found without building it and in time that its size bounds."""

_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_ALIKE = bytes.maketrans(b"{}", b"[]")
# No client's body has this many; they bound the time that looking at it takes.
_MOST_QUOTES = 400_000
_MOST_BRACKETS = 200_000


def is_deeper(body: bytes, most: int) -> bool:
    """Whether valid JSON is nested deeper than `most` levels, or is absurdly fine-grained."""
    if body.count(b"[") + body.count(b"{") <= most:
        return False
    # Without escapes every second part between quotes is outside of a string.
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if plain.count(b'"') > _MOST_QUOTES:
        return True
    outside = b"".join(plain.split(b'"')[::2])
    brackets = outside.translate(_ALIKE, _NOT_BRACKETS)
    if len(brackets) > _MOST_BRACKETS:
        return True
    for _ in range(most):
        if not brackets:
            return False
        brackets = brackets.replace(b"[]", b"")  # the innermost level, everywhere
    return bool(brackets)
