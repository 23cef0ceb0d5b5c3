"""Logs: one JSON object a line, on standard error."""

import json
import logging
import sys
from datetime import UTC, datetime

import msgspec

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

_encode = msgspec.json.Encoder().encode
# Of all else msgspec has its own idea: it would write out the fields of an object that hides them.
_PLAIN = frozenset((str, int, float, bool, type(None)))


class JSONFormatter(logging.Formatter):
    """A record as JSON: time, level, logger, message, whatever `extra` adds, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """One line; newlines within are escaped by JSON."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return _fast(line) or json.dumps(line, default=str, separators=(",", ":"))


def _fast(line: dict[str, object]) -> str:
    """The line, or nothing where it is not all plain: objects, or text beyond ASCII, of which some
    ends a line for whoever reads it."""
    if not _PLAIN.issuperset(map(type, line.values())):
        return ""
    try:
        text = _encode(line).decode()
    except (TypeError, ValueError):  # half a character
        return ""
    return text if text.isascii() else ""


def configure(level: str = "INFO") -> None:
    """Send all logs to standard error as JSON. For the top of a program, once."""
    # Nothing here says where in the source a line is from, or in which thread: finding that out
    # for the line of every request costs more than writing it.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for chatty in ("uvicorn.error", "alembic"):  # what they say at a start
        logging.getLogger(chatty).setLevel("WARNING")
