"""The history of runs: what their status files and the published manifests tell together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from halflife import status
from halflife.escapes import escaped
from halflife.report.facts import Manifest, seconds_of
from halflife.status import Status
from halflife.warehouse import Warehouse, readable

ENDED_BADLY = ("failed", "killed")
ENDED_WELL = ("published", "replaced", "delivered", "unchanged")


@dataclass(frozen=True)
class Run:
    """One run of a job for a night.

    States are those of Status, and `replaced`: published once, but another run of its night is now. Seconds are of
    the stages that are done, rows of the tables, by name.
    """

    job: str
    night: str
    state: str
    began: str | None
    ended: str | None
    exit_code: int | None = None
    message: str | None = None
    run_id: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


def history(store: Warehouse) -> list[Run]:
    """All runs that are known, the newest first.

    Those from before there were status files are known by the night that they published. Of a night whose manifest is
    damaged, which the log says, the rows are not known.
    """
    manifests = {
        manifest["run_id"]: manifest
        for job, night in store.published()
        if (manifest := readable(store, job, night)) is not None
    }
    current = {folder.name for folder in store.current_runs()}
    runs = [_by_status(each, manifests.get(each.run_id), each.run_id in current) for each in status.history(store.root)]
    noted = {run.run_id for run in runs}
    runs += [_by_manifest(manifest) for run_id, manifest in manifests.items() if run_id not in noted]
    return sorted(runs, key=lambda run: run.began or run.ended or "", reverse=True)


def failures(store: Warehouse, since: Manifest) -> list[Run]:
    """Runs that ended badly after a run was published, and that no good run of their job and night has followed."""
    runs = history(store)
    good = [run for run in runs if run.state in ENDED_WELL]

    def made_good(bad: Run) -> bool:
        return any((run.job, run.night) == (bad.job, bad.night) and _after(run.ended, bad.began) for run in good)

    return [
        run
        for run in runs
        if run.state in ENDED_BADLY
        and run.job != "report"
        and _after(run.began, since["published_at"])
        and not made_good(run)
    ]


def shown(runs: Iterable[Run]) -> Table:
    """Runs for a person to read."""
    table = Table("when (UTC)", "job", "night", "state", title="Runs, the newest first")
    for name in ("exit", "seconds", "rows"):
        table.add_column(name, justify="right")
    table.add_column("stages, or why")
    for run in runs:
        stages = ", ".join(f"{name} {seconds:g} s" for name, seconds in run.seconds.items())
        table.add_row(
            (run.began or run.ended or "")[:19].replace("T", " "),
            *(run.job, run.night, run.state, "" if run.exit_code is None else str(run.exit_code)),
            f"{sum(run.seconds.values()):,.1f}" if run.seconds else "",
            f"{sum(run.rows.values()):,}" if run.rows else "",
            Text(escaped(run.message or "")) if run.state in ENDED_BADLY else stages,
        )
    return table


def _by_status(noted: Status, manifest: Manifest | None, current: bool) -> Run:
    state = "replaced" if noted.state == "published" and not current else noted.state
    rows, known = {} if manifest is None else _rows(manifest), (noted.started_at, noted.ended_at)
    return Run(noted.job, noted.as_of, state, *known, noted.exit_code, noted.message, noted.run_id, noted.seconds, rows)


def _by_manifest(manifest: Manifest) -> Run:
    return Run(
        manifest["job"],
        manifest["as_of"],
        "published",
        began=None,
        ended=manifest["published_at"],
        run_id=manifest["run_id"],
        seconds=seconds_of(manifest),
        rows=_rows(manifest),
    )


def _rows(manifest: Manifest) -> dict[str, int]:
    return {name: table["rows"] for name, table in manifest["tables"].items()}


def _after(late: Any, early: Any) -> bool:
    """Whether one time of a manifest or a status is later than another; one that is not known is not."""
    return bool(late and early and datetime.fromisoformat(late) > datetime.fromisoformat(early))
