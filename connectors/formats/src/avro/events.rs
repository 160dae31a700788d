//! Whole events in Avro: the order of the fields is that of `schema_text`.
use connector_api::{ColumnBuilder, OrderKey, SourceInfo, TableSchema};

use super::{
    WIRE_HEADER_BYTES, push_long, push_text, push_value,
    read::{AvroReader, read_value},
    wire_header,
};
use crate::{
    column_view::RowView,
    encoder::{Event, WriteEvents},
    error::Malformed,
    layout::required_columns,
    run::{Plan, Run},
};

/// Branches of a union of null and something else.
const NULL: u8 = 0;
const SOME: u8 = 2;

/// The `source` block of the last row. Most rows share most of it.
#[derive(Default)]
struct SourceBlock {
    bytes: Vec<u8>,
    /// What all but the per-row columns depend on: commit time, and whether it is a snapshot's row.
    of: Option<(i64, bool)>,
    /// Where each of the per-row columns begins, and where the last one ends.
    bounds: Vec<usize>,
    /// The row of the batch that it is of.
    row: Option<usize>,
}

/// Writes keys and values of one schema version.
pub(crate) struct AvroEvents {
    key_header: [u8; WIRE_HEADER_BYTES],
    value_header: [u8; WIRE_HEADER_BYTES],
    key: Vec<usize>,
    required: Vec<bool>,
    /// `version`, `connector`, `name`; `db` and `sequence`; `schema` and `table`.
    source_constants: [Vec<u8>; 3],
    source: SourceBlock,
    clock: Vec<u8>,
    sequence: Vec<u8>,
}

impl AvroEvents {
    pub(crate) fn new(key_id: u32, value_id: u32, pipeline: &str, schema: &TableSchema, info: &SourceInfo) -> Self {
        let texts = |texts: &[&str]| {
            let mut out = Vec::new();
            texts.iter().for_each(|text| push_text(&mut out, text.as_bytes()));
            out
        };
        let mut database = texts(&[&info.database]);
        database.push(NULL);
        Self {
            key_header: wire_header(key_id),
            value_header: wire_header(value_id),
            key: schema.key().to_vec(),
            required: required_columns(schema),
            source_constants: [
                texts(&[env!("CARGO_PKG_VERSION"), &info.connector, pipeline]),
                database,
                texts(&[&schema.table().schema, &schema.table().name]),
            ],
            source: SourceBlock::default(),
            clock: Vec::new(),
            sequence: Vec::new(),
        }
    }

    fn push_image(&self, image: Option<&RowView<'_>>, row: usize, out: &mut Vec<u8>) -> Result<(), usize> {
        let Some(image) = image else {
            out.push(NULL);
            return Ok(());
        };
        out.push(SOME);
        for (index, (column, required)) in image.columns.iter().zip(&self.required).enumerate() {
            if column.is_null(row) {
                if *required {
                    return Err(index);
                }
                out.push(NULL);
            } else {
                if !*required {
                    out.push(SOME);
                }
                push_value(column, row, out);
            }
        }
        Ok(())
    }

    fn push_source(&mut self, event: &Event<'_>, out: &mut Vec<u8>) {
        let SourceBlock { bytes, of, bounds, row } = &mut self.source;
        // Where rows were passed over, there is no telling what changed.
        let follows = row.is_some_and(|row| row + 1 == event.row);
        let mut from = if follows { event.source_from } else { 0 };
        *row = Some(event.row);
        if *of != Some((event.commit_ts_us, event.snapshot)) {
            *of = Some((event.commit_ts_us, event.snapshot));
            let [names, database, table] = &self.source_constants;
            bytes.clear();
            bytes.extend_from_slice(names);
            push_long(bytes, event.commit_ts_us.div_euclid(1000));
            // `snapshot` is a union whose first branch is the text.
            bytes.push(0);
            push_text(bytes, if event.snapshot { b"true" } else { b"false" });
            bytes.extend_from_slice(database);
            push_some_long(bytes, Some(event.commit_ts_us));
            push_some_long(bytes, event.commit_ts_us.checked_mul(1000));
            bytes.extend_from_slice(table);
            bounds.clear();
            bounds.push(bytes.len());
            from = 0;
        }
        if let (Some(begin), Some(changed)) = (bounds.get(from), event.source.columns.get(from..)) {
            bytes.truncate(*begin);
            bounds.truncate(from + 1);
            for column in changed {
                if column.is_null(event.row) || !event.source.is_present(event.row) {
                    bytes.push(NULL);
                } else {
                    bytes.push(SOME);
                    push_value(column, event.row, bytes);
                }
                bounds.push(bytes.len());
            }
        }
        out.extend_from_slice(bytes);
    }
}

fn push_some_long(out: &mut Vec<u8>, value: Option<i64>) {
    match value {
        Some(value) => {
            out.push(SOME);
            push_long(out, value);
        }
        None => out.push(NULL),
    }
}

impl WriteEvents for AvroEvents {
    const SCHEMA_HEADER: bool = false;

    fn start(&mut self, sequence: u64, clock_us: i64) {
        self.source.row = None;
        self.clock.clear();
        push_some_long(&mut self.clock, Some(clock_us.div_euclid(1000)));
        push_some_long(&mut self.clock, Some(clock_us));
        push_some_long(&mut self.clock, clock_us.checked_mul(1000));
        self.sequence.clear();
        self.sequence.push(SOME);
        push_long(&mut self.sequence, sequence as i64);
    }

    #[inline]
    fn push_key(&self, image: &RowView<'_>, row: usize, out: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<(), usize> {
        for index in &self.key {
            let column = &image.columns[*index];
            if column.is_null(row) {
                return Err(*index);
            }
            push_value(column, row, body);
        }
        out.extend_from_slice(&self.key_header);
        out.extend_from_slice(body);
        Ok(())
    }

