"""`halflife doctor`: is every part that the jobs stand on there, and does it work?

Each part is checked by using it, in a process of its own with a time limit: a part that hangs or crashes is then one
failed line and not the end of the check. What the parts themselves say goes to a log file, named only where one fails.
"""

# No `from __future__ import annotations`: Spark reads a pandas UDF's hints, and as text they would not lead to the
# pandas that is imported inside the check, where a missing pandas is a failed line.

import argparse
import contextlib
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
RESULT = "halflife-doctor: "  # marks the line of a part's output that is its result
RANKS = 2
GIB = 2**30
NEEDED_DISK_BYTES = 5 * GIB  # the demo's warehouse of three nights is under 3 GB, and Spark spills beside it
NEEDED_MEMORY_BYTES = 6 * GIB  # Spark's 4 GiB heap, its Python workers and two training ranks on a small log
SET_UP_AGAIN = "run scripts/setup; if that does not help, remove .venv and run it again"


class DoctorError(Exception):
    """A part is there but does not do what it should."""


@dataclass(frozen=True)
class Part:
    """One line of the doctor's report."""

    name: str
    check: Callable[[], str]  # uses the part; returns the versions seen, raises where something is wrong
    remedy: str
    limit_seconds: int = 180  # each takes 1 to 10 s on an idle machine; a busy one is not a broken one


@dataclass(frozen=True)
class Outcome:
    """What using a part came to: its versions, or why it failed."""

    ok: bool
    detail: str
    seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Check the parts in turn, print one line each; returns 0 if all work, 1 if any does not."""
    parser = argparse.ArgumentParser(prog="halflife doctor", description="Check each part by using it.")
    parser.add_argument("--part", choices=[part.name for part in PARTS], help="this part only")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)  # we are the part's own process
    options = parser.parse_args(arguments)
    chosen = [part for part in PARTS if options.part in (None, part.name)]
    if options.inside:
        return _report(chosen[0])
    log = Path(os.environ.get("HALFLIFE_LOGS", ROOT / ".logs")) / "doctor.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("")
    failures = [part.name for part in chosen if not _examine(part, log).ok]
    if failures:
        print(f"not working: {', '.join(failures)}; what they said is in {log}")
    return 1 if failures else 0


def _report(part: Part) -> int:
    """Inside the part's own process: use it and print what came of it as the marked line."""
    try:
        detail = part.check()
    except Exception as error:
        traceback.print_exc()
        print(RESULT + (str(error).strip().splitlines() or [type(error).__name__])[0], flush=True)
        return 1
    print(RESULT + detail, flush=True)
    return 0


def _examine(part: Part, log: Path) -> Outcome:
    outcome = run_apart(part, log)
    mark = "ok  " if outcome.ok else "FAIL"
    print(f"{mark}  {part.name:<11} {outcome.detail:<58} {outcome.seconds:5.1f} s", flush=True)
    if not outcome.ok:
        print(f"      what to do: {part.remedy}", flush=True)
    return outcome


