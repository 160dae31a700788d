//! Pipeline files: read, checked, and turned into [`Pipeline`]s whose settings are known to be good. Touches nothing but the files.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use connector_api::{ByteSize, ConfigError, Document, SinkConnector, SourceConnector, Span, parse_at};
use formats::Format;
use log_core::{Compression, Retention};
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};

use crate::{
    Connectors,
    cleanup::{Cleanup, CompactionSettings},
    durability::Durability,
};

/// A pipeline file, as people write it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PipelineFile {
    /// Names the pipeline: topic prefix, default slot name, metrics label. 1 to 63 of `A-Z a-z 0-9 _ -`.
    name: String,
    /// Where changes come from: one connector by its name, with its settings. Left out, the pipeline drains `topics` that are in the log.
    #[serde(default)]
    #[schemars(with = "Option<serde_json::Value>")]
    source: Option<ConnectorName>,
    /// Without a source: which topics to drain, exact names or patterns with `*`.
    #[serde(default)]
    topics: Vec<String>,
    /// How changes are kept in the log.
    #[serde(default)]
    log: LogSettings,
    /// Where changes go: a name of your own for each sink, and one connector with its settings.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    sinks: BTreeMap<String, SinkEntry>,
}

/// How a pipeline's changes are kept in the log.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// How a change is encoded: `avro` (compact, with real types; the default) or `json` (Debezium's JSON without schemas).
    pub format: Format,
    /// Partitions of each topic, fixed when the topic is made. Changes of one row stay in one partition, in order.
    pub partitions: u16,
    /// How record batches are compressed: `none`, `lz4` or `zstd`.
    #[serde(deserialize_with = "compression")]
    #[schemars(with = "CompressionName")]
    pub compression: Compression,
    /// Write a record without a value after each delete, for compaction and for consumers that expect Debezium's tombstones. Default: where
    /// `cleanup` compacts; without them compacted topics keep a record of every deleted row.
    pub tombstones: Option<bool>,
    /// How topics are kept from growing for ever: `delete` removes old segments as `retention` says (the default), `compact` keeps of each row the last
    /// change that says all of it, with those behind it, however old; `[delete, compact]` does both. Tables without a key are not compacted. What sinks
    /// end up with stays the same, but files, and tables in `append` mode, lack the changes in between if they come to them later.
    pub cleanup: Cleanup,
    /// With `cleanup: compact`: when and how fast.
    pub compaction: CompactionSettings,
    /// With `cleanup: delete`: what is kept of each topic. Whole segments are removed, oldest first.
    pub retention: RetentionSettings,
    /// A segment file is followed by a new one before it grows beyond this, from `64KiB` to `2047MiB`.
    pub segment: ByteSize,
    /// When changes are synced to the disk: `fsync`, each commit by itself (the default), or `interval(200ms)`, commits of that time together, for disks
    /// whose syncs are slow; `1ms` to `60s`. Sinks see changes only after that, so an interval can delay them, but loses none.
    pub durability: Durability,
}

/// What is kept of each topic.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionSettings {
    /// Changes are removed once they are in the log for longer than this and every sink has them; `null` keeps them for ever. Default `7d`.
    pub age: Option<Span>,
    /// Changes that every sink has are removed, oldest first, while a topic has more bytes than this. Default: no limit.
    pub bytes: Option<ByteSize>,
    /// Changes that a sink does not have yet are kept, but if this is given no more bytes of a topic than this. A sink that needs what was
    /// removed stops and says so. Default: no limit; a full disk pauses the source.
    pub unread_bytes: Option<ByteSize>,
}

impl Default for RetentionSettings {
    fn default() -> Self {
        Self { age: Some(Span(Duration::from_secs(7 * 24 * 3600))), bytes: None, unread_bytes: None }
    }
}

impl RetentionSettings {
    /// As the log takes it.
    pub(crate) fn for_log(&self) -> Retention {
        let bytes = |size: Option<ByteSize>| size.map(|size| size.0);
        Retention { age: self.age.map(|age| age.0), bytes: bytes(self.bytes), unread_bytes: bytes(self.unread_bytes) }
    }
}

