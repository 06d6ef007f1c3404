"""Lay out the Complete Journey log as a lake would hold it: one folder a day for each kind of event.

Reads the Parquet files of the pinned package and writes, under a folder of raw logs,
    purchases/date=D/*.parquet     what households bought, one row a product of a basket
    redemptions/date=D/*.parquet   coupons redeemed: a coupon stands for many products, so the products are those of
                                   the coupon that the household bought on the day of the redemption
    households.parquet             the members, products.parquet the assortment: every id the year's log knows
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import duckdb

TABLES = ("transactions", "coupons", "coupon_redemptions", "products")

PURCHASES = """
    SELECT household_id, basket_id, product_id, quantity, sales_value, transaction_timestamp,
           transaction_timestamp::DATE AS date
    FROM transactions WHERE household_id IN (FROM members)
    ORDER BY transaction_timestamp, household_id, basket_id, product_id
"""
REDEMPTIONS = """
    SELECT DISTINCT household_id, basket_id, product_id, coupon_upc, transaction_timestamp,
           redemption_date::DATE AS date
    FROM coupon_redemptions JOIN coupons USING (coupon_upc, campaign_id)
    JOIN transactions USING (household_id, product_id)
    WHERE transaction_timestamp::DATE = redemption_date::DATE AND household_id IN (FROM members)
    ORDER BY ALL
"""
HOUSEHOLDS = "SELECT household_id FROM members ORDER BY ALL"
# A few products that were sold are missing from the package's product list: they stay, without a title.
PRODUCTS = """
    SELECT product_id, product_type, product_category
    FROM (SELECT DISTINCT product_id FROM transactions WHERE household_id IN (FROM members))
    LEFT JOIN products USING (product_id) ORDER BY product_id
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="folder of the package's Parquet files")
    parser.add_argument("raw", type=Path, help="folder to write; replaced where it exists")
    parser.add_argument("--households", type=int, help="only the first N households, for a quick look")
    options = parser.parse_args()

    lake = duckdb.connect()
    for table in TABLES:
        lake.execute(f"CREATE VIEW {table} AS FROM '{options.package / table}.parquet'")
    limit = f"LIMIT {options.households}" if options.households else ""
    lake.execute(
        f"CREATE TABLE members AS SELECT DISTINCT household_id FROM transactions ORDER BY household_id {limit}"
    )
    staging = options.raw.with_name(options.raw.name + ".new")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for name, query in (("purchases", PURCHASES), ("redemptions", REDEMPTIONS)):
        lake.execute(f"COPY ({query}) TO '{staging / name}' (FORMAT parquet, PARTITION_BY (date))")
    for name, query in (("households", HOUSEHOLDS), ("products", PRODUCTS)):
        lake.execute(f"COPY ({query}) TO '{staging / name}.parquet' (FORMAT parquet)")
    shutil.rmtree(options.raw, ignore_errors=True)
    staging.rename(options.raw)


if __name__ == "__main__":
    main()
