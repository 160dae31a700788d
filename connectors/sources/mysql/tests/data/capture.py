#!/usr/bin/env python3
"""Captures what `src/decode/tests.rs` decodes: capture.py SOCKET FLAVOR | zstd -19 > FLAVOR.txt.zst

Makes tables in a database of its own on a server with row format and full row metadata (root without password on the unix socket; its binary log is reset), and
writes for each table, as hexadecimal where it is not plain:

    collation ID CHARSET MAXLEN     the server's collations
    characters CHARSET UTF8         the characters of a character set of one or two bytes, as `Charsets::tables_query` asks for them
    table NAME
    column NAME CHARSET TYPE        as information_schema has them ("-" for no character set)
    key NAME...
    select EXPRESSIONS              what a snapshot selects
    map EVENTBODY
    insert EVENTBODY                the rows, in the order of their ids
    text PACKET                     a row, as the text protocol sends it to a snapshot
    shown PACKET                    the same row, as the server itself prints its values
    event CODE EVENTBODY            of the table `changes`: each event of the log
"""

import socket, struct, sys


class Server:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        hello = self.packet()
        flags = 0x1 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x80000
        plugin = b"caching_sha2_password" if b"caching_sha2" in hello else b"mysql_native_password"
        self.send(struct.pack("<IIB23x", flags, 1 << 24, 45) + b"root\0" + b"\0" + b"\0" + plugin + b"\0", 1)
        reply = self.packet()
        while reply[0] not in (0, 0xFF):
            if reply[0] == 0xFE:
                self.send(b"", self.sequence + 1)
            reply = self.packet()
        self.fail(reply)

    def exactly(self, count):
        data = b""
        while len(data) < count:
            data += self.socket.recv(count - len(data))
        return data

    def packet(self):
        data = b""
        while True:
            head = self.exactly(4)
            size, self.sequence = head[0] | head[1] << 8 | head[2] << 16, head[3]
            data += self.exactly(size)
            if size < 0xFFFFFF:
                return data

    def send(self, data, sequence=0):
        self.socket.sendall(struct.pack("<I", len(data))[:3] + bytes([sequence & 255]) + data)

    def fail(self, packet):
        if packet[:1] == b"\xff":
            raise Exception(packet[3:].decode("utf8", "replace"))

    def raw(self, sql):
        """The rows' packets."""
        self.send(b"\x03" + sql.encode())
        first = self.packet()
        self.fail(first)
        if first[0] == 0:
            return []
        for _ in range(first[0] + 1):
            self.packet()
        rows = []
        while True:
            packet = self.packet()
            self.fail(packet)
            if packet[0] == 0xFE and len(packet) < 9:
                return rows
            rows.append(packet)

    def rows(self, sql):
        return [fields(packet) for packet in self.raw(sql)]


def fields(packet):
    values, at = [], 0
    while at < len(packet):
        size = packet[at]
        at += 1
        if size == 0xFB:
            values.append(None)
            continue
        width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(size, 0)
        if width:
            size = int.from_bytes(packet[at : at + width], "little")
            at += width
        values.append(packet[at : at + size])
        at += size
    return values


