"""What a runbook says, in parts: its sections, and the commands and queries in it."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from deploy.observability.rules import RUNBOOKS

FOLDER: Final = Path(__file__).parents[2] / RUNBOOKS
SECTIONS: Final = ("Meaning", "Impact", "Diagnosis", "Mitigation")

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_COMMAND = re.compile(r"(gptoss|kubectl|helm|curl) ")


@dataclass(frozen=True)
class Runbook:
    """One, by its alert."""

    path: Path

    @property
    def alert(self) -> str:
        return self.path.stem

    @cached_property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def sections(self) -> dict[str, str]:
        """Each with what it says."""
        _, *parts = re.split(r"^## (.+)$", self.text, flags=re.MULTILINE)
        return dict(zip(parts[::2], parts[1::2], strict=True))

    def blocks(self, language: str) -> list[str]:
        """The fenced ones of a language."""
        return [body for found, body in _FENCE.findall(self.text) if found == language]

    @property
    def commands(self) -> list[str]:
        """Those that are meant to be copied: lines of `sh` blocks."""
        return [line for block in self.blocks("sh") for line in block.splitlines() if line]

    @property
    def mentioned(self) -> list[str]:
        """Commands within sentences, some of them cut where a name is to be put."""
        prose = _FENCE.sub("", self.text)
        spans = (" ".join(span.split()) for span in _SPAN.findall(prose))
        return [span for span in spans if _COMMAND.match(span)]

    @property
    def queries(self) -> list[str]:
        """PromQL, which an empty line parts."""
        return [
            query.strip()
            for block in self.blocks("promql")
            for query in re.split(r"\n\s*\n", block)
            if query.strip()
        ]


def runbooks() -> list[Runbook]:
    """All of them."""
    return [Runbook(path) for path in sorted(FOLDER.glob("*.md"))]
