"""Writes the rows of all Parquet files below a folder into one file, on one thread, and prints the seconds: parquet_writer.py FOLDER FILE"""

import os
import pathlib
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq

pa.set_cpu_count(1)
pa.set_io_thread_count(1)
folder, out = sys.argv[1:]
files = sorted(pathlib.Path(folder).rglob("*.parquet"))
table = pa.concat_tables([pq.ParquetFile(path).read(use_threads=False) for path in files]).combine_chunks()
start = time.perf_counter()
with open(out, "wb") as stream:
    pq.write_table(table, stream, compression="zstd", compression_level=1)
    # The sink's files are synced before they get their names.
    stream.flush()
    os.fsync(stream.fileno())
print(f"rows={table.num_rows}\nseconds={time.perf_counter() - start:.3f}")
