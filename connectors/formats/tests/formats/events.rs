//! Which records a change becomes, and how they look.
use std::sync::Arc;

use arrow_buffer::i256;
use connector_api::{Column, ColumnType, Identity, Op, OrderKey, SourceInfo, TableName, TableSchema};
use formats::{Decoder, Encoder, Format, FormatError, MemoryRegistry, RecordRef, SchemaRegistry, read_json};

use crate::{
    edge_values::decimal256_limit,
    rows::{Record, Row, Value, batch, encode, info, push, rows_of, table},
};

fn users() -> Arc<TableSchema> {
    table([ColumnType::Int32, ColumnType::Text], &[0], Identity::Key)
}

fn user(id: i64, name: &str) -> Option<Vec<Value>> {
    Some(vec![Value::Int(id), Value::Text(name.into())])
}

fn user_key(id: i64) -> Option<Vec<Value>> {
    Some(vec![Value::Int(id), Value::Null])
}

fn names(record: &Record) -> Vec<(&str, &str)> {
    let headers = record.headers.iter().filter(|(name, _)| *name != "schema");
    headers.map(|(name, value)| (*name, std::str::from_utf8(value).unwrap())).collect()
}

#[test]
fn a_move_is_two_records_and_a_delete_may_have_a_tombstone() {
    let mut moved = Row::new(Op::Move, user_key(1), Some(vec![Value::Int(2), Value::Null]));
    moved.ordinal = 5;
    moved.unchanged = vec![1];
    let rows = [
        Row::new(Op::Insert, None, user(1, "a")),
        moved,
        Row::new(Op::Delete, user_key(2), None),
        Row::new(Op::Truncate, None, None),
        Row::new(Op::SnapshotRestart, None, None),
    ];
    let batch = batch(&users(), &info(), &rows);
    for format in [Format::Avro, Format::Json] {
        let registry = MemoryRegistry::default();
        for tombstones in [false, true] {
            let records = encode(format, &batch, tombstones, &registry).unwrap();
            let shape: Vec<_> = records
                .iter()
                .map(|record| (record.order.ordinal, names(record), record.value.is_some(), record.barrier))
                .collect();
            let mut expected = vec![
                (0, vec![], true, false),
                (5, vec![("move", "out"), ("partial", "1")], true, false),
                (5, vec![("partial", "1")], false, false),
                (5, vec![("move", "in"), ("partial", "1")], true, false),
                (0, vec![], true, false),
                (0, vec![], false, false),
                (0, vec![], true, true),
                (0, vec![], true, true),
            ];
            expected.retain(|(_, _, has_value, _)| tombstones || *has_value);
            assert_eq!(shape, expected);
            assert!(records.iter().all(|record| record.order.sequence == 42));
            assert!(records.iter().all(|record| record.barrier == record.key.is_none()));
            let keys: Vec<_> =
                records.iter().filter(|record| record.value.is_some()).map(|r| (r.key.clone(), &r.key_body)).collect();
            let key_of = |id: u8| match format {
                Format::Avro => (vec![0, 0, 0, 0, 1, id * 2], vec![id * 2]),
                Format::Json => (format!(r#"{{"c0":{id}}}"#).into_bytes(), vec![b'0' + id]),
            };
            let [one, two] = [1, 2].map(key_of);
            let expected = [&one, &one, &two, &two].map(|(key, body)| (Some(key.clone()), body));
            assert_eq!(keys[..4], expected);
            assert!(keys[4..].iter().all(|(key, body)| key.is_none() && body.is_empty()));
        }
    }
}

#[test]
fn json_is_debeziums_payload() {
    let column = |name: &str, kind| Column { name: name.into(), kind, source_type: String::new() };
    let columns = vec![
        column("id", ColumnType::Int64),
        column("full \"name\"", ColumnType::Text),
        column("price", ColumnType::Decimal { precision: 12, scale: 2 }),
        column("at", ColumnType::TimestampTz),
        column("wide", ColumnType::Decimal { precision: 65, scale: 30 }),
        column("took", ColumnType::Duration),
        column("every", ColumnType::Interval),
        column("ratio", ColumnType::Float64),
        column("raw", ColumnType::Bytes),
        column("tags", ColumnType::List(Box::new(ColumnType::Text))),
        column("big", ColumnType::Text),
    ];
    let schema = Arc::new(TableSchema::new(TableName::new("public", "t"), columns, vec![0], Identity::Key));
    let mut row = Row::new(
        Op::Update,
        None,
        Some(vec![
            Value::Int(9_007_199_254_740_993),
            Value::Text("a\n\"b\"".into()),
            Value::Decimal(-5),
            Value::Int(1_478_260_290_123_456),
            Value::Decimal256(decimal256_limit(65).wrapping_neg().wrapping_add(i256::from_i128(1))),
            Value::Int(-3_020_399_999_999),
            Value::Interval(14, 3, 14_706_780_000),
            Value::Float64(f64::NAN),
            Value::Bytes(vec![0, 1, 2]),
            Value::List(vec![Value::Text("x".into()), Value::Null]),
            Value::Null,
        ]),
    );
    row.unchanged = vec![10];
    row.ordinal = 3;
    let registry = Arc::new(MemoryRegistry::default());
    let records = encode(Format::Json, &batch(&schema, &info(), &[row]), false, &*registry).unwrap();
    let value = std::str::from_utf8(records[0].value.as_ref().unwrap()).unwrap();
    let image = concat!(
        r#"{"id":9007199254740993,"full \"name\"":"a\n\"b\"","price":"-0.05","at":"2016-11-04T11:51:30.123456Z","#,
        r#""wide":"-99999999999999999999999999999999999.999999999999999999999999999999","took":-3020399999999,"#,
        r#""every":"P1Y2M3DT4H5M6.78S","ratio":"NaN","raw":"AAEC","tags":["x",null],"big":null}"#,
    );
    let expected = format!(
        concat!(
            r#"{{"before":null,"after":{},"source":{{"version":"{}","connector":"postgresql","name":"shop","#,
            r#""ts_ms":1600000000000,"snapshot":"false","db":"db","sequence":null,"ts_us":1600000000000001,"ts_ns":1600000000000001000,"#,
            r#""schema":"public","table":"t","txId":77,"origin":null}},"transaction":null,"op":"u","#,
            r#""ts_ms":1700000000123,"ts_us":1700000000123456,"ts_ns":1700000000123456000,"unchanged":["big"],"#,
            r#""order":{{"sequence":42,"ordinal":3}}}}"#,
        ),
        image,
        env!("CARGO_PKG_VERSION"),
    );
    assert_eq!(value, expected);
    assert_eq!(records[0].headers[0], ("schema", 1_u32.to_be_bytes().to_vec()));

    // The same for people, from the batch.
    let mut decoder = Decoder::new(Arc::clone(&registry) as Arc<dyn SchemaRegistry>);
    push(&mut decoder, 0, &records[0]).unwrap();
    let decoded = decoder.finish().unwrap();
    let shown = format!(
        concat!(
            r#"{{"before":null,"after":{},"source":{{"connector":"postgresql","db":"db","schema":"public","table":"t","#,
            r#""ts_us":1600000000000001,"txId":77,"origin":null}},"op":"u","unchanged":["big"],"order":{{"sequence":42,"ordinal":3}}}}"#,
        ),
        image
    );
    assert_eq!(read_json(&decoded[0].batch, 0), shown);
    assert_eq!(read_json(&decoded[0].batch, 1), "null");
}

#[test]
fn json_of_others_is_read_in_any_order() {
    let registry = Arc::new(MemoryRegistry::default());
    let rows = [Row::new(Op::Insert, None, user(7, "x"))];
    let mut records = encode(Format::Json, &batch(&users(), &info(), &rows), false, &*registry).unwrap();
    let value = r#" { "op" : "c", "order" : { "ordinal" : 3, "sequence" : 1 }, "extra" : [ { "a" : 1 } ],
        "source" : { "ts_ms" : 5, "origin" : "o", "more" : {} }, "after" : { "c1" : null, "c0" : 7 } } "#;
    records[0].value = Some(value.into());
    let mut decoder = Decoder::new(registry as Arc<dyn SchemaRegistry>);
    push(&mut decoder, 4, &records[0]).unwrap();
    let decoded = decoder.finish().unwrap();
    let shown = concat!(
        r#"{"before":null,"after":{"c0":7,"c1":null},"source":{"connector":"postgresql","db":"db","schema":"public","table":"t","#,
        r#""ts_us":5000,"txId":null,"origin":"o"},"op":"c","unchanged":null,"order":{"sequence":1,"ordinal":3}}"#,
    );
    assert_eq!(read_json(&decoded[0].batch, 0), shown);
}

#[test]
fn names_that_avro_does_not_allow_come_back() {
    let column = |name: &str| Column { name: name.into(), kind: ColumnType::Int32, source_type: "integer".into() };
    let columns = ["a b", "a_b", "1", "", "ž", "before"].map(column).to_vec();
    let schema = Arc::new(TableSchema::new(TableName::new("my schema", "a.b"), columns, vec![0, 4], Identity::Key));
    let info = SourceInfo::new("my-source", "d", vec![("table".into(), ColumnType::Text), ("x y".into(), ColumnType::Int64)], None);
    let image = Some((0..6).map(Value::Int).collect());
    let mut row = Row::new(Op::Insert, None, image);
    row.source = vec![Value::Text("t".into()), Value::Int(5)];
    for format in [Format::Avro, Format::Json] {
        crate::rows::check_round_trip(format, &schema, &info, std::slice::from_ref(&row));
    }
    for text in [formats::value_schema("p.my-_20schema.a-_2Eb", &schema, &info), formats::key_schema("1.", &schema).unwrap()] {
        apache_avro::Schema::parse_str(&text).unwrap();
    }
}

/// What rows have in common with the row before is not encoded again, wherever that row ended up.
#[test]
fn rows_of_a_batch_are_encoded_as_each_by_itself() {
    let columns =
        [("gtid", ColumnType::Text), ("file", ColumnType::Text), ("position", ColumnType::Int64), ("row", ColumnType::Int32)];
    let info = SourceInfo::new("test", "db", columns.map(|(name, kind)| (name.to_owned(), kind)).to_vec(), None);
    let gtid = |row: usize| [Value::Null, Value::Text("a:1".into()), Value::Text("a:2".into())][row / 7 % 3].clone();
    let rows = |gtid: &dyn Fn(usize) -> Value, gone: usize| -> Vec<Row> {
        (0..80)
            .map(|row| {
                // Every third row has no record of its own, and between these there are some in a row.
                let op = match row {
                    _ if row % 3 == 1 || row < gone => Op::MoveOut,
                    _ if row % 5 == 0 => Op::Move,
                    _ if row % 8 < 4 => Op::Read,
                    _ => Op::Insert,
                };
                let before = matches!(op, Op::Move | Op::MoveOut).then(|| user(row as i64, "b")).flatten();
                let after = (op != Op::MoveOut).then(|| user(row as i64 + 100, "x")).flatten();
                let source = vec![
                    gtid(row),
                    Value::Text(format!("binlog.{}", row / 20)),
                    Value::Int(row as i64 / 4),
                    Value::Int(row as i64 % 4 / 2),
                ];
                Row { source, commit_ts_us: row as i64 / 30, ordinal: row as u32, ..Row::new(op, before, after) }
            })
            .collect()
    };
    let registry = MemoryRegistry::default();
    for format in [Format::Avro, Format::Json] {
        let mut encoder = Encoder::new(format, "shop.public.t", "shop");
        let without_gtids = |_: usize| Value::Null;
        for rows in [rows(&gtid, 0), rows(&gtid, 5), rows(&without_gtids, 5), rows(&without_gtids, 0)] {
            let whole = batch(&users(), &info, &rows);
            let mut found = Vec::new();
            let mut sink = |record: RecordRef<'_>| found.push(record.value.map(<[u8]>::to_vec));
            encoder.encode(&whole, crate::rows::SEQUENCE, crate::rows::CLOCK_US, true, &registry, &mut sink).unwrap();
            let alone = (0..rows.len()).flat_map(|row| encode(format, &whole.slice(row, 1), true, &registry).unwrap());
            let alone: Vec<_> = alone.map(|record| record.value).collect();
            assert_eq!(found, alone);
        }
    }
}

#[test]
fn a_new_schema_begins_a_new_batch() {
    let registry = Arc::new(MemoryRegistry::default());
    let other = table([ColumnType::Int64, ColumnType::Text, ColumnType::Bool], &[0], Identity::Key);
    let mut encoder = Encoder::new(Format::Avro, "shop.public.t", "shop");
    let mut decoder = Decoder::new(Arc::clone(&registry) as Arc<dyn SchemaRegistry>);
    let first = batch(&users(), &info(), &[Row::new(Op::Insert, None, user(7, "x"))]);
    let third = Row::new(Op::Insert, None, Some(vec![Value::Int(7), Value::Null, Value::Bool(true)]));
    let second = batch(&other, &info(), &[third.clone(), third]);
    let (mut offset, mut bodies) = (10, Vec::new());
    for batch in [&first, &second, &first, &first] {
        let mut sink = |record: RecordRef<'_>| {
            bodies.push(record.key_body.to_vec());
            decoder.push(offset, record.key, record.value, record.headers.iter().copied()).unwrap();
            offset += 1;
        };
        encoder.encode(batch, 1, 0, false, &*registry, &mut sink).unwrap();
    }
    // An integer that became wider is the same key.
    assert!(bodies.iter().all(|body| *body == [14]));
    assert_eq!((decoder.rows(), decoder.next_offset()), (5, Some(15)));
    assert!(decoder.bytes() > 500);
    let offsets: Vec<_> = decoder.finish().unwrap().into_iter().map(|decoded| decoded.offsets).collect();
    assert_eq!(offsets, [vec![10], vec![11, 12], vec![13, 14]]);
    assert_eq!((decoder.rows(), decoder.bytes()), (0, 0));
}

