"""A line of log: one object of JSON, in ASCII, that shows of a value what its `repr` shows."""

import json
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from service.telemetry.logs import JSONFormatter


def line(message: str, **more: Any) -> str:
    record = logging.LogRecord("tests", logging.INFO, "", 0, message, None, None)
    vars(record).update(more)
    return JSONFormatter().format(record)


@dataclass
class Login:
    user: str
    password: str = field(repr=False)


def test_a_line_says_time_level_logger_message_and_what_is_added() -> None:
    said = json.loads(line("request", status=200, seconds=0.5, team=None, stream=True))
    assert said.pop("time").endswith("+00:00")
    assert said == {
        "level": "info",
        "logger": "tests",
        "message": "request",
        "status": 200,
        "seconds": 0.5,
        "team": None,
        "stream": True,
    }


def test_what_an_object_hides_is_not_written() -> None:
    login = Login("ann", "secret")
    for value in (login, [login], {"who": login}):
        text = line("login", login=value)
        assert "secret" not in text
        assert "Login(user='ann')" in text


@pytest.mark.parametrize("text", ["\u2028", "\x85", "\x7f", "\n", "é", "\ud800", '"', "\0"])
def test_a_line_is_one_line_of_ascii_whatever_is_in_it(text: str) -> None:
    for said in (line(text), line("m", more=text), line("m", more=[text])):
        assert said.isascii()
        assert len(said.splitlines()) == 1
    assert json.loads(line("m", more=text))["more"] == text


@pytest.mark.parametrize("more", [1, object()])
def test_it_looks_the_same_whatever_it_holds(more: object) -> None:
    assert '"message":"request"' in line("request", more=more)
