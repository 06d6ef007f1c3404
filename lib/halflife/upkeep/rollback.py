"""Bring a run of a night back that another has replaced."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from halflife.errors import AuditError, HalflifeError, InputMissingError
from halflife.upkeep.verify import run_damages
from halflife.warehouse import Warehouse
from halflife.warehouse.layout import MANIFEST
from halflife.warehouse.manifest import read_manifest


@dataclass(frozen=True)
class Earlier:
    """A run of a night that was published and replaced."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def published_at(self) -> str:
        """Its time, in ISO."""
        return str(self.manifest["published_at"])


def earlier_runs(store: Warehouse, job: str, as_of: date) -> list[Earlier]:
    """The runs of a night that can be brought back, the one published last first."""
    current = store.night_link(job, as_of).resolve()
    found = [Earlier(run, manifest) for run in store.runs() if run != current and (manifest := _manifest(run))]
    of_night = [run for run in found if (run.manifest["job"], run.manifest["as_of"]) == (job, as_of.isoformat())]
    return sorted(of_night, key=lambda run: run.published_at, reverse=True)


def roll_back(store: Warehouse, job: str, as_of: date, run_id: str | None = None) -> str:
    """Make an earlier run of a night the one that readers see: the last before the present one, or the one named.

    Returns its id. All tables of the job change together, in one step. What the job would make of the present inputs is
    still another run: it is published when the job runs again. Raises InputMissingError where there is no such run,
    AuditError where its files are not whole.
    """
    with store.lock():
        if run_id is not None and run_id == store.night_link(job, as_of).resolve().name:
            return run_id  # asked for again
        runs = earlier_runs(store, job, as_of)
        present = store.manifest(job, as_of)
        if run_id is None:
            chosen = [run for run in runs if present and run.published_at < present["published_at"]]
        else:
            chosen = [run for run in runs if run.folder.name == run_id]
        if not chosen:
            known = ", ".join(run.folder.name for run in runs) or "none"
            raise InputMissingError(
                f"{job} {as_of}: {run_id or 'an earlier run'} is not kept under {store.root} (kept: {known}); "
                "run the job with the old inputs instead"
            )
        back = chosen[0]
        damaged = next(run_damages(back.folder, back.manifest), None)
        if damaged:
            raise AuditError(f"{damaged.path}: {damaged.what}; nothing was changed; restore it, or name another run")
        store.switch(job, as_of, back.folder)
    return back.folder.name


def _manifest(run: Path) -> dict[str, Any] | None:
    try:
        return read_manifest(run / MANIFEST)
    except HalflifeError:
        return None  # not whole: verify names it
