use std::{
    fs::File,
    io::{self, Write},
    sync::Arc,
};

use arrow_schema::{DataType, Field};
use bytes::Bytes;
use connector_api::ChangeBatch;
use parquet::{
    arrow::ArrowWriter,
    basic::{Encoding, ZstdLevel},
    errors::ParquetError,
    file::{
        metadata::KeyValue,
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
    },
    schema::types::ColumnPath,
};

use crate::{
    change_log::{COMMIT_TS, FileSchema, OP, ORDER, ORDER_FIELDS, TX},
    config::Compression,
};

/// A row group is closed at about this many encoded bytes: it is what a writer holds in memory, and large enough for readers.
const ROW_GROUP_BYTES: usize = 16 << 20;

/// Readers that work on row groups in parallel want some of them in a file.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// A row group is closed too when its encoders (dictionaries, pages that are not full yet) hold this much: thousands of columns do.
const ENCODER_BYTES: usize = 48 << 20;

/// A dictionary of this size or more is given up for the rest of its row group. Columns whose values hardly repeat are found out early:
/// hashing each of their values costs more than all other encoding.
const DICTIONARY_BYTES: usize = 96 << 10;

/// Batches are encoded in pieces of about this size, so that a row group ends near its limit.
const PIECE_BYTES: usize = 4 << 20;

/// A Parquet file that is being written. Encoding takes processor time: call it where a thread may be kept busy.
pub(crate) struct ParquetFile {
    writer: ArrowWriter<Output>,
    schema: Arc<FileSchema>,
}

impl ParquetFile {
    /// Begins a file.
    pub fn new(schema: Arc<FileSchema>, compression: Compression, output: Output) -> Result<Self, ParquetError> {
        let properties = properties(&schema, compression)?;
        let writer = ArrowWriter::try_new(output, Arc::clone(schema.arrow()), Some(properties))?;
        Ok(Self { writer, schema })
    }

    /// The file's columns.
    pub fn schema(&self) -> &Arc<FileSchema> {
        &self.schema
    }

    /// Encodes rows that [`fit`](FileSchema::fits).
    pub fn write(&mut self, batch: &ChangeBatch) -> Result<(), ParquetError> {
        let rows = self.schema.rows(batch)?;
        let pieces = batch.memory_bytes().div_ceil(PIECE_BYTES).max(1);
        let piece_rows = rows.num_rows().div_ceil(pieces).max(1);
        let mut from = 0;
        while from < rows.num_rows() {
            let len = piece_rows.min(rows.num_rows() - from);
            self.writer.write(&rows.slice(from, len))?;
            if self.writer.memory_size() > ENCODER_BYTES {
                self.writer.flush()?;
            }
            from += len;
        }
        Ok(())
    }

    /// Bytes written and, about, to be written.
    pub fn bytes(&self) -> u64 {
        (self.writer.bytes_written() + self.writer.in_progress_size()) as u64
    }

    /// Parts that are full, if the output is one of parts.
    pub fn take_parts(&mut self) -> Vec<Bytes> {
        match self.writer.inner_mut() {
            Output::File(_) => Vec::new(),
            Output::Parts(parts) => std::mem::take(&mut parts.full),
        }
    }

    /// Writes the footer with these pairs. Returns the output, complete.
    pub fn finish(mut self, footer: Vec<KeyValue>) -> Result<Output, ParquetError> {
        footer.into_iter().for_each(|pair| self.writer.append_key_value_metadata(pair));
        self.writer.into_inner()
    }
}

/// Where the encoded bytes go.
#[derive(Debug)]
pub(crate) enum Output {
    /// A file on disk.
    File(File),
    /// Memory, cut into parts.
    Parts(Parts),
}

/// Bytes cut into parts of one size, all but the last.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Parts of that size.
    pub full: Vec<Bytes>,
    /// The part that is being filled.
    pub last: Vec<u8>,
    part_bytes: usize,
}

impl Parts {
    /// Parts of that many bytes, at least one.
    pub fn new(part_bytes: usize) -> Self {
        Self { full: Vec::new(), last: Vec::new(), part_bytes: part_bytes.max(1) }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let parts = match self {
            Self::File(file) => return file.write(bytes),
            Self::Parts(parts) => parts,
        };
        if parts.last.len() >= parts.part_bytes {
            parts.full.push(Bytes::from(std::mem::take(&mut parts.last)));
        }
        let (now, _later) = bytes.split_at(bytes.len().min(parts.part_bytes - parts.last.len()));
        parts.last.extend_from_slice(now);
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Parts(_) => Ok(()),
        }
    }
}

fn properties(schema: &FileSchema, compression: Compression) -> Result<WriterProperties, ParquetError> {
    let compression = match compression {
        Compression::Zstd(level) => parquet::basic::Compression::ZSTD(ZstdLevel::try_new(level)?),
        Compression::Snappy => parquet::basic::Compression::SNAPPY,
        Compression::None => parquet::basic::Compression::UNCOMPRESSED,
    };
    let mut builder = WriterProperties::builder()
        .set_created_by(concat!("mainstem version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(compression)
        .set_dictionary_page_size_limit(DICTIONARY_BYTES)
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
    // These ascend in small steps or repeat: deltas are nothing, and a dictionary would grow with the rows.
    for name in ORDER_FIELDS {
        builder = deltas(builder, ColumnPath::new(vec![ORDER.to_owned(), name.to_owned()]));
    }
    builder = deltas(builder, ColumnPath::from(COMMIT_TS));
    if schema.arrow().field_with_name(TX).is_ok_and(|field| field.data_type().is_integer()) {
        builder = deltas(builder, ColumnPath::from(TX));
    }
    builder = builder.set_column_statistics_enabled(ColumnPath::from(OP), EnabledStatistics::Chunk);
    for field in schema.arrow().fields().iter().take(schema.table.columns().len()) {
        builder = column(builder, field, vec![field.name().clone()]);
    }
    // A key of one column is different in each row, but for later changes of the same row.
    if let [key] = schema.table.key()
        && let Some(field) = schema.arrow().fields().get(*key)
    {
        let path = ColumnPath::new(vec![field.name().clone()]);
        builder = match field.data_type() {
            DataType::Int32 | DataType::Int64 => deltas(builder, path),
            DataType::Utf8 | DataType::Binary => builder.set_column_dictionary_enabled(path, false),
            _ => builder,
        };
    }
    Ok(builder.build())
}

fn deltas(builder: WriterPropertiesBuilder, path: ColumnPath) -> WriterPropertiesBuilder {
    builder.set_column_dictionary_enabled(path.clone(), false).set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
}

fn column(builder: WriterPropertiesBuilder, field: &Field, mut path: Vec<String>) -> WriterPropertiesBuilder {
    match field.data_type() {
        // NaN has no place among minimum and maximum, and a reader that takes it for the greatest number (PostgreSQL and DuckDB do)
        // would pass over pages that hold it.
        DataType::Float32 | DataType::Float64 => {
            builder.set_column_statistics_enabled(ColumnPath::new(path), EnabledStatistics::None)
        }
        // Times of rows that were written one after the other are close to each other.
        DataType::Timestamp(..) => builder.set_column_encoding(ColumnPath::new(path), Encoding::DELTA_BINARY_PACKED),
        // Sixteen random bytes do not repeat.
        DataType::FixedSizeBinary(_) => builder.set_column_dictionary_enabled(ColumnPath::new(path), false),
        DataType::List(item) => {
            path.extend(["list".to_owned(), item.name().clone()]);
            column(builder, item, path)
        }
        _ => builder,
    }
}
