"""What a cluster's nodes need: the library as a zip, Python and its packages as an archive; run by scripts/package."""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Final

from halflife.submission import ENVIRONMENT, HOME, LIBRARY

# What no node needs: Spark's jars are the cluster's own; headers and static libraries are for compilers.
LEFT_OUT: Final = re.compile(
    r"^pyspark/(jars|examples|data|sbin|licenses)/|^clang/|^(tensorflow|pyarrow|numpy/core)/include/|\.(a|pyi|h|hpp)$|"
    r"^(test|idlelib|tkinter|turtledemo|ensurepip|lib2to3|site-packages|dist-packages|config-[^/]*)/|/tests/|"
    r"_tkinter\.|(^|/)__pycache__/"
)
# Every byte of level 1 is unpacked as fast as one of level 9, and packing takes a fifth of the time.
GZIP_LEVEL: Final = 1
ORIGIN: Final = b"$ORIGIN/../lib"
UNCHECKED_HASH: Final = 1  # of PEP 552
CHECK: Final = """
import sys, json
import cloudpickle, horovod.tensorflow as hvd, petastorm, pyarrow, pyspark, tensorflow as tf
from halflife.model import network
from halflife.warehouse import code_version
hvd.init()
assert hvd.size() == 1 and float(hvd.allreduce(tf.constant([2.0]))[0]) == 2.0
print(json.dumps({"prefix": sys.prefix, "code": code_version(), "tensorflow": tf.__version__}))
"""


def library(into: Path) -> Path:
    """The wheel of lib/ under a name that Spark puts on Python's path; its times are that of the commit."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "source")
        shutil.copytree(HOME / "lib", source / "lib", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in ("pyproject.toml", "LICENSE"):
            shutil.copy(HOME / name, source)
        build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
        environment = os.environ | {"SOURCE_DATE_EPOCH": str(_commit_seconds())}
        _run([sys.executable, "-c", build, scratch], cwd=source, env=environment)
        (wheel,) = Path(scratch).glob("*.whl")
        return Path(shutil.move(wheel, into / LIBRARY))


def _commit_seconds() -> int:
    """When the present commit was made; outside of a repository, the first time that a zip can hold."""
    command = ["git", "-C", str(HOME), "log", "-1", "--format=%ct"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(found.stdout) if found.returncode == 0 else 315_532_800


def environment(into: Path) -> Path:
    """Python and the locked packages, in an archive that runs from wherever it is unpacked."""
    archive, stamp, wanted = into / ENVIRONMENT, into / f"{ENVIRONMENT}.json", _wanted()
    if archive.exists() and stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return archive
    with tempfile.TemporaryDirectory(dir=into) as scratch:
        root, fresh = Path(scratch, "environment"), Path(scratch, ENVIRONMENT)
        packages = _interpreter(root)
        for name, file in _packages():
            _put(file, packages / name)
        _pack(root, fresh)
        fresh.replace(archive)
    stamp.write_text(json.dumps(wanted))
    return archive


def _wanted() -> dict[str, str]:
    """What the archive is made of."""
    parts = [(HOME / "conf" / name).read_bytes() for name in ("requirements.txt", "requirements-horovod.txt")]
    parts += [Path(__file__).read_bytes(), (HOME / ".venv/halflife-variant").read_bytes()]
    return {"python": sys.version, "machine": platform.machine(), "made_of": sha256(b"".join(parts)).hexdigest()}


def _interpreter(root: Path) -> Path:
    """Copy the Python below .venv with its standard library; returns the folder of its packages.

    Python finds its library by where its own file lies; the loader finds libpython by a path that is made relative.
    """
    base, name = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"
    executable = root / "bin" / name
    executable.parent.mkdir(parents=True)
    shutil.copy(Path(sys.executable).resolve(), executable)
    (executable.parent / "python").symlink_to(name)
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        shared = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME"))
        (root / "lib").mkdir()
        shutil.copy(shared, root / "lib")
        _relocate(executable, os.fsencode(shared.parent))
    stdlib = Path(sysconfig.get_path("stdlib"))
    for file in sorted(path for path in stdlib.rglob("*") if path.is_file()):
        inner = file.relative_to(stdlib)
        if not LEFT_OUT.search(str(inner)):
            _put(file, root / stdlib.relative_to(base) / inner)
    ask = "import site; print(site.getsitepackages()[0])"
    return Path(_run([str(executable), "-I", "-c", ask], env={}).strip())


def _relocate(executable: Path, folder: bytes) -> None:
    """Have the loader look for libpython beside the executable, not in the folder that it was built for."""
    binary, place = executable.read_bytes(), folder + b"\0"
    if binary.count(place) != 1 or len(folder) < len(ORIGIN):
        sys.exit(
            f"package: {sys.base_prefix}: this Python cannot be moved; take one that is built without --enable-shared"
        )
    executable.write_bytes(binary.replace(place, ORIGIN.ljust(len(folder), b"\0") + b"\0"))


def _packages() -> Iterator[tuple[str, Path]]:
    """The files of all packages that are locked for running, with their names below site-packages."""
    locked = (HOME / "conf/requirements.txt").read_text() + (HOME / "conf/requirements-horovod.txt").read_text()
    for name in re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==", locked, re.MULTILINE):
        found = metadata.distribution(name)
        for file in found.files or []:
            if ".." not in file.parts and not LEFT_OUT.search(str(file)):
                yield str(file), Path(str(found.locate_file(file)))


def _put(file: Path, target: Path) -> None:
    """Copy a file, with its compiled form where there is one, valid whatever times an unpacked file has."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _link(file, target)
    compiled = Path(importlib.util.cache_from_source(str(file)))
    if file.suffix == ".py" and compiled.exists():
        header = importlib.util.MAGIC_NUMBER + UNCHECKED_HASH.to_bytes(4, "little")
        header += importlib.util.source_hash(file.read_bytes())
        cached = Path(importlib.util.cache_from_source(str(target)))
        cached.parent.mkdir(exist_ok=True)
        cached.write_bytes(header + compiled.read_bytes()[len(header) :])


