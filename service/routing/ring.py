"""A ring of consistent hashes: the same key finds the same member while that is there."""

import hashlib
import struct
from bisect import bisect_left
from collections.abc import Collection, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

# Points of one member. Its share of the keys deviates by 1/sqrt of it (12 %), which the bound on
# its load evens out; more points make a change of members dearer, while streams wait.
POINTS = 64
_SPACE = 1 << 64
_SPLIT = struct.Struct(">8Q").unpack


class Named(Hashable, Protocol):
    """What has a place on the ring."""

    @property
    def url(self) -> str:
        """Its name, from which its points follow: they are the same in every process."""


T = TypeVar("T", bound=Named)


class Ring(Generic[T]):
    """The members, each at many points. Looking up is O(log n).

    A member that comes or goes moves the keys of its own share only.
    """

    def __init__(self) -> None:
        self._members: set[T] = set()
        self._owners: dict[int, T] = {}
        self._points: list[int] = []  # sorted

    def set_members(self, members: Collection[T]) -> None:
        """Make these the members. O(n) for a few changes, since the rest is sorted already."""
        wanted = set(members)
        for gone in self._members - wanted:
            for point in _points(gone.url):
                self._owners.pop(point, None)
        for new in wanted - self._members:
            self._owners.update(dict.fromkeys(_points(new.url), new))
        before = set(self._points)
        self._points = [point for point in self._points if point in self._owners]
        self._points += [point for point in self._owners if point not in before]
        self._points.sort()
        self._members = wanted

    def walk(self, key: int, most: int) -> Iterator[T]:
        """The first `most` members from the key's place on, each once."""
        seen: set[T] = set()
        start, size = bisect_left(self._points, key % _SPACE), len(self._points)
        for place in range(start, start + size):
            owner = self._owners[self._points[place % size]]
            if owner in seen:
                continue
            yield owner
            seen.add(owner)
            if len(seen) == most:
                return


def hashed(data: bytes) -> int:
    """A place on the ring, the same in every process."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def _points(url: str) -> Iterator[int]:
    # Eight points from one digest: hashing is a good part of what a new member costs.
    for block in range(POINTS // 8):
        yield from _SPLIT(hashlib.blake2b(f"{url}#{block}".encode()).digest())
