"""An explanation as a picture: interest over time, the events that made it, and its decay ahead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from halflife import chart
from halflife.answers.explain import Explanation, memory_curve, seconds_of
from halflife.chart import BLUE, GREEN, ORANGE, VERMILLION, Chart
from halflife.decay import SECONDS_PER_DAY, Floats
from halflife.nights import instant

POINTS: Final = 400
LONGEST_PAST_DAYS, LONGEST_AHEAD_DAYS = 400.0, 730.0


def svg(explained: Explanation, curve: Callable[[Floats], Floats]) -> str:
    """The picture of an explanation as a file of its own; `curve` is as in `draw`."""
    title = (
        f"Interest of user {explained.user_id} in {explained.title or explained.item_id}, night of {explained.as_of}"
    )
    return draw(explained, curve, title, width=960, height=300, headed=True).svg() + "\n"


def draw(
    explained: Explanation,
    curve: Callable[[Floats], Floats],
    title: str,
    revived: NDArray[np.bool_] | None = None,
    width: int = 440,
    height: int = 220,
    headed: bool = False,
) -> Chart:
    """The chart of an explanation, in the size that Chart takes.

    `curve` is the expected strength as a function of days after the night; `revived` (n,) are the events that are
    marked as revivals.
    """
    event_days = (seconds_of(explained.events) - instant(explained.as_of).timestamp()) / SECONDS_PER_DAY
    first = max(float(event_days.min(initial=-30.0)) * 1.03, -LONGEST_PAST_DAYS)
    last = min(max(30.0, 2 * (explained.halves_after_days or 0.0), -first / 3), LONGEST_AHEAD_DAYS)
    past = np.unique(np.concatenate([np.linspace(first, 0, POINTS), event_days[event_days > first]]))
    ahead = np.linspace(0, last, POINTS // 4)
    own, own_ahead, all_ahead = memory_curve(explained)(past), memory_curve(explained)(ahead), curve(ahead)
    highest = 1.08 * max(float(np.max([own.max(), own_ahead.max(), all_ahead.max()])), 1e-9)
    drawn = Chart(
        title,
        chart.days("date (UTC)", explained.as_of, first, last),
        chart.linear(f"expected strength, next {explained.horizon_days:g} days", 0, highest),
        width,
        height,
        headed,
    )
    drawn.line(past, np.maximum(own, 0), BLUE, name="own events")
    drawn.line(ahead, np.maximum(own_ahead, 0), BLUE, "6 4", name="ahead")
    drawn.line(ahead, all_ahead, VERMILLION, "2 3", name="with affinity, ahead")
    seen, given = event_days >= first, explained.events["strength"].to_numpy() > 0
    drawn.triangles(event_days[seen & given], GREEN, name="event")
    if (seen & ~given).any():
        drawn.triangles(event_days[seen & ~given], VERMILLION, up=False, name="event that takes interest away")
    if revived is not None and (seen & revived).any():
        times = event_days[seen & revived]
        drawn.rings(times, memory_curve(explained)(times), ORANGE, name="revival")
    drawn.rule(x=0, words="tonight")
    days = explained.halves_after_days
    if days is not None and days <= last:
        drawn.points([days], [explained.expected / 2], VERMILLION)
        drawn.words(days, explained.expected / 2, f"halved after {days:.3g} days")
    return drawn
