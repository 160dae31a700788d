//! Schemas by global id and by subject, kept in the topic `_schemas` in the record shape of Confluent's registry, so that
//! its contents can be moved either way.
//!
//! The store understands no schema and no compatibility level. It keeps both, and before a schema follows others under a
//! subject that has a level, it asks a [`SchemaCheck`]. A subject without a level, of its own or for all, takes anything: a
//! pipeline must not stop because somebody altered a table.

mod contents;
mod record;

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use self::contents::Contents;
use self::record::{Entry, Record};
use crate::batch_builder::RecordBatchBuilder;
use crate::clock;
use crate::compaction::{self, Compacted, Compaction};
use crate::compression::Compression;
use crate::error::{LogError, Result};
use crate::log::Core;
use crate::names::SYSTEM_PIPELINE;
use crate::pipeline::{CommitSet, Settle};

const TOPIC: &str = "_schemas";
const READ_BYTES: usize = 1 << 20;
const AVRO: &str = "AVRO";

/// A schema as it is registered. Two are the same if all of this is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Schema {
    /// The text, compared byte by byte.
    pub text: Arc<str>,
    /// The language it is in: `AVRO`, `JSON`, `PROTOBUF`.
    pub schema_type: Cow<'static, str>,
    /// The schemas whose types it uses by name.
    pub references: Vec<SchemaReference>,
}

/// Another schema that one refers to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SchemaReference {
    /// What the schema that refers to it calls it.
    pub name: String,
    /// Its subject.
    pub subject: String,
    /// Its version; −1 is the newest.
    pub version: i64,
}

/// One version of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaVersion {
    /// From 1, within the subject.
    pub version: u32,
    /// Global id, the one in Avro records.
    pub id: u32,
    /// The schema.
    pub schema: Arc<Schema>,
    /// Deleted softly: no longer listed, and no longer compared with; its id still names it.
    pub deleted: bool,
}

/// A schema with what is needed to understand it.
#[derive(Clone, Debug)]
pub struct ResolvedSchema {
    /// The schema.
    pub schema: Arc<Schema>,
    /// All that it refers to, itself or by way of others; each after those that it refers to itself.
    pub references: Vec<Arc<Schema>>,
}

/// A schema that shall become the next version of a subject.
#[derive(Debug)]
pub struct Candidate<'a> {
    /// The subject.
    pub subject: &'a str,
    /// The level that is set for the subject, or else for all.
    pub level: &'a str,
    /// The schema.
    pub schema: ResolvedSchema,
    /// The versions there are, newest first, without deleted ones.
    pub existing: Vec<(u32, ResolvedSchema)>,
}

/// Says whether a schema may become the next version; `Err` has the reasons, for people.
pub type SchemaCheck<'a> = &'a dyn Fn(&Candidate<'_>) -> std::result::Result<(), Vec<String>>;

/// A record of `_schemas`: its key and, unless it says that the key is gone, its value.
pub type RawSchemaRecord = (Vec<u8>, Option<Vec<u8>>);

/// Which versions are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Those that are in use.
    Live,
    /// Also those that were deleted softly.
    WithDeleted,
}

/// How a version is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It is no longer listed. Its id still names its schema, for records that were written with it.
    Soft,
    /// It is gone, with its id if no other version has the same; only for one that was deleted softly before.
    Permanent,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    contents: Mutex<Contents>,
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The schemas of records. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct SchemaStore {
    core: Arc<Core>,
}

impl Schema {
    /// An Avro schema that refers to no other.
    pub fn avro(text: impl Into<Arc<str>>) -> Self {
        Self { text: text.into(), schema_type: Cow::Borrowed(AVRO), references: Vec::new() }
    }

    /// Whether it is in Avro.
    pub fn is_avro(&self) -> bool {
        self.schema_type == AVRO
    }
}

impl Listing {
    fn shows(self, entry: &Entry) -> bool {
        self == Self::WithDeleted || !entry.deleted
    }
}

