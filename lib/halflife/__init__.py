"""halflife: how interested is every user in every item tonight."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from halflife.answers.scorer import Scorer

__version__ = "0.1.0"
__all__ = ["Scorer"]


def __getattr__(name: str) -> object:
    """`Scorer`, when it is asked for: to import halflife alone loads nothing."""
    if name != "Scorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from halflife.answers.scorer import Scorer

    return Scorer
