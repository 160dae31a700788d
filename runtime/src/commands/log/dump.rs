use std::{
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use log_core::{DumpedBatch, Record, SegmentDump};
use serde_json::{Value, json};

use super::time;
use crate::cli::{DumpArgs, ValueFormat};

/// `mainstem log dump`: exit code 1 if a batch is damaged.
pub(super) fn run(args: &DumpArgs) -> anyhow::Result<ExitCode> {
    let inside = args.data.data_dir.join(&args.file);
    let path: &PathBuf = if !args.file.exists() && inside.exists() { &inside } else { &args.file };
    let records = args.records || args.values.is_some();
    let mut out = BufWriter::new(std::io::stdout());
    if !args.json {
        let columns = ["POSITION", "BASE", "LAST", "RECORDS", "BYTES", "CODEC", "CRC"];
        let [position, base, last, count, bytes, codec, crc] = columns;
        writeln!(out, "{position:>12} {base:>12} {last:>12} {count:>8} {bytes:>10} {codec:6} {crc:5} NEWEST RECORD")?;
    }
    let mut damaged = false;
    for batch in SegmentDump::open(path)? {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                out.flush()?;
                return Err(error.into());
            }
        };
        damaged |= batch.problem.is_some();
        if args.json {
            writeln!(out, "{}", batch_to_json(&batch, records, args.values)?)?;
        } else {
            print_batch(&mut out, &batch, records, args.values)?;
        }
    }
    out.flush()?;
    Ok(ExitCode::from(u8::from(damaged)))
}

fn codec(batch: &DumpedBatch) -> &'static str {
    batch.codec().map_or("?", |codec| codec.name())
}

fn print_batch(out: &mut impl Write, batch: &DumpedBatch, records: bool, values: Option<ValueFormat>) -> anyhow::Result<()> {
    let (position, base, last) = (batch.position, batch.base_offset(), batch.last_offset());
    let (count, bytes, codec) = (batch.record_count(), batch.size_bytes(), codec(batch));
    let crc = if batch.problem.is_none() { "ok" } else { "WRONG" };
    write!(
        out,
        "{position:>12} {base:>12} {last:>12} {count:>8} {bytes:>10} {codec:6} {crc:5} {}",
        time(batch.max_timestamp_ms())
    )?;
    if batch.is_lost() {
        write!(out, "  lost: cut out by a repair")?;
    }
    if batch.is_control() {
        write!(out, "  markers of Kafka's transactions")?;
    }
    writeln!(out)?;
    let Some(batch) = batch.batch().filter(|_| records) else { return Ok(()) };
    for record in &batch.records()? {
        let record = record?;
        write!(out, "    {} {} key ", record.offset, time(record.timestamp_ms))?;
        print_bytes(out, record.key, values)?;
        write!(out, ", value ")?;
        print_bytes(out, record.value, values)?;
        for (index, (name, value)) in record.headers().enumerate() {
            write!(out, "{}{name}", if index == 0 { ", headers " } else { " " })?;
            if let (Some(format), Some(value)) = (values, value) {
                write!(out, "={}", in_format(value, format))?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn print_bytes(out: &mut impl Write, bytes: Option<&[u8]>, values: Option<ValueFormat>) -> std::io::Result<()> {
    match (bytes, values) {
        (None, _) => write!(out, "none"),
        (Some(bytes), None) => write!(out, "{} bytes", bytes.len()),
        (Some(bytes), Some(ValueFormat::Text)) => write!(out, "\"{}\"", String::from_utf8_lossy(bytes).escape_debug()),
        (Some(bytes), Some(ValueFormat::Hex)) => write!(out, "{}", in_format(bytes, ValueFormat::Hex)),
    }
}

fn in_format(bytes: &[u8], format: ValueFormat) -> String {
    match format {
        ValueFormat::Text => String::from_utf8_lossy(bytes).into_owned(),
        ValueFormat::Hex => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn batch_to_json(batch: &DumpedBatch, records: bool, values: Option<ValueFormat>) -> anyhow::Result<Value> {
    let mut json = json!({
        "position": batch.position,
        "base_offset": batch.base_offset(),
        "last_offset": batch.last_offset(),
        "record_count": batch.record_count(),
        "bytes": batch.size_bytes(),
        "codec": codec(batch),
        "base_timestamp_ms": batch.base_timestamp_ms(),
        "max_timestamp_ms": batch.max_timestamp_ms(),
        "crc_ok": batch.problem.is_none(),
        "control": batch.is_control(),
        "lost": batch.is_lost(),
    });
    if let Some(batch) = batch.batch().filter(|_| records) {
        let mut listed = Vec::with_capacity(batch.record_count());
        for record in &batch.records()? {
            listed.push(record_to_json(&record?, values));
        }
        json["records"] = listed.into();
    }
    Ok(json)
}

fn record_to_json(record: &Record<'_>, values: Option<ValueFormat>) -> Value {
    let mut json = json!({
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
        "key_bytes": record.key.map(<[u8]>::len),
        "value_bytes": record.value.map(<[u8]>::len),
        "headers": record.headers().map(|(name, _)| name).collect::<Vec<_>>(),
    });
    if let Some(format) = values {
        let text = |bytes: Option<&[u8]>| bytes.map(|bytes| in_format(bytes, format));
        json["key"] = text(record.key).into();
        json["value"] = text(record.value).into();
        json["header_values"] = record.headers().map(|(_, value)| text(value)).collect::<Vec<_>>().into();
    }
    json
}
