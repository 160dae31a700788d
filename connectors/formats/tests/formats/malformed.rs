//! Bytes that are no record: an error that says where, and the records around it are not harmed.
use std::sync::Arc;

use connector_api::{ColumnType, Identity, Op, TableSchema};
use formats::{Decoder, Format, FormatError, MemoryRegistry, SchemaRegistry};
use proptest::{collection::vec, prelude::*};

use crate::{
    edge_values::{edges, scalar_types},
    rows::{Record, Row, batch, encode, info, push, rows_of, table},
};

/// A row of every type and its list.
fn every_type() -> (Arc<TableSchema>, Row) {
    let lists = scalar_types().into_iter().map(|item| ColumnType::List(Box::new(item)));
    let schema = table(scalar_types().into_iter().chain(lists), &[1], Identity::Full);
    let image: Vec<_> = schema.columns().iter().map(|column| edges(&column.kind).swap_remove(1)).collect();
    let mut row = Row::new(Op::Update, Some(image.clone()), Some(image));
    row.unchanged = vec![3, 5];
    (schema, row)
}

fn records(format: Format) -> (Arc<MemoryRegistry>, Vec<Record>) {
    let registry = Arc::new(MemoryRegistry::default());
    let (schema, row) = every_type();
    let records = encode(format, &batch(&schema, &info(), &[row]), false, &*registry).unwrap();
    (registry, records)
}

fn with_value(record: &Record, value: Vec<u8>) -> Record {
    Record { value: Some(value), key: None, key_body: vec![], headers: record.headers.clone(), ..*record }
}

#[test]
fn a_record_cut_anywhere_is_an_error_and_nothing_else() {
    for format in [Format::Avro, Format::Json] {
        let (registry, records) = records(format);
        let value = records[0].value.as_ref().unwrap();
        let mut decoder = Decoder::new(registry as Arc<dyn SchemaRegistry>);
        for length in 0..value.len() {
            push(&mut decoder, 2 * length, &records[0]).unwrap();
            let error = push(&mut decoder, 2 * length + 1, &with_value(&records[0], value[..length].to_vec())).unwrap_err();
            assert!(matches!(error, FormatError::Malformed { .. }), "{error}");
        }
        let decoded = decoder.finish().unwrap();
        assert_eq!(rows_of(&decoded), value.len());
        let offsets: Vec<_> = decoded.iter().flat_map(|decoded| decoded.offsets.iter().copied()).collect();
        assert_eq!(offsets, (0..value.len() as i64).map(|length| 2 * length).collect::<Vec<_>>());
        let first = format!("{:?}", decoded[0].batch.slice(0, 1).after);
        let decoded = decoded.iter().flat_map(|decoded| (0..decoded.batch.len()).map(|row| decoded.batch.slice(row, 1)));
        assert!(decoded.into_iter().all(|row| format!("{:?}", row.after) == first));
    }
}

#[test]
fn messages_say_where() {
    let (registry, records) = records(Format::Avro);
    let mut decoder = Decoder::new(Arc::clone(&registry) as Arc<dyn SchemaRegistry>);
    let mut message = |value: &[u8]| push(&mut decoder, 9, &with_value(&records[0], value.to_vec())).unwrap_err().to_string();
    assert_eq!(message(&[0, 0, 0, 1, 7, 0]), "record at offset 9 names schema 263, which the schema registry does not have");
    assert_eq!(
        message(b"{}"),
        "record at offset 9: it has neither the Avro wire header nor a `schema` header of four bytes (byte 0 of the value)"
    );
    // `before` is there, and its first column, a boolean, is 2.
    let id = &records[0].value.as_ref().unwrap()[..5];
    assert_eq!(
        message(&[id, &[2, 2, 2]].concat()),
        "record at offset 9 of public.t, column `c0`: a boolean is neither 0 nor 1 (byte 8 of the value)"
    );
    let foreign = registry.register("s", r#"{"type":"string"}"#).unwrap();
    assert_eq!(
        message(&[&[0], &foreign.to_be_bytes()[..]].concat()),
        format!("schema {foreign}, named by the record at offset 9, is not a schema of change events that this version can read")
    );
}

#[test]
fn huge_counts_take_no_memory() {
    // The table has no required column, so the first column's list begins behind four bytes: `before`, the image's branch.
    let schema = table([ColumnType::List(Box::new(ColumnType::Int64))], &[], Identity::Full);
    let registry = Arc::new(MemoryRegistry::default());
    let row = Row::new(Op::Insert, None, Some(vec![edges(&schema.columns()[0].kind)[0].clone()]));
    let records = encode(Format::Avro, &batch(&schema, &info(), &[row]), false, &*registry).unwrap();
    let mut decoder = Decoder::new(registry as Arc<dyn SchemaRegistry>);
    for count in [&[0xfe, 0xff, 0xff, 0xff, 0x0f][..], &[0xff; 9], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2]] {
        let value = [&records[0].value.as_ref().unwrap()[..5], &[2, 2], count, &[0; 100]].concat();
        assert!(push(&mut decoder, 0, &with_value(&records[0], value)).is_err());
    }
    assert!(decoder.finish().unwrap().is_empty());
}

/// Pushes good and bad records in turns; the good ones come out, and what is read of the bad ones is a batch like any other.
fn check_survives(format: Format, bad: impl Fn(&[u8]) -> Vec<u8>) {
    let (registry, records) = records(format);
    let bad = bad(records[0].value.as_ref().unwrap());
    let mut decoder = Decoder::new(registry as Arc<dyn SchemaRegistry>);
    let mut rows = 0;
    for offset in 0..3 {
        push(&mut decoder, 2 * offset, &records[0]).unwrap();
        rows += 1 + usize::from(push(&mut decoder, 2 * offset + 1, &with_value(&records[0], bad.clone())).is_ok());
    }
    assert_eq!(decoder.rows(), rows);
    assert_eq!(rows_of(&decoder.finish().unwrap()), rows);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn random_bytes(bytes in vec(any::<u8>(), 0..200)) {
        check_survives(Format::Avro, |good| [&good[..5], &bytes].concat());
        check_survives(Format::Json, |_| [b"{\"after\":", &bytes[..]].concat());
    }

    #[test]
    fn changed_bytes(changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        for format in [Format::Avro, Format::Json] {
            check_survives(format, |good| {
                let mut bytes = good.to_vec();
                for (index, byte) in &changes {
                    bytes[5 + index.index(good.len() - 5)] = *byte;
                }
                bytes
            });
        }
    }

    #[test]
    fn left_out_bytes(from in any::<prop::sample::Index>(), count in 1_usize..9) {
        for format in [Format::Avro, Format::Json] {
            check_survives(format, |good| {
                let from = 5 + from.index(good.len() - 5);
                [&good[..from], &good[(from + count).min(good.len())..]].concat()
            });
        }
    }
}
