"""What a run stands on: the upstream, the client, and the peers that are between them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.peers import Peer
from tests.bench.processes import Failed, Sender, client, upstream
from tests.bench.running import Running
from tests.bench.subject import Subject

Say = Callable[[str], None]
FAULTS: Final = (Failed, AssertionError, OSError)
"""What a peer may come to that does not start, ends, or answers something else."""


@dataclass(frozen=True)
class Site:
    """The upstream and the client of a run."""

    home: Path
    upstream_port: int
    sender: Sender

    @contextlib.contextmanager
    def started(self, peer: Peer) -> Iterator[Subject]:
        """A peer, started and warm, in front of the upstream. Raises one of `FAULTS`."""
        home = self.home / peer.name
        home.mkdir()
        with peer.start(home, self.upstream_port) as running:
            direct = Running(0, self.upstream_port)
            subject = Subject(peer, running, direct, self.sender)
            subject.warm_up()
            yield subject


@contextlib.contextmanager
def site(home: Path) -> Iterator[Site]:
    """Both, until the block ends."""
    with upstream(home) as port, client(home) as sender:
        yield Site(home, port, sender)


@dataclass
class Company:
    """The peers of a run: who is there, who is absent and why, and who has failed."""

    say: Say
    sender: Sender
    present: list[Subject]
    absent: dict[str, str]
    failed: list[str]

    @contextlib.contextmanager
    def noting(self, peer: Peer) -> Iterator[None]:
        """A failure of a peer takes it out of the run, and the run goes on."""
        try:
            yield
        except FAULTS as error:
            self.failed.append(peer.name)
            self.say(f"{peer.name:14} failed: {reason(error)}")

    @property
    def well(self) -> Iterator[Subject]:
        """Those who have not failed, at the moment when each is come to."""
        return (one for one in self.present if one.peer.name not in self.failed)


@contextlib.contextmanager
def company(peers: Sequence[Peer], home: Path, say: Say) -> Iterator[Company]:
    """Start all who are here, and end them with the block."""
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(site(home))
        found = Company(say, place.sender, [], {}, [])
        for peer in peers:
            if why := peer.missing():
                found.absent[peer.name] = why
                say(f"{peer.name:14} is not here: {why}")
                continue
            with found.noting(peer):
                found.present.append(stack.enter_context(place.started(peer)))
        yield found


def reason(error: Exception) -> str:
    """In one line: of a process that did not start, what it said last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
