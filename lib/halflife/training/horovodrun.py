"""horovodrun that listens on one interface: `python -m halflife.training.horovodrun --network-interfaces eth1 ...`.

Horovod 0.28 opens its rendezvous, which asks for no password, and the services of its launchers on all interfaces of a
machine whatever interface is chosen (CVE-2024-10190, CVE-2026-31234; no release mends it).
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import psutil

from halflife.errors import ConfigError

# Where Horovod looks for a port to listen on.
LISTENERS: Final = ("horovod.runner.http.http_server", "horovod.runner.common.util.network")

Server = Any


def listen_on(interface: str) -> None:
    """From now on, Horovod's services of this process listen on one interface. Raises ConfigError without it."""
    address = address_of(interface)

    def find_port(server_at: Callable[[tuple[str, int]], Server]) -> tuple[Server, int]:
        server = server_at((address, 0))
        return server, server.server_address[1]

    def driver_address(_interfaces: Any) -> str:
        return address

    for name in LISTENERS:
        import_module(name).find_port = find_port  # type: ignore[attr-defined]
    # What ranks are told: of an interface with several addresses, Horovod's own takes the last.
    import_module("horovod.runner.util.network").get_driver_ip = driver_address  # type: ignore[attr-defined]


def address_of(interface: str) -> str:
    """The IPv4 address of an interface. Raises ConfigError where there is none."""
    known = psutil.net_if_addrs()
    for found in known.get(interface, []):
        if found.family == socket.AF_INET:
            return str(found.address)
    raise ConfigError(
        f"train.network_interface: {socket.gethostname()} has no interface {interface!r} with an IPv4 address; it has "
        f"{', '.join(sorted(known))}"
    )


def all_here(hosts: str) -> bool:
    """Whether all of `hosts` are this machine: ranks are then started without ssh, and need loopback alone.

    Raises ConfigError where they do not look like gpu1:4,gpu2:4.
    """
    try:
        names, _ = import_module("horovod.runner.common.util.hosts").parse_hosts_and_slots(hosts)
    except ValueError as error:
        raise ConfigError(f"train.hosts: {hosts!r}: each host with its ranks: gpu1:4,gpu2:4") from error
    return not import_module("horovod.runner.util.network").filter_local_addresses(names)


def spark_task(index: int, driver_addresses: Any, key: Any, settings: Any, *more: Any) -> Any:
    """Horovod's function of a Spark task, whose services listen as the driver's do."""
    # The rank is a process of its own, and has to find what --py-files brought to this one.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    listen_on(*settings.nics)
    return import_module("horovod.spark.runner")._task_fn(index, driver_addresses, key, settings, *more)


def main() -> None:
    """Horovod's command line, which must name one interface."""
    launch = import_module("horovod.runner.launch")
    interfaces = launch.parse_args().nics
    if not interfaces or len(interfaces) != 1:
        sys.exit("horovodrun: name the one interface that all ranks reach each other by: --network-interfaces eth1")
    listen_on(*interfaces)
    launch.run_commandline()


if __name__ == "__main__":
    main()
