"""Charts as SVG that needs nothing else: axes with units, lines, points, bars, intervals and marks.

Colours are Okabe and Ito's, told apart with any colour blindness. Each is a CSS variable with itself as the fallback,
and words and rules take the text's colour: a page can darken its charts, and a file of its own stands as it is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

Values = Sequence[float] | NDArray[Any]
Tick = tuple[float, str]

BLUE, ORANGE, GREEN, VERMILLION = (
    f"var(--{name}, {value})"
    for name, value in (("blue", "#0072b2"), ("orange", "#e69f00"), ("green", "#009e73"), ("vermillion", "#d55e00"))
)
SKY, PURPLE = "var(--sky, #56b4e9)", "var(--purple, #cc79a7)"
SERIES: Final = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE)
DASHES: Final = ("", "7 3", "2 2", "9 3 2 3", "4 2", "1 3")  # lines differ without colour too

CHARACTER: Final = 6.3  # mean width of one at 11 units
FOOT, RIGHT = 44, 14  # room below the plot and beside it
LEGEND_LINE: Final = 16
HALO: Final = "paint-order:stroke;stroke:var(--page, #fff);stroke-width:3px"  # keeps words apart from lines below
SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Axis:
    """What lies along one side: from `low` to `high`, with a label that names the unit, and ticks."""

    label: str
    low: float
    high: float
    ticks: Sequence[Tick]
    logarithmic: bool = False

    def share(self, values: Values) -> NDArray[np.float64]:
        """How far along the axis values lie, 0 to 1; what lies outside is put at the end."""
        ends, given = np.array([self.low, self.high]), np.asarray(values, dtype=np.float64)
        if self.logarithmic:
            ends, given = np.log(ends), np.log(np.maximum(given, self.low))
        shares: NDArray[np.float64] = np.clip((given - ends[0]) / (ends[1] - ends[0]), 0.0, 1.0)
        return shares


def linear(label: str, low: float, high: float, ticks: int = 5) -> Axis:
    """An axis with a round step."""
    high = high if high > low else low + 1.0
    step = _round_up((high - low) / ticks)
    values = np.arange(np.ceil(low / step), np.floor(high / step + 1e-9) + 1) * step + 0.0  # no -0
    return Axis(label, low, high, [(float(value), number(float(value))) for value in values])


def logarithmic(label: str, low: float, high: float, ticks: int = 6) -> Axis:
    """An axis of powers of ten, from `low` > 0."""
    high = max(high, low * 1.01)
    first, last = int(np.ceil(np.log10(low) - 1e-9)), int(np.floor(np.log10(high) + 1e-9))
    if last - first < 2:
        steps = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
        values = [value for value in steps if low * 0.999 <= value <= high * 1.001]
        return Axis(label, low, high, [(value, number(value)) for value in values], logarithmic=True)
    every = max(1, -(-(last - first) // ticks))
    return Axis(label, low, high, [(10.0**power, _power(power)) for power in range(first, last + 1, every)], True)


def days(label: str, origin: date, low: float, high: float, ticks: int = 4) -> Axis:
    """An axis of days after `origin`, whose ticks are dates, `origin` among them."""
    step = max(1, int(np.ceil((high - low) / ticks)))
    pattern = "%b %Y" if high - low > 300 else "%-d %b"
    places = [step * count for count in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
    return Axis(label, low, high, [(place, f"{origin + timedelta(days=place):{pattern}}") for place in places])


def names(label: str, words: Sequence[str]) -> Axis:
    """An axis of names, the first at its high end."""
    count = len(words)
    return Axis(label, -0.5, count - 0.5, [(count - 1 - place, word) for place, word in enumerate(words)])


@dataclass
class Chart:
    """One chart: what is drawn first lies below what follows. `height` is the plot's: legend and labels add to it."""

    title: str
    x: Axis
    y: Axis
    width: int = 440
    height: int = 220
    headed: bool = False  # whether the title is written above, not only read out
    _drawn: list[Markup] = field(default_factory=list)
    _legend: list[tuple[str, Markup]] = field(default_factory=list)

    def line(self, xs: Values, ys: Values, colour: str, dash: str = "", name: str = "") -> None:
        """A line through points."""
        style = f"fill:none;stroke:{colour};stroke-width:2;stroke-dasharray:{dash or 'none'}"
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in self._places(xs, ys))
        self._drawn.append(Markup('<polyline points="{}" style="{}"/>').format(points, style))
        self._name(name, Markup('<line x2="24" style="{}"/>').format(style))

    def points(self, xs: Values, ys: Values, colour: str, name: str = "") -> None:
        """Dots."""
        dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="3.5" style="fill:{}"/>')
        self._drawn += [dot.format(x, y, colour) for x, y in self._places(xs, ys)]
        self._name(name, dot.format(12, 0, colour))

    def rings(self, xs: Values, ys: Values, colour: str, name: str = "") -> None:
        """Rings around points."""
        ring = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="6" style="fill:none;stroke:{};stroke-width:2"/>')
        self._drawn += [ring.format(x, y, colour) for x, y in self._places(xs, ys)]
        self._name(name, ring.format(12, 0, colour))

    def bars(self, starts: Values, ends: Values, tops: Values, colour: str, name: str = "") -> None:
        """Upright bars from the foot of the plot."""
        bar = Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" style="fill:{};fill-opacity:.75"/>')
        for (left, top), (right, _) in zip(self._places(starts, tops), self._places(ends, tops), strict=True):
            self._drawn.append(bar.format(left, top, max(0.9 * (right - left), 0.5), self.height - top, colour))
        self._name(name, bar.format(4, -5, 16, 10, colour))

    def intervals(self, starts: tuple[Values, Values], ends: tuple[Values, Values], colour: str) -> None:
        """Straight lines from the points (xs, ys) of `starts` to those of `ends`."""
        for (left, low), (right, high) in zip(self._places(*starts), self._places(*ends), strict=True):
            self._drawn.append(_straight(left, low, right, high, f"stroke:{colour};stroke-width:2"))

    def triangles(self, xs: Values, colour: str, up: bool = True, name: str = "") -> None:
        """Marks below the foot of the plot."""
        places = self._places(xs, np.full(len(xs), self.y.low))
        self._drawn += [_triangle(x, foot + (11 if up else 2), up, colour) for x, foot in places]
        self._name(name, _triangle(12, 5 if up else -5, up, colour))

    def rule(self, x: float | None = None, y: float | None = None, words: str = "", dash: str = "none") -> None:
        """A line across the whole plot at an x or a y."""
        xs = (self.x.low, self.x.high) if x is None else (x, x)
        ys = (self.y.low, self.y.high) if y is None else (y, y)
        start, end = self._places(xs, ys)
        self._drawn.append(_straight(*start, *end, f"stroke:currentColor;stroke-opacity:.55;stroke-dasharray:{dash}"))
        if words:
            self.words(xs[0], ys[1], words)

    def words(self, x: float, y: float, words: str) -> None:
        """Words above a point, to the right of it as far as there is room."""
        ((left, height),) = self._places([x], [y])
        last = self._plot_width + RIGHT - CHARACTER * len(words)
        self._drawn.append(_text(min(left + 6, last), max(height - 7, 11), words, halo=True))

    def svg(self) -> Markup:
        """The chart as an SVG element."""
        legend, lines = self._legend_drawn()
        top = 14 + LEGEND_LINE * lines + (22 if self.headed else 0)
        box = f"{-self._left:g} {-top:g} {self.width:g} {self.height + top + FOOT:g}"
        head = Markup('<svg xmlns="http://www.w3.org/2000/svg" viewBox="{}" role="img" font-size="11" {}>').format(
            box, Markup('font-family="system-ui, sans-serif" fill="currentColor"')
        )
        title = Markup("<title>{}</title>").format(self.title)
        heading = [_text(0, 8 - top + 6, self.title, size=15)] if self.headed else []
        return Markup("\n").join([head, title, *heading, *legend, *self._frame(), *self._drawn, Markup("</svg>")])

    @property
    def _left(self) -> float:
        """Room for the words at the left of the plot."""
        return 8 + CHARACTER * max((len(words) for _, words in self.y.ticks), default=1) + (18 if self.y.label else 0)

    @property
    def _plot_width(self) -> float:
        return self.width - self._left - RIGHT

    def _places(self, xs: Values, ys: Values) -> list[tuple[float, float]]:
        across, up = self.x.share(xs) * self._plot_width, (1 - self.y.share(ys)) * self.height
        return list(zip(across.tolist(), up.tolist(), strict=True))

    def _name(self, name: str, drawn: Markup) -> None:
        if name:
            self._legend.append((name, drawn))

    def _legend_drawn(self) -> tuple[list[Markup], int]:
        """The legend above the plot, and how many lines it takes."""
        placed, x, line = [], 0.0, 0
        for words, drawn in self._legend:
            wide = 32 + CHARACTER * len(words)
            if x and x + wide > self._plot_width:
                x, line = 0.0, line + 1
            placed.append((x, line, drawn + _text(30, 4, words)))
            x += wide + 8
        lines = line + 1 if placed else 0
        group = Markup('<g transform="translate({:.1f} {:.1f})">{}</g>')
        return [group.format(x, -12 - LEGEND_LINE * (lines - 1 - line), each) for x, line, each in placed], lines

    def _frame(self) -> list[Markup]:
        """Axes, their ticks and labels."""
        wide, high, faint = self._plot_width, self.height, "stroke:currentColor;stroke-opacity:.13"
        parts = [Markup('<path d="M0 0V{:.1f}H{:.1f}" fill="none" stroke="currentColor"/>').format(high, wide)]
        for value, words in self.y.ticks:
            ((_, place),) = self._places([self.x.low], [value])
            parts += [_straight(0, place, wide, place, faint), _text(-6, place + 4, words, "end")]
        for value, words in self.x.ticks:
            ((place, _),) = self._places([value], [self.y.low])
            anchor = "end" if place + CHARACTER * len(words) / 2 > wide + RIGHT else "middle"
            parts += [_straight(place, 0, place, high, faint), _text(place, high + 22, words, anchor)]
        parts.append(_text(wide / 2, high + 39, self.x.label, "middle"))
        if self.y.label:
            turned = Markup('<g transform="translate({:.1f} {:.1f}) rotate(-90)">{}</g>')
            parts.append(turned.format(12 - self._left, high / 2, _text(0, 0, self.y.label, "middle")))
        return parts


