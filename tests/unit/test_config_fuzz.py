"""Any configuration is taken or refused by a ConfigError: a bad file never ends a job with a stack trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from halflife import config
from halflife.config import Config
from halflife.errors import ConfigError

LOCAL = Path(__file__).parents[2] / "conf" / "local.yaml"
Place = tuple[str | int, ...]

TEXTS = st.text(max_size=20) | st.sampled_from(
    [
        "",
        "\0",
        "off",
        "(",
        "(?P<a>",
        "{date}",
        "{date",
        "utf-16",
        "idna",
        "2026-02-30",
        "1e400",
        "../..",
        "😀",
        "\ud800",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.dates() | st.datetimes()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.integers(), inner, max_size=3)
)
fuzz = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)


def valid() -> dict[str, Any]:
    """A tree that has every section and key: those of the schema that local.yaml leaves out with their defaults."""
    tree: dict[str, Any] = config.load(LOCAL).model_dump(mode="json")
    source = next(iter(tree["sources"].values()))
    tree["users"] = {"path": "users.parquet", "id": "user"}
    tree["sources"]["lines"] = source | {
        "format": "log",
        "path": "access.log",
        "columns": {"user": "host", "item": "path", "time": "time", "event_type": "method"},
        "event_type": None,
        "type_patterns": {"purchase": "P.*"},
        "duplicates": "key",
    }
    return tree


def places(tree: object, path: Place = ()) -> Iterator[Place]:
    """Where something stands in a tree."""
    yield path
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inner:
        yield from places(value, (*path, key))


def keys(section: type[BaseModel]) -> Iterator[str]:
    """The keys of a section and of those within it, by the schema."""
    schema = section.model_json_schema()
    for each in (schema, *schema.get("$defs", {}).values()):
        yield from each.get("properties", {})


PLACES, KEYS = [path for path in places(valid()) if path], sorted(set(keys(Config)))


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """The valid tree with up to three places changed, removed, or with a key of the schema beside them."""
    tree = deepcopy(valid())
    for path in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        parent: Any = tree
        try:
            for step in path[:-1]:
                parent = parent[step]
            match draw(st.sampled_from(["change", "remove", "add"])):
                case "change":
                    parent[path[-1]] = draw(VALUES)
                case "remove":
                    del parent[path[-1]]
                case _:
                    parent[draw(st.sampled_from(KEYS))] = draw(VALUES)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change has removed the place
    return tree


def taken_or_refused(path: Path, *overrides: str) -> None:
    """Load a configuration; one that is taken can be written into a manifest, and read again it is the same."""
    try:
        loaded = config.load(path, list(overrides))
    except ConfigError:
        return
    written = json.dumps(loaded.model_dump(mode="json"), allow_nan=False)
    assert Config.model_validate_json(written) == loaded


@fuzz
@given(mutated())
def test_a_valid_configuration_with_something_changed(tmp_path: Path, tree: object) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=False), encoding="utf-8", errors="surrogatepass")
    taken_or_refused(path)


@fuzz
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(b"warehouse: 2026-02-30")
@example(b"warehouse: !!int x")
@example(b"warehouse: !!timestamp x")
@example(b'warehouse: "\\ud800"')
@example(b"{[]: 1}")
@example(b"1: 2\nwarehouse: x")
@example(b"extends: [x]")
@example(b'extends: "\\0"')
@example(b"extends: " + b"x" * 5000)
@example(b"extends: ''")
@example(b"[" * 5000)
@example(b"a: &a [*a, *a]\nwarehouse: *a")
@example(b"a: &a {b: *a}\nsources: *a")
@example(b"<<: {warehouse: x}")
@example(b"\xff")
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    taken_or_refused(path)


@fuzz
@given(st.sampled_from(PLACES).map(lambda path: ".".join(map(str, path))) | st.text(max_size=20), st.text(max_size=20))
@example("sources", "{a: {path: 2026-02-30}}")
@example("score.top_n", "!!int x")
@example("score", "[" * 5000)
@example("sources.purchases.path.x", "1")
@example("model.half_lives_days.0", "1")
@example(".", "1")
def test_any_override(key: str, value: str) -> None:
    taken_or_refused(LOCAL, f"{key}={value}")


@pytest.mark.parametrize("key", ["encoding", "time_zone", "time_format", "pattern", "delimiter"])
@fuzz
@given(value=TEXTS)
def test_any_text_of_a_source(key: str, value: str) -> None:
    taken_or_refused(LOCAL, f"sources.purchases.{key}={json.dumps(value)}")