impl SchemaStore {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Gives the global id of a schema under a subject, storing it durably as the next version if it is not one yet. The
    /// same schema has the same id under every subject. One that was deleted softly comes back as a new version.
    ///
    /// # Errors
    /// [`LogError::SchemaRefused`] when a level is set and `check` says no. Nothing is stored then.
    pub fn register(&self, subject: &str, schema: &Schema, check: SchemaCheck<'_>) -> Result<u32> {
        {
            let contents = self.core.schemas.lock();
            if let Some((_, entry)) = contents.find(subject, schema, Listing::Live) {
                return Ok(entry.id);
            }
        }
        self.change(|change| change.register(subject, schema, check))
    }

    /// As [`register`](Self::register) for many schemas, given with their subjects, in one commit. The ids are in the same
    /// order. If one is refused, none is stored.
    pub fn register_all(&self, schemas: &[(&str, Schema)], check: SchemaCheck<'_>) -> Result<Vec<u32>> {
        self.change(|change| schemas.iter().map(|(subject, schema)| change.register(subject, schema, check)).collect())
    }

    /// Whether [`register`](Self::register) would take a schema, at this level instead of the one that is set if one is
    /// given. Nothing is stored.
    pub fn check(&self, subject: &str, schema: &Schema, level: Option<&str>, check: SchemaCheck<'_>) -> Result<()> {
        let contents = self.core.schemas.lock();
        ask(&contents, subject, &Arc::new(schema.clone()), level.or_else(|| contents.level(subject)), check)
    }

    /// The text of the schema of a global id.
    pub fn get(&self, id: u32) -> Option<Arc<str>> {
        self.core.schemas.lock().schema(id).map(|schema| schema.text.clone())
    }

    /// The schema of a global id.
    pub fn schema(&self, id: u32) -> Option<Arc<Schema>> {
        self.core.schemas.lock().schema(id).cloned()
    }

    /// The version of a subject that is this schema; the newest, if there are several.
    pub fn lookup(&self, subject: &str, schema: &Schema, listing: Listing) -> Option<SchemaVersion> {
        let contents = self.core.schemas.lock();
        contents.find(subject, schema, listing).map(|(version, entry)| Contents::version(version, entry))
    }

    /// The versions of a subject, oldest first; none for an unknown one.
    pub fn versions(&self, subject: &str, listing: Listing) -> Vec<SchemaVersion> {
        let contents = self.core.schemas.lock();
        let shown = contents.entries(subject).filter(|(_, entry)| listing.shows(entry));
        shown.map(|(version, entry)| Contents::version(version, entry)).collect()
    }

    /// All subjects that have a version, sorted.
    pub fn subjects(&self, listing: Listing) -> Vec<String> {
        self.core.schemas.lock().subjects(listing)
    }

    /// The subjects and versions that have this global id, sorted.
    pub fn uses(&self, id: u32, listing: Listing) -> Vec<(String, u32)> {
        self.core.schemas.lock().uses(id, listing)
    }

    /// The compatibility level that is set for a subject, or for all that have none of their own.
    pub fn compatibility(&self, subject: Option<&str>) -> Option<String> {
        self.core.schemas.lock().config(subject).and_then(|config| config.level.clone())
    }

    /// The compatibility level that counts for a subject: its own, or that of all. `None`: anything goes.
    pub fn compatibility_in_force(&self, subject: &str) -> Option<String> {
        self.core.schemas.lock().level(subject).map(str::to_owned)
    }

    /// Sets the compatibility level of a subject, or of all that have none of their own; `None` takes it away. The level is
    /// a word that the check understands.
    pub fn set_compatibility(&self, subject: Option<&str>, level: Option<&str>) -> Result<()> {
        self.change(|change| {
            let config = change.contents.config(subject).cloned().unwrap_or_default();
            if config.level.as_deref() != level {
                let config = Some(config.with_level(level.map(str::to_owned))).filter(|config| !config.is_empty());
                change.put(Record::Config { subject: subject.map(str::to_owned), config });
            }
            Ok(())
        })
    }

