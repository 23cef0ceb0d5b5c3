"""How long everything gets to end in good order: all of it follows from one value.

The drain time is how long open streams may go on once their gateway, or their engine, has been
told to end. Whoever stops processes (Kubernetes, systemd, a shell) has to wait somewhat longer than
that, or it cuts what was to be spared.
"""

from dataclasses import dataclass

from service.errors import UserError

# Until nobody sends new work any more to a process that is being taken out of service: a load
# balancer's look at readiness, and a resolution of the DNS by every gateway.
NOTICE_SECONDS = 15.0
# For settlements and the ledger to get through once the last stream has ended.
FINISH_SECONDS = 15.0
# For vLLM to end its processes and give the GPU back.
ENGINE_EXIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Grace:
    """Grace periods in seconds, for a drain time and the notice given before it.

    `notice` is for how long a process still takes work after it was told to end: 0 where nobody is
    in front of it that has to hear of it.
    """

    drain: float
    notice: float = NOTICE_SECONDS

    @property
    def gateway_termination(self) -> float:
        """From SIGTERM to SIGKILL of a gateway (`terminationGracePeriodSeconds`)."""
        return self.notice + self.drain + FINISH_SECONDS

    @property
    def engine_pre_stop(self) -> float:
        """From leaving the DNS to SIGTERM of an engine (a sleep in its `preStop` hook): vLLM
        answers new requests with nothing once it has got its signal."""
        return self.notice

    @property
    def engine_shutdown(self) -> float:
        """From SIGTERM until vLLM aborts what still runs (`--shutdown-timeout`)."""
        return self.drain

    @property
    def engine_termination(self) -> float:
        """From the `preStop` hook's begin to SIGKILL of an engine."""
        return self.engine_pre_stop + self.engine_shutdown + ENGINE_EXIT_SECONDS


def check(who: str, needed: float, given: float) -> None:
    """Refuse to start where streams would be cut that were to be spared. 0 given is unknown."""
    if 0 < given < needed:
        raise UserError(
            f"the {who} needs {needed:g} s to end in good order and GPTOSS_TERMINATION_GRACE says"
            f" that it gets {given:g}: raise that (and what it stands for), or lower GPTOSS_DRAIN"
        )
