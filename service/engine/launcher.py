"""Turns a plan into one vLLM configuration, then becomes vLLM.

    launch = render(choice.plan, model_path=folder, state_dir=state)
    check(launch, os.environ)
    become(launch)

vLLM is never imported: its Python entry points move with every release, its command line and its
YAML keys do not. Secrets (VLLM_API_KEY, HF_TOKEN) stay in the environment; they are in no file, no
argument and no output of this module.
"""

import ctypes
import math
import os
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final, NoReturn

import yaml

from service.errors import UserError
from service.models.model import GIB
from service.profiles.common import COMMON, COMMON_ENV, OFFLINE_ENV, QUEUE_FACTOR
from service.profiles.planner import Plan
from service.profiles.profile import Settings, Vendor
from service.settings import MIN_SECRET_LENGTH

VLLM_VERSION: Final = "0.32.0"
"""The release that the profiles are made for and the tests run."""

API_KEY: Final = "VLLM_API_KEY"
"""Bearer secret that vLLM expects; it protects `/v1` only."""

OWN_PREFIX: Final = "GPTOSS_"
"""The service's own variables, some of them secret: vLLM does not get them."""

DEFAULT_PORT: Final = 8100

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_BLOCK_SIZE = Settings.__dataclass_fields__["block_size"].default


class Executor(StrEnum):
    """What starts the processes of an engine's cards, in vLLM's words."""

    PROCESSES = "mp"
    """vLLM itself, on one node."""
    RAY = "ray"
    """A Ray cluster that runs already, on several nodes too. Never measured by us."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One vLLM process, ready to start."""

    plan: Plan
    config: Mapping[str, object]
    """vLLM's YAML file: long flags without their dashes."""
    env: Mapping[str, str]
    """Variables that are set for it, over the inherited ones."""
    argv: tuple[str, ...]
    config_path: Path
    env_path: Path

    @property
    def config_text(self) -> str:
        """The YAML file's content."""
        return yaml.safe_dump(dict(self.config), sort_keys=False, width=100)

    @property
    def env_text(self) -> str:
        """The env file's content, as Docker and systemd read it."""
        return "".join(f"{name}={value}\n" for name, value in self.env.items())


def render(
    plan: Plan,
    *,
    model_path: Path | str,
    state_dir: Path,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    served_name: str | None = None,
    offline: bool = True,
    devices: Sequence[int] = (),
    drain: float = 0,
    executor: Executor | None = None,
) -> Launch:
    """The files and the command of one engine. Nothing is written or started.

    `drain` is how long open streams may go on after SIGTERM, s; 0 aborts them, as vLLM would.
    `devices` confines it to some of the machine's cards (a Choice's `devices`).
    `executor` is what starts the processes of its cards; None leaves that to vLLM.
    """
    config_path = state_dir / "engine" / f"vllm-{port}.yaml"
    return Launch(
        plan=plan,
        config={
            **_config(plan, str(model_path), host, port, served_name or plan.model.name),
            "shutdown-timeout": math.ceil(drain),
            **({"distributed-executor-backend": executor.value} if executor else {}),
        },
        env=_env(plan, offline, devices),
        argv=_argv(plan, config_path),
        config_path=config_path,
        env_path=config_path.with_suffix(".env"),
    )


def preflight(plan: Plan, host: str, port: int, environ: Mapping[str, str]) -> None:
    """Refuse in one line, before anything is downloaded, what vLLM would refuse late or never."""
    _check_installed(plan)
    if plan.profile.vendor is Vendor.CPU:
        _check_library()
    _check_secret(environ.get(API_KEY, ""), host)
    _check_port(host, port)


def check(launch: Launch, environ: Mapping[str, str]) -> None:
    """The preflight and the weights: after it vLLM starts, as far as can be known."""
    preflight(launch.plan, str(launch.config["host"]), int(str(launch.config["port"])), environ)
    _check_weights(Path(str(launch.config["model"])))


def write(launch: Launch) -> None:
    """Write both files; each is whole or absent, and readable by this user only."""
    launch.config_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _write_private(launch.config_path, launch.config_text)
    _write_private(launch.env_path, launch.env_text)


def become(launch: Launch) -> NoReturn:
    """Write the files, then replace this process by vLLM, which gets its signals directly."""
    try:
        write(launch)
    except OSError as error:
        raise UserError(
            f"cannot write {launch.config_path}: {error.strerror}; "
            "give a folder of yours with --state-dir"
        ) from None
    try:
        os.execvpe(launch.argv[0], launch.argv, child_env(launch, os.environ))  # noqa: S606
    except OSError as error:
        raise UserError(
            f"cannot start {launch.argv[0]}: {error.strerror}; reinstall vLLM {VLLM_VERSION}"
        ) from None


