"""Synthetic logs: what the truth says is what the events show."""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import spearmanr

from halflife import config
from halflife.config import ScoreConfig
from halflife.decay import LN2, Floats
from halflife.synthetic import DOMAINS, EXPONENTIAL, NEWS, SHOP, VIDEO, Domain, SyntheticLog, generate
from halflife.synthetic.__main__ import main
from halflife.synthetic.log import EVENTS

THREE = (SHOP, VIDEO, NEWS)
PAIR = ["user_id", "item_id"]


def plain(domain: Domain) -> Domain:
    """Without rhythm, negative types and planted revivals: the rate is affinity and memory, and nothing else."""
    positive = tuple(kind for kind in domain.types if kind.weight > 0)
    return replace(domain, types=positive, hour_swing=0.0, weekend=1.0, revival_share=0.0)


class History:
    """A log's events as arrays, (n,) each, pair by pair in order of time; times are days since the log's begin."""

    def __init__(self, log: SyntheticLog) -> None:
        events = log.events.sort_values([*PAIR, "event_time"])
        self.user = pd.Index(log.users.user_id).get_indexer(events.user_id)
        self.item = pd.Index(log.items.item_id).get_indexer(events.item_id)
        self.type = pd.Index(log.event_types.name).get_indexer(events.event_type)
        self.days_left = log.days - (events.event_time - begin(log)).dt.total_seconds().to_numpy() / 86_400
        self.strength = log.domain.strengths(self.type, events.dwell_seconds.to_numpy())
        self.rank = events.groupby(PAIR).cumcount().to_numpy()
        self.affinity = log.people.affinity(self.user, self.item)

    def likelihoods(self, jump_per_day: float, half_lives: Floats, affinity: Floats) -> Floats:
        """Each event's share of the log-likelihood of its pair's rate: log lambda(t) - the integral of its own jump.

        half_lives (n, T): of each type for the event's user.
        """
        jumps = jump_per_day * self.strength
        # What is remembered right after each event, by type; the row above is the pair's event before.
        memory = np.zeros_like(half_lives)
        memory[np.arange(len(jumps)), self.type] = jumps
        rate = np.array(affinity)
        for rank in range(1, self.rank.max() + 1):
            rows = np.flatnonzero(self.rank == rank)
            gap = self.days_left[rows - 1] - self.days_left[rows]
            left = memory[rows - 1] * np.exp2(-gap[:, None] / half_lives[rows])
            rate[rows] += left.sum(axis=1)
            memory[rows] += left
        own = half_lives[np.arange(len(jumps)), self.type]
        return np.log(rate) - jumps * own / LN2 * (1 - np.exp2(-self.days_left / own))


def begin(log: SyntheticLog) -> pd.Timestamp:
    return pd.Timestamp(log.first_day, tz=UTC)


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*") if file.is_file()}


@pytest.mark.parametrize("domain", THREE, ids=lambda domain: domain.name)
def test_a_seed_gives_the_same_bytes(domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        generate(domain, users=20, items=10, days=40, seed=3).write(Path("log"))
    written = files(tmp_path / "a")
    assert len(written) == 40 + 5
    assert written == files(tmp_path / "b")
    assert not generate(domain, 20, 10, 40, seed=4).events.equals(generate(domain, 20, 10, 40, seed=3).events)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(list(DOMAINS.values())), st.integers(1, 12), st.integers(1, 30), st.integers(1, 150), st.data())
def test_every_row_is_a_valid_event(domain: Domain, users: int, items: int, days: int, data: st.DataObject) -> None:
    log = generate(domain, users, items, days, seed=data.draw(st.integers(0, 2**32)))
    events = log.events
    assert events.event_time.is_monotonic_increasing
    assert not events.duplicated([*PAIR, "event_time"]).any()
    assert events.event_time.between(begin(log), begin(log) + timedelta(days=days), inclusive="left").all()
    assert events.user_id.isin(log.users.user_id).all()
    appeared = events.item_id.map(log.items.set_index("item_id").first_day)
    assert (events.event_time.dt.date >= appeared).all()
    weight = events.event_type.map(log.event_types.set_index("name").weight)
    assert (weight[~events.duplicated(PAIR)] > 0).all()  # nobody cancels what was never touched
    assert (events.dwell_seconds.notna() == (events.event_type == "play")).all()


