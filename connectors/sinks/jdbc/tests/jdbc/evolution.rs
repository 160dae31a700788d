//! Tables that change their shape at the source.
use std::sync::Arc;

use connector_api::{ColumnType as T, Recovery, TableSchema};

use crate::{
    database::Database,
    rows::{Change, V, insert, rows_from, schema_of, text, update},
};

/// Writes rows under one schema after the other through one sink, then opens another sink for the last, as after a restart.
async fn write(database: &Database, parts: &[(Arc<TableSchema>, Vec<Change>)]) -> Result<(), String> {
    let mut sink = database.open("", &parts[0].0, 1).await.sink;
    let mut offset = 0;
    for (number, (schema, changes)) in parts.iter().enumerate() {
        if number == parts.len() - 1 && number > 0 {
            sink = database.open("", &parts[0].0, 1).await.sink;
        }
        sink.write(rows_from(schema, offset, changes)).await.map_err(|error| error.to_string())?;
        offset += changes.len() as i64;
        if let Err(error) = sink.flush().await {
            assert_eq!(error.recovery(), Recovery::Stop);
            return Err(error.to_string());
        }
    }
    Ok(())
}

const ID: (&str, T, &str) = ("id", T::Int32, "integer");

#[tokio::test]
async fn columns_are_added_and_dropped_ones_stay() {
    for database in Database::each().await {
        let first = schema_of("t", &[ID, ("gone", T::Text, "text")], 1);
        let second = schema_of("t", &[ID, ("new name", T::Text, "text"), ("n", T::Int64, "bigint")], 1);
        write(
            &database,
            &[
                (Arc::clone(&first), vec![insert(vec![V::Int(1), text("a")])]),
                (
                    Arc::clone(&second),
                    vec![insert(vec![V::Int(2), text("b"), V::Int(7)]), update(vec![V::Int(1), text("c"), V::Null])],
                ),
                (first, vec![insert(vec![V::Int(3), text("old shape")])]),
            ],
        )
        .await
        .unwrap();
        let rows = database.lines("SELECT id, gone, \"new name\", n FROM t ORDER BY id").await;
        assert_eq!(rows, ["1|a|c|-", "2|-|b|7", "3|old shape|-|-"]);
    }
}

#[tokio::test]
async fn types_widen() {
    for database in Database::each().await {
        let schema = |a: T, b: T, c: T, d: T| schema_of("t", &[ID, ("a", a, ""), ("b", b, ""), ("c", c, ""), ("d", d, "")], 1);
        let decimal = |precision, scale| T::Decimal { precision, scale };
        write(
            &database,
            &[
                (
                    schema(T::Int16, decimal(4, 2), T::Int32, T::Float32),
                    vec![insert(vec![V::Int(1), V::Int(7), V::Decimal(1234), V::Int(7), V::Float(0.5)])],
                ),
                (
                    schema(T::Int64, decimal(8, 4), T::Text, T::Float64),
                    vec![insert(vec![V::Int(2), V::Int(i64::MAX), V::Decimal(12_345_678), text("007"), V::Float(0.1)])],
                ),
                // What is narrower again fits as it is.
                (
                    schema(T::Int32, decimal(3, 1), T::Int32, T::Float32),
                    vec![
                        insert(vec![V::Int(3), V::Int(3), V::Decimal(15), V::Int(8), V::Float(0.25)]),
                        update(vec![V::Int(1), V::Unchanged, V::Unchanged, V::Int(9), V::Unchanged]),
                    ],
                ),
            ],
        )
        .await
        .unwrap();
        let rows = database.lines("SELECT a, b, c, d FROM t ORDER BY id").await;
        if database.is_postgres() || database.is_mysql() {
            assert_eq!(rows, ["7|12.3400|9|0.5", "9223372036854775807|1234.5678|007|0.1", "3|1.5000|8|0.25"]);
        } else {
            assert_eq!(rows, ["7|12.34|9|0.5", "9223372036854775807|1234.5678|007|0.1", "3|1.5|8|0.25"]);
        }
    }
}

#[tokio::test]
async fn many_rows_and_deletes_of_a_narrower_type_fit_a_wider_key() {
    for database in Database::each().await {
        let schema = |kind: T| schema_of("t", &[("id", kind, ""), ("a", T::Int32, "integer")], 1);
        let row = |id| insert(vec![V::Int(id), V::Int(id)]);
        let gone = |id| crate::rows::delete(vec![V::Int(id), V::Null]);
        write(
            &database,
            &[
                (schema(T::Int64), vec![insert(vec![V::Int(1 << 40), V::Int(0)])]),
                (schema(T::Int32), (0..50).map(row).collect()),
                (schema(T::Int16), (0..48).map(gone).chain([row(49)]).collect()),
                (schema(T::Int16), vec![gone(48)]),
            ],
        )
        .await
        .unwrap();
        assert_eq!(database.lines("SELECT id, a FROM t ORDER BY id").await, ["49|49", "1099511627776|0"]);
    }
}

