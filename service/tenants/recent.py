"""What was found out lately: bounded in number and in age."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Recent(Generic[_T]):
    """Values by digest, forgotten after `life` seconds.

    Of more than `size` the least recently used is forgotten. `clock` is monotonic, in seconds.
    """

    def __init__(self, life: float, size: int, clock: Callable[[], float]) -> None:
        self._life = life
        self._size = size
        self._clock = clock
        self._values: OrderedDict[bytes, tuple[float, _T]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> _T | None:
        """The value, which then counts as used; None where there is none any more."""
        until, value = self._values.get(key, (0.0, None))
        if value is None:
            return None
        if self._clock() >= until:
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return value

    def put(self, key: bytes, value: _T) -> None:
        """Remember a value from now on."""
        self._values[key] = (self._clock() + self._life, value)
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)

    def clear(self) -> None:
        """Forget everything."""
        self._values.clear()
