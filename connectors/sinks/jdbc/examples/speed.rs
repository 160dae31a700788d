//! How fast the sink writes: `cargo run --release -p sink-jdbc --example speed -- URL [upsert|append|reference] [rows] [batch]`.
//!
//! The table has ten columns. `upsert` first loads as many rows as it then changes, half of the changes hitting rows that are there; `append` just
//! adds. `reference` (MySQL) does what `upsert` does by hand: the same rows, made beforehand, with `LOAD DATA LOCAL INFILE` into a temporary table and one
//! `INSERT … SELECT … ON DUPLICATE KEY UPDATE` for each batch. Made to be run beside `psql` with the same batches (`COPY` into a temporary table,
//! `INSERT … ON CONFLICT`), or beside a C program for SQLite.
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

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

/// Ids in steps of two are loaded; changes then take each id of a range, in an order that is none. `append` has changes only.
fn phases(mode: &str, rows: i64) -> [(String, Vec<i64>); 2] {
    if mode == "append" {
        return [("load".into(), Vec::new()), (mode.into(), (0..rows).collect())];
    }
    let stride = (rows / 5 * 3) | 1;
    let changes = (0..rows).map(|number| number * stride % (rows * 2)).collect();
    [("load".into(), (0..rows).map(|id| id * 2).collect()), (mode.into(), changes)]
}

fn report(phase: &str, rows: usize, busy: Duration) {
    if rows > 0 {
        println!("{phase}: {rows} rows in {:.2} s, {:.0} rows/s", busy.as_secs_f64(), rows as f64 / busy.as_secs_f64());
    }
}

/// A row as `LOAD DATA` reads it: the same values as [`append`] makes.
fn line(out: &mut String, id: i64) -> std::fmt::Result {
    use std::fmt::Write;
    let spread = (id as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let status = ["new", "paid", "shipped"][(spread % 3) as usize];
    let (whole, cents) = ((spread >> 34) / 100, (spread >> 34) % 100);
    let (high, low) = (spread, u64::from_be_bytes(spread.to_le_bytes()));
    writeln!(
        out,
        "{id}\t{}\t{status}\t{whole}.{cents:02}\ta note of some length about order {id}, {spread:016x} {spread:016x}\t{}\t{}\t{}\t{}\t\
         {:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        (spread >> 40) as i32,
        spread & 1,
        spread as f64 / 1e9,
        day(spread >> 50),
        format_args!(
            "{} {:02}:{:02}:{:02}.{:06}",
            day((1_700_000_000_000_000 + id) as u64 / 86_400_000_000),
            (1_700_000_000_000_000 + id) / 3_600_000_000 % 24,
            (1_700_000_000_000_000 + id) / 60_000_000 % 60,
            (1_700_000_000_000_000 + id) / 1_000_000 % 60,
            (1_700_000_000_000_000 + id) % 1_000_000
        ),
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF,
    )
}

/// A day after 1970, by counting years and months.
fn day(mut days: u64) -> String {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut month) = (1970, 0);
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, days + 1)
}

/// What an expert would type, with files that are there already.
async fn reference(url: &str, rows: i64, batch_rows: i64) -> Result<(), Box<dyn std::error::Error>> {
    use mysql_async::{Conn, Opts, prelude::Queryable};
    // Without encryption: compare with `?sslMode=DISABLED`, which only the sink understands.
    let url = url.split('?').next().unwrap_or(url).trim_start_matches("jdbc:").replacen("mariadb:", "mysql:", 1);
    let mut conn = Conn::new(Opts::from_url(&url)?).await?;
    let columns = "id bigint NOT NULL, customer int, status longtext, amount decimal(12,2), note longtext, paid tinyint(1), weight double, \
         day date, created datetime(6), token char(36) CHARACTER SET ascii COLLATE ascii_bin";
    conn.query_drop(format!(
        "SET NAMES utf8mb4; CREATE TABLE reference ({columns}, PRIMARY KEY (id)) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin; \
         CREATE TEMPORARY TABLE staged ({columns}) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin"
    ))
    .await?;
    let names = ["customer", "status", "amount", "note", "paid", "weight", "day", "created", "token"];
    let sets: Vec<String> = names.iter().map(|name| format!("reference.{name} = staged.{name}")).collect();
    let merge = format!("INSERT INTO reference SELECT * FROM staged ON DUPLICATE KEY UPDATE {}", sets.join(", "));
    for (phase, ids) in phases("reference", rows) {
        let mut busy = Duration::ZERO;
        for part in ids.chunks(batch_rows as usize) {
            let mut text = String::new();
            part.iter().try_for_each(|id| line(&mut text, *id))?;
            let text = Bytes::from(text);
            let pieces: Vec<_> =
                (0..text.len()).step_by(256 << 10).map(|at| Ok(text.slice(at..text.len().min(at + (256 << 10))))).collect();
            let start = Instant::now();
            conn.query_drop("TRUNCATE TABLE staged").await?;
            conn.set_infile_handler(async move { Ok(Box::pin(futures_util::stream::iter(pieces)) as mysql_async::InfileData) });
            conn.query_drop("LOAD DATA LOCAL INFILE 'x' INTO TABLE staged CHARACTER SET utf8mb4").await?;
            assert_eq!((conn.affected_rows(), conn.get_warnings()), (part.len() as u64, 0));
            conn.query_drop(&merge).await?;
            busy += start.elapsed();
        }
        report(&phase, ids.len(), busy);
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("the URL of a database is missing")?;
    let mode = arguments.next().unwrap_or_else(|| "upsert".into());
    let rows: i64 = arguments.next().map_or(Ok(1_000_000), |text| text.parse())?;
    let batch_rows: i64 = arguments.next().map_or(Ok(if url.contains("sqlite") { 50_000 } else { 10_000 }), |text| text.parse())?;

    if mode == "reference" {
        return reference(&url, rows, batch_rows).await;
    }
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

    for (phase, ids) in phases(&mode, rows) {
        let mut busy = Duration::ZERO;
        for part in ids.chunks(batch_rows as usize) {
            let rows = batch(&schema, offset, part.iter().copied())?;
            offset = rows.next_offset;
            let start = Instant::now();
            sink.write(SinkInput::Rows(rows)).await.map_err(|error| error.to_string())?;
            sink.flush().await.map_err(|error| error.to_string())?;
            busy += start.elapsed();
        }
        report(&phase, ids.len(), busy);
    }
    Ok(())
}
