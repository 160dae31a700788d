//! How fast the sink writes: `cargo run --release -p sink-jdbc --example speed -- URL [upsert|append] [rows] [batch]`.
//!
//! The table has ten columns. `upsert` first loads as many rows as it then changes, half of the changes hitting rows that are there; `append` just
//! adds. Made to be run beside `psql` with the same batches (`COPY` into a temporary table, `INSERT … ON CONFLICT`), or beside a C program for SQLite.
use std::{collections::HashMap, sync::Arc, time::Instant};

use connector_api::{
    ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Document, Identity, NextOffsets, Op, OrderKey, Rows, SinkContext,
    SinkInput, SourceInfo, TableName, TableSchema, TopicId, TopicInfo,
};
use sink_jdbc::JdbcSink;

/// A row's columns: what an ordinary table of orders has.
fn schema() -> Arc<TableSchema> {
    let columns = [
        ("id", ColumnType::Int64, "bigint"),
        ("customer", ColumnType::Int32, "integer"),
        ("status", ColumnType::Text, "text"),
        ("amount", ColumnType::Decimal { precision: 12, scale: 2 }, "numeric(12,2)"),
        ("note", ColumnType::Text, "text"),
        ("paid", ColumnType::Bool, "boolean"),
        ("weight", ColumnType::Float64, "double precision"),
        ("day", ColumnType::Date, "date"),
        ("created", ColumnType::TimestampTz, "timestamp with time zone"),
        ("token", ColumnType::Uuid, "uuid"),
    ];
    let columns = columns.map(|(name, kind, source)| Column { name: name.into(), kind, source_type: source.into() }).to_vec();
    Arc::new(TableSchema::new(TableName::new("public", "speed"), columns, vec![0], Identity::Key))
}

fn append(column: &mut ColumnBuilder, number: usize, id: i64) -> Result<(), arrow_schema::ArrowError> {
    let spread = (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    match column {
        ColumnBuilder::Int64(b) => b.append_value(id),
        ColumnBuilder::Int32(b) => b.append_value((spread >> 40) as i32),
        ColumnBuilder::Text(b) if number == 2 => b.append_value(["new", "paid", "shipped"][(spread % 3) as usize]),
        ColumnBuilder::Text(b) => b.append_value(format!("a note of some length about order {id}, {spread:016x} {spread:016x}")),
        ColumnBuilder::Decimal(b) => b.append_value(i128::from(spread >> 34)),
        ColumnBuilder::Bool(b) => b.append_value(spread & 1 == 1),
        ColumnBuilder::Float64(b) => b.append_value(spread as f64 / 1e9),
        ColumnBuilder::Date(b) => b.append_value((spread >> 50) as i32),
        ColumnBuilder::Timestamp(b) => b.append_value(1_700_000_000_000_000 + id),
        ColumnBuilder::Uuid(b) => b.append_value([spread.to_be_bytes(), spread.to_le_bytes()].concat())?,
        other => other.append_null(),
    }
    Ok(())
}

fn batch(schema: &Arc<TableSchema>, first: i64, ids: impl Iterator<Item = i64>) -> Result<Rows, arrow_schema::ArrowError> {
    let info = SourceInfo::new("postgresql", "speed", Vec::new(), None);
    let mut builder = ChangeBatchBuilder::new(Arc::clone(schema), info);
    for (row, id) in ids.enumerate() {
        builder.begin(Op::Update, OrderKey { sequence: first as u64, ordinal: row as u32 }, 0);
        builder.before().absent();
        for (number, column) in builder.after().present().iter_mut().enumerate() {
            append(column, number, id)?;
        }
        builder.source();
    }
    let batch = builder.finish()?;
    let next_offset = first + batch.len() as i64;
    Ok(Rows { partition: 0, first_offset: first, next_offset, offsets: (first..next_offset).collect(), batch })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the URL of a database is missing")?;
    let mode = arguments.next().unwrap_or_else(|| "upsert".into());
    let rows: i64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let batch_rows: i64 = arguments.next().map_or(Ok(if url.contains("sqlite") { 50_000 } else { 10_000 }), |text| text.parse())?;

    let text = format!("{{ url: '{url}', mode: {mode} }}");
    let document = Document { file: "speed".into(), text, variables: HashMap::new() };
    let connector = JdbcSink::factory().make(&document, &[])?;
    let context =
        SinkContext { pipeline: "speed".into(), sink: mode.clone(), writer: "speed".into(), scratch: std::env::temp_dir() };
    let schema = schema();
    let topic = TopicInfo { id: TopicId([1; 16]), name: "speed".into(), partitions: 1, schema: Arc::clone(&schema) };
    let target = connector.connect(context).await.map_err(|error| error.to_string())?;
    let opened = target.open(&topic, &NextOffsets::new()).await.map_err(|error| error.to_string())?;
    let (mut sink, mut offset) = (opened.sink, opened.next.get(&0).copied().unwrap_or(0));

    // Ids in steps of two are loaded; changes then take each id of a range, in an order that is none.
    let load: Vec<i64> = if mode == "upsert" { (0..rows).map(|id| id * 2).collect() } else { Vec::new() };
    let stride = (rows / 5 * 3) | 1;
    let changes: Vec<i64> = (0..rows).map(|number| if mode == "upsert" { number * stride % (rows * 2) } else { number }).collect();
    for (phase, ids) in [("load", load), (mode.as_str(), changes)] {
        let (mut busy, total) = (std::time::Duration::ZERO, ids.len());
        for part in ids.chunks(batch_rows as usize) {
            let rows = batch(&schema, offset, part.iter().copied())?;
            offset = rows.next_offset;
            let start = Instant::now();
            sink.write(SinkInput::Rows(rows)).await.map_err(|error| error.to_string())?;
            sink.flush().await.map_err(|error| error.to_string())?;
            busy += start.elapsed();
        }
        if total > 0 {
            println!("{phase}: {total} rows in {:.2} s, {:.0} rows/s", busy.as_secs_f64(), total as f64 / busy.as_secs_f64());
        }
    }
    Ok(())
}
