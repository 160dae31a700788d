//! Every column type, with the edge values of ordinary schemas, read back from PostgreSQL and SQLite as text. For MySQL see `values_mysql`.
use connector_api::{ColumnType as T, Recovery};

use crate::{
    database::Database,
    rows::{V, insert, rows_from, schema_of, text},
};

pub struct Case {
    pub kind: T,
    pub source_type: &'static str,
    pub value: V,
    postgres: String,
    pub sqlite: String,
}

fn case(kind: T, source_type: &'static str, value: V, postgres: &str, sqlite: &str) -> Case {
    Case { kind, source_type, value, postgres: postgres.into(), sqlite: sqlite.into() }
}

/// The same text in both.
fn same(kind: T, source_type: &'static str, value: V, expected: &str) -> Case {
    case(kind, source_type, value, expected, expected)
}

fn list(kind: T) -> T {
    T::List(Box::new(kind))
}

fn decimal(precision: u8, scale: u8) -> T {
    T::Decimal { precision, scale }
}

fn wide(unscaled: &str) -> V {
    V::Decimal256(unscaled.into())
}

pub fn numbers() -> Vec<Case> {
    let max38 = 10i128.pow(38) - 1;
    let nines = "9".repeat(400);
    vec![
        case(T::Bool, "boolean", V::Bool(true), "t", "1"),
        case(T::Bool, "boolean", V::Bool(false), "f", "0"),
        same(T::Int16, "smallint", V::Int(-32768), "-32768"),
        same(T::Int16, "smallint", V::Int(32767), "32767"),
        same(T::Int32, "integer", V::Int(-2147483648), "-2147483648"),
        same(T::Int32, "integer", V::Int(2147483647), "2147483647"),
        same(T::Int64, "bigint", V::Int(i64::MIN), "-9223372036854775808"),
        same(T::Int64, "bigint", V::Int(9007199254740993), "9007199254740993"),
        same(T::Int64, "bigint", V::Int(i64::MAX), "9223372036854775807"),
        same(T::Float32, "real", V::Float(3.3), "3.3"),
        case(T::Float32, "real", V::Float(0.0), "0", "0.0"),
        case(T::Float32, "real", V::Float(3.4028235e38), "3.4028235e+38", "3.4028235e38"),
        case(T::Float32, "real", V::Float(1e-45), "1e-45", "1e-45"),
        same(T::Float32, "real", V::Float(f64::NAN), "NaN"),
        same(T::Float32, "real", V::Float(f64::NEG_INFINITY), "-Infinity"),
        same(T::Float64, "double precision", V::Float(0.30000000000000004), "0.30000000000000004"),
        case(T::Float64, "double precision", V::Float(1.7976931348623157e308), "1.7976931348623157e+308", "1.7976931348623157e308"),
        same(T::Float64, "double precision", V::Float(5e-324), "5e-324"),
        same(T::Float64, "double precision", V::Float(f64::NAN), "NaN"),
        same(T::Float64, "double precision", V::Float(f64::INFINITY), "Infinity"),
        same(decimal(3, 2), "numeric(3,2)", V::Decimal(110), "1.10"),
        same(decimal(3, 2), "numeric(3,2)", V::Decimal(-999), "-9.99"),
        same(decimal(4, 0), "numeric(4,0)", V::Decimal(10), "10"),
        same(decimal(6, 4), "numeric(6,4)", V::Decimal(222_200), "22.2200"),
        same(decimal(18, 6), "numeric(18,6)", V::Decimal(999_999_999_999_999_999), "999999999999.999999"),
        same(decimal(38, 10), "numeric(38,10)", V::Decimal(-max38), "-9999999999999999999999999999.9999999999"),
        same(decimal(38, 38), "numeric(38,38)", V::Decimal(1), &format!("0.{}1", "0".repeat(37))),
        same(decimal(38, 0), "numeric(38,0)", V::Decimal(max38), &max38.to_string()),
        same(decimal(5, 2), "numeric(5,2)", V::Decimal(0), "0.00"),
        same(decimal(39, 0), "numeric(39,0)", wide(&nines[..39]), &nines[..39]),
        same(
            decimal(65, 30),
            "numeric(65,30)",
            wide(&format!("-{}", &nines[..65])),
            &format!("-{}.{}", &nines[..35], &nines[..30]),
        ),
        same(decimal(65, 30), "numeric(65,30)", wide("-1"), &format!("-0.{}1", "0".repeat(29))),
        same(decimal(65, 30), "numeric(65,30)", wide("0"), &format!("0.{}", "0".repeat(30))),
        same(decimal(76, 0), "numeric(76,0)", wide(&nines[..76]), &nines[..76]),
        same(decimal(76, 76), "numeric(76,76)", wide(&nines[..76]), &format!("0.{}", &nines[..76])),
        same(T::Text, "numeric", text("10.1111"), "10.1111"),
        same(T::Text, "numeric", text("0.000"), "0.000"),
        same(T::Text, "numeric", text("-0.00012000"), "-0.00012000"),
        same(T::Text, "numeric", text(&nines), &nines),
        same(T::Text, "numeric(76,0)", text(&"9".repeat(76)), &"9".repeat(76)),
        same(T::Text, "numeric", text("NaN"), "NaN"),
    ]
}

