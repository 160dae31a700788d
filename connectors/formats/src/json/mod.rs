//! JSON: single values, and whole events.
//!
//! Integers are exact; decimals are text with all their digits; bytes are base64; an instant is text in ISO 8601 (see `text`), other times
//! are numbers as in Avro. NaN and the infinities, which JSON lacks, are text.
mod events;
mod parse;
mod read;
mod write;

pub(crate) use events::JsonEvents;
pub use events::read_json;
pub(crate) use parse::JsonReader;
pub(crate) use read::{JsonScratch, read_event};
