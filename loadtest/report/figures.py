"""The summary as its JSON has it, and what tables show of it.

A table takes each figure from here by its place. The cell names the place in `data-key` (a JSON
pointer, RFC 6901), so that what is shown and what is written cannot differ.
"""

from collections.abc import Callable
from html import escape
from typing import Any

from loadtest.report.cells import NEVER, NOTHING, seconds, share

Step = str | int
Style = Callable[[float], str]


class Figures:
    """All that tables may show."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    def at(self, *path: Step) -> Any:
        """What is at a place; None where there is nothing."""
        found: Any = self.document
        for step in path:
            if isinstance(found, dict):
                found = found.get(str(step))
            elif isinstance(found, list) and isinstance(step, int) and step < len(found):
                found = found[step]
            else:
                return None
        return found

    def show(self, style: Style, *path: Step, none: str = NOTHING) -> str:
        """A figure."""
        value = self.at(*path)
        return _marked(none if value is None else style(float(value)), path)

    def text(self, *path: Step) -> str:
        """Words."""
        value = self.at(*path)
        return _marked(NOTHING if value in (None, "") else str(value), path)

    def percentile(self, name: str, *path: Step) -> str:
        """One of a distribution of times: `∞` where it falls among failed requests."""
        failed = self.at(*path, "failed")
        return self.show(seconds, *path, name, none=NEVER if failed else NOTHING)

    def share_of(self, whole: tuple[Step, ...], *path: Step) -> str:
        """A number as a share of another one, which `data-of` names."""
        all_, part = self.at(*whole), self.at(*path)
        if not all_ or part is None:
            return ""
        places = f'data-key="{pointer(path)}" data-of="{pointer(whole)}"'
        return f'<span class="of" {places}>{escape(share(part / all_))}</span>'


def pointer(path: tuple[Step, ...]) -> str:
    """A place as the attribute has it, escaped."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return escape("".join(f"/{step}" for step in steps))


def _marked(text: str, path: tuple[Step, ...]) -> str:
    return f'<span data-key="{pointer(path)}">{escape(text)}</span>'
