"""The gateway as a process: who gets in, what gets through, and what a client sees of a failure."""

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.exposition import total
from tests.integration.conftest import ENGINE_KEY, IDLE_TIMEOUT, MAX_BODY, Gateway
from tests.integration.fake_engine import DONE, EVENT, Call, FakeEngine
from tests.integration.waiting import wait_for

CHAT = "/v1/chat/completions"


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with gateway.client() as client:
        yield client


def ask(model: str, **fields: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **fields}


def error_of(answer: httpx.Response) -> dict[str, str]:
    """OpenAI's error object, checked for its shape."""
    error: dict[str, str] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "\n" not in error["message"]
    return error


# --- who gets in


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer {key}"},
        {"authorization": "bearer  {key}"},
        {"x-api-key": "{key}"},
    ],
)
def test_a_key_is_taken_as_a_bearer_token_or_x_api_key(
    gateway: Gateway, headers: dict[str, str]
) -> None:
    headers = {name: value.format(key=gateway.key) for name, value in headers.items()}
    assert httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/models/well"])
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, None),
        ({"authorization": "Basic abc"}, None),
        ({"authorization": "Bearer"}, None),
        ({"authorization": "Bearer wrong"}, "invalid_api_key"),
        ({"x-api-key": "gptoss_aaaaaaaaaaaa_" + "b" * 43}, "invalid_api_key"),
        ({"authorization": f"Bearer {ENGINE_KEY}"}, "invalid_api_key"),
    ],
)
def test_without_a_good_key_nothing_is_served(
    gateway: Gateway, engine: FakeEngine, path: str, headers: dict[str, str], code: str | None
) -> None:
    calls = len(engine.calls)
    method = "POST" if path == CHAT else "GET"
    answer = httpx.request(method, gateway.url + path, headers=headers, json=ask("well"))
    assert answer.status_code == 401
    assert error_of(answer)["code"] == code
    assert len(engine.calls) == calls


def test_a_key_made_now_works_and_a_revoked_one_stops_within_five_seconds(
    gateway: Gateway,
) -> None:
    key, token = gateway.office.add_key("tests")
    headers = {"authorization": f"Bearer {token}"}

    def status() -> int:
        return httpx.get(f"{gateway.url}/v1/models", headers=headers).status_code

    wait_for(lambda: status() == 200)
    gateway.office.revoke(key.id)
    wait_for(lambda: status() == 401)


