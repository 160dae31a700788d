use std::{collections::HashMap, sync::Arc};

use connector_api::{ChangeBatch, TableName};

use crate::{
    FormatError,
    avro::{self, AvroReader, WIRE_HEADER_BYTES},
    error::Malformed,
    json::{self, JsonReader, JsonScratch},
    record::{HEADER_MOVE, HEADER_SCHEMA},
    registry::SchemaRegistry,
    run::{Plan, Run},
};

/// Record bytes after which a new batch begins, whatever the caller does: Arrow counts the bytes of a text column in 31 bits.
const RUN_BYTES_MAX: usize = 1 << 30;

/// Changes of one schema, with the offset of the record that each came from.
#[derive(Debug, Clone)]
pub struct DecodedBatch {
    /// The changes.
    pub batch: ChangeBatch,
    /// One offset a row, ascending.
    pub offsets: Vec<i64>,
}

/// Makes batches of the records of one partition of a topic, in either format.
pub struct Decoder {
    registry: Arc<dyn SchemaRegistry>,
    plans: HashMap<u32, Arc<Plan>>,
    run: Option<Run>,
    finished: Vec<DecodedBatch>,
    finished_bytes: usize,
    next_offset: Option<i64>,
    scratch: JsonScratch,
}

impl Decoder {
    /// A decoder that looks up schemas there, each once.
    pub fn new(registry: Arc<dyn SchemaRegistry>) -> Self {
        Self {
            registry,
            plans: HashMap::new(),
            run: None,
            finished: Vec::new(),
            finished_bytes: 0,
            next_offset: None,
            scratch: JsonScratch::default(),
        }
    }

    /// Takes a record. Offsets must ascend. A tombstone (no value) adds no row.
    ///
    /// After an error the decoder goes on as if the record at fault had not been there: a caller may put it aside, and push the next one.
    pub fn push<'h>(
        &mut self,
        offset: i64,
        _key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> Result<(), FormatError> {
        self.next_offset = offset.checked_add(1);
        let Some(value) = value else { return Ok(()) };
        let (mut schema_id, mut moved) = (None, None);
        for (name, value) in headers {
            match name {
                HEADER_SCHEMA => schema_id = value.try_into().ok().map(u32::from_be_bytes),
                HEADER_MOVE => moved = Some(value),
                _ => {}
            }
        }
        let (id, avro_body) = match (value, schema_id) {
            ([0, a, b, c, d, body @ ..], _) => (u32::from_be_bytes([*a, *b, *c, *d]), Some(body)),
            (_, Some(id)) => (id, None),
            _ => return Err(malformed(offset, None, None, Malformed::NoSchema, 0)),
        };
        self.begin_run(id, offset, value.len())?;
        let Self { run: Some(run), scratch, .. } = self else { return Ok(()) };
        run.begin_row();
        let (read, byte) = match avro_body {
            Some(body) => {
                let mut reader = AvroReader::new(body);
                let read = avro::read_event(&mut reader, run);
                (read, WIRE_HEADER_BYTES + body.len() - reader.rest().len())
            }
            None => match std::str::from_utf8(value) {
                Ok(text) => {
                    let mut reader = JsonReader::new(text);
                    let read = json::read_event(&mut reader, run, scratch);
                    (read, reader.position())
                }
                Err(error) => (Err(Malformed::Utf8), error.valid_up_to()),
            },
        };
        if let Err(what) = read.and_then(|()| run.end_row(offset, moved, value.len())) {
            let column = run.row.fault_column.and_then(|index| run.plan.schema.columns().get(index));
            let error = malformed(offset, Some(run.plan.schema.table()), column.map(|column| column.name.clone()), what, byte);
            self.drop_row()?;
            return Err(error);
        }
        Ok(())
    }

    /// The changes so far, in the order of their offsets; a new batch begins where the schema changes. The decoder is empty afterwards.
    pub fn finish(&mut self) -> Result<Vec<DecodedBatch>, FormatError> {
        self.end_run()?;
        self.finished_bytes = 0;
        Ok(std::mem::take(&mut self.finished))
    }

    /// Rows taken since the last [`finish`](Self::finish).
    pub fn rows(&self) -> usize {
        self.finished.iter().map(|decoded| decoded.offsets.len()).sum::<usize>() + self.run.as_ref().map_or(0, Run::rows)
    }

    /// About how many bytes of memory the rows taken since the last [`finish`](Self::finish) hold.
    pub fn bytes(&self) -> usize {
        self.finished_bytes + self.run.as_ref().map_or(0, Run::memory_bytes)
    }

    /// The offset after the last record, tombstones included; `None` before the first one.
    pub fn next_offset(&self) -> Option<i64> {
        self.next_offset
    }

    /// Begins a new run unless the one at hand can take a value of that schema and length.
    fn begin_run(&mut self, id: u32, offset: i64, value_bytes: usize) -> Result<(), FormatError> {
        let fits = |run: &Run| run.plan.id == id && run.value_bytes().saturating_add(value_bytes) <= RUN_BYTES_MAX;
        if !self.run.as_ref().is_some_and(fits) {
            if i32::try_from(value_bytes).is_err() {
                return Err(malformed(offset, None, None, Malformed::TooLarge, 0));
            }
            let plan = self.plan(id, offset)?;
            self.end_run()?;
            self.run = Some(Run::new(plan));
        }
        Ok(())
    }

    fn plan(&mut self, id: u32, offset: i64) -> Result<Arc<Plan>, FormatError> {
        if let Some(plan) = self.plans.get(&id) {
            return Ok(Arc::clone(plan));
        }
        let text = self.registry.schema(id)?.ok_or(FormatError::UnknownSchema { offset, id })?;
        let plan = Arc::new(Plan::new(id, &text).map_err(|cause| FormatError::ForeignSchema { offset, id, cause })?);
        self.plans.insert(id, Arc::clone(&plan));
        Ok(plan)
    }

    fn end_run(&mut self) -> Result<(), FormatError> {
        if let Some(run) = self.run.take() {
            self.finished_bytes += run.memory_bytes();
            self.finished.extend(run.finish()?);
        }
        Ok(())
    }

    fn drop_row(&mut self) -> Result<(), FormatError> {
        if let Some(run) = self.run.take() {
            self.finished_bytes += run.memory_bytes();
            self.finished.extend(run.finish_without_row()?);
        }
        Ok(())
    }
}

#[cold]
fn malformed(offset: i64, table: Option<&TableName>, column: Option<String>, what: Malformed, byte: usize) -> FormatError {
    FormatError::Malformed { offset, table: table.cloned(), column, what, byte }
}
