"""Jobs killed at every crash point and at any time: what readers find, and what a rerun makes; run by scripts/bench.

Each step of a chain (two nights, a training, a report, an evaluation, deliveries to a lake on disk, a night made again
and rolled back, garbage collected, a user forgotten) runs once to its end, which lists its crash points. Then it runs
from the same warehouse and lake again and again, each time killed at another point (SIGKILL to the driver, then to all
of its processes). Readers must find each night, of the warehouse and of the lake, as it was or whole and new, and the
same command again must end with what the run that was not killed has made.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench_faults_chain import REPLACED, Step, chain
from bench_faults_found import LAKE_TABLES, Parts, parts
from bench_faults_judged import Judged
from bench_processes import BENCH, SHORT_LIVED, fresh_folder, verdict

from halflife import crash
from halflife.upkeep import rollback, verify
from halflife.warehouse import Warehouse


@dataclass(frozen=True)
class Kill:
    """When a run is killed: at its crash point of this number (from 1), or after so many seconds."""

    point: int | None
    name: str
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.point} {self.name}" if self.point else self.name


@dataclass
class Reference:
    """A step that was not killed: warehouse and lake before it, and what readers find before and after it."""

    step: Step
    before: Path
    found: Parts
    made: Parts
    points: list[str]
    seconds: float


@dataclass
class Faults:
    """The chain of jobs in a folder, over the log of a config."""

    folder: Path
    log: Path
    references: list[Reference] = field(default_factory=list)

    def __post_init__(self) -> None:
        kept = {"warehouse": str(self.warehouse), "keep": {"replaced_days": 0}}
        lake = {"to": str(self.lake), "tables": LAKE_TABLES}
        config = {"extends": str(self.log), **kept, "deliver": lake}
        (self.folder / "config.yaml").write_text(json.dumps(config))  # which is YAML as well

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def warehouse(self) -> Path:
        return self.state / "warehouse"

    @property
    def lake(self) -> Path:
        return self.state / "lake"

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
        command = [*step.program, "--config", self.folder / "config.yaml", *step.options]
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
        """Run a step to its end, from a copy of all that is kept; then it stands."""
        before, found = self.folder / f"before-{len(self.references)}", self.found(step)
        if REPLACED in step.options:
            run = self._replaced_run(step)
            step = replace(step, options=tuple(run if option == REPLACED else option for option in step.options))
        shutil.copytree(self.state, before, symlinks=True) if self.state.exists() else before.mkdir()
        listed, begin = self.folder / f"points-{len(self.references)}", time.monotonic()
        listed.touch()
        if self.run(step, listed=listed):
            sys.exit(f"{step}: failed without being killed, see {self.folder}/logs")
        seconds = time.monotonic() - begin
        reference = Reference(step, before, found, self.found(step), listed.read_text().splitlines(), seconds)
        self.references.append(reference)
        return reference

    def restore(self, reference: Reference) -> None:
        """Bring back the warehouse and the lake that a step found."""
        shutil.rmtree(self.state)
        shutil.copytree(reference.before, self.state, symlinks=True)

    def kill(self, reference: Reference, kill: Kill) -> list[str]:
        """Kill a step, look at what readers find, and run it again; returns what is not as it should be."""
        self.restore(reference)
        step, old, new = reference.step, reference.found, reference.made
        code, violations = self.run(step, kill), []
        where = f"{step} killed at {kill}" + (f", {kill.seconds:.1f} s" if kill.seconds else "")
        if kill.point and code == 0:
            violations.append(f"{where}: it ended by itself")
        found = self.found(step)
        for part in sorted(found.keys() | old.keys() | new.keys()):
            if found.get(part) not in (old.get(part), new.get(part)):
                violations.append(f"{where}: readers find {part} neither as it was nor as it was to be")
        violations += self._damages(where)
        if self.run(step):
            violations.append(f"{where}: the same command again fails")
        elif (found := self.found(step)) != new:
            parts = sorted(part for part in found.keys() | new.keys() if found.get(part) != new.get(part))
            violations.append(f"{where}: the same command again makes something else: {', '.join(parts)}")
        violations += self._damages(f"{where}, and run again")
        if any((self.warehouse / "_staging").glob("*")):
            violations.append(f"{where}: something is left in _staging")
        return violations

    def _damages(self, where: str) -> list[str]:
        return [f"{where}: {damage.path}: {damage.what}" for damage in verify.damages(Warehouse(self.warehouse))]

    def found(self, step: Step) -> Parts:
        """What readers find before or after a step."""
        return parts(Warehouse(self.warehouse), self.lake, step.job)

    def _replaced_run(self, step: Step) -> str:
        """The run of a night of score's that another has replaced."""
        (earlier,) = rollback.earlier_runs(Warehouse(self.warehouse), "score", step.as_of)
        return earlier.folder.name


def prepare(folder: Path) -> tuple[Faults, list[Step]]:
    """A synthetic log in a fresh folder, and the chain of steps over it."""
    fresh_folder(folder)
    return Faults(folder, folder / "log" / "config.yaml"), chain(folder)


def plan(reference: Reference, at_random: int, chance: random.Random) -> Iterator[Kill]:
    """Every crash point of a step, then `at_random` times within its run."""
    for number, name in enumerate(reference.points, start=1):
        yield Kill(number, name)
    for number in range(1, at_random + 1):
        yield Kill(None, f"random time {number}", chance.uniform(0.2, 1.0) * reference.seconds)


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


def judge(faults: Faults, kills: Iterable[tuple[Reference, Kill]], judged: Judged) -> list[list[str]]:
    """Make the kills that were not judged before, up to ^C; returns the violations of each that is judged."""
    made = []
    try:
        for reference, kill in kills:
            name = f"{reference.step}: {kill}"
            if name not in judged.violations:
                judged.add(name, faults.kill(reference, kill))
                print(f"{name}: {'; '.join(judged.violations[name]) or 'as it should be'}", file=sys.stderr)
            made.append(judged.violations[name])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench faults", description=__doc__)
    parser.add_argument("--at-random", type=int, default=15, help="kills a step at any time (default: %(default)s)")
    parser.add_argument("--only", help="steps by their names, with commas (default: all)")
    parser.add_argument("--judged", type=Path, help="file that keeps each kill: an interrupted run goes on from it")
    parser.add_argument("--json", type=Path, help="file for one object")
    parser.add_argument("--check", action="store_true", help="exit code 1 where a target is missed")
    options = parser.parse_args()
    faults, steps = prepare(BENCH / "faults")
    for step in steps:
        faults.learn(step)
    only, chance = options.only and options.only.split(","), random.Random(7)
    references = [each for each in faults.references if not only or each.step.name in only]
    kills = [(each, kill) for each in references for kill in plan(each, options.at_random, chance)]
    chance.shuffle(kills)  # so that a run that is interrupted (^C) has looked at some of everything
    made = judge(faults, kills, Judged(options.judged))
    violations = list(itertools.chain.from_iterable(made))
    points = sum(len(each.points) for each in references)
    found = {"bench": "faults", "points": points, "kills": len(made), "violations": len(violations)}
    print("\n".join(violations))
    print(json.dumps(found))
    if options.json:
        options.json.write_text(json.dumps(found) + "\n", encoding="utf-8")
    line, reached = verdict("violations", len(violations), 0, at_least=False)
    print(line)
    if options.check and not reached:
        sys.exit(1)


if __name__ == "__main__":
    main()
