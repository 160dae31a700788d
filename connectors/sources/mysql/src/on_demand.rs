//! Tables, or parts of them, that are read while the stream goes on.
//!
//! A table is read in chunks by its key. A chunk is held back until the stream has passed the moment at which it had been read. Rows that the
//! stream brought since are left to the stream: what it brought is at least as new. The others are handed over as they were read. So no row
//! of a chunk comes behind a newer change of it. Nothing is written to the server for this, and nothing is locked.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use arrow_array::{Array, StructArray, cast::AsArray, types::*};
use arrow_schema::DataType;
use connector_api::{ChangeBatch, Identity, SnapshotProgress, SnapshotRequest, SourceInfo, TableName};
use tracing::{info, warn};

use crate::{
    catalog,
    decode::{Charsets, DecodeOptions, Shape, Stamp, TableDefinition, TableRows},
    error::MySqlError,
    position::{Point, Progress, Requested},
    reader::Reader,
    snapshot_plan::{self, quote_table},
    stream::{StreamState, rows_error},
    wire::{Client, Step, quote_identifier},
};

/// A chunk has at most this many rows, and about this many bytes.
const CHUNK_ROWS: u64 = 10_000;
const CHUNK_BYTES: u64 = 4 << 20;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);

/// Rows that were read and wait for the stream.
struct Chunk {
    /// What the stream has to be past.
    until: Point,
    shape: Arc<Shape>,
    /// The rows as the server sent them, one behind the other, and where each ends.
    packets: Vec<u8>,
    ends: Vec<usize>,
    /// The last key of the chunk; `None` if it is the table's last.
    next: Option<Vec<String>>,
    /// Keys of which the stream brought changes meanwhile.
    touched: HashSet<Vec<u8>>,
    /// Some of these changes do not bring whole rows: such a row has to be read again.
    partial: bool,
    /// The table was altered or emptied meanwhile: all has to be read again.
    void: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct OnDemand {
    client: Option<Client>,
    chunk: Option<Chunk>,
    rows: u64,
}

impl OnDemand {
    /// Notes the rows that go to the runtime while a chunk waits.
    pub(crate) fn note(&mut self, batches: &[ChangeBatch]) {
        let Some(chunk) = &mut self.chunk else { return };
        batches.iter().for_each(|batch| chunk.note(batch));
    }

    /// Takes new requests, reads the next chunk, or hands over the one that waits. To be called between messages of the stream.
    pub(crate) fn advance(&mut self, reader: &Reader, state: &mut StreamState) -> Result<(), MySqlError> {
        while let Some(request) = reader.context.snapshots.take() {
            self.accept(request, state);
        }
        if state.in_transaction() || state.position().requested().is_empty() {
            return Ok(());
        }
        if self.chunk.is_none() {
            return self.read_next(reader, state);
        }
        if self.chunk.as_ref().is_some_and(|chunk| chunk.until.is_within(&state.position().done)) {
            return self.hand_over(reader, state);
        }
        Ok(())
    }

    fn accept(&mut self, request: SnapshotRequest, state: &mut StreamState) {
        let found = state.position().tables().iter().find(|(name, _)| name.to_string() == request.table);
        match found.map(|(name, table)| (name.clone(), table.progress)) {
            Some((table, Progress::Done(_))) => {
                info!(%table, "a table is read again while the stream goes on");
                let condition = request.condition.unwrap_or_default();
                state.request(Requested { table, condition, after: Vec::new() });
            }
            _ => warn!(table = %request.table, "a snapshot of a table that is not captured was asked for; nothing is done"),
        }
    }

    fn read_next(&mut self, reader: &Reader, state: &mut StreamState) -> Result<(), MySqlError> {
        let Some(requested) = state.position().requested().first().cloned() else { return Ok(()) };
        let mut client = match self.client.take() {
            Some(client) => client,
            None => snapshot_plan::connect(&reader.settings)?,
        };
        match state.with_charsets(|charsets| read_chunk(reader, &mut client, &requested, charsets)) {
            Ok(chunk) => {
                (self.chunk, self.client) = (Some(chunk), Some(client));
                Ok(())
            }
            Err(error) if error.is_connection() => Err(error),
            // A condition that is wrong, a table without a key: no reason to stop the stream.
            Err(error) => {
                warn!(table = %requested.table, %error, "the table cannot be read while the stream goes on; the request is dropped");
                reader.context.status.set("snapshot_failed", format!("{}: {error}", requested.table));
                state.finish_request();
                self.rows = 0;
                Ok(())
            }
        }
    }