def run_apart(part: Part, log: Path) -> Outcome:
    """Use a part in a process of its own, whose output is added to `log`."""
    begin = time.monotonic()
    with log.open("a", encoding="utf-8") as words:
        words.write(f"=== {part.name}\n")
        words.flush()
        with subprocess.Popen(
            [sys.executable, "-m", "halflife.doctor", "--inside", "--part", part.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
            env=_quiet_environment(log),
            # A group of its own, so that a JVM or a rank it started can be ended with it.
            start_new_session=True,
        ) as process:
            try:
                output, _ = process.communicate(timeout=part.limit_seconds)
            except subprocess.TimeoutExpired:
                return Outcome(False, f"no answer within {part.limit_seconds} s", time.monotonic() - begin)
            finally:
                _end_group(process)
        words.write(output)
    seconds = time.monotonic() - begin
    results = [line.removeprefix(RESULT) for line in output.splitlines() if line.startswith(RESULT)]
    if process.returncode < 0:
        return Outcome(False, f"ended by {signal.Signals(-process.returncode).name}", seconds)
    detail = results[-1] if results else f"ended with exit code {process.returncode} and no result"
    return Outcome(process.returncode == 0 and bool(results), detail[:200], seconds)


def _end_group(process: subprocess.Popen[str]) -> None:
    """End whatever of the part's processes is still there."""
    with contextlib.suppress(ProcessLookupError):  # all of them ended by themselves
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _quiet_environment(log: Path) -> dict[str, str]:
    """The environment of a part's process: nothing but errors on TensorFlow's side, Spark's words to the log."""
    conf = ROOT / "conf"
    submit = [
        "--master local[1]",
        f"--properties-file '{conf / 'spark-defaults.conf'}'",
        "--driver-memory 512m",
        "--driver-java-options",
        f"'-Dlog4j2.configurationFile=file://{conf / 'log4j2.properties'} -Dhalflife.log={log}'",
        "pyspark-shell",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "SPARK_HOME"}
    return environment | {
        "PYSPARK_SUBMIT_ARGS": " ".join(submit),
        "PYSPARK_PYTHON": sys.executable,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONFAULTHANDLER": "1",
    }


def _versions(*packages: str) -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


# --- the parts -------------------------------------------------------------------------------------------------------


def check_python() -> str:
    """Python 3.11, 64 bits."""
    if sys.version_info[:2] != (3, 11):
        raise DoctorError(f"Python {platform.python_version()}, and 3.11 is needed")
    return f"{platform.python_version()}, {platform.machine()}"


def check_machine() -> str:
    """Room on the disk and in memory."""
    import psutil

    disk_bytes = psutil.disk_usage(str(ROOT)).free
    memory_bytes = psutil.virtual_memory().available
    if disk_bytes < NEEDED_DISK_BYTES:
        raise DoctorError(f"{disk_bytes / GIB:.1f} GiB of disk free, and {NEEDED_DISK_BYTES / GIB:.0f} are needed")
    if memory_bytes < NEEDED_MEMORY_BYTES:
        raise DoctorError(
            f"{memory_bytes / GIB:.1f} GiB of memory free, and {NEEDED_MEMORY_BYTES / GIB:.0f} are needed"
        )
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {memory_bytes / GIB:.1f} GiB memory and {disk_bytes / GIB:.0f} GiB disk free"


def check_java() -> str:
    """The Java that Spark's own scripts find, of a version that Spark 4.0 starts on."""
    import pyspark

    spark_class = Path(pyspark.__file__).parent / "bin" / "spark-class"
    # spark-class chooses the Java; a class of the launcher without Spark itself would do, and --version is one.
    answer = subprocess.run(
        [spark_class, "org.apache.spark.deploy.SparkSubmit", "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    words = answer.stdout + answer.stderr
    if answer.returncode != 0:
        raise DoctorError((words.strip() or "no Java").splitlines()[-1])
    name, _, version = words.partition("OpenJDK")[2].partition("\n")[0].partition(", ")
    if version.partition(".")[0] not in ("17", "21"):
        raise DoctorError(f"Java {version or 'of an unknown version'}, and 17 or 21 is needed")
    return f"{version}, OpenJDK{name}"


def check_arrow() -> str:
    """pandas to Parquet and back, list columns included."""
    import numpy as np
    import pandas as pd
    import pyarrow.parquet as pq

    frame = pd.DataFrame({"user_index": np.arange(3), "gap": [np.full(2, i, np.float32) for i in range(3)]})
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/three.parquet"
        frame.to_parquet(path, compression="zstd")
        back = pq.read_table(path).to_pandas()
    if back["user_index"].tolist() != [0, 1, 2] or back["gap"][2].tolist() != [2.0, 2.0]:
        raise DoctorError("Parquet gave back other values than were written")
    return _versions("pyarrow", "pandas", "numpy")


def check_tensorflow() -> str:
    """One gradient step through a Keras LSTM lowers its loss."""
    import keras
    import numpy as np
    import tensorflow as tf

    keras.utils.set_random_seed(7)
    layer = keras.layers.LSTM(4)
    inputs = tf.constant(np.random.default_rng(7).normal(size=(8, 5, 3)), tf.float32)

    def loss() -> tf.Tensor:
        return tf.reduce_mean((layer(inputs) - 0.5) ** 2)

    with tf.GradientTape() as tape:
        before = loss()
    variables = layer.trainable_variables
    keras.optimizers.SGD(0.1).apply(tape.gradient(before, variables), variables)
    if not float(loss()) < float(before):
        raise DoctorError("a gradient step did not lower the loss")
    gpus = len(tf.config.list_physical_devices("GPU"))
    return f"{tf.__version__}, keras {keras.__version__}" + (f", {gpus} GPU" if gpus else "")


def check_petastorm() -> str:
    """Ten rows with a list column, written as Parquet, come back as batches of 2-D arrays."""
    import numpy as np
    import pandas as pd
    from petastorm import make_batch_reader

    frame = pd.DataFrame({"user_index": np.arange(10), "gap": [np.full(3, i, np.float32) for i in range(10)]})
    with tempfile.TemporaryDirectory() as folder:
        frame.to_parquet(f"{folder}/ten.parquet", row_group_size=5)
        # The synchronous pool: the one with threads can end an epoch before its first row group.
        with make_batch_reader(f"file://{folder}", num_epochs=1, reader_pool_type="dummy") as reader:
            batches = list(reader)
    if sum(float(batch.gap.sum()) for batch in batches) != 3 * 45 or batches[0].gap.shape[1:] != (3,):
        raise DoctorError("the batches hold other values than were written")
    return _versions("petastorm")


def check_spark() -> str:
    """A one-row job through a pandas UDF, with the settings of conf/."""
    import pandas as pd
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F
    from pyspark.sql.pandas.functions import pandas_udf

    spark = SparkSession.builder.appName("halflife doctor").getOrCreate()

    # pyspark's own types lack the UDF declared by its hints, and pandas' classes take no parameter at run time.
    @pandas_udf("double")  # type: ignore[call-overload, untyped-decorator]
    def half(values: pd.Series) -> pd.Series:  # type: ignore[type-arg]
        return values / 2

    rows = spark.range(1, 2).select(half(F.col("id").cast("double")).alias("half")).collect()
    zone = spark.conf.get("spark.sql.session.timeZone")
    version = spark.version
    spark.stop()
    if [row["half"] for row in rows] != [0.5]:
        raise DoctorError(f"half of 1 came out as {rows}")
    if zone != "UTC":
        raise DoctorError(f"the session's time zone is {zone}: conf/spark-defaults.conf was not read")
    return f"{version}, pandas UDF"


def check_horovod() -> str:
    """Two ranks on this machine add up their numbers.

    The ranks are started here rather than by horovodrun, whose meeting point listens on all of the machine's addresses.
    """
    from horovod.runner.common.util.hosts import get_host_assignments, parse_hosts
    from horovod.runner.gloo_run import create_slot_env_vars
    from horovod.runner.http.http_server import RendezvousHandler, RendezvousHTTPServer

    slots = get_host_assignments(parse_hosts(f"localhost:{RANKS}"), RANKS, RANKS)
    server = RendezvousHTTPServer((LOOPBACK, 0), RendezvousHandler, 0)
    server.init(slots)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    meeting = {
        "HOROVOD_GLOO_RENDEZVOUS_ADDR": LOOPBACK,
        "HOROVOD_GLOO_RENDEZVOUS_PORT": str(server.server_address[1]),
        "HOROVOD_CONTROLLER": "gloo",
        "HOROVOD_CPU_OPERATIONS": "gloo",
        "HOROVOD_GLOO_IFACE": "lo",
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", "from halflife.doctor import allreduce; allreduce()"],
            stdout=sys.stderr,
            env=os.environ | meeting | create_slot_env_vars(slot),
        )
        for slot in slots
    ]
    codes = [rank.wait() for rank in ranks]
    server.shutdown()
    if any(codes):
        raise DoctorError(f"the ranks ended with exit codes {codes}")
    return f"{importlib.metadata.version('horovod')}, allreduce on {RANKS} ranks"


def allreduce() -> None:
    """What each rank of `check_horovod` does: the sum of the ranks' numbers must be the same everywhere."""
    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    if hvd.size() != RANKS:
        raise DoctorError(f"{hvd.size()} ranks instead of {RANKS}")
    total = hvd.allreduce(tf.constant([1.0 + hvd.rank()]), op=hvd.Sum)
    hvd.shutdown()
    if float(total[0]) != sum(range(1, RANKS + 1)):
        raise DoctorError(f"the sum came out as {float(total[0])}")


PARTS: tuple[Part, ...] = (
    Part("python", check_python, SET_UP_AGAIN),
    Part("machine", check_machine, "free disk space or memory; scripts/demo --small needs less of both"),
    Part(
        "java",
        check_java,
        "install Java 17 or 21 (Debian: apt-get install openjdk-17-jre-headless), then scripts/setup",
    ),
    Part("arrow", check_arrow, SET_UP_AGAIN),
    Part("tensorflow", check_tensorflow, f"{SET_UP_AGAIN}; the processor needs AVX"),
    Part("petastorm", check_petastorm, SET_UP_AGAIN),
    Part("pyspark", check_spark, f"{SET_UP_AGAIN}; JAVA_HOME must be a Java 17 or 21"),
    Part("horovod", check_horovod, f"{SET_UP_AGAIN}; the network interface lo must be up"),
)


if __name__ == "__main__":
    sys.exit(main())
