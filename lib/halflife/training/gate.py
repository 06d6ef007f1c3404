"""The champion gate: whether a trained model goes live, from its figures on the validation days.

Against the tuned law both know what came before the validation days; against the champion, what came before those that
the champion has not seen: the new model catches up so far. The epoch whose weights are judged was chosen on the
validation days, by the same objective: a little in the model's favour, one of at most `train.epochs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from halflife.errors import HalflifeError

LOSS: Final = "loss"
NDCG: Final = "ndcg_at_10"


class RefusedError(HalflifeError):
    """The present model stays: nothing is published, and nothing has failed."""

    exit_code = 0


@dataclass(frozen=True)
class Verdict:
    """What goes live, the new model, the tuned law or the champion that is there; and why, in one line.

    `beaten`: whether a rival was as good, whatever the gate made of it.
    """

    live: Literal["model", "law", "champion"]
    reason: str
    beaten: bool


def judge(metrics: Mapping[str, float], mode: Literal["enforce", "warn", "off"], champion: str | None) -> Verdict:
    """Compare a model's figures with those of the tuned law, and of the champion where the two have met.

    `champion` says what is live now, or is None. The law is met on all held-out days, the champion on those that it has
    not seen. A first model that loses leaves its place to the law, so that there is something to score with.
    """
    rivals = {f"the half-life of {metrics['law_half_life_days']:g} days": ("law", "validation")}
    if champion is not None and f"champion_{LOSS}" in metrics:
        rivals[f"{champion} on the {metrics['challenge_days']:g} days that it has not seen"] = "champion", "challenger"
    lost = [text for name, keys in rivals.items() if (text := _lost(metrics, name, *keys))]
    if not lost:
        return Verdict("model", f"the new model beats {' and '.join(rivals)}", beaten=False)
    reason = f"the new model does not beat {' nor '.join(lost)}"
    if mode != "enforce":
        return Verdict("model", f"{reason}, but train.gate is {mode}", beaten=True)
    return Verdict("law" if champion is None else "champion", reason, beaten=True)


def _lost(metrics: Mapping[str, float], name: str, rival: str, model: str) -> str | None:
    """What a rival is better or equal in, None where the model wins by both figures."""
    ours = {figure: metrics[f"{model}_{figure}"] for figure in (NDCG, LOSS)}
    theirs = {figure: metrics[f"{rival}_{figure}"] for figure in (NDCG, LOSS)}
    if ours[NDCG] > theirs[NDCG] and ours[LOSS] < theirs[LOSS]:
        return None
    return (
        f"{name} (NDCG@10 {ours[NDCG]:.4f} against {theirs[NDCG]:.4f}, loss {ours[LOSS]:.4f} against "
        f"{theirs[LOSS]:.4f})"
    )
