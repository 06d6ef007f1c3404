"""Means over users of what rankings are judged by, with their intervals: sums by bucket in Spark, the rest in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from halflife.config import EvaluateConfig
from halflife.evaluation import bootstrap
from halflife.evaluation.bootstrap import Floats, Means
from halflife.evaluation.ranking import NEXT, value_names
from halflife.evaluation.segments import ALL


@dataclass(frozen=True)
class Estimate:
    """One model's means over the users of a task and segment, in the order of `value_names`; and what they are of:
    users and sums of values by bucket."""

    task: str
    model: str
    segment: str
    means: Means
    bucket_users: Floats
    bucket_sums: Floats

    @property
    def users(self) -> int:
        """How many users it is of."""
        return int(self.bucket_users.sum())

    def minus(self, other: Estimate) -> Estimate:
        """The paired difference to another model on the same users; it keeps this one's name."""
        sums = self.bucket_sums - other.bucket_sums
        error = bootstrap.standard_error(sums, self.bucket_users)
        return replace(self, means=self.means.minus(other.means, error), bucket_sums=sums)


def bucket(options: EvaluateConfig) -> Column:
    """The bucket of a user_index."""
    return F.pmod(F.xxhash64("user_index"), F.lit(options.bootstrap_buckets)).cast("int").alias("bucket")


def of_rankings(per_user: DataFrame, options: EvaluateConfig) -> list[Estimate]:
    """Estimates from USER_METRICS, by task, segment and model in the order of their names."""
    names = value_names(options.cutoffs)
    sums = (
        per_user.groupBy("task", "segment", "model", bucket(options))
        .agg(F.count(F.lit(1)).alias("users"), *(F.sum(name).alias(name) for name in names))
        .toPandas()
    )
    return [
        _estimate(str(task), str(model), str(segment), rows, names, options)
        for (task, segment, model), rows in sums.groupby(["task", "segment", "model"], sort=True)
    ]


def _estimate(
    task: str, model: str, segment: str, rows: pd.DataFrame, names: Sequence[str], options: EvaluateConfig
) -> Estimate:
    users, sums = np.zeros(options.bootstrap_buckets), np.zeros((options.bootstrap_buckets, len(names)))
    users[rows["bucket"]] = rows["users"]
    sums[rows["bucket"]] = rows[list(names)]
    means = bootstrap.means(sums, users, options.bootstrap_replicates)
    return Estimate(task, model, segment, means, users, sums)


def coverage(per_user: DataFrame, items: int, cutoffs: Sequence[int]) -> dict[tuple[str, int], tuple[float, int]]:
    """By model and cut-off: the share of the `items` in the first places of at least one user, and how many users."""
    everyone = per_user.where((F.col("task") == NEXT) & (F.col("segment") == ALL))
    shown = everyone.select("model", F.posexplode("listed").alias("place", "column"))
    best = shown.groupBy("model", "column").agg(F.min("place").alias("place"))
    counts = [F.count_if(F.col("place") < cutoff).alias(str(cutoff)) for cutoff in cutoffs]
    users = {row["model"]: row["count"] for row in everyone.groupBy("model").count().collect()}
    return {
        (row["model"], cutoff): (row[str(cutoff)] / items, users[row["model"]])
        for row in best.groupBy("model").agg(*counts).orderBy("model").collect()
        for cutoff in cutoffs
    }
