use std::sync::Arc;

use arrow_array::StructArray;
use connector_api::{ChangeBatch, Column, Op, OrderKey, SourceInfo, TableSchema, Unchanged};

use crate::{
    FormatError,
    avro::AvroEvents,
    column_view::RowView,
    format::Format,
    json::JsonEvents,
    record::{HEADER_MOVE, HEADER_PARTIAL, HEADER_SCHEMA, MOVE_IN, MOVE_OUT, RecordRef, RecordSink},
    registry::SchemaRegistry,
    schema_text::{key_schema, key_subject, value_schema, value_subject},
};

/// Schema versions whose preparation is kept. Batches of an old and a new version alternate for a moment at most.
const PREPARED_MAX: usize = 8;

/// Makes records of the changes of one topic.
///
/// A change is one record, but for two: a delete has a tombstone behind it where these are wanted, and a change of key is a delete under the old key
/// (header `move` = `out`), and an update under the new one (header `move` = `in`), both with the same order key.
pub struct Encoder {
    format: Format,
    topic: String,
    pipeline: String,
    /// The one used last is the last.
    prepared: Vec<Prepared>,
    buffers: Buffers,
}

/// What is worked out once for a schema version.
struct Prepared {
    schema: Arc<TableSchema>,
    info: Arc<SourceInfo>,
    schema_id: [u8; 4],
    events: Events,
}

enum Events {
    Avro(AvroEvents),
    Json(JsonEvents),
}

#[derive(Default)]
struct Buffers {
    key: Vec<u8>,
    key_body: Vec<u8>,
    value: Vec<u8>,
}

/// Writes keys and values in one format.
pub(crate) trait WriteEvents {
    /// Whether values need the schema's id as a header of the record.
    const SCHEMA_HEADER: bool;
    /// A batch begins. The clock is in microseconds since 1970.
    fn start(&mut self, sequence: u64, clock_us: i64);
    /// Appends the key in that image to `out`, and the values in it, without names or schema, to `body`. The error is the index of a
    /// key column that is NULL.
    fn push_key(&self, image: &RowView<'_>, row: usize, out: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<(), usize>;
    /// Appends the value. The error is the index of a key column that is NULL.
    fn push_event(&mut self, event: &Event<'_>, out: &mut Vec<u8>) -> Result<(), usize>;
}

/// One record's content.
pub(crate) struct Event<'a> {
    pub(crate) letter: u8,
    pub(crate) snapshot: bool,
    pub(crate) row: usize,
    pub(crate) before: Option<&'a RowView<'a>>,
    pub(crate) after: Option<&'a RowView<'a>>,
    pub(crate) source: &'a RowView<'a>,
    /// The columns of `source` before this one are those of the row before this row.
    pub(crate) source_from: usize,
    pub(crate) columns: &'a [Column],
    pub(crate) unchanged: Option<&'a Unchanged>,
    pub(crate) commit_ts_us: i64,
    pub(crate) ordinal: u32,
}

impl Encoder {
    /// An encoder for the topic of that name. `pipeline` is what the events call their source.
    pub fn new(format: Format, topic: &str, pipeline: &str) -> Self {
        Self { format, topic: topic.into(), pipeline: pipeline.into(), prepared: Vec::new(), buffers: Buffers::default() }
    }

    /// Gives the sink the records of a batch, in the batch's order.
    ///
    /// `sequence` becomes the first half of all order keys, the ordinals stay as they are. `clock_us` is the time now in microseconds since
    /// 1970 UTC. `tombstones` puts one behind each delete. [`Op::MoveOut`] rows are passed over, because the record is made from
    /// the [`Op::Move`] that stands beside them.
    ///
    /// After an error, the sink has got the records of the rows before the one at fault.
    pub fn encode<S: RecordSink>(
        &mut self,
        batch: &ChangeBatch,
        sequence: u64,
        clock_us: i64,
        tombstones: bool,
        registry: &dyn SchemaRegistry,
        sink: &mut S,
    ) -> Result<(), FormatError> {
        self.prepare(&batch.schema, &batch.info, registry)?;
        let Some(Prepared { schema_id, events, .. }) = self.prepared.last_mut() else { return Ok(()) };
        let views = Views::new(batch)?;
        let source_from = views.source.unchanged_up_to(batch.len());
        let pass = Pass { batch, views: &views, source_from, schema_id, sequence, tombstones, buffers: &mut self.buffers, sink };
        match events {
            Events::Avro(events) => {
                events.start(sequence, clock_us);
                pass.run(events)
            }
            Events::Json(events) => {
                events.start(sequence, clock_us);
                pass.run(events)
            }
        }
    }