    fn hand_over(&mut self, reader: &Reader, state: &mut StreamState) -> Result<(), MySqlError> {
        let Some(mut chunk) = self.chunk.take() else { return Ok(()) };
        // What the stream brought and did not go to the runtime yet.
        state.flush(chunk.shape.table())?;
        let table = chunk.shape.table().clone();
        state.group.batches.iter().for_each(|batch| chunk.note(batch));
        if chunk.void {
            return Ok(());
        }
        let identity = if reader.log.row_image == "FULL" { Identity::Full } else { Identity::Key };
        let stamp = stamp(&chunk.until);
        let all = chunk.decode(&reader.known.info, identity, &stamp)?;
        let keys: Vec<Option<Vec<u8>>> = all.after.as_ref().map(|rows| keys(rows, all.schema.key())).unwrap_or_default();
        let is_new = |row: usize| keys.get(row).is_some_and(|key| key.as_ref().is_some_and(|key| !chunk.touched.contains(key)));
        if chunk.partial && !(0..keys.len()).all(is_new) {
            return Ok(());
        }
        let mut rows = TableRows::new(Arc::clone(&chunk.shape), identity, &reader.known.info);
        let mut handed = 0;
        for (row, packet) in chunk.packets().enumerate() {
            if is_new(row) {
                let ordinal = state.group.count(packet.len());
                rows.read(&Stamp { ordinal, ..stamp }, packet).map_err(rows_error)?;
                handed += 1;
            }
        }
        rows.stamp(&stamp);
        if !rows.is_empty() {
            state.group.batches.push(rows.finish().map_err(rows_error)?);
        }
        self.rows += handed;
        let done = chunk.next.is_none();
        let progress = SnapshotProgress { rows: self.rows, rows_estimated: 0, done };
        reader.context.status.set_snapshot(&table.to_string(), progress);
        match chunk.next {
            Some(after) => state.continue_request(after),
            None => {
                info!(%table, rows = self.rows, "the table was read while the stream went on");
                state.finish_request();
                self.rows = 0;
            }
        }
        Ok(())
    }
}

fn stamp(until: &Point) -> Stamp<'_> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Stamp {
        ordinal: 0,
        commit_ts_us: now.as_micros() as i64,
        gtid: None,
        server_id: None,
        file: &until.place.file,
        position: until.place.position,
        thread: None,
    }
}

impl Chunk {
    fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.packets.get(start..*end).unwrap_or_default())
    }

    fn decode(&self, info: &Arc<SourceInfo>, identity: Identity, stamp: &Stamp<'_>) -> Result<ChangeBatch, MySqlError> {
        let mut rows = TableRows::new(Arc::clone(&self.shape), identity, info);
        for (row, packet) in self.packets().enumerate() {
            rows.read(&Stamp { ordinal: row as u32, ..*stamp }, packet).map_err(rows_error)?;
        }
        rows.stamp(stamp);
        rows.finish().map_err(rows_error)
    }

    fn note(&mut self, batch: &ChangeBatch) {
        if batch.schema.table() != self.shape.table() {
            return;
        }
        let altered = batch.schema.columns() != self.shape.schema(Identity::Full).columns();
        self.void |= altered || batch.ops.iter().any(|op| op.is_barrier());
        self.partial |= batch.unchanged.is_some();
        for image in [&batch.before, &batch.after].into_iter().flatten() {
            self.touched.extend(keys(image, batch.schema.key()).into_iter().flatten());
        }
    }
}

/// What tells rows apart: their keys as bytes. `None` for rows that are not there, or have a key of a type that is not compared.
fn keys(rows: &StructArray, key: &[usize]) -> Vec<Option<Vec<u8>>> {
    let of = |row: usize| {
        let mut bytes = Vec::new();
        for column in key.iter().map(|index| rows.columns().get(*index)) {
            let column = column.filter(|column| column.is_valid(row))?;
            match column.data_type() {
                DataType::Int16 => bytes.extend(column.as_primitive::<Int16Type>().value(row).to_le_bytes()),
                DataType::Int32 => bytes.extend(column.as_primitive::<Int32Type>().value(row).to_le_bytes()),
                DataType::Int64 => bytes.extend(column.as_primitive::<Int64Type>().value(row).to_le_bytes()),
                DataType::Decimal128(..) => bytes.extend(column.as_primitive::<Decimal128Type>().value(row).to_le_bytes()),
                DataType::Date32 => bytes.extend(column.as_primitive::<Date32Type>().value(row).to_le_bytes()),
                DataType::Timestamp(..) => bytes.extend(column.as_primitive::<TimestampMicrosecondType>().value(row).to_le_bytes()),
                DataType::Utf8 => {
                    let text = column.as_string::<i32>().value(row);
                    bytes.extend((text.len() as u64).to_le_bytes());
                    bytes.extend(text.as_bytes());
                }
                _ => return None,
            }
        }
        Some(bytes)
    };
    (0..rows.len()).map(|row| if rows.is_valid(row) { of(row) } else { None }).collect()
}

