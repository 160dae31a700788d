//! Prints how long it takes to encode and decode a row of a table of ten ordinary columns, one core, both formats.
//!
//! ```text
//! cargo run --release -p formats --example format_speed [ROWS [avro|json]]
//! ```
use std::{hint::black_box, sync::Arc, time::Instant};

use connector_api::{
    ChangeBatch, ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Identity, Op, OrderKey, SourceInfo, TableName, TableSchema,
};
use formats::{Decoder, Encoder, Format, FormatError, MemoryRegistry, RecordRef, SchemaRegistry};

const ROUNDS: usize = 15;

fn main() -> Result<(), FormatError> {
    let rows = std::env::args().nth(1).and_then(|rows| rows.parse().ok()).unwrap_or(20_000);
    let formats = match std::env::args().nth(2).as_deref() {
        Some("avro") => &[Format::Avro][..],
        Some("json") => &[Format::Json],
        _ => &[Format::Avro, Format::Json],
    };
    println!(
        "format  transaction  bytes/row   encode µs/row   decode µs/row   (best and median of {ROUNDS} rounds of {rows} rows)"
    );
    for &format in formats {
        for (name, rows_per_transaction) in [("large", usize::MAX), ("one row", 1)] {
            measure(format, name, &inserts(rows, rows_per_transaction)?)?;
        }
    }
    Ok(())
}

fn measure(format: Format, name: &str, batch: &ChangeBatch) -> Result<(), FormatError> {
    let registry = Arc::new(MemoryRegistry::default());
    let mut encoder = Encoder::new(format, "shop.public.events", "shop");
    let mut decoder = Decoder::new(Arc::clone(&registry) as Arc<dyn SchemaRegistry>);
    let (mut encode_us, mut decode_us) = (Vec::new(), Vec::new());
    // What a log would do: put the records one behind another.
    let (mut keys, mut values, mut ends) = (Vec::new(), Vec::new(), Vec::new());
    let mut schema_id = [0_u8; 4];
    for _ in 0..ROUNDS {
        keys.clear();
        values.clear();
        ends.clear();
        let start = Instant::now();
        encoder.encode(batch, 1, 1_700_000_000_000_000, false, &*registry, &mut |record: RecordRef<'_>| {
            keys.extend_from_slice(record.key.unwrap_or_default());
            values.extend_from_slice(record.value.unwrap_or_default());
            ends.push(values.len());
            if let Some((_, id)) = record.headers.first() {
                schema_id = (*id).try_into().unwrap_or_default();
            }
        })?;
        encode_us.push(start.elapsed().as_secs_f64() * 1e6 / batch.len() as f64);

        let headers = [("schema", &schema_id[..])];
        let headers = if format == Format::Json { &headers[..] } else { &[] };
        let start = Instant::now();
        let mut begin = 0;
        for (offset, end) in ends.iter().enumerate() {
            decoder.push(offset as i64, None, values.get(begin..*end), headers.iter().copied())?;
            begin = *end;
        }
        let decoded = black_box(decoder.finish()?);
        decode_us.push(start.elapsed().as_secs_f64() * 1e6 / batch.len() as f64);
        assert_eq!(decoded.iter().map(|part| part.batch.len()).sum::<usize>(), batch.len());
    }
    let bytes_per_row = values.len() / batch.len();
    println!("{format:<7?} {name:<12} {bytes_per_row:>8}   {}   {}", best_and_median(encode_us), best_and_median(decode_us));
    Ok(())
}

fn best_and_median(mut times: Vec<f64>) -> String {
    times.sort_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    format!("{:>6.3} {:>6.3}", at(0), at(times.len() / 2))
}

/// Inserts into a table with the columns `bigint, integer, numeric(12,2), text, varchar, timestamptz, date, boolean, jsonb, uuid`.
fn inserts(rows: usize, rows_per_transaction: usize) -> Result<ChangeBatch, FormatError> {
    let columns = [
        ("id", ColumnType::Int64, "bigint"),
        ("quantity", ColumnType::Int32, "integer"),
        ("price", ColumnType::Decimal { precision: 12, scale: 2 }, "numeric(12,2)"),
        ("note", ColumnType::Text, "text"),
        ("code", ColumnType::Text, "character varying(16)"),
        ("created", ColumnType::TimestampTz, "timestamp with time zone"),
        ("day", ColumnType::Date, "date"),
        ("paid", ColumnType::Bool, "boolean"),
        ("details", ColumnType::Json, "jsonb"),
        ("token", ColumnType::Uuid, "uuid"),
    ];
    let columns =
        columns.map(|(name, kind, source_type)| Column { name: name.into(), kind, source_type: source_type.into() }).to_vec();
    let schema = Arc::new(TableSchema::new(TableName::new("public", "events"), columns, vec![0], Identity::Key));
    let source = vec![("txId".to_owned(), ColumnType::Int64), ("lsn".to_owned(), ColumnType::Int64)];
    let mut builder = ChangeBatchBuilder::new(schema, SourceInfo::new("postgresql", "shop", source, Some(0)));
    for row in 0..rows {
        let transaction = row / rows_per_transaction;
        let number = row as i64 * 7_919 % 1_000_003;
        builder.begin(Op::Insert, OrderKey { sequence: 0, ordinal: row as u32 }, 1_700_000_000_000_000 + transaction as i64 * 251);
        builder.before().absent();
        for (index, column) in builder.after().present().iter_mut().enumerate() {
            match (index, column) {
                (0, ColumnBuilder::Int64(values)) => values.append_value(row as i64 + 1),
                (_, ColumnBuilder::Int32(values)) => values.append_value(number as i32),
                (_, ColumnBuilder::Decimal(values)) => values.append_value(i128::from(number * 137)),
                (3, ColumnBuilder::Text(values)) => values.append_value(format!("note {number:>7} some words of plain text")),
                (4, ColumnBuilder::Text(values)) => values.append_value(format!("code-{number:0>11}")),
                (_, ColumnBuilder::Timestamp(values)) => values.append_value(1_690_000_000_000_000 + number * 1_000_003),
                (_, ColumnBuilder::Date(values)) => values.append_value(19_000 + (number % 1000) as i32),
                (_, ColumnBuilder::Bool(values)) => values.append_value(number % 3 == 0),
                (_, ColumnBuilder::Text(values)) => {
                    values.append_value(format!(r#"{{"a": {number}, "b": [1, 2, 3], "c": "some text", "d": null}}"#));
                }
                (_, ColumnBuilder::Uuid(values)) => {
                    values.append_value((0x9e37_79b9_7f4a_7c15_u128 * (row as u128 + 1) * 0x1_0000_0001).to_be_bytes())?;
                }
                (_, column) => column.append_null(),
            }
        }
        for (column, value) in builder.source().iter_mut().zip([700 + transaction as i64, 0x1_6b37_4d84 + row as i64 * 300]) {
            if let ColumnBuilder::Int64(values) = column {
                values.append_value(value);
            }
        }
    }
    Ok(builder.finish()?)
}
