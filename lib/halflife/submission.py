"""What spark-submit is told of a job: master, packages, executors and properties, on this machine or on a cluster."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from halflife.errors import ConfigError

if TYPE_CHECKING:  # a local line needs no configuration, and is there before pydantic would be
    from halflife.config import ClusterConfig, Config

HOME: Final = Path(__file__).resolve().parents[2]
DEFAULTS: Final = Path("conf/spark-defaults.conf")
CLUSTER: Final = Path("conf/spark-cluster.conf")
LOG4J: Final = Path("conf/log4j2.properties")
FIND_GPUS: Final = Path("conf/find-gpus")
# Where the images that Spark publishes have theirs, from the folder that they begin in; `cluster.conf` names another.
IN_SPARKS_IMAGE: Final = "../examples/src/main/scripts/getGpusResources.sh"
PYTHON: Final = Path(".venv/bin/python")
LIBRARY, ENVIRONMENT = "halflife.zip", "environment.tar.gz"  # of scripts/package
UNPACKED: Final = "./environment/bin/python"  # in the folder in which an executor starts
FILES: Final = ("py-files", "archives", "files", "spark.pyspark.driver.python")
WITHOUT_SPARK: Final = ("report", "deliver")  # the driver alone works


@dataclass(frozen=True)
class Submission:
    """What spark-submit is told. Paths of the project are relative to its folder."""

    job: str
    arguments: Sequence[str]
    master: str
    log: Path
    java_options: str = ""
    options: Mapping[str, str] = field(default_factory=dict)  # of spark-submit, without their dashes
    conf: Mapping[str, str] = field(default_factory=dict)  # Spark's properties, over those of DEFAULTS

    def command(self, home: Path = Path()) -> list[str]:
        """The command line, with the project's paths below `home`."""
        java = f"-Dlog4j2.configurationFile={_url(home / LOG4J)} -Dhalflife.log={home / self.log}"
        return [
            str(home / ".venv/bin/spark-submit"),
            *("--master", self.master),
            *("--properties-file", str(home / DEFAULTS)),
            *("--driver-java-options", f"{self.java_options} {java}".strip()),
            *(word for name, value in self.options.items() for word in (f"--{name}", _below(home, name, value))),
            *(word for name, value in self.conf.items() for word in ("--conf", f"{name}={_below(home, name, value)}")),
            str(home / f"jobs/{self.job}.py"),
            *self.arguments,
        ]

    def shown(self) -> str:
        """The command line for people: an option a line."""
        first, *words = self.command()
        lines, rest = [first], iter(words)
        for word in rest:
            value = f" {shlex.quote(next(rest))}" if word.startswith("--") and not lines[-1].startswith("jobs/") else ""
            lines.append(f"{shlex.quote(word)}{value}")
            if word.startswith("jobs/"):
                break
        return " \\\n    ".join([*lines[:-1], shlex.join([lines[-1], *rest])])


def _url(path: Path) -> str:
    return f"file://{path}" if path.is_absolute() else str(path)


def _below(home: Path, name: str, value: str) -> str:
    """The value of an option or a property; those that are files of the project lie below `home`."""
    return str(home / value) if name in FILES else value


def local(job: str, arguments: Sequence[str], log: Path, master: str, java_options: str = "") -> Submission:
    """A job on this machine."""
    return Submission(job, arguments, master, log, java_options)


def on_cluster(
    job: str,
    arguments: Sequence[str],
    config: Config,
    properties: Mapping[str, str],
    log: Path,
    java_options: str = "",
) -> Submission:
    """A job on the cluster of a config; `properties` are those of CLUSTER.

    Raises ConfigError where the config does not say which cluster.
    """
    cluster = config.cluster
    if cluster.master is None or cluster.driver_host is None:
        missing = "master" if cluster.master is None else "driver_host"
        raise ConfigError(f"cluster.{missing}: not set, and --env cluster needs it; conf/cluster.yaml shows how")
    packages = Path(cluster.packages)
    options = {
        "deploy-mode": "client",
        "driver-memory": cluster.driver_memory,
        "py-files": str(packages / LIBRARY),
    }
    if cluster.python is None:
        options["archives"] = f"{packages / ENVIRONMENT}#environment"
    if job == "train" and cluster.train.gpus_per_rank and cluster.master == "yarn":
        options["files"] = str(FIND_GPUS)
    conf = {
        **properties,
        "spark.pyspark.python": cluster.python or UNPACKED,
        "spark.pyspark.driver.python": str(PYTHON),
        "spark.driver.host": cluster.driver_host,
        "spark.driver.bindAddress": cluster.driver_host,
        **(_ranks(config, cluster.master) if job == "train" else _executors(cluster, job)),
        **cluster.conf,
    }
    return Submission(job, arguments, cluster.master, log, java_options, options, conf)


def _executors(cluster: ClusterConfig, job: str) -> dict[str, str]:
    """As many executors as there is work for."""
    executors = next((found for name, found in cluster.jobs.items() if name == job), cluster.executors)
    return {
        "spark.executor.cores": str(executors.cores),
        "spark.executor.memory": executors.memory,
        "spark.executor.memoryOverhead": executors.python_memory,
        "spark.task.cpus": str(executors.cores_per_task),
        "spark.dynamicAllocation.enabled": "true",
        # An executor with shuffle files that are still needed stays: no shuffle service has to run on the nodes.
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.minExecutors": str(executors.at_least),
        "spark.dynamicAllocation.maxExecutors": str(executors.at_most),
        # How a night is cut into files must not depend on how many executors happen to be there.
        "spark.default.parallelism": str(executors.tasks),
    }


def _ranks(config: Config, master: str) -> dict[str, str]:
    """As many executors as the ranks need, all of them there before the first task: a rank waits for every other."""
    settings, ranks = config.cluster.train, config.train.ranks
    executors = math.ceil(ranks / settings.ranks_per_executor)
    cores = settings.ranks_per_executor * settings.cores_per_rank
    conf = {
        "spark.executor.cores": str(cores),
        "spark.executor.memory": settings.memory,
        "spark.executor.memoryOverhead": settings.python_memory,
        "spark.task.cpus": str(settings.cores_per_rank),
        "spark.dynamicAllocation.enabled": "false",
        "spark.executor.instances": str(executors),
        "spark.scheduler.minRegisteredResourcesRatio": "1.0",
        "spark.scheduler.maxRegisteredResourcesWaitingTime": f"{config.train.start_timeout_seconds}s",
        # Ranks are spread by cores alone: to wait for the node that has a block would put two on one.
        "spark.locality.wait": "0s",
        "spark.default.parallelism": str(ranks),
    }
    if master.startswith("spark://"):  # it knows no number of executors, only of cores
        conf["spark.cores.max"] = str(executors * cores)
    if settings.gpus_per_rank:
        conf["spark.executor.resource.gpu.amount"] = str(settings.ranks_per_executor)
        conf["spark.task.resource.gpu.amount"] = "1"
        if master == "yarn":  # a standalone worker has a script of its own
            conf["spark.executor.resource.gpu.discoveryScript"] = f"./{FIND_GPUS.name}"
        if master.startswith("k8s://"):
            conf["spark.executor.resource.gpu.discoveryScript"] = IN_SPARKS_IMAGE
            conf["spark.executor.resource.gpu.vendor"] = "nvidia.com"
    return conf


def read_properties(file: Path) -> dict[str, str]:
    """A file of Spark's properties: a name, blanks and a value a line; # begins a comment."""
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    pairs = (line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {name: value.strip() for name, value in pairs}
