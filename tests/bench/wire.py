"""What the upstream sends, byte for byte, and what of it a client is to see.

The shape is vLLM's: a chunk for the role, one for each token, one for the reason of the end, the
usage, and `[DONE]`. Who asks for continuous usage, as the gateway does, finds it in every chunk;
the benchmark's client does not ask, so it is to see none, whoever stands between.
"""

import functools
import json
from typing import Any, Final

MODEL: Final = "bench"
PROMPT_TOKENS: Final = 500
STEP_SECONDS: Final = 0.01
"""Between two tokens of a stream."""
HELD: Final = "hold "
"""How the prompt of a stream begins that stands still after its first token, until `/release`."""

DONE: Final = b"data: [DONE]\n\n"
END: Final = b"0\r\n\r\n"
STREAM_HEAD: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_PATH: Final = "/v1/chat/completions"
# Long enough to be a usual prompt, short enough not to be what is measured.
_PROMPT: Final = "All work and no play makes Jack a dull boy. " * 45
_HEAD: Final = (
    b'{"id":"chatcmpl-4f8b2c1d9e7a4f8b2c1d9e7a4f8b2c1d","object":"chat.completion.chunk",'
    b'"created":1790000000,"model":"bench","choices":['
)


def body(tokens: int, *, stream: bool, held: bool = False) -> bytes:
    """Of a request for so many tokens."""
    prompt = HELD + _PROMPT if held else _PROMPT
    document: dict[str, Any] = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": tokens,
    }
    return json.dumps(document | ({"stream": True} if stream else {})).encode()


def request(port: int, key: str, body: bytes) -> bytes:
    """A whole HTTP request, as a client sends it on a connection that it keeps."""
    head = (
        f"POST {_PATH} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\naccept: */*\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@functools.cache
def token_event(number: int, usage: bool) -> bytes:
    """The chunk of the token with that number, from 1. No two of a stream are alike."""
    return _event(b'{"content":" word%d"}' % number, b"null", number if usage else None)


def opening(usage: bool) -> bytes:
    """The chunk of the role."""
    return _event(b'{"role":"assistant","content":""}', b"null", 0 if usage else None)


def ending(tokens: int, usage: bool) -> list[bytes]:
    """The events after the last token."""
    finish = _event(b"{}", b'"length"', tokens if usage else None)
    last = b"data: " + _HEAD + b"]" + _usage(tokens) + b"}\n\n"
    return [finish, last, DONE] if usage else [finish, DONE]


@functools.cache
def answer(tokens: int) -> bytes:
    """The body of an answer in one piece."""
    return (
        b'{"id":"chatcmpl-4f8b2c1d9e7a4f8b2c1d9e7a4f8b2c1d","object":"chat.completion",'
        b'"created":1790000000,"model":"bench","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"' + b" ".join(b"word%d" % n for n in range(tokens)) + b'",'
        b'"refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":[],'
        b'"reasoning":null},"logprobs":null,"finish_reason":"length","stop_reason":null,'
        b'"token_ids":null}],"service_tier":null,"system_fingerprint":null'
        + _usage(tokens)
        + b',"prompt_logprobs":null,"kv_transfer_params":null}'
    )


@functools.cache
def shown(tokens: int) -> bytes:
    """All of a stream that its client is to see, without HTTP's framing."""
    words = [token_event(number, False) for number in range(1, tokens + 1)]
    return b"".join([opening(False), *words, *ending(tokens, False)])


def said(stream: bytes) -> list[str]:
    """The pieces of text in a stream, which all who write their chunks anew have to keep.

    Raises `ValueError` for what is no such stream, or does not end with `[DONE]`.
    """
    events = [event for event in stream.split(b"\n\n") if event]
    if not events or events[-1] + b"\n\n" != DONE:
        raise ValueError("it does not end with [DONE]")
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]
    deltas = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
    return [text for text in deltas if text]


def framed(events: bytes) -> bytes:
    """One chunk of HTTP."""
    return b"%x\r\n%b\r\n" % (len(events), events)


def _event(delta: bytes, finish: bytes, used: int | None) -> bytes:
    usage = b"" if used is None else _usage(used)
    choice = b'{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b,"token_ids":null}'
    return b"data: " + _HEAD + choice % (delta, finish) + b"]" + usage + b"}\n\n"


def _usage(completion: int) -> bytes:
    return b',"usage":{"prompt_tokens":%d,"total_tokens":%d,"completion_tokens":%d}' % (
        PROMPT_TOKENS,
        PROMPT_TOKENS + completion,
        completion,
    )
