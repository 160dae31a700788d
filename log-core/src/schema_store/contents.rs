//! What the records of `_schemas` come to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use tracing::warn;

use super::record::{Config, Entry, Record};
use super::{Listing, READ_BYTES, ResolvedSchema, Schema, SchemaReference, SchemaVersion, TOPIC};
use crate::error::{LogError, Result};
use crate::log::Core;
use crate::partition::Offset;

/// References to references are followed no further than this.
const REFERENCE_DEPTH_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Where reading the topic goes on.
    next_offset: Offset,
    by_id: HashMap<u32, Known>,
    by_schema: HashMap<Arc<Schema>, u32>,
    subjects: BTreeMap<String, BTreeMap<u32, Entry>>,
    /// Settings by subject; those of all subjects under `None`.
    configs: HashMap<Option<String>, Config>,
    /// The highest id that was ever given.
    pub(super) last_id: u32,
    /// What of it this process has written down for a compaction.
    pub(super) noted_last_id: u32,
    /// A commit failed, and may have happened all the same.
    pub(super) uncertain: bool,
}

/// A schema that has an id.
#[derive(Debug)]
struct Known {
    schema: Arc<Schema>,
    /// Subjects and versions, deleted ones too.
    versions: BTreeSet<(String, u32)>,
}

impl Contents {
    /// Reads what was committed to the topic since the last time.
    pub(super) fn catch_up(&mut self, core: &Core) -> Result<()> {
        let Some(topic) = core.topic(TOPIC) else { return Ok(()) };
        self.next_offset = self.next_offset.max(topic.start_offset(0));
        while self.next_offset < topic.end_offset(0) {
            for batch in topic.read(0, self.next_offset, READ_BYTES)? {
                for record in &batch.records()? {
                    let record = record?;
                    // A compaction may have made an earlier batch end behind this offset.
                    if record.offset < self.next_offset {
                        continue;
                    }
                    let unreadable = |source| LogError::Internal { topic: TOPIC, offset: record.offset, source };
                    if let Some(record) = Record::decode(record.key.unwrap_or_default(), record.value).map_err(unreadable)? {
                        self.apply(record);
                    }
                }
                self.next_offset = batch.next_offset();
            }
        }
        Ok(())
    }

    /// Counts records that were applied already and now are in the topic.
    pub(super) fn advance(&mut self, records: usize) {
        self.next_offset += records as Offset;
    }

    /// Whether a record would give an id a second meaning.
    pub(super) fn conflict(&self, record: &Record) -> Option<LogError> {
        let Record::Version { subject, version, entry: Some(entry) } = record else { return None };
        let known = self.by_id.get(&entry.id).filter(|known| known.schema != entry.schema)?;
        let (taken_by, _) = known.versions.first()?;
        Some(LogError::SchemaIdTaken { id: entry.id, subject: subject.clone(), version: *version, taken_by: taken_by.clone() })
    }

    /// Whether a record would put another schema in the place of a version.
    pub(super) fn replaced(&self, record: &Record) -> Option<LogError> {
        let Record::Version { subject, version, entry: Some(entry) } = record else { return None };
        self.entry(subject, *version).filter(|known| known.schema != entry.schema)?;
        Some(LogError::SchemaVersionTaken { subject: subject.clone(), version: *version })
    }

    pub(super) fn apply(&mut self, record: Record) {
        if let Some(conflict) = self.conflict(&record) {
            // As the registry does: what records were written with that id is the schema that had it first.
            warn!(error = %conflict, "a record of _schemas is passed over");
            return;
        }
        match record {
            Record::Version { subject, version, entry: Some(entry) } => self.put(subject, version, entry),
            Record::Version { subject, version, entry: None } => self.remove(&subject, version),
            Record::Config { subject, config: Some(config) } => {
                self.configs.insert(subject, config);
            }
            Record::Config { subject, config: None } => {
                self.configs.remove(&subject);
            }
            Record::DeleteSubject { subject, version } => {
                let versions = self.subjects.get_mut(&subject).into_iter().flatten();
                versions.filter(|(number, _)| **number <= version).for_each(|(_, entry)| entry.deleted = true);
            }
            Record::ClearSubject { subject } => {
                let of = |name: &String| subject.as_ref().is_none_or(|subject| subject == name);
                let subjects = self.subjects.iter().filter(|(name, _)| of(name));
                let deleted: Vec<_> = subjects
                    .flat_map(|(name, versions)| {
                        let deleted = versions.iter().filter(|(_, entry)| entry.deleted);
                        deleted.map(|(version, _)| (name.clone(), *version))
                    })
                    .collect();
                deleted.iter().for_each(|(subject, version)| self.remove(subject, *version));
            }
            Record::LastId(id) => self.last_id = self.last_id.max(id),
        }
    }

    fn put(&mut self, subject: String, version: u32, entry: Entry) {
        self.remove(&subject, version);
        self.last_id = self.last_id.max(entry.id);
        self.by_schema.entry(entry.schema.clone()).or_insert(entry.id);
        let new = || Known { schema: entry.schema.clone(), versions: BTreeSet::new() };
        self.by_id.entry(entry.id).or_insert_with(new).versions.insert((subject.clone(), version));
        self.subjects.entry(subject).or_default().insert(version, entry);
    }

