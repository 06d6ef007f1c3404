"""What the benchmarks share: the settings of the sequences, and running a step in a process of its own, measured."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import psutil
from peak_memory import bytes_in_use

HOME = Path(__file__).resolve().parent.parent
BENCH = HOME / ".bench"

GAP_SECONDS, LENGTH = 1_800, 200
WEIGHTS = {"view": 0.1, "click": 0.3, "cart": 0.6, "purchase": 1.0}
FEATURES = {  # of an event in a sequence, with their types in SQL
    "item_index": "int",
    "type_index": "int",
    "strength": "float",
    "event_seconds": "double",
    "gap_log": "float",
    "revisit_gap_log": "float",
    "revisit_count": "int",
    "session_position": "int",
    "hour": "int",
    "weekday": "int",
}

# For jobs of seconds: the time that the JVM's second compiler and its parallel collector cost never comes back.
SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
EVENTS_PER_PARTITION = 500_000  # of a shuffle in Spark
WATCH_SECONDS, WATCH_SHARE = (
    0.5,
    0.05,
)  # how often memory is looked at: adding it up takes no more of the time than this


@dataclass(frozen=True)
class Measured:
    """What a step cost."""

    seconds: float  # from the moment its engine had answered a trivial query
    process_seconds: float  # of the whole process, start of the JVM included
    cpu_seconds: float  # of the process and its children
    peak_bytes: int  # of the process and its children, shared pages counted once
    stages: Mapping[str, float] = field(default_factory=dict)  # seconds, as far as the step tells them
    later: Sequence[float] = ()  # seconds of the same again in the same process
    found: Mapping[str, float] = field(default_factory=dict)  # what the step was run to find out


def python(script: str, *arguments: object, watch_seconds: float = WATCH_SECONDS) -> Measured:
    """Run scripts/SCRIPT, whose last line is a JSON object with its own `seconds`."""
    return _measured(script, [sys.executable], arguments, watch_seconds)


def spark_submit(script: str, *arguments: object, events: int) -> Measured:
    """The same by spark-submit: two cores, conf/spark-defaults.conf, and partitions that suit so many events."""
    logging = f"-Dlog4j2.configurationFile=file://{HOME}/conf/log4j2.properties -Dhalflife.log={_log(script)}"
    command = [str(Path(sys.executable).with_name("spark-submit")), "--master", "local[2]"]
    command += ["--properties-file", str(HOME / "conf/spark-defaults.conf"), "--driver-java-options", logging]
    command += ["--conf", f"spark.sql.shuffle.partitions={max(8, events // EVENTS_PER_PARTITION)}"]
    return _measured(script, command, arguments)


def sessionize(log: Path, warehouse: Path, events: int, *nights: date) -> Measured:
    """Nights of our job over a log, one after the other in one process; the first has so many events."""
    columns = {"user": "user_id", "item": "item_id", "time": "event_time"}
    columns |= {"event_type": "event_type", "dwell_seconds": "dwell_seconds"}
    config = {
        "warehouse": str(warehouse),
        "sources": {"log": {"path": f"{log}/date={{date}}/*.parquet", "columns": columns}},
        "event_types": {name: {"weight": weight} for name, weight in WEIGHTS.items()},
        "sessionize": {"gap_seconds": GAP_SECONDS, "sequence_length": LENGTH},
    }
    path = warehouse.with_suffix(".yaml")
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")  # which is YAML as well
    return spark_submit("bench_job.py", path, *nights, events=events)


def fresh_folder(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def read_once(folder: Path) -> None:
    """So that whoever comes first does not wait for the disk alone."""
    for path in folder.rglob("*.parquet"):
        path.read_bytes()


def verdict(what: str, value: float, target: float, at_least: bool, unit: str = "") -> tuple[str, bool]:
    """A line about a target, and whether it is reached."""
    reached = value >= target if at_least else value <= target
    bound = "at least" if at_least else "at most"
    return f"{what}: {value:.3g}{unit}, target {bound} {target:g}{unit}: {'reached' if reached else 'missed'}", reached


def _log(script: str) -> Path:
    return HOME / ".logs" / f"{Path(script).stem}.log"


def _measured(
    script: str, command: list[str], arguments: tuple[object, ...], watch_seconds: float = WATCH_SECONDS
) -> Measured:
    """Raises SystemExit that names the step's log where it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_HOME"}
    environment["PYSPARK_PYTHON"] = sys.executable
    log, begin, cpu = _log(script), time.perf_counter(), _cpu_seconds()
    log.parent.mkdir(exist_ok=True)
    command = [*command, str(HOME / "scripts" / script), *map(str, arguments)]
    with log.open("w", encoding="utf-8") as file:
        step = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=file, env=environment, text=True)
        peak_bytes = _watch(step, watch_seconds)
    process_seconds = time.perf_counter() - begin
    assert step.stdout is not None
    printed = step.stdout.read().splitlines()
    if step.returncode:
        sys.exit(f"{script} {' '.join(map(str, arguments))}: exit code {step.returncode}, log: {log}")
    told = json.loads(printed[-1])
    stages, later, found = told.get("stages", {}), told.get("later", ()), told.get("found", {})
    return Measured(told["seconds"], process_seconds, _cpu_seconds() - cpu, peak_bytes, stages, later, found)


def _watch(step: subprocess.Popen[str], watch_seconds: float) -> int:
    """Wait for a step's end; returns the most memory it had."""
    watched, peak = psutil.Process(step.pid), 0
    while True:
        begin = time.perf_counter()
        peak = max(peak, bytes_in_use(watched))
        pause = max(watch_seconds, (time.perf_counter() - begin) / WATCH_SHARE)
        try:
            step.wait(pause)
            return peak
        except subprocess.TimeoutExpired:
            continue


def _cpu_seconds() -> float:
    """Of all children that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
