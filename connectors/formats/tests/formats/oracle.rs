//! An independent Avro implementation reads what we write, from our schema's text alone, and we read what it writes.
use std::{collections::HashMap, sync::Arc};

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value as Avro, writer::datum::GenericDatumWriter};
use connector_api::{ChangeBatch, ColumnType, Identity, Op, TableSchema};
use formats::{Decoder, Format, MemoryRegistry, SchemaRegistry, key_schema, value_schema};
use proptest::prelude::*;

use crate::{
    edge_values::{edges, scalar_types},
    random::any_changes,
    rows::{CLOCK_US, Row, SEQUENCE, Value, as_read_back, assert_same, batch, encode, info, table},
};

/// What the value must look like to a reader that knows Avro's logical types.
fn expected(kind: &ColumnType, value: &Value) -> Avro {
    match (kind, value) {
        (_, Value::Null) => Avro::Null,
        (ColumnType::Bool, Value::Bool(v)) => Avro::Boolean(*v),
        (ColumnType::Int16 | ColumnType::Int32, Value::Int(v)) => Avro::Int(*v as i32),
        (ColumnType::Int64 | ColumnType::Duration, Value::Int(v)) => Avro::Long(*v),
        (ColumnType::Float32, Value::Float32(v)) => Avro::Float(*v),
        (ColumnType::Float64, Value::Float64(v)) => Avro::Double(*v),
        (ColumnType::Decimal { .. }, Value::Decimal(v)) => Avro::Decimal(v.to_be_bytes().to_vec().into()),
        (ColumnType::Decimal { .. }, Value::Decimal256(v)) => Avro::Decimal(v.to_be_bytes().to_vec().into()),
        (ColumnType::Text | ColumnType::Json, Value::Text(v)) => Avro::String(v.clone()),
        (ColumnType::Bytes, Value::Bytes(v)) => Avro::Bytes(v.clone()),
        (ColumnType::Date, Value::Int(v)) => Avro::Date(*v as i32),
        (ColumnType::Time, Value::Int(v)) => Avro::TimeMicros(*v),
        (ColumnType::Timestamp, Value::Int(v)) => Avro::LocalTimestampMicros(*v),
        (ColumnType::TimestampTz, Value::Int(v)) => Avro::TimestampMicros(*v),
        (ColumnType::Interval, Value::Interval(months, days, micros)) => Avro::Record(vec![
            ("months".into(), Avro::Int(*months)),
            ("days".into(), Avro::Int(*days)),
            ("micros".into(), Avro::Long(*micros)),
        ]),
        (ColumnType::Uuid, Value::Uuid(v)) => Avro::Uuid(apache_avro::Uuid::from_bytes(*v)),
        (ColumnType::List(item), Value::List(items)) => {
            Avro::Array(items.iter().map(|value| union(expected(item, value))).collect())
        }
        (kind, value) => panic!("{value:?} in a column {kind:?}"),
    }
}

/// Reads all of the bytes.
fn read(schema: &Schema, mut bytes: &[u8]) -> Avro {
    let value = GenericDatumReader::builder(schema).build().unwrap().read_value(&mut bytes).unwrap();
    assert!(bytes.is_empty());
    value
}

fn union(value: Avro) -> Avro {
    let branch = u32::from(value != Avro::Null);
    Avro::Union(branch, Box::new(value))
}

/// Our integers in decimals have 16 or 32 bytes here and the fewest possible in the record: both become numbers, to be compared.
fn comparable(value: Avro) -> Avro {
    match value {
        Avro::Decimal(decimal) => {
            let bytes = Vec::<u8>::try_from(decimal).unwrap();
            let fill = if bytes[0] & 0x80 == 0 { 0 } else { 0xff };
            Avro::Fixed(32, [vec![fill; 32 - bytes.len()], bytes].concat())
        }
        // NaN is not equal to itself.
        Avro::Float(v) => Avro::Fixed(4, v.to_bits().to_be_bytes().into()),
        Avro::Double(v) => Avro::Fixed(8, v.to_bits().to_be_bytes().into()),
        Avro::Union(branch, value) => Avro::Union(branch, Box::new(comparable(*value))),
        Avro::Array(items) => Avro::Array(items.into_iter().map(comparable).collect()),
        Avro::Record(fields) => Avro::Record(fields.into_iter().map(|(name, value)| (name, comparable(value))).collect()),
        other => other,
    }
}

fn image(schema: &TableSchema, values: Option<&Vec<Value>>) -> Avro {
    let Some(values) = values else { return union(Avro::Null) };
    let columns = schema.columns().iter().zip(values).enumerate().map(|(index, (column, value))| {
        let value = expected(&column.kind, value);
        let required = schema.identity() == Identity::Key && schema.key().contains(&index);
        (column.name.clone(), if required { value } else { union(value) })
    });
    union(Avro::Record(columns.collect()))
}

