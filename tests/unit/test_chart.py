"""Charts: places follow the axes, ticks are round, words are text."""

from __future__ import annotations

import re
from datetime import date
from xml.etree import ElementTree

import pytest

from halflife import chart
from halflife.chart import BLUE, Chart
from halflife.report.html import percent


def drawn() -> Chart:
    return Chart("A chart", chart.linear("x (days)", 0, 10), chart.linear("y (%)", 0, 100))


def points(svg: str) -> list[tuple[float, float]]:
    (line,) = ElementTree.fromstring(svg).findall(".//{*}polyline")
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in line.attrib["points"].split())]


def test_a_line_lies_where_its_axes_put_it() -> None:
    each = drawn()
    each.line([0, 5, 10], [0, 100, 50], BLUE)
    (left, foot), (middle, top), (right, half) = points(each.svg())
    assert (left, top) == (0, 0)
    assert middle == pytest.approx(right / 2, abs=0.06)
    assert half == pytest.approx(foot / 2, abs=0.06)


def test_what_lies_outside_is_put_at_the_edge() -> None:
    each = drawn()
    each.line([-5, 20], [50, 50], BLUE)
    (left, _), (right, _) = points(each.svg())
    each.line([0, 10], [50, 50], BLUE)
    assert left == 0
    assert f'points="0.0,{points(each.svg().replace("polyline", "other", 1))[0][1]} {right},' in each.svg()


def test_equal_factors_are_equal_lengths_on_a_logarithmic_axis() -> None:
    axis = chart.logarithmic("score", 1e-6, 1.0)
    shares = axis.share([1e-6, 1e-4, 1e-2, 1.0])
    assert shares.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert axis.share([0.0])[0] == 0  # what has no logarithm
    assert [words for _, words in axis.ticks] == ["10⁻⁶", "10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1", "1"]


def test_a_short_logarithmic_axis_has_ticks_between_the_powers_of_ten() -> None:
    assert [value for value, _ in chart.logarithmic("x", 20, 300).ticks] == [20, 50, 100, 200]


def test_ticks_are_round_and_lie_on_the_axis() -> None:
    assert [words for _, words in chart.linear("x", -0.013, 0.031, ticks=4).ticks] == ["0", "0.02"]
    days = chart.days("date", date(2017, 12, 1), -20, 5)
    assert [words for _, words in days.ticks] == ["17 Nov", "24 Nov", "1 Dec"]


def test_axes_are_labelled_and_words_are_never_markup() -> None:
    each = Chart("<script>1</script>", chart.names("<b>", ["<i>"]), chart.linear("y (%)", 0, 1), headed=True)
    each.points([0], [0.5], BLUE, name="<u>")
    words = list(ElementTree.fromstring(each.svg()).itertext())
    assert {"<script>1</script>", "<b>", "<i>", "<u>", "y (%)"} <= set(words)


def test_lines_that_the_legend_names_are_in_it_once_and_above_the_plot() -> None:
    each = drawn()
    for name in ("one", "two", ""):
        each.line([0, 1], [0, 1], BLUE, name=name)
    places = re.findall(r'translate\(([-\d.]+) ([-\d.]+)\)">\s*<line', each.svg())
    assert len(places) == 2
    assert all(float(height) < 0 for _, height in places)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.1234, "0.123"),
        (1234.5, "1,234"),
        (999.4, "999"),
        (-999.7, "-1,000"),
        (float("nan"), "no number"),
        (float("-inf"), "no number"),
        (2.5e-7, "2.5·10⁻⁷"),
        (1e-5, "10⁻⁵"),
        (3e7, "3·10⁷"),
        (-0.02, "-0.02"),
    ],
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert chart.number(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [(12.5, "+1,250 %"), (-0.5, "-50 %"), (0.0, "+0 %"), (None, ""), (float("nan"), ""), (float("inf"), "")],
)
def test_a_share_is_said_in_percent(share: float | None, shown: str) -> None:
    assert percent(share, signed=True) == shown
