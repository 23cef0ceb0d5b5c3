"""One engine and one gateway, started in order, watched, and ended in the reverse order."""

import json
import os
import secrets
import socket
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from service.address import reached_at
from service.embedded.child import Child, Waiting
from service.errors import UserError
from service.grace import ENGINE_EXIT_SECONDS, Grace
from service.profiles import Choice
from service.settings import Settings

_GPTOSS = (sys.executable, "-m", "service.cli")
_HOST = "127.0.0.1"

# vLLM's own limit for loading, compiling and capturing is 600 s; a cold disk comes on top.
_ENGINE_START_SECONDS = 1800.0
# A few seconds, and many times that on a machine that does much else.
_GATEWAY_START_SECONDS = 120.0


class Stack:
    """The processes of one machine. A context manager: whatever happens, none of them is left."""

    def __init__(self, choice: Choice, settings: Settings) -> None:
        self._choice = choice
        self._settings = settings.gateway
        self._grace = Grace(settings.drain, settings.notice)
        self._state_dir = settings.state_dir
        self._engine_key = secrets.token_hex(32)
        self._engine_url = f"http://{_HOST}:{_free_port()}"
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """What clients use, `/v1` included."""
        return f"{reached_at(self._settings.host, self._settings.port)}/v1"

    @property
    def ops_url(self) -> str:
        """Where probes and metrics are."""
        return reached_at(self._settings.ops_host, self._settings.ops_port)

    @property
    def logs(self) -> list[Path]:
        """The children's logs."""
        return [child.log for child in self._children]

    def start_engine(self, weights: Path, waiting: Waiting) -> None:
        """Start vLLM and wait until it can answer."""
        port = self._engine_url.rpartition(":")[2]
        choice = self._choice
        argv = [
            *(*_GPTOSS, "engine"),
            *("--model", choice.model.name, "--profile", choice.profile.name),
            *("--weights", str(weights), "--port", port, "--state-dir", str(self._state_dir)),
        ]
        child = self._start("engine", argv, {"VLLM_API_KEY": self._engine_key})
        child.wait_until_ready(f"{self._engine_url}/health", _ENGINE_START_SECONDS, waiting)

    def start_gateway(self, waiting: Waiting) -> None:
        """Start the gateway and wait until it is ready."""
        slots = self._choice.plan.settings.max_num_seqs
        upstream = {"model": self._choice.model.name, "url": self._engine_url, "slots": slots}
        env = {
            "GPTOSS_STATE_DIR": str(self._state_dir),
            "GPTOSS_GATEWAY__PORT": str(self._settings.port),
            "GPTOSS_GATEWAY__OPS_PORT": str(self._settings.ops_port),
            "GPTOSS_GATEWAY__UPSTREAMS": json.dumps([upstream]),
            "GPTOSS_GATEWAY__ENGINE_KEY": self._engine_key,
        }
        child = self._start("gateway", [*_GPTOSS, "gateway"], env)
        child.wait_until_ready(f"{self.ops_url}/readyz", _GATEWAY_START_SECONDS, waiting)

    def check(self) -> None:
        """Raises `UserError` when a part has ended."""
        for child in self._children:
            if child.status is not None:
                raise child.ended()

    def stop(self) -> None:
        """End the gateway, which lets its open requests finish, then the engine.

        Interrupted once more, it ends them at once.
        """
        newest_first = self._children[::-1]
        try:
            for child in newest_first:
                child.stop(self._seconds_to_end(child))
        except KeyboardInterrupt:
            for child in newest_first:
                child.stop(0)

    def _seconds_to_end(self, child: Child) -> float:
        """The engine has nothing left to do once the gateway has ended."""
        return self._grace.gateway_termination if child.name == "gateway" else ENGINE_EXIT_SECONDS

    def _start(self, name: str, argv: list[str], env: dict[str, str]) -> Child:
        log = self._state_dir / "logs" / f"{name}-{self._settings.port}.log"
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            child = Child(name, argv, os.environ | env, log)
        except OSError as error:
            raise UserError(
                f"cannot start the {name} with its log in {log}: {error.strerror}; set"
                " GPTOSS_STATE_DIR to a folder of yours"
            ) from None
        self._children.append(child)
        return child


def _free_port() -> int:
    """A port for the engine, which nobody but the gateway talks to."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