#[tokio::test]
async fn the_key_changes() {
    for database in Database::each().await {
        let columns = [ID, ("region", T::Text, "text"), ("a", T::Text, "text")];
        let first = schema_of("t", &columns, 1);
        let second = schema_of("t", &columns, 2);
        let row = |id, region: &str, a: &str| insert(vec![V::Int(id), text(region), text(a)]);
        write(
            &database,
            &[
                (Arc::clone(&first), vec![row(1, "eu", "a"), row(2, "eu", "b")]),
                (Arc::clone(&second), vec![row(1, "us", "c"), row(1, "eu", "d")]),
                (second, vec![row(1, "us", "e"), row(3, "us", "f")]),
            ],
        )
        .await
        .unwrap();
        let rows = database.lines("SELECT id, region, a FROM t ORDER BY id, region").await;
        assert_eq!(rows, ["1|eu|d", "1|us|e", "2|eu|b", "3|us|f"]);
    }
}

#[tokio::test]
async fn a_change_that_would_touch_values_stops() {
    let database = Database::postgres().await;
    let schema = |kind: T| schema_of("t", &[ID, ("a", kind, "")], 1);
    let error = write(
        &database,
        &[
            (schema(T::Timestamp), vec![insert(vec![V::Int(1), V::Int(0)])]),
            (schema(T::TimestampTz), vec![insert(vec![V::Int(2), V::Int(0)])]),
        ],
    )
    .await
    .unwrap_err();
    assert!(error.contains("column `a` of table \"public\".\"t\" has type timestamp without time zone"), "{error}");
    assert_eq!(database.lines("SELECT count(*) FROM t").await, ["1"]);
}

#[tokio::test]
async fn indices_of_a_sqlite_table_that_is_made_anew_stay() {
    let database = Database::sqlite();
    let schema = |kind: T| schema_of("t", &[ID, ("a", kind, "")], 1);
    let mut sink = database.open("", &schema(T::Int32), 1).await.sink;
    sink.write(rows_from(&schema(T::Int32), 0, &[insert(vec![V::Int(1), V::Int(5)])])).await.unwrap();
    sink.flush().await.unwrap();
    database.run("CREATE INDEX mine ON t (a)").await;
    sink.write(rows_from(&schema(T::Text), 1, &[insert(vec![V::Int(2), text("05")])])).await.unwrap();
    sink.flush().await.unwrap();
    assert_eq!(database.lines("SELECT id, a, typeof(a) FROM t ORDER BY id").await, ["1|5|text", "2|05|text"]);
    assert_eq!(database.lines("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL").await, ["mine"]);
}

#[tokio::test]
async fn a_table_made_by_hand_is_used_as_it_is() {
    let database = Database::postgres().await;
    database
        .run("CREATE TABLE t (mine text DEFAULT 'kept', a inet, id bigint NOT NULL, short varchar(3)); CREATE UNIQUE INDEX u ON t (id)")
        .await;
    let schema = schema_of("t", &[ID, ("a", T::Text, "inet"), ("short", T::Text, "text")], 1);
    let mut sink = database.open("", &schema, 1).await.sink;
    sink.write(rows_from(&schema, 0, &[insert(vec![V::Int(1), text("10.0.0.1/8"), text("abc")])])).await.unwrap();
    sink.flush().await.unwrap();
    sink.write(rows_from(&schema, 1, &[update(vec![V::Int(1), text("::1"), V::Unchanged])])).await.unwrap();
    sink.flush().await.unwrap();
    assert_eq!(database.lines("SELECT id, a, short, mine FROM t").await, ["1|::1|abc|kept"]);
    assert_eq!(database.lines("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass").await, ["1"]);
    // What does not fit is refused, not cut, and the message does not tell the value.
    for (a, short, says) in [("10.0.0.1", "abcd", "SQLSTATE 22001"), ("hunter2", "abc", "SQLSTATE 22P02")] {
        let mut sink = database.open("", &schema, 1).await.sink;
        sink.write(rows_from(&schema, 2, &[insert(vec![V::Int(2), text(a), text(short)])])).await.unwrap();
        let error = sink.flush().await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Stop);
        let message = error.to_string();
        assert!(message.contains(says) && message.contains("\"t\"") && !message.contains("hunter2"), "{message}");
    }
}
