"""Which code made a night: a job is done again when its own code changes, and not when another job's does."""

from __future__ import annotations

import ast
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

import halflife
from halflife.digests import digest_of, digest_of_file

LIBRARY: Final = Path(halflife.__file__).parent


@cache
def code_version(job: str) -> str:
    """Version of the code that a job runs: the release and a digest of the library's files that it can reach."""
    with _in_files(LIBRARY) as library:
        digests = [digest_of_file(file) for file in sources(job, library)]
    return f"{halflife.__version__}+{digest_of(digests)[:12]}"


def sources(job: str, library: Path = LIBRARY) -> list[Path]:
    """The library's files that the pipeline of a job imports, at its start or within a function, by name."""
    found: set[Path] = set()
    new = {library / "pipelines" / f"{job}.py"}
    while new:
        found |= new
        imported = (name for file in new for name in _imports(file))
        new = {file for name in imported for file in _files(name, library)} - found
    return sorted(found)


def _imports(file: Path) -> Iterator[str]:
    """Dotted names that a file imports, of modules or of what is in them; not what is for type checkers alone."""
    nodes: list[ast.AST] = [ast.parse(file.read_bytes())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)
        nodes.extend(ast.iter_child_nodes(node))


def _files(name: str, library: Path) -> Iterator[Path]:
    """The library's files that `import name` runs: those of the packages above it too, but for the library's own.

    That one has a version and a name that is looked up when a reader asks for it.
    """
    parts = name.split(".")
    if parts[0] != halflife.__name__:
        return
    for depth in range(1, len(parts)):
        module = library.joinpath(*parts[1 : depth + 1])
        for file in (module.with_suffix(".py"), module / "__init__.py"):
            if file.is_file():
                yield file


@contextmanager
def _in_files(library: Path) -> Iterator[Path]:
    """The library's folder, unpacked where it is in a zip (spark-submit's --py-files)."""
    if library.exists():
        yield library
        return
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(library.parent) as packed:
        packed.extractall(folder)
        yield Path(folder, library.name)
