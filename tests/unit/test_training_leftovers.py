"""What trainings leave in the warehouse: pruned when one ends, told apart by what is trained, and never in the way."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from functools import partial
from importlib import import_module
from pathlib import Path
from socketserver import BaseRequestHandler, TCPServer
from typing import Any
from unittest.mock import MagicMock

import psutil
import pytest
from horovod.runner.util import network

from halflife.config import Config, TrainConfig
from halflife.errors import ConfigError, HalflifeError
from halflife.pipelines import train
from halflife.training import horovodrun, launch, leftovers, lifeline
from halflife.training.gate import RefusedError
from halflife.training.leftovers import Keep
from halflife.training.task import RankResult, TrainingTask
from training_run import task_in

NIGHT = date(2026, 3, 9)
SOURCE = {"path": "-", "event_type": "buy", "columns": {"user": "u", "item": "i", "time": "t"}}
BASE = {"warehouse": "-", "sources": {"log": SOURCE}, "event_types": {"buy": {"weight": 1}}}


def folder(root: Path, name: str) -> Path:
    (root / name).mkdir(parents=True)
    (root / name / "arrays-1-1.npz").write_bytes(b"0")
    return root / name


def test_what_earlier_trainings_left_goes_and_what_is_used_or_later_stays(tmp_path: Path) -> None:
    own, killed = folder(tmp_path, "2026-03-09-aa"), folder(tmp_path, "2026-03-02-bb")
    refused, later = folder(tmp_path, "2026-03-09-cc"), folder(tmp_path, "2026-03-16-dd")
    curves = [folder(tmp_path / "tensorboard", f"2026-03-0{day}-ee") for day in range(1, 6)]
    for age, curve in enumerate(curves):
        os.utime(curve, (1_000 + age, 1_000 + age))
    held = folder(tmp_path, "2026-02-23-ff")
    drawing = folder(tmp_path / "tensorboard", held.name)
    os.utime(drawing, (1_000, 1_000))
    with running(held):
        leftovers.prune(Keep(own, curves[0]), NIGHT, tensorboard_runs=2)
    assert [path.exists() for path in (own, killed, refused, later, held)] == [True, False, False, True, True]
    assert [path.exists() for path in (*curves, drawing)] == [False, False, False, True, True, True]


@pytest.mark.parametrize("refused", [False, True], ids=["published", "refused"])
def test_a_run_holds_its_folder_until_it_is_published_and_the_folder_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: bool
) -> None:
    """Another process looks at each step: a process does not keep a lock from itself."""
    code = "import pathlib, sys\nfrom halflife.training import lifeline\n"
    code += "with lifeline.held(pathlib.Path(sys.argv[1])): pass"
    own = Keep(tmp_path / "_training" / "2026-03-02-aa")
    held: list[str] = []
    remove = shutil.rmtree

    def look(step: str) -> None:
        shown = subprocess.run([sys.executable, "-c", code, str(own.checkpoints)], capture_output=True, text=True)
        assert "another run trains this very model" in shown.stderr
        held.append(step)

    def publish(*_: Any) -> None:
        look("before")
        if refused:
            try:
                train._refuse(own, "no better", {})
            finally:
                look("refused")
        look("published")

    def rmtree(path: Path, **how: Any) -> None:
        look("removed")
        remove(path, **how)

    monkeypatch.setattr(train, "_keep", lambda *_: own)
    monkeypatch.setattr(train, "digests", lambda *_: {})
    monkeypatch.setattr(shutil, "rmtree", rmtree)
    job: Any = MagicMock(config=Config.model_validate(BASE), as_of=NIGHT, publish=publish, console=None)
    job.name = "train"  # MagicMock(name=...) names the mock
    job.warehouse.last_night.return_value = None
    train.run(job)
    assert held == (["before", "refused"] if refused else ["before", "published", "removed"])
    left = {file.name for file in own.checkpoints.glob("*")} - {
        lifeline.PULSE,
        f".{lifeline.PULSE}",
    }  # beaten meanwhile
    assert left == ({leftovers.REFUSED, lifeline.NAME} if refused else set())


@contextmanager
def running(held: Path) -> Iterator[None]:
    """Another process's run in a folder: a process does not keep a lock from itself."""
    code = "import pathlib, sys\nfrom halflife.training import lifeline\n"
    code += "with lifeline.held(pathlib.Path(sys.argv[1])): print(flush=True); input()"
    command = [sys.executable, "-c", code, str(held)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


def inputs(**section: Any) -> dict[str, Any]:
    return train.configured(Config.model_validate({**BASE, "train": section}))


def test_ranks_on_several_machines_need_an_interface_of_their_own() -> None:
    spread = TrainConfig(launcher="horovodrun", hosts="a:2,b:2", ranks=4)
    with pytest.raises(ConfigError, match=r"train\.network_interface: .*name the interface of a private network"):
        launch._run_on_hosts(Path("task.json"), spread)
    assert launch._interface(spread.model_copy(update={"network_interface": "lo"}), local=False) == "lo"
    with pytest.raises(ConfigError, match=r"train\.hosts: 'a,b': each host with its ranks"):
        launch._run_on_hosts(Path("task.json"), spread.model_copy(update={"hosts": "a,b"}))
    elsewhere = spread.model_copy(update={"network_interface": "eth99"})
    with pytest.raises(ConfigError, match="has no interface 'eth99'"):
        launch._run_on_hosts(Path("task.json"), elsewhere)
    with pytest.raises(ConfigError, match=r"has no interface 'eth99' with an IPv4 address; it has .*lo"):
        horovodrun.listen_on("eth99")


@pytest.mark.parametrize("hosts", ["localhost", "localhost:2", "127.0.0.1:1,localhost:1"])
def test_ranks_on_this_machine_alone_stay_on_loopback_whatever_interface_is_chosen(
    hosts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **_: commands.append(command))
    launch._run_on_hosts(
        Path("task.json"), TrainConfig(launcher="horovodrun", hosts=hosts, network_interface="eth99", ranks=2)
    )
    (command,) = commands
    assert command[command.index("--network-interfaces") + 1] == "lo"


def test_ranks_are_told_the_address_that_is_listened_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an interface with two of them."""
    lo = psutil.net_if_addrs()["lo"]
    (first,) = (found for found in lo if found.family == socket.AF_INET)
    two = {"eth1": [first, first._replace(address="127.0.0.2")]}
    for module in (psutil, network):
        monkeypatch.setattr(module, "net_if_addrs", lambda: two)
    for name in horovodrun.LISTENERS:  # put back what listen_on replaces
        monkeypatch.setattr(f"{name}.find_port", None)
    monkeypatch.setattr("horovod.runner.util.network.get_driver_ip", network.get_driver_ip)
    horovodrun.listen_on("eth1")
    server, _ = import_module(horovodrun.LISTENERS[0]).find_port(
        partial(TCPServer, RequestHandlerClass=BaseRequestHandler)
    )
    with server:
        assert network.get_driver_ip(["eth1"]) == server.server_address[0] == "127.0.0.1"


def test_the_cycle_of_sums_can_be_set_from_outside() -> None:
    assert launch._environment(TrainConfig(), {})["HOROVOD_CYCLE_TIME"] == "3"
    assert launch._environment(TrainConfig(), {"HOROVOD_CYCLE_TIME": "1"})["HOROVOD_CYCLE_TIME"] == "1"


def test_horovodrun_listens_on_the_interface_that_is_named_and_on_no_other() -> None:
    """A rank looks at what its launcher listens on."""
    rank = "import psutil; (launcher,) = [p for p in psutil.Process().parents() if p.cmdline()[1:3] == ['-m', '{0}']]; "
    rank += "print({{c.laddr.ip for c in launcher.net_connections('tcp') if c.status == 'LISTEN'}})"
    rank = rank.format("halflife.training.horovodrun")
    command = [sys.executable, "-m", "halflife.training.horovodrun", "-np", "1", "-H", "localhost:1", "--gloo"]
    named = [*command, "--network-interfaces", "lo", sys.executable, "-c", rank]
    shown = subprocess.run(named, check=True, capture_output=True, text=True).stdout
    assert "{'127.0.0.1'}" in shown
    unnamed = subprocess.run([*command, "true"], check=False, capture_output=True, text=True)
    assert unnamed.returncode == 1
    assert "name the one interface" in unnamed.stderr


@pytest.mark.parametrize(
    "change",
    [{"launcher": "horovodrun", "hosts": "a:2"}, {"stall_timeout_seconds": 5}, {"checkpoint_steps": 3}, {"ranks": 1}],
    ids=str,
)
def test_how_a_training_is_carried_out_makes_it_no_other_training(change: dict[str, Any]) -> None:
    assert inputs(**change) == inputs()
    assert inputs(epochs=3) != inputs()


def test_a_refusal_says_which_file_to_delete_to_train_again(tmp_path: Path) -> None:
    keep = Keep(tmp_path / "2026-03-09-aa")
    file = keep.checkpoints / leftovers.REFUSED
    for refuse in (lambda: train._refuse(keep, "no better", {}), lambda: train._refused_before(keep)):
        with pytest.raises(RefusedError, match=f"to train it again, delete {file}$"):
            refuse()
    file.unlink()
    train._refused_before(keep)


def test_a_torn_word_of_a_rank_does_not_hide_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = task_in(tmp_path / "work", tmp_path, ranks=2)

    def fail(file: Path, _: Any) -> None:
        written = TrainingTask.read(file)
        RankResult(1, {}, "", "no space left on device", 1).write(written)
        written.result_file(0).write_text('{"rank": 0, "metr')
        raise RuntimeError("exit code 1")

    monkeypatch.setattr(launch, "_run_on_hosts", fail)
    with pytest.raises(HalflifeError, match="training failed on rank 1: no space left on device"):
        launch.run_ranks(None, task)  # type: ignore[arg-type]
