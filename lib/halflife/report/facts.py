"""What the warehouse holds of a night: the manifests that the report is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Any, Final

import pyarrow.dataset as ds

from halflife.answers.night import PublishedNight
from halflife.errors import InputMissingError
from halflife.warehouse import Warehouse, readable

Manifest = Mapping[str, Any]
NIGHTS: Final = 30  # that a trend looks back


@dataclass(frozen=True)
class Facts:
    """The night's published runs by job, and those that it is compared with. Each names its own night.

    `before` is the last night that was scored before; `evaluate` the last evaluation there is, of whatever day: a night
    can be judged only when its horizon has passed. None where there is none that can be read.
    """

    store: Warehouse
    as_of: date
    sessionize: Manifest
    score: Manifest
    train: Manifest | None
    before: Manifest | None
    evaluate: Manifest | None

    @cached_property
    def night(self) -> PublishedNight:
        """The night as arrays, for what is computed of single pairs."""
        return PublishedNight(self.store, self.as_of)

    @property
    def manifests(self) -> list[Manifest]:
        """The night's own runs, in the order of the jobs."""
        return [run for run in (self.sessionize, self.train, self.score, self.evaluate) if run is not None]

    @property
    def night_before(self) -> date | None:
        """The night of `before`."""
        return None if self.before is None else date.fromisoformat(self.before["as_of"])

    @cached_property
    def intake(self) -> list[Manifest]:
        """The runs of sessionize of the last nights up to this one, the oldest first."""
        first = self.as_of - timedelta(days=NIGHTS - 1)
        nights = [night for night in self.store.nights("sessionize") if first <= night <= self.as_of]
        return [run for night in nights if (run := readable(self.store, "sessionize", night)) is not None]

    def titles(self, column: str, values: Sequence[str] | Sequence[int]) -> dict[Any, tuple[str, str]]:
        """Title and id of items by their item_id or item_index; the id stands for a title that is missing."""
        if not values:  # pyarrow would take them for nulls
            return {}
        items = ds.dataset(self.store.path("items", self.as_of))
        names = ["item_index", "item_id", "title"]
        found = items.to_table(columns=names, filter=ds.field(column).isin(list(values))).to_pylist()
        return {row[column]: (row["title"] or row["item_id"], row["item_id"]) for row in found}


def read(store: Warehouse, as_of: date) -> Facts:
    """The facts of a night. Raises InputMissingError where it is not scored."""
    store.path("scores", as_of)  # names the job that makes it
    sessionize, score = (store.manifest(job, as_of) for job in ("sessionize", "score"))
    if sessionize is None or score is None:
        raise InputMissingError(f"the night {as_of} has scores and no events: run jobs/sessionize.py --as-of {as_of}")
    trained = store.last_night("train", as_of, inclusive=True)
    return Facts(
        store=store,
        as_of=as_of,
        sessionize=sessionize,
        score=score,
        train=None if trained is None else readable(store, "train", trained),
        before=_last(store, "score", [night for night in store.nights("score") if night < as_of]),
        evaluate=_last(store, "evaluate", store.nights("evaluate")),
    )


def seconds_of(manifest: Manifest) -> dict[str, float]:
    """Seconds of a run by its stages; empty where the run did not note them."""
    # Before manifests had them, evaluate put them among its figures.
    seconds: dict[str, float] = manifest.get("seconds") or manifest["metrics"].get("seconds", {})
    return seconds


def _last(store: Warehouse, job: str, nights: Sequence[date]) -> Manifest | None:
    """The manifest of the last of some nights that can be read."""
    manifests = (readable(store, job, night) for night in reversed(nights))
    return next((manifest for manifest in manifests if manifest is not None), None)
