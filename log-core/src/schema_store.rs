//! Schemas by global id and by subject, kept in the topic `_schemas` in the record shape of Confluent's registry, so that
//! its contents can be moved either way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::batch_builder::RecordBatchBuilder;
use crate::clock;
use crate::compression::Compression;
use crate::error::{LogError, Result};
use crate::log::Core;
use crate::names::SYSTEM_PIPELINE;
use crate::partition::Offset;
use crate::pipeline::CommitSet;

const TOPIC: &str = "_schemas";
const READ_BYTES: usize = 1 << 20;
const KEYTYPE_SCHEMA: &str = "SCHEMA";

/// Key of a record of `_schemas`; fields in the order that Confluent's registry writes them.
#[derive(Serialize, Deserialize)]
struct SchemaKey {
    keytype: String,
    subject: String,
    version: u32,
    magic: u8,
}

/// Only what tells the kinds of keys apart.
#[derive(Deserialize)]
struct AnyKey {
    keytype: String,
}

#[derive(Serialize, Deserialize)]
struct SchemaValue {
    subject: String,
    version: u32,
    id: u32,
    schema: String,
    #[serde(default)]
    deleted: bool,
}

/// One version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaVersion {
    /// From 1, within the subject.
    pub version: u32,
    /// Global id, the one in Avro records.
    pub id: u32,
    /// The schema's text.
    pub schema: Arc<str>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    contents: Mutex<Contents>,
}

#[derive(Debug, Default)]
struct Contents {
    /// Where reading the topic goes on.
    next_offset: Offset,
    by_id: HashMap<u32, Arc<str>>,
    by_schema: HashMap<Arc<str>, u32>,
    subjects: BTreeMap<String, BTreeMap<u32, SchemaVersion>>,
    last_id: u32,
}

/// The schemas of records. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct SchemaStore {
    core: Arc<Core>,
}

impl SchemaStore {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Gives the global id of a schema under a subject, storing it durably if it is new there. The same text has the same id
    /// under every subject. Texts are compared byte by byte.
    pub fn register(&self, subject: &str, schema_json: &str) -> Result<u32> {
        Ok(self.register_all(&[(subject, schema_json)])?.first().copied().unwrap_or_default())
    }

    /// As [`register`](Self::register) for many schemas, given as subject and text, in one commit. The ids are in the same order.
    pub fn register_all(&self, schemas: &[(&str, &str)]) -> Result<Vec<u32>> {
        let mut contents = self.core.schemas.contents.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new: Vec<SchemaValue> = Vec::new();
        let mut ids = Vec::with_capacity(schemas.len());
        for &(subject, schema) in schemas {
            let known = contents.subjects.get(subject);
            let known_id =
                known.and_then(|versions| versions.values().find(|known| &*known.schema == schema)).map(|known| known.id);
            let added = |new: &&SchemaValue| new.subject == subject && new.schema == schema;
            if let Some(id) = known_id.or_else(|| new.iter().find(added).map(|new| new.id)) {
                ids.push(id);
                continue;
            }
            let same_text =
                contents.by_schema.get(schema).copied().or_else(|| new.iter().find(|n| n.schema == schema).map(|n| n.id));
            let last_id = new.iter().map(|new| new.id).max().unwrap_or(0).max(contents.last_id);
            let last_version = known.and_then(|versions| versions.keys().last()).copied().unwrap_or(0);
            let version = last_version + 1 + new.iter().filter(|new| new.subject == subject).count() as u32;
            let id = same_text.unwrap_or(last_id + 1);
            new.push(SchemaValue { subject: subject.to_owned(), version, id, schema: schema.to_owned(), deleted: false });
            ids.push(id);
        }
        if new.is_empty() {
            return Ok(ids);
        }
        let topic = self.core.create_topic(TOPIC, 1, SYSTEM_PIPELINE)?;
        let mut builder = RecordBatchBuilder::new(Compression::None, clock::now_ms());
        for value in &new {
            let subject = value.subject.clone();
            let key = SchemaKey { keytype: KEYTYPE_SCHEMA.to_owned(), subject, version: value.version, magic: 1 };
            // Serialising plain strings and numbers into memory cannot fail.
            let key = serde_json::to_vec(&key).unwrap_or_default();
            let bytes = serde_json::to_vec(value).unwrap_or_default();
            builder.append(Some(&key), Some(&bytes), &[])?;
        }
        let batches = vec![(topic, 0, builder.finish())];
        let set = CommitSet { batches, position: Bytes::new() };
        self.core.pipeline(SYSTEM_PIPELINE).commit(&self.core, None, set)?;
        // One writer, under this lock: the records just committed are the only new ones.
        contents.next_offset += new.len() as Offset;
        new.into_iter().for_each(|value| contents.put(value));
        Ok(ids)
    }

    /// The schema of a global id.
    pub fn get(&self, id: u32) -> Option<Arc<str>> {
        let contents = self.core.schemas.contents.lock().unwrap_or_else(PoisonError::into_inner);
        contents.by_id.get(&id).cloned()
    }

    /// The versions of a subject, oldest first; none for an unknown one.
    pub fn versions(&self, subject: &str) -> Vec<SchemaVersion> {
        let contents = self.core.schemas.contents.lock().unwrap_or_else(PoisonError::into_inner);
        contents.subjects.get(subject).map_or_else(Vec::new, |versions| versions.values().cloned().collect())
    }

    /// All subjects that have a version, sorted.
    pub fn subjects(&self) -> Vec<String> {
        let contents = self.core.schemas.contents.lock().unwrap_or_else(PoisonError::into_inner);
        contents.subjects.keys().cloned().collect()
    }
}

impl Contents {
    fn put(&mut self, value: SchemaValue) {
        let schema: Arc<str> = Arc::from(value.schema);
        self.last_id = self.last_id.max(value.id);
        self.by_id.insert(value.id, schema.clone());
        self.by_schema.entry(schema.clone()).or_insert(value.id);
        if value.deleted {
            // Its id still names the schema in records that were written with it.
            self.remove(&value.subject, value.version);
            return;
        }
        let version = SchemaVersion { version: value.version, id: value.id, schema };
        self.subjects.entry(value.subject).or_default().insert(value.version, version);
    }

    fn remove(&mut self, subject: &str, version: u32) {
        if let Some(versions) = self.subjects.get_mut(subject) {
            versions.remove(&version);
            if versions.is_empty() {
                self.subjects.remove(subject);
            }
        }
    }
}

/// Reads what was committed to the topic since the last time.
pub(crate) fn load(core: &Core) -> Result<()> {
    let mut contents = core.schemas.contents.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(topic) = core.topic(TOPIC) else { return Ok(()) };
    while contents.next_offset < topic.end_offset(0) {
        for batch in topic.read(0, contents.next_offset, READ_BYTES)? {
            for record in &batch.records()? {
                let record = record?;
                let unreadable = |source| LogError::Internal { topic: TOPIC, offset: record.offset, source };
                let key = record.key.unwrap_or_default();
                let kind: AnyKey = serde_json::from_slice(key).map_err(unreadable)?;
                // The registry's other kinds (compatibility levels, markers) mean nothing here.
                if kind.keytype != KEYTYPE_SCHEMA {
                    continue;
                }
                match record.value {
                    Some(value) => contents.put(serde_json::from_slice(value).map_err(unreadable)?),
                    None => {
                        let key: SchemaKey = serde_json::from_slice(key).map_err(unreadable)?;
                        contents.remove(&key.subject, key.version);
                    }
                }
            }
            contents.next_offset = batch.next_offset();
        }
    }
    Ok(())
}
