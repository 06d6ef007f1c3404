"""Domains of synthetic logs: which kinds of event there are, how long each is remembered, and how people come back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from halflife.config import StrengthConfig
from halflife.decay import LN2, Floats

STRENGTH: Final = StrengthConfig()


@dataclass(frozen=True)
class EventType:
    """One kind of event.

    `weight` is its signed strength; an event of negative weight takes interest away. What it adds or takes halves in
    `half_life_days` for a user of stretch 1. `share` is how often an event is of this kind, relative to the others.
    """

    name: str
    weight: float
    half_life_days: float
    share: float
    dwell_seconds: float | None = None  # the median; None: the kind has no dwell


@dataclass(frozen=True)
class Domain:
    """How people behave.

    Interest is a rate, in events a day. An event of strength 1 adds `jump_per_day` to the rate of its user and item.
    Each user's half-lives are those of the types times a stretch between 2^-max_rho and 2^max_rho.
    """

    name: str
    types: tuple[EventType, ...]
    target: str  # the type that a recommender would predict
    jump_per_day: float
    interests_a_day: float = 0.5  # events of a user that no earlier event led to: the affinity over all items
    activity_spread: float = 0.5  # standard deviation over users of the logarithm of the former
    max_rho: float = 1.0
    categories: int = 8
    taste_concentration: float = 0.5  # of a Dirichlet distribution over categories: below 1 a user likes few of them
    popularity_power: float = 0.8  # the r-th item of a category is liked r^-power as much as its first
    new_item_share: float = 0.2  # of the items appear on a day at random, the others are there from the first on
    busiest_hour: int = 20
    hour_swing: float = 0.7  # of a cosine over the day: 0 is flat, 1 leaves nothing twelve hours later
    weekend: float = 1.3  # rate of a Saturday or Sunday beside that of another day
    revival_share: float = 0.1  # of the pairs that fell silent get a planted burst
    burst_events: int = 4

    def __post_init__(self) -> None:
        if self.followers * 2**self.max_rho >= 1:
            raise ValueError(f"{self.name}: an event leads to one more or more, interest would never die out")

    @property
    def followers(self) -> float:
        """How many events one event leads to, on average, where the user's stretch is 1."""
        return float(self.shares @ (self.jumps * self.half_lives_days / LN2))

    @property
    def half_life_days(self) -> float:
        """Of an average event: the types' half-lives, weighted by how much each adds to interest."""
        return float(np.average(self.half_lives_days, weights=self.shares * self.jumps))

    @property
    def weights(self) -> Floats:
        """Of the types, (T,)."""
        return np.array([kind.weight for kind in self.types])

    @property
    def jumps(self) -> Floats:
        """What an event of each type adds to the rate at usual dwell, (T,) a day; 0 for negative types."""
        jumps: Floats = self.jump_per_day * np.maximum(self.weights, 0.0)
        return jumps

    def strengths(self, types: NDArray[np.int32], dwell_seconds: Floats) -> Floats:
        """Signed strength of events, (n,), by the formula of `halflife.config.StrengthConfig`; NaN is no dwell."""
        dwell = np.minimum(dwell_seconds, STRENGTH.dwell_cap_seconds) / STRENGTH.dwell_reference_seconds
        strengths: Floats = self.weights[types] * np.where(np.isnan(dwell), 1.0, np.log2(1 + dwell))
        return strengths

    @property
    def half_lives_days(self) -> Floats:
        """Of the types, (T,)."""
        return np.array([kind.half_life_days for kind in self.types])

    @property
    def shares(self) -> Floats:
        """Of the types among events that follow another, (T,), summing to 1."""
        return _normalised(np.array([kind.share for kind in self.types]))

    @property
    def first_shares(self) -> Floats:
        """The same among events that follow none, (T,): nobody cancels what was never touched."""
        return _normalised(np.where(self.weights > 0, self.shares, 0.0))

    @property
    def hours(self) -> Floats:
        """Factor of the rates in each hour of a UTC day, (24,), of mean 1."""
        factors: Floats = 1 + self.hour_swing * np.cos(2 * np.pi * (np.arange(24) - self.busiest_hour) / 24)
        return factors

    @property
    def weekdays(self) -> Floats:
        """Factor of the rates on each weekday, (7,) from Monday, of mean 1."""
        return 7 * _normalised(np.array([1.0] * 5 + [self.weekend] * 2))


def _normalised(values: Floats) -> Floats:
    normalised: Floats = values / values.sum()
    return normalised


SHOP: Final = Domain(
    name="shop",
    types=(
        EventType("view", weight=0.2, half_life_days=3.0, share=0.70),
        EventType("cart", weight=0.5, half_life_days=7.0, share=0.14),
        EventType("purchase", weight=1.0, half_life_days=14.0, share=0.12),
        EventType("cancel", weight=-1.0, half_life_days=7.0, share=0.04),
    ),
    target="purchase",
    jump_per_day=0.12,
)
VIDEO: Final = Domain(
    name="video",
    types=(
        EventType("play", weight=0.3, half_life_days=4.0, share=0.78, dwell_seconds=60.0),
        EventType("like", weight=1.0, half_life_days=12.0, share=0.10),
        EventType("skip", weight=-0.5, half_life_days=4.0, share=0.12),
    ),
    target="play",
    jump_per_day=0.11,
    busiest_hour=21,
    weekend=1.5,
)
NEWS: Final = Domain(
    name="news",
    types=(
        EventType("impression", weight=0.1, half_life_days=0.1, share=0.80),
        EventType("click", weight=1.0, half_life_days=0.5, share=0.20),
    ),
    target="click",
    jump_per_day=2.6,
    interests_a_day=1.0,
    new_item_share=0.8,
    busiest_hour=8,
    weekend=0.7,
)
# The classical law: one half-life for all, a constant jump, a constant base rate, and nothing else.
EXPONENTIAL: Final = Domain(
    name="exponential",
    types=(EventType("purchase", weight=1.0, half_life_days=7.0, share=1.0),),
    target="purchase",
    jump_per_day=0.06,
    activity_spread=0.0,
    max_rho=0.0,
    categories=1,
    popularity_power=0.0,
    new_item_share=0.0,
    hour_swing=0.0,
    weekend=1.0,
    revival_share=0.0,
)
DOMAINS: Final = {domain.name: domain for domain in (SHOP, VIDEO, NEWS, EXPONENTIAL)}
