"""A rank that falls silent ends its run: one whose node has lost its power, or that is stopped.

A rank that dies breaks its connections, and Horovod's driver hears of it. One that falls silent does not, and the
driver waits for it on a connection that nobody closes. So each rank has a pulse, a file in the run's folder, and a
thread of the driver looks at them, as ranks on other machines look at the driver's (lifeline.py).
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from halflife.training.lifeline import LOOK_EVERY_SECONDS, Pulse, beating

# Of a connection whose other end may be gone: seconds without a word, between two questions, and how many of these.
PROBES: Final = {socket.TCP_KEEPIDLE: 5, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}


class SilentError(Exception):
    """A rank has fallen silent."""


def heard(folder: Path, rank: int) -> AbstractContextManager[None]:
    """Have a pulse while the block runs, as a rank of the run in a folder."""
    return beating(_pulse(folder, rank), _name(rank))


@contextmanager
def listening(folder: Path, ranks: int, ended: Callable[[int], bool], limit_seconds: float) -> Iterator[None]:
    """Raise SilentError in the block when a rank that was heard of has been silent for so long and has not `ended`.

    The block runs in the main thread, wherever it waits: a signal interrupts that. Connections to a machine that does
    not answer any more break a little later, and with them the waiting of Horovod's other threads.
    """
    pulses = [Pulse(_pulse(folder, rank), _name(rank)) for rank in range(ranks)]
    for pulse in pulses:
        pulse.path.unlink(missing_ok=True)  # of the last time that the ranks began
    over, silent = threading.Event(), set[int]()

    def interrupted(*_: object) -> None:
        which = ", ".join(map(str, sorted(silent)))
        raise SilentError(f"rank {which} has been silent for {limit_seconds:g} s (its node is gone, or it is stopped)")

    def listen() -> None:
        while not over.wait(LOOK_EVERY_SECONDS):
            for rank, pulse in enumerate(pulses):
                if pulse.silent_seconds() > limit_seconds and pulse.seen and not ended(rank):
                    silent.add(rank)
            if silent:
                probe_connections()
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
                over.wait(limit_seconds)  # before it is said again, where something has not listened

    before = signal.signal(signal.SIGUSR1, interrupted)
    listener = threading.Thread(target=listen, name="silence", daemon=True)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()
        signal.signal(signal.SIGUSR1, before)


def probe_connections() -> None:
    """Have the kernel ask the other ends of this process's connections whether they are there, from now on."""
    for connection in psutil.Process().net_connections("tcp"):
        if connection.status == psutil.CONN_ESTABLISHED:
            with suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as same:
                same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for option, value in PROBES.items():
                    same.setsockopt(socket.IPPROTO_TCP, option, value)


def _pulse(folder: Path, rank: int) -> Path:
    return folder / f"rank-{rank}.pulse"


def _name(rank: int) -> str:
    return f"rank {rank}"
