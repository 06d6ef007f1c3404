"""Answers for a person: tables of a terminal, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, Final

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from halflife.answers.explain import Explanation
from halflife.escapes import escaped

SHOWN_EVENTS: Final = 30  # on a terminal; the ones before share a row
SHOWN_ATTENTION: Final = 10  # of the events with the most weight


def days(length: float) -> str:
    """A half-life as a person says it: 45 min, 6 h, 30 d."""
    if length < 1 / 24:
        return f"{length * 1_440:.0f} min"
    return f"{length * 24:.1f} h" if length < 1 else f"{length:.3g} d"


def frame(rows: pd.DataFrame, title: str) -> Table:
    """A data frame as a table."""
    table = Table(title=Text(escaped(title)))
    for name in rows.columns:
        table.add_column(name, justify="right" if pd.api.types.is_numeric_dtype(rows[name]) else "left")
    for row in rows.itertuples(index=False, name=None):
        table.add_row(*(_cell(value) for value in row))
    return table


def _cell(value: object) -> str | Text:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else Text(escaped(str(value)))


def explanation_table(explained: Explanation) -> Table:
    """The events of a pair, what is left of each tonight, and the sum that is the score."""
    horizon = f"{explained.horizon_days:g} days"
    table = Table(
        title=Text(
            escaped(
                f"user {explained.user_id}, item {explained.item_id} ({explained.title or 'no title'}), "
                f"night of {explained.as_of}: expected strength over the next {horizon}"
            )
        ),
        caption=_in_words(explained),
        caption_justify="left",
    )
    for name in ("event", "type"):
        table.add_column(name)
    for name in ("strength", "jump a day", *(days(length) for length in explained.half_lives_days), "left"):
        table.add_column(name, justify="right")
    for row in _event_rows(explained):
        table.add_row(*row)
    table.add_section()
    empty = [""] * (3 + len(explained.half_lives_days))
    by_channel = map(_share, explained.left.sum(axis=0))
    table.add_row("own events", "", "", "", *by_channel, f"{explained.memory:.6f}")
    table.add_row(f"affinity (popularity alone: {explained.popularity:.4g})", *empty, f"{explained.affinity:.6f}")
    table.add_row("expected strength", *empty, f"{explained.expected:.6f}")
    return table


def attention_table(weights: pd.DataFrame, half_lives_days: Sequence[float]) -> Table:
    """The events that the encoder looks at most, and their weight in each channel."""
    channels = list(range(len(half_lives_days)))
    heaviest = weights.loc[weights[channels].sum(axis=1).nlargest(SHOWN_ATTENTION).index].sort_index()
    table = Table(title=f"behind the affinity: of {len(weights)} last events, those with the most attention")
    for name in ("event", "item_id", "title"):
        table.add_column(name)
    for length in half_lives_days:
        table.add_column(days(length), justify="right")
    for row in heaviest.to_dict("records"):
        shares = [f"{row[channel]:.1%}" for channel in channels]
        table.add_row(f"{row['time']:%Y-%m-%d %H:%M}", Text(escaped(row["item_id"])), _cell(row["title"]), *shares)
    return table


def attention_json(weights: pd.DataFrame) -> list[dict[str, Any]]:
    """A user's last events with their weights, as JSON can hold them."""
    return [
        {"time": time.isoformat(), "item_id": item_id, "weights": [round(float(weight), 6) for weight in of_event]}
        for time, item_id, of_event in zip(
            weights["time"], weights["item_id"], weights.iloc[:, 3:].to_numpy(), strict=True
        )
    ]


def _event_rows(explained: Explanation) -> Iterator[list[str]]:
    hidden = max(0, len(explained.events) - SHOWN_EVENTS)
    if hidden:
        sums = map(_share, explained.left[:hidden].sum(axis=0))
        yield [f"{hidden} earlier events", "", "", "", *sums, f"{explained.left[:hidden].sum():.6f}"]
    events = explained.events.to_dict("records")
    for event, jump, left in list(zip(events, explained.jumps, explained.left, strict=True))[hidden:]:
        numbers = [f"{event['strength']:.4g}", f"{jump.sum():+.4g}", *map(_share, left), f"{left.sum():.6f}"]
        yield [f"{event['event_time']:%Y-%m-%d %H:%M}", event["event_type"], *numbers]


def _share(value: float) -> str:
    return f"{value:.4g}" if abs(value) >= 5e-7 else "0"


def _in_words(explained: Explanation) -> str:
    lines = [f"score 1 - exp(-{explained.expected:.6f}) = {explained.score:.6f}"]
    if explained.published is None:
        lines[0] += "; the published table has no row for this pair"
    else:
        lines[0] += f"; published {explained.published:.6f}, apart by {abs(explained.score - explained.published):.1g}"
    for what, after in (
        ("half-life in force", explained.halves_after_days),
        ("the score will have halved after", explained.score_halves_after_days),
    ):
        if after is None:
            lines.append(f"{what}: none, what is left does not fade")
        else:
            lines.append(f"{what}: {days(after)}, on {explained.as_of + timedelta(days=after)}")
    return "\n".join(lines)


def explanation_json(explained: Explanation) -> dict[str, Any]:
    """An explanation as JSON can hold it; sums are those of its parts."""
    events = [
        {
            "time": event["event_time"].isoformat(),
            "type": event["event_type"],
            "strength": event["strength"],
            "jump": jump.tolist(),
            "left": left.tolist(),
        }
        for event, jump, left in zip(explained.events.to_dict("records"), explained.jumps, explained.left, strict=True)
    ]
    return {
        "user_id": explained.user_id,
        "item_id": explained.item_id,
        "title": explained.title,
        "as_of": explained.as_of.isoformat(),
        "horizon_days": explained.horizon_days,
        "half_lives_days": explained.half_lives_days.tolist(),
        "events": events,
        "memory": explained.memory,
        "affinity": explained.affinity,
        "popularity": explained.popularity,
        "expected": explained.expected,
        "score": explained.score,
        "published": explained.published,
        "halves_after_days": explained.halves_after_days,
        "score_halves_after_days": explained.score_halves_after_days,
    }


def on_terminal(table: Table) -> None:
    """Print a table: into a pipe, wide enough for every column."""
    Console(width=None if Console().is_terminal else 200).print(table)


def as_json(answer: object) -> str:
    """One line of JSON."""
    return json.dumps(answer, allow_nan=False)


def records(rows: pd.DataFrame) -> Sequence[dict[str, Any]]:
    """The rows of a data frame as JSON can hold them."""
    found: Sequence[dict[str, Any]] = json.loads(rows.to_json(orient="records", date_format="iso"))
    return found
