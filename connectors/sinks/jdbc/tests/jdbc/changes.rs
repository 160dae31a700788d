//! What batches of changes come to: SINK-DB-02, SINK-DB-13, PG-RI-01 to -03.
use std::sync::Arc;

use connector_api::{BarrierKind, ColumnType, NextOffsets, Op, Recovery, Sink, TableSchema};

use crate::{
    database::Database,
    rows::{Change, V, barrier, delete, insert, moved, rows_from, schema_of, simple, text, update, with_old_rows},
};

fn row(id: i64, a: &str, b: &str) -> Vec<V> {
    let value = |value: &str| if value == "=" { V::Unchanged } else { text(value) };
    vec![V::Int(id), value(a), value(b)]
}

fn old(id: i64) -> Vec<V> {
    vec![V::Int(id), V::Null, V::Null]
}

async fn write(sink: &mut dyn Sink, schema: &Arc<TableSchema>, first: i64, changes: &[Change]) -> Result<(), String> {
    sink.write(rows_from(schema, first, changes)).await.map_err(|error| format!("{:?} {error}", error.recovery()))?;
    let flushed = sink.flush().await.map_err(|error| format!("{:?} {error}", error.recovery()))?;
    assert_eq!(flushed.next, NextOffsets::from([(0, first + changes.len() as i64)]));
    Ok(())
}

/// Begins with rows 1, 2 and 3; then the changes come in one batch, and in another table one by one. Both must give the same.
async fn check(changes: &[Change], expected: &[&str]) {
    for database in Database::each().await {
        for (table, piece) in [("together", changes.len()), ("single", 1)] {
            let schema = simple(table);
            let mut sink = database.open("", &schema, 1).await.sink;
            let start = [1, 2, 3].map(|id| insert(row(id, &format!("a{id}"), &format!("b{id}"))));
            write(sink.as_mut(), &schema, 0, &start).await.unwrap();
            let mut offset = 3;
            for part in changes.chunks(piece) {
                write(sink.as_mut(), &schema, offset, part).await.unwrap();
                offset += part.len() as i64;
            }
            let found = database.lines(&format!("SELECT id, a, b FROM {table} ORDER BY id")).await;
            assert_eq!(found, expected, "{table}, {}", database.kind());
        }
    }
}

#[tokio::test]
async fn changes_of_one_key_apply_in_order() {
    check(
        &[
            update(row(1, "x", "y")),
            delete(old(1)),
            insert(row(1, "again", "again")),
            insert(row(4, "a4", "b4")),
            delete(old(4)),
            insert(row(4, "a5", "b5")),
            delete(old(2)),
            insert(row(5, "gone", "gone")),
            delete(old(5)),
            delete(old(99)),
        ],
        &["1|again|again", "3|a3|b3", "4|a5|b5"],
    )
    .await;
}

#[tokio::test]
async fn unchanged_columns_keep_their_value_or_take_the_last_one_sent() {
    check(
        &[
            update(row(1, "a", "=")),
            update(row(1, "b", "toast")),
            update(row(1, "c", "=")),
            update(row(2, "=", "=")),
            update(row(3, "only a", "=")),
            insert(row(4, "a4", "b4")),
            update(row(4, "=", "b4b")),
            delete(old(2)),
            insert(row(2, "new", "new")),
            update(row(2, "newer", "=")),
        ],
        &["1|c|toast", "2|newer|new", "3|only a|b3", "4|a4|b4b"],
    )
    .await;
}