/// Reads the next chunk of a table.
fn read_chunk(reader: &Reader, client: &mut Client, requested: &Requested, charsets: &Charsets) -> Result<Chunk, MySqlError> {
    let table = &requested.table;
    let mut side = Client::connect(&reader.settings)?;
    let definition = definition(&mut side, table)?;
    let key: Vec<String> = definition.key.iter().map(|name| quote_identifier(name)).collect();
    let shape = shape(&definition, charsets, reader.settings.decode)?;
    let name = quote_table(table);
    let mut conditions = Vec::new();
    if !requested.condition.is_empty() {
        conditions.push(format!("({})", requested.condition));
    }
    if !requested.after.is_empty() {
        conditions.push(beyond(&key, &requested.after));
    }
    let doing = format!("read table {table}");
    let sql = format!(
        "SELECT coalesce(AVG_ROW_LENGTH, 0) FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
        crate::wire::quote_literal(&table.schema),
        crate::wire::quote_literal(&table.name)
    );
    let row_bytes: u64 = side.query_one("read the size of a table", &sql)?.number(0)?;
    let size = (CHUNK_BYTES / row_bytes.max(1)).clamp(10, CHUNK_ROWS);
    let quoted = key.iter().map(|name| format!("quote({name})")).collect::<Vec<_>>().join(", ");
    let sql = format!("SELECT {quoted} FROM {name}{} ORDER BY {} LIMIT 1 OFFSET {}", filter(&conditions), key.join(", "), size - 1);
    let next =
        side.query(&doing, &sql)?.first().map(|row| (0..key.len()).map(|index| row.text(index).to_owned()).collect::<Vec<_>>());
    if let Some(next) = &next {
        conditions.push(format!("NOT {}", beyond(&key, next)));
    }
    let (mut packets, mut ends) = (Vec::new(), Vec::new());
    let sql = format!("SELECT {} FROM {name}{}", shape.select_list(), filter(&conditions));
    client.start(&doing, &sql, Instant::now() + ANSWER_TIMEOUT)?;
    let begun = Instant::now();
    client.connection().set_read_timeout(Some(Duration::from_secs(1)))?;
    loop {
        let step = client.take_rows(&doing, |packet| {
            packets.extend_from_slice(packet);
            ends.push(packets.len());
            Ok(())
        })?;
        if step == Step::Stop {
            break;
        }
        if client.connection().fill()?.is_none() && begun.elapsed() > ANSWER_TIMEOUT {
            return Err(MySqlError::NoAnswer {
                address: client.connection().address().to_owned(),
                seconds: ANSWER_TIMEOUT.as_secs(),
            });
        }
    }
    let until = catalog::log_end(&mut side, reader.log.gtids)?;
    let void = self::definition(&mut side, table)? != definition;
    side.close();
    Ok(Chunk { until, shape: Arc::new(shape), packets, ends, next, touched: HashSet::new(), partial: false, void })
}

fn filter(conditions: &[String]) -> String {
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

/// The condition that a row comes behind a key.
fn beyond(key: &[String], values: &[String]) -> String {
    let parts = (0..key.len()).map(|last| {
        let same = (0..last).map(|index| format!("{} = {}", key[index], values[index]));
        let more = std::iter::once(format!("{} > {}", key[last], values[last]));
        format!("({})", same.chain(more).collect::<Vec<_>>().join(" AND "))
    });
    format!("({})", parts.collect::<Vec<_>>().join(" OR "))
}

fn definition(client: &mut Client, table: &TableName) -> Result<TableDefinition, MySqlError> {
    let refused = |problem: &str| MySqlError::Table { table: table.to_string(), problem: problem.to_owned() };
    let mut found = catalog::definitions(client, std::slice::from_ref(table))?;
    let definition = found.remove(table).ok_or_else(|| refused("it does not exist"))?;
    if definition.key.is_empty() {
        return Err(refused(
            "it has no primary key, by which a row that changes meanwhile could be told; `mainstem resnapshot` reads it anew",
        ));
    }
    const KEYS: [&str; 10] =
        ["tinyint", "smallint", "mediumint", "int", "bigint", "char", "varchar", "date", "datetime", "timestamp"];
    let fits = |name: &String| {
        let kind = definition.column(name).map(|column| column.column_type.as_str()).unwrap_or_default();
        KEYS.contains(&kind.split([' ', '(']).next().unwrap_or_default())
    };
    if definition.key.iter().all(fits) {
        return Ok(definition);
    }
    Err(refused("its key is of a type by which it cannot be divided; `mainstem resnapshot` reads it anew"))
}

fn shape(definition: &TableDefinition, charsets: &Charsets, options: DecodeOptions) -> Result<Shape, MySqlError> {
    Shape::of_definition(definition, charsets, options)
        .map_err(|problem| MySqlError::Table { table: definition.name.to_string(), problem: problem.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_key_is_told_column_by_column() {
        let text = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(beyond(&text(&["`a`"]), &text(&["'1'"])), "((`a` > '1'))");
        assert_eq!(beyond(&text(&["`a`", "`b`"]), &text(&["'1'", "'x'"])), "((`a` > '1') OR (`a` = '1' AND `b` > 'x'))");
        assert_eq!(filter(&text(&["x", "y"])), " WHERE x AND y");
    }
}
