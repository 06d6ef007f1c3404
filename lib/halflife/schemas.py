"""The tables' schemas, each under the sentence that says what one row is. All times are UTC."""

from __future__ import annotations

from typing import Final

from pyspark.sql import types as T


def _schema(*fields: tuple[str, T.DataType] | tuple[str, T.DataType, bool]) -> T.StructType:
    """A schema of (name, type) for columns that are never null and (name, type, True) for others."""
    return T.StructType([T.StructField(field[0], field[1], len(field) > 2) for field in fields])


# One row is one record of a source as it was read: the mapped columns as text, the record itself beside them.
RAW: Final = _schema(
    ("source", T.StringType()),
    ("source_file", T.StringType()),
    ("arrival_day", T.DateType(), True),  # of a `{date}` path: the day whose file it is
    ("user_id", T.StringType(), True),
    ("item_id", T.StringType(), True),
    ("event_time", T.TimestampType(), True),
    ("time_text", T.StringType(), True),
    ("event_type", T.StringType(), True),
    ("event_id", T.StringType(), True),
    ("given_session_id", T.StringType(), True),
    ("dwell_seconds", T.DoubleType(), True),
    ("dwell_text", T.StringType(), True),
    ("rating", T.DoubleType(), True),
    ("rating_text", T.StringType(), True),
    ("quantity", T.DoubleType(), True),
    ("quantity_text", T.StringType(), True),
    ("context", T.MapType(T.StringType(), T.StringType()), True),
    ("fault", T.StringType(), True),  # why the reader could not make sense of the line, as a reason code
    ("raw", T.StringType(), True),
)

# One row is one accepted event. Total order within a user: (event_time, event_id).
EVENTS: Final = _schema(
    ("user_id", T.StringType()),
    ("item_id", T.StringType()),
    ("event_type", T.StringType()),
    ("event_time", T.TimestampType()),
    ("event_id", T.StringType()),
    ("dwell_seconds", T.DoubleType(), True),
    ("rating", T.DoubleType(), True),
    ("quantity", T.DoubleType(), True),
    ("dwell_imputed", T.BooleanType()),
    ("rating_imputed", T.BooleanType()),
    ("strength", T.DoubleType()),
    ("session_id", T.StringType()),
    ("session_given", T.BooleanType()),
    ("session_start", T.TimestampType()),
    ("session_position", T.IntegerType()),
    ("gap_seconds", T.DoubleType(), True),
    ("revisit_gap_seconds", T.DoubleType(), True),
    ("revisit_count", T.IntegerType()),
    ("source", T.StringType()),
    ("source_file", T.StringType()),
    ("context", T.MapType(T.StringType(), T.StringType()), True),
    ("user_index", T.IntegerType()),
    ("item_index", T.IntegerType()),
    ("type_index", T.IntegerType()),
)

# One row is one event of a user as it enters the walk over the users' histories (halflife.histories), in the order
# (user_index, event_time, event id, role). A nullable column that is null in all rows may be left out.
HISTORY: Final = _schema(
    ("bucket", T.IntegerType()),  # of users_per_file users: what one file of sequences holds
    ("user_index", T.IntegerType()),
    ("user_id", T.StringType()),
    ("item_index", T.IntegerType()),
    ("type_index", T.IntegerType()),
    ("event_time", T.TimestampType()),
    ("event_id", T.StringType(), True),  # the log's own
    ("event_key", T.LongType()),  # digest of what makes two records the same event
    ("repeats", T.ByteType()),  # of the same event: 0 are duplicates, 1 are real, 2 are real but read again every night
    ("role", T.ByteType()),  # 1: published in the window; 0: new tonight
    ("given_session_id", T.StringType(), True),
    ("dwell_seconds", T.DoubleType(), True),
    ("rating", T.DoubleType(), True),
    ("quantity", T.DoubleType(), True),
    ("dwell_imputed", T.BooleanType()),
    ("rating_imputed", T.BooleanType()),
    ("strength", T.DoubleType()),
    ("context", T.MapType(T.StringType(), T.StringType()), True),
    ("file_index", T.IntegerType()),  # place of (source, file) in a list ordered by arrival
)