impl LogSettings {
    /// Whether a delete has a tombstone behind it.
    pub(crate) fn writes_tombstones(&self) -> bool {
        self.tombstones.unwrap_or(self.cleanup.compact)
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: Format::Avro,
            partitions: 1,
            compression: Compression::None,
            tombstones: None,
            cleanup: Cleanup::default(),
            compaction: CompactionSettings::default(),
            retention: RetentionSettings::default(),
            segment: ByteSize(128 << 20),
            durability: Durability::default(),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum CompressionName {
    None,
    Lz4,
    Zstd,
}

fn compression<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
    Ok(match CompressionName::deserialize(deserializer)? {
        CompressionName::None => Compression::None,
        CompressionName::Lz4 => Compression::Lz4,
        CompressionName::Zstd => Compression::Zstd,
    })
}

/// The one key of `source: { postgres: … }`. What stands under it is read later, by the connector of that name.
#[derive(Debug)]
struct ConnectorName(String);

impl<'de> Deserialize<'de> for ConnectorName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneKey;
        impl<'de> Visitor<'de> for OneKey {
            type Value = ConnectorName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a connector's name with its settings under it, for example `files: { url: file:///tmp/lake }`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ConnectorName, A::Error> {
                let Some((name, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? else {
                    return Err(A::Error::custom("a connector's name is missing, for example `postgres:` or `files:`"));
                };
                match map.next_key::<String>()? {
                    Some(second) => {
                        Err(A::Error::custom(format!("one connector is expected here, not both `{name}` and `{second}`")))
                    }
                    None => Ok(ConnectorName(name)),
                }
            }
        }
        deserializer.deserialize_map(OneKey)
    }
}

/// What stands under a sink's name.
#[derive(Debug)]
struct SinkEntry {
    connector: ConnectorName,
    from: Begin,
}

/// Where a sink begins whose target holds nothing yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Begin {
    /// At the first change of each topic; if that was removed, the sink stops and says so.
    #[default]
    Beginning,
    /// At the first change that the log still has.
    LogStart,
}

impl<'de> Deserialize<'de> for SinkEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = SinkEntry;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a connector's name with its settings under it, for example `files: { url: file:///tmp/lake }`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SinkEntry, A::Error> {
                let (mut connector, mut from) = (None, Begin::default());
                while let Some(key) = map.next_key::<String>()? {
                    if key == "from" {
                        from = map.next_value()?;
                        continue;
                    }
                    if let Some(ConnectorName(first)) = &connector {
                        return Err(A::Error::custom(format!("one connector is expected here, not both `{first}` and `{key}`")));
                    }
                    let IgnoredAny = map.next_value()?;
                    connector = Some(ConnectorName(key));
                }
                let missing = || A::Error::custom("a connector's name is missing, for example `postgres:` or `files:`");
                Ok(SinkEntry { connector: connector.ok_or_else(missing)?, from })
            }
        }
        deserializer.deserialize_map(Keys)
    }
}

/// A pipeline whose file and settings are known to be good.
#[derive(Clone)]
pub(crate) struct Pipeline {
    pub name: String,
    pub file: String,
    pub source: Option<Arc<dyn SourceConnector>>,
    /// Patterns of the topics that the sinks drain.
    pub topics: Vec<String>,
    pub log: LogSettings,
    pub sinks: Vec<NamedSink>,
}

/// A sink of a pipeline.
#[derive(Clone)]
pub(crate) struct NamedSink {
    pub name: String,
    pub connector: Arc<dyn SinkConnector>,
    pub from: Begin,
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.name).field("file", &self.file).finish_non_exhaustive()
    }
}

/// Why pipelines could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    #[error("cannot read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("{} holds no pipeline file (*.yaml, *.yml)", .0.display())]
    NoFiles(PathBuf),
    #[error("pipeline `{name}` is in {first} and in {second}: every pipeline needs a name of its own")]
    Twice { name: String, first: String, second: String },
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Reads the pipelines of files, and of the `*.yaml` and `*.yml` files of folders. `${NAME}` is taken from `variables`.
pub(crate) fn load(
    paths: &[PathBuf],
    connectors: &Connectors,
    variables: &HashMap<String, String>,
) -> Result<Vec<Pipeline>, DefinitionError> {
    let mut pipelines: Vec<Pipeline> = Vec::new();
    for path in paths {
        for file in files_of(path)? {
            let text = fs::read_to_string(&file).map_err(|cause| DefinitionError::Read { path: file.clone(), cause })?;
            let document = Document { file: file.display().to_string(), text, variables: variables.clone() };
            let pipeline = parse(&document, connectors)?;
            if let Some(other) = pipelines.iter().find(|other| other.name == pipeline.name) {
                return Err(DefinitionError::Twice { name: pipeline.name, first: other.file.clone(), second: pipeline.file });
            }
            pipelines.push(pipeline);
        }
    }
    Ok(pipelines)
}

fn files_of(path: &Path) -> Result<Vec<PathBuf>, DefinitionError> {
    let unreadable = |cause| DefinitionError::Read { path: path.to_owned(), cause };
    if !fs::metadata(path).map_err(unreadable)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.path();
        if file.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() { Err(DefinitionError::NoFiles(path.to_owned())) } else { Ok(files) }
}

