"""Who is measured side by side. One that is not here is said to be absent, with what to do."""

import contextlib
import ctypes.util
import importlib.metadata
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench import wire
from tests.bench.gateway import gateway, gateway_on_valkey
from tests.bench.install import ENVIRONMENT
from tests.bench.running import Running
from tests.bench.verdict import GPTOSS, NGINX, SPLICE
from tests.process import environment, free_port, running

_KEY: Final = "sk-bench-0123456789"
_NGINX_CONFIG: Final = Path(__file__).with_name("nginx.conf")

Start = Callable[[Path, int], AbstractContextManager[Running]]


@dataclass(frozen=True)
class Peer:
    """One of them. `start` is given a folder of its own and the upstream's port."""

    name: str
    what: str
    """What it is and does, for the table."""
    start: Start
    version: Callable[[], str]
    missing: Callable[[], str] = lambda: ""
    """Why it is not here, and what to do; empty if it is."""
    exact: bool = True
    """It passes chunks on as they are, but for usage that nobody asked for."""
    share: float = 1.0
    """Of the load: less for one that could not bear it."""


@contextlib.contextmanager
def _nginx(home: Path, upstream_port: int) -> Iterator[Running]:
    port, (files, _) = free_port(), resource.getrlimit(resource.RLIMIT_NOFILE)
    words = {
        "HOME": home,
        "PORT": port,
        "UPSTREAM": upstream_port,
        "FILES": files,
        "CONNECTIONS": files - 100,
    }
    text = _NGINX_CONFIG.read_text()
    for word, value in words.items():
        text = text.replace(f"@{word}@", str(value))
    config = home / "nginx.conf"
    config.write_text(text)
    line = [str(_nginx_program()), "-p", str(home), "-e", str(home / "log"), "-c", str(config)]
    with _serving(line, home, port) as it:
        yield it


@contextlib.contextmanager
def _splice(home: Path, upstream_port: int) -> Iterator[Running]:
    port = free_port()
    line = [sys.executable, "-m", "tests.bench.splice", str(port), str(upstream_port)]
    with _serving(line, home, port) as it:
        yield it


@contextlib.contextmanager
def _bare(home: Path, upstream_port: int) -> Iterator[Running]:
    port, url = free_port(), f"http://127.0.0.1:{upstream_port}"
    with _serving([sys.executable, "-m", "tests.bench.bare", str(port), url], home, port) as it:
        yield it


@contextlib.contextmanager
def _vllm_router(home: Path, upstream_port: int) -> Iterator[Running]:
    port = free_port()
    line = [str(ENVIRONMENT.program("vllm-router")), "--host", "127.0.0.1", "--port", str(port)]
    line += ["--worker-urls", f"http://127.0.0.1:{upstream_port}", "--policy", "round_robin"]
    line += ["--prometheus-port", str(free_port()), "--prometheus-host", "127.0.0.1"]
    line += ["--worker-startup-check-interval", "1", "--log-level", "warning"]
    with _serving(line, home, port) as it:
        yield it


@contextlib.contextmanager
def _litellm(home: Path, upstream_port: int) -> Iterator[Running]:
    port, config = free_port(), home / "litellm.yaml"
    config.write_text(
        f"model_list:\n- model_name: {wire.MODEL}\n  litellm_params:\n"
        f"    model: hosted_vllm/{wire.MODEL}\n    api_key: none\n"
        f"    api_base: http://127.0.0.1:{upstream_port}/v1\n"
        f"general_settings:\n  master_key: {_KEY}\nlitellm_settings:\n  telemetry: false\n"
    )
    line = [str(ENVIRONMENT.program("litellm")), "--config", str(config), "--host", "127.0.0.1"]
    line += ["--port", str(port), "--num_workers", "1"]
    extra = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    with _serving(line, home, port, "/health/liveliness", extra, _KEY) as it:
        yield it


@contextlib.contextmanager
def _serving(
    line: list[str],
    home: Path,
    port: int,
    path: str = "/health",
    extra: Mapping[str, str] = {},
    key: str = "none",
) -> Iterator[Running]:
    ready, env = f"http://127.0.0.1:{port}{path}", environment(home, extra)
    with running(line, env, ready=ready, log=home / "log") as process:
        yield Running(process.pid, port, key)


def _nginx_program() -> str | None:
    # Debian has it where the PATH of users does not lead.
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _no_nginx() -> str:
    return "" if _nginx_program() else "install nginx, as in `apt-get install nginx-light`"


def _nginx_version() -> str:
    line = [str(_nginx_program()), "-v"]
    said = subprocess.run(line, capture_output=True, text=True, check=False)
    return said.stderr.strip().rpartition("/")[2]


def _not_installed() -> str:
    return "" if ENVIRONMENT.is_installed else "`python -m tests.bench.install` installs it"


def _no_litellm() -> str:
    # It imports soundfile at its start, whose wheel brings the library only for some systems.
    home, pattern = ENVIRONMENT.home, "lib/python*/site-packages/_soundfile_data/*.so*"
    if why := _not_installed():
        return why
    if ctypes.util.find_library("sndfile") or next(home.glob(pattern), None):
        return ""
    return "install the library sndfile, as in `apt-get install libsndfile1`"


def _pinned(package: str) -> Callable[[], str]:
    def version() -> str:
        pins = ENVIRONMENT.pins.read_text().splitlines()
        return next(pin.partition("==")[2] for pin in pins if pin.startswith(f"{package}=="))

    return version


def _of(*packages: str) -> Callable[[], str]:
    return lambda: ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)


PEERS: Final = (
    Peer(NGINX, "one worker, relays", _nginx, _nginx_version, _no_nginx),
    Peer(SPLICE, "bytes from socket to socket in Python", _splice, _of("uvloop")),
    Peer("bare", "relays, by uvicorn and aiohttp", _bare, _of("uvicorn", "aiohttp")),
    Peer(
        "vllm-router",
        "vLLM's router, in Rust",
        _vllm_router,
        _pinned("vllm-router"),
        _not_installed,
    ),
    Peer(
        "litellm",
        "a general gateway, with one key",
        _litellm,
        _pinned("litellm"),
        _no_litellm,
        exact=False,
        share=0.1,
    ),
    Peer(GPTOSS, "all on, counters in the process", gateway, _of("gptoss-serving")),
    Peer("gptoss+valkey", "all on, counters in Redis", gateway_on_valkey, _of("gptoss-serving")),
)
