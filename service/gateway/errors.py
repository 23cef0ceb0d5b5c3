"""Errors as clients expect them: OpenAI's bodies and codes, and Anthropic's on its routes."""

import json
import math
from dataclasses import dataclass, field

from service.gateway.routes import Dialect

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}

# Characters of a client's own words that an error repeats.
_ECHO = 100


@dataclass(slots=True)
class APIError(Exception):
    """A request that is answered with an error. `code` is OpenAI's machine-readable word."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, dialect: Dialect) -> bytes:
        """The JSON answer in the client's dialect."""
        return json.dumps(self._document(dialect)).encode()

    def event(self, dialect: Dialect) -> bytes:
        """The server-sent event that ends a stream which cannot be finished."""
        if dialect is Dialect.RESPONSES:
            flat = {"code": self.code, "message": self.message, "param": self.param}
            return _event({"type": "error", "sequence_number": 0, **flat}, name="error")
        name = "error" if dialect is Dialect.ANTHROPIC else None
        return _event(self._document(dialect), name)

    def _document(self, dialect: Dialect) -> dict[str, object]:
        if dialect is Dialect.ANTHROPIC:
            type = _ANTHROPIC_TYPES.get(self.status, "api_error")
            return {"type": "error", "error": {"type": type, "message": self.message}}
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }


def _event(document: dict[str, object], name: str | None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(document)}\n\n".encode()


def no_such_route(method: str, path: str) -> APIError:
    return APIError(404, f"Invalid URL ({method} {path})", code="unknown_url")


def wrong_method(method: str, path: str, allowed: str) -> APIError:
    return APIError(
        405,
        f"Not allowed to {method} on {path}: use {allowed}.",
        code="method_not_supported",
        headers={"allow": allowed},
    )


def no_upgrade() -> APIError:
    return APIError(
        400,
        "This endpoint speaks HTTP/1.1 without upgrades: send the request without an Upgrade header"
        " (in Java: HttpClient.Version.HTTP_1_1).",
        headers={"connection": "close"},
    )


def no_key() -> APIError:
    return APIError(
        401,
        "You didn't provide an API key. Provide it in the Authorization header as a bearer token"
        " (Authorization: Bearer YOUR_KEY) or in the x-api-key header.",
        headers={"www-authenticate": "Bearer"},
    )


def wrong_key() -> APIError:
    # The key is not repeated: an answer ends up in the logs of others.
    return APIError(
        401,
        "Incorrect API key provided: it is unknown, expired or revoked. Ask your platform team for"
        " a key.",
        code="invalid_api_key",
        headers={"www-authenticate": 'Bearer error="invalid_token"'},
    )


def body_too_large(limit: int) -> APIError:
    return APIError(
        413,
        f"The request body is larger than {limit} bytes: send less context.",
        code="request_too_large",
        headers={"connection": "close"},
    )


def body_too_slow(seconds: float) -> APIError:
    return APIError(
        408,
        f"The request body did not arrive within {seconds:g} s.",
        code="request_timeout",
        headers={"connection": "close"},
    )


def not_json() -> APIError:
    return APIError(
        400,
        "We could not parse the JSON body of your request. The API expects one JSON object, UTF-8,"
        " with double quotes and no trailing commas.",
    )


def too_deep(most: int) -> APIError:
    return APIError(400, f"The JSON body is nested deeper than {most} levels: flatten it.")


def out_of_range(param: str, least: int, most: int) -> APIError:
    return APIError(
        400,
        f"Invalid '{param}': expected {least} to {most}.",
        code="integer_out_of_range",
        param=param,
    )


def context_too_long(most: int, prompt: int, output: int | None) -> APIError:
    asked = f" and {output} for the answer" if output else ""
    return APIError(
        400,
        f"Your team's maximum context length is {most} tokens. You asked for about {prompt} in the"
        f" prompt{asked}: shorten the prompt or the answer.",
        code="context_length_exceeded",
        param="messages",
    )


def too_much_output(param: str, asked: int, most: int) -> APIError:
    return APIError(
        400,
        f"{param} is too large: {asked}. Your team may ask for at most {most} tokens of output.",
        code="invalid_value",
        param=param,
    )


def effort_not_allowed(param: str, asked: str, allowed: tuple[str, ...]) -> APIError:
    return APIError(
        400,
        f"Your team may not use {param} '{asked[:_ECHO]}': use {' or '.join(allowed)}.",
        code="unsupported_value",
        param=param,
    )


def effort_not_controllable(path: str) -> APIError:
    return APIError(
        403,
        f"Your team's reasoning effort is limited, and {path} takes raw prompts that could ask for"
        " any: use /v1/chat/completions.",
        code="route_not_allowed",
    )