def child_env(launch: Launch, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment vLLM gets: the inherited one without ours, then the launch's."""
    inherited = {name: value for name, value in environ.items() if not name.startswith(OWN_PREFIX)}
    # The virtual environment's programs are found even when it is not activated: `vllm` itself,
    # and `ninja`, with which FlashInfer and torch compile kernels at start.
    programs = str(Path(sys.executable).parent)
    path = os.pathsep.join(filter(None, (programs, inherited.get("PATH", os.defpath))))
    return {**inherited, "PATH": path, **launch.env}


def _config(plan: Plan, model: str, host: str, port: int, served_name: str) -> dict[str, object]:
    profile, settings = plan.profile, plan.settings
    config: dict[str, object] = {
        "model": model,
        "served-model-name": served_name,
        "host": host,
        "port": port,
        "tensor-parallel-size": profile.gpus,
        "enable-expert-parallel": profile.expert_parallel,
        "max-model-len": settings.max_model_len,
        "max-num-seqs": settings.max_num_seqs,
        "max-num-batched-tokens": settings.max_num_batched_tokens,
        "max-num-queued-reqs": QUEUE_FACTOR * settings.max_num_seqs,
        "kv-cache-dtype": settings.kv_cache_dtype,
        "moe-backend": settings.moe_backend,
    }
    if settings.kv_cache_gib is None:
        config["gpu-memory-utilization"] = settings.gpu_memory_utilization
    else:
        # Not VLLM_CPU_KVCACHE_SPACE, which vLLM calls legacy: that takes whole GiB only.
        config["kv-cache-memory-bytes"] = int(settings.kv_cache_gib * GIB)
    if settings.attention_backend is not None:
        config["attention-backend"] = settings.attention_backend
    if settings.block_size != _BLOCK_SIZE:
        config["block-size"] = settings.block_size
    if settings.max_cudagraph_capture_size is not None:
        config["max-cudagraph-capture-size"] = settings.max_cudagraph_capture_size
    return {**config, **COMMON, **settings.extra}


def _env(plan: Plan, offline: bool, devices: Sequence[int]) -> dict[str, str]:
    env = {**COMMON_ENV, **(OFFLINE_ENV if offline else {}), **plan.settings.env}
    if devices:
        numbers = ",".join(map(str, devices))
        if plan.profile.vendor is Vendor.AMD:
            env["HIP_VISIBLE_DEVICES"] = numbers
        else:
            # CUDA counts the fastest card first unless told to count as nvidia-smi does.
            env["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
            env["CUDA_VISIBLE_DEVICES"] = numbers
    return env


def _argv(plan: Plan, config_path: Path) -> tuple[str, ...]:
    if plan.profile.vendor is not Vendor.CPU:
        return ("vllm", "serve", "--config", str(config_path))
    # The CPU distribution is called `vllm-cpu`, and its `vllm` command fails asking for the
    # version of `vllm`. The server module has no such question.
    module = "vllm.entrypoints.openai.api_server"
    return (sys.executable, "-m", module, "--config", str(config_path))


def _check_installed(plan: Plan) -> None:
    """The distribution that the profile needs, in the one version."""
    cpu = plan.profile.vendor is Vendor.CPU
    wanted, other = ("vllm-cpu", "vllm") if cpu else ("vllm", "vllm-cpu")
    extra = "engine-cpu" if cpu else "engine"
    found = _installed(wanted)
    if found is None and cpu and "+cpu" in (_installed(other) or ""):
        found = _installed(other)  # vLLM's own CPU build, as in its container images
    if found is None:
        instead = f" ({other} is installed, for other hardware)" if _installed(other) else ""
        raise UserError(
            f"profile {plan.profile.name} needs {wanted} {VLLM_VERSION}{instead}: "
            f"pip install 'gptoss-serving[{extra}]'"
        )
    if found.split("+")[0] != VLLM_VERSION:
        raise UserError(
            f"{wanted} {found} is installed and profiles are made for {VLLM_VERSION}: "
            f"pip install '{wanted}=={VLLM_VERSION}'"
        )


def _check_library() -> None:
    """What vLLM's CPU kernels link to. Without it vLLM fails late, with an error about its own."""
    try:
        ctypes.CDLL("libnuma.so.1")
    except OSError:
        raise UserError(
            "vLLM for CPUs needs libnuma.so.1: install it (Debian and Ubuntu: libnuma1; Fedora:"
            " numactl-libs)"
        ) from None


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _check_weights(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise UserError(
            f"there is no model in {folder}: give the folder that `gptoss weights` prints"
        )


def _check_secret(key: str, host: str) -> None:
    if 0 < len(key) < MIN_SECRET_LENGTH:
        raise UserError(
            f"{API_KEY} has {len(key)} characters: use at least {MIN_SECRET_LENGTH} random ones"
        )
    if not key and host not in _LOOPBACK:
        raise UserError(
            f"an engine on {host} needs {API_KEY} in its environment, the secret it shares with "
            "the gateway; or let it listen on 127.0.0.1"
        )


def _check_port(host: str, port: int) -> None:
    """Whether the address can be bound, now; vLLM would say so only after loading the weights."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"cannot listen on {host}:{port} ({error.strerror}): "
                "choose another with --host and --port, or stop what is there"
            ) from None


def _write_private(path: Path, text: str) -> None:
    # mkstemp gives 0600 and a name of its own; the rename makes it whole or absent.
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