#[tokio::test]
async fn moves_carry_unchanged_columns_through_chains_and_swaps() {
    // A chain, a swap through a third key, a key that is used again, a move onto a deleted key, a move and back.
    check(
        &[
            moved(old(1), row(10, "=", "=")),
            moved(old(10), row(11, "moved", "=")),
            moved(old(2), row(99, "=", "=")),
            moved(old(3), row(2, "=", "=")),
            moved(old(99), row(3, "=", "=")),
            insert(row(1, "reused", "reused")),
        ],
        &["1|reused|reused", "2|a3|b3", "3|a2|b2", "11|moved|b1"],
    )
    .await;
    check(
        &[
            delete(old(2)),
            moved(old(1), row(2, "=", "=")),
            moved(old(3), row(30, "x", "=")),
            moved(old(30), row(3, "=", "=")),
            update(row(2, "=", "after the move")),
        ],
        &["2|a1|after the move", "3|x|b3"],
    )
    .await;
    check(&[moved(old(1), row(4, "=", "=")), delete(old(4)), moved(old(2), row(4, "full", "full"))], &["3|a3|b3", "4|full|full"])
        .await;
    // The old key is not there: a move with all columns is the new row.
    check(&[moved(old(77), row(7, "a7", "b7"))], &["1|a1|b1", "2|a2|b2", "3|a3|b3", "7|a7|b7"]).await;
}

/// PG-RI-02: every old image is a whole row, and the new one lacks nothing. What differs from other identities is that a change has values
/// in both images that are no key.
#[tokio::test]
async fn whole_old_rows_change_nothing_but_what_the_new_ones_say() {
    let changed = |before: Vec<V>, after: Vec<V>| Change { before: Some(before), ..update(after) };
    for database in Database::each().await {
        for (table, piece) in [("together", 8), ("single", 1)] {
            let schema = with_old_rows(&simple(table));
            let mut sink = database.open("", &schema, 1).await.sink;
            let start = [1, 2, 3, 4].map(|id| insert(row(id, &format!("a{id}"), &format!("b{id}"))));
            write(sink.as_mut(), &schema, 0, &start).await.unwrap();
            let changes = [
                changed(row(1, "a1", "b1"), row(1, "x", "b1")),
                changed(row(1, "x", "b1"), row(1, "x", "y")),
                // A new key, with the large value of the old row filled in by the source; the old key is used again.
                moved(row(2, "a2", "b2"), row(20, "moved", "b2")),
                insert(row(2, "again", "again")),
                // A value that becomes NULL, and stays it under a new key.
                changed(row(3, "a3", "b3"), vec![V::Int(3), V::Null, text("b3")]),
                moved(vec![V::Int(3), V::Null, text("b3")], vec![V::Int(30), V::Null, text("b3")]),
                // The old row says other than the target has: it is the key that counts.
                delete(row(4, "not a4", "not b4")),
                delete(row(99, "never", "there")),
            ];
            let mut offset = 4;
            for part in changes.chunks(piece) {
                write(sink.as_mut(), &schema, offset, part).await.unwrap();
                offset += part.len() as i64;
            }
            let found = database.lines(&format!("SELECT id, a, b FROM {table} ORDER BY id")).await;
            assert_eq!(found, ["1|x|y", "2|again|again", "20|moved|b2", "30|-|b3"], "{table}");
        }
    }
}

#[tokio::test]
async fn columns_of_the_target_alone_survive_updates_and_moves() {
    for database in Database::each().await {
        let schema = simple("t");
        let mut sink = database.open("", &schema, 1).await.sink;
        write(sink.as_mut(), &schema, 0, &[1, 2].map(|id| insert(row(id, "a", "b")))).await.unwrap();
        database.run("ALTER TABLE t ADD COLUMN note text; UPDATE t SET note = 'note ' || id").await;
        // The target's columns are read when a sink is opened.
        let mut sink = database.open("", &schema, 1).await.sink;
        write(sink.as_mut(), &schema, 2, &[moved(old(1), row(10, "=", "=")), update(row(2, "x", "="))]).await.unwrap();
        assert_eq!(database.lines("SELECT id, a, b, note FROM t ORDER BY id").await, ["2|x|b|note 2", "10|a|b|note 1"]);
    }
}

