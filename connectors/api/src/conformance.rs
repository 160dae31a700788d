//! What every sink must do, as checks that run against a real target.
//!
//! A sink's tests implement [`Fixture`] for their target and call [`run`]. The tables have a key `id` (bigint) and a `name` (text); one has a
//! column `extra` (bigint) later, another a column of each type besides.

use std::{collections::BTreeMap, sync::Arc};

use arrow_buffer::i256;
use async_trait::async_trait;

use crate::{
    Barrier, BarrierKind, ChangeBatch, ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Identity, NextOffsets, Offset, Op,
    OpenedSink, OrderKey, Rows, SinkInput, SourceInfo, TableName, TableSchema, Target, TopicId, TopicInfo,
};

/// The current rows of a table: key → (`name`, and `extra` once the schema has it).
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
    a_change_of_key(fixture).await;
    a_truncate(fixture).await;
    every_type(fixture).await;
}

async fn the_same_rows_twice(fixture: &dyn Fixture) {
    let topic = topic("twice", schema("twice", &[]));
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
    let topic = topic("crash", schema("crash", &[]));
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
    let topic = topic("empty", schema("empty", &[]));
    let mut opened = open(fixture, &topic, &NextOffsets::new()).await;
    let flushed = opened.sink.flush().await.expect("a flush of nothing is allowed");
    assert!(flushed.next.get(&0).is_none_or(|next| *next == 0), "a flush of nothing moves nothing");
}

async fn a_schema_change(fixture: &dyn Fixture) {
    let old = topic("evolves", schema("evolves", &[]));
    let mut opened = open(fixture, &old, &NextOffsets::new()).await;
    write(&mut opened, &old, 0, &[(Op::Insert, 1, "a")]).await;
    flush(&mut opened).await;
    let new = TopicInfo { schema: schema("evolves", &[EXTRA]), ..old };
    write(&mut opened, &new, 1, &[(Op::Insert, 2, "b")]).await;
    assert_eq!(flush(&mut opened).await, 2);
    let expected = Table::from([(1, (Some("a".into()), None)), (2, (Some("b".into()), Some(2)))]);
    assert_eq!(fixture.table(&new).await, expected, "an added column holds its values, and NULL in older rows");
}

/// Both halves of the change, as they come from the log; the name is not sent again.
async fn a_change_of_key(fixture: &dyn Fixture) {
    let topic = topic("moves", schema("moves", &[]));
    let mut opened = open(fixture, &topic, &NextOffsets::new()).await;
    write(&mut opened, &topic, 0, &[(Op::Insert, 1, "a"), (Op::Insert, 2, "b"), (Op::Delete, 2, "")]).await;
    flush(&mut opened).await;
    let mut builder = ChangeBatchBuilder::new(Arc::clone(&topic.schema), info());
    for (op, before, after) in [(Op::MoveOut, 1, None), (Op::Move, 1, Some(2))] {
        builder.begin(op, OrderKey { sequence: 3, ordinal: 0 }, COMMIT_TS_US);
        append(builder.before().present(), before, None);
        match after {
            Some(id) => append(builder.after().present(), id, None),
            None => builder.after().absent(),
        }
        append(builder.source(), 3, None);
    }
    builder.mark_unchanged(1);
    hand_over(&mut opened, 3, builder.finish().expect("rows that fit the schema")).await;
    assert_eq!(flush(&mut opened).await, 5);
    let expected = Table::from([(2, (Some("a".into()), None))]);
    assert_eq!(fixture.table(&topic).await, expected, "the row has its new key and the name it had");
}

