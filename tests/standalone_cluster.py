"""A Spark standalone cluster on loopback: a master, workers that can be killed with all that they run, and a secret."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pyspark

from halflife.command import SECRET
from halflife.submission import CLUSTER, HOME, read_properties

SPARK_CLASS = Path(pyspark.__file__).parent / "bin" / "spark-class"
WORKER_CORES, WORKER_MEMORY = 1, "2g"
START_SECONDS = 300.0  # of a machine that does much else


def until(found: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Wait for something to come true."""
    limit = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < limit, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)


@dataclass
class Standalone:
    """The cluster's processes; its folder holds their logs and what the executors unpack."""

    folder: Path
    port: int
    secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def master(self) -> str:
        """What spark-submit is told."""
        return f"spark://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What the cluster's processes share: no Python of this project is in reach of theirs."""
        # Other kernels of OpenBLAS than local mode's would round the last bits of a product otherwise.
        kept = {
            name: value for name, value in os.environ.items() if name.startswith(("JAVA_HOME", "HOME", "OPENBLAS_"))
        }
        # Local files, the unpacked archives among them, stay in this folder: a killed process removes none.
        ours = {
            "SPARK_LOCAL_DIRS": str(self.folder / "spark-local"),
            "SPARK_DAEMON_MEMORY": "512m",
            SECRET: self.secret,
        }
        return {**kept, **ours, "PATH": "/usr/bin:/bin"}

    def start(self, name: str, role: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a master or a worker, each of which listens on a loopback address of its own: to Spark, a host."""
        host = f"127.0.0.{len(self.processes) + 1}"
        command = [SPARK_CLASS, f"org.apache.spark.deploy.{role}", "--host", host, "--webui-port", "0"]
        command += ["--properties-file", str(self.folder / "spark.conf"), *arguments]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder
            )
        self.processes.append(process)
        return process

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker; returns when the master knows it."""
        name = f"worker-{len(self.processes)}"
        size = ("--cores", str(WORKER_CORES), "--memory", WORKER_MEMORY, "--work-dir", str(self.folder / name))
        process = self.start(name, "worker.Worker", *size, self.master)
        until(lambda: "registered with master" in (self.folder / f"{name}.log").read_text(), name)
        return process

    def kill_worker(self) -> list[Path]:
        """Kill a worker with its executors and their Python; another one takes its place.

        Returns the executables of the processes that died.
        """
        died = []
        victim = next(process for process in self.processes[1:] if process.poll() is None)
        node = psutil.Process(victim.pid)
        for process in [node, *node.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                died.append(Path(process.exe()))
                process.kill()
        victim.wait()
        self.start_worker()
        return died

    def stop(self) -> None:
        """End all processes, and remove what they unpacked."""
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            process.wait(30)
        for folder in self.folder.glob("worker-*/"):
            shutil.rmtree(folder)
        shutil.rmtree(self.folder / "spark-local", ignore_errors=True)


@contextlib.contextmanager
def standalone(folder: Path, workers: int) -> Iterator[Standalone]:
    """A cluster of workers while the block runs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cluster = Standalone(folder, port)
    settings = {name: value for name, value in read_properties(HOME / CLUSTER).items() if "executor" not in name}
    (folder / "spark.conf").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    try:
        cluster.start("master", "master.Master", "--port", str(port))
        until(lambda: "I have been elected leader" in (folder / "master.log").read_text(), "master")
        for _ in range(workers):
            cluster.start_worker()
        yield cluster
    finally:
        cluster.stop()
