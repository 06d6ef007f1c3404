"""Whether a matured night can be believed, in four figures that a broken model cannot keep.

Scores that are all too high or too low lose their calibration. Scores of other pairs (shuffled, or of another user)
keep it, but not that of the pairs which the user had events of before: these come true many times as often as others
(Complete Journey: 105 times), and only the user's own scores foretell it. Where nearly every pair has had events, they
say less than the popularity of the items alone; and so do lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from halflife.evaluation.rows import MetricRow
from halflife.evaluation.segments import ALL, REPEAT_ITEM

POPULARITY: Final = "popularity"


def figures(rows: Iterable[MetricRow], scores: str, lists: str, cutoff: int) -> dict[str, float]:
    """Of one night's rows of METRICS, by the keys of the config's `alarms`; what was not measured is left out.

    calibration is the mean score over the share of pairs that came true, repeat_calibration the same of the pairs that
    were known; log_loss_lead how much lower the log loss is than that of popularity, as a share of the latter;
    ndcg_lead the lists' NDCG minus that of popularity.
    """
    value = {(row.segment, row.model, row.metric): row.value for row in rows if row.baseline is None}
    loss, simple_loss = (value.get((ALL, model, "log_loss")) for model in (scores, POPULARITY))
    ndcg, simple_ndcg = (value.get((ALL, model, f"ndcg@{cutoff}")) for model in (lists, POPULARITY))
    found: dict[str, float] = {}
    for name, segment in (("calibration", ALL), ("repeat_calibration", REPEAT_ITEM)):
        mean, share = (value.get((segment, scores, metric)) for metric in ("mean_score", "base_rate"))
        if mean is not None and share:
            found[name] = mean / share
    if loss is not None and simple_loss:
        found["log_loss_lead"] = 1.0 - loss / simple_loss
    if ndcg is not None and simple_ndcg is not None:
        found["ndcg_lead"] = ndcg - simple_ndcg
    return found
