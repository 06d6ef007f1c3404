"""A small published warehouse, written without Spark: every row follows from a handful of events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from halflife.decay import SECONDS_PER_DAY, decay, decay_integral
from halflife.model import artifact
from halflife.model.architecture import Architecture
from halflife.nights import instant
from halflife.warehouse import TABLES, Warehouse, digests, schema_of

TRAINED = date(2026, 3, 1)
USERS = ("ann", "bob", "cid", None)  # cid has no events; the last one was forgotten
ITEMS = ("tea", "milk", "bread", "soap")  # not in the order of their ids
TITLES = ("Tea", None, "Bread", "Soap")
CATEGORIES = ("drinks", "drinks", "food", None)
TYPES = ("purchase", "cancel")
PAIR = ["user_index", "item_index"]
Rows = list[tuple[Any, ...]]

ARCHITECTURE = Architecture(
    items=3,  # soap came after training
    event_types=2,
    categories=2,
    half_lives_days=(1.0, 30.0, 180.0),
    horizon_days=7.0,
    sequence_length=8,
    vector_size=4,
    encoder_units=(6, 5),
    jump_units=7,
    item_traits=3,
)


@dataclass(frozen=True)
class Event:
    """What a user did with an item, days after TRAINED."""

    user: int
    item: int
    day: float
    strength: float = 1.0


EVENTS = (
    Event(0, 0, -40.0),
    Event(0, 0, -2.5, 0.5),
    Event(0, 1, -30.0, -1.0),
    Event(0, 2, -0.25, 3.0),
    Event(1, 1, -10.0, 2.0),
    Event(1, 1, -9.0, -0.5),
)


def publish_model(
    store: Warehouse, as_of: date = TRAINED, seed: int = 3, stretch: Sequence[float] | None = None
) -> None:
    """Publish a model of random weights, with a `stretch` of each user's own where one is given."""
    run = store.begin("train", as_of, {"seed": seed})
    assert run is not None
    rng = np.random.default_rng(seed)
    architecture = ARCHITECTURE.model_copy(update={"stretch": stretch is not None})
    shapes = architecture.shapes_for_scoring()
    weights = {name: rng.normal(scale=0.3, size=shape).astype(np.float32) for name, shape in shapes.items()}
    known = ARCHITECTURE.items
    manifest = artifact.save(
        run.path("models"),
        architecture=architecture,
        weights={**weights, "half_lives_days": np.array([1.0, 30.0, 180.0], dtype=np.float32)},
        items=pd.DataFrame(
            {"item_index": range(known), "item_id": ITEMS[:known], "category": pd.array(CATEGORIES[:known])}
        ),
        event_types=TYPES,
        as_of_seconds=instant(as_of).timestamp(),
        metrics={},
        config={},
        stretch=None if stretch is None else np.array(stretch, dtype=np.float32),
    )
    store.publish(run, {}, {"version": manifest.version, "kind": manifest.kind})


def publish_night(
    store: Warehouse,
    as_of: date,
    events: Sequence[Event] = EVENTS,
    law_days: float = 0.0,
    score_error: float = 0.0,
    interest: Sequence[tuple[Any, ...]] = (),
    more_figures: Mapping[str, Any] | None = None,
    **more_tables: Sequence[tuple[Any, ...]],
) -> None:
    """Publish a night's tables of sessionize and of score: by the last model, or by the law with a half-life."""
    rows = events_table(event for event in events if _time(event) < instant(as_of))
    publish_events(store, as_of, rows)
    model = model_of(store, as_of, law_days)
    inputs = {"sessionize": digests(store.manifest("sessionize", as_of)), "model": model.version}
    run = store.begin("score", as_of, inputs)
    assert run is not None
    memory, states = _memory(model, rows), _user_states(model, rows)
    scores = _scores(model, memory, states, instant(as_of).timestamp(), score_error)
    staged = {
        "memory": memory,
        "user_states": states,
        "scores": scores,
        "interest_by_category": interest,
        **more_tables,
    }
    for table in TABLES["score"]:
        run.write_rows(table, staged.get(table, []))
    figures = {"half_lives_days": model.half_lives_days.tolist(), "horizon_days": model.horizon_days}
    figures |= {"encoded": len(states), "skipped": 0, "pairs": len(scores), "pairs_below_floor": 0}
    store.publish(run, {}, {"model": model.version, "model_kind": model.kind, **figures, **(more_figures or {})})


def config(root: Path) -> Path:
    """A config of the warehouse, in a file beside its tables."""
    path = root / "config.yaml"
    text = "sources: {log: {path: 'x-{date}', event_type: purchase, columns: {user: u, item: i, time: t}}}\n"
    path.write_text(f"warehouse: {root}\n{text}event_types: {{purchase: {{weight: 1}}}}\n")
    return path


def model_of(store: Warehouse, as_of: date, law_days: float = 0.0) -> artifact.Model:
    """What a night is scored by."""
    if law_days:
        return artifact.law(law_days, 7.0, "law")
    trained = store.last_night("train", as_of, inclusive=True)
    assert trained is not None
    return artifact.load(store.path("models", trained))


