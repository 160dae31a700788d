use connector_api::{ChangeBatch, Op, SourceInfo, TableSchema};

use super::write::{push_string, push_value};
use crate::{
    column_view::RowView,
    encoder::{Event, Views, WriteEvents},
    layout::required_columns,
    schema_text::source_field_names,
    text::{push_i64, push_u64},
};

/// Writes keys and values of one schema version.
pub(crate) struct JsonEvents {
    key: Vec<usize>,
    /// For each column its name as `"name":`.
    names: Vec<Vec<u8>>,
    required: Vec<bool>,
    /// The start of `source`, up to the value of `ts_ms`; the database, up to the value of `ts_us`; schema and table.
    source_constants: [Vec<u8>; 3],
    source_names: Vec<Vec<u8>>,
    clock: Vec<u8>,
    sequence: u64,
}

impl JsonEvents {
    pub(crate) fn new(pipeline: &str, schema: &TableSchema, info: &SourceInfo) -> Self {
        let names = schema.columns().iter().map(|column| field_name(&column.name)).collect();
        let mut start = b"{".to_vec();
        for (name, value) in [("version", env!("CARGO_PKG_VERSION")), ("connector", &info.connector), ("name", pipeline)] {
            push_text_field(&mut start, name, value);
        }
        start.extend_from_slice(b"\"ts_ms\":");
        let mut database = Vec::new();
        push_text_field(&mut database, "db", &info.database);
        database.extend_from_slice(b"\"sequence\":null,\"ts_us\":");
        let mut table = Vec::new();
        push_text_field(&mut table, "schema", &schema.table().schema);
        push_text_field(&mut table, "table", &schema.table().name);
        table.pop();
        Self {
            key: schema.key().to_vec(),
            names,
            required: required_columns(schema),
            source_constants: [start, database, table],
            source_names: source_field_names(info).iter().map(|name| field_name(name)).collect(),
            clock: Vec::new(),
            sequence: 0,
        }
    }

    fn push_image(&self, image: Option<&RowView<'_>>, row: usize, out: &mut Vec<u8>) -> Result<(), usize> {
        let Some(image) = image else {
            out.extend_from_slice(b"null");
            return Ok(());
        };
        out.push(b'{');
        for (index, ((column, name), required)) in image.columns.iter().zip(&self.names).zip(&self.required).enumerate() {
            if *required && column.is_null(row) {
                return Err(index);
            }
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(name);
            push_value(column, row, out);
        }
        out.push(b'}');
        Ok(())
    }

    fn push_source_columns(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        for (column, name) in event.source.columns.iter().zip(&self.source_names) {
            out.push(b',');
            out.extend_from_slice(name);
            push_value(column, event.row, out);
        }
    }

    fn push_unchanged_and_order(&self, event: &Event<'_>, sequence: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"unchanged\":");
        match event.unchanged {
            None => out.extend_from_slice(b"null"),
            Some(unchanged) => {
                out.push(b'[');
                for (index, column) in event.columns.iter().enumerate() {
                    if unchanged.contains(event.row, index) {
                        push_string(out, &column.name);
                        out.push(b',');
                    }
                }
                if out.last() == Some(&b',') {
                    out.pop();
                }
                out.push(b']');
            }
        }
        out.extend_from_slice(b",\"order\":{\"sequence\":");
        push_u64(out, sequence);
        out.extend_from_slice(b",\"ordinal\":");
        push_u64(out, event.ordinal.into());
        out.push(b'}');
    }
}

/// Appends `"name":"value",`.
fn push_text_field(out: &mut Vec<u8>, name: &str, value: &str) {
    push_string(out, name);
    out.push(b':');
    push_string(out, value);
    out.push(b',');
}

fn field_name(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 3);
    push_string(&mut out, name);
    out.push(b':');
    out
}

/// Appends nanoseconds, or `null` where they are more than 64 bits hold.
fn push_nanos(out: &mut Vec<u8>, micros: i64) {
    match micros.checked_mul(1000) {
        Some(nanos) => push_i64(out, nanos),
        None => out.extend_from_slice(b"null"),
    }
}

impl WriteEvents for JsonEvents {
    const SCHEMA_HEADER: bool = true;

