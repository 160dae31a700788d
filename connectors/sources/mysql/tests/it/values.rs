//! Values are the same from snapshot and stream, and are the right ones. `src/decode/tests` does the same with captured bytes and with what the server itself
//! prints; here they go the whole way.

use connector_api::{ColumnType, Op};
use serde_json::{Value, json};
use test_servers::{Flavor, MySqlServer};

use crate::log_model::{NULL, database, pipeline_of};

/// A type of the server, a literal, the column's type, and the value as the log model shows it.
type Case = (&'static str, &'static str, ColumnType, &'static str);

fn decimal(precision: u8, scale: u8) -> ColumnType {
    ColumnType::Decimal { precision, scale }
}

/// What a session may do that writes the odd values, in a zone of its own.
const SESSION: &str = "set names utf8mb4; set time_zone = '-07:00'; \
     set sql_mode = 'ALLOW_INVALID_DATES';";

/// Each case is a column of one table. A row of all literals and one of NULLs are read by a snapshot, and two more come with the stream.
async fn check(flavor: Flavor, cases: &[Case], extra: Value) {
    let database = database(flavor);
    let definitions: Vec<String> = cases.iter().enumerate().map(|(index, (kind, ..))| format!("c{index} {kind}")).collect();
    database.exec(&format!("create table t (id int primary key, {}) character set utf8mb4", definitions.join(", ")));
    let literals: Vec<&str> = cases.iter().map(|(_, literal, ..)| *literal).collect();
    let insert = |id: u32| {
        let row = format!("insert ignore into t values ({id}, {});", literals.join(", "));
        database.exec(&format!("{SESSION} {row} insert into t (id) values ({})", id + 1));
    };
    insert(1);
    let mut pipeline = pipeline_of(&database, &["t"], extra);
    pipeline.drain().await;
    insert(3);
    pipeline.drain().await;
    let ops: Vec<Op> = pipeline.changes.iter().map(|change| change.op).collect();
    assert_eq!(ops, [Op::Read, Op::Read, Op::Insert, Op::Insert], "{flavor:?}");
    let schema = &pipeline.changes[0].schema;
    assert_eq!(*schema, pipeline.changes[2].schema, "{flavor:?}: one schema version");
    for (index, (kind, literal, column_type, expected)) in cases.iter().enumerate() {
        assert_eq!(schema.columns()[index + 1].kind, *column_type, "{flavor:?} {kind}");
        for change in &pipeline.changes {
            let after = change.after.as_ref().unwrap();
            let wanted = if matches!(after[0].as_str(), "2" | "4") { NULL } else { expected };
            assert_eq!(after[index + 1], wanted, "{flavor:?} {kind} {literal}, {:?}", change.op);
        }
    }
}

async fn check_both(cases: &[Case], extra: Value) {
    for flavor in Flavor::ALL {
        check(flavor, cases, extra.clone()).await;
    }
}

#[tokio::test]
async fn my_type_01_types_with_two_names() {
    use ColumnType::*;
    let cases = [
        ("boolean", "true", Int16, "1"),
        ("boolean", "-1", Int16, "-1"),
        ("real", "2.718281828459045", Float64, "2.718281828459045"),
        ("nchar(5)", "'ž'", Text, "ž"),
        ("integer unsigned", "3294967295", Int64, "3294967295"),
        ("numeric(7,2)", "12345.67", decimal(7, 2), "1234567e-2"),
        ("set('a','b','c')", "'b,a'", Text, "a,b"),
        ("enum('x','y')", "'y'", Text, "y"),
        ("varchar(10) character set latin1", "'é'", Text, "é"),
        ("float", "3.4028234663852886e38", Float32, "3.4028235e38"),
        ("float", "1.41421", Float32, "1.41421"),
        ("float(53)", "0.1", Float64, "0.1"),
        ("double", "5e-324", Float64, "5e-324"),
        ("double(10,2)", "-0.01", Float64, "-0.010000000000000009"),
        ("bit(1)", "b'1'", Bool, "t"),
        ("bit(20)", "b'11100011100011100011'", Int64, "932067"),
        ("bit(64)", "0xFFFFFFFFFFFFFFFF", decimal(20, 0), "18446744073709551615e-0"),
    ];
    check_both(&cases, json!({})).await;
    // MariaDB has no negative zero.
    check(Flavor::MySql, &[("float", "-0e0", Float32, "-0.0"), ("double", "-0e0", Float64, "-0.0")], json!({})).await;
    check_both(&[("boolean", "-1", Bool, "t"), ("tinyint(1)", "0", Bool, "f")], json!({ "tinyint1": "bool" })).await;
}

#[tokio::test]
async fn my_type_02_numbers_to_the_last_digit() {
    use ColumnType::*;
    let nines = "99999999999999999999999999999999999.999999999999999999999999999999";
    let nines_shown = "99999999999999999999999999999999999999999999999999999999999999999e-30";
    let cases = [
        ("tinyint", "-128", Int16, "-128"),
        ("tinyint unsigned", "255", Int16, "255"),
        ("smallint unsigned", "65535", Int32, "65535"),
        ("mediumint", "-8388608", Int32, "-8388608"),
        ("mediumint unsigned", "16777215", Int32, "16777215"),
        ("int", "-2147483648", Int32, "-2147483648"),
        ("int unsigned", "4294967295", Int64, "4294967295"),
        ("int(5) zerofill", "42", Int64, "42"),
        ("bigint", "-9223372036854775808", Int64, "-9223372036854775808"),
        ("bigint unsigned", "18446744073709551615", decimal(20, 0), "18446744073709551615e-0"),
        ("bigint unsigned", "9223372036854775808", decimal(20, 0), "9223372036854775808e-0"),
        ("decimal(65,30)", nines, decimal(65, 30), nines_shown),
        ("decimal(65,30)", "-0.000000000000000000000000000001", decimal(65, 30), "-1e-30"),
        ("decimal(38,10)", "-1.5", decimal(38, 10), "-15000000000e-10"),
        ("decimal(4,4)", "0.1234", decimal(4, 4), "1234e-4"),
        ("year", "0", Int16, "0"),
        ("year", "'1901'", Int16, "1901"),
        ("year", "'2155'", Int16, "2155"),
        ("year", "'78'", Int16, "1978"),
    ];
    check_both(&cases, json!({})).await;
}

#[tokio::test]
async fn my_type_03_times_are_durations() {
    use ColumnType::Duration;
    let cases = [
        ("time", "'838:59:59'", Duration, "3020399000000"),
        ("time", "'-838:59:59'", Duration, "-3020399000000"),
        ("time(2)", "'17:51:04.78'", Duration, "64264780000"),
        ("time(2)", "'517:51:04.78'", Duration, "1864264780000"),
        ("time", "'-13:14:50'", Duration, "-47690000000"),
        ("time(3)", "'-733:00:00.001'", Duration, "-2638800001000"),
        ("time(6)", "'-838:59:58.999999'", Duration, "-3020398999999"),
        ("time(6)", "'-01:01:01.000001'", Duration, "-3661000001"),
        ("time(1)", "'-00:00:00.5'", Duration, "-500000"),
        ("time(4)", "'-00:20:38.0001'", Duration, "-1238000100"),
    ];
    check_both(&cases, json!({})).await;
}

#[tokio::test]
async fn my_type_04_dates_that_no_calendar_has() {
    use ColumnType::*;
    // Timestamps are written in a session at UTC-7.
    let real = [
        ("date", "'1000-01-01'", Date, "-354285"),
        ("date", "'9999-12-31'", Date, "2932896"),
        ("date", "'1970-01-01'", Date, "0"),
        ("date", "'0018-04-01'", Date, "-712863"),
        ("datetime", "'2018-06-20 06:37:03'", Timestamp, "1529476623000000"),
        ("datetime(2)", "'2014-09-08 17:51:04.78'", Timestamp, "1410198664780000"),
        ("datetime(6)", "'9999-12-31 23:59:59.999999'", Timestamp, "253402300799999999"),
        ("datetime(3)", "'1969-12-31 23:59:59.999'", Timestamp, "-1000"),
        ("timestamp null", "'2018-06-20 06:37:03'", TimestampTz, "1529501823000000"),
        ("timestamp null", "'1969-12-31 17:00:01'", TimestampTz, "1000000"),
        ("timestamp(6) null", "'2038-01-18 20:14:07.999999'", TimestampTz, "2147483647999999"),
    ];
    check_both(&real, json!({})).await;
    let zero = |null: bool| {
        let cases: [(&str, &str, ColumnType, &str); 7] = [
            ("date", "'0000-00-00'", Date, "0000-00-00"),
            ("date", "'2000-00-01'", Date, "2000-00-01"),
            ("date", "'2000-02-31'", Date, "2000-02-31"),
            ("datetime(3)", "'2000-01-00 01:02:03.004'", Timestamp, "2000-01-00 01:02:03.004"),
            ("datetime", "'0000-00-00'", Timestamp, "0000-00-00 00:00:00"),
            ("timestamp null", "'0000-00-00'", TimestampTz, "0000-00-00 00:00:00"),
            ("timestamp(2) null", "'2018-06-19 23:37:03.25'", TimestampTz, "2018-06-20 06:37:03.25"),
        ];
        cases.map(|(kind, literal, column_type, printed)| match (null, kind) {
            (false, _) => (kind, literal, Text, printed),
            (true, "timestamp(2) null") => (kind, literal, column_type, "1529476623250000"),
            (true, _) => (kind, literal, column_type, NULL),
        })
    };
    check_both(&zero(true), json!({})).await;
    check_both(&zero(false), json!({ "zero_dates": "text" })).await;
}

#[tokio::test]
async fn my_type_04_an_error_when_asked_to_names_the_column() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key, d datetime)");
        let mut pipeline = pipeline_of(&database, &["t"], json!({ "zero_dates": "error" }));
        pipeline.drain().await;
        database.exec(&format!("{SESSION} insert into t values (1, '0000-00-00')"));
        let error = pipeline.try_drain().await.unwrap_err().to_string();
        assert!(error.contains("column `d`") && error.contains("zero_dates"), "{flavor:?}: {error}");
    }
}