# --- what gets through


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/health",
        "/metrics",
        "/invocations",
        "/tokenize",
        "/scale_elastic_ep",
        "/v1/responses/resp_1",
        "/v1/chat/completions/batch",
        "/v1/chat/completions/",
        "//v1/chat/completions",
        "/v1/../v1/chat/completions",
        "/v1/load_lora_adapter",
        "/V1/chat/completions",
        "/v1/chat/completions%00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_is_not_listed_reaches_no_engine(
    gateway: Gateway, engine: FakeEngine, method: str, path: str
) -> None:
    calls = len(engine.calls)
    answer = raw(gateway, method, path, json.dumps(ask("well")).encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert len(engine.calls) == calls


def raw(gateway: Gateway, method: str, path: str, body: bytes) -> bytes:
    """A request by hand: client libraries tidy paths up."""
    host, port = gateway.url.removeprefix("http://").split(":")
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        f"authorization: Bearer {gateway.key}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(head.encode() + body)
        answer = b""
        while part := connection.recv(65536):
            answer += part
        return answer


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_says_when_it_was_made(gateway: Gateway, stream: bool) -> None:
    """RFC 9110, 6.6.1: whoever has a clock has to."""
    with gateway.client() as client:
        answer = client.post(CHAT, json=ask("well", stream=stream))
    assert answer.status_code == 200
    (date,) = answer.headers.get_list("date")
    assert abs(parsedate_to_datetime(date).timestamp() - time.time()) < 60


def test_the_host_header_decides_nothing(gateway: Gateway) -> None:
    for host, status in (("example.com:80", 404), ("x/v1/chat/completions?", 400)):
        answer = httpx.post(f"{gateway.url}/invocations", headers={"host": host})
        assert answer.status_code == status


def test_a_known_path_with_another_method_says_which_one(client: httpx.Client) -> None:
    answer = client.get(CHAT)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"


def test_the_engine_sees_its_own_secret_and_nothing_of_the_clients_headers(
    client: httpx.Client, new_call: Callable[[], Call]
) -> None:
    sent = {"x-request-id": "mine", "x-vllm-priority": "-5", "x-session-id": "s", "cookie": "c=1"}
    answer = client.post(CHAT, json=ask("well"), headers=sent)
    assert answer.status_code == 200
    seen = new_call().headers
    assert seen["authorization"] == f"Bearer {ENGINE_KEY}"
    assert seen["x-request-id"] == answer.headers["x-request-id"]
    assert not {"x-vllm-priority", "x-session-id", "cookie"} & seen.keys()


def test_a_stream_arrives_byte_for_byte(client: httpx.Client) -> None:
    answer = client.post(CHAT, json=ask("well", stream=True))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.content == EVENT * 3 + DONE


def test_events_are_passed_on_as_they_come(client: httpx.Client) -> None:
    with client.stream("POST", CHAT, json=ask("forever", stream=True)) as answer:
        events = answer.iter_bytes()
        assert [next(events) for _ in range(3)]


def test_models_are_listed_as_openai_does(client: httpx.Client) -> None:
    listed = client.get("/v1/models").json()
    assert listed["object"] == "list"
    cards = {card["id"]: card for card in listed["data"]}
    assert client.get("/v1/models/well").json() == cards["well"]
    assert cards["well"]["object"] == "model"


# --- bad input


def test_an_unknown_model_is_named_with_those_that_exist(client: httpx.Client) -> None:
    for answer in (client.post(CHAT, json=ask("gpt-9")), client.get("/v1/models/gpt-9")):
        assert answer.status_code == 404
        error = error_of(answer)
        assert error["code"] == "model_not_found"
        assert "gpt-9" in error["message"]
        assert "well" in error["message"]


def test_a_body_that_is_not_json_is_refused(client: httpx.Client) -> None:
    answer = client.post(CHAT, content=b"{'model': 'well'}")
    assert answer.status_code == 400
    assert "could not parse the JSON body" in error_of(answer)["message"]


@pytest.mark.parametrize("declared", [True, False], ids=["with a length", "chunked"])
def test_fifty_megabytes_are_refused_with_an_answer_not_a_reset(
    client: httpx.Client, declared: bool
) -> None:
    block = b" " * (1 << 20)
    body = block * 50 if declared else (block for _ in range(50))
    answer = client.post(CHAT, content=body)
    assert answer.status_code == 413
    assert str(MAX_BODY) in error_of(answer)["message"]


def test_a_body_that_never_ends_is_given_up(gateway: Gateway) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
            "content-length: 100\r\n\r\n{".encode()
        )
        connection.settimeout(10)
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


def test_anthropic_clients_get_anthropic_errors(client: httpx.Client) -> None:
    answer = client.post("/v1/messages", json=ask("gpt-9"))
    assert answer.status_code == 404
    assert answer.json()["type"] == "error"
    assert answer.json()["error"]["type"] == "not_found_error"


# --- engines that fail


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("nowhere", 503, "engine_unavailable"),
        ("dies", 502, "engine_disconnected"),
        ("answers-garbage", 502, "engine_disconnected"),
        ("answers-500", 502, "engine_error"),
        ("answers-html", 502, "engine_error"),
        ("answers-401", 502, "engine_error"),
        ("answers-503", 503, "engine_overloaded"),
        ("silent", 504, "engine_timeout"),
        ("answers-400", 400, "context_length_exceeded"),
    ],
)
def test_an_engine_that_fails_before_its_answer_gives_a_status(
    client: httpx.Client, model: str, status: int, code: str, stream: bool
) -> None:
    answer = client.post(CHAT, json=ask(model, stream=stream))
    assert answer.status_code == status
    error = error_of(answer)
    assert error["code"] == code
    assert "/root" not in error["message"]  # an engine's insides stay inside
    assert answer.headers["x-request-id"].startswith("req_")


def test_an_error_instead_of_the_first_token_is_a_failure_before_the_answer(
    client: httpx.Client,
) -> None:
    answer = client.post(CHAT, json=ask("errs-at-once", stream=True))
    assert answer.status_code == 502
    assert error_of(answer)["code"] == "engine_error"
    assert "/root" not in answer.text


