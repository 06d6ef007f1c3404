"""Jobs killed at every crash point and at any time: what readers find, and what a rerun makes; run by scripts/bench.

Each step of a chain of jobs (two nights, a training, a report, an evaluation) runs once to its end, which lists its
crash points. Then it runs from the same warehouse again and again, each time killed at another point (SIGKILL to the
driver, then to all of its processes). Readers must find the old night or the whole new one, and the same command again
must end with the tables of the run that was not killed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

from bench_processes import BENCH, HOME, SHORT_LIVED, fresh_folder, verdict

from halflife import crash
from halflife.synthetic import DOMAINS, generate
from halflife.upkeep import verify
from halflife.warehouse import Warehouse, digests

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


@dataclass(frozen=True)
class Step:
    """A job for a night."""

    job: str
    as_of: date

    def __str__(self) -> str:
        return f"{self.job} {self.as_of}"


@dataclass(frozen=True)
class Kill:
    """When a run is killed: at its crash point of this number (from 1), or after so many seconds."""

    point: int | None = None
    name: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return self.name or f"{self.seconds:.1f} s"


@dataclass
class Reference:
    """A step that was not killed: the warehouse before it, and what it made."""

    step: Step
    before: Path
    made: dict[str, Any] | None
    points: list[str]
    seconds: float


@dataclass
class Faults:
    """The chain of jobs in a folder, and what went wrong so far."""

    folder: Path
    config: Path
    references: list[Reference] = field(default_factory=list)
    kills: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse"

    def run(self, step: Step, kill: Kill | None = None, listed: Path | None = None, **more: str) -> int:
        """Run a step to its end, or until it is killed; returns its exit code. None of its processes outlives it.

        `more` are variables of its environment.
        """
        environment = os.environ | {
            "HALFLIFE_LOGS": str(self.folder / "logs"),
            "HALFLIFE_MASTER": "local[2]",
            "HALFLIFE_JAVA_OPTIONS": SHORT_LIVED,
            **more,
        }
        if listed:
            environment[crash.POINTS] = str(listed)
        if kill and kill.point:
            environment[crash.AT] = str(kill.point)
        command: list[str | Path] = [HOME / "scripts/submit", step.job, "--config", self.config]
        command += ["--as-of", step.as_of.isoformat()]
        for setting in (f"warehouse={self.warehouse}", *SETTINGS):
            command += ["--set", setting]
        with (self.folder / "shown").open("a") as shown:
            process = subprocess.Popen(
                command, env=environment, stdout=shown, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            return process.wait(kill.seconds if kill and kill.seconds else None)
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL
        finally:
            _end(process)

    def learn(self, step: Step) -> Reference:
        """Run a step to its end, from a copy of the warehouse that is kept; then it stands."""
        before = self.folder / f"before-{len(self.references)}"
        shutil.copytree(self.warehouse, before, symlinks=True) if self.warehouse.exists() else before.mkdir()
        listed, begin = self.folder / f"points-{len(self.references)}", time.monotonic()
        if self.run(step, listed=listed):
            sys.exit(f"{step}: failed without being killed, see {self.folder}/logs")
        seconds = time.monotonic() - begin
        reference = Reference(step, before, self.made(step), listed.read_text().splitlines(), seconds)
        self.references.append(reference)
        return reference

    def restore(self, reference: Reference) -> None:
        """Bring back the warehouse that a step found."""
        shutil.rmtree(self.warehouse)
        shutil.copytree(reference.before, self.warehouse, symlinks=True)

    def kill(self, reference: Reference, kill: Kill) -> None:
        """Kill a step, look at what readers find, and run it again."""
        self.restore(reference)
        old, step = self.made(reference.step), reference.step
        code = self.run(step, kill)
        where = f"{step} killed at {kill}"
        if kill.point and code == 0:
            self.violations.append(f"{where}: it ended by itself")
        if self.made(step) not in (old, reference.made):
            self.violations.append(f"{where}: readers find a night that is neither the old nor the new one")
        self._must_be_whole(where)
        if self.run(step):
            self.violations.append(f"{where}: the same command again fails")
        elif self.made(step) != reference.made:
            self.violations.append(f"{where}: the same command again makes other tables")
        self._must_be_whole(f"{where}, and run again")
        if any((self.warehouse / "_staging").glob("*")):
            self.violations.append(f"{where}: something is left in _staging")
        self.kills += 1

    def _must_be_whole(self, where: str) -> None:
        for damage in verify.damages(Warehouse(self.warehouse)):
            self.violations.append(f"{where}: {damage.path}: {damage.what}")

    def made(self, step: Step) -> dict[str, Any] | None:
        """What identifies the tables of a step as readers find them."""
        found = digests(Warehouse(self.warehouse).manifest(step.job, step.as_of))
        if found is not None and step.job == "evaluate":
            return {"metrics": found["metrics"]}  # the other file says when
        return found


def prepare(folder: Path) -> tuple[Faults, list[Step]]:
    """A synthetic log in a fresh folder, and the chain of jobs over it."""
    fresh_folder(folder)
    log = generate(DOMAINS["shop"], USERS, ITEMS, DAYS, seed=7)
    log.write(folder / "log")
    first = log.first_day + timedelta(days=DAYS - 9)
    second, last = first + timedelta(days=1), first + timedelta(days=8)
    chain = [("sessionize", first), ("train", first), ("score", first), ("sessionize", second), ("score", second)]
    chain += [("report", second), ("sessionize", last), ("evaluate", last)]
    return Faults(folder, folder / "log" / "config.yaml"), [Step(job, night) for job, night in chain]


def plan(reference: Reference, at_random: int, chance: random.Random) -> Iterator[Kill]:
    """Every crash point of a step, then `at_random` times within its run."""
    for number, name in enumerate(reference.points, start=1):
        yield Kill(number, name)
    for _ in range(at_random):
        yield Kill(seconds=chance.uniform(0.2, 1.0) * reference.seconds)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill all processes of a run's session: some are groups of their own."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            session = int(entry.read_text().rpartition(")")[2].split()[3])
        except (OSError, IndexError):
            continue  # it has ended
        if session == process.pid:
            try:
                os.kill(int(entry.parent.name), signal.SIGKILL)
            except ProcessLookupError:
                continue
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench faults", description=__doc__)
    parser.add_argument("--at-random", type=int, default=15, help="kills a step at any time (default: %(default)s)")
    parser.add_argument("--only", help="jobs, with commas (default: all)")
    parser.add_argument("--json", type=Path, help="file for one object")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    options = parser.parse_args()
    faults, chain = prepare(BENCH / "faults")
    for step in chain:
        faults.learn(step)
    only, chance = options.only and options.only.split(","), random.Random(7)
    references = [each for each in faults.references if not only or each.step.job in only]
    kills = [(each, kill) for each in references for kill in plan(each, options.at_random, chance)]
    chance.shuffle(kills)  # so that a run that is interrupted (^C) has looked at some of everything
    try:
        for reference, kill in kills:
            known = len(faults.violations)
            faults.kill(reference, kill)
            line = f"{reference.step}: {kill}: {'; '.join(faults.violations[known:]) or 'as it should be'}"
            print(f"{faults.kills}/{len(kills)} {line}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    points = sum(len(each.points) for each in references)
    found = {"bench": "faults", "points": points, "kills": faults.kills, "violations": len(faults.violations)}
    print("\n".join(faults.violations))
    print(json.dumps(found))
    if options.json:
        options.json.write_text(json.dumps(found) + "\n", encoding="utf-8")
    line, reached = verdict("violations", len(faults.violations), 0, at_least=False)
    print(line)
    if options.check and not reached:
        sys.exit(1)


if __name__ == "__main__":
    main()
