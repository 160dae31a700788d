use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::parse::plain_length;
use crate::{
    column_view::{ColumnView, Values},
    text::{push_decimal, push_i64, push_interval, push_timestamp, push_uuid, push_wide_decimal},
};

/// Appends the value of a row, or `null`.
pub(crate) fn push_value(column: &ColumnView<'_>, row: usize, out: &mut Vec<u8>) {
    if column.is_null(row) {
        return out.extend_from_slice(b"null");
    }
    match &column.values {
        Values::Bool(values) => out.extend_from_slice(if values.value(row) { b"true" } else { b"false" }),
        Values::Int16(values) => push_i64(out, values[row].into()),
        Values::Int32(values) | Values::Date(values) => push_i64(out, values[row].into()),
        Values::Int64(values) | Values::Time(values) | Values::Timestamp(values) | Values::Duration(values) => {
            push_i64(out, values[row]);
        }
        Values::Float32(values) => push_float(out, values[row], values[row].into()),
        Values::Float64(values) => push_float(out, values[row], values[row]),
        Values::Text(values) => push_string(out, values.value(row)),
        Values::Bytes(values) => quoted(out, |out| push_base64(out, values.value(row))),
        Values::Decimal(values, scale) => quoted(out, |out| push_decimal(values[row], *scale, out)),
        Values::Decimal256(values, scale) => quoted(out, |out| push_wide_decimal(values[row], *scale, out)),
        Values::TimestampTz(values) => quoted(out, |out| push_timestamp(values[row], out)),
        Values::Interval(months, days, micros) => quoted(out, |out| push_interval(months[row], days[row], micros[row], out)),
        Values::Uuid(values) => quoted(out, |out| push_uuid(values.value(row), out)),
        Values::List(offsets, items) => {
            out.push(b'[');
            for index in offsets[row]..offsets[row + 1] {
                if index > offsets[row] {
                    out.push(b',');
                }
                push_value(items, index as usize, out);
            }
            out.push(b']');
        }
    }
}

/// For text that needs no escapes.
fn quoted(out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    push(out);
    out.push(b'"');
}

/// `value` in its own precision, so that a single is not written with the digits of a double.
fn push_float(out: &mut Vec<u8>, value: impl Serialize, wide: f64) {
    if wide.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if wide.is_infinite() {
        out.extend_from_slice(if wide > 0.0 { b"\"Infinity\"" } else { b"\"-Infinity\"" });
    } else {
        serde_json::to_writer(out, &value).expect("a Vec takes any bytes, and a finite float has a JSON form");
    }
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).expect("the slice is as long as base64 makes it");
    out.truncate(start + written);
}

/// Appends a string with its quotes.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = plain_length(rest) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        match special[0] {
            byte @ (b'"' | b'\\') => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                let digit = |value| b"0123456789abcdef"[usize::from(value)];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
            }
        }
        rest = &special[1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}
