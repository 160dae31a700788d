//! A plain model of changes, to build batches from and to compare them with.
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StructArray};
use arrow_buffer::i256;
use connector_api::{
    ChangeBatch, ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Identity, Op, OrderKey, SourceInfo, TableName, TableSchema,
};
use formats::{DecodedBatch, Decoder, Encoder, Format, FormatError, MemoryRegistry, RecordRef, SchemaRegistry};

pub const SEQUENCE: u64 = 42;
pub const CLOCK_US: i64 = 1_700_000_000_123_456;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// Every type that is an integer in Arrow.
    Int(i64),
    Float32(f32),
    Float64(f64),
    Decimal(i128),
    Decimal256(i256),
    Text(String),
    Bytes(Vec<u8>),
    Interval(i32, i32, i64),
    Uuid([u8; 16]),
    List(Vec<Value>),
}

#[derive(Debug, Clone)]
pub struct Row {
    pub op: Op,
    pub ordinal: u32,
    pub commit_ts_us: i64,
    pub before: Option<Vec<Value>>,
    pub after: Option<Vec<Value>>,
    pub unchanged: Vec<usize>,
    pub source: Vec<Value>,
}

pub struct Record {
    pub order: OrderKey,
    pub key: Option<Vec<u8>>,
    pub key_body: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub barrier: bool,
}

pub fn table(kinds: impl IntoIterator<Item = ColumnType>, key: &[usize], identity: Identity) -> Arc<TableSchema> {
    let column = |(index, kind)| Column { name: format!("c{index}"), kind, source_type: format!("type {index}") };
    let columns = kinds.into_iter().enumerate().map(column).collect();
    Arc::new(TableSchema::new(TableName::new("public", "t"), columns, key.to_vec(), identity))
}

pub fn info() -> Arc<SourceInfo> {
    SourceInfo::new("postgresql", "db", vec![("txId".into(), ColumnType::Int64), ("origin".into(), ColumnType::Text)], Some(0))
}

impl Row {
    pub fn new(op: Op, before: Option<Vec<Value>>, after: Option<Vec<Value>>) -> Self {
        let source = vec![Value::Int(77), Value::Null];
        Self { op, ordinal: 0, commit_ts_us: 1_600_000_000_000_001, before, after, unchanged: vec![], source }
    }
}

fn append(builder: &mut ColumnBuilder, value: &Value) {
    match (builder, value) {
        (builder, Value::Null) => builder.append_null(),
        (ColumnBuilder::Bool(b), Value::Bool(v)) => b.append_value(*v),
        (ColumnBuilder::Int16(b), Value::Int(v)) => b.append_value((*v).try_into().unwrap()),
        (ColumnBuilder::Int32(b), Value::Int(v)) => b.append_value((*v).try_into().unwrap()),
        (ColumnBuilder::Date(b), Value::Int(v)) => b.append_value((*v).try_into().unwrap()),
        (ColumnBuilder::Int64(b), Value::Int(v)) => b.append_value(*v),
        (ColumnBuilder::Time(b), Value::Int(v)) => b.append_value(*v),
        (ColumnBuilder::Timestamp(b), Value::Int(v)) => b.append_value(*v),
        (ColumnBuilder::Duration(b), Value::Int(v)) => b.append_value(*v),
        (ColumnBuilder::Float32(b), Value::Float32(v)) => b.append_value(*v),
        (ColumnBuilder::Float64(b), Value::Float64(v)) => b.append_value(*v),
        (ColumnBuilder::Decimal(b), Value::Decimal(v)) => b.append_value(*v),
        (ColumnBuilder::Decimal256(b), Value::Decimal256(v)) => b.append_value(*v),
        (ColumnBuilder::Text(b), Value::Text(v)) => b.append_value(v),
        (ColumnBuilder::Bytes(b), Value::Bytes(v)) => b.append_value(v),
        (ColumnBuilder::Interval(b), Value::Interval(months, days, micros)) => b.append_value(*months, *days, *micros),
        (ColumnBuilder::Uuid(b), Value::Uuid(v)) => b.append_value(v).unwrap(),
        (ColumnBuilder::List(b), Value::List(items)) => {
            items.iter().for_each(|item| append(b.items(), item));
            b.close().unwrap();
        }
        (builder, value) => panic!("{value:?} does not go into {builder:?}"),
    }
}

pub fn batch(schema: &Arc<TableSchema>, info: &Arc<SourceInfo>, rows: &[Row]) -> ChangeBatch {
    let mut builder = ChangeBatchBuilder::new(Arc::clone(schema), Arc::clone(info));
    for row in rows {
        builder.begin(row.op, OrderKey { sequence: 0, ordinal: row.ordinal }, row.commit_ts_us);
        for (is_before, image) in [(true, &row.before), (false, &row.after)] {
            let builder = if is_before { builder.before() } else { builder.after() };
            match image {
                None => builder.absent(),
                Some(values) => builder.present().iter_mut().zip(values).for_each(|(column, value)| append(column, value)),
            }
        }
        builder.source().iter_mut().zip(&row.source).for_each(|(column, value)| append(column, value));
        row.unchanged.iter().for_each(|column| builder.mark_unchanged(*column));
    }
    builder.finish().unwrap()
}

