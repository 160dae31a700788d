//! Values are the same from snapshot and stream, from binary and text, and are the right ones.

use connector_api::{ColumnType, Op};
use serde_json::json;

use crate::{
    cli_server::Database,
    log_model::{NULL, pipeline_of},
};

/// A type, and literals with what they must become.
type Case = (&'static str, ColumnType, &'static [(&'static str, &'static str)]);

fn decimal(precision: u8, scale: u8) -> ColumnType {
    ColumnType::Decimal { precision, scale }
}

fn list(item: ColumnType) -> ColumnType {
    ColumnType::List(Box::new(item))
}

/// All cases that the server can do.
fn cases(database: &Database) -> Vec<Case> {
    use ColumnType::*;
    let all: Vec<Case> = vec![
        ("boolean", Bool, &[("true", "t"), ("false", "f")]),
        ("smallint", Int16, &[("-32768", "-32768"), ("32767", "32767")]),
        ("integer", Int32, &[("-2147483648", "-2147483648"), ("2147483647", "2147483647")]),
        ("bigint", Int64, &[("-9223372036854775808", "-9223372036854775808"), ("9007199254740993", "9007199254740993")]),
        ("oid", Int64, &[("0", "0"), ("4294967295", "4294967295")]),
        (
            "real",
            Float32,
            &[("3.3", "3.3"), ("3.4028235e38", "3.4028235e38"), ("1e-45", "1e-45"), ("'NaN'", "NaN"), ("'-Infinity'", "-inf")],
        ),
        (
            "double precision",
            Float64,
            &[
                ("0.30000000000000004", "0.30000000000000004"),
                ("5e-324", "5e-324"),
                ("'NaN'", "NaN"),
                ("'-0'", "-0.0"),
                ("'Infinity'", "inf"),
            ],
        ),
        ("numeric(3,2)", decimal(3, 2), &[("1.1", "110e-2"), ("-9.99", "-999e-2"), ("0", "0e-2")]),
        ("numeric(4)", decimal(4, 0), &[("10.11", "10e-0")]),
        ("numeric(18,6)", decimal(18, 6), &[("999999999999.999999", "999999999999999999e-6"), ("0.000001", "1e-6")]),
        (
            "numeric(38,10)",
            decimal(38, 10),
            &[
                ("9999999999999999999999999999.9999999999", "99999999999999999999999999999999999999e-10"),
                ("-0.0000000001", "-1e-10"),
            ],
        ),
        ("numeric(39,0)", Text, &[("999999999999999999999999999999999999999", "999999999999999999999999999999999999999")]),
        (
            "numeric",
            Text,
            &[
                ("10.1111", "10.1111"),
                ("0.000", "0.000"),
                ("-0.0", "0.0"),
                ("1e20", "100000000000000000000"),
                ("100000.00000", "100000.00000"),
                ("'NaN'", "NaN"),
                ("'Infinity'", "Infinity"),
                ("'-Infinity'", "-Infinity"),
                ("1e-30", "0.000000000000000000000000000001"),
                ("-12345678.00012345", "-12345678.00012345"),
            ],
        ),
        ("numeric(3,-2)", Text, &[("12345", "12300")]),
        (
            "text",
            Text,
            &[("''", ""), ("'ž š 😀 ￿'", "ž š 😀 ￿"), ("E'\\t\\r\\n\\x01 '' \" \\\\'", "\t\r\n\u{1} ' \" \\"), ("'\\N'", "\\N")],
        ),
        ("varchar(20)", Text, &[("'NULL'", "NULL"), ("' '", " ")]),
        ("char(4)", Text, &[("'ab'", "ab  ")]),
        ("\"char\"", Text, &[("'x'", "x"), ("''", "")]),
        ("name", Text, &[("'a name'", "a name")]),
        ("xml", Text, &[("'<a>ü</a>'", "<a>ü</a>"), ("'<?xml version=\"1.0\" encoding=\"UTF-8\"?><a/>'", "<a/>")]),
        ("bytea", Bytes, &[("'\\x'", ""), ("'\\x00'", "00"), ("'\\xdeadbeef5c'", "deadbeef5c")]),
        (
            "date",
            Date,
            &[
                ("'2016-11-04'", "17109"),
                ("'0001-01-01'", "-719162"),
                ("'1582-10-10'", "-141432"),
                ("'4714-11-24 BC'", "-2440588"),
                ("'5874897-12-31'", "2145042905"),
                ("'infinity'", "2147483647"),
                ("'-infinity'", "-2147483648"),
            ],
        ),
        ("time", Time, &[("'00:00:00'", "0"), ("'13:51:30.123'", "49890123000"), ("'24:00:00'", "86400000000")]),
        ("time(3)", Time, &[("'13:51:30.123'", "49890123000")]),
        (
            "timestamp",
            Timestamp,
            &[
                ("'2016-11-04 13:51:30.123456'", "1478267490123456"),
                ("'1969-12-31 23:59:59.999999'", "-1"),
                ("'0044-02-01 11:12:13 BC'", "-63521412467000000"),
                ("'4714-11-24 00:00:00 BC'", "-210866803200000000"),
                ("'294247-01-01 23:59:59.999999'", "9223371331199999999"),
                ("'infinity'", "9223372036854775807"),
                ("'-infinity'", "-9223372036854775808"),
            ],
        ),
        ("timestamp(0)", Timestamp, &[("'2016-11-04 13:51:30.5'", "1478267491000000")]),
        (
            "timestamptz",
            TimestampTz,
            &[
                ("'2016-11-04 13:51:30.123456+02'", "1478260290123456"),
                ("'4714-12-31 23:59:59.999999 BC'", "-210863520000000001"),
                ("'12345-06-07 08:09:10+00'", "327416976550000000"),
                ("'infinity'", "9223372036854775807"),
            ],
        ),
        (
            "interval",
            Interval,
            &[
                ("'1 year 2 mons 3 days 04:05:06.78'", "(14,3,14706780000)"),
                ("'0'", "(0,0,0)"),
                ("'-1 mons +15 days -23:59:59.999999'", "(-1,15,-86399999999)"),
                ("'24:00:00'", "(0,0,86400000000)"),
                ("'-178000000 years'", "(-2136000000,0,0)"),
            ],
        ),
        ("uuid", Uuid, &[("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "a0eebc999c0b4ef8bb6d6bb9bd380a11")]),
        ("json", Json, &[("'{\"bar\":  \"baz\", \"bar\": 1e400}'", "{\"bar\":  \"baz\", \"bar\": 1e400}"), ("'null'", "null")]),
        ("jsonb", Json, &[("'{\"b\":1,\"aa\":2,\"a\":1,\"a\":3}'", "{\"a\": 3, \"b\": 1, \"aa\": 2}"), ("'1E3'", "1000")]),
        ("mood", Text, &[("'so, \"so\" ''😀'''", "so, \"so\" '😀'")]),
        ("price", decimal(10, 2), &[("12.3", "1230e-2")]),
        ("price2", decimal(10, 2), &[("12.3", "1230e-2")]),
        ("ints", list(Int32), &[("'{1,2}'", "[1; 2]")]),
        ("int[]", list(Int32), &[("'{1,2,3}'", "[1; 2; 3]"), ("'{}'", "[]"), ("'{1,NULL,3}'", "[1; NULL; 3]")]),
        ("text[]", list(Text), &[(r#"'{"NULL",NULL,"a,b","{x}","q\"","\\",""}'"#, r#"[NULL; NULL; a,b; {x}; q"; \; ]"#)]),
        ("numeric[]", list(Text), &[("'{1.1,2.22,NaN}'", "[1.1; 2.22; NaN]")]),
        ("numeric(10,2)[]", list(decimal(10, 2)), &[("'{1.2}'", "[120e-2]")]),
        ("varchar(5)[]", list(Text), &[("'{a,b}'", "[a; b]")]),
        ("char(4)[]", list(Text), &[("'{ab}'", "[ab  ]")]),
        ("bool[]", list(Bool), &[("'{t,f}'", "[t; f]")]),
        ("date[]", list(Date), &[("'{2016-11-04,NULL,infinity}'", "[17109; NULL; 2147483647]")]),
        ("time[]", list(Time), &[("'{24:00}'", "[86400000000]")]),
        ("timestamptz[]", list(TimestampTz), &[("'{2016-11-04 13:51:30+00}'", "[1478267490000000]")]),
        ("interval[]", list(Interval), &[("'{1 mon -1 day}'", "[(1,-1,0)]")]),
        ("bytea[]", list(Bytes), &[(r#"'{"\\x00ff","\\x"}'"#, "[00ff; ]")]),
        ("uuid[]", list(Uuid), &[("'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'", "[a0eebc999c0b4ef8bb6d6bb9bd380a11]")]),
        ("jsonb[]", list(Json), &[(r#"'{"{\"a\": 1}"}'"#, r#"[{"a": 1}]"#)]),
        ("float8[]", list(Float64), &[("'{0.1,NaN}'", "[0.1; NaN]")]),
        ("mood[]", list(Text), &[("'{ok}'", "[ok]")]),
        ("price[]", list(decimal(10, 2)), &[("'{12.3}'", "[1230e-2]")]),
    ];
    // A server may have been built without it.
    let has_xml = database.try_sql("select xml '<a/>'").is_ok();
    let version = database.server.version();
    all.into_iter().filter(|(kind, ..)| since(kind) <= version && (*kind != "xml" || has_xml)).collect()
}

/// The first version that has a type.
fn since(kind: &str) -> u32 {
    match kind {
        "numeric(3,-2)" => 15,
        "int4multirange" => 14,
        "xid8" => 13,
        _ => 12,
    }
}

/// Types that arrive as the server prints them.
const PRINTED: [(&str, &str, &str); 17] = [
    ("money", "'-1234.11'", "-$1,234.11"),
    ("timetz", "'13:51:30.123789+02'", "13:51:30.123789+02"),
    ("inet", "'192.168.1.1'", "192.168.1.1"),
    ("cidr", "'192.168.100.128/25'", "192.168.100.128/25"),
    ("macaddr", "'08:00:2b:01:02:03'", "08:00:2b:01:02:03"),
    ("bit(2)", "B'11'", "11"),
    ("varbit", "B''", ""),
    ("int4range", "'[1,5]'", "[1,6)"),
    ("int4multirange", "'{[1,2),[3,4)}'", "{[1,2),[3,4)}"),
    ("point", "'(1,1)'", "(1,1)"),
    ("tsvector", "'fat:2A it'", "'fat':2A 'it'"),
    ("pg_lsn", "'16/B374D848'", "16/B374D848"),
    ("xid8", "'18446744073709551615'", "18446744073709551615"),
    ("pair", "'(1,\"a,b\")'", "(1,\"a,b\")"),
    ("pair", "'(,)'", "(,)"),
    ("inet[]", "'{10.0.0.1,NULL}'", "{10.0.0.1,NULL}"),
    ("int4range[]", "'{\"[1,2)\"}'", "{\"[1,2)\"}"),
];

const TYPES: &str = "create type mood as enum ('sad', 'ok', 'so, \"so\" ''😀'''); create domain price as numeric(10,2); \
     create domain price2 as price; create domain ints as int[]; create type pair as (a int, b text);";

/// Makes table `t` with a column for each literal; returns the statement that inserts all of them.
fn make_table(database: &Database, columns: &[(&str, &str)]) -> String {
    let definitions: Vec<String> = columns.iter().enumerate().map(|(index, (kind, _))| format!("c{index} {kind}")).collect();
    database.sql(&format!("{TYPES} create table t (id int primary key, {});", definitions.join(", ")));
    let literals: Vec<&str> = columns.iter().map(|(_, literal)| *literal).collect();
    format!("insert into t values ($id, {});", literals.join(", "))
}

async fn check(columns: &[(&str, &str)], expected: &[String], extra: serde_json::Value) {
    let database = Database::new();
    let insert = make_table(&database, columns);
    database.sql(&insert.replace("$id", "1"));
    database.sql("insert into t (id) values (2);");
    let mut pipeline = pipeline_of(&database, &["t"], extra);
    pipeline.drain().await;
    database.sql(&insert.replace("$id", "3"));
    database.sql("insert into t (id) values (4);");
    pipeline.drain().await;
    let ops: Vec<Op> = pipeline.changes.iter().map(|change| change.op).collect();
    assert_eq!(ops, [Op::Read, Op::Read, Op::Insert, Op::Insert]);
    assert_eq!(pipeline.changes[0].schema, pipeline.changes[2].schema, "one schema version");
    for change in &pipeline.changes {
        let after = change.after.as_ref().unwrap();
        let is_null = matches!(after[0].as_str(), "2" | "4");
        for (index, (kind, literal)) in columns.iter().enumerate() {
            let wanted = if is_null { NULL } else { expected[index].as_str() };
            assert_eq!(after[index + 1], wanted, "{kind} {literal}, {:?}", change.op);
        }
    }
}

#[tokio::test]
async fn values_are_right_and_the_same_from_snapshot_and_stream() {
    let database = Database::new();
    let (mut columns, mut expected) = (Vec::new(), Vec::new());
    for (kind, _, literals) in cases(&database) {
        let has_infinity = kind != "numeric" || database.server.version() >= 14;
        for (literal, value) in literals.iter().filter(|(literal, _)| has_infinity || !literal.contains("Infinity")) {
            columns.push((kind, *literal));
            expected.push((*value).to_owned());
        }
    }
    check(&columns, &expected, json!({})).await;
    check(&columns, &expected, json!({ "binary": false })).await;
}

#[tokio::test]
async fn other_types_arrive_as_the_server_prints_them() {
    let version = Database::new().server.version();
    let known = || PRINTED.iter().filter(|(kind, ..)| since(kind) <= version);
    let columns: Vec<_> = known().map(|(kind, literal, _)| (*kind, *literal)).collect();
    let expected: Vec<_> = known().map(|(_, _, printed)| (*printed).to_owned()).collect();
    check(&columns, &expected, json!({})).await;
    let arrays = [("int[]", "'{{1,2},{3,4}}'"), ("int[]", "'[0:1]={7,8}'"), ("numeric(10,2)", "'NaN'"), ("numeric(10,2)", "1")];
    let expected = ["{{1,2},{3,4}}", "[0:1]={7,8}", "NaN", "1.00"].map(str::to_owned);
    check(&arrays, &expected, json!({ "arrays": "text", "numeric": "text" })).await;
}

#[tokio::test]
async fn columns_have_their_types_and_the_servers_names_for_them() {
    let database = Database::new();
    let cases = cases(&database);
    let columns: Vec<_> = cases.iter().map(|(kind, _, literals)| (*kind, literals[0].0)).collect();
    let insert = make_table(&database, &columns);
    database.sql(&insert.replace("$id", "1"));
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    let schema = &pipeline.changes[0].schema;
    let names = database.sql(
        "set search_path = pg_catalog; select format_type(atttypid, atttypmod) from pg_attribute \
         where attrelid = 'public.t'::regclass and attnum > 1 order by attnum",
    );
    for ((column, (kind, expected, _)), name) in schema.columns()[1..].iter().zip(&cases).zip(names.lines()) {
        assert_eq!(column.kind, *expected, "{kind}");
        assert_eq!(column.source_type, name, "{kind}");
    }
}

#[tokio::test]
async fn what_a_column_cannot_hold_names_the_column_and_the_option() {
    let database = Database::new();
    let cases = [
        ("numeric(10,2)", "'NaN'", "numeric: text"),
        ("int[]", "'{{1,2},{3,4}}'", "arrays: text"),
        ("int[]", "'[0:1]={7,8}'", "arrays: text"),
        ("timestamp", "'294276-12-31 23:59:59'", "294246"),
    ];
    for (index, (kind, literal, option)) in cases.iter().enumerate() {
        let table = format!("t{index}");
        database.sql(&format!("create table {table} (id int primary key, c0 {kind})"));
        let mut pipelines = [true, false].map(|binary| {
            let mut pipeline = pipeline_of(&database, &[&table], json!({ "binary": binary, "snapshot": { "mode": "never" } }));
            pipeline.name = format!("{}_{index}_{binary}", database.name);
            pipeline
        });
        for pipeline in &mut pipelines {
            pipeline.drain().await;
        }
        database.sql(&format!("insert into {table} values (1, {literal})"));
        for pipeline in &mut pipelines {
            let error = pipeline.try_drain().await.unwrap_err().to_string();
            assert!(error.contains(&format!("public.{table}, column `c0`")) && error.contains(option), "{error}");
        }
    }
}

#[tokio::test]
async fn a_type_without_a_known_binary_form_turns_the_stream_to_text() {
    let database = Database::new();
    database
        .sql("create table t (id int primary key); create table u (id int primary key, n numeric(10,2)); insert into t values (1)");
    let mut pipeline = pipeline_of(&database, &["t", "u"], json!({}));
    pipeline.drain().await;
    // In one transaction with rows that came in binary before: they must not come twice.
    database.sql(
        "begin; insert into u values (1, 1.5); insert into t values (2); alter table t add column i inet; \
         insert into t values (3, '10.0.0.1'); insert into u values (2, 2.5); commit; insert into u values (3, 3.5);",
    );
    pipeline.drain().await;
    assert_eq!(pipeline.count("public.u", Op::Insert), 3);
    assert_eq!(pipeline.folded_text("public.u"), "1|150e-2\n2|250e-2\n3|350e-2");
    let rows: Vec<_> =
        pipeline.changes.iter().filter(|change| change.table() == "public.t").map(|change| change.after.clone().unwrap()).collect();
    assert_eq!(rows, [vec!["1"], vec!["2"], vec!["3", "10.0.0.1"]]);
}
