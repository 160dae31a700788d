//! JSON for what a target has no type for: lists in SQLite, and the old key of a move in `append` tables.
//!
//! Integers, booleans, durations (in microseconds) and finite floats are JSON's own; all else is a string that holds the exact text, because readers of JSON put numbers
//! through a double.
use std::fmt::Write;

use uuid::Uuid;

use crate::{
    cell::{Cell, Values},
    iso,
};

/// Appends a value.
pub(crate) fn write_value(out: &mut String, cell: Cell<'_>) {
    match cell {
        Cell::Null => out.push_str("null"),
        Cell::Bool(value) => out.push_str(if value { "true" } else { "false" }),
        Cell::Int16(value) => write_display(out, value),
        Cell::Int32(value) => write_display(out, value),
        Cell::Int64(value) | Cell::Duration(value) => write_display(out, value),
        Cell::Float32(value) if value.is_finite() => write_debug(out, value),
        Cell::Float64(value) if value.is_finite() => write_debug(out, value),
        Cell::Float32(value) => write_text(out, special_float(f64::from(value))),
        Cell::Float64(value) => write_text(out, special_float(value)),
        Cell::Text(value) => write_text(out, value),
        Cell::Decimal { unscaled, scale } => quoted(out, |out| iso::write_decimal(out, unscaled, scale)),
        Cell::Decimal256 { unscaled, scale } => quoted(out, |out| iso::write_decimal256(out, unscaled, scale)),
        Cell::Bytes(value) => quoted(out, |out| {
            out.push_str("\\\\x");
            write_hex(out, value);
        }),
        Cell::Date(value) => quoted(out, |out| iso::write_date(out, value)),
        Cell::Time(value) => quoted(out, |out| iso::write_time(out, value)),
        Cell::Timestamp(value) => quoted(out, |out| iso::write_timestamp(out, value, "")),
        Cell::TimestampTz(value) => quoted(out, |out| iso::write_timestamp(out, value, "+00:00")),
        Cell::Interval { months, days, micros } => quoted(out, |out| iso::write_interval(out, months, days, micros)),
        Cell::Uuid(value) => quoted(out, |out| write_uuid(out, value)),
        Cell::List { items, start, end } => write_list(out, items, start, end),
    }
}

/// Appends a list.
pub(crate) fn write_list(out: &mut String, items: &Values<'_>, start: usize, end: usize) {
    out.push('[');
    for index in start..end {
        if index > start {
            out.push(',');
        }
        write_value(out, items.cell(index));
    }
    out.push(']');
}

/// Appends a text as a JSON string.
pub(crate) fn write_text(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// The name of a float that is no number: the one PostgreSQL prints.
pub(crate) fn special_float(value: f64) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

/// Appends a UUID in its usual form.
pub(crate) fn write_uuid(out: &mut String, bytes: &[u8]) {
    let uuid = Uuid::from_slice(bytes).unwrap_or_default();
    out.push_str(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()));
}

fn write_hex(out: &mut String, bytes: &[u8]) {
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
}

fn quoted(out: &mut String, write: impl FnOnce(&mut String)) {
    out.push('"');
    write(out);
    out.push('"');
}

fn write_display(out: &mut String, value: impl std::fmt::Display) {
    let _ = write!(out, "{value}");
}

// Debug has an exponent where Display would print hundreds of digits; both give the shortest text that reads back as the same number.
fn write_debug(out: &mut String, value: impl std::fmt::Debug) {
    let _ = write!(out, "{value:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_back_by_a_json_parser() {
        let text = |cell| {
            let mut out = String::new();
            write_value(&mut out, cell);
            serde_json::from_str::<serde_json::Value>(&out).unwrap()
        };
        assert_eq!(text(Cell::Text("a\"\\\n\u{1}é😀")), "a\"\\\n\u{1}é😀");
        assert_eq!(text(Cell::Float64(5e-324)), 5e-324);
        assert_eq!(text(Cell::Float32(f32::NAN)), "NaN");
        assert_eq!(text(Cell::Int64(i64::MIN)), i64::MIN);
        assert_eq!(text(Cell::Bytes(&[0, 255])), "\\x00ff");
        assert_eq!(text(Cell::Decimal { unscaled: -5, scale: 3 }), "-0.005");
        assert!(text(Cell::Null).is_null());
    }
}
