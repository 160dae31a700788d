//! How fast the sink turns Arrow rows into Parquet files: a table of ten columns, all rows in memory before the clock starts.
//!
//! ```text
//! cargo run --release -p sink-files --example encode_rate -- FOLDER [ROWS] [COMPRESSION]
//! ```
//!
//! Prints rows, seconds, rows a second, CPU seconds, bytes of the files and peak memory, one `name=value` a line. `encode_rate.py` does
//! the same work with pyarrow.
use std::{path::PathBuf, sync::Arc, time::Instant};

use connector_api::{
    ChangeBatch, ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Document, Identity, NextOffsets, Op, OrderKey, Rows,
    SinkContext, SinkInput, SourceInfo, TableName, TableSchema, TopicId, TopicInfo,
};
use sink_files::FilesSink;

const BATCH_ROWS: usize = 16_384;

fn schema() -> Arc<TableSchema> {
    let column = |(name, kind): (&str, ColumnType)| Column { name: name.into(), kind, source_type: String::new() };
    let columns = [
        ("id", ColumnType::Int64),
        ("customer", ColumnType::Int32),
        ("amount", ColumnType::Decimal { precision: 12, scale: 2 }),
        ("note", ColumnType::Text),
        ("status", ColumnType::Text),
        ("created", ColumnType::TimestampTz),
        ("day", ColumnType::Date),
        ("paid", ColumnType::Bool),
        ("extra", ColumnType::Json),
        ("token", ColumnType::Uuid),
    ];
    let columns = columns.into_iter().map(column).collect();
    Arc::new(TableSchema::new(TableName::new("public", "orders"), columns, vec![0], Identity::Key))
}

/// Numbers that look random and are the same in each run (splitmix64).
fn noise(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn append(column: &mut ColumnBuilder, index: usize, row: u64, random: u64) {
    match column {
        ColumnBuilder::Int64(b) => b.append_value(row as i64),
        ColumnBuilder::Int32(b) => b.append_value((random % 100_000) as i32),
        ColumnBuilder::Decimal(b) => b.append_value(i128::from(random % 10_000_000)),
        ColumnBuilder::Text(b) => match index {
            3 => b.append_value(format!("note {:016x}{:016x}", noise(random), random)),
            4 => b.append_value(["new", "paid", "shipped", "returned"][(random % 4) as usize]),
            _ => b.append_value(format!("{{\"a\": {}, \"b\": \"{:04x}\", \"c\": true}}", random % 1000, random >> 48)),
        },
        ColumnBuilder::Timestamp(b) => b.append_value(1_700_000_000_000_000 + (row * 1_000 + random % 1_000) as i64),
        ColumnBuilder::Date(b) => b.append_value(19_000 + (random % 1_000) as i32),
        ColumnBuilder::Bool(b) => b.append_value(random.is_multiple_of(3)),
        ColumnBuilder::Uuid(b) => {
            let bytes = (u128::from(random) << 64 | u128::from(noise(random))).to_be_bytes();
            b.append_value(bytes).unwrap_or_else(|_| b.append_null());
        }
        other => other.append_null(),
    }
}

fn batches(rows: usize) -> Result<Vec<ChangeBatch>, Box<dyn std::error::Error>> {
    let info = SourceInfo::new("postgresql", "shop", vec![("txId".into(), ColumnType::Int64)], Some(0));
    let mut builder = ChangeBatchBuilder::new(schema(), info);
    let mut batches = Vec::new();
    for row in 0..rows as u64 {
        let order = OrderKey { sequence: 1 + row / 100_000, ordinal: (row % 100_000) as u32 };
        builder.begin(Op::Insert, order, 1_700_000_000_000_000 + order.sequence as i64);
        builder.before().absent();
        let random = noise(row);
        builder.after().present().iter_mut().enumerate().for_each(|(index, column)| append(column, index, row, random));
        if let [ColumnBuilder::Int64(tx)] = builder.source() {
            tx.append_value(order.sequence as i64);
        }
        if builder.len() == BATCH_ROWS {
            batches.push(builder.finish()?);
        }
    }
    batches.push(builder.finish()?);
    Ok(batches)
}

fn peak_memory_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB").parse().ok()
}

/// User and system time of this process so far, in hundredths of a second.
fn cpu_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("usage: encode_rate FOLDER [ROWS] [COMPRESSION]")?);
    let rows: usize = arguments.next().unwrap_or_else(|| "1000000".into()).parse()?;
    let compression = arguments.next().unwrap_or_else(|| "zstd".into());
    let text = format!("files: {{ url: 'file://{}', compression: {compression} }}", std::path::absolute(&folder)?.display());
    let document = Document { file: "encode_rate".into(), text, variables: Default::default() };
    let connector = FilesSink::factory().make(&document, &["files"])?;
    let context =
        SinkContext { pipeline: "bench".into(), sink: "lake".into(), writer: "bench".into(), scratch: std::env::temp_dir() };
    let topic = TopicInfo { id: TopicId([7; 16]), name: "bench.public.orders".into(), partitions: 1, schema: schema() };
    let target = connector.connect(context).await.map_err(|error| error.to_string())?;
    let mut opened = target.open(&topic, &NextOffsets::new()).await.map_err(|error| error.to_string())?;
    let batches = batches(rows)?;
    let roll_bytes = connector.policy().bytes;
    let before_kib = peak_memory_kib();

    let (start, cpu_before) = (Instant::now(), cpu_ticks());
    let (mut next, mut bytes) = (0, 0);
    for batch in batches {
        let first = next;
        next += batch.len() as i64;
        let input = Rows { partition: 0, first_offset: first, next_offset: next, offsets: (first..next).collect(), batch };
        let filled = opened.sink.write(SinkInput::Rows(input)).await.map_err(|error| error.to_string())?;
        if filled.bytes >= roll_bytes {
            bytes += opened.sink.flush().await.map_err(|error| error.to_string())?.bytes;
        }
    }
    bytes += opened.sink.flush().await.map_err(|error| error.to_string())?.bytes;
    let seconds = start.elapsed().as_secs_f64();
    println!("rows={rows}\nseconds={seconds:.3}\nrows_per_second={:.0}\nbytes={bytes}", rows as f64 / seconds);
    if let (Some(before), Some(after)) = (cpu_before, cpu_ticks()) {
        println!("cpu_seconds={:.2}", (after - before) as f64 / 100.0);
    }
    if let (Some(before), Some(after)) = (before_kib, peak_memory_kib()) {
        println!("peak_kib={after}\npeak_kib_over_input={}", after.saturating_sub(before));
    }
    Ok(())
}
