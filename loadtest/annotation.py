"""A mark on Grafana's dashboards for the time of a run. Without it nothing else is lost."""

import asyncio
from typing import Any, Final

import aiohttp

TOKEN: Final = "GRAFANA_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable with the token of a service account that may write annotations."""
_TIMEOUT: Final = aiohttp.ClientTimeout(total=10.0)


class Annotation:
    """The mark of one run, on the Grafana at `address`, with the tags `loadtest` and the run's id.

    Nothing here raises: the first thing that fails is a line in `warning`.
    """

    def __init__(self, address: str, token: str, run: str) -> None:
        self._address = address.rstrip("/")
        self._token = token
        self._run = run
        self._id: int | None = None
        self.warning = ""
        """What went wrong, one line; empty if nothing did."""

    async def begin(self, text: str, at: float) -> None:
        """It begins at `at`, epoch seconds."""
        if not self._token:
            self._warn(f"{TOKEN} is not set")
            return
        body = {"time": _milliseconds(at), "tags": ["loadtest", self._run], "text": text}
        made = await self._send("POST", "/api/annotations", body)
        if made is not None and isinstance(made.get("id"), int):
            self._id = made["id"]
        elif made is not None:
            self._warn("it answered without an id")

    async def end(self, text: str, at: float) -> None:
        """It ends then; `text` takes the place of the first one."""
        if self._id is not None:
            body = {"timeEnd": _milliseconds(at), "text": text}
            await self._send("PATCH", f"/api/annotations/{self._id}", body)

    async def _send(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        headers = {"Authorization": f"Bearer {self._token}"}
        try:
            async with (
                aiohttp.ClientSession(timeout=_TIMEOUT, headers=headers) as session,
                session.request(method, self._address + path, json=body) as answer,
            ):
                if answer.status != 200:
                    self._warn(f"it answered {answer.status} to {method} {path}")
                    return None
                found = await answer.json()
        except TimeoutError:
            self._warn(f"no answer within {_TIMEOUT.total:g} s")
            return None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            self._warn(" ".join(str(error).split())[:200] or type(error).__name__)
            return None
        return found if isinstance(found, dict) else {}

    def _warn(self, what: str) -> None:
        self.warning = self.warning or f"no mark for this run in Grafana at {self._address}: {what}"


def _milliseconds(at: float) -> int:
    return round(at * 1000)


class Mark:
    """A run's annotation, made while it runs. Without an address there is none."""

    def __init__(self, address: str, token: str, name: str, run: str) -> None:
        self._annotation = Annotation(address, token, run)
        self._text = f"load test {name} ({run})"
        self._wanted = bool(address)
        self._beginning: asyncio.Task[None] | None = None

    @property
    def notes(self) -> list[str]:
        """A line, if something went wrong."""
        return [self._annotation.warning] if self._annotation.warning else []

    def began(self, at: float) -> None:
        """The run begins at `at`, epoch seconds. It does not wait for this."""
        if self._wanted:
            self._beginning = asyncio.create_task(self._annotation.begin(self._text, at))

    async def ended(self, at: float) -> None:
        """It has ended."""
        if self._beginning is not None:
            await self._beginning
            await self._annotation.end(self._text, at)
