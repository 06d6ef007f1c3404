"""What changed since the night before: scores, items, categories, and interest that came back."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any, Final

import numpy as np
import pyarrow.dataset as ds
from markupsafe import Markup

from halflife import chart
from halflife.chart import BLUE, ORANGE, Chart
from halflife.report import html
from halflife.report.examples import Remembered
from halflife.report.facts import Facts, Manifest
from halflife.report.html import Figure, percent

SHOWN: Final = 8  # items or categories of each kind
QUANTILES: Final = "Quantiles of the scores"
FEWEST_USERS: Final = 5  # below, a change of an item says nothing


def section(facts: Facts, remembered: Remembered) -> Markup:
    """Scores beside those of the night before, what rose and fell, and revivals."""
    before = facts.before
    since = f"Since the night of {facts.night_before}" if before else "No night was scored before this one"
    return html.section(
        "What changed",
        html.paragraph(f"{since}. {_new_model(facts)}"),
        html.side_by_side(_distribution(facts), _quantiles(facts)),
        html.side_by_side(*_items(facts)),
        html.side_by_side(*_categories(facts)),
        _revivals(facts, remembered),
        source="score_histogram in the manifests of score; recommendations; category_trend; memory (revived).",
    )


def histogram_of(manifest: Manifest | None) -> dict[str, Any] | None:
    """How the scores of a run are distributed, None where it has not noted it or wrote none."""
    found: dict[str, Any] | None = None if manifest is None else manifest["metrics"].get("score_histogram")
    return found if found and found["counts"] else None


def _new_model(facts: Facts) -> str:
    if facts.before is None:
        return ""
    old, new = (run["metrics"]["model"] for run in (facts.before, facts.score))
    return "The model is the same." if old == new else f"The model is new: {new} instead of {old}."


def _distribution(facts: Facts) -> Markup:
    """All scores of the night, and those of the night before as a line."""
    tonight, before = histogram_of(facts.score), histogram_of(facts.before)
    if tonight is None:
        return html.paragraph("This night was scored without a histogram: there is no distribution to show.")
    shown = [_densities(each) for each in (tonight, before) if each is not None]
    (edges, densities), *earlier = shown
    lowest, most = min(float(each[0]) for each, _ in shown), max(float(each.max()) for _, each in shown)
    x = chart.logarithmic(f"score: probability within {facts.score['metrics']['horizon_days']:g} days", lowest, 1.0)
    y = chart.linear("pairs, % for each doubling of the score", 0, 1.1 * most)
    drawn = Chart("Distribution of the scores", x, y)
    drawn.bars(edges[:-1], edges[1:], densities, BLUE, name=f"{facts.as_of}")
    for edges, densities in earlier:
        drawn.line(np.repeat(edges, 2)[1:-1], np.repeat(densities, 2), ORANGE, name=f"{facts.night_before}")
    return html.figure(drawn, f"All {sum(tonight['counts']):,} scores that were written")


def _densities(histogram: dict[str, Any]) -> tuple[Any, Any]:
    """Edges > 0 of the bins, and the percent of all scores for each doubling in them."""
    edges, counts = np.array(histogram["edges"]), np.array(histogram["counts"], dtype=np.float64)
    if edges[0] == 0:  # what cannot be told from zero
        edges[0] = edges[1] / 2
    return edges, 100 * counts / counts.sum() / np.diff(np.log2(edges))


def _quantiles(facts: Facts) -> Markup:
    tonight, before = histogram_of(facts.score), histogram_of(facts.before)
    if tonight is None:
        return html.EMPTY
    if before is None:
        rows: list[tuple[html.Cell, ...]] = [(_share(name), value) for name, value in tonight["quantiles"].items()]
        return html.table(("of all scores", "lie below"), rows, QUANTILES)
    then = before["quantiles"]
    rows = [
        (_share(name), value, then.get(name), _change(value, then.get(name)))
        for name, value in tonight["quantiles"].items()
    ]
    return html.table(("of all scores", "lie below", "the night before", "change"), rows, QUANTILES)


def _share(name: str) -> Figure:
    """Of a quantile called p99, 99 %."""
    return Figure(f"{name.removeprefix('p')} %")


def _change(now: float, then: float | None) -> Figure:
    return percent(now / then - 1 if then else None, signed=True)


def _items(facts: Facts) -> list[Markup]:
    """The items that more, and that fewer users have among their best than the night before."""
    if facts.night_before is None:
        return []
    now, then = (_users_by_item(facts, night) for night in (facts.as_of, facts.night_before))
    moved = Counter({item: now[item] - then[item] for item in now.keys() | then.keys()})
    known = sorted((-change, item) for item, change in moved.items() if max(now[item], then[item]) >= FEWEST_USERS)
    rose = [item for change, item in known[:SHOWN] if change < 0]
    fell = [item for change, item in reversed(known[-SHOWN:]) if change > 0]
    names = facts.titles("item_id", [*rose, *fell])
    shown = []
    for words, items in (("Items that rose", rose), ("Items that fell", fell)):
        rows = [(*names.get(item, (item, item)), now[item], Figure(f"{now[item] - then[item]:+,}")) for item in items]
        caption = f"{words}: in how many users' best {facts.night.written_as.top_n} they are"
        shown.append(html.table(("item", "id", "users", "change"), rows, caption))
    return shown


def _users_by_item(facts: Facts, night: date) -> Counter[str]:
    """How many users have each item among their recommendations."""
    lists = ds.dataset(facts.store.path("recommendations", night)).to_table(columns=["item_id"])
    counted = lists.group_by("item_id").aggregate([([], "count_all")])
    return Counter(dict(zip(counted["item_id"].to_pylist(), counted["count_all"].to_pylist(), strict=True)))


def _categories(facts: Facts) -> list[Markup]:
    """The categories whose expected engagements grew and shrank most since the night before, in numbers of them."""
    if facts.night_before is None:
        return []
    nights = (facts.as_of - facts.night_before).days
    gains: list[tuple[float, dict[str, Any]]] = []
    for row in facts.store.rows("category_trend", facts.as_of):
        then = row["strengths"][nights] if nights < len(row["strengths"]) else None
        if then is not None:
            gains.append((row["strength"] - then, row))
    gains.sort(key=lambda gain: (-gain[0], gain[1]["category"]))
    rose, fell = [gain for gain in gains if gain[0] > 0][:SHOWN], [gain for gain in gains[::-1] if gain[0] < 0][:SHOWN]
    shown = []
    for words, moved in (("Categories that rose", rose), ("Categories that fell", fell)):
        lines = [
            (row["category"], row["strength"], _change(row["strength"], row["strength"] - gain), row["status"] or "")
            for gain, row in moved
        ]
        caption = f"{words}: engagements expected within {facts.score['metrics']['horizon_days']:g} days, all users"
        shown.append(
            html.table(("category", "expected", "change", "30 nights"), lines, caption) if lines else html.EMPTY
        )
    return shown


def _revivals(facts: Facts, remembered: Remembered) -> Markup:
    """How many interests came back, and in which items."""
    since = f" since {facts.night_before}" if facts.before else ""
    told = html.paragraph(
        f"{remembered.revived.total():,} of {remembered.pairs:,} remembered pairs revived{since}: their last event "
        "came after a long silence, when little of the interest was left."
    )
    best = remembered.revived.most_common(SHOWN)
    names = facts.titles("item_index", [item for item, _ in best])
    return told + (
        html.table(("item", "id", "revivals"), [(*names[item], count) for item, count in best], "Revived most")
        if best
        else html.EMPTY
    )
