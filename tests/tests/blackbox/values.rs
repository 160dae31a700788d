//! Every value literal of the project's type reference that the source supports: equal in source, Parquet and both kinds of warehouse, from
//! snapshot and from stream.

use mainstem_tests::{PgServer, PgVersion, Pipeline, Scenario, compare_sqlite, compare_warehouse, table};

/// Table name, type, literals. `NULL` is added to each.
const VALUES: &[(&str, &str, &[&str])] = &[
    ("v_bool", "boolean", &["true", "false"]),
    ("v_int2", "smallint", &["-32768", "-1", "0", "32767"]),
    ("v_int4", "integer", &["-2147483648", "0", "2147483647"]),
    ("v_int8", "bigint", &["-9223372036854775808", "9007199254740993", "1550166368505037572", "9223372036854775807"]),
    ("v_oid", "oid", &["0", "4000000000", "4294967295"]),
    ("v_float4", "real", &["3.3", "0", "-0.0", "3.4028235e38", "1.1754944e-38", "1e-45", "'NaN'", "'Infinity'", "'-Infinity'"]),
    (
        "v_float8",
        "double precision",
        &[
            "4.44",
            "0.30000000000000004",
            "1.7976931348623157e308",
            "2.2250738585072014e-308",
            "5e-324",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
        ],
    ),
    ("v_num_3_2", "numeric(3,2)", &["1.1", "3.30", "-9.99", "9.99", "0"]),
    ("v_num_4", "numeric(4)", &["10.11", "-9999"]),
    ("v_num_6_4", "numeric(6,4)", &["22.22", "-0.0001"]),
    ("v_num_18_6", "numeric(18,6)", &["999999999999.999999", "-999999999999.999999", "0.000001"]),
    ("v_num_38_10", "numeric(38,10)", &["9999999999999999999999999999.9999999999", "-9999999999999999999999999999.9999999999"]),
    ("v_num_39", "numeric(39,0)", &["999999999999999999999999999999999999999"]),
    ("v_num_76", "numeric(76,0)", &["repeat('9', 76)::numeric"]),
    (
        "v_num",
        "numeric",
        &[
            "10.1111",
            "22.2222",
            "0.000",
            "1e-16383",
            "repeat('9', 5000)::numeric",
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "1e400",
            "-0.0",
            "100000",
            "1e5",
            "-123456789012345678901234567890.00",
        ],
    ),
    ("v_money", "money", &["1234.11", "-1234.11", "'-92233720368547758.08'", "'92233720368547758.07'"]),
    (
        "v_date",
        "date",
        &[
            "'2016-11-04'",
            "'1970-01-01'",
            "'2000-02-29'",
            "'1900-03-01'",
            "'9999-12-31'",
            "'0001-01-01'",
            "'1582-10-04'",
            "'1582-10-10'",
            "'1582-10-15'",
            "'0044-02-01 BC'",
            "'4713-01-01 BC'",
            "'4714-11-24 BC'",
            "'5874897-12-31'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    ("v_time", "time", &["'00:00:00'", "'13:51:30'", "'23:59:59.999999'", "'24:00:00'"]),
    ("v_time_3", "time(3)", &["'13:51:30.123'"]),
    ("v_timetz", "timetz", &["'13:51:30.123789+02'", "'24:00:00+00'", "'00:00:00-15:59'"]),
    (
        "v_timestamp",
        "timestamp",
        &[
            "'2016-11-04 13:51:30.123456'",
            "'1936-10-25 22:10:12.608'",
            "'1969-12-31 23:59:59.999999'",
            "'0001-01-01'",
            "'0001-01-31'",
            "'1000-06-15 12:30:45.123456'",
            "'0044-02-01 11:12:13 BC'",
            "'4713-12-31 23:59:59.999999 BC'",
            "'4714-11-24 00:00:00 BC'",
            "'9999-12-31 23:59:59.999999'",
            "'21016-11-04 13:51:30.123456'",
            "'294247-01-01 23:59:59.999999'",
            "'infinity'",
            "'-infinity'",
        ],
    ),
    ("v_timestamp_3", "timestamp(3)", &["'2016-11-04 13:51:30.123456'"]),
    ("v_timestamp_0", "timestamp(0)", &["'2016-11-04 13:51:30.5'"]),
    (
        "v_timestamptz",
        "timestamptz",
        &[
            "'2016-11-04 13:51:30.123456+02'",
            "'21016-11-04 13:51:30+07'",
            "'0001-01-31 00:00:00+00'",
            "'4714-12-31 23:59:59.999999+00 BC'",
            "'12345-06-07 08:09:10+00'",
            "'infinity'",
            "'-infinity'",
            "'2021-03-14 02:30:00 America/Chicago'",
        ],
    ),
    (
        "v_interval",
        "interval",
        &[
            "'1 year 2 mons 3 days 04:05:06.78'",
            "'0'",
            "'-1 mons +15 days -23:59:59.999999'",
            "'24:00:00'",
            "'1 day'",
            "'60 days'",
            "'2 mons'",
        ],
    ),
    (
        "v_text",
        "text",
        &[
            "''",
            "' '",
            "'ž š'",
            "U&'\\+01F600'",
            "U&'\\FFFF'",
            "U&'e\\0301'",
            "U&'\\05D0\\05D1'",
            "E'\\t\\r\\n\\x01'",
            "'''\"\\'",
            "'\\N'",
            "E'value\\\\Ntail'",
            "'NULL'",
            "'null'",
            "'true'",
            "'0'",
            "'{}'",
            "repeat('x', 8192)",
            "repeat('äb', 500000)",
        ],
    ),
    ("v_varchar", "varchar(16)", &["''", "'abc'", "'ž š'"]),
    ("v_char_4", "char(4)", &["'ab'", "''", "'abcd'"]),
    ("v_name", "name", &["'x'", "repeat('n', 63)"]),
    ("v_qchar", "\"char\"", &["'x'", "''"]),
    ("v_xml", "xml", &["'<a>1</a>'", "'<a/><b/>'"]),
    ("v_bytea", "bytea", &["'\\x'", "'\\x00'", "'\\x000102'", "'\\xdeadbeef'", "'\\x5c'", "decode(repeat('5c00', 250000), 'hex')"]),
    (
        "v_uuid",
        "uuid",
        &[
            "'00000000-0000-0000-0000-000000000000'",
            "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'",
        ],
    ),
    (
        "v_json",
        "json",
        &["'{\"bar\": \"baz\"}'", "'[1, 2]'", "'null'", "'\"s\"'", "'1.0'", "'1e400'", "' {  \"a\" : 1 } '", "'{\"a\":1,\"a\":2}'"],
    ),
    ("v_jsonb", "jsonb", &["'{\"b\":1,\"aa\":2,\"a\":1,\"a\":3}'", "'12345678901234567890.5'", "'1E3'", "'null'"]),
    ("v_enum", "mood", &["'sad'", "'it''s \"ok\", so'", "U&'\\+01F600'"]),
    ("v_domain", "price", &["1.10", "99999999.99"]),
    ("v_domain_2", "price_2", &["1.10"]),
    ("v_bit", "bit(7)", &["B'1000000'"]),
    ("v_varbit", "varbit", &["B''", "B'00'", "B'0000'", "B'111011010001000110000001000000001'"]),
    ("v_inet", "inet", &["'192.168.2.0/12'", "'192.168.1.1'", "'2001:4f8:3:ba::1'", "'::ffff:1.2.3.4'"]),
    ("v_cidr", "cidr", &["'192.168.100.128/25'"]),
    ("v_macaddr", "macaddr", &["'08:00:2b:01:02:03'"]),
    ("v_pg_lsn", "pg_lsn", &["'16/B374D848'", "'FFFFFFFF/FFFFFFFF'"]),
    ("v_range", "int4range", &["'[1,6)'", "'[5,5]'", "'empty'", "'(,)'"]),
    ("v_tsvector", "tsvector", &["'''fat'':2A ''it''''s'':1'"]),
    ("v_point", "point", &["'(1,1)'"]),
    ("v_composite", "pair", &["'(1,\"a,b\")'", "'(,)'"]),
    ("v_bools", "boolean[]", &["'{}'", "'{t,NULL,f}'"]),
    ("v_ints", "int[]", &["'{1,2,3}'", "'{}'", "'{1,NULL,3}'"]),
    ("v_bigints", "bigint[]", &["'{-9223372036854775808,9223372036854775807}'"]),
    ("v_floats", "double precision[]", &["'{1.5,NaN,Infinity,NULL}'"]),
    ("v_texts", "text[]", &["'{\"NULL\",NULL,\"a,b\",\"{x}\",\"q\\\"\",\"\\\\\",\"\"}'", "'{}'"]),
    ("v_nums", "numeric(10,2)[]", &["'{1.2,-99999999.99,NULL}'"]),
    ("v_nums_free", "numeric[]", &["'{1.1,2.22,3.333}'"]),
    ("v_dates", "date[]", &["'{2016-11-04,NULL,infinity,0044-02-01 BC}'"]),
    ("v_stamps", "timestamptz[]", &["'{2016-11-04 13:51:30.123456+02,NULL,-infinity}'"]),
    ("v_uuids", "uuid[]", &["'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}'"]),
    ("v_byteas", "bytea[]", &["'{\"\\\\x00\",\"\\\\x\",NULL}'"]),
    ("v_jsonbs", "jsonb[]", &["ARRAY['{\"a\": [1, \"x,y\"]}', NULL]::jsonb[]"]),
];

const TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'it''s \"ok\", so', U&'\\+01F600');
    CREATE DOMAIN price AS numeric(10,2); CREATE DOMAIN price_2 AS price CHECK (VALUE > 0);
    CREATE TYPE pair AS (a int, b text);";

fn insert(table: &str, kind: &str, literals: &[&str], first_id: usize) -> String {
    let rows = literals.iter().chain([&"NULL"]).enumerate().map(|(i, literal)| format!("({}, ({literal})::{kind})", first_id + i));
    format!("INSERT INTO {table} VALUES {};", rows.collect::<Vec<_>>().join(", "))
}

/// All values through one pipeline with `extra` settings of the source.
fn round_trip(scenario: Scenario, version: PgVersion, log: &str, extra: &str) {
    // A type that exists in one database only cannot be a target's column type: the warehouse gets its text.
    let values: Vec<_> = VALUES.iter().filter(|(_, kind, _)| version != PgVersion::V18 || *kind != "xml").collect();
    let names: Vec<&str> = values.iter().map(|(name, ..)| *name).collect();
    let mut sql = TYPES.to_owned();
    for (name, kind, literals) in &values {
        sql += &format!("CREATE TABLE {name} (id int PRIMARY KEY, v {kind});");
        sql += &insert(name, kind, literals, 1);
    }
    let scenario = scenario.setup(&names, &sql);
    let sqlite = scenario.dir().join("warehouse.db");
    let mut pipeline: Pipeline = scenario.pipeline().upsert("embedded", &format!("jdbc:sqlite:{}", sqlite.display())).log(log);
    if !extra.is_empty() {
        pipeline = pipeline.source(extra);
    }
    let run = scenario.run(&pipeline);
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    let mut sql = String::new();
    for (name, kind, literals) in &values {
        sql += &insert(name, kind, literals, 1001);
        // Once more as an update, which takes another way through a merging target.
        sql += &format!("UPDATE {name} SET v = (SELECT v FROM {name} WHERE id = 1) WHERE id = {};", 1001 + literals.len());
    }
    scenario.source.exec(&sql);
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    let mut failures = Vec::new();
    for (name, ..) in &values {
        let shape = table(&scenario.source, "public", name);
        let checks: [(&str, &dyn Fn()); 3] = [
            ("warehouse", &|| compare_warehouse(&shape, &scenario.source, &scenario.warehouse)),
            ("lake", &|| mainstem_tests::compare_parquet(&shape, &scenario.source, &scenario.lake(), &scenario.topic(name))),
            ("sqlite", &|| compare_sqlite(&shape, &scenario.source, &sqlite)),
        ];
        for (target, check) in checks {
            if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)) {
                let message = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                failures.push(format!("{target}: {message}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_value_from_snapshot_and_stream_in_avro() {
    round_trip(Scenario::new("values_avro"), PgVersion::V15, "format: avro", "");
}

#[test]
fn every_value_from_snapshot_and_stream_in_json() {
    round_trip(Scenario::new("values_json"), PgVersion::V15, "format: json, compression: zstd", "");
}

#[test]
fn every_value_in_the_servers_text_form() {
    round_trip(Scenario::new("values_text"), PgVersion::V15, "compression: lz4", "binary: false");
}

#[test]
fn every_value_from_postgresql_18() {
    let server = PgServer::start(PgVersion::V18);
    round_trip(Scenario::on(&server, "values_18"), PgVersion::V18, "format: avro", "");
}

/// A value that the column's type cannot carry stops the pipeline with the column's name and the way out, and nothing of it arrives.
#[test]
fn a_value_that_cannot_be_held_names_the_column_and_the_option() {
    let scenario = Scenario::new("values_nan")
        .setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY, price numeric(6,2)); INSERT INTO t VALUES (1, 1)");
    let run = scenario.run(&scenario.pipeline());
    run.once_succeeds();
    scenario.assert_equal();
    scenario.source.exec("INSERT INTO t VALUES (2, 'NaN')");
    let mut failed = run.allow("").once();
    let log = failed.log();
    assert_eq!(failed.exit().and_then(|status| status.code()), Some(1), "{log}");
    assert!(log.contains("price") && log.contains("numeric: text"), "the error names neither the column nor the option:\n{log}");
    assert_eq!(scenario.warehouse.query("SELECT string_agg(id::text, ',') FROM t"), "1");
}
