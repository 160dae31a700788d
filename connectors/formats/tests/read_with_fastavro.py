"""Writes random data with one Avro schema and reads it with another, both with fastavro.

Reads lines of JSON from its input, {"writer": …, "reader": …, "seed": …}, and prints a line of JSON for each pair: how many values were
written and read, or what failed.
"""
import io
import json
import random
import sys

import fastavro

NAMED = ("record", "error", "enum", "fixed")
VALUES = 20
DEPTH_MAX = 12


class Endless(Exception):
    """A type whose data has no end, or is too deep to matter."""


def collect(schema, names):
    """Finds the named types of a parsed schema."""
    if isinstance(schema, list):
        for branch in schema:
            collect(branch, names)
    elif isinstance(schema, dict):
        if schema["type"] in NAMED:
            names[schema["name"]] = schema
        for part in ("items", "values"):
            if part in schema:
                collect(schema[part], names)
        for field in schema.get("fields", []):
            collect(field["type"], names)
    return names


def value(schema, names, rng, depth=0):
    """Random data. A union's branch is named, so that it is this one that is written."""
    if depth > DEPTH_MAX:
        raise Endless
    if isinstance(schema, list):
        if not schema:
            raise Endless
        branches = list(schema)
        rng.shuffle(branches)
        if depth > DEPTH_MAX // 2:
            branches.sort(key=lambda branch: branch != "null")
        branch = branches[0]
        name = branch
        if isinstance(branch, dict):
            name = branch["name"] if branch["type"] in NAMED else branch["type"]
        return (name, value(branch, names, rng, depth + 1))
    if isinstance(schema, str) and schema in names:
        return value(names[schema], names, rng, depth)
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind == "null":
        return None
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "int":
        return rng.choice([0, -1, 2**31 - 1, -(2**31), rng.randrange(1000)])
    if kind == "long":
        return rng.choice([0, -1, 2**63 - 1, -(2**63), rng.randrange(1000)])
    if kind in ("float", "double"):
        return rng.choice([0.0, -1.5, 1e30, float("inf"), rng.random()])
    if kind == "string":
        return rng.choice(["", "a", "é漢🦀"])
    if kind == "bytes":
        # What a reader of strings makes of other bytes is not a matter of schemas.
        return rng.choice([b"", b"a", "é".encode()])
    if kind == "fixed":
        return bytes(schema["size"])
    if kind == "enum":
        return rng.choice(schema["symbols"])
    if kind == "array":
        return [value(schema["items"], names, rng, depth + 1) for _ in range(rng.randrange(3))]
    if kind == "map":
        return {str(key): value(schema["values"], names, rng, depth + 1) for key in range(rng.randrange(3))}
    if kind == "record":
        return {field["name"]: value(field["type"], names, rng, depth + 1) for field in schema["fields"]}
    raise AssertionError(f"unknown type {kind}")


def run(case):
    rng = random.Random(case["seed"])
    writer, reader = fastavro.parse_schema(case["writer"]), fastavro.parse_schema(case["reader"])
    names = collect(writer, {})
    read = 0
    for _ in range(VALUES):
        try:
            datum = value(writer, names, rng)
        except Endless:
            continue
        buffer = io.BytesIO()
        fastavro.schemaless_writer(buffer, writer, datum)
        buffer.seek(0)
        try:
            fastavro.schemaless_reader(buffer, writer, reader)
        except Exception as error:
            return {"error": f"{type(error).__name__}: {error}", "datum": repr(datum)}
        if buffer.read():
            return {"error": "not all of it was read", "datum": repr(datum)}
        read += 1
    return {"read": read}


for line in sys.stdin:
    print(json.dumps(run(json.loads(line))))