#[tokio::test]
async fn my_type_05_what_is_padded_and_what_is_stripped() {
    use ColumnType::*;
    let cases = [
        ("char(5)", "'foo  '", Text, "foo"),
        ("varchar(5)", "'foo  '", Text, "foo  "),
        ("text", "''", Text, ""),
        ("text", "'\\\\N'", Text, "\\N"),
        ("text", "'NULL'", Text, "NULL"),
        ("binary(4)", "x'11220000'", Bytes, "11220000"),
        ("binary(4)", "''", Bytes, "00000000"),
        ("binary(2)", "x'20'", Bytes, "2000"),
        ("varbinary(8)", "x'E228A10000'", Bytes, "e228a10000"),
        ("blob", "''", Bytes, ""),
        ("tinyblob", "x'00'", Bytes, "00"),
        ("longblob", "x'DEADBEEF'", Bytes, "deadbeef"),
    ];
    check_both(&cases, json!({})).await;
}

#[tokio::test]
async fn my_type_06_text_is_unicode_whatever_its_character_set() {
    use ColumnType::Text;
    let cases = [
        ("varchar(20) character set latin1", "_latin1 x'636166E9809C'", Text, "café€œ"),
        ("varchar(20) character set cp850", "'é'", Text, "é"),
        ("varchar(20) character set koi8r", "'ж'", Text, "ж"),
        ("varchar(20) character set gbk", "_gbk x'C4E3815C'", Text, "你乗"),
        ("varchar(20) character set big5", "_big5 x'A741A45CA1F2'", Text, "你么♁"),
        ("varchar(20) character set sjis", "_sjis x'835C815F'", Text, "ソ\\"),
        ("varchar(20) character set cp932", "_cp932 x'835C815F'", Text, "ソ＼"),
        ("varchar(20) character set euckr", "'가'", Text, "가"),
        ("varchar(20) character set ujis", "_ujis x'A4A28EB1'", Text, "あｱ"),
        ("varchar(20) character set utf16", "'😀'", Text, "😀"),
        ("varchar(20) character set utf16le", "'你'", Text, "你"),
        ("char(20) character set ucs2", "'你'", Text, "你"),
        ("varchar(20) character set utf32", "'😀'", Text, "😀"),
        ("varchar(20) character set utf8mb3", "'ž'", Text, "ž"),
        ("varchar(20) collate utf8mb4_bin", "'abc'", Text, "abc"),
        ("text collate utf8mb4_bin", "'😀'", Text, "😀"),
        ("enum('é','€') character set latin1", "'€'", Text, "€"),
        ("set('é','x') character set latin1", "'x,é'", Text, "é,x"),
    ];
    check_both(&cases, json!({})).await;
}

