"""Spark's implicit ALS as a baseline: a row of factors for every user and item."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.recommendation import ALS
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from halflife.config import AlsConfig
from halflife.evaluation.baselines import Block, Integers
from halflife.topn import top_columns


@dataclass(frozen=True)
class FactorRanker:
    """Columns by the product of a user's factors, `name` of the block's fitted, with those of the items (n, rank).

    A `Ranker`. Whoever has no factors gets the columns in their order: by popularity.
    """

    name: str
    items: NDArray[np.float32]
    count: int

    def __call__(self, block: Block) -> Integers:
        """Columns (B, count), best first."""
        factors = np.zeros((len(block.users), self.items.shape[1]), dtype=np.float32)
        for row, found in enumerate(block.fitted[self.name]):
            if found is not None:
                factors[row] = found
        return top_columns(factors @ self.items.T, self.count)


def fit(before: DataFrame, columns: int, options: AlsConfig, name: str, count: int) -> tuple[FactorRanker, DataFrame]:
    """Factorise the number of sessions in which a user bought an item (Hu, Koren and Volinsky, ICDM 2008).

    `before` has a row for each user_index, column and session. Returns the ranker, and each user's factors as the
    column `name` by user_index. Only the items' factors come to the driver.
    """
    counts = before.groupBy("user_index", "column").agg(F.count(F.lit(1)).cast("float").alias("sessions"))
    blocks = int(before.sparkSession.conf.get("spark.sql.shuffle.partitions") or 1)
    als = ALS(
        rank=options.rank,
        maxIter=options.iterations,
        regParam=options.regularisation,
        alpha=options.confidence,
        implicitPrefs=True,
        userCol="user_index",
        itemCol="column",
        ratingCol="sessions",
        numUserBlocks=blocks,
        numItemBlocks=blocks,
        seed=0,
    )
    model = als.fit(counts)
    found = model.itemFactors.toPandas()
    items = np.zeros((columns, options.rank), dtype=np.float32)
    items[found["id"].to_numpy()] = np.stack(found["features"].tolist())
    users = model.userFactors.select(F.col("id").alias("user_index"), F.col("features").alias(name))
    return FactorRanker(name, items, count), users