pub fn times() -> Vec<Case> {
    let mut cases = Vec::new();
    for (days, shown) in [
        (17_109, "2016-11-04"),
        (0, "1970-01-01"),
        (11_016, "2000-02-29"),
        (2_932_896, "9999-12-31"),
        (-719_162, "0001-01-01"),
        (-141_438, "1582-10-04"),
        (-735_202, "0044-02-01 BC"),
        (-2_440_588, "4714-11-24 BC"),
        (2_145_042_905, "5874897-12-31"),
        (i64::from(i32::MAX), "infinity"),
        (i64::from(i32::MIN), "-infinity"),
    ] {
        cases.push(same(T::Date, "date", V::Int(days), shown));
    }
    for (micros, shown) in
        [(0, "00:00:00"), (49_890_000_000, "13:51:30"), (86_399_999_999, "23:59:59.999999"), (86_400_000_000, "24:00:00")]
    {
        cases.push(same(T::Time, "time without time zone", V::Int(micros), shown));
    }
    for (micros, shown) in [
        (1_478_267_490_123_456, "2016-11-04 13:51:30.123456"),
        (-1, "1969-12-31 23:59:59.999999"),
        (-62_135_596_800_000_000, "0001-01-01 00:00:00"),
        (-30_595_922_954_876_544, "1000-06-15 12:30:45.123456"),
        (-63_521_412_467_000_000, "0044-02-01 11:12:13 BC"),
        (-210_866_803_200_000_000, "4714-11-24 00:00:00 BC"),
        (253_402_300_799_999_999, "9999-12-31 23:59:59.999999"),
        (9_223_371_331_199_999_999, "294247-01-01 23:59:59.999999"),
        (i64::MAX, "infinity"),
        (i64::MIN, "-infinity"),
    ] {
        cases.push(same(T::Timestamp, "timestamp without time zone", V::Int(micros), shown));
        let zoned = |zone: &str| match shown.strip_suffix(" BC") {
            _ if shown.ends_with("infinity") => shown.to_owned(),
            Some(shown) => format!("{shown}{zone} BC"),
            None => format!("{shown}{zone}"),
        };
        cases.push(case(T::TimestampTz, "timestamp with time zone", V::Int(micros), &zoned("+00"), &zoned("+00:00")));
    }
    for (micros, shown) in [
        (3_020_399_999_999, "838:59:59.999999"),
        (-3_020_399_999_999, "-838:59:59.999999"),
        (1_864_264_780_000, "517:51:04.78"),
        (-1, "-00:00:00.000001"),
        (0, "00:00:00"),
        (86_400_000_000, "24:00:00"),
    ] {
        // The source type is MySQL's, so the type of the column is not compared.
        cases.push(case(T::Duration, "time(6)", V::Int(micros), shown, &micros.to_string()));
    }
    for (interval, postgres, sqlite) in [
        (V::Interval(14, 3, 14_706_780_000), "1 year 2 mons 3 days 04:05:06.78", "P1Y2M3DT4H5M6.78S"),
        (V::Interval(0, 0, 0), "00:00:00", "PT0S"),
        (V::Interval(-1, 15, -86_399_999_999), "-1 mons +15 days -23:59:59.999999", "P-1M15DT-23H-59M-59.999999S"),
        (V::Interval(0, 0, 86_400_000_000), "24:00:00", "PT24H"),
        (V::Interval(0, 60, 0), "60 days", "P60D"),
    ] {
        cases.push(case(T::Interval, "interval", interval, postgres, sqlite));
    }
    cases
}

