"""YAML files and overrides into a checked configuration."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError

from halflife.config.whole import Config
from halflife.errors import ConfigError

# What reading YAML raises: its own errors, and those of Python's int and date, a dict or a match, for a bad scalar.
UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError)


def load(path: Path, overrides: list[str] | None = None) -> Config:
    """Read a YAML file, the files it extends and `key.path=value` overrides into a checked `Config`.

    Raises ConfigError that names the file, the key's path and what is allowed.
    """
    try:
        tree = _read_tree(path, seen=())
        for override in overrides or []:
            _apply(tree, override)
        loaded = Config.model_validate(tree)
        loaded.model_dump_json()  # as the manifest of every night has to hold it
    except ValidationError as error:
        raise ConfigError(_explain(path, error)) from error
    except PydanticSerializationError as error:
        raise ConfigError(f"{path}: holds what is no text: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: nested too deeply, or within itself") from error
    return loaded


def _read_tree(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    try:
        if path.resolve() in seen:
            raise ConfigError(f"{path}: extends itself")
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such configuration file") from error
    except (OSError, *UNREADABLE) as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections at the top, found {type(tree).__name__}")
    base = tree.pop("extends", None)
    if base is None:
        return tree
    return _over(_read_tree(path.parent / str(base), (*seen, path.resolve())), tree)


def _over(base: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """`top` laid over `base`, mapping by mapping; lists and scalars are replaced whole."""
    merged = dict(base)
    for key, value in top.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _over(merged[key], value)
        else:
            merged[key] = value
    return merged


def _apply(tree: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: expected key.path=value")
    try:
        value = yaml.safe_load(text)
    except UNREADABLE as error:
        raise ConfigError(f"--set {override}: the value is not readable as YAML") from error
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {parent} holds a value, not a section")
        tree = child
    tree[leaf] = value


def _explain(path: Path, error: ValidationError) -> str:
    problems = []
    for problem in error.errors(include_url=False):
        where = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        if problem["type"] == "extra_forbidden":
            problems.append(f"{where}: unknown key{_suggest(problem['loc'])}")
        else:
            given = problem.get("input")
            shown = f", got {given!r}" if isinstance(given, str | int | float | bool) else ""
            problems.append(f"{where}: {problem['msg'].removeprefix('Value error, ')}{shown}")
    return f"{path}: " + "; ".join(problems)


def _suggest(location: tuple[int | str, ...]) -> str:
    """What is allowed beside an unknown key, nearest first."""
    section: Any = Config
    for part in location[:-1]:
        section = _child(section, str(part))
    if not (isinstance(section, type) and issubclass(section, BaseModel)):
        return ""
    allowed = sorted(section.model_fields)
    near = difflib.get_close_matches(str(location[-1]), allowed, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return f"{hint}; allowed here: {', '.join(allowed)}"


def _child(section: Any, name: str) -> Any:
    """Type of the key `name` of a section; of the values where the section is a mapping."""
    if isinstance(section, type) and issubclass(section, BaseModel):
        field = section.model_fields.get(name)
        return None if field is None else _unwrapped(field.annotation)
    arguments = get_args(section)
    return arguments[-1] if arguments else None


def _unwrapped(annotation: Any) -> Any:
    """X of `X | None`."""
    inner = [argument for argument in get_args(annotation) if argument is not type(None)]
    return inner[0] if len(inner) == 1 else annotation
