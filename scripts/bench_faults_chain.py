"""The steps of scripts/bench faults, over a small synthetic log."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from bench_processes import HOME

from halflife.synthetic import DOMAINS, generate

USERS, ITEMS, DAYS = 40, 30, 45
# Small enough that a job is little more than its start.
SETTINGS: Final[tuple[str, ...]] = (
    "sessionize.sequence_length=20",
    "model.vector_size=8",
    "model.lstm_units=[8, 8]",
    "train.epochs=1",
    "train.history_length=32",
    "train.validation_days=7",
    "train.gate=warn",
    "train.tensorboard=null",
    "evaluate.validation_days=14",
    "evaluate.baselines=[popularity]",
    "evaluate.min_users_per_item=1",
    "evaluate.bootstrap_replicates=20",
)
REPLACED: Final = "RUN"  # among the options of a step: the run that another has replaced


@dataclass(frozen=True)
class Step:
    """A job, or a command of `halflife`, for a night."""

    job: str
    as_of: date
    options: tuple[str, ...] = ()
    called: str = ""  # where the job is not all that it does

    @property
    def name(self) -> str:
        return self.called or self.job

    @property
    def program(self) -> list[str | Path]:
        """What runs it: scripts/submit where it is a job."""
        if not (HOME / f"jobs/{self.job}.py").exists():
            return [HOME / ".venv/bin/halflife", self.job]
        settings = [word for setting in SETTINGS for word in ("--set", setting)]
        return [HOME / "scripts/submit", self.job, "--as-of", self.as_of.isoformat(), *settings]

    def __str__(self) -> str:
        return f"{self.name} {self.as_of}"


def chain(folder: Path) -> list[Step]:
    """Lay the log out in a folder; returns the steps over it."""
    log = generate(DOMAINS["shop"], USERS, ITEMS, DAYS, seed=7)
    log.write(folder / "log")
    (folder / "forgotten").write_text(f"{log.users['user_id'].iloc[0]}\n")
    first = log.first_day + timedelta(days=DAYS - 9)
    second, last = first + timedelta(days=1), first + timedelta(days=8)
    return [
        *(Step(job, first) for job in ("sessionize", "train", "score", "deliver")),
        *(Step(job, second) for job in ("sessionize", "score", "deliver", "report")),
        *(Step(job, last) for job in ("sessionize", "evaluate")),
        Step("score", second, ("--set", "score.top_n=3"), "rescore"),
        Step("deliver", second, (), "redeliver"),
        Step("rollback", second, ("scores", "--as-of", second.isoformat(), "--to", REPLACED)),
        Step("gc", second, ("--remove",)),
        Step("vacuum", second, ("--remove", "--older-than", "0")),
        Step("forget", last, ("--users", str(folder / "forgotten"), "--before", last.isoformat())),
        Step("sessionize", last, (), "erase"),
    ]