pub fn texts() -> Vec<Case> {
    let mut cases: Vec<Case> = [
        "",
        " ",
        "ž š 😀 \u{FFFF} e\u{301} \u{5D0}",
        "tab\t cr\r lf\n \u{1}",
        "'single' \"double\" \\",
        "\\N",
        "value\\Ntail",
        "NULL",
        "null",
        "true",
        "007",
        "{}",
    ]
    .into_iter()
    .map(|value| same(T::Text, "text", text(value), value))
    .collect();
    let large = "x".repeat(1 << 20);
    let json = "{\"bar\": \"baz\",  \"bar\": 1e400}";
    cases.extend([
        same(T::Text, "text", text(&large), &large),
        same(T::Text, "character(4)", text("ab  "), "ab  "),
        same(T::Text, "inet", text("192.168.2.0/12"), "192.168.2.0/12"),
        same(T::Text, "public.mood", text("it's \"so\""), "it's \"so\""),
        same(T::Json, "json", text(json), json),
        same(T::Json, "json", text("null"), "null"),
        case(T::Json, "jsonb", text("{\"b\": 1, \"aa\": 2}"), "{\"b\": 1, \"aa\": 2}", "{\"b\": 1, \"aa\": 2}"),
        same(T::Bytes, "bytea", V::Bytes(vec![]), "\\x"),
        same(T::Bytes, "bytea", V::Bytes(vec![0]), "\\x00"),
        same(T::Bytes, "bytea", V::Bytes(vec![0xde, 0xad, 0xbe, 0xef, 0x5c]), "\\xdeadbeef5c"),
        same(T::Uuid, "uuid", V::Uuid([0; 16]), "00000000-0000-0000-0000-000000000000"),
        same(
            T::Uuid,
            "uuid",
            V::Uuid([0xa0, 0xee, 0xbc, 0x99, 0x9c, 0x0b, 0x4e, 0xf8, 0xbb, 0x6d, 0x6b, 0xb9, 0xbd, 0x38, 0x0a, 0x11]),
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
    ]);
    cases
}

pub fn lists() -> Vec<Case> {
    vec![
        case(list(T::Int32), "integer[]", V::List(vec![V::Int(1), V::Null, V::Int(3)]), "{1,NULL,3}", "[1,null,3]"),
        case(list(T::Int32), "integer[]", V::List(vec![]), "{}", "[]"),
        case(
            list(T::Text),
            "text[]",
            V::List(["NULL", "a,b", "{x}", "q\"", "\\", ""].map(text).to_vec()),
            r#"{"NULL","a,b","{x}","q\"","\\",""}"#,
            r#"["NULL","a,b","{x}","q\"","\\",""]"#,
        ),
        case(list(T::Text), "numeric[]", V::List(vec![text("1.1"), text("2.22")]), "{1.1,2.22}", r#"["1.1","2.22"]"#),
        case(list(decimal(10, 2)), "numeric(10,2)[]", V::List(vec![V::Decimal(120)]), "{1.20}", r#"["1.20"]"#),
        case(list(T::Bool), "boolean[]", V::List(vec![V::Bool(true), V::Null]), "{t,NULL}", "[true,null]"),
        case(
            list(T::Float64),
            "double precision[]",
            V::List(vec![V::Float(0.5), V::Float(f64::NAN)]),
            "{0.5,NaN}",
            r#"[0.5,"NaN"]"#,
        ),
        case(list(T::Bytes), "bytea[]", V::List(vec![V::Bytes(vec![0, 1])]), r#"{"\\x0001"}"#, r#"["\\x0001"]"#),
        case(
            list(T::Date),
            "date[]",
            V::List(vec![V::Int(0), V::Int(i64::from(i32::MAX))]),
            "{1970-01-01,infinity}",
            r#"["1970-01-01","infinity"]"#,
        ),
        case(
            list(T::TimestampTz),
            "timestamp with time zone[]",
            V::List(vec![V::Int(0)]),
            r#"{"1970-01-01 00:00:00+00"}"#,
            r#"["1970-01-01 00:00:00+00:00"]"#,
        ),
        case(
            list(T::Uuid),
            "uuid[]",
            V::List(vec![V::Uuid([0xff; 16])]),
            "{ffffffff-ffff-ffff-ffff-ffffffffffff}",
            r#"["ffffffff-ffff-ffff-ffff-ffffffffffff"]"#,
        ),
        case(list(T::Json), "jsonb[]", V::List(vec![text("{\"a\": 1}")]), r#"{"{\"a\": 1}"}"#, r#"["{\"a\": 1}"]"#),
        case(list(decimal(65, 2)), "numeric(65,2)[]", V::List(vec![wide("-120"), V::Null]), "{-1.20,NULL}", r#"["-1.20",null]"#),
        case(list(T::Duration), "interval[]", V::List(vec![V::Int(-1), V::Null]), "{-00:00:00.000001,NULL}", "[-1,null]"),
        case(list(T::Interval), "interval[]", V::List(vec![V::Interval(1, 0, 0)]), r#"{"1 mon"}"#, r#"["P1M"]"#),
    ]
}

/// Rows with NULL, the value, and the value again by an update of a row that had NULL.
async fn check(cases: Vec<Case>) {
    for database in [Database::sqlite(), Database::postgres().await] {
        let target = database.target("").await;
        for (number, case) in cases.iter().enumerate() {
            let table = format!("v{number}");
            let columns = [("id", T::Int32, "integer"), ("v", case.kind.clone(), case.source_type)];
            let schema = schema_of(&table, &columns, 1);
            let opened = target.open(&crate::database::topic(&schema, 1), &Default::default()).await;
            let mut sink = opened.unwrap().sink;
            let row = |id: i64, value: &V| insert(vec![V::Int(id), value.clone()]);
            // Many rows and few rows reach a server in different ways.
            let mut rows = vec![row(1, &V::Null), row(2, &case.value), row(3, &V::Null)];
            rows.extend((4..40).map(|id| row(id, &V::Null)));
            sink.write(rows_from(&schema, 0, &rows)).await.unwrap();
            sink.flush().await.unwrap();
            sink.write(rows_from(&schema, 39, &[row(3, &case.value)])).await.unwrap();
            sink.flush().await.unwrap();
            let column = if database.is_postgres() { "v::text" } else { "v" };
            // A boolean's cast to text is not the form in which the server sends it.
            let column = if database.is_postgres() && case.kind == T::Bool { "v" } else { column };
            let set = if database.is_postgres() { "SET timezone = 'UTC'; " } else { "" };
            let found = database.query(&format!("{set}SELECT {column} FROM {table} WHERE id < 4 ORDER BY id")).await;
            let expected = if database.is_postgres() { &case.postgres } else { &case.sqlite };
            let found: Vec<_> = found.into_iter().flatten().collect();
            let is_right = found == [None, Some(expected.clone()), Some(expected.clone())];
            assert!(is_right, "{:?} {}: {expected:.100} is {found:.100?}", case.kind, case.source_type);
            if database.is_postgres() && !case.source_type.contains(['(', '.']) && case.source_type != "inet" {
                let kind = format!(
                    "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = 'v'"
                );
                assert_eq!(database.lines(&kind).await, [case.source_type]);
            }
        }
    }
}

#[tokio::test]
async fn numbers_are_exact() {
    let mut cases = numbers();
    let version = Database::postgres().await.lines("SHOW server_version_num").await;
    if version >= vec!["140000".to_owned()] {
        cases.push(same(T::Text, "numeric", text("-Infinity"), "-Infinity"));
    }
    check(cases).await;
}

#[tokio::test]
async fn dates_and_times_are_exact() {
    check(times()).await;
}

#[tokio::test]
async fn texts_and_bytes_are_exact() {
    check(texts()).await;
}

#[tokio::test]
async fn lists_are_exact() {
    check(lists()).await;
}

#[tokio::test]
async fn a_value_that_the_target_cannot_hold_stops_with_its_place() {
    let database = Database::postgres().await;
    for (number, (kind, source_type, value)) in [
        (T::Text, "text", text("a\0b")),
        (T::Date, "date", V::Int(-2_440_589)),
        (T::Timestamp, "timestamp", V::Int(-210_866_803_200_000_001)),
        (T::Time, "time", V::Int(-1)),
        (T::Text, "numeric", text("one")),
        (list(T::Text), "text[]", V::List(vec![text("\0")])),
    ]
    .into_iter()
    .enumerate()
    {
        let table = format!("t{number}");
        let schema = schema_of(&table, &[("id", T::Int32, "integer"), ("the column", kind, source_type)], 1);
        let mut sink = database.open("", &schema, 1).await.sink;
        let rows = [insert(vec![V::Int(1), V::Null]), insert(vec![V::Int(2), value])];
        sink.write(rows_from(&schema, 5, &rows)).await.unwrap();
        let error = sink.flush().await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Stop);
        let message = error.to_string();
        assert!(
            message.contains(&table) && message.contains("`the column`") && message.contains("offset 6 of partition 0"),
            "{message}"
        );
        assert_eq!(database.lines(&format!("SELECT count(*) FROM {table}")).await, ["0"]);
    }
}

#[tokio::test]
async fn a_value_that_the_server_refuses_stops_with_its_column() {
    let database = Database::postgres().await;
    let schema = schema_of("t", &[("id", T::Int32, "integer"), ("the, column", T::Json, "jsonb")], 1);
    let mut sink = database.open("", &schema, 1).await.sink;
    let rows: Vec<_> = (1..50).map(|id| insert(vec![V::Int(id), text("{hunter2")])).collect();
    sink.write(rows_from(&schema, 0, &rows)).await.unwrap();
    let error = sink.flush().await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Stop);
    let message = error.to_string();
    let expected = "a value does not fit (SQLSTATE 22P02, column `the, column`)";
    assert!(message.contains("table \"public\".\"t\"") && message.contains(expected) && !message.contains("hunter2"), "{message}");
}
