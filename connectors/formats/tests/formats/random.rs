//! Random tables and changes.
use std::sync::Arc;

use arrow_buffer::i256;
use connector_api::{ColumnType, Identity, Op, TableSchema};
use formats::Format;
use proptest::{collection::vec, prelude::*};

use crate::{
    edge_values::{decimal256_limit, edges, scalar_types},
    rows::{Row, Value, check_round_trip, info, table},
};

fn any_type() -> impl Strategy<Value = ColumnType> {
    let scalar = proptest::sample::select(scalar_types());
    prop_oneof![4 => scalar.clone(), 1 => scalar.prop_map(|item| ColumnType::List(Box::new(item)))]
}

fn any_value(kind: &ColumnType) -> BoxedStrategy<Value> {
    let random = match kind {
        ColumnType::Bool => any::<bool>().prop_map(Value::Bool).boxed(),
        ColumnType::Int16 => any::<i16>().prop_map(|v| Value::Int(v.into())).boxed(),
        ColumnType::Int32 | ColumnType::Date => any::<i32>().prop_map(|v| Value::Int(v.into())).boxed(),
        ColumnType::Int64 | ColumnType::Timestamp | ColumnType::TimestampTz | ColumnType::Duration => {
            any::<i64>().prop_map(Value::Int).boxed()
        }
        ColumnType::Time => (0..=86_400_000_000_i64).prop_map(Value::Int).boxed(),
        ColumnType::Float32 => proptest::num::f32::ANY.prop_map(|v| Value::Float32(if v.is_nan() { f32::NAN } else { v })).boxed(),
        ColumnType::Float64 => proptest::num::f64::ANY.prop_map(|v| Value::Float64(if v.is_nan() { f64::NAN } else { v })).boxed(),
        ColumnType::Decimal { precision: precision @ 39.., .. } => {
            let limit = decimal256_limit((*precision).into());
            let any = any::<(u128, i128)>().prop_map(|(low, high)| i256::from_parts(low, high));
            any.prop_map(move |value| Value::Decimal256(value.wrapping_rem(limit))).boxed()
        }
        ColumnType::Decimal { precision, .. } => {
            let limit = 10_i128.pow((*precision).into());
            (1 - limit..limit).prop_map(Value::Decimal).boxed()
        }
        ColumnType::Text | ColumnType::Json => ".{0,20}".prop_map(Value::Text).boxed(),
        ColumnType::Bytes => vec(any::<u8>(), 0..40).prop_map(Value::Bytes).boxed(),
        ColumnType::Interval => any::<(i32, i32, i64)>().prop_map(|(m, d, u)| Value::Interval(m, d, u)).boxed(),
        ColumnType::Uuid => any::<[u8; 16]>().prop_map(Value::Uuid).boxed(),
        ColumnType::List(item) => {
            let item = prop_oneof![4 => any_value(item), 1 => Just(Value::Null)];
            return vec(item, 0..6).prop_map(Value::List).boxed();
        }
    };
    prop_oneof![3 => random, 1 => proptest::sample::select(edges(kind))].boxed()
}

fn any_table() -> impl Strategy<Value = Arc<TableSchema>> {
    let identity = proptest::sample::select(vec![Identity::Key, Identity::Full, Identity::Nothing]);
    (vec(any_type(), 1..9), vec(any::<prop::sample::Index>(), 0..3), identity).prop_map(|(kinds, key, identity)| {
        let mut key: Vec<_> = key.iter().map(|index| index.index(kinds.len())).collect();
        key.dedup();
        table(kinds, &key, identity)
    })
}

fn any_row(schema: Arc<TableSchema>) -> impl Strategy<Value = Row> {
    let image = || {
        let columns = schema.columns().iter().enumerate().map(|(index, column)| {
            let nulls = u32::from(!schema.key().contains(&index));
            prop_oneof![4 => any_value(&column.kind), nulls => Just(Value::Null)].boxed()
        });
        columns.collect::<Vec<_>>()
    };
    let ops = vec![Op::Read, Op::Insert, Op::Update, Op::Update, Op::Move, Op::Delete, Op::Truncate, Op::SnapshotRestart];
    let marks = vec(proptest::bool::weighted(0.2), schema.columns().len());
    let source = (any::<Option<i64>>(), proptest::option::of(".{0,5}"));
    // Rows of one transaction share its time.
    let commit_ts_us = prop_oneof![Just(1_600_000_000_000_001_i64), any::<i64>()];
    (proptest::sample::select(ops), image(), image(), marks, any::<u32>(), commit_ts_us, source).prop_map(
        move |(op, mut before, mut after, marks, ordinal, commit_ts_us, (transaction, origin))| {
            let is_key = |index: usize| schema.key().contains(&index);
            if schema.identity() == Identity::Key {
                before.iter_mut().enumerate().filter(|(index, _)| !is_key(*index)).for_each(|(_, value)| *value = Value::Null);
            }
            let (with_before, with_after) = match op {
                Op::Read | Op::Insert => (false, true),
                Op::Update => (schema.identity() == Identity::Full, true),
                Op::Move => (true, true),
                Op::Delete => (true, false),
                _ => (false, false),
            };
            let mut unchanged = vec![];
            if matches!(op, Op::Update | Op::Move) {
                unchanged.extend((0..marks.len()).filter(|index| marks[*index] && !is_key(*index)));
                unchanged.iter().for_each(|index| after[*index] = Value::Null);
            }
            Row {
                op,
                ordinal,
                commit_ts_us,
                before: with_before.then_some(before),
                after: with_after.then_some(after),
                unchanged,
                source: vec![transaction.map_or(Value::Null, Value::Int), origin.map_or(Value::Null, Value::Text)],
            }
        },
    )
}

pub fn any_changes() -> impl Strategy<Value = (Arc<TableSchema>, Vec<Row>)> {
    any_table().prop_flat_map(|schema| (Just(Arc::clone(&schema)), vec(any_row(schema), 0..12)))
}

proptest! {
    #[test]
    fn avro((schema, rows) in any_changes()) {
        check_round_trip(Format::Avro, &schema, &info(), &rows);
    }

    #[test]
    fn json((schema, rows) in any_changes()) {
        check_round_trip(Format::Json, &schema, &info(), &rows);
    }
}