def events_table(events: Iterable[Event]) -> pd.DataFrame:
    """The events in the columns of `schemas.EVENTS`, each user's in order."""
    ordered = sorted(events, key=lambda event: (event.user, event.day))
    rows = pd.DataFrame(
        {
            "user_id": [USERS[event.user] for event in ordered],
            "item_id": [ITEMS[event.item] for event in ordered],
            "event_type": [TYPES[event.strength < 0] for event in ordered],
            "event_time": [_time(event) for event in ordered],
            "event_id": [f"event-{place}" for place in range(len(ordered))],
            "strength": [event.strength for event in ordered],
            "user_index": [event.user for event in ordered],
            "item_index": [event.item for event in ordered],
            "type_index": [int(event.strength < 0) for event in ordered],
        }
    )
    rows["gap_seconds"] = rows.groupby("user_index")["event_time"].diff().dt.total_seconds()
    rows["revisit_gap_seconds"] = rows.groupby(PAIR)["event_time"].diff().dt.total_seconds()
    rows["revisit_count"] = rows.groupby(PAIR).cumcount()
    rows[["dwell_imputed", "rating_imputed", "session_given"]] = False
    rows["session_position"] = 0
    rows[["session_id", "source", "source_file"]] = "one"
    rows["session_start"] = rows["event_time"]
    return rows.reindex(columns=schema_of("events").names)


def _time(event: Event) -> datetime:
    return instant(TRAINED) + timedelta(days=event.day)


def publish_events(store: Warehouse, as_of: date, rows: pd.DataFrame) -> None:
    """Publish a night's tables of sessionize."""
    run = store.begin("sessionize", as_of, {"events": rows["event_id"].tolist()})
    assert run is not None
    categories = {name: place for place, name in enumerate(sorted(filter(None, CATEGORIES)))}
    items = [
        (place, *item, categories.get(item[2] or ""), None, None)
        for place, item in enumerate(zip(ITEMS, TITLES, CATEGORIES, strict=True))
    ]
    events = rows.astype(object).where(rows.notna(), None).itertuples(index=False, name=None)
    staged = {"events": list(events), "users": list(enumerate(USERS)), "items": items}
    for table in TABLES["sessionize"]:
        run.write_rows(table, staged.get(table, []))
    store.publish(run, {}, {})


def _memory(model: artifact.Model, rows: pd.DataFrame) -> Rows:
    """Each pair's memory: the jumps of its events, each decayed to the last one."""
    jumps = model.jumps({name: rows[name].to_numpy() for name in rows.columns})
    found = []
    for (user, item), pair in rows.reset_index(drop=True).groupby(PAIR):
        last = pair["event_time"].max()
        ages = (last - pair["event_time"]).dt.total_seconds().to_numpy() / SECONDS_PER_DAY
        left = jumps[pair.index] * decay(ages, model.half_lives_days)
        signs = np.sign(pair["strength"].to_numpy())[:, None]
        positive, negative = (np.sum(left * (signs == sign), axis=0).tolist() for sign in (1, -1))
        row = {"user_index": user, "item_index": item, "anchor_time": last, "positive": positive, "negative": negative}
        # What is said of the pair besides is no part of its score.
        row |= {
            "event_count": len(pair),
            "revived": False,
            "leading_time": last,
            "leading_type": 0,
            "leading": positive,
        }
        found.append(tuple(row.get(name) for name in schema_of("memory").names))
    return found


def _user_states(model: artifact.Model, rows: pd.DataFrame) -> Rows:
    """Some read-outs of each user with events."""
    size = len(model.half_lives_days) * model.vector_size
    last = rows.groupby("user_index")["event_time"].max()
    return [(user, time, np.random.default_rng(user).normal(size=size).tolist()) for user, time in last.items()]


def _scores(model: artifact.Model, memory: Rows, states: Rows, at_seconds: float, error: float) -> Rows:
    """Each known user's score of each item, one pair at a time."""
    side, half_lives, horizon = model.item_side(len(ITEMS)), model.half_lives_days, model.horizon_days
    read = {user: (time.timestamp(), np.reshape(flat, (len(half_lives), -1))) for user, time, flat in states}
    kept = {
        (user, item): (np.subtract(positive, negative) @ decay_integral(_days(at_seconds, last), half_lives, horizon))
        for user, item, last, positive, negative, *_ in memory
    }
    rows = []
    for user, user_id in enumerate(USERS):
        for item in sorted(range(len(ITEMS)), key=ITEMS.__getitem__):
            logit = side.bias[item]
            if user in read:
                seconds, readouts = read[user]
                faded = decay((at_seconds - seconds) / SECONDS_PER_DAY + horizon / 2, half_lives)
                logit = logit + faded @ readouts @ side.vectors[item]
            affinity, own = horizon * np.exp(logit), kept.get((user, item), 0.0)
            if user_id is not None:
                rows.append((user_id, ITEMS[item], -np.expm1(-max(affinity + own, 0.0)) + error, affinity, own))
    return rows


def _days(at_seconds: float, time: pd.Timestamp) -> float:
    return (at_seconds - time.timestamp()) / SECONDS_PER_DAY
