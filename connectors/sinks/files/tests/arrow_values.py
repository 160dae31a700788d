"""Prints columns of one Parquet file as pyarrow reads them, a JSON list for each: arrow_values.py FILE COLUMN... The type, then the values."""

import json
import sys

import pyarrow.parquet

path, *columns = sys.argv[1:]
table = pyarrow.parquet.ParquetFile(path).read(columns)
for name in columns:
    column = table.column(name)
    values = column.cast("int64") if str(column.type).startswith("duration") else column
    print(json.dumps([str(column.type), *(None if value is None else str(value) for value in values.to_pylist())]))
