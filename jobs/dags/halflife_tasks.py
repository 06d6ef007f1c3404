"""What the DAGs are made of: their settings, and tasks that act on the exit codes of the jobs.

Knows the jobs by their command lines alone: nothing of the library is imported, which lives in another environment.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import yaml
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import Asset, BaseHook, BaseOperator, BaseSensorOperator, Context, Param, TriggerRule
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

log = logging.getLogger(__name__)

# The night that a run makes: the day on which its data interval ends, in UTC. Not the clock: a backfill, a cleared task
# and a run that was late make the same night. A run by hand may name the night, and else makes tonight's: the interval
# that Airflow gives it where it has a logical date is the last whole one before that, and of training a week old.
PARAMS = {"as_of": Param(None, type=["null", "string"], format="date", description="the night; default: the run's")}
AS_OF = (
    "{{ params.as_of or "
    "(data_interval_end if dag_run.run_type in ('scheduled', 'backfill') else dag_run.run_after) | ds }}"
)
RUN = "{{ dag_run.run_after | ts_nodash }}-{{ ti.try_number }}"

# Exit codes of the jobs.
DONE, WRONG, MISSING, AUDIT_FAILED, CONFLICT = 0, 2, 3, 4, 5
# The same command would end in the same way: a wrong config, or data that must not be published.
HOPELESS = (WRONG, AUDIT_FAILED)

SPARK_CONNECTION, ALERT_CONNECTION = "spark_halflife", "halflife_alert"

# A job, and a command of `halflife`, ends with the process whose id this variable holds: that of its task.
STARTER = "HALFLIFE_STARTER"

# What each job publishes, for the DAGs of others that wait for it.
TABLES: Mapping[str, tuple[str, ...]] = {
    "sessionize": ("events", "quarantine", "intake", "sessions", "users", "items", "sequences", "active_sequences"),
    "train": ("models",),
    "score": ("memory", "user_states", "scores", "recommendations", "interest_by_category", "category_trend"),
    "evaluate": ("metrics", "evaluation"),
    "report": ("reports",),
}


@dataclass(frozen=True)
class Settings:
    """The keys of halflife.yaml, which says what they mean."""

    config: str
    first_night: date
    home: Path = Path(__file__).resolve().parents[2]
    logs: Path | None = None
    properties_file: str = "conf/spark-defaults.conf"
    catch_up: bool = True
    nightly: str = "0 2 * * *"
    weekly: str = "0 3 * * 0"
    wait_hours: float = 20
    settle_minutes: float = 10
    evaluate: bool = True
    pool: str = "default_pool"
    retries: int = 3
    retry_minutes: float = 5
    timeout_hours: Mapping[str, float] = field(default_factory=dict)

    @property
    def default_args(self) -> dict[str, Any]:
        """What all tasks share. A retry is for what may pass: a full disk, a lost machine, a log that comes late."""
        return {
            "pool": self.pool,
            "retries": self.retries,
            "retry_delay": timedelta(minutes=self.retry_minutes),
            "retry_exponential_backoff": True,
            "max_retry_delay": timedelta(hours=2),
            "on_failure_callback": alert,
            "on_skipped_callback": alert,
            # Behind a job that was skipped, as another run has published its night, the chain goes on.
            "trigger_rule": TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
        }

    def timeout(self, job: str) -> timedelta | None:
        """How long a task may take."""
        hours = self.timeout_hours.get(job)
        return None if hours is None else timedelta(hours=hours)


def settings() -> Settings:
    """The settings of the YAML file. Raises ValueError that names the file and the key where one is unknown."""
    file = Path(os.environ.get("HALFLIFE_AIRFLOW", Path(__file__).with_name("halflife.yaml")))
    keys: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    if unknown := sorted(keys.keys() - {each.name for each in fields(Settings)}):
        raise ValueError(f"{file}: unknown key {', '.join(unknown)}; the known ones are in jobs/dags/halflife.yaml")
    for path in keys.keys() & {"home", "logs"}:
        keys[path] = Path(keys[path])
    return Settings(**keys)


def assets(*jobs: str) -> list[Asset]:
    """One asset for each table that the jobs publish; its events say which night."""
    return [Asset(name=f"halflife/{table}", uri=f"halflife://tables/{table}") for job in jobs for table in TABLES[job]]


def verdict(code: int, words: str) -> AirflowException:
    """What a task ends with for an exit code other than 0: to fail for good, to be skipped, or to be tried again.

    It is skipped where another run has published the night meanwhile: then it has nothing left to do.
    """
    message = f"exit code {code}: {words}"
    if code in HOPELESS:
        return AirflowFailException(message)
    return AirflowSkipException(message) if code == CONFLICT else AirflowException(message)


class SubmitJob(SparkSubmitOperator):
    """A job by spark-submit, in client mode: elsewhere Spark does not hand on the exit code.

    The same line as scripts/submit's.
    """

    template_fields = (*SparkSubmitOperator.template_fields, "as_of")

    def __init__(self, *, job: str, to: Settings, sets: Sequence[str] = (), **kwargs: Any) -> None:
        log_name = f"{to.logs or to.home / '.logs'}/{job}-{AS_OF}-{RUN}"
        log_file = f"{log_name}.log"
        options = [word for key in sets for word in ("--set", key)]
        super().__init__(
            task_id=job,
            application=f"{to.home}/jobs/{job}.py",
            application_args=["--config", to.config, "--as-of", AS_OF, *options],
            name=f"halflife {job} {AS_OF}",
            conn_id=SPARK_CONNECTION,
            deploy_mode="client",  # whatever the connection says
            spark_binary=f"{to.home}/.venv/bin/spark-submit",
            properties_file=str(to.home / to.properties_file),
            conf={
                "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile=file://{to.home}/conf/log4j2.properties "
                f"-Dhalflife.log={log_file}"
            },
            env_vars={
                "HALFLIFE_LOG": log_file,
                "HALFLIFE_LOG_JSON": f"{log_name}.jsonl",
                "PYSPARK_PYTHON": f"{to.home}/.venv/bin/python",
                # Another Spark's jars would not fit this one's Python.
                "SPARK_HOME": f"{to.home}/.venv/lib/python3.11/site-packages/pyspark",
                "TF_CPP_MIN_LOG_LEVEL": "3",
            },
            execution_timeout=to.timeout(job),
            **kwargs,
        )
        self.home, self.as_of = to.home, AS_OF

    def execute(self, context: Context) -> None:
        """Run the job. Raises what its exit code says."""
        BaseHook.get_connection(SPARK_CONNECTION)  # without one, the hook would submit to YARN
        Path((self.env_vars or {})["HALFLIFE_LOG"]).parent.mkdir(parents=True, exist_ok=True)
        self.env_vars = {**(self.env_vars or {}), STARTER: str(os.getpid())}
        hook = self._hook = self._get_hook()
        try:
            hook.submit(self.application, cwd=self.home)
        except AirflowException as error:
            process, shown = hook._submit_sp, hook._last_submit_log_lines
            if process is None or not process.returncode:
                raise
            raise verdict(process.returncode, shown[-1] if shown else str(error)) from None
        name_the_night(self, context, self.as_of)


def name_the_night(task: BaseOperator, context: Context, as_of: str) -> None:
    """Say with each asset of a task which night it is now published for."""
    for asset in task.outlets:
        context["outlet_events"][asset].extra = {"as_of": as_of}


def ask(to: Settings, arguments: Sequence[str]) -> tuple[int, str]:
    """Run the `halflife` command; returns its exit code and the last line that it shows."""
    command = [str(to.home / ".venv/bin/halflife"), *arguments]
    environment = {**os.environ, STARTER: str(os.getpid())}
    done = subprocess.run(command, cwd=to.home, env=environment, capture_output=True, text=True, check=False)
    shown = done.stdout + done.stderr
    log.info("%s\n%s", " ".join(command), shown.rstrip())
    return done.returncode, (shown.splitlines() or [""])[-1]


class Ask(BaseOperator):
    """A subcommand of `halflife` for the night."""

    template_fields = ("arguments", "as_of")

    def __init__(self, *, command: str, to: Settings, **kwargs: Any) -> None:
        super().__init__(task_id=command, execution_timeout=to.timeout(command), **kwargs)
        self.arguments = [command, "--config", to.config, "--as-of", AS_OF]
        self.as_of, self.to = AS_OF, to

    def execute(self, context: Context) -> None:
        """Run the command. Raises what its exit code says."""
        code, shown = ask(self.to, self.arguments)
        if code != DONE:
            raise verdict(code, shown)
        name_the_night(self, context, self.as_of)


class WaitFor(BaseSensorOperator):
    """Wait until there is what a job needs for the night, by the job's own rules; holds no worker meanwhile.

    Skips the night where it has not come `wait_hours` after the night's first instant.
    """

    template_fields = ("arguments", "as_of")

    def __init__(self, *, job: str, to: Settings, **kwargs: Any) -> None:
        super().__init__(
            mode="reschedule",
            poke_interval=300,
            timeout=timedelta(hours=to.wait_hours + 24),
            execution_timeout=to.timeout("ready"),  # of one look
            **kwargs,
        )
        settled = ["--settled-minutes", f"{to.settle_minutes:g}"] if job == "sessionize" else []
        self.arguments = ["ready", job, "--config", to.config, "--as-of", AS_OF, *settled]
        self.as_of, self.to = AS_OF, to

    def poke(self, context: Context) -> bool:
        """Whether it is there. Raises what another exit code than "missing" says."""
        code, shown = ask(self.to, self.arguments)
        if code not in (DONE, MISSING):
            raise verdict(code, shown)
        night = datetime.combine(date.fromisoformat(self.as_of), datetime.min.time(), UTC)
        if code == MISSING and datetime.now(UTC) > night + timedelta(hours=self.to.wait_hours):
            raise AirflowSkipException(f"{shown}; the night is left out, and the next one needs these logs too")
        return code == DONE


def alert(context: Context) -> None:
    """Log one line about a task that failed or was skipped, and post it to the connection's webhook, if there is one.

    It goes as {"text": line}, which Slack and Mattermost read.
    """
    task = context["task_instance"]
    why = context.get("exception") or "skipped; its log says why"  # Airflow hands on none of what skips
    line = f"{task.dag_id}.{task.task_id} {task.run_id}: {why}"
    log.error("%s", line)
    try:
        url = BaseHook.get_connection(ALERT_CONNECTION).host
    except AirflowException:
        return
    body = Request(url or "", json.dumps({"text": line}).encode(), {"Content-Type": "application/json"})
    with urlopen(body, timeout=30):
        pass
