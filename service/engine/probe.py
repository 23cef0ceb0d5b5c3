"""Whether the engine on this machine has started, and whether it gets on: for the kubelet.

    python -m service.engine.probe started     once: gpt-oss answers, streams and calls a tool
    python -m service.engine.probe live        it answers, and what runs in it gets on

Status 0 is yes; 1 is no, with one line that the kubelet shows as an event; 2 is a wrong command.

vLLM's `/health` says 200 before gpt-oss has answered anything, and says it while the engine hangs.
What is remembered from one probe to the next is bound to the engine's process by the moment at
which that started, as its metrics page tells: the folder may outlive the process. It runs every few
seconds beside the engine, so `live` imports next to nothing.
"""

import argparse
import contextlib
import http.client
import math
import os
import re
import sys
import time
from pathlib import Path
from typing import NoReturn

from service.errors import UserError
from service.routing.engine_page import EnginePage
from service.routing.standstill import Standstill

_PORT = 8100  # the launcher's; importing that would cost more than all of this
_STARTED = re.compile(rb"^process_start_time_seconds (\S+)$", re.MULTILINE)
_NOTE_BYTES = 1024
_SHOWN = 200


class Engine:
    """The server on this machine. `timeout` is how long it may say nothing, s."""

    def __init__(self, port: int, timeout: float, host: str = "127.0.0.1") -> None:
        self._host = host
        self._port = port
        self._timeout = timeout

    @property
    def base_url(self) -> str:
        """Of its OpenAI-compatible API."""
        return f"http://{self._host}:{self._port}/v1"

    def check(self) -> None:
        """Raises `UserError` unless `/health` says 200."""
        status, _ = self.get("/health")
        if status != http.client.OK:
            raise UserError(f"/health says {status}")

    def page(self) -> bytes:
        """Its metrics; nothing where it has none: whether it is well is not for them to say."""
        with contextlib.suppress(UserError):
            status, page = self.get("/metrics")
            if status == http.client.OK:
                return page
        return b""

    def get(self, path: str, key: str = "") -> tuple[int, bytes]:
        """Status and body. Raises `UserError` for no answer."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        with contextlib.closing(connection):
            try:
                headers = {"authorization": f"Bearer {key}"} if key else {}
                connection.request("GET", path, headers=headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except TimeoutError:
                raise UserError(f"{path} said nothing for {self._timeout:g} s") from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                reason = getattr(error, "strerror", None) or type(error).__name__
                raise UserError(f"{path} is not answered: {reason}") from None


class Notes:
    """What one probe leaves for the next, a few words in a file. Each is whole or absent."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port

    def read(self, name: str) -> list[str]:
        """Its words; none for a file that is missing or no text."""
        try:
            with self._path(name).open("rb") as file:
                return file.read(_NOTE_BYTES).decode("ascii").split()
        except (OSError, ValueError):
            return []

    def write(self, name: str, *words: object) -> bool:
        """Keep words in place of the earlier ones. Returns whether that worked."""
        path = self._path(name)
        # Another probe may write at the same moment: each has a file of its own to rename.
        new = path.with_name(f".{path.name}.{os.getpid()}-{time.time_ns()}")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with new.open("x") as file:
                file.write(" ".join(map(str, words)))
            new.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            return False
        return True

    def _path(self, name: str) -> Path:
        return self._folder / f"probe-{self._port}.{name}"


def started(engine: Engine, notes: Notes, key: str) -> None:
    """Raises `UserError` until the engine has answered as clients expect, once since it started."""
    engine.check()
    process = _process(engine.page())
    if process and notes.read("answered") == [process]:
        return
    from service.engine.selftest import SelfTest  # imports httpx, which takes its time

    SelfTest(engine.base_url, key, _model(engine, key)).run(lambda name, seconds: None)
    if process:
        notes.write("answered", process)


def live(engine: Engine, notes: Notes, stall: float) -> None:
    """Raises `UserError` for an engine that does not answer, or that hangs for `stall` seconds.

    Where nothing can be remembered, whether it hangs is not known, and it is taken to be well.
    """
    engine.check()
    page = engine.page()
    counters = EnginePage.read(page)
    if counters is None:
        return
    now, process = time.monotonic(), _process(page) or "unknown"
    before = _recalled(notes.read("progress"), process)
    if before is None:
        reading = Standstill(counters.progress, counters.running, now)
    else:
        reading = before.then(now, counters.running, counters.progress, stall)
    kept = notes.write(
        "progress", process, reading.progress, reading.running, reading.at, reading.still
    )
    if kept and (reason := reading.reason(stall)):
        raise UserError(reason)


def main(arguments: list[str] | None = None) -> int:
    """Probe. Returns the status."""
    parser = _Parser(prog="probe", description="Whether the engine has started, or gets on.")
    parser.add_argument("what", choices=["started", "live"])
    parser.add_argument("--port", type=_port, default=_PORT)
    parser.add_argument("--timeout", type=_seconds, default=10.0, help="of an answer, s")
    parser.add_argument(
        "--stall", type=_seconds, default=180.0, help="without a token while requests run, s"
    )
    options = parser.parse_args(arguments)
    engine, notes = Engine(options.port, options.timeout), Notes(_folder(), options.port)
    try:
        if options.what == "started":
            started(engine, notes, os.environ.get("VLLM_API_KEY", ""))
        else:
            live(engine, notes, options.stall)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _process(page: bytes) -> str:
    """Which process this is: when it started. Empty where the page does not say."""
    found = _STARTED.search(page)
    return found[1].decode("ascii", "replace") if found else ""


def _recalled(words: list[str], process: str) -> Standstill | None:
    """The last reading, if it was of this process."""
    try:
        of, progress, running, at, still = words
        reading = Standstill(float(progress), int(running), float(at), float(still))
    except ValueError:  # spoiled, or there is none
        return None
    return reading if of == process else None


def _model(engine: Engine, key: str) -> str:
    """The name by which the engine serves its model."""
    import json

    status, body = engine.get("/v1/models", key)
    try:
        if status != http.client.OK:
            raise ValueError(body.decode("utf-8", "replace"))
        return str(json.loads(body)["data"][0]["id"])
    except (ValueError, LookupError, TypeError) as error:
        reason = " ".join(str(error).split())[:_SHOWN]
        raise UserError(f"/v1/models says {status}: {reason}: check VLLM_API_KEY") from None


def _folder() -> Path:
    state = os.environ.get("GPTOSS_STATE_DIR")
    if state:
        return Path(state) / "engine"
    import tempfile

    try:
        return Path(tempfile.gettempdir())
    except OSError:  # nowhere to write, as `Notes` will find
        return Path("/tmp")  # noqa: S108


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line, without the usage: an event has little room."""
        self.exit(2, f"{self.prog}: {message}\n")


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give one from 1 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give seconds, more than 0")
    return seconds


if __name__ == "__main__":
    raise SystemExit(main())