    /// Deletes a version. With the last one in use, the subject's level goes too, as in Confluent's registry.
    ///
    /// # Errors
    /// When there is no such version, another one that is in use refers to it, or it is to be gone for good and was not
    /// deleted softly before.
    pub fn delete_version(&self, subject: &str, version: u32, deletion: Deletion) -> Result<()> {
        self.change(|change| {
            change.check_deletable(subject, version, deletion)?;
            match deletion {
                Deletion::Soft => {
                    let entry = change.contents.entry(subject, version).cloned().map(Entry::into_deleted);
                    change.put(Record::Version { subject: subject.to_owned(), version, entry });
                    if change.contents.live_versions(subject).is_empty() {
                        change.remove_config(subject);
                    }
                }
                Deletion::Permanent => change.remove_for_good(subject, &[version]),
            }
            Ok(())
        })
    }

    /// Deletes a subject with its level. Returns the versions that were deleted by this, oldest first.
    ///
    /// # Errors
    /// As [`delete_version`](Self::delete_version); then no version is deleted.
    pub fn delete_subject(&self, subject: &str, deletion: Deletion) -> Result<Vec<u32>> {
        self.change(|change| {
            let versions = match deletion {
                Deletion::Soft => change.contents.live_versions(subject),
                Deletion::Permanent => change.contents.entries(subject).map(|(version, _)| version).collect(),
            };
            let Some(&last) = versions.last() else { return Err(LogError::UnknownSubject(subject.to_owned())) };
            for &version in &versions {
                change.check_deletable(subject, version, deletion)?;
            }
            match deletion {
                Deletion::Soft => {
                    change.put(Record::DeleteSubject { subject: subject.to_owned(), version: last });
                    change.remove_config(subject);
                }
                Deletion::Permanent => change.remove_for_good(subject, &versions),
            }
            Ok(versions)
        })
    }

    /// Takes over records of another registry's `_schemas`, keys and values, in their order and as they are, in one commit.
    ///
    /// # Errors
    /// When a record cannot be read, or gives a schema an id or a version that another one has here. Nothing is taken over
    /// then.
    pub fn import(&self, records: &[RawSchemaRecord]) -> Result<()> {
        self.change(|change| {
            for (index, (key, value)) in records.iter().enumerate() {
                let unreadable = |source| LogError::ForeignSchemaRecord { index, source };
                if let Some(record) = Record::decode(key, value.as_deref()).map_err(unreadable)? {
                    if let Some(conflict) = change.contents.conflict(&record).or_else(|| change.contents.replaced(&record)) {
                        return Err(conflict);
                    }
                    change.contents.apply(record);
                    change.applied = true;
                }
                change.records.push((key.clone(), value.clone()));
            }
            // A `NOOP` of another registry may be among them.
            change.contents.noted_last_id = 0;
            Ok(())
        })
    }

    /// All records of `_schemas`, keys and values, for another registry to read in this order.
    pub fn export(&self) -> Result<Vec<RawSchemaRecord>> {
        let Some(topic) = self.core.topic(TOPIC) else { return Ok(Vec::new()) };
        let (mut next, end) = (topic.start_offset(0), topic.end_offset(0));
        let mut records = Vec::new();
        while next < end {
            for batch in topic.read(0, next, READ_BYTES)? {
                for record in &batch.records()? {
                    let record = record?;
                    records.push((record.key.unwrap_or_default().to_vec(), record.value.map(<[u8]>::to_vec)));
                }
                next = batch.next_offset();
            }
        }
        Ok(records)
    }