def test_half_an_answer_is_never_passed_as_a_whole_one(client: httpx.Client) -> None:
    answer = client.post(CHAT, json=ask("dies-within-json"))
    assert answer.status_code == 502
    assert error_of(answer)["code"] == "engine_disconnected"


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ("dies-midway", "engine_disconnected"),
        ("ends-early", "engine_disconnected"),
        ("errs-midway", "engine_error"),
        ("silent-midway", "engine_timeout"),
    ],
)
def test_a_stream_that_breaks_ends_with_an_error_event(
    client: httpx.Client, model: str, code: str
) -> None:
    began = time.monotonic()
    answer = client.post(CHAT, json=ask(model, stream=True))
    assert answer.status_code == 200
    first, last = answer.content.removesuffix(b"\n\n").split(b"\n\n")
    assert first + b"\n\n" == EVENT
    assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == code
    assert b"/root" not in last
    assert time.monotonic() - began < IDLE_TIMEOUT + 5


@pytest.mark.parametrize(
    ("path", "name"), [("/v1/messages", "api_error"), ("/v1/responses", "engine_disconnected")]
)
def test_each_dialect_has_its_own_error_event(client: httpx.Client, path: str, name: str) -> None:
    body = {"model": "dies-midway", "stream": True}
    answer = client.post(path, json=body)
    last = answer.content.removesuffix(b"\n\n").split(b"\n\n")[-1]
    assert last.startswith(b"event: error\ndata: ")
    assert name.encode() in last


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_an_engine_that_does_not_even_read_gives_a_status(
    client: httpx.Client, stream: bool
) -> None:
    answer = client.post(CHAT, json=ask("deaf", stream=stream, stop="x" * (MAX_BODY - 1000)))
    assert answer.status_code == 504
    assert error_of(answer)["code"] == "engine_timeout"


def test_a_stream_that_is_complete_stays_well_whatever_comes_after(
    gateway: Gateway, client: httpx.Client
) -> None:
    labels = {"model": "done-then-silent", "status": "200"}
    answer = client.post(CHAT, json=ask("done-then-silent", stream=True))
    assert answer.content == EVENT + DONE
    deadline = time.monotonic() + 5
    while not metric(gateway, "gptoss_gateway_requests_total", **labels):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert metric(gateway, "gptoss_gateway_requests_total", outcome="ok", **labels) == 1


# --- clients that misbehave


def connect(gateway: Gateway) -> socket.socket:
    host, port = gateway.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), 10)


def request(gateway: Gateway, body: bytes, headers: str = "") -> bytes:
    return (
        f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n{headers}"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body


def read_all(connection: socket.socket) -> bytes:
    """Everything until the other side closes, one way or the other."""
    received = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            received += part
    return received


def test_a_request_within_another_ends_both_and_frees_the_engine(
    gateway: Gateway, new_call: Callable[[], Call]
) -> None:
    body = json.dumps(ask("forever", stream=True)).encode()
    with connect(gateway) as connection:
        connection.sendall(request(gateway, body))
        call = new_call()
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP/1.1 400" not in read_all(connection)
    assert call.closed.wait(5)


def test_endless_headers_are_cut(gateway: Gateway) -> None:
    with connect(gateway) as connection, pytest.raises(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(1000):
            connection.sendall(b"x: " + b"y" * 65536 + b"\r\n")


def test_a_key_in_a_trailer_opens_nothing(gateway: Gateway, engine: FakeEngine) -> None:
    calls, body = len(engine.calls), json.dumps(ask("well")).encode()
    with connect(gateway) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            f"transfer-encoding: chunked\r\n\r\n{len(body):x}\r\n".encode()
            + body
            + f"\r\n0\r\nauthorization: Bearer {gateway.key}\r\n\r\n".encode()
        )
        assert read_all(connection).startswith(b"HTTP/1.1 401 ")
    assert len(engine.calls) == calls


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
def test_an_upgrade_is_refused_and_its_body_is_no_request(gateway: Gateway, protocol: str) -> None:
    smuggled = b"GET /v1/models/smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
    head = request(gateway, smuggled, f"connection: upgrade\r\nupgrade: {protocol}\r\n")
    with connect(gateway) as connection:
        connection.sendall(head[: -len(smuggled)])
        time.sleep(0.1)  # its body in a packet of its own, which is where a parser goes astray
        with contextlib.suppress(ConnectionError):
            connection.sendall(smuggled)
        answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"x-request-id") == 1


