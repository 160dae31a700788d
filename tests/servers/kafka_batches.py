"""Reads and writes files of Kafka's record batches with kafka-python, which shares no code with Mainstem.

kafka_batches.py read FILE           the records of a file, each batch's checksum checked
kafka_batches.py write CODEC FILE    writes batches, and prints their records

A record is a line of JSON: offset, time, key, value and headers, bytes in hexadecimal digits."""

import json
import pathlib
import struct
import sys

import kafka.codec
import kafka.record.default_records as default_records
from kafka.record.memory_records import MemoryRecords, MemoryRecordsBuilder

CODECS = {"none": 0, "gzip": 1, "snappy": 2, "snappy-raw": 2, "lz4": 3, "zstd": 4}


def digits(data):
    return None if data is None else bytes(data).hex()


def read(path):
    content = pathlib.Path(path).read_bytes()
    records = MemoryRecords(content)
    while records.has_next():
        batch = records.next_batch()
        if not batch.validate_crc():
            sys.exit(f"{path}: the checksum of the batch at offset {batch.base_offset} is wrong")
        for record in batch:
            headers = [[name, digits(value)] for name, value in record.headers]
            line = dict(offset=record.offset, timestamp_ms=record.timestamp, key=digits(record.key), value=digits(record.value), headers=headers)
            print(json.dumps(line))
    if records.valid_bytes() != len(content):
        sys.exit(f"{path}: only {records.valid_bytes()} of {len(content)} bytes are batches")


def write(codec, path):
    if codec == "snappy-raw":
        # kafka-python writes the framing of the Java clients; librdkafka writes one block.
        default_records.snappy_encode = lambda data: kafka.codec.snappy_encode(data, xerial_compatible=False)
    content, offset = b"", 1000
    for batch in range(3):
        builder = MemoryRecordsBuilder(magic=2, compression_type=CODECS[codec], batch_size=1 << 20)
        count = [1, 3, 2000][batch]
        for row in range(count):
            key = None if row % 5 == 4 else f"key {row}".encode()
            value = None if row % 7 == 6 else f"value {row} of batch {batch} ".encode() * (row % 11)
            headers = [("header", b"\x00\xff"), ("empty", b""), ("none", None)][: row % 4]
            builder.append(timestamp=1_700_000_000_000 + row * 10, key=key, value=value, headers=headers)
        builder.close()
        data = bytearray(builder.buffer())
        # What a broker puts in: the offset of the first record, and the epoch of the leader that took the batch.
        struct.pack_into(">q", data, 0, offset)
        struct.pack_into(">i", data, 12, 5)
        content += data
        offset += count
    pathlib.Path(path).write_bytes(content)
    read(path)


if __name__ == "__main__":
    {"read": read, "write": write}[sys.argv[1]](*sys.argv[2:])
