"""The few shapes that the report's page is made of. Whatever is not Markup is text: markupsafe escapes it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from markupsafe import Markup

from halflife.chart import Chart, number

EMPTY: Final = Markup()
Cell = object  # text, a number, Figure, Markup, or None for an empty cell


def joined(parts: Iterable[Markup]) -> Markup:
    """Pieces one after the other."""
    return Markup("\n").join(parts)


def section(title: str, *parts: Markup, source: str) -> Markup:
    """A part of the page, with the tables that its numbers come from."""
    shape = Markup('<section>\n<h2>{}</h2>\n{}\n<p class="source">Numbers from: {}</p>\n</section>')
    return shape.format(title, joined(part for part in parts if part), source)


def heading(words: str) -> Markup:
    """A heading within a section."""
    return Markup("<h3>{}</h3>").format(words)


def paragraph(words: object) -> Markup:
    """A paragraph of text."""
    return Markup("<p>{}</p>").format(words)


def side_by_side(*parts: Markup) -> Markup:
    """Pieces beside each other where the page is wide enough."""
    return Markup('<div class="grid">{}</div>').format(
        joined(Markup("<div>{}</div>").format(part) for part in parts if part)
    )


def figure(drawn: Chart, caption: object) -> Markup:
    """A chart with what it shows."""
    return Markup("<figure><figcaption>{}</figcaption>{}</figure>").format(caption, drawn.svg())


def table(head: Sequence[str], rows: Iterable[Sequence[Cell]], caption: object = "") -> Markup:
    """A table: a column of numbers stands to the right."""
    kept = list(rows)
    numeric = [all(isinstance(row[place], int | float | Figure | None) for row in kept) for place in range(len(head))]
    cell = Markup('<td class="{}">{}</td>')
    lines = (
        joined(cell.format(_kind(right), _shown(value)) for value, right in zip(row, numeric, strict=True))
        for row in kept
    )
    return _table(head, numeric, lines, caption)


def tiles(values: Iterable[tuple[str, str, str]]) -> Markup:
    """The figures that are read first: (name, value, what is to be said of it)."""
    shape = Markup('<div class="tile"><div>{}</div><strong>{}</strong><small>{}</small></div>')
    return Markup('<div class="tiles">{}</div>').format(joined(shape.format(*value) for value in values))


def heat_map(
    head: Sequence[str], rows: Iterable[tuple[Sequence[str], Sequence[float]]], caption: object = ""
) -> Markup:
    """A table whose rows are words and shares (0 to 1), these the darker the larger they are beside the largest."""
    kept = list(rows)
    largest = max((share for _, shares in kept for share in shares), default=0.0) or 1.0
    word, warm = Markup('<td class="words">{}</td>'), Markup('<td class="heat" style="--share: {:.2f}">{}</td>')
    lines = [
        joined([*map(word.format, words), *(warm.format(0.75 * share / largest, f"{share:.1%}") for share in shares)])
        for words, shares in kept
    ]
    numeric = [place >= len(head) - len(kept[0][1]) for place in range(len(head))] if kept else [False] * len(head)
    return _table(head, numeric, lines, caption)


class Figure(str):
    """Text that is a number with its sign or unit: it stands to the right."""


def percent(share: float | None, signed: bool = False) -> Figure:
    """A share as percent, in the digits of `number`; nothing for None or where it is no number."""
    if share is None or not math.isfinite(share):
        return Figure()
    return Figure(f"{'+' if signed and share >= 0 else ''}{number(100 * share + 0.0)} %")


def megabytes(size: int) -> Figure:
    """A number of bytes."""
    return Figure(f"{size / 1e6:,.1f}")


def _table(head: Sequence[str], numeric: Sequence[bool], lines: Iterable[Markup], caption: object) -> Markup:
    name = Markup('<th class="{}">{}</th>')
    titles = joined(name.format(_kind(right), words) for words, right in zip(head, numeric, strict=True))
    body = joined(map(Markup("<tr>{}</tr>").format, lines))
    shape = Markup("<table>{}<thead><tr>{}</tr></thead><tbody>{}</tbody></table>")
    words = Markup("<caption>{}</caption>").format(caption) if caption else EMPTY
    return Markup('<div class="wide">{}</div>').format(shape.format(words, titles, body))


def _shown(cell: Cell) -> object:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return number(cell)
    return f"{cell:,}" if isinstance(cell, int) else cell


def _kind(right: bool) -> str:
    return "number" if right else "words"
