//! What every sink must do, as checks that run against a real target.
//!
//! A sink's tests implement [`Fixture`] for their target and call [`run`]. The table has a key `id` (bigint) and a `name` (text).

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use crate::{
    ChangeBatch, ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Identity, NextOffsets, Offset, Op, OpenedSink, OrderKey,
    Rows, SinkInput, SourceInfo, TableName, TableSchema, Target, TopicId, TopicInfo,
};

/// The current rows of a table: key → (name, and `extra` once the schema has it).
pub type Table = BTreeMap<i64, (Option<String>, Option<i64>)>;

/// A real target under test.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// Connects as a new run of the runtime would.
    async fn connect(&self) -> Arc<dyn Target>;

    /// The current table that the target holds for this topic: for a target that keeps a change log, what folding it gives.
    async fn table(&self, topic: &TopicInfo) -> Table;
}

/// Runs all checks.
///
/// # Panics
/// If the sink breaks a promise; the message says which.
pub async fn run(fixture: &dyn Fixture) {
    the_same_rows_twice(fixture).await;
    a_crash_between_write_and_flush(fixture).await;
    an_empty_flush(fixture).await;
    a_schema_change(fixture).await;
}

async fn the_same_rows_twice(fixture: &dyn Fixture) {
    let topic = topic("twice", schema("twice", false));
    let rows = [(Op::Insert, 1, "a"), (Op::Insert, 2, "b"), (Op::Update, 1, "c"), (Op::Delete, 2, "")];
    let mut opened = open(fixture, &topic, &NextOffsets::new()).await;
    assert!(opened.next.get(&0).is_none_or(|next| *next == 0), "a new topic begins at its start");
    write(&mut opened, &topic, 0, &rows).await;
    let next = flush(&mut opened).await;
    assert_eq!(next, 4, "a flush reports the offset after the last row");
    drop(opened);
    let reopened = open(fixture, &topic, &NextOffsets::from([(0, 4)])).await;
    assert_eq!(reopened.next.get(&0), Some(&4), "the target remembers how far it came");
    assert_eq!(fixture.table(&topic).await, Table::from([(1, (Some("c".into()), None))]), "rows were folded wrongly");
}

async fn a_crash_between_write_and_flush(fixture: &dyn Fixture) {
    let topic = topic("crash", schema("crash", false));
    let mut opened = open(fixture, &topic, &NextOffsets::new()).await;
    write(&mut opened, &topic, 0, &[(Op::Insert, 1, "a")]).await;
    flush(&mut opened).await;
    write(&mut opened, &topic, 1, &[(Op::Insert, 2, "b")]).await;
    drop(opened);
    let mut opened = open(fixture, &topic, &NextOffsets::from([(0, 1)])).await;
    assert_eq!(opened.next.get(&0), Some(&1), "what was not flushed is asked for again");
    // The same rows come again, cut in another way.
    write(&mut opened, &topic, 1, &[(Op::Insert, 2, "b"), (Op::Insert, 3, "c")]).await;
    assert_eq!(flush(&mut opened).await, 3);
    assert_eq!(fixture.table(&topic).await.len(), 3, "a row is missing or there twice");
}

async fn an_empty_flush(fixture: &dyn Fixture) {
    let topic = topic("empty", schema("empty", false));
    let mut opened = open(fixture, &topic, &NextOffsets::new()).await;
    let flushed = opened.sink.flush().await.expect("a flush of nothing is allowed");
    assert!(flushed.next.get(&0).is_none_or(|next| *next == 0), "a flush of nothing moves nothing");
}

async fn a_schema_change(fixture: &dyn Fixture) {
    let old = topic("evolves", schema("evolves", false));
    let mut opened = open(fixture, &old, &NextOffsets::new()).await;
    write(&mut opened, &old, 0, &[(Op::Insert, 1, "a")]).await;
    flush(&mut opened).await;
    let new = TopicInfo { schema: schema("evolves", true), ..old };
    write(&mut opened, &new, 1, &[(Op::Insert, 2, "b")]).await;
    assert_eq!(flush(&mut opened).await, 2);
    let expected = Table::from([(1, (Some("a".into()), None)), (2, (Some("b".into()), Some(2)))]);
    assert_eq!(fixture.table(&new).await, expected, "an added column holds its values, and NULL in older rows");
}

async fn open(fixture: &dyn Fixture, topic: &TopicInfo, reported: &NextOffsets) -> OpenedSink {
    fixture.connect().await.open(topic, reported).await.expect("open")
}

async fn write(opened: &mut OpenedSink, topic: &TopicInfo, first_offset: Offset, rows: &[(Op, i64, &str)]) {
    let next_offset = first_offset + rows.len() as Offset;
    let batch = batch(&topic.schema, first_offset, rows);
    let rows = Rows { partition: 0, first_offset, next_offset, offsets: (first_offset..next_offset).collect(), batch };
    opened.sink.write(SinkInput::Rows(rows)).await.expect("write");
}

async fn flush(opened: &mut OpenedSink) -> Offset {
    opened.sink.flush().await.expect("flush").next.get(&0).copied().expect("the partition that was written is in the answer")
}

fn topic(name: &str, schema: Arc<TableSchema>) -> TopicInfo {
    let mut id = [7; 16];
    id[..name.len().min(16)].copy_from_slice(&name.as_bytes()[..name.len().min(16)]);
    TopicInfo { id: TopicId(id), name: format!("conformance.public.{name}"), partitions: 1, schema }
}

fn schema(table: &str, evolved: bool) -> Arc<TableSchema> {
    let column = |name: &str, kind, source_type: &str| Column { name: name.into(), kind, source_type: source_type.into() };
    let mut columns = vec![column("id", ColumnType::Int64, "bigint"), column("name", ColumnType::Text, "text")];
    if evolved {
        columns.push(column("extra", ColumnType::Int64, "bigint"));
    }
    Arc::new(TableSchema::new(TableName::new("public", table), columns, vec![0], Identity::Key))
}

/// Changes with the offset as their order; `extra`, where the schema has it, equals the key.
fn batch(schema: &Arc<TableSchema>, first: Offset, rows: &[(Op, i64, &str)]) -> ChangeBatch {
    let info = SourceInfo::new("test", "test", vec![("txId".into(), ColumnType::Int64)], Some(0));
    let mut builder = ChangeBatchBuilder::new(Arc::clone(schema), info);
    for (index, (op, id, name)) in rows.iter().enumerate() {
        builder.begin(*op, OrderKey { sequence: (first as u64) + index as u64, ordinal: 0 }, 1_767_225_600_000_000);
        let image = if *op == Op::Delete {
            builder.after().absent();
            builder.before()
        } else {
            builder.before().absent();
            builder.after()
        };
        for (index, column) in image.present().iter_mut().enumerate() {
            match column {
                ColumnBuilder::Int64(values) => values.append_value(*id),
                ColumnBuilder::Text(values) if *op != Op::Delete && index == 1 => values.append_value(name),
                other => other.append_null(),
            }
        }
        if let [ColumnBuilder::Int64(tx)] = builder.source() {
            tx.append_value(first + index as i64);
        }
    }
    builder.finish().expect("rows that fit the schema")
}
