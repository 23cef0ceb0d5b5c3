"""A wrong target is said in one line, before anything is sent."""

import asyncio
import json
import socket
from collections.abc import Callable

import pytest

from loadtest.client.data import Endpoint
from loadtest.client.probe import Probed, probe
from loadtest.errors import UserError
from tests.loadtest.live.golden import Script, Seen, Send, golden, refusal, used

JSON = {"content-type": "application/json"}


def said(value: object) -> Script:
    return Script([Send(json.dumps(value).encode())], 200, JSON)


def models(*names: str) -> Script:
    return said({"object": "list", "data": [{"id": name} for name in names]})


ANSWER = said({"choices": [{"message": {"content": "a"}}], "usage": used(1, prompt=68)})


def found(
    list_: Script,
    answer: Script = ANSWER,
    model: str = "",
    key: str = "",
) -> tuple[Probed, list[Seen]]:
    async def work() -> tuple[Probed, list[Seen]]:
        def choose(seen: Seen) -> Script:
            return list_ if seen.path == "/v1/models" else answer

        async with golden(choose) as server:
            keys = {"a": key} if key else {}
            endpoint = Endpoint(server.url, model, keys, variables={"a": "OPENAI_API_KEY"})
            return await probe(endpoint), server.seen

    return asyncio.run(asyncio.wait_for(work(), 20))


def test_the_only_model_is_taken_and_the_overhead_of_a_prompt_is_measured() -> None:
    probed, seen = found(models("m"), key="secret")
    assert probed == Probed("m", ["m"], 67)
    assert [one.headers["authorization"] for one in seen] == ["Bearer secret"] * 2
    assert seen[1].body["max_tokens"] == 1


@pytest.mark.parametrize(
    "answer", [said({"choices": []}), refusal(429, "queue_full"), refusal(400, "x"), said([1])]
)
def test_a_server_that_does_not_count_has_an_unknown_overhead(answer: Script) -> None:
    assert found(models("m"), answer)[0].overhead_tokens is None


HTML = {"content-type": "text/html"}


@pytest.mark.parametrize(
    ("list_", "model", "line"),
    [
        (
            refusal(401, "invalid_api_key"),
            "",
            r"refused a request without a key \(401\): set OPENAI_API_KEY to a key$",
        ),
        (Script([Send(b"<html>")], 200, HTML), "", "answers HTML"),
        (Script([Send(b"<html>")], 404, HTML), "", "answers HTML"),
        (refusal(500, "x"), "", "answers 500"),
        (said([]), "", "does not list models"),
        (Script([Send(b"\xff")], 200, JSON), "", "does not list models"),
        (models("m", "n"), "x", "has no model 'x': it has m, n"),
        (models("m", "n"), "", "has these models: m, n"),
        (models(), "", "has these models: none"),
    ],
)
def test_a_wrong_target_is_one_line(list_: Script, model: str, line: str) -> None:
    with pytest.raises(UserError, match=line) as raised:
        found(list_, model=model)
    assert "\n" not in str(raised.value)


def test_a_key_that_may_only_list_models_is_one_line() -> None:
    with pytest.raises(UserError, match=r"refused the key \(403\)"):
        found(models("m"), refusal(403, "no"), key="k")


def test_a_key_with_a_line_end_is_one_line() -> None:
    with pytest.raises(UserError, match="characters that none may have"):
        found(models("m"), key="k\n")


def refused_port() -> str:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{nobody.getsockname()[1]}"


@pytest.mark.parametrize(
    ("url", "line"),
    [
        (refused_port, "cannot be reached: econnrefused"),
        (lambda: "http://nobody.invalid", "cannot be reached: dns"),
        (lambda: "localhost:8000", "is no address"),
        (lambda: "http://", "is no address"),
    ],
)
def test_a_target_that_is_not_there_is_one_line(url: Callable[[], str], line: str) -> None:
    with pytest.raises(UserError, match=line):
        asyncio.run(probe(Endpoint(url(), "m")))


def test_each_key_is_tried_once_and_a_wrong_one_names_its_team() -> None:
    def choose(seen: Seen) -> Script:
        wrong = seen.headers["authorization"] == "Bearer bad"
        return refusal(401, "invalid_api_key") if wrong else models("m")

    async def work(keys: dict[str, str]) -> list[str]:
        async with golden(choose) as server:
            names = {team: f"{team.upper()}_KEY" for team in keys}
            await probe(Endpoint(server.url, "m", keys, variables=names))
        asked = [seen for seen in server.seen if seen.path == "/v1/models"]
        return [seen.headers["authorization"].removeprefix("Bearer ") for seen in asked]

    assert asyncio.run(work({"a": "k", "b": "l", "c": "k"})) == ["k", "l"]
    with pytest.raises(UserError, match=r"of team b \(401\): is what B_KEY holds a key"):
        asyncio.run(work({"a": "k", "b": "bad"}))


def test_https_of_a_server_that_speaks_http_is_said() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    async def work() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            await probe(Endpoint(f"https://127.0.0.1:{port}", "m"))

    with pytest.raises(UserError, match="does not speak TLS as it should: is it http:// instead"):
        asyncio.run(asyncio.wait_for(work(), 20))