#[test]
fn a_renamed_key_column_is_the_same_key() {
    let column = |name: &str, kind| Column { name: name.into(), kind, source_type: String::new() };
    let registry = MemoryRegistry::default();
    for format in [Format::Avro, Format::Json] {
        let bodies = ["id", "number"].map(|name| {
            let columns = vec![column(name, ColumnType::Int32), column("part", ColumnType::Text)];
            let schema = Arc::new(TableSchema::new(TableName::new("public", "t"), columns, vec![0, 1], Identity::Key));
            let rows = [(1, "12"), (11, "2"), (1, ",12")].map(|(id, part)| Row::new(Op::Insert, None, user(id, part)));
            let records = encode(format, &batch(&schema, &info(), &rows), false, &registry).unwrap();
            records.into_iter().map(|record| record.key_body).collect::<Vec<_>>()
        });
        assert_eq!(bodies[0], bodies[1]);
        assert!(bodies[0][0] != bodies[0][1] && bodies[0][1] != bodies[0][2] && bodies[0][2] != bodies[0][0]);
    }
}

#[test]
fn changes_that_cannot_be_records_are_errors() {
    let registry = MemoryRegistry::default();
    for format in [Format::Avro, Format::Json] {
        for (row, message) in [
            (
                Row::new(Op::Insert, None, Some(vec![Value::Null, Value::Null])),
                "table public.t: a change lacks a value in key column `c0`; \
                 give the table a replica identity whose columns are NOT NULL",
            ),
            (Row::new(Op::Update, None, None), "table public.t: a change lacks its after image"),
            (Row::new(Op::Delete, None, None), "table public.t: a change lacks its before image"),
            (Row::new(Op::Move, None, user(1, "x")), "table public.t: a change lacks its before image"),
        ] {
            let error = encode(format, &batch(&users(), &info(), &[row]), false, &registry).err().unwrap();
            assert_eq!(error.to_string(), message);
        }
        // Arrays of another table.
        let mut wrong = batch(&users(), &info(), &[Row::new(Op::Insert, None, user(1, "x"))]);
        wrong.schema = table([ColumnType::Int32, ColumnType::Uuid], &[0], Identity::Key);
        let error = encode(format, &wrong, false, &registry).err().unwrap();
        assert_eq!(error.to_string(), "table public.t: column `c1` holds an array that does not fit its declared type");
    }
}