#[tokio::test]
async fn a_partial_row_that_is_not_there_stops_and_is_never_inserted() {
    for database in Database::each().await {
        for (table, change) in [
            ("patch", vec![update(row(9, "x", "="))]),
            ("moved", vec![moved(old(9), row(8, "x", "="))]),
            ("deleted", vec![delete(old(1)), update(row(1, "x", "="))]),
            ("among", vec![insert(row(5, "a", "b")), update(row(9, "=", "=")), update(row(1, "x", "="))]),
        ] {
            let schema = simple(table);
            let mut sink = database.open("", &schema, 1).await.sink;
            write(sink.as_mut(), &schema, 0, &[insert(row(1, "a", "b"))]).await.unwrap();
            let error = write(sink.as_mut(), &schema, 1, &change).await.unwrap_err();
            assert!(error.starts_with("Stop") && error.contains("updates a row that is not in the table"), "{error}");
            let offset = if matches!(table, "deleted" | "among") { 2 } else { 1 };
            assert!(error.contains(&format!("offset {offset} of partition 0")) && error.contains(table), "{error}");
            // Nothing of the batch was written.
            assert_eq!(database.lines(&format!("SELECT id, a, b FROM {table}")).await, ["1|a|b"]);
        }
    }
}

#[tokio::test]
async fn barriers_empty_the_table_in_order() {
    for kind in [BarrierKind::Truncate, BarrierKind::SnapshotRestart] {
        for database in Database::each().await {
            let schema = simple("t");
            let mut sink = database.open("", &schema, 1).await.sink;
            write(sink.as_mut(), &schema, 0, &[insert(row(1, "a", "b"))]).await.unwrap();
            sink.write(rows_from(&schema, 1, &[insert(row(2, "void", "void"))])).await.unwrap();
            sink.write(barrier(&schema, kind, 2, NextOffsets::from([(0, 3)]))).await.unwrap();
            sink.write(rows_from(&schema, 3, &[insert(row(3, "a3", "b3"))])).await.unwrap();
            assert_eq!(sink.flush().await.unwrap().next, NextOffsets::from([(0, 4)]));
            assert_eq!(database.lines("SELECT id FROM t").await, ["3"]);
            // The same barrier again, as after a crash: known, so nothing happens.
            sink.write(barrier(&schema, kind, 2, NextOffsets::from([(0, 3)]))).await.unwrap();
            sink.flush().await.unwrap();
            assert_eq!(database.lines("SELECT id FROM t").await, ["3"]);
            sink.write(barrier(&schema, kind, 4, NextOffsets::from([(0, 5)]))).await.unwrap();
            sink.flush().await.unwrap();
            assert_eq!(database.lines("SELECT count(*) FROM t").await, ["0"]);
            assert_eq!(database.lines(&format!("SELECT next_offset FROM {}", database.offsets())).await, ["5"]);
        }
    }
}

#[tokio::test]
async fn the_same_rows_again_change_nothing() {
    for database in Database::each().await {
        let schema = simple("t");
        let mut sink = database.open("", &schema, 1).await.sink;
        let changes = [insert(row(1, "a", "b")), update(row(1, "c", "="))];
        write(sink.as_mut(), &schema, 0, &changes).await.unwrap();
        database.run("UPDATE t SET a = 'touched'").await;
        // Everything below the next offset is done: it is passed over, not written again.
        sink.write(rows_from(&schema, 0, &changes)).await.unwrap();
        sink.write(rows_from(&schema, 1, &[update(row(1, "x", "y")), insert(row(2, "new", "new"))])).await.unwrap();
        assert_eq!(sink.flush().await.unwrap().next, NextOffsets::from([(0, 3)]));
        assert_eq!(database.lines("SELECT id, a FROM t ORDER BY id").await, ["1|touched", "2|new"]);
        assert_eq!(sink.flush().await.unwrap().next, NextOffsets::from([(0, 3)]), "a flush of nothing");
        let error = sink.write(rows_from(&schema, 7, &[insert(row(7, "a", "b"))])).await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Stop);
        assert!(error.to_string().contains("go on at offset 7, but 3 comes next"), "{error}");
    }
}

