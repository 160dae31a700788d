use std::sync::Arc;

use arrow_buffer::i256;
use connector_api::{
    Barrier, BarrierKind, ChangeBatch, ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Identity, NextOffsets, Op, OrderKey,
    Rows, SinkInput, SourceInfo, TableName, TableSchema,
};

/// A value of any column type.
#[derive(Debug, Clone, PartialEq)]
pub enum V {
    Null,
    Unchanged,
    Bool(bool),
    /// Any integer, date, time, timestamp or duration.
    Int(i64),
    Float(f64),
    Decimal(i128),
    /// Of more than 38 digits: the unscaled number.
    Decimal256(String),
    Text(String),
    Bytes(Vec<u8>),
    Interval(i32, i32, i64),
    Uuid([u8; 16]),
    List(Vec<V>),
}

pub fn text(value: &str) -> V {
    V::Text(value.into())
}

/// A schema in `public`: columns by name, type and type at the source; the first `key` of them are the key.
pub fn schema_of(table: &str, columns: &[(&str, ColumnType, &str)], key: usize) -> Arc<TableSchema> {
    let columns = columns
        .iter()
        .map(|(name, kind, source_type)| Column { name: (*name).into(), kind: kind.clone(), source_type: (*source_type).into() })
        .collect();
    Arc::new(TableSchema::new(TableName::new("public", table), columns, (0..key).collect(), Identity::Key))
}

/// `id` (the key), `a` and `b`.
pub fn simple(table: &str) -> Arc<TableSchema> {
    schema_of(table, &[("id", ColumnType::Int32, "integer"), ("a", ColumnType::Text, "text"), ("b", ColumnType::Text, "text")], 1)
}

/// The same table with whole old rows in its changes: PostgreSQL's `REPLICA IDENTITY FULL`.
pub fn with_old_rows(schema: &TableSchema) -> Arc<TableSchema> {
    Arc::new(TableSchema::new(schema.table().clone(), schema.columns().to_vec(), schema.key().to_vec(), Identity::Full))
}

/// One change: the old row (of which only the key counts) and the new one.
#[derive(Debug, Clone)]
pub struct Change {
    pub op: Op,
    pub before: Option<Vec<V>>,
    pub after: Option<Vec<V>>,
}

pub fn insert(after: Vec<V>) -> Change {
    Change { op: Op::Insert, before: None, after: Some(after) }
}

pub fn update(after: Vec<V>) -> Change {
    Change { op: Op::Update, before: None, after: Some(after) }
}

pub fn delete(before: Vec<V>) -> Change {
    Change { op: Op::Delete, before: Some(before), after: None }
}

pub fn moved(before: Vec<V>, after: Vec<V>) -> Change {
    Change { op: Op::Move, before: Some(before), after: Some(after) }
}

fn append(builder: &mut ColumnBuilder, value: &V) {
    use ColumnBuilder as B;
    match (builder, value) {
        (builder, V::Null | V::Unchanged) => builder.append_null(),
        (B::Bool(b), V::Bool(v)) => b.append_value(*v),
        (B::Int16(b), V::Int(v)) => b.append_value(*v as i16),
        (B::Int32(b), V::Int(v)) => b.append_value(*v as i32),
        (B::Int64(b), V::Int(v)) => b.append_value(*v),
        (B::Date(b), V::Int(v)) => b.append_value(*v as i32),
        (B::Time(b), V::Int(v)) => b.append_value(*v),
        (B::Timestamp(b), V::Int(v)) => b.append_value(*v),
        (B::Duration(b), V::Int(v)) => b.append_value(*v),
        (B::Float32(b), V::Float(v)) => b.append_value(*v as f32),
        (B::Float64(b), V::Float(v)) => b.append_value(*v),
        (B::Decimal(b), V::Decimal(v)) => b.append_value(*v),
        (B::Decimal256(b), V::Decimal256(v)) => b.append_value(i256::from_string(v).unwrap()),
        (B::Text(b), V::Text(v)) => b.append_value(v),
        (B::Bytes(b), V::Bytes(v)) => b.append_value(v),
        (B::Interval(b), V::Interval(months, days, micros)) => b.append_value(*months, *days, *micros),
        (B::Uuid(b), V::Uuid(v)) => b.append_value(v).unwrap(),
        (B::List(b), V::List(items)) => {
            items.iter().for_each(|item| append(b.items(), item));
            b.close().unwrap();
        }
        (builder, value) => panic!("{value:?} is nothing for {builder:?}"),
    }
}

pub fn info() -> Arc<SourceInfo> {
    SourceInfo::new("postgresql", "shop", vec![("txId".into(), ColumnType::Int64)], Some(0))
}

/// The changes as a batch; each with its place in the order of all changes.
pub fn batch_of(schema: &Arc<TableSchema>, changes: &[(u64, Change)]) -> ChangeBatch {
    let mut builder = ChangeBatchBuilder::new(Arc::clone(schema), info());
    for (sequence, change) in changes {
        builder.begin(change.op, OrderKey { sequence: *sequence, ordinal: 0 }, 1_478_267_490_123_456);
        for (image, values) in [(false, &change.before), (true, &change.after)] {
            let image = if image { builder.after() } else { builder.before() };
            match values {
                Some(values) => image.present().iter_mut().zip(values).for_each(|(column, value)| append(column, value)),
                None => image.absent(),
            }
        }
        for (column, value) in change.after.iter().flatten().enumerate() {
            if *value == V::Unchanged {
                builder.mark_unchanged(column);
            }
        }
        let ColumnBuilder::Int64(tx) = &mut builder.source()[0] else { panic!() };
        tx.append_value(42);
    }
    builder.finish().unwrap()
}

/// Changes of partition 0 from an offset on, without gaps; the order follows the offsets.
pub fn rows_from(schema: &Arc<TableSchema>, first_offset: i64, changes: &[Change]) -> SinkInput {
    let numbered: Vec<_> =
        changes.iter().enumerate().map(|(index, change)| (first_offset as u64 + index as u64, change.clone())).collect();
    let next_offset = first_offset + changes.len() as i64;
    let offsets = (first_offset..next_offset).collect();
    SinkInput::Rows(Rows { partition: 0, first_offset, next_offset, offsets, batch: batch_of(schema, &numbered) })
}

/// A barrier at an offset of partition 0.
pub fn barrier(schema: &Arc<TableSchema>, kind: BarrierKind, order: u64, next: NextOffsets) -> SinkInput {
    let change = Change { op: kind.op(), before: None, after: None };
    let batch = batch_of(schema, &[(order, change)]);
    SinkInput::Barrier(Barrier { kind, order: OrderKey { sequence: order, ordinal: 0 }, commit_ts_us: 0, next, batch })
}
