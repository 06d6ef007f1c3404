"""The command line that all jobs share: arguments -> config -> Spark session -> one pipeline -> exit code."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table

from halflife import config as configuration
from halflife import crash, logs, pseudonyms, starter
from halflife.alarms import Watch
from halflife.config import Config
from halflife.errors import ConfigError, HalflifeError
from halflife.escapes import escaped, redacted
from halflife.logs import LOG
from halflife.progress import Progress
from halflife.pseudonyms import Pseudonyms
from halflife.status import State, StatusFile

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from halflife.warehouse import Run, Warehouse

log = logging.getLogger(__name__)

# The secret of a standalone cluster, where Spark's own processes look for it. A driver must have it as a property: set
# here, it stands in no file and on no command line.
SECRET = "_SPARK_AUTH_SECRET"

EXIT_CODES = """\
exit codes: 0 done (or nothing to do), 2 bad usage or configuration, 3 input missing, 4 audit failed and nothing was
published, 5 another run published meanwhile, 1 anything else"""


@dataclass
class Job:
    """What a pipeline works with."""

    name: str
    as_of: date
    config: Config
    console: TextIO
    until: date  # the last night of the command
    status: StatusFile | None = None
    ended: tuple[State, str, str | None] | None = None  # how, in which words, and the run that was published
    begin: float = field(default_factory=time.monotonic)

    @cached_property
    def spark(self) -> SparkSession:
        """The job's Spark session, started when it is first needed."""
        from pyspark.sql import SparkSession

        builder = SparkSession.builder.appName(f"halflife {self.name} {self.as_of}")
        if secret := os.environ.get(SECRET):
            builder = builder.config("spark.authenticate.secret", secret)
        return builder.getOrCreate()

    @property
    def cores(self) -> int:
        """How many tasks the session runs at once."""
        return self.spark.sparkContext.defaultParallelism

    @cached_property
    def warehouse(self) -> Warehouse:
        """The tables that the config points to."""
        from halflife.warehouse import Warehouse

        return Warehouse(self.config.warehouse)

    @cached_property
    def pseudonyms(self) -> Pseudonyms | None:
        """What stands for the users' ids, where the config asks for pseudonyms."""
        return pseudonyms.configured(self.config)

    @cached_property
    def alarms(self) -> Watch:
        """What the run holds its figures against: the config's bounds, and the last nights of the same job."""
        from halflife.warehouse import readable

        nights = [night for night in self.warehouse.nights(self.name) if night < self.as_of]
        last = nights[-self.config.alarms.recent_nights :]
        manifests = (readable(self.warehouse, self.name, night) for night in last)
        return Watch(self.config.alarms, [manifest for manifest in manifests if manifest is not None])

    @cached_property
    def progress(self) -> Progress:
        """Where the job shows how far it is."""
        return Progress(lambda: _running_tasks(self.spark))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and show it while it runs."""
        if self.status:
            self.status.stage(name, self.progress.seconds)
        logs.about(stage=name)
        crash.point(f"{name}: begins")
        with self.progress.stage(name):
            yield
        crash.point(f"{name}: is done")

    def publish(self, inputs: Mapping[str, Any], stage: Callable[[Run], Mapping[str, Any]]) -> None:
        """Stage the night's tables with `stage`, which returns the manifest's figures, and publish them.

        Does nothing where the night stands as these inputs, config and code would make it; leaves nothing behind where
        the staging fails.
        """
        opened = self.warehouse.begin(self.name, self.as_of, inputs)
        if opened is None:
            self.unchanged("nothing to do: published already from the same inputs, configuration and code")
            return
        logs.about(run=opened.id)
        with self.warehouse.staged(opened) as run:
            figures = {**stage(run), **self.alarms.described()}
            if "spark" in vars(self):  # of several nights, none leaves what it kept to the next
                self.spark.catalog.clearCache()
            with self.stage("publish"):
                config = self.config.model_dump(mode="json")
                manifest = self.warehouse.publish(run, config, figures, self.progress.seconds)
        logs.about(stage=None)
        self._end("published", self._done(manifest), manifest["run_id"])

    def unchanged(self, why: str) -> None:
        """Say why nothing was published, where that is as it should be."""
        self._end("unchanged", self.say(why, "unchanged"))

    def delivered(self, what: str) -> None:
        """Say what a run brought to where others read it."""
        self._end("delivered", self.say(what, "delivered"))

    def _end(self, state: State, line: str, run_id: str | None = None) -> None:
        """Note how the run ends, unless what is still to do fails."""
        self.ended = state, line, run_id

    def _done(self, manifest: Mapping[str, Any]) -> str:
        """Say what was published; returns the line."""
        tables = ", ".join(
            f"{name} {table['rows']:,} rows {table['bytes'] / 1e6:,.1f} MB"
            for name, table in manifest["tables"].items()
            if table["rows"]
        )
        figures = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value:,}"
            for name, value in manifest["metrics"].items()
            if isinstance(value, int | float)
        )
        for alarm in self.alarms.raised:
            print(f"{self.name} {self.as_of}: ALARM: {alarm}", file=self.console)
        text = f"published {tables or manifest['run_id']}" + (f" ({figures})" if figures else "")
        return self.say(text, "published", rows={name: table["rows"] for name, table in manifest["tables"].items()})

    def show(self, table: Table) -> None:
        """Show a table of results."""
        # Where the output is a pipe (spark-submit's own), the width is unknown: wide enough for every column.
        Console(file=self.console, width=120).print(table)

    def say(self, text: str, event: str, **figures: object) -> str:
        """Show a line, and note it in the log as an event; returns it."""
        seconds = round(time.monotonic() - self.begin, 1)
        line = f"{self.name} {self.as_of}: {text}, in {seconds:.1f} s"
        log.info("%s", line, extra=logs.event(event, seconds=seconds, **figures))
        print(line, file=self.console)
        return line


def main(name: str, description: str | None, arguments: Sequence[str] | None = None) -> int:
    """Run the pipeline `name` as its command line says; returns the exit code."""
    options = _parser(name, description).parse_args(arguments)
    starter.end_with_it()
    logs.begin()
    console = _console()
    try:
        config = configuration.load(options.config, options.set)
        pipeline: Callable[[Job], None] = import_module(f"halflife.pipelines.{name}").run
        for night in _nights(options.first, options.as_of):
            run(pipeline, Job(name, night, config, console, until=options.as_of))
    except Exception as error:
        code, message = _in_words(error)
        failed = logs.event("failed", exit_code=code)
        if _known(error) is None:
            log.exception("unexpected failure", extra=failed)
        else:  # below an error: where there is no log file, the line that follows says it all
            log.warning("%s", message, exc_info=error, extra=failed)
        print(f"{name}: {message}", file=console)
        return code
    return 0


def run(pipeline: Callable[[Job], None], job: Job) -> None:
    """Run a pipeline for a night, with a file that says how it goes."""
    logged = os.environ.get(LOG)
    logs.about(job=job.name, night=job.as_of.isoformat(), run=None, stage=None)
    log.info("begins", extra=logs.event("begun"))
    job.status = StatusFile(Path(job.config.warehouse), job.name, job.as_of, logged and Path(logged).name)
    try:
        pipeline(job)
    except Exception as error:
        job.status.end("failed", *_in_words(error))
        raise
    if job.ended is not None:
        state, line, run_id = job.ended
        job.status.end(state, 0, line, run_id, job.progress.seconds)


def _in_words(error: Exception) -> tuple[int, str]:
    """The exit code and the one line of a job that ends with an error."""
    if known := _known(error):
        return known.exit_code, str(known)
    where = os.environ.get(LOG, "standard error")
    summary = " ".join(_root_message(error).split())[:300]
    return 1, f"{type(error).__name__}: {escaped(redacted(summary))} (trace in {where})"


def _known(error: Exception) -> HalflifeError | None:
    """The error as one that names the thing and the remedy, where it is one."""
    from halflife.sources.failures import explain

    return error if isinstance(error, HalflifeError) else explain(error)


def _root_message(error: Exception) -> str:
    """What went wrong first: of a failure inside the JVM, the message of the innermost cause that has one."""
    cause, message = getattr(error, "java_exception", None), None
    while cause is not None:
        message, cause = cause.getMessage() or message, cause.getCause()
    return str(message or error)


def _parser(name: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{name}.py",
        description=description,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the environment, conf/local.yaml say")
    parser.add_argument(
        "--as-of",
        type=_day,
        required=True,
        metavar="YYYY-MM-DD",
        help="the night: its first instant in UTC; all that happened before it is known, nothing after it",
    )
    parser.add_argument(
        "--from",
        dest="first",
        type=_day,
        metavar="YYYY-MM-DD",
        help="run every night from this one to --as-of, one after the other; those that stand are left as they are",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="key.path=value",
        help="override a key of the configuration; may be repeated",
    )
    return parser


def _nights(first: date | None, last: date) -> list[date]:
    """The nights to run, in order."""
    if first is None:
        return [last]
    if first > last:
        raise ConfigError(f"--from {first} is after --as-of {last}")
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no day; write it as 2017-12-01") from error


def _console() -> TextIO:
    """The job's own way to the terminal: everything else that is written to it goes to the log file.

    Spark's Python side, TensorFlow and Horovod write to the standard streams past any logger's settings.
    """
    console = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8")
    if path := os.environ.get(LOG):
        with Path(path).open("a", encoding="utf-8") as file:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(file.fileno(), stream.fileno())
    return console


def _running_tasks(spark: SparkSession) -> tuple[int, int]:
    """Finished and all tasks of the Spark stages that run now."""
    tracker = spark.sparkContext.statusTracker()
    stages = [tracker.getStageInfo(number) for number in tracker.getActiveStageIds()]
    known = [stage for stage in stages if stage is not None]
    return sum(stage.numCompletedTasks for stage in known), sum(stage.numTasks for stage in known)