def missing(param: str) -> APIError:
    return APIError(
        400,
        f"Missing required parameter: '{param}'.",
        code="missing_required_parameter",
        param=param,
    )


def wrong_type(param: str, expected: str) -> APIError:
    return APIError(
        400, f"Invalid type for '{param}': expected {expected}.", code="invalid_type", param=param
    )


def unknown_fields(names: list[str]) -> APIError:
    plural = "s" if len(names) > 1 else ""
    named = [name[:_ECHO] for name in names[:5]]
    return APIError(
        400,
        f"Unrecognized request argument{plural} supplied: {', '.join(named)}",
        code="unknown_parameter",
        param=named[0],
    )


def unknown_model(name: str, known: list[str]) -> APIError:
    return APIError(
        404,
        f"The model `{name[:_ECHO]}` does not exist or you do not have access to it."
        f" Models: {', '.join(known) or 'none'}.",
        code="model_not_found",
        param="model",
    )


def model_not_allowed(name: str, team: str) -> APIError:
    return APIError(
        403,
        f"Team `{team}` does not have access to model `{name[:_ECHO]}`: ask your platform team.",
        code="model_not_found",
    )


def team_disabled(team: str) -> APIError:
    return APIError(
        403,
        f"Team `{team}` is switched off: ask your platform team.",
        code="team_disabled",
    )


def not_a_member() -> APIError:
    return APIError(
        403,
        "You are signed in, but belong to no team of this service: ask your platform team.",
        code="no_team",
    )


def draining() -> APIError:
    return APIError(
        503,
        "This gateway is shutting down: send the request again.",
        type="server_error",
        code="gateway_draining",
        headers={"retry-after": "1", "connection": "close"},
    )


def gateway_full(most: int) -> APIError:
    return APIError(
        503,
        f"This gateway has {most} requests open and no descriptors for more: try again shortly.",
        type="server_error",
        code="gateway_full",
        headers=retry_after(1),
    )


def drained() -> APIError:
    return APIError(
        503,
        "This gateway shut down before the answer was complete: send the request again.",
        type="server_error",
        code="gateway_shutdown",
    )


def engine_unreachable(model: str) -> APIError:
    return APIError(
        503,
        f"No engine of {model} can be reached now: try again shortly.",
        type="server_error",
        code="engine_unavailable",
        headers={"retry-after": "5"},
    )


def engine_overloaded(model: str) -> APIError:
    return APIError(
        503,
        f"The engine of {model} has a full queue: try again shortly.",
        type="server_error",
        code="engine_overloaded",
        headers={"retry-after": "5"},
    )


def crowded(model: str, wait: float) -> APIError:
    return APIError(
        503,
        f"{model} is used to the full by everybody: try again in {math.ceil(wait)} s.",
        type="server_error",
        code="model_overloaded",
        headers=retry_after(wait),
    )


def team_crowded(model: str, wait: float) -> APIError:
    return APIError(
        429,
        f"Your team has more requests waiting for {model} than its share: try again in"
        f" {math.ceil(wait)} s, or send fewer at a time.",
        type="requests",
        code="queue_full",
        headers=retry_after(wait),
    )


def retry_after(seconds: float) -> dict[str, str]:
    """The headers that say when to come back: rounded up, since who does then must get in."""
    return {
        "retry-after": str(max(math.ceil(seconds), 1)),
        "retry-after-ms": str(max(math.ceil(seconds * 1000), 1)),
    }


def took_too_long(model: str, seconds: float) -> APIError:
    return APIError(
        504,
        f"The answer of {model} took longer than {seconds:g} s, which is the most that is allowed:"
        " ask for less at once.",
        type="server_error",
        code="request_timeout",
    )


def engine_failed(model: str, status: int) -> APIError:
    return APIError(
        502,
        f"The engine of {model} failed with status {status}: try again, and report it with the"
        " request id if it persists.",
        type="server_error",
        code="engine_error",
    )


def engine_silent(model: str, seconds: float) -> APIError:
    return APIError(
        504,
        f"The engine of {model} sent nothing for {seconds:g} s: try again.",
        type="server_error",
        code="engine_timeout",
    )


def engine_cut(model: str) -> APIError:
    return APIError(
        502,
        f"The engine of {model} ended before its answer was complete: send the request again.",
        type="server_error",
        code="engine_disconnected",
    )


def internal() -> APIError:
    return APIError(
        500,
        "The gateway failed on this request: report it with the request id.",
        type="server_error",
        code="internal_error",
    )
