"""A ring of consistent hashes: the same key finds the same replica while that is there."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Generic, Protocol, TypeVar

# Points of one replica. More make the shares more even (the deviation is 1/sqrt of it), and a
# change of members dearer.
POINTS = 64
_SPACE = 1 << 64


class Named(Protocol):
    """What has a place on the ring."""

    @property
    def url(self) -> str:
        """Its name."""


T = TypeVar("T", bound=Named)


class Ring(Generic[T]):
    """The members, each at many points. Looking up is O(log n); a change of members O(n log n).

    A member that comes or goes moves the keys of its own share only.
    """

    def __init__(self, members: Sequence[T] = ()) -> None:
        places = sorted(
            (point, number)
            for number, member in enumerate(members)
            for point in _points(member.url)
        )
        self._points = [point for point, _ in places]
        self._owners = [members[number] for _, number in places]

    def walk(self, key: int, most: int) -> Iterator[T]:
        """The first `most` members from the key's place on, each once."""
        seen: set[str] = set()
        start, size = bisect_left(self._points, key % _SPACE), len(self._owners)
        for offset in range(size):
            owner = self._owners[(start + offset) % size]
            if owner.url in seen:
                continue
            seen.add(owner.url)
            yield owner
            if len(seen) == most:
                return


def hashed(data: bytes) -> int:
    """A place on the ring, the same in every process."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def _points(url: str) -> Iterator[int]:
    # Eight points from one digest: hashing is what a change of members costs.
    for block in range(POINTS // 8):
        digest = hashlib.blake2b(f"{url}#{block}".encode(), digest_size=64).digest()
        for start in range(0, 64, 8):
            yield int.from_bytes(digest[start : start + 8])
