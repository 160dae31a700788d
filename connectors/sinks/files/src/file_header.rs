//! What a file says of itself, as key-value pairs in its Parquet footer. The footer, not the metadata beside the object, is what this
//! sink reads: it is written together with the rows, survives a copy to another store, and is known only at the end, when a
//! multipart upload can no longer be given metadata.

use connector_api::{Column, Offset, PartitionId, TopicId};
use parquet::file::metadata::{KeyValue, ParquetMetaData};

use crate::{change_log::FileSchema, error::FilesError};

/// The version of the layout that `docs/parquet-files.md` describes.
pub(crate) const FORMAT_VERSION: &str = "1";

pub(crate) const TOPIC: &str = "mainstem.topic";
pub(crate) const TOPIC_ID: &str = "mainstem.topic_id";
pub(crate) const PARTITION: &str = "mainstem.partition";
pub(crate) const FIRST_OFFSET: &str = "mainstem.first_offset";
pub(crate) const NEXT_OFFSET: &str = "mainstem.next_offset";
pub(crate) const WRITER: &str = "mainstem.writer";
pub(crate) const VERSION: &str = "mainstem.format_version";
pub(crate) const SCHEMA: &str = "mainstem.schema";

/// What is known of a file when it begins.
#[derive(Debug, Clone)]
pub(crate) struct FileIdentity {
    pub topic: String,
    pub topic_id: TopicId,
    pub partition: PartitionId,
    /// The range's first offset, inclusive.
    pub first: Offset,
    pub writer: String,
}

impl FileIdentity {
    /// Names and values but for the range's end and the schema.
    pub fn pairs(&self) -> Vec<(&'static str, String)> {
        vec![
            (TOPIC, self.topic.clone()),
            (TOPIC_ID, self.topic_id.to_string()),
            (PARTITION, self.partition.to_string()),
            (FIRST_OFFSET, self.first.to_string()),
            (WRITER, self.writer.clone()),
            (VERSION, FORMAT_VERSION.to_owned()),
        ]
    }

    /// All of a footer's pairs. `next` is the range's end, exclusive.
    pub fn footer(&self, next: Offset, schema: &FileSchema) -> Vec<KeyValue> {
        let end = [(NEXT_OFFSET, next.to_string()), (SCHEMA, schema_json(schema))];
        self.pairs().into_iter().chain(end).map(|(key, value)| KeyValue::new(key.to_owned(), value)).collect()
    }
}

/// The table's shape: what the file's columns are called there, their types, and the key.
fn schema_json(schema: &FileSchema) -> String {
    let describe = |(column, name): (&Column, String)| serde_json::json!({ "name": column.name, "file_column": name, "type": column.kind, "source_type": column.source_type });
    let table = &schema.table;
    let names = schema.column_names();
    let key: Vec<_> = table.key().iter().filter_map(|&index| names.get(index).cloned()).collect();
    let columns: Vec<_> = table.columns().iter().zip(names).map(describe).collect();
    let name = table.table();
    serde_json::json!({ "schema": name.schema, "table": name.name, "columns": columns, "key": key }).to_string()
}

/// What a footer that was read says of the range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub topic_id: String,
    pub partition: PartitionId,
    pub first: Offset,
    /// The range's end, exclusive.
    pub next: Offset,
    pub writer: String,
}

impl FileHeader {
    /// Reads the footer of the file at `place`.
    pub fn read(metadata: &ParquetMetaData, place: &str) -> Result<Self, FilesError> {
        let not_ours = |reason: String| FilesError::NotOurs { place: place.to_owned(), reason };
        let pairs = metadata.file_metadata().key_value_metadata().map_or(&[][..], Vec::as_slice);
        let text = |key: &str| {
            let value = pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
            value.ok_or_else(|| not_ours(format!("its footer lacks `{key}`")))
        };
        let number = |key: &str| {
            let value = text(key)?;
            value.parse::<i64>().map_err(|_| not_ours(format!("`{key}` in its footer is no number")))
        };
        let version = text(VERSION)?;
        if version != FORMAT_VERSION {
            return Err(not_ours(format!("its layout has version {version}, and this build knows {FORMAT_VERSION}")));
        }
        let partition =
            PartitionId::try_from(number(PARTITION)?).map_err(|_| not_ours(format!("`{PARTITION}` is out of range")))?;
        Ok(Self {
            topic_id: text(TOPIC_ID)?,
            partition,
            first: number(FIRST_OFFSET)?,
            next: number(NEXT_OFFSET)?,
            writer: text(WRITER)?,
        })
    }
}
