"""The journal: records on disk until the database has them, so that `kill -9` loses none.

A record is in the journal before `append` returns. Nothing is synced: what a process wrote is the
kernel's, and outlives it. Only a machine that crashes takes along what it had not yet flushed.

A journal is a row of files in one folder; the last is appended to. Records reach the database in
the order in which they were put, so that counting them tells when a file has had its time: it is
then removed, or emptied if it is the last. Nothing is ever copied or rewritten.

A process holds a lock on each of its files while it lives. A file that nobody holds is of a process
that died: whoever starts next writes its records, and removes it only then. One that is killed
meanwhile leaves it to another, and a record that is written twice counts once.
"""

import contextlib
import errno
import fcntl
import logging
import os
import secrets
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from service.ledger.record import UsageRecord

# Bounds what is left of a file that is written but for one record. An open file each.
LINES = 20_000
_SUFFIX = ".jsonl"

logger = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(UsageRecord).decode


class Journal:
    """The records of one process that are not in the database yet, and what dead ones left.

    Never raises: where it cannot be written it says so once, goes on without, and tries again with
    its next file, or when all that was put is in the database.
    """

    def __init__(self, folder: Path, *, lines: int = LINES) -> None:
        self._folder = folder
        self._lines = lines
        self._files: deque[_File] = deque()
        self._complained = False
        self._begin()

    @property
    def failed(self) -> bool:
        """Whether records are missing in it that may not be in the database either."""
        return not all(file.is_whole for file in self._files)

    def append(self, record: UsageRecord) -> None:
        """Keep a record. It is the youngest."""
        file = self._files[-1]
        if file.put >= self._lines:
            file = self._begin()
        file.put += 1
        file.unwritten += 1
        if not file.is_whole:  # counted all the same: `forget` counts, too
            return
        try:
            line = _encode(record) + b"\n"
        except (TypeError, ValueError):
            return  # no text or number: the database will refuse it, and it is counted there
        try:
            _write(file.descriptor, line)
        except OSError as error:
            file.is_whole = False
            self._complain(error)

    def forget(self, count: int) -> None:
        """The oldest `count` records are in the database."""
        while count and self._files:
            oldest = self._files[0]
            gone = min(count, oldest.unwritten)
            oldest.unwritten -= gone
            count -= gone
            if oldest.unwritten:
                return
            if len(self._files) == 1:
                self._empty()
                return
            self._files.popleft().remove()

    def close(self) -> None:
        """Remove what is in the database, and leave the rest to the next start."""
        while self._files:
            file = self._files.popleft()
            if file.unwritten:
                file.close()
            else:
                file.remove()

    def left(self) -> Generator["Remains", None, None]:
        """What processes left that died. Each is locked until the next is asked for."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            with contextlib.ExitStack() as stack:
                try:
                    # For writing as well, or NFS would not lock it.
                    file = stack.enter_context(path.open("r+b"))
                    if not _lock(file.fileno()):
                        continue
                except FileNotFoundError:  # another gateway was faster
                    continue
                except OSError as error:
                    said = {"file": str(path), "error": error.strerror}
                    logger.warning("a journal that was left cannot be read: it stays", extra=said)
                    continue
                yield Remains(path, file)

    def _begin(self) -> "_File":
        """Go on in a new file, or in none where there can be none."""
        try:
            file = _create(self._folder)
        except OSError as error:
            file = _File(self._folder, -1, is_whole=False)
            self._complain(error)
        self._files.append(file)
        return file

    def _empty(self) -> None:
        """Start over: all that was put is in the database."""
        file = self._files[-1]
        if file.is_whole and file.put and self._complained:
            self._complained = False
            logger.info("the journal of the ledger is written again")
        try:
            if file.is_whole and _has_name(file.descriptor):
                os.ftruncate(file.descriptor, 0)
                file.put = 0
                return
        except OSError as error:
            self._complain(error)
        self._files.pop().remove()
        self._begin()

    def _complain(self, error: OSError) -> None:
        if not self._complained:  # once an outage
            self._complained = True
            logger.warning(
                "the journal of the ledger cannot be written: if this gateway is killed, records"
                " that are not in the database yet are lost; give it room, and the right to write,"
                " in its folder",
                extra={"folder": str(self._folder), "error": error.strerror},
            )


class Remains:
    """A file of a process that died, locked by this one."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path = path
        self.rubbish = 0
        """Lines so far that are no record: cut off by a full disk, or not ours."""
        self._file = file

    def records(self) -> Iterator[UsageRecord]:
        """Its records, oldest first."""
        for line in self._file:
            try:
                record = _decode(line)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                record = None
            if record is None or record.at.tzinfo is None:
                self.rubbish += 1
            else:
                yield record

    def remove(self) -> None:
        """It is not needed any more."""
        self.path.unlink(missing_ok=True)


@dataclass(slots=True)
class _File:
    """One file of a journal, or what stands for it where there can be none."""

    path: Path
    descriptor: int
    put: int = 0
    unwritten: int = 0
    """How many of those that were put are not in the database."""
    is_whole: bool = True
    """Whether all that was put is in it. After its first failure nothing more is written to it."""

    def remove(self) -> None:
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                self.path.unlink()  # before the lock is given back
        self.close()

    def close(self) -> None:
        if self.descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self.descriptor)


def _create(folder: Path) -> _File:
    """A new file, locked."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        path = folder / f"{secrets.token_hex(8)}{_SUFFIX}"
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
        file = _File(path, os.open(path, flags, 0o600))
        try:
            if _lock(file.descriptor):
                return file
        except OSError:  # a file system without locks
            file.remove()
            raise
        # A gateway that starts took it for a dead one's before the lock: it will remove it.
        file.close()


def _lock(descriptor: int) -> bool:
    """Lock a file, unless another process has it or has removed it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return _has_name(descriptor)


def _has_name(descriptor: int) -> bool:
    return os.fstat(descriptor).st_nlink > 0


def _write(descriptor: int, line: bytes) -> None:
    if os.write(descriptor, line) < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
