//! Every column type, written and read back; what other readers see is checked with DuckDB by `tests/duckdb.rs`.
#[path = "fixture/all_types.rs"]
mod all_types;
mod fixture;

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef,
    cast::AsArray,
    types::{
        Date32Type, Decimal128Type, Decimal256Type, DurationMicrosecondType, Float64Type, Int16Type, Int32Type, Int64Type,
        Time64MicrosecondType, TimestampMicrosecondType,
    },
};
use arrow_buffer::i256;
use connector_api::{
    ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Identity, NextOffsets, Op, OrderKey, TableName, TableSchema,
};
use fixture::*;
use parquet::{
    basic::{LogicalType, Type as Physical},
    file::reader::{FileReader, SerializedFileReader},
};

#[tokio::test]
async fn every_type_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &NextOffsets::new()).await;
    opened.sink.write(rows(0, 0, all_types::batch())).await.unwrap();
    opened.sink.flush().await.unwrap();
    let read = read(&file(folder.path(), 0, 0));
    let column = |name: &str| -> &ArrayRef { read.column_by_name(name).unwrap() };
    for (name, _) in all_types::all_types().iter().skip(1).filter(|(name, _)| !name.eq_ignore_ascii_case("_order")) {
        assert_eq!(column(name).null_count(), 1, "{name}");
        assert!(column(name).is_null(2), "{name}");
    }
    assert!(column("bool").as_boolean().value(0) && !column("bool").as_boolean().value(1));
    assert_eq!(column("i16").as_primitive::<Int16Type>().values()[..2], [i16::MIN, i16::MAX]);
    assert_eq!(column("i32").as_primitive::<Int32Type>().values()[..2], [i32::MIN, i32::MAX]);
    assert_eq!(column("f64").as_primitive::<Float64Type>().values()[..2], [5e-324, f64::NEG_INFINITY]);
    let f32s = column("f32").as_primitive::<arrow_array::types::Float32Type>();
    assert!(f32s.value(0).is_sign_negative() && f32s.value(1).is_nan());
    for name in ["dec9", "dec18", "dec38"] {
        assert_eq!(column(name).as_primitive::<Decimal128Type>().values()[..2], [-1, 123_456_789], "{name}");
    }
    for name in ["dec65", "dec76"] {
        let values = &column(name).as_primitive::<Decimal256Type>().values()[..2];
        assert_eq!(values, [i256::MINUS_ONE, all_types::nines65()], "{name}");
    }
    let durations = column("duration").as_primitive::<DurationMicrosecondType>();
    assert_eq!(durations.values()[..2], [-3_020_399_999_999, 3_020_399_999_999], "from the Arrow schema in the footer");
    assert_eq!(column("text").as_string::<i32>().value(1), "{\"a\": \"Ж \\u0041\", \"b\": 1.50}");
    assert_eq!(column("json").as_string::<i32>().value(1), column("text").as_string::<i32>().value(1), "byte for byte");
    assert_eq!(column("bytes").as_binary::<i32>().value(1), b"\0\xff");
    assert_eq!(column("date").as_primitive::<Date32Type>().values()[..2], [-i32::MAX, i32::MAX]);
    assert_eq!(column("time").as_primitive::<Time64MicrosecondType>().values()[..2], [0, 86_400_000_000]);
    for name in ["ts", "tstz"] {
        assert_eq!(column(name).as_primitive::<TimestampMicrosecondType>().values()[..2], [-i64::MAX, i64::MAX], "{name}");
    }
    let interval = column("interval").as_struct();
    assert_eq!(interval.column(2).as_primitive::<Int64Type>().value(0), -86_399_999_999);
    assert_eq!(column("uuid").as_fixed_size_binary().value(1), [1; 16]);
    let (empty, three) = (column("ints").as_list::<i32>().value(0), column("ints").as_list::<i32>().value(1));
    assert_eq!((empty.len(), three.len(), three.null_count()), (0, 3, 1));
    assert_eq!(three.as_primitive::<Int32Type>().value(2), i32::MAX);
    let dates = column("dates").as_list::<i32>().value(1);
    assert_eq!(dates.as_primitive::<Date32Type>().value(0), -i32::MAX);
    assert_eq!(column("uuids").as_list::<i32>().value(1).as_fixed_size_binary().value(2), [1; 16]);
    assert_eq!(column("_op").as_string::<i32>().iter().flatten().collect::<String>(), "cdu");
}