def test_a_client_that_stops_reading_does_not_hold_the_engine(
    gateway: Gateway, new_call: Callable[[], Call]
) -> None:
    labels = {"outcome": "client_stalled"}
    before = metric(gateway, "gptoss_gateway_requests_total", **labels)
    body = json.dumps(ask("floods", stream=True)).encode()
    with connect(gateway) as connection:
        connection.sendall(request(gateway, body))
        call = new_call()
        assert call.closed.wait(20)
    wait_for(lambda: metric(gateway, "gptoss_gateway_requests_total", **labels) == before + 1)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model": 1e999}',
        b'{"model": "well", "stream": 1e999}',
        b'{"model": "well", "reasoning_effort": 1e999}',
    ],
)
def test_a_number_out_of_range_is_a_400(client: httpx.Client, body: bytes) -> None:
    assert client.post(CHAT, content=body).status_code == 400


# --- clients that leave


@pytest.mark.parametrize(
    ("model", "stream"),
    [("forever", True), ("silent", True), ("silent", False)],
    ids=["within the stream", "before the first event", "before the whole answer"],
)
def test_a_client_that_leaves_closes_the_engines_connection_at_once(
    gateway: Gateway, new_call: Callable[[], Call], model: str, stream: bool
) -> None:
    body = json.dumps(ask(model, stream=stream)).encode()
    host, port = gateway.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 5) as connection:
        connection.sendall(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )
        call = new_call()
        if model == "forever":
            connection.recv(65536)
        assert not call.closed.is_set()
    # Well before the idle timeout, which would close it too.
    assert call.closed.wait(IDLE_TIMEOUT / 2)


def test_a_hundred_clients_that_leave_leave_nothing_open(gateway: Gateway) -> None:
    def leave() -> None:
        with (
            gateway.client() as client,
            client.stream("POST", CHAT, json=ask("forever", stream=True)) as answer,
        ):
            next(answer.iter_bytes())

    threads = [threading.Thread(target=leave) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    wait_for(lambda: metric(gateway, "gptoss_gateway_requests_in_flight") == 0)


# --- what operators see


def metric(gateway: Gateway, name: str, **labels: str) -> float:
    text = httpx.get(f"{gateway.ops}/metrics").text
    return total(text, name, **labels)


def test_requests_are_counted_by_how_they_ended(gateway: Gateway, client: httpx.Client) -> None:
    labels = {"route": "chat", "model": "dies", "status": "502", "outcome": "engine_disconnected"}
    before = metric(gateway, "gptoss_gateway_requests_total", **labels)
    client.post(CHAT, json=ask("dies"))
    assert metric(gateway, "gptoss_gateway_requests_total", **labels) == before + 1


def test_no_request_can_make_up_a_label(gateway: Gateway, client: httpx.Client) -> None:
    for number in range(5):
        client.post(CHAT, json=ask(f"made-up-{number}"))
        client.get(f"/made-up-{number}")
    assert "made-up" not in httpx.get(f"{gateway.ops}/metrics").text


def test_the_operators_port_serves_probes_and_the_api_port_does_not(gateway: Gateway) -> None:
    assert httpx.get(f"{gateway.ops}/livez").status_code == 200
    assert httpx.get(f"{gateway.ops}{CHAT}").status_code == 404
    assert httpx.get(f"{gateway.url}/livez").status_code == 404


def test_it_is_ready_while_any_model_is_served(gateway: Gateway) -> None:
    assert httpx.get(f"{gateway.ops}/readyz").status_code == 200  # although `nowhere` is not there


def test_the_log_has_a_line_per_request_and_nothing_of_what_was_said(
    gateway: Gateway, client: httpx.Client
) -> None:
    secret = "a prompt that nobody but the engine may read"
    answer = client.post(
        CHAT, json={"model": "well", "messages": [{"role": "user", "content": secret}]}
    )
    id = answer.headers["x-request-id"]
    wait_for(lambda: id in gateway.log.read_text())
    log = gateway.log.read_text()
    lines = [json.loads(line) for line in log.splitlines() if id in line]
    assert [line["outcome"] for line in lines] == ["ok"]
    assert secret not in log
    assert gateway.key not in log
    assert ENGINE_KEY not in log
    assert not re.search(r"Traceback|hello", log)