pub fn encode(
    format: Format,
    batch: &ChangeBatch,
    tombstones: bool,
    registry: &dyn SchemaRegistry,
) -> Result<Vec<Record>, FormatError> {
    let mut records = Vec::new();
    let mut encoder = Encoder::new(format, "shop.public.t", "shop");
    encoder.encode(batch, SEQUENCE, CLOCK_US, tombstones, registry, &mut |record: RecordRef<'_>| {
        records.push(Record {
            order: record.order,
            key: record.key.map(<[u8]>::to_vec),
            key_body: record.key_body.to_vec(),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(name, value)| (*name, value.to_vec())).collect(),
            barrier: record.barrier,
        });
    })?;
    Ok(records)
}

pub fn push(decoder: &mut Decoder, offset: usize, record: &Record) -> Result<(), FormatError> {
    let headers = record.headers.iter().map(|(name, value)| (*name, value.as_slice()));
    decoder.push(offset as i64, record.key.as_deref(), record.value.as_deref(), headers)
}

/// The two rows that a change of key is read back as.
pub fn as_read_back(rows: &[Row]) -> Vec<Row> {
    rows.iter()
        .flat_map(|row| match row.op {
            Op::Move => vec![Row { op: Op::MoveOut, after: None, unchanged: vec![], ..row.clone() }, row.clone()],
            Op::MoveOut => vec![],
            _ => vec![row.clone()],
        })
        .collect()
}

/// Encodes and decodes; what comes back must be the same, with the same schema.
pub fn check_round_trip(format: Format, schema: &Arc<TableSchema>, info: &Arc<SourceInfo>, rows: &[Row]) {
    let registry = Arc::new(MemoryRegistry::default());
    let batch = batch(schema, info, rows);
    check_decoded(format, &batch, &as_read_back(rows), &registry);
    // A part of a batch has arrays that do not begin at their buffers' start.
    if rows.len() > 2 {
        let (from, count) = (1, rows.len() - 2);
        check_decoded(format, &batch.slice(from, count), &as_read_back(&rows[from..from + count]), &registry);
    }
}

fn check_decoded(format: Format, sent: &ChangeBatch, expected: &[Row], registry: &Arc<MemoryRegistry>) {
    let records = encode(format, sent, true, &**registry).unwrap();
    let mut decoder = Decoder::new(Arc::clone(registry) as Arc<dyn SchemaRegistry>);
    let mut offsets = Vec::new();
    for (offset, record) in records.iter().enumerate() {
        push(&mut decoder, offset * 3, record).unwrap();
        if record.value.is_some() {
            offsets.push(offset as i64 * 3);
        }
    }
    assert_eq!(decoder.rows(), expected.len());
    let decoded = decoder.finish().unwrap();
    assert_eq!(decoder.rows(), 0);
    if expected.is_empty() {
        return assert!(decoded.is_empty());
    }
    let [decoded] = &decoded[..] else { panic!("{} batches", decoded.len()) };
    assert_eq!(decoded.offsets, offsets);
    let mut expected = batch(&sent.schema, &sent.info, expected);
    expected.orders.iter_mut().for_each(|order| order.sequence = SEQUENCE);
    assert_same(&decoded.batch, &expected);
}

pub fn assert_same(left: &ChangeBatch, right: &ChangeBatch) {
    assert_eq!((&left.schema, &left.info), (&right.schema, &right.info));
    assert_eq!((&left.ops, &left.orders, &left.commit_ts_us), (&right.ops, &right.orders, &right.commit_ts_us));
    for row in 0..left.len() {
        for (left, right) in [(&left.before, &right.before), (&left.after, &right.after)] {
            let (left, right) = (image(left.as_ref(), row), image(right.as_ref(), row));
            assert_eq!(left.is_some(), right.is_some(), "row {row}");
            let pairs = left.iter().flatten().zip(right.iter().flatten());
            pairs.enumerate().for_each(|(column, (left, right))| assert_eq!(left, right, "row {row} column {column}"));
        }
        let columns = left.source.columns().iter().zip(right.source.columns());
        columns.for_each(|(left, right)| assert_eq!(&left.slice(row, 1), &right.slice(row, 1), "row {row}"));
        for column in 0..left.schema.columns().len() {
            let contains = |batch: &ChangeBatch| batch.unchanged.as_ref().is_some_and(|set| set.contains(row, column));
            assert_eq!(contains(left), contains(right), "row {row} column {column}");
        }
    }
}

fn image(image: Option<&StructArray>, row: usize) -> Option<Vec<ArrayRef>> {
    let image = image.filter(|image| image.is_valid(row))?;
    Some(image.columns().iter().map(|column| column.slice(row, 1)).collect())
}

/// All batches as one, for tests in which the schema stays the same.
pub fn rows_of(decoded: &[DecodedBatch]) -> usize {
    decoded.iter().map(|decoded| decoded.batch.len()).sum()
}