#[test]
fn a_registry_that_fails_is_an_error_to_try_again_after() {
    struct Broken;
    impl SchemaRegistry for Broken {
        fn register(&self, _: &str, _: &str) -> Result<u32, formats::RegistryError> {
            Err(formats::RegistryError("disk full".into()))
        }
        fn schema(&self, _: u32) -> Result<Option<Arc<str>>, formats::RegistryError> {
            Err(formats::RegistryError("disk full".into()))
        }
    }
    let rows = [Row::new(Op::Insert, None, user(1, "x"))];
    let error = encode(Format::Avro, &batch(&users(), &info(), &rows), false, &Broken).err().unwrap();
    assert_eq!(connector_api::Recoverable::recovery(&error), connector_api::Recovery::Retry);
    assert!(matches!(error, FormatError::Registry(_)));

    let records = encode(Format::Avro, &batch(&users(), &info(), &rows), false, &MemoryRegistry::default()).unwrap();
    let mut decoder = Decoder::new(Arc::new(Broken));
    assert!(matches!(push(&mut decoder, 0, &records[0]), Err(FormatError::Registry(_))));
    assert_eq!(rows_of(&decoder.finish().unwrap()), 0);
}

#[test]
fn order_keys_are_those_of_the_commit() {
    let registry = Arc::new(MemoryRegistry::default());
    let mut row = Row::new(Op::Insert, None, user(1, "x"));
    row.ordinal = u32::MAX;
    for format in [Format::Avro, Format::Json] {
        let mut encoder = Encoder::new(format, "t", "p");
        let mut decoder = Decoder::new(Arc::clone(&registry) as Arc<dyn SchemaRegistry>);
        let mut sink = |record: RecordRef<'_>| {
            decoder.push(0, record.key, record.value, record.headers.iter().copied()).unwrap();
        };
        let batch = batch(&users(), &info(), std::slice::from_ref(&row));
        encoder.encode(&batch, u64::MAX, i64::MAX, false, &*registry, &mut sink).unwrap();
        let decoded = decoder.finish().unwrap();
        assert_eq!(decoded[0].batch.orders, [OrderKey { sequence: u64::MAX, ordinal: u32::MAX }]);
    }
}