    #[inline]
    fn push_event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), usize> {
        out.extend_from_slice(&self.value_header);
        self.push_image(event.before, event.row, out)?;
        self.push_image(event.after, event.row, out)?;
        self.push_source(event, out);
        // No `transaction`; `op` is a text of one character.
        out.extend_from_slice(&[NULL, 1 << 1, event.letter]);
        out.extend_from_slice(&self.clock);
        match event.unchanged {
            None => out.push(NULL),
            Some(unchanged) => {
                let names = || event.columns.iter().enumerate().filter(|(index, _)| unchanged.contains(event.row, *index));
                out.push(SOME);
                push_long(out, names().count() as i64);
                names().for_each(|(_, column)| push_text(out, column.name.as_bytes()));
                out.push(0);
            }
        }
        out.extend_from_slice(&self.sequence);
        push_long(out, (event.ordinal as i32).into());
        Ok(())
    }
}

/// Parts of the last record that most records repeat byte by byte, and what they say: comparing them is cheaper than reading them again.
#[derive(Default)]
pub(crate) struct EventMemo {
    /// `source` without the per-row columns.
    source: Vec<u8>,
    commit_ts_us: i64,
    /// The three `ts_` of the envelope.
    clock: Vec<u8>,
}

/// Reads the body of a value into the run, all but the last step that makes it a row.
pub(crate) fn read_event(reader: &mut AvroReader<'_>, run: &mut Run) -> Result<(), Malformed> {
    let Run { plan, builder, row, memo, .. } = run;
    if reader.is_some()? {
        row.before.present = true;
        row.before.given = true;
        read_image(reader, plan, builder.before().present(), &mut row.fault_column)?;
    } else {
        row.before.given = true;
        builder.before().absent();
    }
    if reader.is_some()? {
        row.after.present = true;
        row.after.given = true;
        read_image(reader, plan, builder.after().present(), &mut row.fault_column)?;
    } else {
        row.after.given = true;
        builder.after().absent();
    }
    row.commit_ts_us = Some(read_source(reader, memo)?);
    row.source_given = true;
    for (column, limit) in builder.source().iter_mut().zip(&plan.source_limits) {
        if reader.is_some()? {
            read_value(reader, column, limit)?;
        } else {
            column.append_null();
        }
    }
    if reader.is_some()? {
        let (_id, _total_order, _collection_order) = (reader.bytes()?, reader.long()?, reader.long()?);
    }
    let [letter] = *reader.bytes()? else { return Err(Malformed::Op) };
    row.letter = Some(letter);
    read_clock(reader, memo)?;
    if reader.is_some()? {
        read_unchanged(reader, plan, &mut row.unchanged)?;
    }
    if reader.is_some()? {
        row.order = Some(OrderKey { sequence: reader.long()? as u64, ordinal: reader.int()? as u32 });
    }
    if reader.rest().is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
}

#[inline]
fn read_image(
    reader: &mut AvroReader<'_>,
    plan: &Plan,
    builders: &mut [ColumnBuilder],
    fault_column: &mut Option<usize>,
) -> Result<(), Malformed> {
    for (index, (builder, column)) in builders.iter_mut().zip(&plan.columns).enumerate() {
        let read = match column.required || reader.is_some()? {
            true => read_value(reader, builder, &column.decimal_limit),
            false => {
                builder.append_null();
                Ok(())
            }
        };
        if read.is_err() {
            *fault_column = Some(index);
            return read;
        }
    }
    Ok(())
}

/// Reads the part of `source` that every source has; gives the commit time in microseconds.
fn read_source(reader: &mut AvroReader<'_>, memo: &mut EventMemo) -> Result<i64, Malformed> {
    if reader.accept(&memo.source) {
        return Ok(memo.commit_ts_us);
    }
    let start = *reader;
    let (_version, _connector, _name) = (reader.bytes()?, reader.bytes()?, reader.bytes()?);
    let mut commit_ts_us = reader.long()?.checked_mul(1000);
    // The union of `snapshot` has the text first.
    match reader.long()? {
        0 => {
            let _snapshot = reader.bytes()?;
        }
        1 => {}
        _ => return Err(Malformed::Branch),
    }
    let _database = reader.bytes()?;
    if reader.is_some()? {
        let _sequence = reader.bytes()?;
    }
    if reader.is_some()? {
        commit_ts_us = Some(reader.long()?);
    }
    if reader.is_some()? {
        let _ts_ns = reader.long()?;
    }
    let (_schema, _table) = (reader.bytes()?, reader.bytes()?);
    memo.commit_ts_us = commit_ts_us.ok_or(Malformed::OutOfRange)?;
    reader.copy_since(start, &mut memo.source);
    Ok(memo.commit_ts_us)
}

/// Passes over `ts_ms`, `ts_us` and `ts_ns` of the envelope: when the event was made is of no use to a reader of changes.
fn read_clock(reader: &mut AvroReader<'_>, memo: &mut EventMemo) -> Result<(), Malformed> {
    if reader.accept(&memo.clock) {
        return Ok(());
    }
    let start = *reader;
    for _unit in 0..3 {
        if reader.is_some()? {
            reader.long()?;
        }
    }
    reader.copy_since(start, &mut memo.clock);
    Ok(())
}

fn read_unchanged(reader: &mut AvroReader<'_>, plan: &Plan, unchanged: &mut Vec<usize>) -> Result<(), Malformed> {
    loop {
        let count = reader.block(1)?;
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            let name = std::str::from_utf8(reader.bytes()?).map_err(|_| Malformed::Utf8)?;
            unchanged.push(plan.index_of(name).ok_or(Malformed::UnknownColumn)?);
        }
    }
}