def number(value: float) -> str:
    """A number as an axis or a table shows it: four digits at most, thousands apart; `no number` of NaN or infinity."""
    if not math.isfinite(value):
        return "no number"
    if value and not 1e-4 <= abs(value) < 1e7:
        mantissa, power = f"{value:.1e}".split("e")
        digits = mantissa.removesuffix(".0")
        return (f"{digits}·" if digits != "1" else "") + _power(int(power))
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def _power(power: int) -> str:
    """A power of ten, written out where that is short."""
    return f"{10.0**power:,.10g}" if -3 <= power <= 6 else "10" + str(power).translate(SUPERSCRIPTS)


def _round_up(rough: float) -> float:
    """The nearest 1, 2 or 5 times a power of ten that is not below."""
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))


def _text(x: float, y: float, words: str, anchor: str = "start", size: int = 11, halo: bool = False) -> Markup:
    shape = Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" font-size="{}" style="{}">{}</text>')
    return shape.format(x, y, anchor, size, HALO if halo else "", words)


def _straight(left: float, low: float, right: float, high: float, style: str) -> Markup:
    shape = Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" style="{}"/>')
    return shape.format(left, low, right, high, style)


def _triangle(x: float, y: float, up: bool, colour: str) -> Markup:
    shape = Markup('<path d="M{:.1f} {:.1f}H{:.1f}L{:.1f} {:.1f}Z" style="fill:{}"/>')
    return shape.format(x - 5, y, x + 5, x, y - 9 if up else y + 9, colour)
