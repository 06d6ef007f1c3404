"""What ran: the night's jobs, what they read and wrote, how long each took, and the quality of the data lately."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import date
from typing import Any

import pyarrow.parquet as pq
from markupsafe import Markup

from halflife import chart
from halflife.chart import BLUE, VERMILLION, Chart
from halflife.report import html
from halflife.report.facts import NIGHTS, Facts, Manifest, seconds_of
from halflife.report.html import Figure, megabytes, percent

COUNTS = ("rows_read", "accepted", "quarantined", "duplicates")


def section(facts: Facts) -> Markup:
    """The night's jobs with their rows, bytes and times."""
    figures = facts.score["metrics"]
    return html.section(
        "What ran",
        html.table(("job", "night", "published (UTC)", "rows", "MB", "seconds"), map(_job, facts.manifests)),
        html.side_by_side(_users(figures) + _quarantine(facts) + _stages(facts), _tables(facts) + _watched(facts)),
        _inputs(facts),
        source="_nights/JOB/as_of=D/manifest.json of each job; intake, quarantine.",
    )


def quality_section(facts: Facts) -> Markup:
    """What the nights of the last month brought, and how much of it was rejected."""
    nights = [date.fromisoformat(manifest["as_of"]) for manifest in facts.intake]
    days = [(night - facts.as_of).days for night in nights]
    counts = [manifest["metrics"] for manifest in facts.intake]
    if not any("rows_read" in count for count in counts):
        return html.EMPTY
    rows = [count.get("rows_read", 0) for count in counts]
    shares = [count.get("quarantined", 0) / max(count.get("rows_read", 0), 1) for count in counts]
    newest_first = list(zip(nights, counts, shares, strict=True))[::-1]
    lines = [
        (str(night), *(count.get(name, 0) for name in COUNTS), percent(share)) for night, count, share in newest_first
    ]
    return html.section(
        "Quality of the data",
        html.paragraph(f"The nights that were published in the {NIGHTS} days up to {facts.as_of}."),
        html.side_by_side(_rows_read(facts.as_of, days, rows), _rejected(facts.as_of, days, shares)),
        html.table(("night", "rows read", "accepted", "quarantined", "duplicates", "quarantined"), lines),
        source="intake, and the figures of _nights/sessionize/as_of=D/manifest.json.",
    )


def _job(manifest: Manifest) -> Sequence[html.Cell]:
    tables = manifest["tables"].values()
    seconds = seconds_of(manifest)
    return (
        manifest["job"],
        manifest["as_of"],
        str(manifest["published_at"])[:16].replace("T", " "),
        sum(table["rows"] for table in tables),
        megabytes(sum(table["bytes"] for table in tables)),
        sum(seconds.values()) if seconds else None,
    )


def _stages(facts: Facts) -> Markup:
    rows = [(run["job"], stage, seconds) for run in facts.manifests for stage, seconds in seconds_of(run).items()]
    return html.table(("job", "stage", "seconds"), rows, "Time by stage") if rows else html.EMPTY


def _watched(facts: Facts) -> Markup:
    """The figures that are held against the bounds of the config, out of them or not."""
    rows = [
        (run["job"], figure, value)
        for run in facts.manifests
        for figure, value in run["metrics"].get("watched", {}).items()
    ]
    return html.table(("job", "figure", "value"), rows, "Figures that alarms watch") if rows else html.EMPTY


def _tables(facts: Facts) -> Markup:
    rows = [
        (name, Figure(f"{table['rows']:,}"), megabytes(table["bytes"]))
        for run in (facts.sessionize, facts.score)
        for name, table in run["tables"].items()
    ]
    return html.table(("table", "rows", "MB"), rows, "Tables of this night")


def _users(figures: Any) -> Markup:
    names = {
        "encoded": "users with new events: encoded anew",
        "skipped": "users without: their state was carried over",
        "pairs": "pairs scored",
        "pairs_below_floor": "of them below the floor: counted, not written",
    }
    rows = [(words, figures[name]) for name, words in names.items() if name in figures]
    rows += [
        ("model", f"{figures['model']} ({figures['model_kind']})"),
        ("horizon", f"{figures['horizon_days']:g} days"),
    ]
    return html.table(("scoring", ""), [(words, _text(value)) for words, value in rows])


def _text(value: object) -> Figure:
    return Figure(f"{value:,}" if isinstance(value, int) else value)


def _quarantine(facts: Facts) -> Markup:
    """The records that were rejected tonight, by reason."""
    folder = facts.store.path("quarantine", facts.as_of)
    reasons = Counter(pq.read_table(folder, columns=["reason"])["reason"].to_pylist())
    if not reasons:
        return html.paragraph("No record of this night was quarantined.")
    return html.table(("reason", "records"), reasons.most_common(), "Quarantined this night")


def _inputs(facts: Facts) -> Markup:
    """What the night read, by source."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0] * (1 + len(COUNTS)))
    for row in facts.store.rows("intake", facts.as_of):
        totals[row["source"]] = [
            a + b for a, b in zip(totals[row["source"]], [1, *(row[name] for name in COUNTS)], strict=True)
        ]
    if not totals:
        return html.paragraph("This night read no file.")
    rows = [(source, *counts) for source, counts in sorted(totals.items())]
    return html.table(
        ("source", "files", "rows read", "accepted", "quarantined", "duplicates"), rows, "What the night read"
    )


def _rows_read(as_of: date, days: Sequence[int], rows: Sequence[int]) -> Markup:
    top = max(rows)
    spread = min(filter(None, rows), default=1)
    axis = (
        chart.logarithmic("rows read", spread / 2, top)
        if top > 50 * spread
        else chart.linear("rows read", 0, top * 1.05)
    )
    drawn = Chart("Rows read by night", chart.days("night", as_of, 0.5 - NIGHTS, 0.5), axis)
    drawn.bars([day - 0.4 for day in days], [day + 0.4 for day in days], rows, BLUE)
    return html.figure(drawn, "Rows read by each night")


def _rejected(as_of: date, days: Sequence[int], shares: Sequence[float]) -> Markup:
    percents = [100 * share for share in shares]
    axis = chart.linear("quarantined, % of rows read", 0, max(1.0, 1.15 * max(percents)))
    drawn = Chart(
        "Share of the rows that was quarantined by night", chart.days("night", as_of, 0.5 - NIGHTS, 0.5), axis
    )
    drawn.line(days, percents, VERMILLION)
    drawn.points(days, percents, VERMILLION)
    return html.figure(drawn, "Share of them that was quarantined")
