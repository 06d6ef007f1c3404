"""Whether a matured night can be believed, in three figures that a broken model cannot keep.

Scores that are all too high or too low lose their calibration; scores of other pairs (shuffled, or of another user)
keep it, but say less than the popularity of the items alone; and so do lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from halflife.evaluation.rows import MetricRow
from halflife.evaluation.segments import ALL

POPULARITY: Final = "popularity"


def figures(rows: Iterable[MetricRow], scores: str, lists: str, cutoff: int) -> dict[str, float]:
    """Of one night's rows of METRICS, by the keys of the config's `alarms`; what was not measured is left out.

    calibration is the mean score over the share of pairs that came true; log_loss_lead how much lower the log loss is
    than that of popularity, as a share of the latter; ndcg_lead the lists' NDCG minus that of popularity.
    """
    value = {(row.model, row.metric): row.value for row in rows if row.segment == ALL and row.baseline is None}
    mean, share, loss = (value.get((scores, name)) for name in ("mean_score", "base_rate", "log_loss"))
    simple_loss, simple_ndcg = (value.get((POPULARITY, name)) for name in ("log_loss", f"ndcg@{cutoff}"))
    ndcg = value.get((lists, f"ndcg@{cutoff}"))
    found: dict[str, float] = {}
    if mean is not None and share:
        found["calibration"] = mean / share
    if loss is not None and simple_loss:
        found["log_loss_lead"] = 1.0 - loss / simple_loss
    if ndcg is not None and simple_ndcg is not None:
        found["ndcg_lead"] = ndcg - simple_ndcg
    return found
