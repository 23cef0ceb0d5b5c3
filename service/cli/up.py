"""`gptoss up`: the whole stack on this machine, by one command."""

import signal
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from service import settings
from service.cli.directory import ask, key_for
from service.cli.engine import ModelOption, ProfileOption, select
from service.cli.weights import drawn
from service.embedded.stack import Stack
from service.engine import tiny, weights
from service.engine.selftest import SelfTest
from service.gateway.listener import bind
from service.models import Model
from service.settings import GatewaySettings, Settings
from service.tenants.directory import Directory

INTERRUPTED = 130
_WATCH_SECONDS = 0.5
_TEAM = "local"
_ACTOR = "gptoss up"

# At the left margin, for pasting: Python minds leading spaces.
READY = """\
ready     {base_url} serves {model}, {seconds:.0f} s after the start

# A new API key, shown this once{earlier}:
{key}

# From a shell:
curl {base_url}/chat/completions -H "Authorization: Bearer {key}" \
-H "Content-Type: application/json" \
-d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

# From Python, with OpenAI's SDK (.venv/bin/python has it):
from openai import OpenAI
client = OpenAI(base_url="{base_url}", api_key="{key}")
hello = [{{"role": "user", "content": "Hello"}}]
answer = client.chat.completions.create(model="{model}", messages=hello)
print(answer.choices[0].message.content)

# Teams, limits and use: .venv/bin/gptoss team --help; .venv/bin/gptoss usage
# Metrics: {ops_url}/metrics
# Logs: {logs}
# Ctrl-C stops everything.
"""


def up(
    model: ModelOption = None,
    profile: ProfileOption = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65534, help="of the API; the next one is for metrics and probes"),
    ] = None,
) -> None:
    """Serve gpt-oss on this machine: engine, gateway, key and self-test, until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does
    steps = Steps()
    try:
        _serve(model or None, profile or None, _with_port(settings.load(), port), steps)
    except KeyboardInterrupt:
        typer.echo("\nstopped   nothing is left running")
        raise typer.Exit(0 if steps.ready else INTERRUPTED) from None


class Steps:
    """What the terminal shows: a line when a step begins, goes on, and is done."""

    def __init__(self) -> None:
        self._started = self._step = time.monotonic()
        self.ready = False

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def say(self, name: str, text: str) -> None:
        """A line of a step."""
        typer.echo(f"{name:9} {text}")

    def begin(self, name: str, text: str) -> None:
        """A step begins."""
        self._step = time.monotonic()
        self.say(name, text)

    def done(self, name: str, text: str) -> None:
        """A step is done."""
        self.say(name, f"{text} in {time.monotonic() - self._step:.1f} s")

    def waiting(self, seconds: float, line: str) -> None:
        """A step goes on."""
        self.say("", f"{seconds:3.0f} s  {line[:100]}")


def _with_port(current: Settings, port: int | None) -> Settings:
    if port is None:
        return current
    ports = {"port": port}
    if "ops_port" not in current.gateway.model_fields_set:
        ports["ops_port"] = port + 1
    gateway = current.gateway.model_copy(update=ports)
    return current.model_copy(update={"gateway": gateway})


def _serve(model: str | None, profile: str | None, current: Settings, steps: Steps) -> None:
    _check_ports(current.gateway)  # now, not after an hour of downloading
    choice = select(model, profile)
    steps.say("profile", choice.reason)
    folder = _provide(choice.model, current, steps)
    with Stack(choice, current) as stack:
        steps.begin("engine", f"vLLM starts with profile {choice.profile.name}")
        stack.start_engine(folder, steps.waiting)
        steps.done("engine", "answers")
        token, earlier = ask(_new_key)
        steps.begin("gateway", f"starts on port {current.gateway.port}")
        stack.start_gateway(steps.waiting)
        steps.done("gateway", "answers")
        SelfTest(stack.base_url, token, choice.model.name).run(
            lambda name, seconds: steps.say("self-test", f"{name}: well-formed, {seconds:.1f} s")
        )
        steps.ready = True
        typer.echo(
            READY.format(
                base_url=stack.base_url,
                ops_url=stack.ops_url,
                model=choice.model.name,
                key=token,
                earlier=f" ({earlier} earlier ones work too: gptoss key list)" if earlier else "",
                seconds=steps.seconds,
                logs=" ".join(map(str, stack.logs)),
            )
        )
        while True:
            stack.check()
            time.sleep(_WATCH_SECONDS)


async def _new_key(directory: Directory) -> tuple[str, int]:
    """A key of the team of this machine, and how many others there are that still work."""
    _, token = await key_for(directory, _ACTOR, _TEAM)
    now = datetime.now(UTC)
    return token, sum(key.is_active(now) for key in await directory.keys(_TEAM)) - 1


def _check_ports(gateway: GatewaySettings) -> None:
    bind(gateway.host, gateway.port, "PORT").close()
    bind(gateway.ops_host, gateway.ops_port, "PORT or GPTOSS_GATEWAY__OPS_PORT").close()


def _provide(model: Model, current: Settings, steps: Steps) -> Path:
    """The folder of the weights: fetched and verified, or built for the tiny model."""
    if model.repo is None:
        return _build_tiny(current.cache_dir, steps)
    steps.begin("model", f"{model.name}: fetching what is missing, verifying what is there")
    with drawn(model.repo) as progress:
        folder = weights.fetch(model.repo, stamps=current.cache_dir / "weights", progress=progress)
    steps.done("model", f"{folder} is complete and verified,")
    return folder


def _build_tiny(cache_dir: Path, steps: Steps) -> Path:
    if tiny.is_built(cache_dir):
        folder = tiny.ensure(cache_dir)
        steps.say("model", f"reused {folder}")
        return folder
    steps.begin("model", "training gpt-oss-tiny on this machine, once")
    said = 0.0

    def progress(fraction: float, note: str) -> None:
        nonlocal said
        if fraction - said >= 0.2:
            said = fraction
            steps.say("", f"{fraction:4.0%}  {note}")

    folder = tiny.ensure(cache_dir, progress)
    steps.done("model", f"{folder} is trained,")
    return folder