#[tokio::test]
async fn my_type_07_labels() {
    use ColumnType::Text;
    let labels: Vec<String> = (0..300).map(|index| format!("'m{index}'")).collect();
    let many: &'static str = format!("enum({})", labels.join(",")).leak();
    let labels: Vec<String> = (0..64).map(|index| format!("'s{index}'")).collect();
    let set: &'static str = format!("set({})", labels.join(",")).leak();
    let cases = [
        ("enum('a','b''s','c,d','')", "'b''s'", Text, "b's"),
        ("enum('a','b''s','c,d','')", "'c,d'", Text, "c,d"),
        ("enum('a','b''s','c,d','')", "''", Text, ""),
        ("enum('a','b''s','c,d','')", "'nope'", Text, "<invalid>"),
        ("enum('a','b')", "'nope'", Text, ""),
        (many, "'m299'", Text, "m299"),
        (many, "'m254'", Text, "m254"),
        (set, "'s63,s0,s31'", Text, "s0,s31,s63"),
        ("set('a','b')", "''", Text, ""),
    ];
    check_both(&cases, json!({})).await;
}

#[tokio::test]
async fn my_type_08_documents_print_as_the_server_prints_them() {
    use ColumnType::Json;
    let big = "[32767, 32768, -32769, 2147483648, 9007199254740993, 18446744073709551615, 18446744073709551616]";
    let big_shown = "[32767, 32768, -32769, 2147483648, 9007199254740993, 18446744073709551615, 1.8446744073709552e19]";
    let literal: &'static str = format!("'{big}'").leak();
    let cases = [
        ("json", literal, Json, big_shown),
        ("json", "'{\"z\": 1, \"aa\": 2, \"\": [1.0, 1, null, true]}'", Json, r#"{"": [1.0, 1, null, true], "z": 1, "aa": 2}"#),
        ("json", "'null'", Json, "null"),
        (
            "json",
            "json_array(cast(1.10 as decimal(10,2)), cast('2015-01-15 23:24:25.12' as datetime(3)), cast('2015-01-15' as date), \
             cast('23:24:25.024' as time(3)), x'cafe')",
            Json,
            r#"[1.10, "2015-01-15 23:24:25.120000", "2015-01-15", "23:24:25.024000", "base64:type15:yv4="]"#,
        ),
        (
            "json",
            "json_array(1e15, 1e14, 1e-15, 1e-16, 0.1e0, 5e-324)",
            Json,
            "[1e15, 100000000000000.0, 0.000000000000001, 1e-16, 0.1, 5e-324]",
        ),
        ("json", "json_array('\"\\\\\\n\\t/é😀')", Json, r#"["\"\\\n\t/é😀"]"#),
    ];
    check(Flavor::MySql, &cases, json!({})).await;
}

#[tokio::test]
async fn types_of_one_server_only() {
    use ColumnType::*;
    let mariadb = [
        ("inet6", "'::ffff:1.2.3.4'", Text, "::ffff:1.2.3.4"),
        ("inet6", "'2001:db8::'", Text, "2001:db8::"),
        // An alias of longtext, with the text as it was written.
        ("json", "'{\"b\": 1,  \"a\":2}'", Text, "{\"b\": 1,  \"a\":2}"),
        ("varchar(300) compressed", "'squeezed squeezed squeezed squeezed'", Text, "squeezed squeezed squeezed squeezed"),
        ("blob compressed", "x'00FF'", Bytes, "00ff"),
    ];
    check(Flavor::MariaDb, &mariadb, json!({})).await;
    if MySqlServer::shared(Flavor::MariaDb).version() >= (10, 10) {
        let mariadb = [
            ("uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A00'", Uuid, "a0eebc999c0b4ef8bb6d6bb9bd380a00"),
            ("inet4", "'255.255.255.0'", Text, "255.255.255.0"),
        ];
        check(Flavor::MariaDb, &mariadb, json!({})).await;
    }
}

/// As of MySQL 9.0 and MariaDB 11.7. With older servers there is nothing to read.
#[tokio::test]
async fn vectors_are_lists_of_floats() {
    let vector = || ColumnType::List(Box::new(ColumnType::Float32));
    for (flavor, since, make) in [(Flavor::MySql, (9, 0), "to_vector"), (Flavor::MariaDb, (11, 7), "vec_fromtext")] {
        if MySqlServer::shared(flavor).version() < since {
            continue;
        }
        let literal = |text: &str| -> &'static str { format!("{make}('{text}')").leak() };
        let cases = [
            ("vector(3)", literal("[1,2.5,-3]"), vector(), "[1.0; 2.5; -3.0]"),
            // The smallest number that there is, a negative zero.
            ("vector(3)", "x'01000000000000800000803F'", vector(), "[1e-45; -0.0; 1.0]"),
        ];
        check(flavor, &cases, json!({})).await;
    }
}

#[tokio::test]
async fn geometries_are_ewkb() {
    use ColumnType::{Bytes, Text};
    let latin1 = ("varchar(9) character set latin1", "'é'", Text, "é");
    let cases = [
        ("point", "ST_GeomFromText('POINT(1 1)')", Bytes, "0101000000000000000000f03f000000000000f03f"),
        // The servers differ in whether a geometry counts in the log's list of character sets.
        latin1.clone(),
        latin1.clone(),
        ("geometry", "ST_GeomFromText('POINT(2 1)', 3187)", Bytes, "0101000020730c00000000000000000040000000000000f03f"),
        ("varchar(9)", "'é😀'", Text, "é😀"),
        latin1.clone(),
        latin1,
    ];
    check_both(&cases, json!({})).await;
}

#[tokio::test]
async fn generated_and_invisible_columns_are_there_in_both_phases() {
    use ColumnType::Int32;
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec(
            "create table t (id int primary key, v int as (id + 1) virtual, s int as (id * 2) stored, i int invisible default 7); \
             insert into t (id) values (1)",
        );
        let mut pipeline = pipeline_of(&database, &["t"], json!({}));
        pipeline.drain().await;
        database.exec("insert into t (id) values (2)");
        pipeline.drain().await;
        let rows: Vec<_> = pipeline.changes.iter().map(|change| change.after.clone().unwrap()).collect();
        assert_eq!(rows, [vec!["1", "2", "2", "7"], vec!["2", "3", "4", "7"]], "{flavor:?}");
        assert!(pipeline.changes[0].schema.columns().iter().all(|column| column.kind == Int32));
    }
}
