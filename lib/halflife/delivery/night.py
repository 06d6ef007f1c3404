"""One night of one table, from the warehouse to the lake."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from halflife import crash
from halflife.delivery.files import change, schema
from halflife.delivery.table import LakeTable, LostError
from halflife.errors import PublishConflictError
from halflife.warehouse import Stored

COMMITS: Final = 10  # tries, each on top of what was committed meanwhile
WAIT_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Night:
    """What a table of a published night consists of."""

    table: str
    as_of: date
    run_id: str
    files: Sequence[Stored]
    warehouse: str  # its id


def deliver(lake: LakeTable, night: Night, kept_from: date, replaced_days: int) -> list[Stored] | None:
    """Make a night's files those of its partition, and drop the nights before `kept_from`, in one commit.

    Returns the files that were copied; None where nothing was to be done, or another delivery has done it meanwhile.
    `lake` must have been looked at before `night` was, so that what is older never replaces what is newer. Raises
    PublishConflictError where another delivery made the night something else meanwhile, ConfigError where the table is
    another warehouse's.
    """
    before = lake.files.get(night.as_of, {})
    if not differs(lake, night, kept_from):
        return None
    needed = change(before, night.files)
    if night.files:
        lake.create(night.table, schema(night.files[0]), replaced_days, night.warehouse)
    copies = []
    for file in needed.copy:
        copies.append(lake.copy(file, night.as_of))
        crash.point(f"deliver: a file of {night.table} copied")
    own = {action.path for action in copies}
    for attempt in range(COMMITS):
        now = lake.files.get(night.as_of, {})
        if own and own <= set(now):  # the commit was made, and its answer was lost
            return list(needed.copy)
        if sorted(now) != sorted(before):
            lake.discard(own)
            if differs(lake, night):
                break
            return None
        try:
            lake.commit(night.as_of, copies, [*needed.remove, *_expired(lake, kept_from)], night.run_id)
            crash.point(f"deliver: {night.table} committed")
            return list(needed.copy)
        except LostError:
            time.sleep(random.uniform(0, WAIT_SECONDS * 2**attempt))
            lake.refresh()
    raise PublishConflictError(
        f"{lake.address}: the night {night.as_of} was changed there while it was delivered; "
        "nothing of it was changed; run again"
    )


def differs(lake: LakeTable, night: Night, kept_from: date = date.min) -> bool:
    """Whether the lake, as it was last looked at, holds a night otherwise than it is, or nights before `kept_from`."""
    needed = change(lake.files.get(night.as_of, ()), night.files)
    return bool(needed.copy or needed.remove or _expired(lake, kept_from))


def _expired(lake: LakeTable, kept_from: date) -> list[str]:
    return [path for night, paths in lake.files.items() if night < kept_from for path in paths]
