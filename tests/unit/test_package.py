"""What a cluster's nodes get: the same commit gives the same bytes, and all that a job imports is in it."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from halflife.warehouse.code import code_version

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
package: Any = importlib.import_module("package_files")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(package.library(tmp_path_factory.mktemp("library")))


def test_the_same_commit_gives_the_same_library(library: Path, tmp_path: Path) -> None:
    assert package.library(tmp_path).read_bytes() == library.read_bytes()


def test_the_library_is_whole(library: Path) -> None:
    source = ROOT / "lib"
    files = {str(path.relative_to(source)) for path in source.glob("halflife/**/*.py")} | {"halflife/py.typed"}
    assert files == {name for name in zipfile.ZipFile(library).namelist() if name.startswith("halflife/")}


def test_a_job_has_the_same_version_from_the_zip(library: Path) -> None:
    ask = "from halflife.warehouse.code import code_version; print(code_version('score'))"
    environment = os.environ | {"PYTHONPATH": str(library)}
    found = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == code_version("score")


def test_the_environment_has_what_jobs_import_and_nothing_of_development() -> None:
    names = {name for name, _ in package._packages()}
    assert {"tensorflow/__init__.py", "petastorm/reader.py", "pyspark/cloudpickle/__init__.py"} <= names
    assert any(name.startswith("horovod/tensorflow/mpi_lib") and name.endswith(".so") for name in names)
    assert not [name for name in names if name.startswith(("mypy", "pytest", "hypothesis", "pyspark/jars"))]


def test_a_compiled_module_is_used_whatever_time_its_source_has(tmp_path: Path) -> None:
    source = tmp_path / "made" / "answer.py"
    source.parent.mkdir()
    source.write_text("ANSWER = 42\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", source], check=True)
    package._put(source, tmp_path / "packed" / "answer.py")
    (tmp_path / "packed" / "answer.py").unlink()
    (tmp_path / "packed" / "answer.py").write_text("ANSWER = 0\n")  # unchecked: the compiled form counts
    run = [sys.executable, "-c", "import answer; print(answer.ANSWER)"]
    assert subprocess.run(run, cwd=tmp_path / "packed", capture_output=True, text=True, check=True).stdout == "42\n"


def test_an_archive_says_nothing_of_who_packed_it_and_when(tmp_path: Path) -> None:
    for name, time in (("one", 1_000_000_000), ("other", 1_500_000_000)):
        (tmp_path / name / "bin").mkdir(parents=True)
        (tmp_path / name / "bin" / "python3").write_bytes(b"binary")
        (tmp_path / name / "bin" / "python3").chmod(0o700)
        (tmp_path / name / "bin" / "python").symlink_to("python3")
        os.utime(tmp_path / name / "bin" / "python3", (time, time))
        package._pack(tmp_path / name, tmp_path / f"{name}.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "other.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "one.tar.gz") as packed:
        entries = {entry.name: (entry.mode, entry.uname, entry.issym()) for entry in packed}
    assert entries["bin/python3"] == (0o755, "", False)
    assert entries["bin/python"][2]


def test_a_python_looks_for_its_library_beside_itself(tmp_path: Path) -> None:
    built_for = b"/opt/python/3.11.7/lib"
    (tmp_path / "python").write_bytes(b"\x7fELF" + built_for + b"\0rest")
    package._relocate(tmp_path / "python", built_for)
    moved = (tmp_path / "python").read_bytes()
    assert moved == b"\x7fELF" + b"$ORIGIN/../lib".ljust(len(built_for), b"\0") + b"\0rest"


def test_a_python_that_cannot_be_moved_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "python").write_bytes(b"\x7fELF/lib\0")
    with pytest.raises(SystemExit, match="this Python cannot be moved"):
        package._relocate(tmp_path / "python", b"/lib")