    fn remove(&mut self, subject: &str, version: u32) {
        let Some(versions) = self.subjects.get_mut(subject) else { return };
        let Some(entry) = versions.remove(&version) else { return };
        if versions.is_empty() {
            self.subjects.remove(subject);
        }
        let Some(known) = self.by_id.get_mut(&entry.id) else { return };
        known.versions.remove(&(subject.to_owned(), version));
        if known.versions.is_empty() {
            self.by_id.remove(&entry.id);
            if self.by_schema.get(&entry.schema) == Some(&entry.id) {
                self.by_schema.remove(&entry.schema);
            }
        }
    }

    pub(super) fn schema(&self, id: u32) -> Option<&Arc<Schema>> {
        self.by_id.get(&id).map(|known| &known.schema)
    }

    pub(super) fn id_of(&self, schema: &Schema) -> Option<u32> {
        self.by_schema.get(schema).copied()
    }

    /// Oldest first.
    pub(super) fn entries(&self, subject: &str) -> impl DoubleEndedIterator<Item = (u32, &Entry)> {
        self.subjects.get(subject).into_iter().flatten().map(|(version, entry)| (*version, entry))
    }

    pub(super) fn entry(&self, subject: &str, version: u32) -> Option<&Entry> {
        self.subjects.get(subject)?.get(&version)
    }

    /// The newest version of a subject that is this schema.
    pub(super) fn find(&self, subject: &str, schema: &Schema, listing: Listing) -> Option<(u32, &Entry)> {
        self.entries(subject).rev().find(|(_, entry)| listing.shows(entry) && *entry.schema == *schema)
    }

    pub(super) fn subjects(&self, listing: Listing) -> Vec<String> {
        let shown = self.subjects.iter().filter(|(_, versions)| versions.values().any(|entry| listing.shows(entry)));
        shown.map(|(subject, _)| subject.clone()).collect()
    }

    pub(super) fn uses(&self, id: u32, listing: Listing) -> Vec<(String, u32)> {
        let versions = self.by_id.get(&id).into_iter().flat_map(|known| &known.versions);
        let shown = |(subject, version): &&(String, u32)| self.entry(subject, *version).is_some_and(|entry| listing.shows(entry));
        versions.filter(shown).cloned().collect()
    }

    /// The first version that is in use and refers to this one.
    pub(super) fn referred_by(&self, subject: &str, version: u32) -> Option<(&str, u32)> {
        let refers = |reference: &SchemaReference| reference.subject == subject && reference.version == i64::from(version);
        self.subjects.iter().find_map(|(name, versions)| {
            let mut live = versions.iter().filter(|(_, entry)| !entry.deleted);
            let (number, _) = live.find(|(_, entry)| entry.schema.references.iter().any(refers))?;
            Some((name.as_str(), *number))
        })
    }

    pub(super) fn config(&self, subject: Option<&str>) -> Option<&Config> {
        self.configs.get(&subject.map(str::to_owned))
    }

    /// The level that counts for a subject: its own, or that of all.
    pub(super) fn level(&self, subject: &str) -> Option<&str> {
        let of = |subject| self.config(subject).and_then(|config| config.level.as_deref());
        of(Some(subject)).or_else(|| of(None))
    }

    /// A schema with all that it refers to, as far as that is here.
    pub(super) fn resolve(&self, schema: &Arc<Schema>) -> ResolvedSchema {
        let mut references = Vec::new();
        self.follow(&schema.references, &mut HashSet::new(), &mut references, 0);
        ResolvedSchema { schema: schema.clone(), references }
    }

    fn follow<'a>(
        &'a self,
        references: &'a [SchemaReference],
        seen: &mut HashSet<(&'a str, i64)>,
        found: &mut Vec<Arc<Schema>>,
        depth: usize,
    ) {
        for reference in references {
            if depth > REFERENCE_DEPTH_MAX || !seen.insert((&reference.subject, reference.version)) {
                continue;
            }
            // The registry takes -1 for the newest version.
            let entry = match u32::try_from(reference.version) {
                Ok(version) => self.entry(&reference.subject, version),
                Err(_) => self.entries(&reference.subject).rev().find(|(_, entry)| !entry.deleted).map(|(_, entry)| entry),
            };
            if let Some(entry) = entry {
                self.follow(&entry.schema.references, seen, found, depth + 1);
                found.push(entry.schema.clone());
            }
        }
    }

    pub(super) fn version(version: u32, entry: &Entry) -> SchemaVersion {
        SchemaVersion { version, id: entry.id, schema: entry.schema.clone(), deleted: entry.deleted }
    }

    /// The number that comes after those of a subject. Versions that were deleted softly keep theirs.
    pub(super) fn next_version(&self, subject: &str) -> Option<u32> {
        let last = self.subjects.get(subject).and_then(|versions| versions.last_key_value());
        last.map_or(Some(1), |(version, _)| next_number(*version))
    }

    pub(super) fn next_id(&self) -> Option<u32> {
        next_number(self.last_id)
    }

    /// The numbers of the versions that are not deleted.
    pub(super) fn live_versions(&self, subject: &str) -> Vec<u32> {
        self.entries(subject).filter(|(_, entry)| !entry.deleted).map(|(version, _)| version).collect()
    }
}

/// Numbers of the registry are Java's `int`, and ids stand in records as one.
fn next_number(last: u32) -> Option<u32> {
    last.checked_add(1).filter(|next| i32::try_from(*next).is_ok())
}
