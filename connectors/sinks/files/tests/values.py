"""Prints values of one Parquet file as DuckDB's text, a JSON list for each row: values.py FILE CONDITION COLUMNS."""

import json
import sys

import duckdb

path, condition, columns = sys.argv[1:]
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
rows = connection.execute(
    f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM (SELECT {columns} FROM read_parquet(?, hive_partitioning = false) WHERE {condition})", [path]
)
for row in rows.fetchall():
    print(json.dumps(row, ensure_ascii=False))