# (table, columns without the id, rows: lists of literals)
COMMON = [
    ("ints", "t tinyint, tu tinyint unsigned, b1 tinyint(1), s smallint, su smallint unsigned, m mediumint, mu mediumint unsigned, "
     "i int, iu int unsigned, z int(5) zerofill, l bigint, lu bigint unsigned", [
        ["-128", "0", "0", "-32768", "0", "-8388608", "0", "-2147483648", "0", "42", "-9223372036854775808", "0"],
        ["127", "255", "-1", "32767", "65535", "8388607", "16777215", "2147483647", "4294967295", "99999", "9223372036854775807", "18446744073709551615"],
        ["-1", "155", "5", "-1", "45535", "-1", "8388608", "-1", "3294967295", "0", "9007199254740993", "9223372036854775808"],
        ["NULL"] * 12]),
    ("decimals", "a decimal(7,2), b decimal(65,30), c decimal(65,0), d decimal(65,18), e decimal(4,4), f decimal(1), g decimal(38,10), h decimal(39,1), i decimal(18,9) unsigned", [
        ["12345.67", "9" * 35 + "." + "9" * 30, "9" * 65, "0", "0.1234", "9", "9" * 28 + "." + "9" * 10, "9" * 38 + ".9", "999999999.999999999"],
        ["-0.01", "-" + "9" * 35 + "." + "9" * 30, "-" + "9" * 65, "-0.000000000000000001", "-0.9999", "-9", "-1.5", "-0.1", "0.000000001"],
        ["0", "1e-30", "1", "123456789012345678901234567890.123456789012345678", "0", "0", "0", "0", "0"],
        ["NULL"] * 9]),
    ("floats", "f float, d double, fm float(7,3), dm double(10,2), f30 float(30)", [
        ["1.41421", "1.7976931348623157e308", "1234.567", "12345678.91", "1.1"],
        ["3.4028234663852886e38", "5e-324", "-0.001", "-0.01", "0.1"],
        ["1.17549435e-38", "-0e0", "0", "0", "1e10"],
        ["-0e0", "2.718281828459045", "1", "1", "16777217"],
        ["NULL"] * 5]),
    ("bits", "a bit(1), b bit(2), c bit(8), d bit(14), e bit(20), f bit(63), g bit(64), y year", [
        ["b'1'", "b'10'", "b'01000000'", "b'11010101101111'", "b'11100011100011100011'", "b'1'", "23989979", "0000"],
        ["b'0'", "b'11'", "b'11111111'", "b'0'", "b'0'", "0x7FFFFFFFFFFFFFFF", "0xFFFFFFFFFFFFFFFF", "1901"],
        ["b'1'", "b'0'", "b'0'", "b'1'", "b'1'", "0", "0", "2155"],
        ["NULL"] * 8]),
    ("dates", "d date, t0 time, t2 time(2), t6 time(6), dt datetime, dt2 datetime(2), dt3 datetime(3), dt6 datetime(6), ts timestamp null, ts3 timestamp(3) null, ts6 timestamp(6) null", [
        ["'1000-01-01'", "'-838:59:59'", "'17:51:04.777'", "'-838:59:58.999999'", "'2018-06-20 06:37:03'", "'2014-09-08 17:51:04.777'", "'0018-04-01 12:34:56.001'", "'9999-12-31 23:59:59.999999'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999'", "'2038-01-19 03:14:07.999999'"],
        ["'9999-12-31'", "'838:59:59'", "'517:51:04.78'", "'-01:01:01.000001'", "'1000-01-01 00:00:00'", "'1969-12-31 23:59:59.99'", "'2000-02-29 00:00:00.5'", "'0000-01-01 00:00:00.000001'", "'2018-06-20 06:37:03'", "'1970-01-01 00:00:01'", "'1970-01-01 00:00:01.000001'"],
        ["'0000-00-00'", "'-00:20:38'", "'-00:00:00.5'", "'-00:00:00.5'", "'0000-00-00 00:00:00'", "'2000-00-01 00:00:00'", "'2000-01-00 01:02:03.004'", "'0000-00-00'", "'0000-00-00'", "'0000-00-00'", "'0000-00-00'"],
        ["'2000-00-01'", "'00:00:00'", "'00:00:00'", "'-733:00:00.001'", "'1935-01-01'", "'1935-01-01'", "'1935-01-01'", "'1935-01-01'", "'2000-01-01'", "'2000-01-01'", "'2000-01-01 00:00:00.5'"],
        ["NULL"] * 11]),
    ("texts", "c char(5), v varchar(5), t text, u varchar(20) character set utf8mb4, l varchar(50) character set latin1, vb varchar(20) character set utf8mb4 collate utf8mb4_bin, "
     "long1 char(255) character set utf8mb4, tt tinytext, mt mediumtext, lt longtext, big varchar(300)", [
        ["'foo  '", "'foo  '", "'foo  '", "_utf8mb4 x'F09F9880'", "_latin1 x'636166E9809C'", "'abc'", "'x'", "'tiny'", "repeat('m', 70000)", "'long'", "repeat('b', 300)"],
        ["''", "''", "''", "''", "''", "''", "''", "''", "''", "''", "''"],
        ["'a\\tb\\n'", "'NULL'", "'\\\\N'", "_utf8mb4 x'C5BE20C5A1'", "_latin1 x'8D81FFA0'", "'ABC'", "repeat('y', 255)", "repeat('t', 255)", "'m'", "repeat('l', 300)", "'b'"],
        ["NULL"] * 11]),
    ("charsets", "gbk varchar(10) character set gbk, big5 varchar(10) character set big5, sjis varchar(10) character set sjis, cp932 varchar(10) character set cp932, euckr varchar(10) character set euckr, "
     "ujis varchar(10) character set ujis, eucjpms varchar(10) character set eucjpms, gb2312 varchar(10) character set gb2312, utf16 varchar(10) character set utf16, ucs2 char(10) character set ucs2, "
     "utf16le varchar(10) character set utf16le, utf32 varchar(10) character set utf32, utf8mb3 varchar(10) character set utf8mb3, ascii varchar(10) character set ascii", [
        ["_utf8mb4 x'E4BDA0E5A5BD'"] * 3 + ["_utf8mb4 x'E382BD'"] + ["_utf8mb4 x'EAB080'"] + ["_utf8mb4 x'E38182'"] * 2 + ["_utf8mb4 x'E4BDA0E5A5BD'"] * 6 + ["'abc'"],
        ["'abc'"] * 14,
        ["_gbk x'815C'", "_big5 x'A45CA145A1C2F9FE'", "_sjis x'835C815FA1DF8160'", "_cp932 x'835CA1FA5C8160'", "_euckr x'B0A1FDFE'", "_ujis x'A4A28EB1A1C08FB0A1F5A1'", "_eucjpms x'A4A28EB1A1C0F9A18FB0A1'", "_gb2312 x'A1A4A1AAF7FE'", "_utf8mb4 x'F09F9880'", "'x  '", "_utf8mb4 x'F09F9880'", "_utf8mb4 x'F09F9880'", "'x'", "'~'"],
        ["NULL"] * 14]),
    ("singles", ", ".join(f"{name} varchar(10) character set {name}" for name in
     "armscii8 cp1250 cp1251 cp1256 cp1257 cp850 cp852 cp866 dec8 geostd8 greek hebrew hp8 keybcs2 koi8r koi8u latin2 latin5 latin7 macce macroman swe7 tis620".split()), [
        ["x'41E0FE7E'"] * 14 + ["x'41E0FE7E'"] * 9,
        ["''"] * 23]),
    ("binaries", "b16 binary(16), b255 binary(255), b1 binary(1), vb varbinary(8), tb tinyblob, bl blob, mb mediumblob, lb longblob", [
        ["x'" + "11" * 15 + "00'", "repeat(x'11', 254)", "x'00'", "x'E228A10000'", "''", "x'00FF'", "repeat(x'AB', 70000)", "''"],
        ["repeat(x'00', 16)", "''", "x'20'", "''", "x'00'", "''", "''", "x'DEADBEEF'"],
        ["NULL"] * 8]),
    ("enums", "e enum('a','b''s','c,d',''), e0 enum('x','y'), e3 enum(" + ",".join(f"'m{n}'" for n in range(300)) + "), el enum('caf\u00e9','\u20ac') character set latin1, "
     "s set('a','b','c'), s64 set(" + ",".join(f"'s{n}'" for n in range(64)) + "), sl set('\u00e9','x y') character set latin1, eb enum('a\\\\b','c\\nd')", [
        ["'b''s'", "'x'", "'m299'", "'caf\u00e9'", "'b,a'", "'s63,s0,s31'", "'x y,\u00e9'", "1"],
        ["''", "'nope'", "'m0'", "'\u20ac'", "''", "''", "''", "2"],
        ["'nope'", "'y'", "'m254'", "1", "'a,b,c'", "18446744073709551615", "'\u00e9'", "1"],
        ["'c,d'", "NULL", "'m255'", "NULL", "NULL", "NULL", "NULL", "NULL"]]),
    ("geometries", "g geometry, p point, l linestring, po polygon, gc geometrycollection, mp multipoint", [
        ["ST_GeomFromText('POINT(1 1)')", "ST_GeomFromText('POINT(8.25554554 3.22124447)', 4326)", "ST_GeomFromText('LINESTRING(0 0,1 1,2 2)', 3187)", "ST_GeomFromText('POLYGON((0 0,10 0,10 10,0 0))')", "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 1),LINESTRING(0 0,1 1))')", "ST_GeomFromText('MULTIPOINT(0 0,20 20)')"],
        ["NULL"] * 6]),
    ("keyed", "a varchar(10), b int, primary key(b, a)", [["'x'", "1"], ["'y'", "1"]]),
    ("derived", "a int, v int as (a + 1) virtual, s int as (a * 2) stored, i int invisible default 7", [["5", "DEFAULT", "DEFAULT", "8"], ["NULL", "DEFAULT", "DEFAULT", "NULL"]]),
]
JSON = [
    "'{\"a\": 2}'", "'[1, 2]'", "'true'", "'null'", "'\"scalar\"'", "'{}'", "'[]'", "NULL",
    "'[32767, 32768, -32768, -32769, 65535, 65536, 2147483647, 2147483648, -2147483649, 4294967296, 9223372036854775807, 18446744073709551615, 18446744073709551616]'",
    "'[9007199254740993, {\"big\": 1234567890123456789}, 1.0, 1, 1e400, -0.0]'".replace("1e400, ", ""),
    "json_array(cast(1.10 as decimal(10,2)), cast(-0.001 as decimal(65,30)), cast('2015-01-15 23:24:25.12' as datetime(3)), cast('2015-01-15' as date), cast('-23:24:25.024' as time(3)), timestamp('2015-01-15 23:24:25.12'), x'cafe', b'101', repeat(x'cafe', 60), repeat(x'cafe', 19))",
    "json_array(123456789012345678e0, 1.5e20, 1e15, 1e14, 1e-14, 1e-15, 1e-16, 0.1e0, -0e0, 100000e0, 1.7976931348623157e308, 5e-324, 12345678901234567e0, 1234567890123456e0, 123456789012345e0, 0.00001234e0, -1234.5678e0, 1e22, 1e23, 999999999999999e0, 0.3e0+0.6e0)",
    "'{\"z\": 1, \"aa\": 2, \"\": 3, \"b\": {\"c\": [null, {\"d\": []}]}}'",
    "json_array('a\"\\\\\\b\\n\\t\\r\\f\\0\x01\x1f/\u00e9\U0001f600')",
    "concat('{\"', repeat('k', 300), '\": \"', repeat('v', 70000), '\"}')",
    "concat('[', repeat('1,', 40000), '2147483647, -5, 70000, 4000000000, true]')",
    "concat(repeat('[', 99), repeat(']', 99))",
]
MYSQL = [
    ("documents", "j json", [[value] for value in JSON]),
    ("vectors", "v vector(3)", [["to_vector('[1,2,3]')"], ["_binary x'0100000000000080FFFF7F7F'"], ["NULL"]]),
    ("gb18030", "g varchar(10) character set gb18030", [["_utf8mb4 x'E4BDA0E5A5BDF09F9880'"], ["''"], ["_gb18030 x'A6D9FE5984318236A3A0'"]]),
]
MARIADB = [
    ("documents", "j json", [["'{\"b\": 1,  \"a\":2}'"], ["'[1e400]'"], ["NULL"]]),
    ("specials", "u uuid, i4 inet4, i6 inet6", [
        ["'00112233-4455-6677-8899-aabbccddeeff'", "'255.255.255.255'", "'::ffff:1.2.3.4'"], ["'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "'0.0.0.0'", "'::'"],
        ["'00000000-0000-0000-0000-000000000000'", "'1.2.3.0'", "'2001:db8::ff00:42:8300'"], ["'a0eebc99-9c0b-1ef8-bb6d-6bb9bd380a00'", "'10.0.0.1'", "'::1'"],
        ["'ffffffff-ffff-ffff-ffff-ffffffffffff'", "'1.2.3.4'", "'1::'"], ["'019a0eeb-9c0b-7ef8-bb6d-6bb9bd380a00'", "'1.2.3.4'", "'::1.2.3.4'"], ["NULL"] * 3]),
    ("old", "a time, c datetime, e timestamp null", [["'-838:59:59'", "'2018-06-20 06:37:03'", "'2018-06-20 06:37:03'"], ["'00:00:01'", "'0000-00-00'", "'0000-00-00'"], ["'-00:00:01'", "'2000-00-01'", "'2038-01-19 03:14:07'"], ["NULL"] * 3]),
    ("old3", "a time(3), c datetime(6), e timestamp(2) null", [["'-838:59:59'", "'2018-06-20 06:37:03'", "'2018-06-20 06:37:03'"]]),
    ("compressed", "c varchar(300) compressed, t text compressed, b blob compressed, s varchar(20) compressed, l longtext compressed character set latin1", [
        ["repeat('x', 200)", "repeat('y', 1000)", "repeat(x'00', 500)", "'s'", "repeat('\u00e9', 5000)"], ["''"] * 5, ["'short'"] * 5, ["NULL"] * 5]),
]


# (settings of the session, statements)
CHANGES = [
    ("", ["INSERT INTO changes VALUES (1, 'a', 'text', '{\"k\": [1, 2]}', 1)", "UPDATE changes SET a = 'b'", "UPDATE changes SET id = 2, n = NULL", "DELETE FROM changes"]),
    ("binlog_row_image = MINIMAL", ["INSERT INTO changes VALUES (3, 'a', 'text', '1', 1)", "UPDATE changes SET a = 'c'", "UPDATE changes SET id = 4", "INSERT INTO changes (id) VALUES (9)", "DELETE FROM changes"]),
    ("binlog_row_image = NOBLOB", ["INSERT INTO changes VALUES (5, 'a', 'text', '1', 1)", "UPDATE changes SET n = 7", "UPDATE changes SET t = 'new'", "DELETE FROM changes"]),
]
MYSQL_CHANGES = [
    ("binlog_row_value_options = PARTIAL_JSON, binlog_row_image = FULL", ["INSERT INTO changes VALUES (6, 'a', 't', concat('{\"k\": [1, 2], \"long\": \"', repeat('x', 50), '\"}'), 1)",
      "UPDATE changes SET j = json_set(j, '$.k[1]', 5, '$.k[0]', 'y')", "UPDATE changes SET j = json_remove(j, '$.long')", "UPDATE changes SET j = json_set(j, '$.\"n w\"', cast(1.50 as decimal(5,2)))",
      "UPDATE changes SET j = json_array_insert(j, '$.k[0]', 'first')", "UPDATE changes SET j = json_set(j, '$.k[0]', NULL), n = 2", "UPDATE changes SET j = NULL", "DELETE FROM changes"]),
    ("binlog_row_value_options = '', binlog_transaction_compression = ON", ["INSERT INTO changes SELECT 100 + k, repeat('z', 9), repeat('t', 300), '[]', k FROM numbers"]),
    ("binlog_transaction_compression = OFF, binlog_row_image = MINIMAL, binlog_row_value_options = PARTIAL_JSON",
     ["INSERT INTO changes VALUES (7, 'a', 't', '{\"k\": \"0123456789\", \"long\": \"0123456789\"}', 1)", "UPDATE changes SET j = json_set(j, '$.k', 'abcdefgh') WHERE id = 7"]),
]
MARIADB_CHANGES = [
    ("binlog_row_image = FULL, GLOBAL log_bin_compress = ON", ["INSERT INTO changes SELECT 100 + k, repeat('z', 9), repeat('t', 300), '[]', k FROM numbers", "UPDATE changes SET n = n + 1", "DELETE FROM changes"]),
]


def expressions(columns):
    """What a snapshot selects, and what prints the value for a reader."""
    select, shown = [], []
    for name, charset, column_type in columns:
        quoted = f"`{name}`"
        kind = column_type.split("(")[0].split(" ")[0]
        select.append(f"{quoted} * 1e0" if kind in ("float", "double") else f"IF({quoted} + 0 = 0, '<invalid>', {quoted})" if "''," in column_type.replace("''s", "") or ",'')" in column_type else quoted)
        if kind in ("geometry", "point", "linestring", "polygon", "geomcollection", "geometrycollection", "multipoint"):
            shown.append(f"HEX({quoted})")
        elif kind in ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"):
            shown.append(f"HEX({quoted})")
        elif kind == "bit":
            shown.append(f"{quoted} + 0")
        elif kind in ("float", "double"):
            shown.append(f"{quoted} * 1e0")
        else:
            shown.append(f"CONVERT({quoted} USING utf8mb4)")
    return ", ".join(select), ", ".join(shown)


def versions(run, directory, checksum):
    """Tables with hidden columns: system versioning, implicit and declared, and unique keys over long columns."""
    run("SET binlog_row_image = FULL")
    tables = [("versions", "id int primary key, a int"), ("declared", "id int primary key, a int, s timestamp(6) generated always as row start, e timestamp(6) generated always as row end, period for system_time (s, e)"),
              ("unkeyed", "id int, a int"), ("hashed", "id int, a text unique")]
    for table, columns in tables:
        run(f"CREATE TABLE {table} ({columns})" + (" WITH SYSTEM VERSIONING" if table != "hashed" else ""))
        run("RESET MASTER")
        for image in "FULL", "MINIMAL":
            run(f"SET binlog_row_image = {image}")
            for statement in ["INSERT INTO @ (id, a) VALUES (1, 10), (2, 20)", "UPDATE @ SET a = a + 1", "UPDATE @ SET id = 3 WHERE id = 2", "DELETE FROM @"]:
                run(statement.replace("@", table))
            if table != "hashed":
                run(f"DELETE HISTORY FROM {table}")
        print("table", table)
        for row in run(f"SELECT COLUMN_NAME, CHARACTER_SET_NAME, COLUMN_TYPE, GENERATION_EXPRESSION FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'capture' AND TABLE_NAME = '{table}' ORDER BY ORDINAL_POSITION"):
            print("column", row[0].decode(), row[1].decode() if row[1] else "-", row[2].hex(), *(["end"] if row[3] == b"ROW END" else []))
        print("key", *(row[0].decode() for row in run(f"SELECT COLUMN_NAME FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = 'capture' AND TABLE_NAME = '{table}' AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX")))
        first = run("SHOW BINARY LOGS")[0][0].decode()
        data, at = open(f"{directory}/{first}", "rb").read(), 4
        while at < len(data):
            kind, size = data[at + 4], int.from_bytes(data[at + 9 : at + 13], "little")
            body = data[at + 19 : at + size]
            if kind in (19, 23, 24, 25):
                print("event", kind, (body[:-4] if checksum else body).hex())
            at += size


def main():
    server, flavor = Server(sys.argv[1]), sys.argv[2]
    mariadb = flavor.startswith("mariadb")
    run = server.rows
    run("SET NAMES utf8mb4")
    run("SET sql_mode = 'ALLOW_INVALID_DATES,ERROR_FOR_DIVISION_BY_ZERO'")
    run("SET time_zone = '+00:00'")
    run("DROP DATABASE IF EXISTS capture")
    run("CREATE DATABASE capture CHARACTER SET utf8mb4")
    run("USE capture")
    collations = "information_schema.COLLATION_CHARACTER_SET_APPLICABILITY" if mariadb else "information_schema.COLLATIONS"
    for row in run(f"SELECT c.ID, c.CHARACTER_SET_NAME, s.MAXLEN FROM {collations} c JOIN information_schema.CHARACTER_SETS s ON s.CHARACTER_SET_NAME = c.CHARACTER_SET_NAME WHERE c.ID IS NOT NULL"):
        print("collation", *(field.decode() for field in row))
    names = [row[0].decode() for row in run("SELECT CHARACTER_SET_NAME FROM information_schema.CHARACTER_SETS WHERE MAXLEN = 1 AND CHARACTER_SET_NAME NOT IN ('ascii', 'binary')")]
    every = "".join(f"{byte:02X}" for byte in range(256))
    for name in names:
        print("characters", name, run(f"SELECT CONVERT(_{name} x'{every}' USING utf8mb4)")[0][0].hex())
    def pairs(firsts, seconds, before=""):
        span = lambda ranges: [byte for low, high in ranges for byte in range(low, high + 1)]
        return "".join(f"{before}{a:02X}{b:02X}" for a in span(firsts) for b in span(seconds))

    euc = [(0xA1, 0xFE)]
    double = {"big5": pairs([(0xA1, 0xF9)], [(0x40, 0x7E), (0xA1, 0xFE)]), "gb2312": pairs([(0xA1, 0xF7)], euc), "sjis": pairs([(0x81, 0x9F), (0xE0, 0xFC)], [(0x40, 0x7E), (0x80, 0xFC)]),
              "ujis": pairs(euc, euc) + pairs(euc, euc, "8F"), "eucjpms": pairs(euc, euc) + pairs(euc, euc, "8F"), "gb18030": pairs([(0x81, 0xFE)], [(0x40, 0x7E), (0x80, 0xFE)])}
    for name, every in double.items():
        if name != "gb18030" or not mariadb:
            print("characters", name, run(f"SELECT CONVERT(_{name} x'{every}' USING utf8mb4)")[0][0].hex())
    for table, columns, rows in COMMON + (MARIADB if mariadb else MYSQL):
        id_column = "" if "primary key" in columns else "id int primary key auto_increment, "
        if mariadb:
            run(f"SET GLOBAL mysql56_temporal_format = {'OFF' if table.startswith('old') else 'ON'}")
        run(f"CREATE TABLE {table} ({id_column}{columns})")
        run("RESET MASTER" if mariadb else "RESET BINARY LOGS AND GTIDS")
        names = [row[0].decode() for row in run(f"SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'capture' AND TABLE_NAME = '{table}' AND COLUMN_NAME <> 'id' ORDER BY ORDINAL_POSITION")]
        quoted = ", ".join(f"`{name}`" for name in names)
        run("BEGIN")
        for row in rows:
            run(f"INSERT IGNORE INTO {table} ({quoted}) VALUES ({', '.join(row)})")
        run("COMMIT")
        described = [(name.decode(), charset.decode() if charset else "-", kind.decode()) for name, charset, kind in
                     run(f"SELECT COLUMN_NAME, CHARACTER_SET_NAME, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'capture' AND TABLE_NAME = '{table}' ORDER BY ORDINAL_POSITION")]
        print("table", table)
        for column in described:
            print("column", *(part.encode().hex() if index == 2 else part for index, part in enumerate(column)))
        print("key", *("b a".split() if table == "keyed" else ["id"]))
        select, shown = expressions(described)
        print("select", select.encode().hex())
        first = run("SHOW BINARY LOGS")[0][0].decode()
        directory = run("SELECT @@log_bin_basename")[0][0].decode().rsplit("/", 1)[0]
        data, at = open(f"{directory}/{first}", "rb").read(), 4
        seen = False
        while at < len(data):
            kind, size = data[at + 4], int.from_bytes(data[at + 9 : at + 13], "little")
            body = data[at + 19 : at + size]
            # MariaDB has no checksums by default.
            checksum = run("SELECT @@binlog_checksum")[0][0] == b"CRC32"
            body = body[: len(body) - 4] if checksum else body
            if kind == 19 and not seen:
                seen = True
                print("map", body.hex())
            if kind in (23, 30):
                print("insert", body.hex())
            at += size
        order = "b, a" if table == "keyed" else "id"
        run("SET character_set_results = NULL")
        for packet in server.raw(f"SELECT {select} FROM {table} ORDER BY {order}"):
            print("text", packet.hex())
        run("SET character_set_results = utf8mb4")
        for packet in server.raw(f"SELECT {shown} FROM {table} ORDER BY {order}"):
            print("shown", packet.hex())
    run("CREATE TABLE numbers (k int)")
    run("INSERT INTO numbers VALUES (1), (2), (3)")
    # A table of its own in each log, so that the layout is the same.
    print("table changes")
    run("CREATE TABLE changes (id int primary key, a varchar(10), t text, j json, n int default 5)")
    for row in run("SELECT COLUMN_NAME, CHARACTER_SET_NAME, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'capture' AND TABLE_NAME = 'changes' ORDER BY ORDINAL_POSITION"):
        print("column", row[0].decode(), row[1].decode() if row[1] else "-", row[2].hex())
    print("key id")
    run("RESET MASTER" if mariadb else "RESET BINARY LOGS AND GTIDS")
    for settings, statements in CHANGES + (MARIADB_CHANGES if mariadb else MYSQL_CHANGES):
        if settings:
            run(f"SET {settings}")
        for statement in statements:
            run(statement)
    if mariadb:
        run("SET GLOBAL log_bin_compress = OFF")
    data, at = open(f"{directory}/{first}", "rb").read(), 4
    while at < len(data):
        kind, size = data[at + 4], int.from_bytes(data[at + 9 : at + 13], "little")
        body = data[at + 19 : at + size]
        if kind != 15:
            print("event", kind, (body[:-4] if checksum else body).hex())
        at += size
    if mariadb:
        versions(run, directory, checksum)
    run("DROP DATABASE capture")


main()