#[tokio::test]
async fn types_are_parquets_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &NextOffsets::new()).await;
    opened.sink.write(rows(0, 0, all_types::batch())).await.unwrap();
    opened.sink.flush().await.unwrap();
    let path = file(folder.path(), 0, 0);
    let reader = SerializedFileReader::new(std::fs::File::open(&path).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr();
    let find =
        |path: &str| schema.columns().iter().find(|column| column.path().string() == path).unwrap_or_else(|| panic!("{path}"));
    let logical = |path: &str| find(path).logical_type_ref().cloned();
    assert_eq!(find("dec9").physical_type(), Physical::INT32);
    assert_eq!(find("dec18").physical_type(), Physical::INT64);
    for path in ["dec38", "dec65", "dec76"] {
        assert_eq!(find(path).physical_type(), Physical::FIXED_LEN_BYTE_ARRAY);
    }
    for (path, bytes) in [("dec38", 16), ("dec65", 28), ("dec76", 32)] {
        assert_eq!(find(path).type_length(), bytes, "{path}");
    }
    assert_eq!(logical("dec65"), Some(LogicalType::decimal(30, 65)));
    // Parquet has no type for a span of time: readers that do not look at the Arrow schema see the number.
    assert_eq!((find("duration").physical_type(), logical("duration")), (Physical::INT64, None));
    assert_eq!(logical("uuid"), Some(LogicalType::Uuid));
    assert_eq!(logical("uuids.list.element"), Some(LogicalType::Uuid));
    assert_eq!(logical("json"), Some(LogicalType::String));
    assert_eq!(logical("jsons.list.element"), Some(LogicalType::String));
    assert_eq!(logical("text"), Some(LogicalType::String));
    assert_eq!(logical("date"), Some(LogicalType::Date));
    for (path, utc) in [("ts", false), ("tstz", true), ("_commit_ts", true)] {
        let text = format!("{:?}", logical(path));
        assert!(text.contains(&format!("is_adjusted_to_u_t_c: {utc}")) && text.contains("MICROS"), "{path}: {text}");
    }
    assert_eq!(find("_order.sequence").physical_type(), Physical::INT64);
    // A column of the table that has a name of ours gives way, whatever its case, past its neighbours.
    let arrow = read(&path).schema();
    let names: Vec<_> = arrow.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names[25..27], ["_ORDER__", "_order_"]);
    assert_eq!(arrow.field_with_name("_ORDER__").unwrap().metadata()["source_type"], "source _ORDER");
    assert_eq!(arrow.field_with_name("uuid").unwrap().metadata()["source_type"], "source uuid");
}

#[tokio::test]
async fn tables_without_key_or_columns_have_files_too() {
    for columns in [vec![], vec![Column { name: "a".into(), kind: ColumnType::Text, source_type: "text".into() }]] {
        let schema = TableSchema::new(TableName::new("public", "note"), columns.clone(), vec![], Identity::Full);
        let mut builder = ChangeBatchBuilder::new(Arc::new(schema), source_info());
        for (ordinal, op) in [Op::Insert, Op::Delete].into_iter().enumerate() {
            builder.begin(op, OrderKey { sequence: 1, ordinal: ordinal as u32 }, 0);
            if op == Op::Delete {
                builder.after().absent();
            } else {
                builder.before().absent();
            }
            let image = if op == Op::Delete { builder.before() } else { builder.after() };
            image.present().iter_mut().for_each(ColumnBuilder::append_null);
            builder.source().iter_mut().for_each(ColumnBuilder::append_null);
        }
        let folder = tempfile::tempdir().unwrap();
        let mut opened = open(folder.path(), "w", &topic(1, 1), &NextOffsets::new()).await;
        opened.sink.write(rows(0, 0, builder.finish().unwrap())).await.unwrap();
        opened.sink.flush().await.unwrap();
        let read = read(&file(folder.path(), 0, 0));
        assert_eq!((read.num_rows(), read.num_columns()), (2, columns.len() + 5), "no `_old_key`");
    }
}