def test_a_config_reads_what_was_written(tmp_path: Path) -> None:
    log = generate(SHOP, users=30, items=20, days=20)
    log.write(tmp_path)
    checked = config.load(tmp_path / "config.yaml")
    source = checked.sources["shop"]
    assert [name for name, _ in source.columns.mapped.items()] == [
        "user",
        "item",
        "time",
        "event_type",
        "dwell_seconds",
    ]
    assert list(checked.event_types) == ["view", "cart", "purchase", "cancel"]
    days = [Path(source.path.format(date=day.date())).parent for day in pd.date_range(log.first_day, periods=log.days)]
    written = pa.concat_tables([pq.read_table(file) for day in days for file in day.iterdir()])
    assert written.equals(pa.Table.from_pandas(log.events, EVENTS, preserve_index=False))


def test_the_exponential_law_gives_its_half_life_back() -> None:
    log = generate(EXPONENTIAL, users=200)
    history = History(log)
    pairs = len(log.users) * len(log.items)

    def loss(logarithms: NDArray[np.float64]) -> float:
        base, jump, half_life = np.exp(logarithms)
        n = len(log.events)
        events = history.likelihoods(jump, np.full((n, 1), half_life), np.full(n, base))
        return float(base * pairs * log.days - events.sum())

    fit = minimize(loss, np.log([0.01, 0.02, 20.0]), method="Nelder-Mead")
    base, jump, half_life = np.exp(fit.x)
    assert half_life == pytest.approx(7.0, rel=0.05)
    assert jump == pytest.approx(EXPONENTIAL.jump_per_day, rel=0.05)
    assert base == pytest.approx(EXPONENTIAL.interests_a_day / len(log.items), rel=0.05)


@pytest.mark.parametrize("domain", THREE, ids=lambda domain: domain.name)
def test_what_an_event_adds_fades_by_the_half_life_of_its_type(domain: Domain) -> None:
    log = generate(plain(domain), users=400)
    history = History(log)
    stretch = log.people.stretch[history.user, None]
    for place, truth in enumerate(log.domain.half_lives_days):

        def loss(logarithm: float, place: int = place) -> float:
            half_lives = log.domain.half_lives_days.copy()
            half_lives[place] = np.exp(logarithm)
            return -float(history.likelihoods(log.domain.jump_per_day, half_lives * stretch, history.affinity).sum())

        found = minimize_scalar(loss, bounds=np.log([truth / 5, truth * 5]), options={"xatol": 0.01})
        assert np.exp(found.x) == pytest.approx(truth, rel=0.15), log.event_types.name[place]


@pytest.mark.parametrize("domain", THREE, ids=lambda domain: domain.name)
def test_a_users_pace_shows_in_the_events(domain: Domain) -> None:
    log = generate(plain(domain), users=400)
    history = History(log)
    paces = np.linspace(-1.0, 1.0, 9)
    by_pace = []
    for pace in paces:
        half_lives = np.tile(log.domain.half_lives_days * 2.0**pace, (len(log.events), 1))
        likelihoods = history.likelihoods(log.domain.jump_per_day, half_lives, history.affinity)
        by_pace.append(np.bincount(history.user, likelihoods, minlength=len(log.users)))
    chance = np.exp(by_pace - np.max(by_pace, axis=0))
    assert spearmanr(paces @ chance / chance.sum(axis=0), log.users.stretch).statistic > 0.8


def test_the_true_interest_is_the_rate_of_the_events_that_follow() -> None:
    log = generate(replace(plain(SHOP), types=SHOP.types), users=300)
    window = timedelta(hours=3)
    expected, observed = np.zeros(3), np.zeros(3)
    for day in range(20, 180, 4):
        at = datetime(2026, 1, 1, 12, tzinfo=UTC) + timedelta(days=day)
        interest = log.interest(at)
        following = log.events[(log.events.event_time >= at) & (log.events.event_time < at + window)]
        happened = np.zeros_like(interest)
        user = pd.Index(log.users.user_id).get_indexer(following.user_id)
        item = pd.Index(log.items.item_id).get_indexer(following.item_id)
        np.add.at(happened, (user, item), 1.0)
        level = np.digitize(interest, [0.01, 0.1])
        expected += np.bincount(level.ravel(), interest.ravel() * (window / timedelta(days=1)), 3)
        observed += np.bincount(level.ravel(), happened.ravel(), 3)
    assert observed.min() > 100
    np.testing.assert_allclose(observed, expected, rtol=0.15)


