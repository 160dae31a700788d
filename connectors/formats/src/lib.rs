//! Change batches to and from records: one record a change, its key the key columns, its value Debezium's envelope.
//!
//! Two formats share the envelope: Avro in the Confluent wire format, and JSON without a schema inside. Both register the same Avro
//! schema of the value, and a reader needs nothing but that schema's text: no catalog, no pipeline file.
//!
//! Reading order: `layout` says what a schema text carries and `schema_text` how it is laid out; [`Encoder`] and [`Decoder`] walk
//! batches and records; `avro` and `json` hold one value of each type; `topic` names topics. Whether a schema may
//! follow others is a matter of its own, in `avro::compatibility`.
mod avro;
mod column_view;
mod decoder;
mod encoder;
mod error;
mod format;
mod json;
mod key_identity;
mod layout;
mod record;
mod registry;
mod run;
mod schema_text;
mod text;
mod topic;

pub use crate::{
    avro::compatibility::{
        AvroSchema, Compatibility, Direction, Incompatibility, IncompatibilityKind, SchemaError, TooComplex, UnknownCompatibility,
        check_compatibility, incompatibilities,
    },
    decoder::{DecodedBatch, Decoder},
    encoder::Encoder,
    error::{FormatError, LayoutError, Malformed},
    format::Format,
    json::read_json,
    key_identity::key_identity,
    layout::table_schema,
    record::{HEADER_MOVE, HEADER_PARTIAL, HEADER_SCHEMA, RecordRef, RecordSink},
    registry::{MemoryRegistry, RegistryError, SchemaRegistry},
    schema_text::{key_schema, key_subject, value_schema, value_subject},
    topic::{parse_topic_name, topic_name},
};
