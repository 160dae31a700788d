"""Runs the queries of docs/parquet-files.md, and prints the rows of each as one line of JSON.

    run_queries.py PAGE duckdb|spark FOLDER

FOLDER stands for `/lake` in the queries. Needs PyPI `duckdb`, or `pyspark` (4.3 was tried) and Java.
"""

import json
import re
import sys


def main():
    page, engine, folder = sys.argv[1:]
    with open(page, encoding="utf-8") as file:
        blocks = re.findall(rf"^```sql {engine}\n(.*?)^```", file.read(), re.MULTILINE | re.DOTALL)
    queries = [block.replace("'/lake/", f"'{folder}/").strip().rstrip(";") for block in blocks]
    if not queries:
        sys.exit(f"{page} has no queries for {engine}")
    if engine == "duckdb":
        import duckdb

        connection = duckdb.connect()

        def run(query):
            return connection.execute(query).fetchall()

    else:
        from pyspark.sql import SparkSession

        session = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
        session.sparkContext.setLogLevel("ERROR")

        def run(query):
            return [tuple(row) for row in session.sql(query).collect()]

    for query in queries:
        print(json.dumps(run(query), default=str, ensure_ascii=False))


if __name__ == "__main__":
    main()