def _link(file: Path, target: Path) -> None:
    try:
        target.hardlink_to(file.resolve())
    except OSError:  # another file system
        shutil.copy(file, target)


def _pack(root: Path, archive: Path) -> None:
    """The files in the order of their names, with the commit's time and nobody's name."""
    seconds = _commit_seconds()

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.mtime, entry.uid, entry.gid, entry.uname, entry.gname = seconds, 0, 0, "", ""
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        return entry

    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=seconds) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as tar,
    ):
        for path in sorted(root.rglob("*")):
            tar.add(path, str(path.relative_to(root)), recursive=False, filter=plain)


def check(zip_file: Path, archive: Path) -> None:
    """Use what both hold from an empty folder, with nothing of this machine's Python in reach."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        root = Path(scratch, "environment")
        root.mkdir()
        _run(["tar", "-xzf", str(archive), "-C", str(root)])
        clean = {"PYTHONPATH": str(zip_file.resolve()), "PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"}
        found = json.loads(_run([str(root / "bin/python"), "-c", CHECK], env=clean, cwd=scratch).splitlines()[-1])
        if Path(found["prefix"]).resolve() != root.resolve():
            sys.exit(f"package: the unpacked Python looks for its library in {found['prefix']}")
        print(f"checked from an empty folder: TensorFlow {found['tensorflow']}, Horovod, halflife {found['code']}")


def _run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    if done.returncode:
        sys.exit(f"package: {' '.join(command[:3])}: exit code {done.returncode}: {done.stderr[-2000:]}")
    return str(done.stdout)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    print(f"{what} ({time.monotonic() - begin:.0f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/package", description=__doc__)
    parser.add_argument("--into", type=Path, default=HOME / "dist", help="folder (default: dist)")
    parser.add_argument("--check", action="store_true", help="use what was made, from an empty folder")
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    for make in (library, environment):
        with _timed(make.__name__):
            made = make(options.into)
            print(f"{made}: {made.stat().st_size / 1e6:,.1f} MB", end=" ")
    if options.check:
        with _timed("check"):
            check(options.into / LIBRARY, options.into / ENVIRONMENT)


if __name__ == "__main__":
    main()