# One row is one rejected input record, with the reason and its text.
QUARANTINE: Final = _schema(
    ("source", T.StringType()),
    ("source_file", T.StringType()),
    ("reason", T.StringType()),
    ("raw", T.StringType(), True),
)

# One row is one input file of one source, with what became of its records:
# rows_read = accepted + quarantined + duplicates.
INTAKE: Final = _schema(
    ("source", T.StringType()),
    ("source_file", T.StringType()),
    ("rows_read", T.LongType()),
    ("accepted", T.LongType()),
    ("quarantined", T.LongType()),
    ("duplicates", T.LongType()),
)

# One row is one session of one user.
SESSIONS: Final = _schema(
    ("session_id", T.StringType()),
    ("user_id", T.StringType()),
    ("user_index", T.IntegerType()),
    ("start_time", T.TimestampType()),
    ("end_time", T.TimestampType()),
    ("events", T.LongType()),
    ("items", T.LongType()),
    ("engaged_seconds", T.DoubleType()),
)

# One row is one user id and its dense index 0..n-1, which never changes. A user who was forgotten has no id any more.
USERS: Final = _schema(
    ("user_index", T.IntegerType()),
    ("user_id", T.StringType(), True),
)

# One row is one item id and its dense index 0..n-1, which never changes, with its features: those of the catalogue,
# where it has the item. Categories are numbered 0.. as well.
ITEMS: Final = _schema(
    ("item_index", T.IntegerType()),
    ("item_id", T.StringType()),
    ("title", T.StringType(), True),
    ("category", T.StringType(), True),
    ("category_index", T.IntegerType(), True),
    ("features", T.MapType(T.StringType(), T.StringType()), True),
    ("vectors", T.MapType(T.StringType(), T.ArrayType(T.FloatType(), False)), True),
)

# One row is one user's last L events, oldest first: arrays of the fixed length L, right-padded with zeros
# behind the first `length` entries.
SEQUENCES: Final = _schema(
    ("user_index", T.IntegerType()),
    ("user_id", T.StringType()),
    ("length", T.IntegerType()),
    ("last_event_time", T.TimestampType()),
    ("item_index", T.ArrayType(T.IntegerType(), False)),
    ("type_index", T.ArrayType(T.IntegerType(), False)),
    ("strength", T.ArrayType(T.FloatType(), False)),
    ("event_seconds", T.ArrayType(T.DoubleType(), False)),
    ("gap_log", T.ArrayType(T.FloatType(), False)),
    ("revisit_gap_log", T.ArrayType(T.FloatType(), False)),
    ("revisit_count", T.ArrayType(T.IntegerType(), False)),
    ("session_position", T.ArrayType(T.IntegerType(), False)),
    ("hour", T.ArrayType(T.IntegerType(), False)),
    ("weekday", T.ArrayType(T.IntegerType(), False)),
)

# One row is one user's last events, oldest first, as the ranks of a training read them: of each array of SEQUENCES the
# bytes of its values. petastorm takes lists of one length only, and half of the feed's time went into their padding.
TRAINING: Final = _schema(
    ("user_index", T.IntegerType()),
    *((field.name, T.BinaryType()) for field in SEQUENCES if isinstance(field.dataType, T.ArrayType)),
)

# One row is one user with new events tonight: their row of `sequences`, apart from everyone else's. Empty where the
# whole history was walked again, as on a first night.
ACTIVE_SEQUENCES: Final = SEQUENCES

