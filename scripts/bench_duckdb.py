"""The sequences of a log in DuckDB's SQL, with two threads and as much memory as Spark's heap.

Writes the columns of `schemas.SEQUENCES` and nothing else: no quarantine, no tables of events and sessions, no audit,
no state for the next night. Prints the seconds it took, from the answer to a trivial query on.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import duckdb
from bench_processes import FEATURES, GAP_SECONDS, LENGTH, WEIGHTS

# A user's sessions in one sort: an event's place in its session is its place among the user's events less that of the
# session's first.
RECENT = """
    CREATE VIEW log AS FROM read_parquet('{log}/*/*.parquet', hive_partitioning = true)
        WHERE user_id IS NOT NULL AND item_id IS NOT NULL AND event_type IS NOT NULL AND event_time IS NOT NULL;
    CREATE TEMP TABLE users AS SELECT user_id, (row_number() OVER (ORDER BY min(date), user_id) - 1)::INT AS user_index
        FROM log GROUP BY user_id;
    CREATE TEMP TABLE items AS SELECT item_id, (row_number() OVER (ORDER BY min(date), item_id) - 1)::INT AS item_index
        FROM log GROUP BY item_id;
    CREATE TEMP TABLE types AS FROM (VALUES {types}) AS types (event_type, type_index, weight);
    CREATE TEMP TABLE recent AS
        WITH events AS (
            SELECT user_index, item_index, type_index, epoch_us(event_time) AS micros,
                (weight * CASE WHEN dwell_seconds IS NULL THEN 1
                    ELSE log2(1 + least(dwell_seconds, 3600) / 60) END)::FLOAT AS strength
            FROM log JOIN users USING (user_id) JOIN items USING (item_id) JOIN types USING (event_type)
        ), located AS (
            SELECT *,
                row_number() OVER of_user AS place,
                count(*) OVER (PARTITION BY user_index) AS places,
                (micros - lag(micros) OVER of_user) / 1e6 AS gap,
                (micros - lag(micros) OVER of_item) / 1e6 AS revisit_gap,
                (row_number() OVER of_item - 1)::INT AS revisit_count
            FROM events
            WINDOW of_user AS (PARTITION BY user_index ORDER BY micros),
                of_item AS (PARTITION BY user_index, item_index ORDER BY micros)
        ), placed AS (
            SELECT *, max(CASE WHEN gap IS NULL OR gap > {gap} THEN place END) OVER so_far AS session_place
            FROM located
            WINDOW so_far AS (PARTITION BY user_index ORDER BY micros ROWS UNBOUNDED PRECEDING)
        )
        SELECT user_index, micros, item_index, type_index, strength, gap, revisit_gap, revisit_count,
            (place - session_place)::INT AS session_position
        FROM placed WHERE places - place < {length};
"""
# Lists do not spill to disk: of all users at once they need more than the memory there is.
USERS_AT_ONCE = 20_000
SEQUENCES = """
    COPY (
        WITH last_events AS (
            SELECT user_index, max(micros) AS last_micros, list({{
                'item_index': item_index, 'type_index': type_index, 'strength': strength,
                'event_seconds': micros / 1e6,
                'gap_log': ln(1 + coalesce(gap, 0))::FLOAT,
                'revisit_gap_log': ln(1 + coalesce(revisit_gap, 0))::FLOAT,
                'revisit_count': revisit_count, 'session_position': session_position,
                'hour': (micros // 3_600_000_000 % 24)::INT,
                'weekday': ((micros // 86_400_000_000 + 3) % 7)::INT
            }} ORDER BY micros) AS rows
            FROM recent WHERE user_index >= {first} AND user_index < {end} GROUP BY user_index
        )
        SELECT user_index, user_id, len(rows)::INT AS length, make_timestamptz(last_micros) AS last_event_time, {arrays}
        FROM last_events JOIN users USING (user_index)
    ) TO '{output}/{first}.parquet' (FORMAT parquet, COMPRESSION zstd);
"""


def write_sequences(database: duckdb.DuckDBPyConnection, log: Path, output: Path, length: int = LENGTH) -> None:
    """Write the last `length` events of every user as the columns of `sequences`."""
    types = ", ".join(f"('{name}', {index}, {weight}::DOUBLE)" for index, (name, weight) in enumerate(WEIGHTS.items()))
    arrays = ", ".join(f"list_resize([r.{name} FOR r IN rows], {length}, 0) AS {name}" for name in FEATURES)
    database.execute(RECENT.format(log=log, types=types, gap=GAP_SECONDS, length=length))
    (users,) = database.execute("SELECT count(*) FROM users").fetchall()[0]
    for first in range(0, users, USERS_AT_ONCE):
        end = first + USERS_AT_ONCE
        database.execute(SEQUENCES.format(first=first, end=end, arrays=arrays, output=output))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path, help="folder of a log")
    parser.add_argument("output", type=Path, help="a folder that is not there yet")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    with duckdb.connect(config={"threads": 2, "memory_limit": "4GB", "preserve_insertion_order": False}) as database:
        database.execute(f"SET temp_directory = '{options.output}.spilled'")
        database.execute("SELECT 1").fetchall()
        begin = time.perf_counter()
        write_sequences(database, options.log, options.output)
        print(json.dumps({"seconds": time.perf_counter() - begin}))


if __name__ == "__main__":
    main()
