//! Every column type, with the edge values of `values`, read back from MySQL and MariaDB: the same whatever the server's own modes and charsets
//! are. What they cannot hold stops with its place, and goes into a column of text.
use std::sync::Arc;

use connector_api::{ColumnType as T, NextOffsets, Recovery, TableSchema};
use test_servers::{Flavor, MySqlServer};

use crate::{
    database::{Database, topic},
    rows::{V, insert, rows_from, schema_of},
    values::{Case, lists, numbers, texts, times},
};

/// How a value comes back.
enum Expected {
    Text(String),
    Number(f64),
    /// Not at all, but as this text in a column of text.
    Refused(String),
}

fn span(micros: i64) -> String {
    let (sign, all) = (if micros < 0 { "-" } else { "" }, micros.unsigned_abs());
    let seconds = all / 1_000_000;
    format!("{sign}{:02}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, all % 1_000_000)
}

/// All six digits of a second, which are shown even where they are zero.
fn six_digits(text: &str) -> String {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{whole}.{fraction:0<6}")
}

fn expected(case: &Case, flavor: Flavor) -> Expected {
    let text = case.sqlite.trim_end_matches("+00:00").replace("+00:00 BC", " BC");
    let in_range =
        |length: usize| !text.ends_with("BC") && !text.contains("infinity") && text.find('-') == Some(4) && text.len() >= length;
    match (&case.kind, &case.value) {
        (T::Float32 | T::Float64, V::Float(value)) if value.is_finite() => Expected::Number(*value),
        (T::Float32 | T::Float64, _) => Expected::Refused(text),
        (T::Date, _) if in_range(10) => Expected::Text(text),
        (T::Timestamp | T::TimestampTz, _) if in_range(19) => Expected::Text(six_digits(&text)),
        (T::Date | T::Timestamp | T::TimestampTz, _) => Expected::Refused(text),
        (T::Time, _) => Expected::Text(six_digits(&text)),
        (T::Duration, V::Int(micros)) => {
            // Of the last second MySQL has no parts.
            let limit = if flavor == Flavor::MySql { 3_020_399_000_000 } else { 3_020_399_999_999 };
            let shown = span(*micros);
            let shown_short = shown.trim_end_matches('0').trim_end_matches('.').to_owned();
            if micros.unsigned_abs() <= limit { Expected::Text(shown) } else { Expected::Refused(shown_short) }
        }
        _ => Expected::Text(text),
    }
}

async fn write(database: &Database, schema: &Arc<TableSchema>, case: &Case) -> Result<(), String> {
    let target = database.target("").await;
    let opened = target.open(&topic(schema, 1), &NextOffsets::new()).await.map_err(|error| error.to_string())?;
    let mut sink = opened.sink;
    let row = |id: i64, value: &V| insert(vec![V::Int(id), value.clone()]);
    let failed = |error: connector_api::ConnectorError| {
        assert_eq!(error.recovery(), Recovery::Stop, "{error}");
        error.to_string()
    };
    // Many rows and few rows reach the server in different ways.
    let mut rows = vec![row(1, &V::Null), row(2, &case.value), row(3, &V::Null)];
    rows.extend((4..40).map(|id| row(id, &V::Null)));
    sink.write(rows_from(schema, 0, &rows)).await.map_err(failed)?;
    sink.flush().await.map_err(failed)?;
    sink.write(rows_from(schema, 39, &[row(3, &case.value)])).await.map_err(failed)?;
    sink.flush().await.map_err(failed)?;
    Ok(())
}

async fn read(database: &Database, table: &str, column: &str) -> Vec<Option<String>> {
    let found = database.query(&format!("SELECT {column} FROM {table} WHERE id < 4 ORDER BY id")).await;
    found.into_iter().flatten().collect()
}

async fn check(database: &Database, cases: Vec<Case>) {
    let Database::MySql { server, .. } = database else { panic!() };
    for (number, case) in cases.iter().enumerate() {
        let table = format!("v{number}");
        let schema = schema_of(&table, &[("id", T::Int32, "integer"), ("v", case.kind.clone(), case.source_type)], 1);
        let said = format!("{} {:?} {}", server.flavor().name(), case.kind, case.source_type);
        let written = write(database, &schema, case).await;
        match expected(case, server.flavor()) {
            Expected::Text(expected) => {
                written.unwrap_or_else(|error| panic!("{said}: {expected:.100}: {error}"));
                let found = read(database, &table, "v").await;
                let is_right = found == [None, Some(expected.clone()), Some(expected.clone())];
                assert!(is_right, "{said}: {expected:.100} is {found:.100?}");
            }
            Expected::Number(expected) => {
                written.unwrap_or_else(|error| panic!("{said}: {expected:?}: {error}"));
                // As such, a single is shown with six digits.
                let found = read(database, &table, "CAST(v AS double)").await;
                let same = |found: &Option<String>| {
                    let found: f64 = found.as_ref().unwrap().parse().unwrap();
                    if case.kind == T::Float32 { found as f32 == expected as f32 } else { found == expected }
                };
                assert!(found[0].is_none() && same(&found[1]) && same(&found[2]), "{said}: {expected:?} is {found:?}");
            }
            Expected::Refused(as_text) => {
                let error = written.expect_err(&said);
                assert!(error.contains(&table) && error.contains('v'), "{error}");
                assert_eq!(database.lines(&format!("SELECT count(*) FROM {table}")).await, ["0"], "{said}");
                database.run(&format!("ALTER TABLE {table} MODIFY v longtext")).await;
                write(database, &schema, case).await.unwrap_or_else(|error| panic!("{said}: {error}"));
                let found = read(database, &table, "v").await;
                assert!(found == [None, Some(as_text.clone()), Some(as_text.clone())], "{said}: {as_text} is {found:?}");
            }
        }
    }
}

fn all() -> Vec<Case> {
    [numbers(), times(), texts(), lists()].into_iter().flatten().collect()
}

#[tokio::test]
async fn values_are_exact_in_mysql() {
    check(&Database::mysql(Flavor::MySql).await, all()).await;
}

#[tokio::test]
async fn values_are_exact_in_mariadb() {
    check(&Database::mysql(Flavor::MariaDb).await, all()).await;
}

/// Modes that change how statements and files are read, and defaults that would change what is stored; and no files.
fn odd_server(flavor: Flavor) -> &'static MySqlServer {
    let mode = match flavor {
        Flavor::MySql => "ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,REAL_AS_FLOAT,HIGH_NOT_PRECEDENCE",
        Flavor::MariaDb => "ORACLE,NO_BACKSLASH_ESCAPES,EMPTY_STRING_IS_NULL,PAD_CHAR_TO_FULL_LENGTH",
    };
    let options = [
        format!("--sql-mode={mode}"),
        "--character-set-server=latin1".into(),
        "--collation-server=latin1_swedish_ci".into(),
        "--default-time-zone=-06:30".into(),
        "--local-infile=OFF".into(),
        "--transaction-isolation=REPEATABLE-READ".into(),
        "--autocommit=OFF".into(),
        "--completion-type=CHAIN".into(),
    ];
    // It lives as long as the tests do.
    Box::leak(Box::new(MySqlServer::start(flavor, &options.each_ref().map(String::as_str))))
}

async fn odd(flavor: Flavor) -> Database {
    Database::mysql_on(tokio::task::spawn_blocking(move || odd_server(flavor)).await.unwrap()).await
}

#[tokio::test]
async fn a_servers_own_modes_do_not_change_values_in_mysql() {
    check(&odd(Flavor::MySql).await, all()).await;
}

#[tokio::test]
async fn a_servers_own_modes_do_not_change_values_in_mariadb() {
    check(&odd(Flavor::MariaDb).await, all()).await;
}
