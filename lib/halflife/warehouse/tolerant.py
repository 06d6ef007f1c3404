"""Manifests for who looks at many nights: a damaged one hides its own night alone."""

from __future__ import annotations

import logging
from datetime import date
from functools import cache
from typing import Any

from halflife.errors import UnreadableInputError
from halflife.warehouse.store import Warehouse

log = logging.getLogger(__name__)


def readable(store: Warehouse, job: str, night: date) -> dict[str, Any] | None:
    """The manifest of a published night; None where there is none, or where it is damaged, which the log says once."""
    try:
        return store.manifest(job, night)
    except UnreadableInputError as error:
        _say_once(str(error))
        return None


@cache
def _say_once(message: str) -> None:
    log.warning("%s", message)
