//! The records of `_schemas`, in the shape that Confluent's schema registry gives them.
//!
//! What its classes in `io.confluent.kafka.schemaregistry.storage` write (`SchemaKey`, `SchemaValue`, `ConfigKey` … and their
//! ancestors `SubjectKey` and `SubjectValue`, releases 4 to 8), keys and values, as compact JSON with the fields in this order:
//!
//! ```text
//! {"keytype":"SCHEMA","subject":S,"version":V,"magic":1}
//!     {"subject":S,"version":V,"id":I,"md5":…,"schemaType":T,"references":[{"name":N,"subject":S,"version":V}],
//!      "metadata":…,"ruleSet":…,"schema":"…","deleted":false}
//! {"keytype":"CONFIG","subject":S,"magic":0}
//!     {"compatibilityLevel":L}
//! {"keytype":"DELETE_SUBJECT","subject":S,"magic":0}
//!     {"subject":S,"version":V}
//! {"keytype":"NOOP","magic":0}
//!     no value
//! ```
//!
//! - `schemaType` is left out for Avro, and `md5`, `references`, `metadata` and `ruleSet` where there is nothing in them.
//! - The global level has `"subject":null`; releases that leave out what is null (`JsonInclude.NON_EMPTY`) have no `subject` there.
//! - Newer releases put `subject` into the value of `CONFIG` too. All of them read the value without it.
//! - A version that was deleted softly has `"deleted":true`, one that was deleted for good has no value.
//! - `DELETE_SUBJECT` deletes softly all versions up to and including its own.
//! - `CLEAR_SUBJECT` deletes for good what was deleted softly before, of one subject or of all.
//! - `NOOP` is how an instance finds the end of the topic; its value is not looked at. Ours may hold the highest id ever given, see
//!   [`Record::LastId`].
//! - `MODE` (who may register) and `CONTEXT`, and kinds to come, mean nothing here. They stay in the topic for the registry
//!   that reads it next.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{RawSchemaRecord, Schema, SchemaReference};

/// A record that means something here.
#[derive(Debug)]
pub(super) enum Record {
    /// A version as it is from now on; `None` when it was deleted for good.
    Version { subject: String, version: u32, entry: Option<Entry> },
    /// The settings of a subject, or of all that have none of their own; `None` when they were removed.
    Config { subject: Option<String>, config: Option<Config> },
    /// All versions up to this one are deleted, softly.
    DeleteSubject { subject: String, version: u32 },
    /// What was deleted softly is deleted for good, of one subject or of all.
    ClearSubject { subject: Option<String> },
    /// No id up to this one is given again. Written when versions are deleted for good: compaction then takes their records
    /// away, and with them what says that their ids were in use.
    LastId(u32),
}

/// What a version is, beside its subject and number.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) id: u32,
    pub(super) schema: Arc<Schema>,
    pub(super) deleted: bool,
    /// What the registry keeps with it and we only pass on.
    extras: Option<Box<Extras>>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Extras {
    md5: Option<Value>,
    metadata: Option<Value>,
    rule_set: Option<Value>,
    rest: Map<String, Value>,
}

/// The value of `CONFIG`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Config {
    #[serde(rename = "compatibilityLevel", default, skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<String>,
    /// Settings of the registry that mean nothing here.
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Entry {
    pub(super) fn new(id: u32, schema: Arc<Schema>) -> Self {
        Self { id, schema, deleted: false, extras: None }
    }

    /// The same, deleted softly.
    pub(super) fn into_deleted(self) -> Self {
        Self { deleted: true, ..self }
    }
}

impl Config {
    /// The same with another level.
    pub(super) fn with_level(self, level: Option<String>) -> Self {
        Self { level, ..self }
    }

    /// Whether nothing is set.
    pub(super) fn is_empty(&self) -> bool {
        self.level.is_none() && self.rest.keys().all(|name| name == "subject")
    }
}

/// Enough of any key to know what it is the key of.
#[derive(Deserialize)]
struct AnyKey {
    keytype: String,
}

#[derive(Deserialize)]
struct VersionKey {
    subject: String,
    version: u32,
}

#[derive(Deserialize)]
struct OptionalSubjectKey {
    #[serde(default)]
    subject: Option<String>,
}

#[derive(Deserialize)]
struct ReadSchemaValue {
    id: u32,
    #[serde(default)]
    md5: Option<Value>,
    #[serde(rename = "schemaType", default)]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<SchemaReference>>,
    #[serde(default)]
    metadata: Option<Value>,
    #[serde(rename = "ruleSet", default)]
    rule_set: Option<Value>,
    schema: String,
    #[serde(default)]
    deleted: bool,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize)]
struct DeleteSubjectValue {
    version: u32,
}

#[derive(Serialize, Deserialize)]
struct NoopValue {
    #[serde(rename = "lastId", default)]
    last_id: Option<u32>,
}

#[derive(Serialize)]
struct WrittenVersionKey<'a> {
    keytype: &'static str,
    subject: &'a str,
    version: u32,
    magic: u8,
}

#[derive(Serialize)]
struct WrittenSubjectKey<'a> {
    keytype: &'static str,
    subject: Option<&'a str>,
    magic: u8,
}

#[derive(Serialize)]
struct WrittenNoopKey {
    keytype: &'static str,
    magic: u8,
}

#[derive(Serialize)]
struct WrittenSchemaValue<'a> {
    subject: &'a str,
    version: u32,
    id: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    md5: Option<&'a Value>,
    #[serde(rename = "schemaType", skip_serializing_if = "Option::is_none")]
    schema_type: Option<&'a str>,
    #[serde(skip_serializing_if = "<[SchemaReference]>::is_empty")]
    references: &'a [SchemaReference],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a Value>,
    #[serde(rename = "ruleSet", skip_serializing_if = "Option::is_none")]
    rule_set: Option<&'a Value>,
    schema: &'a str,
    deleted: bool,
    #[serde(flatten)]
    rest: Option<&'a Map<String, Value>>,
}

