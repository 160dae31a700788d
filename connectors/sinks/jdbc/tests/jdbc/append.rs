//! `mode: append`: every change is a row.
use std::sync::Arc;

use connector_api::{BarrierKind, ColumnType as T, NextOffsets, Op};

use crate::{
    database::Database,
    rows::{Change, V, barrier, delete, insert, moved, rows_from, schema_of, simple, text, update},
};

#[tokio::test]
async fn every_change_is_a_row() {
    for database in Database::each().await {
        let schema = simple("t");
        let mut sink = database.open("mode: append", &schema, 1).await.sink;
        let old = |id| vec![V::Int(id), V::Null, V::Null];
        let changes = [
            insert(vec![V::Int(1), text("a"), text("b")]),
            update(vec![V::Int(1), text("c"), V::Unchanged]),
            moved(old(1), vec![V::Int(2), text("c"), V::Unchanged]),
            Change { op: Op::MoveOut, ..delete(old(1)) },
            delete(old(2)),
        ];
        sink.write(rows_from(&schema, 0, &changes)).await.unwrap();
        sink.write(barrier(&schema, BarrierKind::Truncate, 5, NextOffsets::from([(0, 6)]))).await.unwrap();
        sink.write(rows_from(&schema, 6, &[insert(vec![V::Int(3), text("x"), V::Null])])).await.unwrap();
        assert_eq!(sink.flush().await.unwrap().next, NextOffsets::from([(0, 7)]));
        // Again, as after a crash: nothing is twice.
        let mut opened = database.open("mode: append", &schema, 1).await;
        assert_eq!(opened.next, NextOffsets::from([(0, 7)]));
        opened.sink.write(rows_from(&schema, 0, &changes)).await.unwrap();
        opened.sink.write(barrier(&schema, BarrierKind::SnapshotRestart, 7, NextOffsets::from([(0, 8)]))).await.unwrap();
        opened.sink.flush().await.unwrap();
        let rows =
            database.lines("SELECT _op, id, a, b, _sequence, _ordinal, _tx, _unchanged, _old_key FROM t ORDER BY _sequence").await;
        let unchanged = if database.is_postgres() { "{b}" } else { "[\"b\"]" };
        assert_eq!(
            rows,
            [
                "c|1|a|b|0|0|42|-|-".to_owned(),
                format!("u|1|c|-|1|0|42|{unchanged}|-"),
                format!("u|2|c|-|2|0|42|{unchanged}|{{\"id\":1}}"),
                "d|1|-|-|3|0|42|-|-".to_owned(),
                "d|2|-|-|4|0|42|-|-".to_owned(),
                "t|-|-|-|5|0|42|-|-".to_owned(),
                "c|3|x|-|6|0|42|-|-".to_owned(),
                "s|-|-|-|7|0|42|-|-".to_owned(),
            ]
        );
        let at = if database.is_postgres() { "SET timezone = 'UTC'; " } else { "" };
        let zone = match database.kind() {
            "postgres" => "+00",
            "sqlite" => "+00:00",
            _ => "",
        };
        let times = database.lines(&format!("{at}SELECT DISTINCT _commit_ts FROM t")).await;
        assert_eq!(times, [format!("2016-11-04 13:51:30.123456{zone}")]);
    }
}

#[tokio::test]
async fn an_append_table_widens_and_keeps_taking_narrower_rows() {
    for database in Database::each().await {
        let schema = |kind: T| schema_of("t", &[("a", kind, "")], 0);
        let mut sink = database.open("mode: append", &schema(T::Int32), 1).await.sink;
        for (offset, (kind, value)) in
            [(T::Int32, V::Int(1)), (T::Int64, V::Int(1 << 40)), (T::Int32, V::Int(3)), (T::Text, text("x"))]
                .into_iter()
                .enumerate()
        {
            let schema = schema(kind);
            sink.write(rows_from(&schema, offset as i64, &[insert(vec![value])])).await.unwrap();
            sink.flush().await.unwrap();
        }
        assert_eq!(database.lines("SELECT a FROM t ORDER BY _sequence").await, ["1", "1099511627776", "3", "x"]);
    }
}

#[tokio::test]
async fn a_column_of_ours_cannot_be_the_sources() {
    let database = Database::sqlite();
    let schema = schema_of("t", &[("_op", T::Text, "text")], 0);
    let mut sink = database.open("mode: append", &schema, 1).await.sink;
    sink.write(rows_from(&Arc::clone(&schema), 0, &[insert(vec![text("x")])])).await.unwrap();
    let error = sink.flush().await.unwrap_err().to_string();
    assert!(error.contains("has a column `_op`, a name that `mode: append` needs"), "{error}");
}

/// The query that the manual gives for the current table.
#[tokio::test]
async fn the_current_table_can_be_read_from_the_changes() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../docs/jdbc-sink.md")).unwrap();
    let query = manual.split("```sql").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let query = query.trim().trim_end_matches(';').replace("SELECT * FROM (", "SELECT id, a, b FROM (") + " ORDER BY id";
    for database in Database::each().await {
        let schema = simple("orders");
        let mut sink = database.open("mode: append", &schema, 1).await.sink;
        let row = |id, a: &str| vec![V::Int(id), text(a), V::Null];
        sink.write(rows_from(&schema, 0, &[insert(row(1, "a"))])).await.unwrap();
        sink.flush().await.unwrap();
        assert_eq!(database.lines(&query).await, ["1|a|-"]);
        sink.write(barrier(&schema, BarrierKind::SnapshotRestart, 1, NextOffsets::from([(0, 2)]))).await.unwrap();
        let changes = [
            insert(row(2, "b")),
            insert(row(3, "c")),
            moved(row(2, ""), row(4, "d")),
            Change { op: Op::MoveOut, ..delete(row(2, "")) },
            delete(row(3, "")),
            insert(row(5, "e")),
        ];
        sink.write(rows_from(&schema, 2, &changes)).await.unwrap();
        sink.flush().await.unwrap();
        assert_eq!(database.lines(&query).await, ["4|d|-", "5|e|-"]);
    }
}