async fn a_truncate(fixture: &dyn Fixture) {
    let topic = topic("truncated", schema("truncated", &[]));
    let mut opened = open(fixture, &topic, &NextOffsets::new()).await;
    write(&mut opened, &topic, 0, &[(Op::Insert, 1, "a"), (Op::Insert, 2, "b")]).await;
    flush(&mut opened).await;
    let mut builder = ChangeBatchBuilder::new(Arc::clone(&topic.schema), info());
    let order = OrderKey { sequence: 2, ordinal: 0 };
    builder.begin(Op::Truncate, order, COMMIT_TS_US);
    builder.before().absent();
    builder.after().absent();
    append(builder.source(), 2, None);
    let batch = builder.finish().expect("a row without images");
    let next = NextOffsets::from([(0, 3)]);
    let barrier = Barrier { kind: BarrierKind::Truncate, order, commit_ts_us: COMMIT_TS_US, next, batch };
    opened.sink.write(SinkInput::Barrier(barrier)).await.expect("write a barrier");
    write(&mut opened, &topic, 3, &[(Op::Insert, 2, "c")]).await;
    assert_eq!(flush(&mut opened).await, 4);
    assert_eq!(
        fixture.table(&topic).await,
        Table::from([(2, (Some("c".into()), None))]),
        "only what came after the truncate is left"
    );
}

/// Rows with a value and with NULL in a column of each type, and of lists of each.
async fn every_type(fixture: &dyn Fixture) {
    let decimal = |precision, scale| ColumnType::Decimal { precision, scale };
    let scalars = [
        (ColumnType::Bool, "boolean"),
        (ColumnType::Int16, "smallint"),
        (ColumnType::Int32, "integer"),
        (ColumnType::Float32, "real"),
        (ColumnType::Float64, "double precision"),
        (decimal(9, 2), "numeric(9,2)"),
        (decimal(38, 38), "numeric(38,38)"),
        (decimal(65, 30), "numeric(65,30)"),
        (decimal(76, 0), "numeric(76,0)"),
        (ColumnType::Json, "json"),
        (ColumnType::Bytes, "bytea"),
        (ColumnType::Date, "date"),
        (ColumnType::Time, "time without time zone"),
        (ColumnType::Timestamp, "timestamp without time zone"),
        (ColumnType::TimestampTz, "timestamp with time zone"),
        (ColumnType::Duration, "time(6)"),
        (ColumnType::Interval, "interval"),
        (ColumnType::Uuid, "uuid"),
    ];
    let columns: Vec<_> = scalars
        .into_iter()
        .flat_map(|(kind, source_type)| {
            let list = (ColumnType::List(Box::new(kind.clone())), format!("{source_type}[]"));
            [(kind, source_type.to_owned()), list]
        })
        .enumerate()
        .map(|(index, (kind, source_type))| Column { name: format!("c{index}"), kind, source_type })
        .collect();
    let schema = table("types", columns);
    let topic = topic("types", Arc::clone(&schema));
    let mut opened = open(fixture, &topic, &NextOffsets::new()).await;
    let mut builder = ChangeBatchBuilder::new(schema, info());
    for (row, is_null) in [false, true, false].into_iter().enumerate() {
        builder.begin(Op::Insert, OrderKey { sequence: row as u64, ordinal: 0 }, COMMIT_TS_US);
        builder.before().absent();
        let columns = builder.after().present();
        let (own, typed) = columns.split_at_mut(2);
        append(own, row as i64, Some("named"));
        typed.iter_mut().for_each(|column| if is_null { column.append_null() } else { append_value(column) });
        append(builder.source(), row as i64, None);
    }
    hand_over(&mut opened, 0, builder.finish().expect("rows that fit the schema")).await;
    assert_eq!(flush(&mut opened).await, 3);
    write(&mut opened, &topic, 3, &[(Op::Update, 0, "again"), (Op::Delete, 2, "")]).await;
    assert_eq!(flush(&mut opened).await, 5);
    let row = |name: &str| (Some(name.to_owned()), None);
    assert_eq!(fixture.table(&topic).await, Table::from([(0, row("again")), (1, row("named"))]), "a row is missing or wrong");
}

/// Commit time of all changes, microseconds since 1970.
const COMMIT_TS_US: i64 = 1_767_225_600_000_000;

/// The column that a table may have beside its own two.
const EXTRA: (&str, ColumnType, &str) = ("extra", ColumnType::Int64, "bigint");

async fn open(fixture: &dyn Fixture, topic: &TopicInfo, reported: &NextOffsets) -> OpenedSink {
    fixture.connect().await.open(topic, reported).await.expect("open")
}

async fn write(opened: &mut OpenedSink, topic: &TopicInfo, first_offset: Offset, rows: &[(Op, i64, &str)]) {
    hand_over(opened, first_offset, batch(&topic.schema, first_offset, rows)).await;
}

