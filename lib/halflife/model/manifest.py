"""The manifest of a published model: what it is, and a sha256 of each of its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from halflife.digests import digest_of_file
from halflife.errors import ModelError
from halflife.model.architecture import Architecture

NAME: Final = "manifest.json"
RETRAIN: Final = "publish the model again (jobs/train.py)"


class Manifest(BaseModel):
    """manifest.json. `catalogue_digest` names the items 0..items-1 that the item arrays stand for, in order.

    `users` is how many users have a stretch of their own: those that training saw.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = 2
    kind: Literal["neural", "exponential"]
    version: str
    half_lives_days: tuple[float, ...]
    horizon_days: float
    sequence_length: int
    vector_size: int
    event_types: tuple[str, ...]
    items: int
    users: int = 0
    catalogue_digest: str
    as_of: str
    architecture: Architecture | None
    metrics: dict[str, float]
    config: dict[str, Any]
    sha256: dict[str, str]


def catalogue_digest(item_ids: Iterable[str]) -> str:
    """Digest of the item ids in the order of their index."""
    digest = hashlib.sha256()
    for item_id in item_ids:
        text = item_id.encode("utf-8", "surrogatepass")
        digest.update(len(text).to_bytes(4, "big") + text)
    return digest.hexdigest()


def digest_of(path: Path) -> str:
    """sha256 of a file, or ModelError where it cannot be read."""
    try:
        return digest_of_file(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); {RETRAIN}") from error


def write(directory: Path, manifest: Manifest) -> None:
    """Write manifest.json, last of a model's files."""
    (directory / NAME).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")


def read(directory: Path) -> Manifest:
    """Read manifest.json and check the digest of every file it names; ModelError names the file and the remedy."""
    path = directory / NAME
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); train a model first (jobs/train.py)") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
        raise ModelError(f"{path}: not a manifest of this version ({problems}); {RETRAIN}") from error
    for name, expected in manifest.sha256.items():
        if Path(name).name != name:
            raise ModelError(f"{path}: {name!r} is no plain file name; {RETRAIN}")
        if digest_of(directory / name) != expected:
            raise ModelError(f"{directory / name}: changed since it was published (sha256 differs); {RETRAIN}")
    return manifest