    /// Registers the schemas of the topic for that version, so that a later [`encode`](Self::encode) need not. Does nothing if they are
    /// known already.
    pub fn prepare(
        &mut self,
        schema: &Arc<TableSchema>,
        info: &Arc<SourceInfo>,
        registry: &dyn SchemaRegistry,
    ) -> Result<(), FormatError> {
        let same = |known: &Prepared| {
            (Arc::ptr_eq(&known.schema, schema) || known.schema == *schema)
                && (Arc::ptr_eq(&known.info, info) || known.info == *info)
        };
        if let Some(index) = self.prepared.iter().rposition(same) {
            self.prepared[index..].rotate_left(1);
            return Ok(());
        }
        let key_id = match key_schema(&self.topic, schema) {
            Some(text) if self.format == Format::Avro => registry.register(&key_subject(&self.topic), &text)?,
            _ => 0,
        };
        let value_id = registry.register(&value_subject(&self.topic), &value_schema(&self.topic, schema, info))?;
        let events = match self.format {
            Format::Avro => Events::Avro(AvroEvents::new(key_id, value_id, &self.pipeline, schema, info)),
            Format::Json => Events::Json(JsonEvents::new(&self.pipeline, schema, info)),
        };
        if self.prepared.len() == PREPARED_MAX {
            self.prepared.remove(0);
        }
        self.prepared.push(Prepared {
            schema: Arc::clone(schema),
            info: Arc::clone(info),
            schema_id: value_id.to_be_bytes(),
            events,
        });
        Ok(())
    }
}

/// The arrays of a batch, looked at once.
pub(crate) struct Views<'a> {
    pub(crate) before: Option<RowView<'a>>,
    pub(crate) after: Option<RowView<'a>>,
    pub(crate) source: RowView<'a>,
}

impl<'a> Views<'a> {
    pub(crate) fn new(batch: &'a ChangeBatch) -> Result<Self, FormatError> {
        let rows = batch.len();
        let mismatch = |name: Option<&str>| FormatError::ArrayMismatch {
            table: batch.schema.table().clone(),
            column: name.unwrap_or("(all)").to_owned(),
        };
        let columns = batch.schema.columns();
        let image = |image: &'a Option<StructArray>| {
            let view = image.as_ref().map(|image| RowView::new(image, rows, columns.iter().map(|column| &column.kind)));
            view.transpose().map_err(|index| mismatch(columns.get(index).map(|column| column.name.as_str())))
        };
        let source = RowView::new(&batch.source, rows, batch.info.columns.iter().map(|(_, kind)| kind));
        if batch.orders.len() != rows || batch.commit_ts_us.len() != rows {
            return Err(mismatch(None));
        }
        Ok(Self {
            before: image(&batch.before)?,
            after: image(&batch.after)?,
            source: source.map_err(|index| mismatch(batch.info.columns.get(index).map(|(name, _)| name.as_str())))?,
        })
    }

    /// The old and the new image of a row, where it has them.
    pub(crate) fn images(&self, row: usize) -> (Option<&RowView<'a>>, Option<&RowView<'a>>) {
        let present = |view: &&RowView<'a>| view.is_present(row);
        (self.before.as_ref().filter(present), self.after.as_ref().filter(present))
    }
}

/// One batch on its way to the sink.
struct Pass<'a, S> {
    batch: &'a ChangeBatch,
    views: &'a Views<'a>,
    /// [`Event::source_from`] of each row.
    source_from: Vec<u8>,
    schema_id: &'a [u8; 4],
    sequence: u64,
    tombstones: bool,
    buffers: &'a mut Buffers,
    sink: &'a mut S,
}