#[derive(Serialize)]
struct WrittenDeleteSubjectValue<'a> {
    subject: &'a str,
    version: u32,
}

impl Record {
    /// Reads a record; `None` for one that means nothing here.
    pub(super) fn decode(key: &[u8], value: Option<&[u8]>) -> serde_json::Result<Option<Self>> {
        let AnyKey { keytype } = serde_json::from_slice(key)?;
        Ok(match keytype.as_str() {
            "SCHEMA" => {
                let VersionKey { subject, version } = serde_json::from_slice(key)?;
                let entry = value.map(|value| read_entry(value, &subject, version)).transpose()?;
                Some(Self::Version { subject, version, entry })
            }
            "CONFIG" => {
                let OptionalSubjectKey { subject } = serde_json::from_slice(key)?;
                let config = value.map(serde_json::from_slice).transpose()?;
                Some(Self::Config { subject, config })
            }
            "DELETE_SUBJECT" => {
                let OptionalSubjectKey { subject } = serde_json::from_slice(key)?;
                let value = value.map(serde_json::from_slice::<DeleteSubjectValue>).transpose()?;
                subject.zip(value).map(|(subject, value)| Self::DeleteSubject { subject, version: value.version })
            }
            "CLEAR_SUBJECT" => {
                let OptionalSubjectKey { subject } = serde_json::from_slice(key)?;
                value.map(|_| Self::ClearSubject { subject })
            }
            "NOOP" => {
                // The registry's own have no value, and somebody else's are not ours to judge.
                let noop = value.and_then(|value| serde_json::from_slice::<NoopValue>(value).ok());
                noop.and_then(|noop| noop.last_id).map(Self::LastId)
            }
            _ => None,
        })
    }

    /// The record's bytes.
    pub(super) fn encode(&self) -> RawSchemaRecord {
        let subject_key = |keytype, subject| json(&WrittenSubjectKey { keytype, subject, magic: 0 });
        match self {
            Self::Version { subject, version, entry } => {
                let key = WrittenVersionKey { keytype: "SCHEMA", subject, version: *version, magic: 1 };
                (json(&key), entry.as_ref().map(|entry| entry_json(entry, subject, *version)))
            }
            Self::Config { subject, config } => (subject_key("CONFIG", subject.as_deref()), config.as_ref().map(json)),
            Self::DeleteSubject { subject, version } => {
                let value = WrittenDeleteSubjectValue { subject, version: *version };
                (subject_key("DELETE_SUBJECT", Some(subject)), Some(json(&value)))
            }
            Self::ClearSubject { subject } => {
                (subject_key("CLEAR_SUBJECT", subject.as_deref()), Some(json(&serde_json::json!({ "subject": subject }))))
            }
            Self::LastId(id) => {
                (json(&WrittenNoopKey { keytype: "NOOP", magic: 0 }), Some(json(&NoopValue { last_id: Some(*id) })))
            }
        }
    }
}

/// What of a key says which record is replaced by a later one, for compaction: its fields, however they are written. Nothing for the
/// kinds that change what records of *other* keys say, as far as it has come when they are read: they all stay.
pub(crate) fn identity(key: &[u8], identity: &mut Vec<u8>) -> Option<u64> {
    let AnyKey { keytype } = serde_json::from_slice(key).ok()?;
    if matches!(keytype.as_str(), "DELETE_SUBJECT" | "CLEAR_SUBJECT") {
        return None;
    }
    let mut fields: Map<String, Value> = serde_json::from_slice(key).ok()?;
    // Releases that leave out what is null, and numbers of the key's format, make no other key.
    fields.retain(|name, value| name != "magic" && !value.is_null());
    let mut fields: Vec<_> = fields.into_iter().collect();
    fields.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    *identity = json(&fields);
    Some(0)
}

fn read_entry(value: &[u8], subject: &str, version: u32) -> serde_json::Result<Entry> {
    let mut value: ReadSchemaValue = serde_json::from_slice(value)?;
    // They are in the key, which is what counts.
    let named = value.rest.remove("subject").zip(value.rest.remove("version"));
    if named.is_some_and(|(of, number)| of != subject || number != version) {
        let problem = "the value is of another subject or version than the key";
        return Err(serde::de::Error::custom(problem));
    }
    let extras = Extras { md5: value.md5, metadata: value.metadata, rule_set: value.rule_set, rest: value.rest };
    let mut schema = Schema::avro(value.schema);
    schema.references = value.references.unwrap_or_default();
    if let Some(schema_type) = value.schema_type {
        schema.schema_type = schema_type.into();
    }
    let extras = (extras != Extras::default()).then(|| Box::new(extras));
    Ok(Entry { id: value.id, schema: Arc::new(schema), deleted: value.deleted, extras })
}

fn entry_json(entry: &Entry, subject: &str, version: u32) -> Vec<u8> {
    let extras = entry.extras.as_deref();
    json(&WrittenSchemaValue {
        subject,
        version,
        id: entry.id,
        md5: extras.and_then(|extras| extras.md5.as_ref()),
        schema_type: (!entry.schema.is_avro()).then_some(&entry.schema.schema_type),
        references: &entry.schema.references,
        metadata: extras.and_then(|extras| extras.metadata.as_ref()),
        rule_set: extras.and_then(|extras| extras.rule_set.as_ref()),
        schema: &entry.schema.text,
        deleted: entry.deleted,
        rest: extras.map(|extras| &extras.rest),
    })
}

/// Serialising strings, numbers and JSON into memory cannot fail.
fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
