//! Avro's binary encoding: single values, and whole events. `compatibility` looks at schemas alone.
pub(crate) mod compatibility;
mod events;
mod read;
mod write;

pub(crate) use events::{AvroEvents, EventMemo, read_event};
pub(crate) use read::AvroReader;
pub(crate) use write::{push_long, push_text, push_value};

/// The bytes in front of every body in the Confluent wire format: a zero and the schema's id, big-endian.
pub(crate) const WIRE_HEADER_BYTES: usize = 5;

pub(crate) fn wire_header(id: u32) -> [u8; WIRE_HEADER_BYTES] {
    let [a, b, c, d] = id.to_be_bytes();
    [0, a, b, c, d]
}
