//! Setting: when what was written to the log is synced to the disk.

use std::{fmt, str::FromStr, time::Duration};

use connector_api::Span;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// When commits are synced. Sinks see a commit, and the source is told that it may forget it, only after that: no setting loses a change or
/// shows a sink one that a loss of power could take back. (Commands that look at the files of a running process see what is in them.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Each by itself.
    #[default]
    Fsync,
    /// Together with others: so much time lies between two syncs.
    Interval(Span),
}

impl Durability {
    const LEAST: Duration = Duration::from_millis(1);
    const MOST: Duration = Duration::from_secs(60);

    /// The least time between two syncs.
    pub(crate) fn interval(self) -> Duration {
        match self {
            Self::Fsync => Duration::ZERO,
            Self::Interval(Span(interval)) => interval,
        }
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "fsync" {
            return Ok(Self::Fsync);
        }
        let interval = text.strip_prefix("interval(").and_then(|rest| rest.strip_suffix(')'));
        let wrong = || format!("`{text}` is no durability: write `fsync`, or `interval(200ms)` with the time between two syncs");
        let span: Span = interval.ok_or_else(wrong)?.parse()?;
        if (Self::LEAST..=Self::MOST).contains(&span.0) {
            Ok(Self::Interval(span))
        } else {
            Err(format!("`{text}`: syncs can be `1ms` to `60s` apart"))
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fsync => f.write_str("fsync"),
            Self::Interval(span) => write!(f, "interval({span})"),
        }
    }
}

impl<'de> Deserialize<'de> for Durability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Durability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Durability {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Durability".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^(fsync|interval\(.+\))$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durabilities() {
        assert_eq!("fsync".parse(), Ok(Durability::Fsync));
        for text in ["interval(1ms)", "interval(200ms)", "interval(60s)"] {
            let durability: Durability = text.parse().unwrap();
            assert_eq!(durability.to_string().parse(), Ok(durability), "{text}");
        }
        assert_eq!("interval(1s)".parse::<Durability>().unwrap().interval(), Duration::from_secs(1));
        for wrong in ["", "none", "interval", "interval()", "interval(5)", "interval(0ms)", "interval(61s)", "interval(1s", "Fsync"]
        {
            assert!(wrong.parse::<Durability>().is_err(), "{wrong}");
        }
    }
}
