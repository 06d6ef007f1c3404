"""The figures by which a matured night is believed."""

from __future__ import annotations

from datetime import date

import pytest

from halflife.evaluation import trust
from halflife.evaluation.rows import MetricRow

NIGHT = date(2026, 3, 1)


def rows(**values: float) -> list[MetricRow]:
    """Rows from model__metric=value, with a difference and segments beside each of which only known pairs count."""
    found = []
    for name, value in values.items():
        model, metric = name.split("__")
        row = MetricRow(NIGHT, model, "all", metric.replace("_at_", "@"), value, 5)
        found += [row._replace(segment="item:new", value=9.0), row, row._replace(baseline="als", value=7.0)]
        found += [row._replace(segment="item:repeat", value=value if metric == "pairs" else value**2)]
    return found


def test_the_figures_are_calibrations_and_the_leads_over_popularity() -> None:
    every = rows(
        ours__mean_score=0.3,
        ours__base_rate=0.2,
        ours__pairs=1e9,
        ours__log_loss=0.6,
        popularity__log_loss=0.8,
        list__ndcg_at_10=0.25,
        popularity__ndcg_at_10=0.1,
    )
    found = trust.figures(every, "ours", "list", 10)
    expected = {"calibration": 1.5, "repeat_calibration": 2.25, "log_loss_lead": 0.25, "ndcg_lead": 0.15}
    assert found == pytest.approx(expected)


def test_what_was_not_measured_is_left_out() -> None:
    assert trust.figures(rows(list__ndcg_at_10=0.25, ours__mean_score=0.3), "ours", "list", 10) == {}


@pytest.mark.parametrize(("foretold", "came_true"), [(5, 1), (1, 5), (0, 0)])
def test_a_handful_of_pairs_is_no_evidence(foretold: int, came_true: int) -> None:
    assert 0.5 < calibration(foretold, came_true) < 2.0


@pytest.mark.parametrize(("foretold", "came_true"), [(40, 10), (10, 60), (30, 0)])
def test_many_pairs_that_came_out_otherwise_are(foretold: int, came_true: int) -> None:
    assert not 0.5 < calibration(foretold, came_true) < 2.0


def calibration(foretold: float, came_true: float) -> float:
    pairs = 1000.0
    values = {"ours__mean_score": foretold / pairs, "ours__base_rate": came_true / pairs, "ours__pairs": pairs}
    return trust.figures(rows(**values), "ours", "list", 10)["calibration"]