def by_definition(log: SyntheticLog) -> set[tuple[str, str, pd.Timestamp]]:
    """The events that revive their pair, found pair by pair and event by event."""
    limits = ScoreConfig()
    history, found = History(log), set()
    half_lives = log.domain.half_lives_days[history.type] * log.people.stretch[history.user]
    jumps = np.maximum(history.strength, 0.0)
    ordered = log.events.sort_values([*PAIR, "event_time"])
    for row in np.flatnonzero(history.rank > 0):
        past = slice(row - history.rank[row], row)
        silence = history.days_left[row - 1] - history.days_left[row]
        before = jumps[past] * np.exp2((history.days_left[row - 1] - history.days_left[past]) / half_lives[past])
        after = before * np.exp2(-silence / half_lives[past])
        faded = after.sum() < limits.revival_retained_share * before.sum()
        if faded and silence >= limits.revival_silence_days:
            found.add(tuple(ordered.iloc[row][[*PAIR, "event_time"]]))
    return found


@pytest.mark.parametrize("domain", THREE, ids=lambda domain: domain.name)
def test_the_revivals_are_those_of_the_definition(domain: Domain) -> None:
    log = generate(domain, users=40)
    revivals = log.revivals
    assert set(revivals[[*PAIR, "event_time"]].itertuples(index=False, name=None)) == by_definition(log)


@pytest.mark.parametrize("domain", THREE, ids=lambda domain: domain.name)
def test_a_planted_revival_ends_a_silence_with_a_burst(domain: Domain) -> None:
    log = generate(domain, users=200)
    planted = log.revivals[log.revivals.planted]
    assert len(planted) > 2 * len(log.users)
    assert planted.silence_days.min() > 1.2 * ScoreConfig().revival_silence_days
    assert planted.retained_share.max() < 0.8 * ScoreConfig().revival_retained_share
    whole = planted[planted.event_time < begin(log) + timedelta(days=log.days - 5)]
    after = whole.merge(log.events, on=PAIR, suffixes=("", "_after"))
    delay = after.event_time_after - after.event_time
    burst = after[delay.between(timedelta(0), timedelta(days=5))].groupby(PAIR).size()
    assert len(burst) == len(whole)
    assert burst.min() >= domain.burst_events - 1  # one of a thousand is later than five days
    assert burst.quantile(0.05) >= domain.burst_events


@pytest.mark.parametrize("domain", THREE, ids=lambda domain: domain.name)
def test_days_and_weeks_have_a_rhythm(domain: Domain) -> None:
    times = generate(domain, users=400, days=182).events.event_time.dt
    hours = times.hour.value_counts(normalize=True).reindex(range(24), fill_value=0).to_numpy() * 24
    weekdays = times.dayofweek.value_counts(normalize=True).reindex(range(7)).to_numpy() * 7
    assert np.corrcoef(hours, domain.hours)[0, 1] > 0.95
    assert hours[domain.busiest_hour] > 2 * hours[(domain.busiest_hour + 12) % 24]
    np.testing.assert_allclose(weekdays, domain.weekdays, rtol=0.1)


def test_new_items_have_no_event_before_their_day_and_some_after() -> None:
    log = generate(NEWS, users=400)
    new = log.items[log.items.first_day > log.first_day]
    first_event = log.events.groupby("item_id").event_time.min().dt.date
    waited = (first_event.reindex(new.item_id).to_numpy() - new.first_day.to_numpy()) / timedelta(days=1)
    assert len(new) > 0.7 * len(log.items)
    assert waited.min() == 0
    assert np.median(waited) < 10


@pytest.mark.parametrize(("domain", "negative"), [(SHOP, "cancel"), (VIDEO, "skip")])
def test_a_negative_event_lowers_the_later_rate(domain: Domain, negative: str) -> None:
    """Beside the same people whose negative events are so weak that they take nothing."""
    weak = tuple(replace(kind, weight=max(kind.weight, -1e-9)) for kind in domain.types)
    followers = []
    for of in (domain, replace(domain, types=weak)):
        events = generate(of, users=400).events
        negatives = events[events.event_type == negative].drop_duplicates(PAIR)
        after = negatives.merge(events, on=PAIR, suffixes=("", "_after"))
        delay = after.event_time_after - after.event_time
        followers.append(delay.between(timedelta(0), timedelta(days=4), inclusive="right").sum() / len(negatives))
    assert followers[0] < 0.7 * followers[1]


def test_a_domain_whose_interest_never_dies_out_is_refused() -> None:
    with pytest.raises(ValueError, match="shop: an event leads to one more or more"):
        replace(SHOP, jump_per_day=0.2)


def test_the_command_writes_a_log_and_says_what_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["news", "--users", "20", "--days", "30", "--seed", "5", "--out", str(tmp_path / "log")]
    monkeypatch.setattr(sys, "argv", ["halflife.synthetic", *arguments])
    main()
    assert f"--config {tmp_path}/log/config.yaml --as-of 2026-01-31" in capsys.readouterr().out
    assert len(list((tmp_path / "log" / "events").glob("date=*/events.parquet"))) == 30
