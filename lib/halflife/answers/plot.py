"""An explanation as a picture: interest over time, the events that made it, and its decay ahead. SVG, no library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from typing import Final

import numpy as np

from halflife.answers.explain import Explanation, memory_curve, seconds_of
from halflife.decay import SECONDS_PER_DAY, Floats
from halflife.nights import instant

WIDTH, HEIGHT = 960, 420
LEFT, RIGHT, TOP, BOTTOM = 78, 20, 64, 62
POINTS: Final = 600
LONGEST_PAST_DAYS, LONGEST_AHEAD_DAYS = 400.0, 730.0
# Okabe and Ito's colours: told apart with any colour blindness; the lines differ in their dashes too.
BLUE, VERMILLION, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#666666"


@dataclass(frozen=True)
class _Axes:
    """From days after tonight and strength to places on the page."""

    first: float
    last: float
    highest: float

    def x(self, day: float) -> float:
        return LEFT + (day - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)

    def y(self, strength: float) -> float:
        return HEIGHT - BOTTOM - strength / self.highest * (HEIGHT - TOP - BOTTOM)

    def line(self, days: Floats, strengths: Floats, colour: str, dash: str = "") -> str:
        points = " ".join(f"{self.x(x):.1f},{self.y(max(y, 0.0)):.1f}" for x, y in zip(days, strengths, strict=True))
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>'


def svg(explained: Explanation, curve: Callable[[Floats], Floats]) -> str:
    """The picture of an explanation; `curve` is the expected strength as a function of days after the night."""
    tonight = instant(explained.as_of)
    event_days = (seconds_of(explained.events) - tonight.timestamp()) / SECONDS_PER_DAY
    first = max(float(event_days.min(initial=-30.0)) * 1.03, -LONGEST_PAST_DAYS)
    last = min(max(30.0, 2 * (explained.halves_after_days or 0.0), -first / 3), LONGEST_AHEAD_DAYS)
    past = np.unique(np.concatenate([np.linspace(first, 0, POINTS), event_days[event_days > first]]))
    ahead = np.linspace(0, last, POINTS)
    own, own_ahead, all_ahead = memory_curve(explained)(past), memory_curve(explained)(ahead), curve(ahead)
    axes = _Axes(first, last, 1.08 * max(float(np.max([own.max(), own_ahead.max(), all_ahead.max()])), 1e-9))
    seen = event_days >= first
    strengths = explained.events["strength"].to_numpy()
    parts = [
        *_frame(axes, explained, tonight),
        axes.line(past, own, BLUE),
        axes.line(ahead, own_ahead, BLUE, "6 4"),
        axes.line(ahead, all_ahead, VERMILLION, "2 3"),
        *(_event(axes, day, strength > 0) for day, strength in zip(event_days[seen], strengths[seen], strict=True)),
        _text(axes.x(0) + 4, TOP + 10, "tonight", GREY),
        f'<line x1="{axes.x(0):.1f}" x2="{axes.x(0):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{GREY}"/>',
        *_halved(axes, explained),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _frame(axes: _Axes, explained: Explanation, tonight: datetime) -> list[str]:
    """Title, legend, axes with their units."""
    name = explained.title or explained.item_id
    parts = [
        _text(LEFT, 20, f"Interest of user {explained.user_id} in {name}, night of {explained.as_of}", size=15),
        *_legend([("own events", BLUE, ""), ("ahead", BLUE, "6 4"), ("with affinity, ahead", VERMILLION, "2 3")]),
        _text(14, HEIGHT / 2, f"expected strength, next {explained.horizon_days:g} days", turn=True),
        _text((LEFT + WIDTH) / 2, HEIGHT - 12, "date (UTC)", anchor="middle"),
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="{GREY}"/>',
    ]
    step = _step(axes.highest / 4)
    for strength in np.arange(0, axes.highest, step):
        place = axes.y(float(strength))
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}" stroke="#dddddd"/>')
        parts.append(_text(LEFT - 6, place + 4, f"{strength:.4g}", anchor="end"))
    for day in np.linspace(axes.first, axes.last, 7):
        date = (tonight + timedelta(days=float(day))).date()
        parts.append(_text(axes.x(float(day)), HEIGHT - BOTTOM + 30, str(date), anchor="middle"))
    return parts


def _legend(entries: list[tuple[str, str, str]]) -> list[str]:
    parts, place = [], float(LEFT)
    for words, colour, dash in entries:
        parts.append(
            f'<line x1="{place}" x2="{place + 26}" y1="38" y2="38" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"/>'
        )
        parts.append(_text(place + 32, 42, words))
        place += 62 + 7 * len(words)
    parts.append(_triangle(place, 42, True) + _text(place + 10, 42, "event"))
    return [*parts, _triangle(place + 70, 34, False) + _text(place + 80, 42, "event that takes interest away")]


def _event(axes: _Axes, day: float, positive: bool) -> str:
    place = axes.x(day)
    return _triangle(place, HEIGHT - BOTTOM + 12 if positive else HEIGHT - BOTTOM + 3, positive)


def _triangle(x: float, y: float, up: bool) -> str:
    tip = y - 9 if up else y + 9
    colour = GREEN if up else VERMILLION
    return f'<path d="M{x - 5:.1f} {y:.1f}H{x + 5:.1f}L{x:.1f} {tip:.1f}Z" fill="{colour}" fill-opacity="0.8"/>'


def _halved(axes: _Axes, explained: Explanation) -> list[str]:
    """A mark where the interest will have halved, if the picture reaches so far."""
    days = explained.halves_after_days
    if days is None or days > axes.last:
        return []
    x, y = axes.x(days), axes.y(explained.expected / 2)
    words = f"halved after {days:.3g} days"
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{VERMILLION}"/>', _text(x + 8, y - 6, words)]


def _text(
    x: float, y: float, words: str, colour: str = "#222222", anchor: str = "start", size: int = 12, turn: bool = False
) -> str:
    turned = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{"middle" if turn else anchor}" font-size="{size}"'
    return f'<text {where} fill="{colour}"{turned}>{escape(words)}</text>'


def _step(rough: float) -> float:
    """The nearest 1, 2 or 5 times a power of ten that is not below."""
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough))