#[tokio::test]
async fn a_table_of_keys_alone_and_hostile_names() {
    for database in Database::each().await {
        let table = r#"x"; DROP TABLE y;--"#;
        // MySQL's names have no characters beyond U+FFFF.
        let (first, second) = (r#"Select "me" '`; --"#, if database.is_mysql() { "ключ ⚷" } else { "ключ 🗝" });
        let schema = schema_of(table, &[(first, ColumnType::Int32, "integer"), (second, ColumnType::Text, "text")], 2);
        let mut sink = database.open("", &schema, 1).await.sink;
        let key = |id, name: &str| vec![V::Int(id), text(name)];
        let changes =
            [insert(key(1, "a")), insert(key(1, "b")), update(key(1, "a")), moved(key(1, "b"), key(2, "b")), delete(key(1, "a"))];
        write(sink.as_mut(), &schema, 0, &changes).await.unwrap();
        write(sink.as_mut(), &schema, 5, &[moved(key(2, "b"), key(3, "c"))]).await.unwrap();
        let found = database.lines(r#"SELECT * FROM "x""; DROP TABLE y;--""#).await;
        assert_eq!(found, ["3|c"]);
        if database.is_postgres() {
            let schema = simple(&"n".repeat(64));
            let error = database.try_open(&crate::database::topic(&schema, 1), &NextOffsets::new()).await.unwrap_err();
            assert!(error.to_string().contains("has 64 bytes, the target allows 63"), "{error}");
        }
        if database.is_mysql() {
            for (name, says) in [("n".repeat(65), "at most 64 characters"), ("🗝".into(), "beyond U+FFFF")] {
                let error = database.try_open(&crate::database::topic(&simple(&name), 1), &NextOffsets::new()).await.unwrap_err();
                assert!(error.to_string().contains(says), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn keys_that_the_database_takes_for_equal_are_one_row() {
    for database in Database::each().await {
        let schema = schema_of("t", &[("k", ColumnType::Float64, "double precision"), ("a", ColumnType::Text, "text")], 1);
        let mut sink = database.open("", &schema, 1).await.sink;
        let changes = [insert(vec![V::Float(0.0), text("first")]), update(vec![V::Float(-0.0), text("second")])];
        write(sink.as_mut(), &schema, 0, &changes).await.unwrap();
        assert_eq!(database.lines("SELECT a FROM t").await, ["second"]);
    }
    let database = Database::postgres().await;
    let schema = schema_of("n", &[("k", ColumnType::Text, "numeric"), ("a", ColumnType::Text, "text")], 1);
    let mut sink = database.open("", &schema, 1).await.sink;
    write(sink.as_mut(), &schema, 0, &[insert(vec![text("1.0"), text("x")]), update(vec![text("1.00"), text("y")])]).await.unwrap();
    assert_eq!(database.lines("SELECT k, a FROM n").await, ["1.00|y"]);
}

#[tokio::test]
async fn many_moves_and_patches_in_one_batch() {
    for database in Database::each().await {
        let schema = simple("t");
        let mut sink = database.open("", &schema, 1).await.sink;
        let start: Vec<_> = (0..4000).map(|id| insert(row(id, "a", &format!("b{id}")))).collect();
        write(sink.as_mut(), &schema, 0, &start).await.unwrap();
        let changes: Vec<_> = (0..4000)
            .map(|id| if id % 2 == 0 { moved(old(id), row(id + 10_000, "m", "=")) } else { update(row(id, "p", "=")) })
            .collect();
        write(sink.as_mut(), &schema, 4000, &changes).await.unwrap();
        let sql = "SELECT count(*), count(DISTINCT b), sum(CASE WHEN a = 'm' AND b = 'b' || (id - 10000) THEN 1 ELSE 0 END) FROM t";
        assert_eq!(database.lines(sql).await, ["4000|4000|2000"]);
    }
}

/// A compaction of the log has taken the other half, because the row was written again since.
#[tokio::test]
async fn the_old_half_of_a_move_by_itself_is_a_delete() {
    let out = |id| Change { op: Op::MoveOut, ..delete(old(id)) };
    check(&[out(1), insert(row(4, "moved", "whole")), out(4), out(2), insert(row(2, "again", "b"))], &["2|again|b", "3|a3|b3"])
        .await;
}
