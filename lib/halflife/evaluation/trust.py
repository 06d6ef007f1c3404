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
# Pairs that a calibration counts as foretold and come true beside those that were: of a handful chance alone makes a
# factor of two, and where none came true there would be no figure. True probabilities leave the default alarm's bounds
# on fewer than one night in 50,000 whatever is expected (Poisson); without this on one in 8 where 5 are.
EVIDENCE_PAIRS: Final = 10.0


def figures(rows: Iterable[MetricRow], scores: str, lists: str, cutoff: int) -> dict[str, float]:
    """Of one night's rows of METRICS, by the keys of the config's `alarms`; what was not measured is left out.

    calibration is how many pairs were foretold over how many came true, each and EVIDENCE_PAIRS, repeat_calibration the
    same of the pairs that were known; log_loss_lead how much lower the log loss is than that of popularity, as a share
    of the latter; ndcg_lead the lists' NDCG minus that of popularity.
    """
    value = {(row.segment, row.model, row.metric): row.value for row in rows if row.baseline is None}
    loss, simple_loss = (value.get((ALL, model, "log_loss")) for model in (scores, POPULARITY))
    ndcg, simple_ndcg = (value.get((ALL, model, f"ndcg@{cutoff}")) for model in (lists, POPULARITY))
    found: dict[str, float] = {}
    for name, segment in (("calibration", ALL), ("repeat_calibration", REPEAT_ITEM)):
        mean, share, pairs = (value.get((segment, scores, each)) for each in ("mean_score", "base_rate", "pairs"))
        if mean is not None and share is not None and pairs is not None:
            found[name] = (mean * pairs + EVIDENCE_PAIRS) / (share * pairs + EVIDENCE_PAIRS)
    if loss is not None and simple_loss:
        found["log_loss_lead"] = 1.0 - loss / simple_loss
    if ndcg is not None and simple_ndcg is not None:
        found["ndcg_lead"] = ndcg - simple_ndcg
    return found
