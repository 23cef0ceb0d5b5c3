"""Keys in one JSON file: the store of a single machine."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from service.errors import UserError
from service.tenants.keys import Key

_KEYS = TypeAdapter(list[Key])
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class FileStore:
    """A file of keys: written whole and renamed into place, so that a reader never sees half."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def version(self) -> tuple[int, int] | None:
        """Identity of the file's content; None while there is no file."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns

    def read(self) -> list[Key]:
        """All keys; none where there is no file yet."""
        try:
            return _KEYS.validate_json(self.path.read_bytes())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"cannot read keys from {self.path}: {error.strerror}") from None
        except ValidationError:
            raise UserError(
                f"{self.path} is not a file of keys: restore it, or move it away and make new keys"
            ) from None

    def add(self, key: Key) -> None:
        """Keep a new key."""
        self._change(lambda keys: [*keys, key])

    def revoke(self, id: str) -> None:
        """Refuse a key from now on; its row stays, so that its use can still be named."""

        def revoked(keys: list[Key]) -> list[Key]:
            if all(key.id != id for key in keys):
                raise UserError(f"no key has the id {id}: see `gptoss key list`")
            now = datetime.now(UTC)
            return [
                replace(key, revoked=now) if key.id == id and key.revoked is None else key
                for key in keys
            ]

        self._change(revoked)

    def _change(self, change: Callable[[list[Key]], list[Key]]) -> None:
        try:
            with self._lock():
                rows = _KEYS.dump_json(change(self.read()), indent=1)
                draft = self.path.with_suffix(".new")
                draft.unlink(missing_ok=True)
                with os.fdopen(os.open(draft, _CREATE, 0o600), "wb") as file:
                    file.write(rows)
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(self.path)
        except OSError as error:
            raise UserError(f"cannot write keys to {self.path}: {error.strerror}") from None

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