/// Encodes, and checks each record with the other implementation; decodes what that one makes of it.
fn check(schema: &Arc<TableSchema>, rows: &[Row]) {
    let (info, registry) = (info(), Arc::new(MemoryRegistry::default()));
    let text = value_schema("shop.public.t", schema, &info);
    let value_schema = Schema::parse_str(&text).unwrap();
    let key_schema = key_schema("shop.public.t", schema).map(|text| Schema::parse_str(&text).unwrap());
    let sent = batch(schema, &info, rows);
    let records = encode(Format::Avro, &sent, false, &*registry).unwrap();
    let rows = as_read_back(rows);
    assert_eq!(records.len(), rows.len());
    let mut decoder = Decoder::new(Arc::clone(&registry) as Arc<dyn SchemaRegistry>);
    for (offset, (record, row)) in records.iter().zip(&rows).enumerate() {
        let value = record.value.as_ref().unwrap();
        let (header, body) = value.split_at(5);
        assert_eq!(header[0], 0);
        let id = u32::from_be_bytes(header[1..].try_into().unwrap());
        assert_eq!(registry.schema(id).unwrap().as_deref(), Some(text.as_str()));

        let event = read(&value_schema, body);
        let Avro::Record(fields) = event.clone() else { panic!() };
        let fields: HashMap<_, _> = fields.into_iter().map(|(name, value)| (name, comparable(value))).collect();
        assert_eq!(fields["before"], comparable(image(schema, row.before.as_ref())));
        assert_eq!(fields["after"], comparable(image(schema, row.after.as_ref())));
        assert_eq!(fields["op"], Avro::String(char::from(row.op.letter()).into()));
        assert_eq!(fields["ts_us"], union(Avro::Long(CLOCK_US)));
        assert_eq!(
            fields["order"],
            union(Avro::Record(vec![
                ("sequence".into(), Avro::Long(SEQUENCE as i64)),
                ("ordinal".into(), Avro::Int(row.ordinal as i32))
            ]))
        );
        let unchanged: Vec<_> = row.unchanged.iter().map(|index| Avro::String(schema.columns()[*index].name.clone())).collect();
        let unchanged = if unchanged.is_empty() { Avro::Null } else { Avro::Array(unchanged) };
        assert_eq!(fields["unchanged"], union(unchanged));
        let text = |text: &str| Avro::String(text.into());
        let nanos = row.commit_ts_us.checked_mul(1000).map_or(Avro::Null, Avro::Long);
        let source = [
            ("version", text(env!("CARGO_PKG_VERSION"))),
            ("connector", text("postgresql")),
            ("name", text("shop")),
            ("ts_ms", Avro::Long(row.commit_ts_us.div_euclid(1000))),
            ("snapshot", Avro::Union(0, Box::new(text(if row.op == Op::Read { "true" } else { "false" })))),
            ("db", text("db")),
            ("sequence", union(Avro::Null)),
            ("ts_us", union(Avro::Long(row.commit_ts_us))),
            ("ts_ns", union(nanos)),
            ("schema", text("public")),
            ("table", text("t")),
            ("txId", union(expected(&ColumnType::Int64, &row.source[0]))),
            ("origin", union(expected(&ColumnType::Text, &row.source[1]))),
        ];
        assert_eq!(fields["source"], Avro::Record(source.map(|(name, value)| (name.into(), value)).into()));
        check_key(key_schema.as_ref(), record.key.as_deref(), schema, row);

        // And the other way.
        let written =
            [header, &GenericDatumWriter::builder(&value_schema).build().unwrap().write_value_to_vec(event).unwrap()].concat();
        let headers = record.headers.iter().map(|(name, value)| (*name, value.as_slice()));
        decoder.push(offset as i64, None, Some(&written), headers).unwrap();
    }
    let decoded = decoder.finish().unwrap();
    let mut expected = batch(schema, &info, &rows);
    expected.orders.iter_mut().for_each(|order| order.sequence = SEQUENCE);
    let parts: Vec<&ChangeBatch> = decoded.iter().map(|decoded| &decoded.batch).collect();
    match parts[..] {
        [] => assert!(rows.is_empty()),
        [part] => assert_same(part, &expected),
        _ => panic!("{} batches", parts.len()),
    }
}

fn check_key(schema: Option<&Schema>, key: Option<&[u8]>, table: &TableSchema, row: &Row) {
    let image = if matches!(row.op, Op::Delete | Op::MoveOut) { &row.before } else { &row.after };
    let (Some(schema), Some(image), false) = (schema, image, table.key().is_empty()) else {
        return assert_eq!(key, None);
    };
    let Avro::Record(fields) = read(schema, &key.unwrap()[5..]) else { panic!() };
    let values: Vec<_> = fields.into_iter().map(|(_, value)| comparable(value)).collect();
    let of = |index: &usize| comparable(expected(&table.columns()[*index].kind, &image[*index]));
    assert_eq!(values, table.key().iter().map(of).collect::<Vec<_>>());
}

#[test]
fn every_type() {
    for scalar in scalar_types() {
        for kind in [scalar.clone(), ColumnType::List(Box::new(scalar))] {
            let schema = table([ColumnType::Int64, kind.clone()], &[0], Identity::Key);
            let rows: Vec<_> = [Value::Null]
                .into_iter()
                .chain(edges(&kind))
                .map(|value| Row::new(Op::Insert, None, Some(vec![Value::Int(7), value])))
                .collect();
            check(&schema, &rows);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn random_changes((schema, rows) in any_changes()) {
        check(&schema, &rows);
    }
}
