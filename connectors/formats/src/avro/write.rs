use arrow_buffer::i256;

use crate::{
    column_view::{ColumnView, Values},
    text::push_uuid,
};

/// Appends an `int` or `long`: zigzag, then seven bits a byte, lowest first.
#[inline]
pub(crate) fn push_long(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    if zigzag < 0x80 {
        out.push(zigzag as u8);
    } else if zigzag < 1 << 56 {
        let septets = (64 - zigzag.leading_zeros()).div_ceil(7);
        // Spreads the septets over the bytes in three steps, then sets the high bit of all but the last. A store of fixed length
        // and a cut are cheaper than a loop over the bytes.
        zigzag = (zigzag & 0x0fff_ffff) | ((zigzag & 0x00ff_ffff_f000_0000) << 4);
        zigzag = (zigzag & 0x0000_3fff_0000_3fff) | ((zigzag & 0x0fff_c000_0fff_c000) << 2);
        zigzag = (zigzag & 0x007f_007f_007f_007f) | ((zigzag & 0x3f80_3f80_3f80_3f80) << 1);
        let more = 0x8080_8080_8080_8080 & ((1 << (8 * (septets - 1))) - 1);
        let end = out.len() + septets as usize;
        out.extend_from_slice(&(zigzag | more).to_le_bytes());
        out.truncate(end);
    } else {
        while zigzag >= 0x80 {
            out.push(zigzag as u8 | 0x80);
            zigzag >>= 7;
        }
        out.push(zigzag as u8);
    }
}

/// Appends a `string` or `bytes`.
#[inline]
pub(crate) fn push_text(out: &mut Vec<u8>, bytes: &[u8]) {
    push_long(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

/// Appends the value of a row that is not NULL, without a union's branch.
#[inline]
pub(crate) fn push_value(column: &ColumnView<'_>, row: usize, out: &mut Vec<u8>) {
    match &column.values {
        Values::Bool(values) => out.push(values.value(row).into()),
        Values::Int16(values) => push_long(out, values[row].into()),
        Values::Int32(values) | Values::Date(values) => push_long(out, values[row].into()),
        Values::Int64(values)
        | Values::Time(values)
        | Values::Timestamp(values)
        | Values::TimestampTz(values)
        | Values::Duration(values) => push_long(out, values[row]),
        Values::Float32(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Values::Float64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
        Values::Decimal(values, _) => push_decimal(out, values[row]),
        Values::Decimal256(values, _) => push_wide_decimal(out, values[row]),
        Values::Text(values) => push_text(out, values.value(row).as_bytes()),
        Values::Bytes(values) => push_text(out, values.value(row)),
        Values::Interval(months, days, micros) => {
            push_long(out, months[row].into());
            push_long(out, days[row].into());
            push_long(out, micros[row]);
        }
        Values::Uuid(values) => {
            out.push(36 << 1);
            push_uuid(values.value(row), out);
        }
        Values::List(offsets, items) => push_list(items, offsets[row] as usize..offsets[row + 1] as usize, out),
    }
}

/// Appends the shortest two's-complement form, big-endian, behind its length.
#[inline]
fn push_decimal(out: &mut Vec<u8>, value: i128) {
    let sign_bits = if value < 0 { (!value).leading_zeros() } else { value.leading_zeros() };
    let bytes = (128 - sign_bits) / 8 + 1;
    out.push((bytes << 1) as u8);
    let end = out.len() + bytes as usize;
    out.extend_from_slice(&(value << (128 - 8 * bytes)).to_be_bytes());
    out.truncate(end);
}

/// [`push_decimal`] for values of more digits.
fn push_wide_decimal(out: &mut Vec<u8>, value: i256) {
    if let Some(narrow) = value.to_i128() {
        return push_decimal(out, narrow);
    }
    let (_, high) = value.to_parts();
    let sign_bits = if high < 0 { (!high).leading_zeros() } else { high.leading_zeros() };
    let bytes = (256 - sign_bits as usize) / 8 + 1;
    push_text(out, &value.to_be_bytes()[32 - bytes..]);
}

/// Appends an array of nullable items: one block, and the empty block that ends it.
fn push_list(items: &ColumnView<'_>, range: std::ops::Range<usize>, out: &mut Vec<u8>) {
    if !range.is_empty() {
        push_long(out, range.len() as i64);
        for index in range {
            if items.is_null(index) {
                out.push(0);
            } else {
                out.push(2);
                push_value(items, index, out);
            }
        }
    }
    out.push(0);
}
