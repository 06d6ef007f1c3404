"""Alarms: a run's figures against the bounds of the config, fixed ones or multiples of the last nights' median.

A figure outside its bounds stops the run before it publishes, or is warned of; either way it is said, and what was
warned of stands in the manifest of the run: `watched` has each figure, `alarms` those outside.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from statistics import median
from typing import Any

from halflife.config import AlarmConfig, AlarmsConfig
from halflife.errors import AuditError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Alarm:
    """A figure that is outside its bounds, in its own units; None: no bound on that side."""

    figure: str
    value: float
    low: float | None
    high: float | None
    action: str

    def __str__(self) -> str:
        if self.low is not None and self.value < self.low:
            return f"{self.figure} {self.value:.4g} is below {self.low:.4g}"
        if self.high is not None and self.value > self.high:
            return f"{self.figure} {self.value:.4g} is above {self.high:.4g}"
        return f"{self.figure} is no number"

    def described(self) -> dict[str, Any]:
        """For the manifest."""
        return {**asdict(self), "value": _as_json(self.value)}


def judge(figure: str, value: float, limits: AlarmConfig, recent: Sequence[float]) -> Alarm | None:
    """The alarm that a value raises, if any; `recent` are the last nights' values, of which a relative bound is a
    multiple of the median: there is none without nights, or where they had nothing."""
    if limits.action == "off":
        return None
    unit = 1.0
    if limits.times_median:
        unit = median(recent) if recent else 0.0
        if unit <= 0:
            return None
    low, high = (None if bound is None else bound * unit for bound in (limits.low, limits.high))
    if (low is None or value >= low) and (high is None or value <= high):
        return None
    return Alarm(figure, value, low, high, limits.action)


@dataclass
class Watch:
    """The alarms of one run: what it watched, and what it was warned of. `before` are the manifests of the last nights
    of the same job."""

    limits: AlarmsConfig
    before: Sequence[Mapping[str, Any]]
    watched: dict[str, float] = field(default_factory=dict)
    raised: list[Alarm] = field(default_factory=list)

    def figures(
        self,
        limits: str,
        values: Mapping[str, float],
        because: str = "",
        comparable: Callable[[Mapping[str, Any]], bool] = lambda _manifest: True,
    ) -> None:
        """Hold figures against `alarms.<limits>` of the config; relative bounds look at nights that are `comparable`.

        `because` is said beside an alarm. Raises AuditError where a figure is to stop the run.
        """
        earlier = [night["metrics"].get("watched", {}) for night in self.before if comparable(night)]
        for figure, value in values.items():
            self._hold(limits, figure, value, [night[figure] for night in earlier if figure in night], because)

    def matured(self, figure: str, night: date, value: float) -> None:
        """Hold a figure of a night that is over against `alarms.<figure>`. A run judges several such nights: relative
        bounds look at those before this one, as they were judged last, be it by this run.

        Raises AuditError where the figure is to stop the run.
        """
        first, this = f"{figure} of {date.min}", f"{figure} of {night}"
        known: dict[str, Any] = {}
        for watched in (*(run["metrics"].get("watched", {}) for run in self.before), self.watched):
            known |= {each: found for each, found in watched.items() if first <= each < this}
        recent = [known[each] for each in sorted(known)][-self.limits.recent_nights :]
        self._hold(figure, this, value, recent)

    def described(self) -> dict[str, Any]:
        """For the manifest."""
        watched = {figure: _as_json(value) for figure, value in self.watched.items()}
        return {"watched": watched, "alarms": [alarm.described() for alarm in self.raised]}

    def _hold(self, limits: str, figure: str, value: float, recent: Iterable[float | None], because: str = "") -> None:
        """Watch a figure, and say where it is outside its bounds; `recent` may hold what is no number."""
        self.watched[figure] = value
        numbers = [each for each in recent if each is not None and math.isfinite(each)]
        alarm = judge(figure, value, getattr(self.limits, limits), numbers)
        if alarm is None:
            return
        said = f"{alarm} ({because})" if because else str(alarm)
        if alarm.action == "stop":
            raise AuditError(f"{said}; nothing was published; mend the cause, or change alarms.{limits}")
        log.warning("alarm: %s", said)
        self.raised.append(alarm)


def _as_json(value: float) -> float | None:
    """A figure as a manifest holds it: null stands for no number, which JSON does not have."""
    return value if math.isfinite(value) else None
