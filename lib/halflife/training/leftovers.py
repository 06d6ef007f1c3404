"""What trainings leave behind in the warehouse, and what of it is removed when one has ended."""

from __future__ import annotations

import logging
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from halflife.errors import HalflifeError
from halflife.training import lifeline

REFUSED: Final = "refused.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keep:
    """What outlives a run: the folder of its checkpoints, and that of TensorBoard's files (None: none).

    The folder of checkpoints is called by the night and a digest of what is trained; its siblings are of other runs.
    """

    checkpoints: Path
    events: Path | None = None


def prune(keep: Keep, as_of: date, tensorboard_runs: int) -> None:
    """Remove what other trainings of the nights up to `as_of` left, killed or refused; but not what one still uses.

    Of TensorBoard's folders, the newest `tensorboard_runs` stay.
    """
    for folder in keep.checkpoints.parent.glob("????-??-??-*"):
        if folder != keep.checkpoints and folder.name[:10] <= as_of.isoformat():
            _remove_unused(folder, folder)
    if keep.events is not None:
        runs = sorted(keep.events.parent.glob("????-??-??-*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in runs[tensorboard_runs:]:
            _remove_unused(folder, keep.checkpoints.with_name(folder.name))


def _remove_unused(folder: Path, checkpoints: Path) -> None:
    """Remove a folder of the run with these checkpoints, unless that goes on."""
    try:
        with lifeline.held(checkpoints) if checkpoints.exists() else nullcontext():
            shutil.rmtree(folder, ignore_errors=True)
    except HalflifeError as error:
        log.info("left where it is: %s", error)
