"""A table: it scrolls by itself where the page is narrow."""

from collections.abc import Iterable, Sequence
from html import escape

Row = Sequence[str]


def table(caption: str, head: Sequence[str], rows: Iterable[Row], note: str = "") -> str:
    """`head` and the caption are words, cells are HTML; a row's first cell is its heading."""
    return grouped(caption, head, [("", rows)], note)


def grouped(
    caption: str, head: Sequence[str], groups: Iterable[tuple[str, Iterable[Row]]], note: str = ""
) -> str:
    """Of several parts, each below a heading of its own (HTML)."""
    first, *others = head
    columns = "".join(f'<th scope="col">{escape(name)}</th>' for name in others)
    bodies = "".join(_body(heading, rows, len(head)) for heading, rows in groups)
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    narrow = " narrow" if len(head) <= 3 else ""
    return (
        f'<div class="scroll{narrow}" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption>"
        f'<thead><tr><th scope="col">{escape(first)}</th>{columns}</tr></thead>'
        f"{bodies}</table></div>{below}"
    )


def measure(title: str, meaning: str) -> str:
    """The heading of a row of figures, with what they are."""
    return f'{escape(title)}<small class="meaning">{escape(meaning)}</small>'


def _body(heading: str, rows: Iterable[Row], width: int) -> str:
    lines = "".join(map(_row, rows))
    if not heading:
        return f"<tbody>{lines}</tbody>"
    above = f'<tr class="group"><th scope="rowgroup" colspan="{width}">{heading}</th></tr>'
    return f"<tbody>{above}{lines}</tbody>"


def _row(cells: Row) -> str:
    first, *others = cells
    return (
        f'<tr><th scope="row">{first}</th>'
        + "".join(f"<td>{cell}</td>" for cell in others)
        + "</tr>"
    )
