use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the records of a pipeline are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Debezium's envelope in Avro, in the Confluent wire format. Small and fast.
    #[default]
    Avro,
    /// Debezium's envelope as JSON without a schema inside. Readable with any tool, some three times the size.
    Json,
}
