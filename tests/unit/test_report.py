"""The report of a night: what it shows stands in the tables, text is text, and nobody is named by an id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

import browser
import published_warehouse as published
from halflife import cli, forgetting
from halflife.warehouse import Warehouse

NIGHT = published.TRAINED
BEFORE = NIGHT - timedelta(days=1)
HOSTILE = "<script>alert('x')</script>"
HISTOGRAM = {"edges": [0.0, 0.001, 0.01, 0.1, 0.5], "counts": [2, 5, 3, 2], "quantiles": {"p50": 0.0061, "p99": 0.38}}
EARLIER = {**HISTOGRAM, "counts": [1, 5, 4, 2], "quantiles": {"p50": 0.0122, "p99": 0.38}}
ALARMS = [{"figure": "encoded share", "value": 0.91, "low": None, "high": 0.5, "action": "warn"}]


def recommendations(counts: dict[str, int]) -> list[tuple[Any, ...]]:
    """Lists in which each item is so many users' best."""
    return [(f"user-{item}-{n}", 1, item, 0.5, "") for item, count in counts.items() for n in range(count)]


def metrics(night: date) -> list[tuple[Any, ...]]:
    """Rows of the metrics of a night: the model, two baselines, their differences, and calibration."""

    def row(
        model: str, metric: str, value: float, baseline: str | None = None, segment: str = "all"
    ) -> tuple[Any, ...]:
        interval = (0.001, value - 0.01, value + 0.01) if baseline or "@" in metric else (None, None, None)
        return (night, model, baseline, segment, metric, value, 40, *interval)

    return [
        row("halflife", "ndcg@10", 0.2416),
        row("half_life_tuned", "ndcg@10", 0.2294),
        row("popularity", "ndcg@10", 0.0970),
        row("halflife", "ndcg@10", 0.0122, "half_life_tuned"),
        row("halflife", "ndcg@10", 0.1446, "popularity"),
        row("halflife", "ndcg@10", -0.0321, "half_life_tuned", "item:new"),
        row("halflife", "auc", 0.928),
        row("halflife", "auc", 0.035, "popularity"),
        row("halflife", "revival_precision", 0.25),
        *(
            row("halflife", metric, value, segment=f"score:2^{octave}")
            for octave, rate in ((-9, 0.0021), (-4, 0.07))
            for metric, value in (("mean_score", 1.4 * 2.0**octave), ("base_rate", rate), ("pairs", 5000.0))
        ),
    ]


def evaluate(store: Warehouse, as_of: date, rows: Sequence[tuple[Any, ...]]) -> None:
    run = store.begin("evaluate", as_of, {"rows": len(rows), "as_of": str(as_of)})
    assert run is not None
    run.write_rows("metrics", rows)
    run.path("evaluation").mkdir()
    (run.path("evaluation") / "metrics.json").write_text("[]")
    store.publish(run, {}, {"nights": 1})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Warehouse:
    """Two scored nights, a hostile title, an alarm."""
    monkeypatch.setattr(published, "TITLES", (HOSTILE, None, "Bread", "Soap"))
    store = Warehouse(tmp_path / "warehouse")
    published.publish_model(store, BEFORE, stretch=[-0.5, 0.25, 0.0, 0.0])
    trend = ("drinks", 30.0, 2, 0.2, None, "rising", [30.0, 25.0] + [None] * 29)
    for night, histogram, lists in (
        (BEFORE, EARLIER, {"tea": 9, "milk": 7}),
        (NIGHT, HISTOGRAM, {"tea": 4, "milk": 12}),
    ):
        published.publish_night(
            store,
            night,
            more_figures={
                "score_histogram": histogram,
                "alarms": ALARMS if night == NIGHT else [],
                "watched": {"encoded share": 0.91},
            },
            recommendations=recommendations(lists),
            category_trend=[trend] if night == NIGHT else [],
        )
    return store


def report(store: Warehouse, capfd: pytest.CaptureFixture[str], night: date = NIGHT) -> Path:
    """The file that the command writes."""
    arguments = ["report", "--config", str(published.config(store.root)), "--as-of", str(night)]
    assert cli.main(arguments) == 0
    path = Path(capfd.readouterr().out.splitlines()[-1])
    assert path == store.root / "reports" / f"as_of={night}" / "report.html"
    return path


def text_of(page: Path) -> str:
    """The words of a page."""
    return " ".join(
        re.sub(r"<[^>]*>", " ", re.sub(r"<style>.*?</style>", "", page.read_text(), flags=re.DOTALL)).split()
    )


