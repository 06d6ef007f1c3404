"""A rank that says nothing any more ends its run, though its connections stay open."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import pytest

from halflife.training.silence import PROBES, SilentError, listening, probe_connections
from telling_process import running

LIMIT_SECONDS = 2.0
RANK = """
import pathlib, sys, time
from halflife.training import lifeline, silence
lifeline.BEAT_EVERY_SECONDS = 0.2
with silence.heard(pathlib.Path(sys.argv[1]), 1):
    print("on", flush=True)
    time.sleep(60)
"""


def wait(seconds: float) -> None:
    """As Horovod's driver waits for its threads."""
    time.sleep(seconds)


def test_a_rank_that_is_stopped_ends_what_waits_for_it(tmp_path: Path) -> None:
    begin: list[float] = []

    def wait_for_ranks() -> None:
        with listening(tmp_path, 2, lambda _: False, LIMIT_SECONDS), running(RANK, tmp_path) as stopped:
            wait(2 * LIMIT_SECONDS)
            stopped.send_signal(signal.SIGSTOP)
            begin.append(time.monotonic())
            wait(60)

    with pytest.raises(SilentError, match="rank 1 has been silent for 2 s"):
        wait_for_ranks()
    assert time.monotonic() - begin[0] < 20


@pytest.mark.parametrize("ended", [True, False])
def test_a_rank_that_has_ended_is_not_missed_and_neither_is_one_that_has_not_begun(tmp_path: Path, ended: bool) -> None:
    (tmp_path / "rank-1.pulse").write_text("rank 1 7")  # of the time before
    with listening(tmp_path, 2, lambda _: ended, LIMIT_SECONDS):
        if ended:
            with running(RANK, tmp_path):
                wait(1)
        wait(2.5 * LIMIT_SECONDS)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_connections_are_asked_whether_their_other_end_is_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as open_one:
        probe_connections()
        assert open_one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert {option: open_one.getsockopt(socket.IPPROTO_TCP, option) for option in PROBES} == PROBES
        open_one.sendall(b"still open")
