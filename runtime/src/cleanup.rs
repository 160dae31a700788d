//! Settings: how a topic is kept from growing for ever.

use std::{borrow::Cow, fmt, time::Duration};

use connector_api::{ByteSize, Span};
use log_core::Compaction;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, SeqAccess, Visitor},
    ser::SerializeSeq as _,
};

/// Which ways of removing changes are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cleanup {
    /// Old segments, as `retention` says.
    pub delete: bool,
    /// What later changes of the same row make superfluous.
    pub compact: bool,
}

impl Default for Cleanup {
    fn default() -> Self {
        Self { delete: true, compact: false }
    }
}

impl Cleanup {
    const NAMES: [&'static str; 2] = ["delete", "compact"];

    fn add<E: serde::de::Error>(&mut self, name: &str) -> Result<(), E> {
        match name {
            "delete" => self.delete = true,
            "compact" => self.compact = true,
            other => return Err(E::unknown_variant(other, &Self::NAMES)),
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Cleanup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrMore;
        impl<'de> Visitor<'de> for OneOrMore {
            type Value = Cleanup;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`delete`, `compact` or `[delete, compact]`")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Cleanup, E> {
                let mut cleanup = Cleanup { delete: false, compact: false };
                cleanup.add(name)?;
                Ok(cleanup)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Cleanup, A::Error> {
                let mut cleanup = Cleanup { delete: false, compact: false };
                let mut count = 0;
                while let Some(name) = names.next_element::<Cow<'_, str>>()? {
                    cleanup.add(&name)?;
                    count += 1;
                }
                if count == 0 {
                    return Err(A::Error::invalid_length(0, &self));
                }
                Ok(cleanup)
            }
        }
        deserializer.deserialize_any(OneOrMore)
    }
}

impl Serialize for Cleanup {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let used = Self::NAMES.into_iter().zip([self.delete, self.compact]).filter(|(_, used)| *used);
        let names: Vec<_> = used.map(|(name, _)| name).collect();
        if let [name] = names.as_slice() {
            return serializer.serialize_str(name);
        }
        let mut list = serializer.serialize_seq(Some(names.len()))?;
        names.iter().try_for_each(|name| list.serialize_element(name))?;
        list.end()
    }
}

impl JsonSchema for Cleanup {
    fn schema_name() -> Cow<'static, str> {
        "Cleanup".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let name = serde_json::json!({ "type": "string", "enum": Self::NAMES });
        json_schema!({
            "anyOf": [name, { "type": "array", "items": name, "minItems": 1 }],
            "examples": ["[delete, compact]"],
        })
    }
}

/// How topics are compacted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CompactionSettings {
    /// A delete and its tombstone go once they are in the log for longer than this and every sink has them. A sink that reads from the log's start
    /// has this long to come to the end; one that is taken out of the file has this long to come back.
    pub tombstone_age: Span,
    /// Memory for the keys of one round, 24 bytes a key at three quarters full. With more keys than fit it takes more rounds. One topic is compacted at
    /// a time. It comes on top of `--memory`.
    pub memory: ByteSize,
    /// How much is read and written in a second.
    pub rate: ByteSize,
    /// A partition is compacted once so much of it, in percent of its bytes, was not yet: 0 to 100. Less makes topics smaller and costs more reading.
    pub min_dirty_percent: u8,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        let Compaction { tombstone_age, memory_bytes, bytes_per_second, min_dirty_percent, .. } = Compaction::default();
        Self {
            tombstone_age: Span(tombstone_age),
            memory: ByteSize(memory_bytes),
            rate: ByteSize(bytes_per_second.unwrap_or(u64::MAX)),
            min_dirty_percent,
        }
    }
}

impl CompactionSettings {
    /// What is wrong with a setting, and which one.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if self.min_dirty_percent > 100 {
            return Err(("min_dirty_percent", format!("`{}` is no part of a hundred: write 0 to 100", self.min_dirty_percent)));
        }
        if !(64 << 10..=16 << 30).contains(&self.memory.0) {
            return Err(("memory", format!("`{}` is no memory for keys: write `64KiB` to `16GiB`", self.memory)));
        }
        if self.rate.0 < 64 << 10 {
            return Err(("rate", format!("`{}` a second would take for ever: write `64KiB` or more", self.rate)));
        }
        if self.tombstone_age.0 > Duration::from_secs(100 * 365 * 24 * 3600) {
            return Err(("tombstone_age", format!("`{}` is longer than anybody waits", self.tombstone_age)));
        }
        Ok(())
    }

    /// As the log takes it.
    pub(crate) fn for_log(&self) -> Compaction {
        Compaction {
            tombstone_age: self.tombstone_age.0,
            memory_bytes: self.memory.0,
            bytes_per_second: Some(self.rate.0),
            min_dirty_percent: self.min_dirty_percent,
            identity: formats::key_identity,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_or_both() {
        for (text, delete, compact) in
            [(r#""delete""#, true, false), (r#""compact""#, false, true), (r#"["delete","compact"]"#, true, true)]
        {
            let cleanup: Cleanup = serde_json::from_str(text).unwrap();
            assert_eq!(cleanup, Cleanup { delete, compact });
            assert_eq!(serde_json::to_string(&cleanup).unwrap(), text);
        }
        let error = |text| serde_json::from_str::<Cleanup>(text).unwrap_err().to_string();
        assert!(error("[]").contains("invalid length 0, expected `delete`, `compact` or `[delete, compact]`"), "{}", error("[]"));
        assert!(error(r#""compress""#).contains("unknown variant `compress`, expected `delete` or `compact`"));
    }
}
