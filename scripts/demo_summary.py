"""What the demo made: its tables, one household's best items, and how to look further."""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

LAST = "2017-12-03"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo", type=Path, help="the demo's folder")
    parser.add_argument("seconds", type=int, help="how long the jobs took")
    options = parser.parse_args()
    warehouse = options.demo / "warehouse"
    console = Console(width=None if Console().is_terminal else 120)
    console.print(tables(warehouse))
    console.print(best_items(options.demo))
    peak = int((options.demo / "peak_memory").read_text()) / 2**30
    console.print(f"The jobs took {options.seconds / 60:.1f} minutes and at most {peak:.1f} GiB in all processes.")
    console.print("To look further:", style="bold")
    print(f"  {warehouse}/reports/as_of={LAST}/report.html in a browser; as_of=2017-12-01 is the night that was judged")
    query = f"FROM '{warehouse}/scores/as_of={LAST}/*.parquet' WHERE user_id = '1' ORDER BY score DESC LIMIT 10"
    print(f'  .venv/bin/python -c "import duckdb; duckdb.sql(\\"{query}\\").show()"')


def tables(warehouse: Path) -> Table:
    shown = Table(title="Tables", title_justify="left")
    for column in ("table", "nights", "rows in the last night", "MB in the last night"):
        shown.add_column(column, justify="left" if column == "table" else "right")
    for folder in sorted(path for path in warehouse.iterdir() if not path.name.startswith("_")):
        nights = sorted(folder.iterdir())
        files = [path for path in nights[-1].resolve().rglob("*") if path.is_file()]
        rows = sum(pq.read_metadata(path).num_rows for path in files if path.suffix == ".parquet")
        megabytes = sum(path.stat().st_size for path in files) / 1e6
        shown.add_row(folder.name, str(len(nights)), f"{rows:,}", f"{megabytes:,.1f}")
    return shown


def best_items(demo: Path) -> Table:
    rows = duckdb.sql(f"""
        SELECT rank, item_id, title, score, reason
        FROM '{demo}/warehouse/recommendations/as_of={LAST}/*.parquet'
        JOIN '{demo}/warehouse/items/as_of={LAST}/*.parquet' USING (item_id)
        WHERE user_id = '1' AND rank <= 8 ORDER BY rank
    """).fetchall()
    shown = Table(title=f"Household 1 on the night of {LAST}", title_justify="left")
    for column in ("rank", "product", "name", "score", "reason"):
        shown.add_column(column, justify="right" if column in ("rank", "score") else "left")
    for rank, product, name, score, reason in rows:
        shown.add_row(str(rank), product, name or "", f"{score:.3f}", reason)
    return shown


if __name__ == "__main__":
    main()