/// Reads one pipeline.
pub(crate) fn parse(document: &Document, connectors: &Connectors) -> Result<Pipeline, ConfigError> {
    let file: PipelineFile = parse_at(document, &[])?;
    let wrong = |path: &[&str], message: String| ConfigError::at_path(document, path, message);
    if !is_name(&file.name) {
        return Err(wrong(&["name"], format!("`{}` is no pipeline name: use 1 to 63 of A-Z a-z 0-9 _ -", file.name)));
    }
    if file.log.partitions == 0 {
        return Err(wrong(&["log", "partitions"], "a topic needs at least 1 partition".to_owned()));
    }
    if !(64 << 10..2048 << 20).contains(&file.log.segment.0) {
        let message = format!("`{}` is no size for a segment: write `64KiB` to `2047MiB`", file.log.segment);
        return Err(wrong(&["log", "segment"], message));
    }
    file.log.compaction.check().map_err(|(setting, message)| wrong(&["log", "compaction", setting], message))?;
    let source = match &file.source {
        None => None,
        Some(ConnectorName(kind)) => {
            let factory = connectors.source(kind).map_err(|message| wrong(&["source"], format!("source: {message}")))?;
            Some(factory.make(document, &["source", kind])?)
        }
    };
    let topics = match (&source, file.topics.is_empty()) {
        (Some(_), true) => vec![format!("{}.*", file.name)],
        (None, false) => file.topics,
        (Some(_), false) => {
            return Err(wrong(
                &["topics"],
                "`topics` is for pipelines without a `source`: this one drains what its source brings".to_owned(),
            ));
        }
        (None, true) => {
            return Err(wrong(
                &[],
                "neither `source` nor `topics`: say where changes come from, or which topics of the log to drain".to_owned(),
            ));
        }
    };
    let mut sinks = Vec::new();
    for (name, SinkEntry { connector: ConnectorName(kind), from }) in &file.sinks {
        if !is_name(name) {
            return Err(wrong(&["sinks", name], format!("`{name}` is no sink name: use 1 to 63 of A-Z a-z 0-9 _ -")));
        }
        let factory = connectors.sink(kind).map_err(|message| wrong(&["sinks", name], format!("sinks.{name}: {message}")))?;
        sinks.push(NamedSink { name: name.clone(), connector: factory.make(document, &["sinks", name, kind])?, from: *from });
    }
    if source.is_none() && sinks.is_empty() {
        return Err(wrong(&[], "a pipeline without a source needs at least one sink".to_owned()));
    }
    Ok(Pipeline { name: file.name, file: document.file.clone(), source, topics, log: file.log, sinks })
}

fn is_name(name: &str) -> bool {
    (1..=63).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// Whether a topic's name fits a pattern, in which `*` stands for any text.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, tail)) => name
            .strip_prefix(head)
            .is_some_and(|rest| (0..=rest.len()).any(|at| rest.is_char_boundary(at) && fits(tail, &rest[at..]))),
    }
}

/// The JSON schema of pipeline files for these connectors.
pub(crate) fn json_schema(connectors: &Connectors) -> serde_json::Value {
    let mut schema = schemars::schema_for!(PipelineFile).to_value();
    let one_of = |schemas: Vec<(String, serde_json::Value)>, more: &serde_json::Value| {
        let choices: Vec<_> = schemas
            .into_iter()
            .map(|(name, settings)| {
                let mut properties = more.clone();
                properties[&name] = settings;
                serde_json::json!({
                    "type": "object", "properties": properties, "required": [name], "additionalProperties": false,
                })
            })
            .collect();
        serde_json::json!({ "oneOf": choices })
    };
    let from = serde_json::json!({ "from": {
        "enum": ["beginning", "log_start"],
        "default": "beginning",
        "description": "Where a sink begins whose target holds nothing yet. `beginning`: at the first change of each topic; if that was removed, the sink stops and \
                        says so. `log_start`: at the first change that the log still has.",
    }});
    let none = serde_json::json!({});
    let sources = connectors.sources().map(|(name, factory)| (name.to_owned(), factory.schema().to_value())).collect();
    let sources = one_of(sources, &none);
    let sinks = one_of(connectors.sinks().map(|(name, factory)| (name.to_owned(), factory.schema().to_value())).collect(), &from);
    schema["properties"]["source"]["oneOf"] = sources["oneOf"].clone();
    schema["properties"]["sinks"]["additionalProperties"] = sinks;
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("shop.public.*", "shop.public.orders", true),
            ("shop.public.*", "shop.private.orders", false),
            ("shop.*.orders", "shop.public.orders", true),
            ("shop.*.orders", "shop.public.orders2", false),
            ("*", "anything", true),
            ("a", "ab", false),
            ("a**b", "axb", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
