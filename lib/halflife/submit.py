"""spark-submit's command line for a job, on this machine or on a cluster; run by scripts/submit.

    scripts/submit JOB [--env local|cluster] [--dry-run] --config FILE --as-of YYYY-MM-DD [...]

local     Spark in this machine's cores, with conf/spark-defaults.conf (the default)
cluster   the master, executors and packages of the config's `cluster` section, with conf/spark-cluster.conf as well
--dry-run prints the line, to be run in the project's folder, and runs nothing

The job's own options follow; scripts/submit JOB --help lists them. The job runs in client mode: its exit code is
that of scripts/submit, which YARN's and Kubernetes' cluster mode would lose.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from halflife.errors import ConfigError
from halflife.starter import STARTER
from halflife.submission import (
    CLUSTER,
    ENVIRONMENT,
    HOME,
    LIBRARY,
    PYTHON,
    WITHOUT_SPARK,
    Submission,
    local,
    on_cluster,
    read_properties,
)


def main(given: Sequence[str]) -> int:
    """Print or run the line of a job; returns its exit code."""
    jobs = sorted(path.stem for path in (HOME / "jobs").glob("*.py"))
    if not given or given[0] not in jobs:
        print(f"usage: scripts/submit JOB [arguments]; jobs: {' '.join(jobs)}", file=sys.stderr)
        return 2
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--env", choices=("local", "cluster"), default="local")
    parser.add_argument("--dry-run", action="store_true")
    options, arguments = parser.parse_known_args(given[1:])
    try:
        submission = _submission(given[0], arguments, options.env, dry=options.dry_run)
    except ConfigError as error:
        print(f"{given[0]}: {error}", file=sys.stderr)
        return error.exit_code
    if options.dry_run:
        print(submission.shown())
        return 0
    return _run(submission)


def check_packages(folder: Path, needed: Sequence[str] = (LIBRARY, ENVIRONMENT)) -> None:
    """Raises ConfigError where a cluster would not run the code that is here, but that of an older package or none."""
    library = folder / LIBRARY
    if missing := [name for name in needed if not (folder / name).exists()]:
        raise ConfigError(f"cluster.packages: {folder} has no {' and no '.join(missing)}; run scripts/package")
    with zipfile.ZipFile(library) as packed:
        packages = {name: packed.read(name) for name in packed.namelist() if name.startswith("halflife/")}
    here = HOME / "lib"
    sources = [file for file in here.glob("halflife/**/*") if file.suffix in (".py", ".typed")]
    if packages != {str(file.relative_to(here)): file.read_bytes() for file in sources}:
        raise ConfigError(f"cluster.packages: {library} is not of the code in {here}; run scripts/package")


def _submission(job: str, arguments: Sequence[str], env: str, dry: bool) -> Submission:
    started = "NOW" if dry else f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}"
    folder = Path(".logs") if dry else Path(os.environ.get("HALFLIFE_LOGS") or HOME / ".logs").absolute()
    log, java = folder / f"{job}-{started}.log", os.environ.get("HALFLIFE_JAVA_OPTIONS", "")
    if env == "local" or job in WITHOUT_SPARK:
        return local(job, arguments, log, os.environ.get("HALFLIFE_MASTER") or "local[*]", java)
    from halflife import config

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[])
    found, _ = parser.parse_known_args(arguments)
    loaded = config.load(found.config, found.set)
    if not dry:
        needed = (LIBRARY, ENVIRONMENT) if loaded.cluster.python is None else (LIBRARY,)
        check_packages(HOME / loaded.cluster.packages, needed)
    return on_cluster(job, arguments, loaded, read_properties(HOME / CLUSTER), log, java)


def _run(submission: Submission) -> int:
    """Run spark-submit: what Spark says goes to the log, what the job says to the terminal."""
    log = HOME / submission.log
    log.parent.mkdir(parents=True, exist_ok=True)
    unless_given = {
        "PYSPARK_PYTHON": str(HOME / PYTHON),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "HALFLIFE_LOG_JSON": str(log.with_suffix(".jsonl")),
    }
    given = {name: value for name, value in os.environ.items() if value or name not in unless_given}
    environment = {**unless_given, **given, "HALFLIFE_LOG": str(log), STARTER: str(os.getpid())}
    environment.pop("SPARK_HOME", None)  # another Spark's jars would not fit this one's Python
    if sys.stderr.isatty():
        environment["HALFLIFE_TERMINAL"] = os.ttyname(sys.stderr.fileno())
    with log.open("ab") as said:
        process = subprocess.Popen(submission.command(HOME), env=environment, stderr=said)
        # Who ends scripts/submit means the job: that ends with Spark's launcher, and where this is killed, with this.
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        code = process.wait()
    code = 128 - code if code < 0 else code
    if code:
        print(f"{submission.job}: exit code {code}, log: {log}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
