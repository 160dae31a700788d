"""What pyarrow needs on one thread for the rows that `encode_rate.rs` wrote.

Reads all rows into memory before the clock starts. Prints the best of three, with the columns of the change log and without them.
"""

import argparse
import glob
import os
import sys
import tempfile
import time

import pyarrow as pa
import pyarrow.parquet as pq

TABLE_COLUMNS = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("compression", nargs="?", default="zstd", choices=["zstd", "snappy", "none"])
    arguments = parser.parse_args()
    folder, compression = arguments.folder, arguments.compression
    level = 1 if compression == "zstd" else None
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    paths = sorted(glob.glob(os.path.join(folder, "**", "*.parquet"), recursive=True))
    table = pa.concat_tables([pq.ParquetFile(path).read(use_threads=False) for path in paths])
    for name, rows in (("all", table), ("table", table.select(table.column_names[:TABLE_COLUMNS]))):
        seconds, cpu, size = [], [], 0
        for _ in range(3):
            with tempfile.NamedTemporaryFile(dir=folder, suffix=".pyarrow") as file:
                begin, begin_cpu = time.perf_counter(), time.process_time()
                pq.write_table(rows, file.name, compression=compression, compression_level=level)
                seconds.append(time.perf_counter() - begin)
                cpu.append(time.process_time() - begin_cpu)
                size = os.path.getsize(file.name)
        print(f"columns={name} rows={len(rows)} rows_per_second={len(rows) / min(seconds):.0f} cpu_seconds={min(cpu):.3f} bytes={size}")


if __name__ == "__main__":
    main()
