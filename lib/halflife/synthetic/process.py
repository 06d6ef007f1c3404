"""Events drawn from DESIGN's intensity: affinity plus decayed jumps, exactly, in closed form.

    lambda(u, i, t) = rhythm(t) max(affinity(u, i) + sum_e jump(e) 2^(-(t - t_e) / h(e)), 0)
    affinity(u, i)  = exp(b_i + <p_u, q_i>), with q_i one-hot in the item's category

Without negative events this is a Hawkes process, and that is a family tree (Hawkes and Oakes, 1974): events that
nothing led to, and the Poisson children of each event, at exponential ages. What negative events take is thinned out
afterwards. Times are days since the log's first instant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from halflife.config import ScoreConfig
from halflife.decay import LN2, Floats
from halflife.synthetic.domains import Domain

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Events = NDArray[np.void]

# One row is an event that may happen. `parent` is the row of the event that led to it, -1 where none did.
EVENT: Final = np.dtype(
    [("user", "i4"), ("item", "i4"), ("day", "f8"), ("type", "i4"), ("dwell", "f8"), ("parent", "i8"), ("planted", "?")]
)
REVIVAL: Final = ScoreConfig()
DWELL_SPREAD: Final = 1.0  # standard deviation of a dwell's logarithm
SILENCE_MARGIN: Final = 1.3  # a planted silence is so much longer than the definition asks for, or more
BURST_DAYS: Final = 0.5  # mean delay of a planted burst's further events


@dataclass(frozen=True)
class Population:
    """What is true of U users and I items of C categories before anything happens.

    stretch and interests_a_day (U,); tastes (U, C), summing to 1 a user; category and first_day (I,); popularity (I,),
    summing to 1 a category. Items are sorted by category.
    """

    stretch: Floats
    interests_a_day: Floats
    tastes: Floats
    category: Integers
    popularity: Floats
    first_day: Integers

    def affinity(self, user: Integers, item: Integers) -> Floats:
        """Rate a day of users (n,) for items (n,), (n,)."""
        rate: Floats = self.interests_a_day[user] * self.tastes[user, self.category[item]] * self.popularity[item]
        return rate


def population(domain: Domain, users: int, items: int, days: int, chance: np.random.Generator) -> Population:
    """Draw who the users are and what the items are."""
    categories = min(domain.categories, items)
    category = np.sort(np.arange(items) % categories)
    rank = np.arange(items) - np.searchsorted(category, category)
    liked = (1.0 + rank) ** -domain.popularity_power
    is_new = chance.random(items) < domain.new_item_share
    return Population(
        stretch=2.0 ** chance.uniform(-domain.max_rho, domain.max_rho, users),
        interests_a_day=domain.interests_a_day * chance.lognormal(0.0, domain.activity_spread, users),
        tastes=chance.dirichlet(np.full(categories, domain.taste_concentration), users),
        category=category,
        popularity=liked / np.bincount(category, liked)[category],
        first_day=np.where(is_new, chance.integers(0, days, items), 0),
    )


class Process:
    """The events of one population over `days` days, from one random generator."""

    def __init__(
        self, domain: Domain, people: Population, days: int, first_weekday: int, chance: np.random.Generator
    ) -> None:
        self.domain = domain
        self.people = people
        self.days = days
        # (7, 24) from the log's first day.
        self.rhythm = np.outer(np.roll(domain.weekdays, -first_weekday), domain.hours)
        self.chance = chance

    def candidates(self) -> Events:
        """All events that may happen; `halflife.synthetic.thinning` says which of them do."""
        natural = self._families(self._firsts())
        planted = self._families(self._bursts(natural))
        planted["parent"][planted["parent"] >= 0] += len(natural)
        return np.concatenate([natural, planted])

    def pairs(self, events: Events) -> Integers:
        """A number for the user and item of each event, (n,)."""
        pairs: Integers = events["user"].astype(np.int64) * len(self.people.category) + events["item"]
        return pairs

    def jumps(self, events: Events) -> Floats:
        """What each event adds to the rate of its pair, or takes from it, (n,) a day."""
        return self.domain.jump_per_day * self.domain.strengths(events["type"], events["dwell"])

    def _firsts(self) -> Events:
        """The events that no other led to: they come from affinity alone."""
        people, peak = self.people, self.rhythm.max()
        number = self.chance.poisson(people.interests_a_day * self.days * peak)
        user = np.repeat(np.arange(len(number)), number)
        tastes = people.tastes.cumsum(axis=1)
        category = (self.chance.random(len(user))[:, None] * tastes[user, -1:] > tastes[user]).sum(axis=1)
        # Popularity sums to 1 a category, so the running sum over all items passes c within category c.
        running = people.popularity.cumsum()
        item = np.searchsorted(running, category + self.chance.random(len(user))).clip(max=len(running) - 1)
        day = self.chance.uniform(0, self.days, len(user))
        kept = self._in_rhythm(day) & (day >= people.first_day[item])
        return self._drawn(user[kept], item[kept], day[kept], self.domain.first_shares)

    def _families(self, firsts: Events) -> Events:
        """Events and all that they lead to, generation after generation; parents are rows of the result."""
        generations, rows = [firsts], 0
        while len(generations[-1]):
            generations.append(self._children(generations[-1], rows))
            rows += len(generations[-2])
        return np.concatenate(generations)

    def _children(self, parents: Events, first_row: int) -> Events:
        """What `parents` lead to; they are the rows from `first_row` on."""
        mean_age = self.domain.half_lives_days[parents["type"]] * self.people.stretch[parents["user"]] / LN2
        expected = self.rhythm.max() * np.maximum(self.jumps(parents), 0.0) * mean_age
        parent = np.repeat(np.arange(len(parents)), self.chance.poisson(expected))
        day = parents["day"][parent] + self.chance.exponential(mean_age[parent])
        kept = np.flatnonzero(day < self.days)
        kept = kept[self._in_rhythm(day[kept])]
        parent = parent[kept]
        children = self._drawn(parents["user"][parent], parents["item"][parent], day[kept], self.domain.shares)
        children["parent"] = first_row + parent
        return children

    def _bursts(self, events: Events) -> Events:
        """Planted events of some of the pairs that had fallen silent for good.

        So long after the pair's last event that even what is remembered longest has faded below the configured share:
        whichever of the earlier events happen, the burst's first revives the pair.
        """
        newest_first = events[np.argsort(-events["day"], kind="stable")]
        last = newest_first[np.unique(self.pairs(newest_first), return_index=True)[1]]
        slowest = self.domain.half_lives_days[self.domain.weights > 0].max() * self.people.stretch[last["user"]]
        fading = slowest * -np.log2(REVIVAL.revival_retained_share)
        earliest = np.ceil(last["day"] + SILENCE_MARGIN * np.maximum(fading, REVIVAL.revival_silence_days))
        chosen = (earliest < self.days) & (self.chance.random(len(last)) < self.domain.revival_share)
        begin = self.chance.integers(earliest[chosen].astype(np.int64), self.days) + self._time_of_day(chosen.sum())
        delay = self.chance.exponential(BURST_DAYS, (chosen.sum(), self.domain.burst_events))
        delay[:, 0] = 0.0
        day = (begin[:, None] + delay).ravel()
        user, item = (np.repeat(last[part][chosen], self.domain.burst_events) for part in ("user", "item"))
        bursts = self._drawn(user, item, day, self.domain.first_shares)
        bursts["planted"] = True
        in_time: Events = bursts[day < self.days]
        return in_time

    def _time_of_day(self, number: int) -> Floats:
        hour = self.chance.choice(24, number, p=self.domain.hours / 24)
        return (hour + self.chance.random(number)) / 24

    def _in_rhythm(self, day: Floats) -> Flags:
        """Which of the events drawn at the rhythm's highest rate stay, (n,)."""
        hour = (day * 24).astype(np.int64)
        kept: Flags = self.chance.random(len(day)) < self.rhythm[hour // 24 % 7, hour % 24] / self.rhythm.max()
        return kept

    def _drawn(self, user: Integers, item: Integers, day: Floats, shares: Floats) -> Events:
        """Events with types by their shares, and a dwell where the type has one."""
        events = np.empty(len(user), EVENT)
        medians = np.array([kind.dwell_seconds or np.nan for kind in self.domain.types])
        events["user"], events["item"], events["day"] = user, item, day
        events["type"] = self.chance.choice(len(shares), len(user), p=shares)
        dwell = medians[events["type"]] * self.chance.lognormal(0.0, DWELL_SPREAD, len(user))
        events["dwell"] = dwell.round(1)
        events["parent"], events["planted"] = -1, False
        return events
