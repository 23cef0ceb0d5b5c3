"""A heap that anything can be taken out of at any time."""

import heapq
from typing import Generic, TypeVar

# A heap this small is not worth clearing.
_SMALL = 64

T = TypeVar("T")


class LazyHeap(Generic[T]):
    """Things in the order of a key. Taking one out costs nothing.

    What was taken out stays in the list until it comes up, or is the most of the list: then all of
    it is cleared out. So the memory is bounded by what is in.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[float, int, int]] = []
        self._in: dict[int, T] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._in)

    def add(self, key: float, number: int, item: T) -> int:
        """Put something in, by key and then by number. Returns its entry, for `discard`."""
        self._next += 1
        self._in[self._next] = item
        heapq.heappush(self.entries, (key, number, self._next))
        return self._next

    def discard(self, entry: int) -> None:
        """Take an entry out, if it is in."""
        self._in.pop(entry, None)
        if len(self.entries) > 2 * len(self._in) + _SMALL:
            self.entries = [one for one in self.entries if one[2] in self._in]
            heapq.heapify(self.entries)

    def first(self) -> T | None:
        """What has the smallest key."""
        while self.entries:
            item = self._in.get(self.entries[0][2])
            if item is not None:
                return item
            heapq.heappop(self.entries)
        return None