def test_the_page_says_what_changed_since_the_night_before(store: Warehouse, capfd: pytest.CaptureFixture[str]) -> None:
    shown = text_of(report(store, capfd))
    assert f"Since the night of {BEFORE}" in shown
    assert "50 % 0.0061 0.0122 -50 %" in shown  # a quantile, the night before, the change
    assert "milk milk 12 +5" in shown
    assert "tea 4 -5" in shown
    assert "drinks 30 +20 % rising" in shown


def test_figures_out_of_their_bounds_stand_before_all_else(store: Warehouse, capfd: pytest.CaptureFixture[str]) -> None:
    shown = text_of(report(store, capfd))
    alarm = shown.index("score encoded share 0.91 at most 0.5 warn")
    assert alarm < shown.index("pairs scored")
    assert "Look at this first" not in text_of(report(store, capfd, BEFORE))


def test_a_night_before_any_evaluation_says_so(store: Warehouse, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no night was evaluated" in text_of(report(store, capfd))


def test_an_evaluation_makes_a_new_report_and_nothing_else_does(
    store: Warehouse, capfd: pytest.CaptureFixture[str]
) -> None:
    def published_run() -> Any:
        return (store.manifest("report", NIGHT) or {})["run_id"]

    page, first = report(store, capfd), published_run()
    report(store, capfd)
    assert published_run() == first
    evaluate(store, NIGHT + timedelta(days=7), metrics(BEFORE))
    shown = text_of(report(store, capfd))
    assert published_run() != first
    assert page.exists()
    assert f"the night of {BEFORE}, the nearest one that was judged" in shown
    assert "single half-life, tuned 0.2294" in shown
    assert "item: new 40 -0.0321 -0.0421 -0.0221" in shown
    assert "AUC popularity 0.035 0.025 0.045" in shown
    assert "of them bought again within the horizon 25 %" in shown


def test_no_user_is_named_by_an_id_and_titles_are_text(store: Warehouse, capfd: pytest.CaptureFixture[str]) -> None:
    page = report(store, capfd)
    assert not set(filter(None, published.USERS)) & set(re.findall(r"\w+", text_of(page)))
    assert "<script" not in page.read_text()
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page.read_text()
    assert re.search(r"User no\. \d+ and", text_of(page))


def test_what_is_left_of_a_pair_is_drawn_with_its_events_and_revivals(tmp_path: Path) -> None:
    from halflife.answers.explain import explain
    from halflife.report import facts, fading

    store = Warehouse(tmp_path)
    days = (-200.0, -90.0, -85.0, -1.0)
    published.publish_night(store, NIGHT, [published.Event(0, 0, day) for day in days], law_days=20.0)
    found = facts.read(store, NIGHT)
    explained = explain(found.night, "ann", "tea")
    assert fading.revivals(explained, found).tolist() == [False, True, False, True]


def test_after_a_request_to_be_forgotten_no_report_shows_the_user_s_events(
    store: Warehouse, capfd: pytest.CaptureFixture[str]
) -> None:
    page = report(store, capfd)
    forgetting.ask(store, NIGHT, ["ann"], [])
    forgetting.erase(store, NIGHT + timedelta(days=1), forgetting.requests(store))
    assert "Removed" in page.read_text()
    assert "User no. 0" not in text_of(report(store, capfd))


def test_a_night_that_is_not_scored_is_named(store: Warehouse, capfd: pytest.CaptureFixture[str]) -> None:
    config = str(published.config(store.root))
    assert cli.main(["report", "--config", config, "--as-of", "2031-01-01"]) == 3
    assert "run jobs/score.py --as-of 2031-01-01 first" in capfd.readouterr().err


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no browser is installed: apt-get install chromium")
def test_a_browser_shows_every_chart_and_loads_nothing(
    store: Warehouse, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    evaluate(store, NIGHT + timedelta(days=7), metrics(NIGHT))
    page = report(store, capfd)
    assert browser.console(page, tmp_path) == []
    for width in (1280, 390):
        found = browser.measured(page, tmp_path, width)
        titles = {chart["title"] for chart in found["charts"]}
        assert {
            "Distribution of the scores",
            "Lead in NDCG@10",
            "Calibration",
            "Stretch of the users",
        } - titles == set()
        assert [chart for chart in found["charts"] if not chart["data"] or chart["outside"]] == []
        assert found["beyond"] == 0
        assert found["loaded"] == []
