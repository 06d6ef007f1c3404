"""An S3 server on loopback: moto, as a process of its own, that notes each request and fails those it is told to.

    python s3_server.py FOLDER     prints its port; notes requests in FOLDER/requests; reads faults from FOLDER/faults

moto looks whether an object exists and then writes it: here one request is served at a time, so that a conditional PUT
is atomic, as S3's is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Request:
    """What a client asked for."""

    method: str
    path: str
    query: str
    if_none_match: str | None
    copy_source: str | None


@dataclass(frozen=True)
class Fault:
    """The next requests of a method for a path that holds `part` are answered with a status; `after` they are done."""

    method: str
    part: str
    status: str = "503 Slow Down"
    times: int = 1
    after: bool = False


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    folder: Path
    url: str

    @property
    def environment(self) -> dict[str, str]:
        """What tells clients of it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "very-secret",
        }

    def bucket(self, name: str) -> str:
        """Make a bucket; returns its address."""
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")).close()
        return f"s3://{name}"

    def fail(self, *faults: Fault) -> None:
        """Fail some of the next requests."""
        (self.folder / "faults").write_text(json.dumps([asdict(fault) for fault in faults]))

    def requests(self) -> list[Request]:
        """All requests so far."""
        return [Request(**json.loads(line)) for line in (self.folder / "requests").read_text().splitlines()]


@contextmanager
def running(folder: Path) -> Iterator[Server]:
    """A server that ends with the block."""
    command = [sys.executable, __file__, str(folder)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield Server(folder, f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


class Watched:
    """The server's application, one request at a time."""

    def __init__(self, application: Any, folder: Path) -> None:
        self.application, self.folder, self.lock = application, folder, threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Any) -> Sequence[bytes]:
        request = Request(
            environ["REQUEST_METHOD"],
            environ["PATH_INFO"],
            environ.get("QUERY_STRING", ""),
            environ.get("HTTP_IF_NONE_MATCH"),
            environ.get("HTTP_X_AMZ_COPY_SOURCE"),
        )
        with self.lock:
            with (self.folder / "requests").open("a") as noted:
                noted.write(json.dumps(asdict(request)) + "\n")
            fault = self._fault(request)
            if fault is None:
                return list(self.application(environ, start))
            if fault.after:
                list(self.application(environ, lambda *_: None))
        start(fault.status, [("Content-Type", "text/plain")])
        return [b"failed on purpose"]

    def _fault(self, request: Request) -> Fault | None:
        path = self.folder / "faults"
        faults = [Fault(**each) for each in json.loads(path.read_text())] if path.exists() else []
        for place, fault in enumerate(faults):
            if fault.times and fault.method == request.method and fault.part in request.path:
                faults[place] = Fault(**{**asdict(fault), "times": fault.times - 1})
                path.write_text(json.dumps([asdict(each) for each in faults]))
                return fault
        return None


def main() -> None:
    """Serve until killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    class Quiet(WSGIRequestHandler):
        def log(self, *_: Any) -> None:
            """Requests are noted elsewhere."""

    watched = Watched(DomainDispatcherApplication(create_backend_app), Path(sys.argv[1]))
    server = make_server("127.0.0.1", 0, watched, threaded=True, request_handler=Quiet)
    print(server.port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
