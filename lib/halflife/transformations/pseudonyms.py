"""Users' ids replaced by their pseudonyms, before anything else is done with a record."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from halflife.pseudonyms import Pseudonyms
from halflife.sources.fields import unless_blank

CACHED: Final = 1 << 17  # users whose pseudonyms a worker remembers, in 30 MB: most events are of a user seen before


def records(raw: DataFrame, pseudonyms: Pseudonyms) -> DataFrame:
    """Records (`schemas.RAW`) with pseudonyms for ids, and without their text, which holds the id anywhere."""
    return raw.withColumns({"user_id": of(F.col("user_id"), pseudonyms), "raw": F.lit(None).cast("string")})


def of(user_id: Column, pseudonyms: Pseudonyms) -> Column:
    """The pseudonyms of a column of ids; null where there is none, or a blank one.

    In Python and not of Spark's expressions: as a literal in one, the key would stand in every plan that is printed.
    """

    @pandas_udf("string")  # type: ignore[call-overload, untyped-decorator]
    def pseudonym(ids: pd.Series) -> pd.Series:  # type: ignore[type-arg]
        return ids.map(lambda user_id: _of(pseudonyms, user_id), na_action="ignore")

    column: Column = pseudonym(unless_blank(user_id))
    return column


@lru_cache(CACHED)
def _of(pseudonyms: Pseudonyms, user_id: str) -> str:
    return pseudonyms.of(user_id)