    /// Runs `make`, and commits what it puts. An error leaves everything as it was.
    fn change<T>(&self, make: impl FnOnce(&mut Change<'_>) -> Result<T>) -> Result<T> {
        let mut contents = self.core.schemas.lock();
        if contents.uncertain {
            // A commit that does nothing but recover: whether the failed one happened has to be known before ids are given.
            self.core.pipeline(SYSTEM_PIPELINE).commit(&self.core, None, CommitSet::default(), Settle::Now)?;
            contents.uncertain = false;
        }
        contents.catch_up(&self.core)?;
        let mut change = Change { contents: &mut contents, records: Vec::new(), applied: false };
        let made = make(&mut change);
        let Change { records, applied, .. } = change;
        let mut uncertain = false;
        let done = made.and_then(|made| self.commit(&records).map(|()| made).inspect_err(|_| uncertain = true));
        if done.is_ok() {
            contents.advance(records.len());
        } else if applied {
            // Rare, and what is in the topic is what counts.
            *contents = Contents::default();
            contents.uncertain = uncertain;
            contents.catch_up(&self.core)?;
        }
        done
    }

    /// Writes down the highest id that was ever given, unless that was done: a compaction takes away the records of versions that are
    /// gone for good, which say so too.
    fn note_last_id(&self) -> Result<()> {
        self.change(|change| {
            let last_id = change.contents.last_id;
            if change.contents.noted_last_id != last_id {
                change.put(Record::LastId(last_id));
                change.contents.noted_last_id = last_id;
            }
            Ok(())
        })
    }

    fn commit(&self, records: &[RawSchemaRecord]) -> Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let topic = self.core.create_topic(TOPIC, 1, SYSTEM_PIPELINE)?;
        let mut builder = RecordBatchBuilder::new(Compression::None, clock::now_ms());
        for (key, value) in records {
            builder.append(Some(key), value.as_deref(), &[])?;
        }
        let set = CommitSet { batches: vec![(topic, 0, builder.finish())], position: Bytes::new() };
        self.core.pipeline(SYSTEM_PIPELINE).commit(&self.core, None, set, Settle::Now).map(|_| ())
    }
}

/// Records on their way into the topic. They are in the contents already, under the lock, so that each sees those before it.
struct Change<'a> {
    contents: &'a mut Contents,
    records: Vec<RawSchemaRecord>,
    applied: bool,
}

impl Change<'_> {
    fn put(&mut self, record: Record) {
        self.records.push(record.encode());
        self.contents.apply(record);
        self.applied = true;
    }

    fn register(&mut self, subject: &str, schema: &Schema, check: SchemaCheck<'_>) -> Result<u32> {
        if let Some((_, entry)) = self.contents.find(subject, schema, Listing::Live) {
            return Ok(entry.id);
        }
        let schema = Arc::new(schema.clone());
        ask(self.contents, subject, &schema, self.contents.level(subject), check)?;
        let exhausted = || LogError::SchemaNumbersExhausted(subject.to_owned());
        let id = self.contents.id_of(&schema).or_else(|| self.contents.next_id()).ok_or_else(exhausted)?;
        let version = self.contents.next_version(subject).ok_or_else(exhausted)?;
        // As the registry does: the new version takes the place of those with its schema that were deleted.
        let replaced: Vec<u32> =
            self.contents.entries(subject).filter(|(_, entry)| entry.id == id).map(|(version, _)| version).collect();
        for version in replaced {
            self.put(Record::Version { subject: subject.to_owned(), version, entry: None });
        }
        self.put(Record::Version { subject: subject.to_owned(), version, entry: Some(Entry::new(id, schema)) });
        Ok(id)
    }

    fn check_deletable(&self, subject: &str, version: u32, deletion: Deletion) -> Result<()> {
        let entry = self.contents.entry(subject, version).filter(|entry| deletion == Deletion::Permanent || !entry.deleted);
        let subject = subject.to_owned();
        let Some(entry) = entry else { return Err(LogError::UnknownSchemaVersion { subject, version }) };
        if deletion == Deletion::Permanent && !entry.deleted {
            return Err(LogError::SchemaNotDeleted { subject, version });
        }
        match self.contents.referred_by(&subject, version) {
            Some((by, by_version)) => Err(LogError::SchemaInUse { subject, version, by: by.to_owned(), by_version }),
            None => Ok(()),
        }
    }

    fn remove_config(&mut self, subject: &str) {
        if self.contents.config(Some(subject)).is_some() {
            self.put(Record::Config { subject: Some(subject.to_owned()), config: None });
        }
    }

    fn remove_for_good(&mut self, subject: &str, versions: &[u32]) {
        self.put(Record::LastId(self.contents.last_id));
        for &version in versions {
            self.put(Record::Version { subject: subject.to_owned(), version, entry: None });
        }
    }
}