async fn hand_over(opened: &mut OpenedSink, first_offset: Offset, batch: ChangeBatch) {
    let next_offset = first_offset + batch.len() as Offset;
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

fn info() -> Arc<SourceInfo> {
    SourceInfo::new("test", "test", vec![("txId".into(), ColumnType::Int64)], Some(0))
}

fn schema(name: &str, more: &[(&str, ColumnType, &str)]) -> Arc<TableSchema> {
    let column = |(name, kind, source_type): &(&str, ColumnType, &str)| Column {
        name: (*name).into(),
        kind: kind.clone(),
        source_type: (*source_type).into(),
    };
    table(name, more.iter().map(column).collect())
}

/// A table of `id`, `name`, and these.
fn table(name: &str, more: Vec<Column>) -> Arc<TableSchema> {
    let column = |name: &str, kind, source_type: &str| Column { name: name.into(), kind, source_type: source_type.into() };
    let mut columns = vec![column("id", ColumnType::Int64, "bigint"), column("name", ColumnType::Text, "text")];
    columns.extend(more);
    Arc::new(TableSchema::new(TableName::new("public", name), columns, vec![0], Identity::Key))
}

/// Changes with the offset as their order.
fn batch(schema: &Arc<TableSchema>, first: Offset, rows: &[(Op, i64, &str)]) -> ChangeBatch {
    let mut builder = ChangeBatchBuilder::new(Arc::clone(schema), info());
    for (offset, (op, id, name)) in (first..).zip(rows) {
        builder.begin(*op, OrderKey { sequence: offset as u64, ordinal: 0 }, COMMIT_TS_US);
        if *op == Op::Delete {
            builder.after().absent();
            append(builder.before().present(), *id, None);
        } else {
            builder.before().absent();
            append(builder.after().present(), *id, Some(name));
        }
        append(builder.source(), offset, None);
    }
    builder.finish().expect("rows that fit the schema")
}

/// Appends a row: all 64-bit integers (the key, `extra`, a transaction) are `id`, the first text is `name`, all else is NULL.
fn append(columns: &mut [ColumnBuilder], id: i64, name: Option<&str>) {
    for (index, column) in columns.iter_mut().enumerate() {
        match (column, name) {
            (ColumnBuilder::Int64(values), _) => values.append_value(id),
            (ColumnBuilder::Text(values), Some(name)) if index == 1 => values.append_value(name),
            (other, _) => other.append_null(),
        }
    }
}

/// Appends a value of the column's type that needs its width.
fn append_value(column: &mut ColumnBuilder) {
    match column {
        ColumnBuilder::Bool(values) => values.append_value(true),
        ColumnBuilder::Int16(values) => values.append_value(i16::MIN),
        ColumnBuilder::Int32(values) => values.append_value(i32::MIN),
        ColumnBuilder::Int64(values) => values.append_value(i64::MIN),
        ColumnBuilder::Float32(values) => values.append_value(3.3),
        ColumnBuilder::Float64(values) => values.append_value(-5e-324),
        ColumnBuilder::Decimal(values) => values.append_value(-999_999_999),
        ColumnBuilder::Decimal256(values) => values.append_value(i256::from_i128(i128::MIN)),
        // JSON is the only text among the types.
        ColumnBuilder::Text(values) => values.append_value(r#"{"a": [1.50, "ž"]}"#),
        ColumnBuilder::Bytes(values) => values.append_value(b"\0\xff"),
        ColumnBuilder::Date(values) => values.append_value(20_454),
        ColumnBuilder::Time(values) => values.append_value(86_399_999_999),
        ColumnBuilder::Timestamp(values) => values.append_value(COMMIT_TS_US + 1),
        ColumnBuilder::Duration(values) => values.append_value(-3_020_398_999_999),
        ColumnBuilder::Interval(values) => values.append_value(-1, 15, -86_399_999_999),
        ColumnBuilder::Uuid(values) => values.append_value([0xa0; 16]).expect("16 bytes"),
        ColumnBuilder::List(list) => {
            append_value(list.items());
            list.items().append_null();
            list.close().expect("a short list");
        }
    }
}