# One row is the memory of one (user, item) pair: K channel values at `anchor_time`, the pair's last event.
# Negative events (cancel, dislike) have a state of their own, subtracted when read. `leading` is the event that
# promised most whenever one came after it: its time, its type and its K jumps (zeros where it is negative). `faded_on`
# is the first night from which the memory's expected strength over the horizon stays below score.faded_below; null
# where it never reaches it. All are functions of the pair's events alone.
MEMORY: Final = _schema(
    ("user_index", T.IntegerType()),
    ("item_index", T.IntegerType()),
    ("anchor_time", T.TimestampType()),
    ("positive", T.ArrayType(T.DoubleType(), False)),
    ("negative", T.ArrayType(T.DoubleType(), False)),
    ("event_count", T.LongType()),
    ("revived", T.BooleanType()),
    ("leading_time", T.TimestampType()),
    ("leading_type", T.IntegerType()),
    ("leading", T.ArrayType(T.DoubleType(), False)),
    ("faded_on", T.DateType(), True),
)

# One row is one user's K read-outs of d numbers, flattened, and the time of the last event behind them.
USER_STATES: Final = _schema(
    ("user_index", T.IntegerType()),
    ("anchor_time", T.TimestampType()),
    ("readouts", T.ArrayType(T.FloatType(), False)),
)

# One row is one (user, item) pair tonight: the probability of engagement within the horizon, and the two
# parts of the expected strength behind it: score = 1 - exp(-max(affinity + memory, 0)). By user_id, then item_id.
# As published (score.encoding rounded) they are the closed form to 2^-21 in score and to 2^-22 in affinity, and to
# 2^-11 of a small value; with uint8, score and affinity are codes of a strength (halflife.scoring.precision).
SCORES: Final = _schema(
    ("user_id", T.StringType()),
    ("item_id", T.StringType()),
    ("score", T.FloatType()),
    ("affinity", T.FloatType()),
    ("memory", T.FloatType()),
)

# One row is one user tonight (score.layout arrays): the score of every item, at the place of its item_index.
SCORE_ARRAYS: Final = _schema(
    ("user_id", T.StringType()),
    ("score", T.ArrayType(T.FloatType(), False)),
)

# One row is one of a user's top N items tonight, best first from rank 1, with the reason.
RECOMMENDATIONS: Final = _schema(
    ("user_id", T.StringType()),
    ("rank", T.IntegerType()),
    ("item_id", T.StringType()),
    ("score", T.FloatType()),
    ("reason", T.StringType()),
)

# One row is one (user, item category) tonight: the expected strength summed over the items of the category, and
# score = 1 - exp(-strength), the probability that the user engages with any of them within the horizon.
INTEREST_BY_CATEGORY: Final = _schema(
    ("user_id", T.StringType()),
    ("category", T.StringType()),
    ("strength", T.FloatType()),
    ("score", T.FloatType()),
)

# One row is one item category tonight: its expected strength summed over all users, how many users have a score of at
# least score.interested_above in it, its change (.1 is a tenth more) against the night before and 30 nights ago (null
# where that night is not known), and whether it is rising, fading, steady or revived (scoring.rollups says when).
# `strengths` are those of this night and the 30 before it, the newest first.
CATEGORY_TREND: Final = _schema(
    ("category", T.StringType()),
    ("strength", T.DoubleType()),
    ("users", T.LongType()),
    ("change_1_night", T.DoubleType(), True),
    ("change_30_nights", T.DoubleType(), True),
    ("status", T.StringType(), True),
    ("strengths", T.ArrayType(T.DoubleType(), True)),
)

# One row is one (night, model, baseline, segment, metric): the value over `users` users; where a baseline is named, the
# model's value minus the baseline's over the same users. Standard error and 95 % interval (low, high) are those of a
# bootstrap over users, where the metric is one of users' rankings or pairs. Segment `all` holds every user with a
# history; `tuning` is the validation before the first night; `score:2^-7` holds the pairs whose score lies from there
# to twice as much. Metrics are of the next basket, `horizon_` ones of all that was bought within the horizon.
METRICS: Final = _schema(
    ("night", T.DateType()),
    ("model", T.StringType()),
    ("baseline", T.StringType(), True),
    ("segment", T.StringType()),
    ("metric", T.StringType()),
    ("value", T.DoubleType()),
    ("users", T.LongType()),
    ("standard_error", T.DoubleType(), True),
    ("low", T.DoubleType(), True),
    ("high", T.DoubleType(), True),
)