    fn start(&mut self, sequence: u64, clock_us: i64) {
        self.sequence = sequence;
        self.clock.clear();
        self.clock.extend_from_slice(b"\"ts_ms\":");
        push_i64(&mut self.clock, clock_us.div_euclid(1000));
        self.clock.extend_from_slice(b",\"ts_us\":");
        push_i64(&mut self.clock, clock_us);
        self.clock.extend_from_slice(b",\"ts_ns\":");
        push_nanos(&mut self.clock, clock_us);
    }

    fn push_key(&self, image: &RowView<'_>, row: usize, out: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<(), usize> {
        out.push(b'{');
        for (place, index) in self.key.iter().enumerate() {
            let column = &image.columns[*index];
            if column.is_null(row) {
                return Err(*index);
            }
            if place > 0 {
                out.push(b',');
                body.push(b',');
            }
            out.extend_from_slice(&self.names[*index]);
            let start = out.len();
            push_value(column, row, out);
            body.extend_from_slice(&out[start..]);
        }
        out.push(b'}');
        Ok(())
    }

    fn push_event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), usize> {
        out.extend_from_slice(b"{\"before\":");
        self.push_image(event.before, event.row, out)?;
        out.extend_from_slice(b",\"after\":");
        self.push_image(event.after, event.row, out)?;

        let [start, database, table] = &self.source_constants;
        out.extend_from_slice(b",\"source\":");
        out.extend_from_slice(start);
        push_i64(out, event.commit_ts_us.div_euclid(1000));
        out.extend_from_slice(if event.snapshot { b",\"snapshot\":\"true\"," } else { b",\"snapshot\":\"false\"," });
        out.extend_from_slice(database);
        push_i64(out, event.commit_ts_us);
        out.extend_from_slice(b",\"ts_ns\":");
        push_nanos(out, event.commit_ts_us);
        out.push(b',');
        out.extend_from_slice(table);
        self.push_source_columns(event, out);

        out.extend_from_slice(b"},\"transaction\":null,\"op\":\"");
        out.push(event.letter);
        out.extend_from_slice(b"\",");
        out.extend_from_slice(&self.clock);
        self.push_unchanged_and_order(event, self.sequence, out);
        out.push(b'}');
        Ok(())
    }
}

/// A change as the JSON of its event, for people: Debezium's envelope without what a batch does not keep (`source.version`, `source.name`, the
/// clock). The two halves of a change of key say so in a field `move`. `null` if there is no such row.
pub fn read_json(batch: &ChangeBatch, row: usize) -> String {
    let mut out = Vec::new();
    let (Some(op), Ok(views)) = (batch.ops.get(row).copied(), Views::new(batch)) else { return "null".into() };
    let mut events = JsonEvents::new("", &batch.schema, &batch.info);
    // Whatever the batch holds is to be shown, a NULL in a key too.
    events.required.fill(false);
    let (before, after) = views.images(row);
    let event = Event {
        letter: op.letter(),
        snapshot: op == Op::Read,
        row,
        before,
        after,
        source: &views.source,
        source_from: 0,
        columns: batch.schema.columns(),
        unchanged: batch.unchanged.as_ref().filter(|unchanged| unchanged.any(row)),
        commit_ts_us: batch.commit_ts_us[row],
        ordinal: batch.orders[row].ordinal,
    };
    out.extend_from_slice(b"{\"before\":");
    let _required_is_off = events.push_image(event.before, row, &mut out);
    out.extend_from_slice(b",\"after\":");
    let _required_is_off = events.push_image(event.after, row, &mut out);
    out.extend_from_slice(b",\"source\":{");
    push_text_field(&mut out, "connector", &batch.info.connector);
    push_text_field(&mut out, "db", &batch.info.database);
    push_text_field(&mut out, "schema", &batch.schema.table().schema);
    push_text_field(&mut out, "table", &batch.schema.table().name);
    out.extend_from_slice(b"\"ts_us\":");
    push_i64(&mut out, event.commit_ts_us);
    events.push_source_columns(&event, &mut out);
    out.extend_from_slice(b"},\"op\":\"");
    out.push(event.letter);
    out.push(b'"');
    match op {
        Op::Move => out.extend_from_slice(b",\"move\":\"in\""),
        Op::MoveOut => out.extend_from_slice(b",\"move\":\"out\""),
        _ => {}
    }
    events.push_unchanged_and_order(&event, batch.orders[row].sequence, &mut out);
    out.push(b'}');
    String::from_utf8(out).unwrap_or_else(|_| "null".into())
}
