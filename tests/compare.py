"""Compares the rows of a PostgreSQL table with what arrived in Parquet files or in SQLite, value by value.

Reads a task as JSON from standard input:
  {"columns": [[name, type], …], "key": [name, …], "source": FILE, "target": {"parquet": DIR, "documented": BOOL} | {"sqlite": FILE, "table": NAME}}
FILE holds the source's rows as COPY prints them (time zone UTC, ISO dates). Ends with 1 and says what differs if anything does.

It shares no code with the product. Parquet is read by pyarrow as raw integers, because dates in Python end at the year 9999, and
folded here by the rules of docs/parquet-files.md. With "documented", and for tables of many rows, the query of that page (fold.py) is run as well.
"""

import datetime
import decimal
import json
import pathlib
import re
import sqlite3
import struct
import sys
import uuid

import pyarrow as pa
import pyarrow.parquet as pq

ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
META = {"_op", "_order", "_sequence", "_ordinal", "_commit_ts", "_tx", "_unchanged", "_old_key"}
# Above this many rows Python's own fold takes too long.
MANY = 400_000


def read_copy(path, width):
    def value(field):
        if field == "\\N":
            return None
        return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), field) if "\\" in field else field

    with open(path, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            fields = line.rstrip("\n").split("\t")
            if width == 0:
                yield ()
            else:
                yield tuple(map(value, fields))


def array_items(text):
    """The elements of a one-dimensional array as PostgreSQL prints it."""
    items, position = [], 1
    while position < len(text) - 1:
        if text[position] == '"':
            item, position = "", position + 1
            while text[position] != '"':
                if text[position] == "\\":
                    position += 1
                item += text[position]
                position += 1
            items.append(item)
            position += 1
        else:
            end = min(i for i in (text.find(",", position), len(text) - 1) if i >= 0)
            items.append(None if text[position:end] == "NULL" else text[position:end])
            position = end
        position += 1
    return items


def base(kind):
    return re.sub(r"\(.*?\)", "", kind)


# SQLite keeps whole numbers of a REAL column as integers, which have no negative zero.
signed_zero = True


def of_float(number, size):
    if number != number:
        return "NaN"
    if number == 0 and not signed_zero:
        number = 0.0
    try:
        packed = struct.pack(">f" if size == 4 else ">d", number)
    except OverflowError:
        packed = struct.pack(">d", number)
    return packed.hex()


def civil(days):
    """Year, month, day of a day since 1970-01-01, proleptic Gregorian; the year before 1 is 0."""
    days += 719468
    era, day = divmod(days, 146097)
    year_of_era = (day - day // 1460 + day // 36524 - day // 146096) // 365
    day -= 365 * year_of_era + year_of_era // 4 - year_of_era // 100
    month = (5 * day + 2) // 153
    day = day - (153 * month + 2) // 5 + 1
    month += 3 if month < 10 else -9
    return year_of_era + era * 400 + (month <= 2), month, day


def of_days(days, rest=""):
    year, month, day = civil(days)
    shown, suffix = (year, "") if year > 0 else (1 - year, " BC")
    return f"{shown:04}-{month:02}-{day:02}{rest}{suffix}"


def of_date(days):
    # A file has the -infinity of DuckDB, one above that of the log.
    return {2**31 - 1: "infinity", -(2**31): "-infinity", 1 - 2**31: "-infinity"}.get(days) or of_days(days)


def of_time(micros):
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def of_timestamp(micros, zone=""):
    if micros in (2**63 - 1, -(2**63), 1 - 2**63):
        return "infinity" if micros > 0 else "-infinity"
    days, rest = divmod(micros, 86_400_000_000)
    return of_days(days, f" {of_time(rest)}{zone}")


def of_interval(months, days, micros):
    """As PostgreSQL prints it with IntervalStyle postgres."""
    years, months = (months // 12, months % 12) if months >= 0 else (-(-months // 12), -(-months % 12))
    parts, negative = [], False
    for number, unit in ((years, "year"), (months, "mon"), (days, "day")):
        if number:
            parts.append(f"{'+' if negative and number > 0 else ''}{number} {unit}{'' if number == 1 else 's'}")
            negative = number < 0
    if micros or not parts:
        sign = "-" if micros < 0 else "+" if negative else ""
        hours, rest = divmod(abs(micros), 3_600_000_000)
        parts.append(f"{sign}{hours:02}:{of_time(rest)[3:]}")
    return " ".join(parts)


def of_iso_interval(text):
    """An ISO 8601 duration, every part with a sign of its own, as PostgreSQL prints it."""
    found = re.fullmatch(r"P(?:(-?\d+)Y)?(?:(-?\d+)M)?(?:(-?\d+)D)?(?:T(?:(-?\d+)H)?(?:(-?\d+)M)?(?:(-?)(\d+)(?:\.(\d+))?S)?)?", text)
    if not found:
        return text
    years, months, days, hours, minutes = (int(found[i] or 0) for i in range(1, 6))
    seconds = int(found[7] or 0) * 1_000_000 + int((found[8] or "").ljust(6, "0"))
    micros = (hours * 60 + minutes) * 60_000_000 + (-seconds if found[6] else seconds)
    return of_interval(years * 12 + months, days, micros)


def canonical_source(kind):
    """What turns PostgreSQL's text of that type into the form that is compared."""
    kind = base(kind)
    if kind.endswith("[]"):
        inner = canonical_source(kind[:-2])
        return lambda text: tuple(None if item is None else inner(item) for item in array_items(text))
    if kind == "real":
        return lambda text: of_float(struct.unpack("f", struct.pack("f", float(text)))[0], 4)
    if kind == "double precision":
        return lambda text: of_float(float(text), 8)
    return lambda text: text


def canonical_target(kind):
    """What turns a value from Parquet or SQLite into the form that is compared. Kinds of value, not the type, decide: a reader may give a
    date as an integer, a date or a text."""
    kind = base(kind)
    if kind.endswith("[]"):
        inner = canonical_target(kind[:-2])

        def of_list(value):
            items = array_items(value) if isinstance(value, str) and value.startswith("{") else value
            items = json.loads(items, parse_float=str) if isinstance(items, str) else items
            return tuple(None if item is None else inner(item) for item in items)

        return of_list

    def scalar(value):
        if isinstance(value, (bytes, bytearray)):
            return str(uuid.UUID(bytes=bytes(value))) if kind == "uuid" else "\\x" + bytes(value).hex()
        if isinstance(value, uuid.UUID):
            return str(value)
        if isinstance(value, decimal.Decimal):
            return format(value, "f")
        if kind in ("real", "double precision"):
            return of_float(float(value), 4 if kind == "real" else 8)
        if kind == "boolean":
            return "t" if value in (True, 1, "t", "true") else "f"
        if kind == "interval" and isinstance(value, dict):
            return of_interval(value["months"], value["days"], value["micros"])
        if isinstance(value, datetime.datetime):
            zone = value.tzinfo is not None
            since = value.replace(tzinfo=None) - datetime.datetime(1970, 1, 1)
            micros = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
            return of_timestamp(micros, "+00" if zone else "")
        if isinstance(value, datetime.date):
            return of_date((value - datetime.date(1970, 1, 1)).days)
        if isinstance(value, datetime.time):
            return of_time(((value.hour * 60 + value.minute) * 60 + value.second) * 1_000_000 + value.microsecond)
        if isinstance(value, int):
            match kind:
                case "date":
                    return of_date(value)
                case "time without time zone":
                    return of_time(value)
                case "timestamp without time zone":
                    return of_timestamp(value)
                case "timestamp with time zone":
                    return of_timestamp(value, "+00")
        if isinstance(value, str) and kind == "timestamp with time zone":
            # SQLite's date functions want the colon.
            return value.replace("+00:00", "+00")
        if isinstance(value, str) and kind == "interval":
            return of_iso_interval(value)
        return str(value)

    return scalar


def raw(column):
    """A column with dates, times and timestamps as integers, in lists and structs too."""
    def plain(kind):
        if pa.types.is_date32(kind):
            return pa.int32()
        if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
            return pa.int64()
        if pa.types.is_list(kind):
            return pa.list_(plain(kind.value_type))
        if pa.types.is_struct(kind):
            return pa.struct([pa.field(kind.field(i).name, plain(kind.field(i).type)) for i in range(kind.num_fields)])
        if isinstance(kind, pa.BaseExtensionType):
            return plain(kind.storage_type)
        return kind

    if isinstance(column.type, pa.BaseExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    return column.cast(plain(column.type))


def order_of(row):
    order = row.get("_order", (row.get("_sequence"), row.get("_ordinal")))
    return tuple(order.values()) if isinstance(order, dict) else order


def read_changes(directory):
    changes = []
    for path in sorted(pathlib.Path(directory).rglob("*.parquet")):
        # One file at a time: a schema change makes files of different columns.
        table = pq.ParquetFile(path).read()
        columns = [raw(table.column(name)).to_pylist() for name in table.column_names]
        changes.extend(dict(zip(table.column_names, values)) for values in zip(*columns))
    changes.sort(key=order_of)
    return changes


def fold(changes, names, key):
    """The current rows: our own reading of the rules in docs/parquet-files.md."""
    rows, keyless = {}, []
    moved = {order_of(change) for change in changes if change["_op"] == "u" and change.get("_old_key") is not None}
    for change in changes:
        op, old_key = change["_op"], change.get("_old_key")
        new = {name: change.get(name) for name in names}
        if op in ("t", "s"):
            rows.clear()
            keyless.clear()
            continue
        if not key:
            if op not in ("c", "r"):
                raise SystemExit(f"a change of kind {op} in a table without a key")
            keyless.append(new)
            continue
        place = tuple(new[name] for name in key)
        if op == "d":
            # The first half of a change of key: its second half takes the row along, if compaction has left it.
            if old_key is None or order_of(change) not in moved:
                rows.pop(place, None)
            continue
        before = rows.pop(tuple(old_key[name] for name in key), None) if old_key is not None else rows.get(place)
        for name in change.get("_unchanged") or ():
            if before is None:
                raise SystemExit(f"column {name} of key {place} is said to be unchanged, but there is no earlier row")
            new[name] = before[name]
        rows[place] = new
    return list(rows.values()) + keyless


def rows_of_parquet(directory, columns, key):
    names = [name for name, _ in columns]
    return [tuple(row[name] for name in names) for row in fold(read_changes(directory), names, key)]


def rows_of_documented_fold(directory, key):
    """What the query of docs/parquet-files.md gives. Its columns are those of the newest file, in the table's order."""
    import fold as documented

    return documented.fold(str(directory), key)


def rows_of_sqlite(file, table, columns):
    quote = lambda name: '"' + name.replace('"', '""') + '"'
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    return connection.execute(f"SELECT {', '.join(quote(name) for name, _ in columns)} FROM {quote(table)}").fetchall()


def main():
    task = json.load(sys.stdin)
    columns, target = task["columns"], task["target"]
    found = {}
    if "parquet" in target:
        files = list(pathlib.Path(target["parquet"]).rglob("*.parquet"))
        many = sum(pq.ParquetFile(path).metadata.num_rows for path in files) > MANY
        if not (many and task["key"]):
            found["folded"] = rows_of_parquet(target["parquet"], columns, task["key"])
        if many or target.get("documented") and task["key"] and files:
            found["folded by DuckDB"] = rows_of_documented_fold(target["parquet"], task["key"])
    else:
        global signed_zero
        signed_zero = False
        found["selected"] = rows_of_sqlite(target["sqlite"], target["table"], columns)
    of_source = [canonical_source(kind) for _, kind in columns]
    of_target = [canonical_target(kind) for _, kind in columns]
    place = [index for index, (name, _) in enumerate(columns) if name in task["key"]] or range(len(columns))

    def arranged(rows, forms):
        rows = [tuple(None if value is None else form(value) for form, value in zip(forms, row)) for row in rows]
        return sorted(rows, key=lambda row: tuple((row[i] is not None, str(row[i])) for i in place))

    want = arranged(read_copy(task["source"], len(columns)), of_source)
    for how, rows in found.items():
        compare(want, arranged(rows, of_target), columns, place, how)


def compare(want, got, columns, place, how):
    differences = []
    for left, right in zip(want, got):
        for (name, kind), a, b in zip(columns, left, right):
            if a != b:
                keys = f"key {[left[i] for i in place][:3]} / {[right[i] for i in place][:3]}"
                differences.append(f"  {keys}, {name} ({kind}): {a!r:.200} / {b!r:.200}")
    if len(want) != len(got):
        keys = [{tuple(row[i] for i in place) for row in rows} for rows in (want, got)]
        only = [list(keys[0] - keys[1])[:3], list(keys[1] - keys[0])[:3]]
        differences.insert(0, f"  only in the source: {only[0]!r:.300}; only in the target: {only[1]!r:.300}")
    if differences:
        print(f"source has {len(want)} rows, target, {how}, has {len(got)}; source / target:")
        print("\n".join(differences[:12]))
        sys.exit(1)


main()