/// Asks the check, if there is a level.
fn ask(contents: &Contents, subject: &str, schema: &Arc<Schema>, level: Option<&str>, check: SchemaCheck<'_>) -> Result<()> {
    let Some(level) = level else { return Ok(()) };
    let live = contents.entries(subject).rev().filter(|(_, entry)| !entry.deleted);
    let existing = live.map(|(version, entry)| (version, contents.resolve(&entry.schema))).collect();
    let candidate = Candidate { subject, level, schema: contents.resolve(schema), existing };
    check(&candidate).map_err(|reasons| LogError::SchemaRefused {
        subject: subject.to_owned(),
        level: level.to_owned(),
        reasons: reasons.join("; "),
    })
}

/// Compacts the topic.
pub(crate) fn compact(core: &Arc<Core>, compaction: &Compaction, stop: &AtomicBool) -> Result<Compacted> {
    let Some(topic) = core.topic(TOPIC) else { return Ok(Compacted { finished: true, ..Compacted::default() }) };
    if topic.inner.partition(0)?.state().segments.len() > 1 {
        SchemaStore::new(core.clone()).note_last_id()?;
    }
    let compaction = Compaction { identity: record::identity, ..compaction.clone() };
    compaction::run(core, &topic.inner, &compaction, &[], stop)
}

/// Reads what was committed to the topic since the last time.
pub(crate) fn load(core: &Core) -> Result<()> {
    core.schemas.lock().catch_up(core)
}

/// What records of the topic come to, for [`crate::fuzzing`]. Those that cannot be read are passed over.
#[cfg(feature = "fuzzing")]
pub(crate) fn replay<'a>(records: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) {
    let mut contents = Contents::default();
    let mut identity = Vec::new();
    for (key, value) in records {
        let _ = record::identity(key, &mut identity);
        let Ok(Some(record)) = Record::decode(key, value) else { continue };
        // What is written of it says the same.
        let (key, value) = record.encode();
        let again = Record::decode(&key, value.as_deref());
        let again = again.ok().flatten().map(|record| record.encode().0);
        assert_eq!(again, Some(key));
        contents.apply(record);
    }
    for subject in contents.subjects(Listing::WithDeleted) {
        for (version, entry) in contents.entries(&subject) {
            assert_eq!(contents.schema(entry.id), Some(&entry.schema));
            assert!(contents.uses(entry.id, Listing::WithDeleted).contains(&(subject.clone(), version)));
            let _ = contents.find(&subject, &entry.schema, Listing::Live);
            let _ = contents.resolve(&entry.schema);
            let _ = contents.referred_by(&subject, version);
        }
        let _ = (contents.level(&subject), contents.next_version(&subject), contents.live_versions(&subject));
    }
    assert!(contents.next_id().is_none_or(|next| contents.schema(next).is_none()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable_file::faults;
    use crate::{Log, LogOptions};

    /// Every file operation of a registration fails once. Whether it happened all the same or not: no id has two schemas.
    #[test]
    fn failing_commits_leave_no_id_with_two_meanings() {
        for action in ["write", "sync", "create"] {
            let mut nth = 0;
            loop {
                let dir = tempfile::tempdir().unwrap();
                let log = Log::open(dir.path(), LogOptions::default()).unwrap();
                let schemas = log.schemas();
                let register = |subject: &str, text: &str| schemas.register(subject, &Schema::avro(text), &|_| Ok(()));
                faults::fail(dir.path(), action, "", nth);
                let failed = register("a", "one").is_err();
                let happened = !faults::clear(dir.path());
                // One that failed is not listed until it is known to have happened.
                assert_eq!(schemas.versions("a", Listing::Live).is_empty(), failed, "{action} {nth}");
                let ids = [register("b", "two").unwrap(), register("a", "one").unwrap(), register("c", "three").unwrap()];
                let text = |id| schemas.get(id).unwrap().to_string();
                assert_eq!(ids.map(text), ["two", "one", "three"], "{action} {nth}");
                assert_eq!(schemas.versions("a", Listing::WithDeleted).len(), 1, "{action} {nth}");
                drop((schemas, log));
                let log = Log::open(dir.path(), LogOptions::default()).unwrap();
                let text = |id| log.schemas().get(id).unwrap().to_string();
                assert_eq!(ids.map(text), ["two", "one", "three"], "{action} {nth}");
                if !happened {
                    break;
                }
                nth += 1;
            }
            assert!(nth > 0, "{action} never happened");
        }
    }
}
