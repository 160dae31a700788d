#!/usr/bin/env python3
"""Folds the Parquet files of one topic to the table as it is now. docs/parquet-files.md explains the query.

    fold.py FOLDER [--key COLUMN]... [--text]     prints the rows, one a line, as JSON lists in the table's order of columns

As a library: `fold(folder, key_columns) -> list of tuples`. Needs PyPI `duckdb` and nothing else.
"""

import argparse
import json
import os
import sys

import duckdb


def quoted(name):
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    """An SQL string."""
    return "'" + text.replace("'", "''") + "'"


def source(path):
    """The table function that reads all change rows below a folder, or of a glob."""
    glob = path if any(c in path for c in "*?[") or path.endswith(".parquet") else os.path.join(path, "**", "*.parquet")
    # Columns that came or went with the table's schema are NULL in files that lack them. The folders' names are no columns: a table
    # may have columns `topic` and `partition` of its own.
    return f"read_parquet({literal(glob)}, union_by_name = true, hive_partitioning = false, filename = '_file')", glob


def newest_schema(connection, path):
    """The footer's description of the table, from the file that holds the latest change; None if there is no file."""
    rows, glob = source(path)
    if not connection.execute("SELECT count(*) FROM glob(?)", [glob]).fetchone()[0]:
        return None
    newest = connection.execute(f"SELECT arg_max(_file, _order) FROM {rows}").fetchone()[0]
    if newest is None:  # nothing but files without rows
        newest = connection.execute("SELECT max(file) FROM glob(?)", [glob]).fetchone()[0]
    pairs = connection.execute(
        "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = 'mainstem.schema'", [newest]
    ).fetchone()
    return json.loads(pairs[0])


def query_whole(path, columns, key):
    """The query that folds files to rows, if each of them has all its columns. Names are those that the files have."""
    rows, _ = source(path)
    names = ", ".join(quoted(c) for c in key)
    return f"""
WITH changes AS (SELECT * FROM {rows})
SELECT {", ".join(quoted(c) for c in columns)}
FROM changes
WHERE _op NOT IN ('t', 's')
  AND coalesce(_order > (SELECT max(_order) FROM changes WHERE _op IN ('t', 's')), true)
QUALIFY row_number() OVER (PARTITION BY {names} ORDER BY _order DESC) = 1 AND _op <> 'd'
ORDER BY {names}
"""


def query(path, columns, key):
    """The query that folds files to rows, some of which lack columns that did not change."""
    rows, _ = source(path)
    names = ", ".join(quoted(c) for c in key)
    root = ", ".join(f"_root_{i}" for i in range(len(key)))

    def latest(column):
        sent = f"_op <> 'd' AND NOT coalesce(list_contains(_unchanged, {literal(column)}), false)"
        return f"last_value(CASE WHEN {sent} THEN {{'value': {quoted(column)}}} END IGNORE NULLS) OVER line AS {quoted(column)}"

    filled = ",\n        ".join([quoted(c) for c in key] + [latest(c) for c in columns if c not in key])
    picked = ", ".join(quoted(c) if c in key else f"{quoted(c)}.value AS {quoted(c)}" for c in columns)
    return f"""
WITH RECURSIVE
changes AS (SELECT * FROM {rows}),
live AS (
    SELECT * FROM changes
    WHERE _op NOT IN ('t', 's')
      AND coalesce(_order > (SELECT max(_order) FROM changes WHERE _op IN ('t', 's')), true)
),
lives AS (
    SELECT *, count(*) FILTER (_op IN ('c', 'r') OR (_op = 'u' AND _old_key IS NOT NULL))
        OVER (PARTITION BY {names} ORDER BY _order) AS _life
    FROM live
),
moves AS (
    SELECT {", ".join(f"new.{quoted(c)}" for c in key)}, new._life,
        {", ".join(f"old.{quoted(c)} AS _from_{i}" for i, c in enumerate(key))}, old._life AS _from_life
    FROM lives AS new JOIN lives AS old ON new._order = old._order
    WHERE new._op = 'u' AND new._old_key IS NOT NULL AND old._op = 'd' AND old._old_key IS NOT NULL
),
lines AS (
    SELECT DISTINCT {names}, _life, {", ".join(f"{quoted(c)} AS _root_{i}" for i, c in enumerate(key))}, _life AS _root_life
    FROM lives ANTI JOIN moves USING ({names}, _life)
    UNION ALL
    SELECT {", ".join(f"moves.{quoted(c)}" for c in key)}, moves._life, {", ".join(f"lines._root_{i}" for i in range(len(key)))}, lines._root_life
    FROM moves JOIN lines
      ON {" AND ".join(f"moves._from_{i} = lines.{quoted(c)}" for i, c in enumerate(key))} AND moves._from_life = lines._life
),
filled AS (
    SELECT _op, _order,
        {filled}
    FROM lives JOIN lines USING ({names}, _life)
    WINDOW line AS (PARTITION BY {root}, _root_life ORDER BY _order ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
),
latest AS (SELECT * FROM filled QUALIFY row_number() OVER (PARTITION BY {names} ORDER BY _order DESC) = 1)
SELECT {picked} FROM latest WHERE _op <> 'd' ORDER BY {names}
"""


def query_for(connection, path, key_columns=None):
    """The query for the files of a topic; None if there are none."""
    schema = newest_schema(connection, path)
    if schema is None:
        return None
    columns = [column["file_column"] for column in schema["columns"]]
    key = list(key_columns or schema["key"])
    if not key:
        raise ValueError(f"{schema['schema']}.{schema['table']} has no key: its changes can't be folded")
    rows, _ = source(path)
    # The whole query is right in either case, and costs a sort of each column.
    partial = connection.execute(f"SELECT count(*) FROM {rows} WHERE _unchanged IS NOT NULL").fetchone()[0]
    return (query if partial else query_whole)(path, columns, key)


def fold(path, key_columns=None, text=False, connection=None):
    """The rows of a table, sorted by key, its columns in the order of the newest schema.

    `path` is the folder of a topic (`…/topic=NAME`) or a glob of its files. `key_columns` are the key's columns as the files name
    them; by default what the newest file says. Values are exact: Decimal, int, uuid.UUID, datetime, list; with `text`, DuckDB's text
    of each, which also has the times that Python lacks (infinity, years before 1 and after 9999).
    """
    connection = connection or duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    sql = query_for(connection, path, key_columns)
    if sql is None:
        return []
    if text:
        sql = f"SELECT CAST(COLUMNS(*) AS VARCHAR) FROM ({sql})"
    return connection.execute(sql).fetchall()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--key", action="append", help="a column of the key; by default what the files say")
    parser.add_argument("--text", action="store_true", help="all values as text")
    parser.add_argument("--sql", action="store_true", help="print the query instead")
    arguments = parser.parse_args()
    if arguments.sql:
        print(query_for(duckdb.connect(), arguments.folder, arguments.key) or sys.exit(f"no files below {arguments.folder}"))
        return
    for row in fold(arguments.folder, arguments.key, arguments.text):
        print(json.dumps(row, default=str, ensure_ascii=False))


if __name__ == "__main__":
    main()
