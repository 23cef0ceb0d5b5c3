"""What is done to a service on purpose, and to which part of it."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from loadtest.scenario.model import Model, Seconds


class ProcessTarget(Model):
    """A process of this machine: by a file with its number, or by a part of its command line that
    no other process has."""

    kind: Literal["process"]
    pid_file: Path | None = None
    command: str = ""
    restart: list[str] = Field(default_factory=list)
    """The command that starts it again."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.pid_file is None) == (not self.command):
            raise ValueError("a process is named by `pid_file` or by `command`: give one of them")
        return self


class ProxyTarget(Model):
    """A proxy of the load test's own, between whoever connects to `listen` and `upstream`."""

    kind: Literal["proxy"]
    listen: str
    """Host and port that it takes: point the client, or the gateway, at it."""
    upstream: str
    """Host and port that it passes to."""


class KubectlTarget(Model):
    """Pods, through `kubectl` with the context that it has."""

    kind: Literal["kubectl"]
    namespace: str
    selector: str
    container: str = ""


FaultTarget = Annotated[ProcessTarget | ProxyTarget | KubectlTarget, Field(discriminator="kind")]


class Fault(Model):
    """Something that is done on purpose, and what is expected of it."""

    at: Seconds
    do: Literal["kill", "stop", "restart", "slow", "cut", "deny"]
    """`kill` ends it at once, `stop` makes it stand still, `restart` ends it in order and starts it
    again. Of a proxy: `slow` delays, `cut` breaks connections that are open, `deny` takes none."""
    target: str
    """Its name under `fault_targets`."""
    lasts: Seconds = 10.0
    """For so long: then what was stopped goes on, what was killed is started again where it can be,
    and a proxy is a plain one again."""
    delay: Seconds = 0.2
    """Of `slow`: for each piece."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Of `cut`: of the connections that are open."""
    alert: str = ""
    """The alert that is to fire because of it."""
    alert_within: Seconds = 300.0


def check_deed(fault: Fault, target: FaultTarget) -> None:
    """That it can be done to that. Raises `ValueError`."""
    of_proxies = fault.do in ("slow", "cut", "deny")
    if of_proxies != isinstance(target, ProxyTarget):
        kinds = "a proxy" if of_proxies else "a process or pods"
        raise ValueError(f"{fault.do} can be done to {kinds}, and {fault.target} is none")
    if fault.do == "stop" and isinstance(target, KubectlTarget) and not target.container:
        raise ValueError(f"to stop {fault.target} its `container` must be named")
