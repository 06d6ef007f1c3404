"""A real log goes through sessionize by config alone: Online Retail, every row of it accounted for."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import duckdb
import pytest

ROOT = Path(__file__).parents[2]
LOG = Path(os.environ.get("HALFLIFE_ONLINE_RETAIL", ROOT.parent / "shared" / "data" / "online_retail.csv.gz"))
ROWS, WITHOUT_CUSTOMER, REPEATED = 541_909, 135_080, 5_280
CUSTOMERS, PRODUCTS, INVOICES = 4_372, 3_684, 22_190  # of the rows with a customer
CANCELLATIONS = 8_841

pytestmark = pytest.mark.skipif(not LOG.is_file(), reason=f"no {LOG}: set HALFLIFE_ONLINE_RETAIL")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("online_retail")
    sets = [f"warehouse={folder}/warehouse", f"sources.invoices.path={LOG}"]
    submit = [ROOT / "scripts/submit", "sessionize", "--config", ROOT / "conf/online_retail.yaml"]
    done = subprocess.run(
        [*submit, "--as-of", "2011-12-10", *(word for override in sets for word in ("--set", override))],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HALFLIFE_LOGS": str(folder / "logs"), "HALFLIFE_MASTER": "local[2]"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "warehouse"


def rows(warehouse: Path, query: str) -> list[tuple[object, ...]]:
    """Rows of a query in which {table} stands for its files, and {log} for the raw log as DuckDB reads it."""
    filled = query.replace("{log}", f"read_csv('{LOG}', header=true, all_varchar=true)")
    return duckdb.sql(filled.replace("{", f"'{warehouse}/").replace("}", "/*/*.parquet'")).fetchall()


def test_every_row_is_accepted_quarantined_or_a_duplicate(warehouse: Path) -> None:
    accepted = ROWS - WITHOUT_CUSTOMER - REPEATED
    account = rows(warehouse, "SELECT rows_read, accepted, quarantined, duplicates FROM {intake}")
    assert account == [(ROWS, accepted, WITHOUT_CUSTOMER, REPEATED)]
    assert rows(warehouse, "SELECT count(*) FROM {events}") == [(accepted,)]


def test_rows_without_a_customer_are_quarantined_with_their_text(warehouse: Path) -> None:
    query = "SELECT reason, count(*), count(raw) FROM {quarantine} GROUP BY reason"
    assert rows(warehouse, query) == [("missing_user", WITHOUT_CUSTOMER, WITHOUT_CUSTOMER)]


def test_events_are_exactly_the_different_lines_of_the_log_with_a_customer(warehouse: Path) -> None:
    lines = """SELECT DISTINCT CustomerID, StockCode, if(InvoiceNo LIKE 'C%', 'cancel', 'purchase'), InvoiceNo,
        timezone('Europe/London', InvoiceDate::TIMESTAMP), Quantity::DOUBLE FROM {log} WHERE CustomerID IS NOT NULL"""
    events = "SELECT user_id, item_id, event_type, session_id, event_time, quantity FROM {events}"
    assert rows(warehouse, f"{lines} EXCEPT {events}") == []
    assert rows(warehouse, f"{events} EXCEPT {lines}") == []


def test_cancellations_take_interest_away(warehouse: Path) -> None:
    query = "SELECT event_type, count(*), count_if(strength < 0), count_if(quantity < 0) FROM {events} GROUP BY 1"
    assert sorted(rows(warehouse, query)) == [
        ("cancel", CANCELLATIONS, CANCELLATIONS, CANCELLATIONS),
        ("purchase", ROWS - WITHOUT_CUSTOMER - REPEATED - CANCELLATIONS, 0, 0),
    ]


def test_users_items_and_sessions_are_those_of_the_log(warehouse: Path) -> None:
    query = "SELECT (SELECT count(*) FROM {users}), (SELECT count(*) FROM {items}), (SELECT count(*) FROM {sessions})"
    assert rows(warehouse, query) == [(CUSTOMERS, PRODUCTS, INVOICES)]
