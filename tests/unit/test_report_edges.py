"""The report's sections where a night is not as others are: nothing moved, nothing came true, not all was written."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from markupsafe import Markup

import published_warehouse as published
from halflife.chart import Chart
from halflife.report import changed, examples, fading, html, quality
from halflife.report.examples import Remembered
from halflife.report.facts import Facts, read
from halflife.warehouse import Warehouse

NIGHT = published.TRAINED
BEFORE = NIGHT - timedelta(days=1)


def two_nights(root: Path, before: dict[str, Any], tonight: dict[str, Any]) -> Facts:
    """The facts of a night after another one, each with more of its own."""
    store = Warehouse(root)
    for night, more in ((BEFORE, before), (NIGHT, tonight)):
        published.publish_night(store, night, law_days=20.0, **more)
    return read(store, NIGHT)


def text_of(shown: Markup) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", shown).split())


def chart_of(monkeypatch: pytest.MonkeyPatch, section: Callable[[], object], title: str) -> tuple[Chart, str]:
    """The chart of a title that a section draws, and its caption."""
    drawn: dict[str, tuple[Chart, str]] = {}

    def figure(chart: Chart, caption: object) -> Markup:
        drawn[chart.title] = (chart, str(caption))
        return chart.svg()

    monkeypatch.setattr(html, "figure", figure)
    section()
    return drawn[title]


def test_a_night_in_which_no_item_moved(tmp_path: Path) -> None:
    lists = {"recommendations": [(f"user-{user}", 1, "tea", 0.5, "") for user in range(9)]}
    shown = changed.section(two_nights(tmp_path, lists, lists), Remembered())
    assert "Items that rose" in shown


def test_a_category_may_fall_to_nothing_or_rise_from_it(tmp_path: Path) -> None:
    trends = [
        (name, now, 2, 0.2, None, "steady", [now, then] + [None] * 29)
        for name, now, then in (("food", 0.0, 25.0), ("drinks", 25.0, 0.0))
    ]
    shown = text_of(changed.section(two_nights(tmp_path, {}, {"category_trend": trends}), Remembered()))
    assert "food 0 -100 % steady" in shown
    assert "drinks 25 steady" in shown  # a change in percent there is none


def test_the_axes_hold_the_scores_of_both_nights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wide = {"edges": [0.001, 0.01, 0.1, 0.5], "counts": [5, 3, 2], "quantiles": {"p50": 0.01}}
    narrow = {"edges": [0.0001, 0.0002], "counts": [9], "quantiles": {"p50": 0.00015}}
    found = two_nights(
        tmp_path, {"more_figures": {"score_histogram": narrow}}, {"more_figures": {"score_histogram": wide}}
    )
    drawn, _ = chart_of(monkeypatch, lambda: changed.section(found, Remembered()), "Distribution of the scores")
    assert drawn.x.low == 0.0001
    assert drawn.y.high > 100  # per cent: all of the earlier night's scores lie within a doubling


def test_scores_of_which_nothing_came_true_are_part_of_the_calibration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, as_of = Warehouse(tmp_path), NIGHT + timedelta(days=7)
    published.publish_night(store, NIGHT, law_days=20.0)
    run = store.begin("evaluate", as_of, {})
    assert run is not None
    values = [("all", {"auc": 0.9})] + [
        (f"score:2^{octave}", {"mean_score": 1.4 * 2.0**octave, "base_rate": rate, "pairs": pairs})
        for octave, rate, pairs in ((-9, 0.0021, 5000.0), (-6, 0.0, 300.0), (-4, 0.07, 5000.0))
    ]
    run.write_rows(
        "metrics",
        [
            (NIGHT, "halflife", None, segment, metric, value, 40, None, None, None)
            for segment, each in values
            for metric, value in each.items()
        ],
    )
    run.path("evaluation").mkdir()
    (run.path("evaluation") / "metrics.json").write_text("[]")
    store.publish(run, {}, {"nights": 1})
    drawn, caption = chart_of(monkeypatch, lambda: quality.section(read(store, NIGHT)), "Calibration")
    assert "10,300 pairs" in caption
    assert "none came true" in caption
    line = r'<line x1="([\d.]+)" y1="([\d.]+)" x2="\1" y2="([\d.]+)" style="stroke:var\(--blue'
    feet = [float(foot) for _, foot, _ in re.findall(line, drawn.svg())]
    assert len(feet) == 3
    assert [foot == drawn.height for foot in feet] == [False, True, False]
    assert drawn.svg().count("<circle") == 2 + 1  # and one in the legend


@pytest.mark.parametrize("more", [{"score_error": 0.125}, {"scores": []}])
def test_the_score_of_an_example_is_the_one_that_was_written(tmp_path: Path, more: dict[str, Any]) -> None:
    found = two_nights(tmp_path, {}, more)
    remembered = examples.read(found)
    pair = next(iter(remembered.examples.values()))
    ids = (published.USERS[pair.user], published.ITEMS[pair.item])
    scores = {(row["user_id"], row["item_id"]): row["score"] for row in found.store.rows("scores", NIGHT)}
    written = f"{scores[ids]:.4f}" if scores else "not written"
    assert f"events, score {written}" in text_of(fading.section(found, remembered))


def test_events_that_are_not_those_of_the_scores_are_shown_in_no_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = two_nights(tmp_path, {}, {})
    remembered = examples.read(found)
    published.publish_events(found.store, NIGHT, published.events_table(published.EVENTS[:2]))
    monkeypatch.setattr(fading, "attention", lambda *_: pytest.fail("it would be of other events"))
    assert "published again since that night was scored" in text_of(fading.section(found, remembered))