impl<S: RecordSink> Pass<'_, S> {
    fn run<W: WriteEvents>(mut self, events: &mut W) -> Result<(), FormatError> {
        let views = self.views;
        for (row, op) in self.batch.ops.iter().copied().enumerate() {
            let (before, after) = views.images(row);
            match op {
                Op::Read | Op::Insert | Op::Update => {
                    let after = self.needed(after, "after")?;
                    self.record(events, row, op, before, Some(after), Some(after), None)?;
                }
                Op::Delete => {
                    let before = self.needed(before, "before")?;
                    self.record(events, row, op, Some(before), None, Some(before), None)?;
                }
                Op::Move => {
                    let (before, after) = (self.needed(before, "before")?, self.needed(after, "after")?);
                    self.record(events, row, Op::MoveOut, Some(before), None, Some(before), Some(MOVE_OUT))?;
                    self.record(events, row, op, Some(before), Some(after), Some(after), Some(MOVE_IN))?;
                }
                Op::MoveOut => {}
                Op::Truncate | Op::SnapshotRestart => self.record(events, row, op, None, None, None, None)?,
            }
        }
        Ok(())
    }

    /// Writes one record, and the tombstone behind it. `keyed_by` is the image that the key is taken from.
    #[expect(clippy::too_many_arguments, reason = "they are what differs from op to op, in one place above")]
    #[inline]
    fn record<W: WriteEvents>(
        &mut self,
        events: &mut W,
        row: usize,
        op: Op,
        before: Option<&RowView<'_>>,
        after: Option<&RowView<'_>>,
        keyed_by: Option<&RowView<'_>>,
        moved: Option<&'static [u8]>,
    ) -> Result<(), FormatError> {
        let batch = self.batch;
        let Buffers { key, key_body, value } = &mut *self.buffers;
        key.clear();
        key_body.clear();
        value.clear();
        let keyed_by = keyed_by.filter(|_| !batch.schema.key().is_empty());
        if let Some(image) = keyed_by {
            events.push_key(image, row, key, key_body).map_err(|column| null_key(batch, column))?;
        }
        let partial = batch.unchanged.as_ref().filter(|unchanged| (after.is_some() || moved.is_some()) && unchanged.any(row));
        let unchanged = partial.filter(|_| after.is_some());
        let event = Event {
            letter: op.letter(),
            snapshot: op == Op::Read,
            row,
            before,
            after,
            source: &self.views.source,
            source_from: self.source_from[row].into(),
            columns: batch.schema.columns(),
            unchanged,
            commit_ts_us: batch.commit_ts_us[row],
            ordinal: batch.orders[row].ordinal,
        };
        events.push_event(&event, value).map_err(|column| null_key(batch, column))?;

        let mut headers: [(&'static str, &[u8]); 3] = [("", &[]); 3];
        let mut count = 0;
        let mut add = |name, value| {
            headers[count] = (name, value);
            count += 1;
        };
        if W::SCHEMA_HEADER {
            add(HEADER_SCHEMA, &self.schema_id[..]);
        }
        if let Some(moved) = moved {
            add(HEADER_MOVE, moved);
        }
        if partial.is_some() {
            add(HEADER_PARTIAL, b"1");
        }
        let record = RecordRef {
            order: OrderKey { sequence: self.sequence, ordinal: event.ordinal },
            key: keyed_by.map(|_| key.as_slice()),
            key_body,
            value: Some(value),
            headers: &headers[..count],
            barrier: op.is_barrier(),
        };
        self.sink.record(record);
        if self.tombstones && keyed_by.is_some() && matches!(op, Op::Delete | Op::MoveOut) {
            // What the moved row builds on must outlive a compaction, whatever readers of the key alone are told.
            let headers: &[(&'static str, &[u8])] = if partial.is_some() { &[(HEADER_PARTIAL, b"1")] } else { &[] };
            self.sink.record(RecordRef { value: None, headers, ..record });
        }
        Ok(())
    }

    fn needed<'v>(&self, view: Option<&'v RowView<'v>>, image: &'static str) -> Result<&'v RowView<'v>, FormatError> {
        view.ok_or_else(|| FormatError::NoImage { table: self.batch.schema.table().clone(), image })
    }
}

#[cold]
fn null_key(batch: &ChangeBatch, column: usize) -> FormatError {
    let column = batch.schema.columns().get(column).map(|column| column.name.clone()).unwrap_or_default();
    FormatError::NullKey { table: batch.schema.table().clone(), column }
}
