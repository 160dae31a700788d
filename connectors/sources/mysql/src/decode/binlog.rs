//! Values as row events have them.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use connector_api::ColumnBuilder;

use super::{
    ValueProblem, calendar,
    calendar::DateTime,
    charset::Charset,
    decimal, json,
    value_type::{Labels, ValueType},
};
use crate::event::{ZlibHeader, inflate};

fn exact<const N: usize>(data: &[u8]) -> Result<[u8; N], ValueProblem> {
    data.try_into().map_err(|_| ValueProblem::Length)
}

/// Appends a value without its length.
#[inline]
pub(super) fn append(kind: &ValueType, data: &[u8], out: &mut ColumnBuilder, scratch: &mut Vec<u8>) -> Result<(), ValueProblem> {
    match (kind, out) {
        (ValueType::Int32, ColumnBuilder::Int32(out)) => out.append_value(i32::from_le_bytes(exact(data)?)),
        (ValueType::Int64, ColumnBuilder::Int64(out)) => out.append_value(i64::from_le_bytes(exact(data)?)),
        (ValueType::Text(charset), out) => return append_text(charset, data, out),
        (ValueType::DateTime(digits, policy), out) => {
            let (clock, micros) = split_fraction::<5>(data)?;
            let [a, b, c, d, e] = clock;
            let packed = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]).wrapping_sub(0x80_0000_0000) & 0xFF_FFFF_FFFF;
            return calendar::append_datetime(DateTime::from_packed(packed, micros), *digits, *policy, out);
        }
        (ValueType::Timestamp(digits, policy), out) => {
            let (seconds, micros) = split_fraction::<4>(data)?;
            return calendar::append_timestamp(u32::from_be_bytes(seconds), micros, *digits, *policy, out);
        }
        (ValueType::Decimal { precision, scale }, ColumnBuilder::Decimal(out)) => {
            out.append_value(decimal::read_i128(data, *precision, *scale)?);
        }
        (ValueType::Int8, ColumnBuilder::Int16(out)) => out.append_value(i8::from_le_bytes(exact(data)?).into()),
        (ValueType::UInt8, ColumnBuilder::Int16(out)) => out.append_value(u8::from_le_bytes(exact(data)?).into()),
        (ValueType::TinyBool, ColumnBuilder::Bool(out)) => out.append_value(exact::<1>(data)?[0] != 0),
        (ValueType::Int16, ColumnBuilder::Int16(out)) => out.append_value(i16::from_le_bytes(exact(data)?)),
        (ValueType::UInt16, ColumnBuilder::Int32(out)) => out.append_value(u16::from_le_bytes(exact(data)?).into()),
        (ValueType::Int24, ColumnBuilder::Int32(out)) => {
            let [a, b, c] = exact(data)?;
            // Shifted up and down again for the sign.
            out.append_value(i32::from_le_bytes([0, a, b, c]) >> 8);
        }
        (ValueType::UInt24, ColumnBuilder::Int32(out)) => {
            let [a, b, c] = exact(data)?;
            out.append_value(i32::from_le_bytes([a, b, c, 0]));
        }
        (ValueType::UInt32, ColumnBuilder::Int64(out)) => out.append_value(u32::from_le_bytes(exact(data)?).into()),
        (ValueType::UInt64, ColumnBuilder::Decimal(out)) => out.append_value(u64::from_le_bytes(exact(data)?).into()),
        (ValueType::Double, ColumnBuilder::Float64(out)) => out.append_value(f64::from_le_bytes(exact(data)?)),
        (ValueType::Float, ColumnBuilder::Float32(out)) => out.append_value(f32::from_le_bytes(exact(data)?)),
        (ValueType::Date(policy), out) => {
            let [a, b, c] = exact(data)?;
            return calendar::append_date(DateTime::from_packed_date(u32::from_le_bytes([a, b, c, 0])), *policy, out);
        }
        (ValueType::Year, ColumnBuilder::Int16(out)) => out.append_value(match exact::<1>(data)?[0] {
            0 => 0,
            years => 1900 + i16::from(years),
        }),
        (ValueType::Time(_), ColumnBuilder::Duration(out)) => out.append_value(time(data)?),
        (ValueType::Bit(_), out) => return append_bits(data, out),
        (ValueType::Bytes, ColumnBuilder::Bytes(out)) => out.append_value(data),
        (ValueType::FixedBytes(len), ColumnBuilder::Bytes(out)) => append_padded(data, *len, out)?,
        (ValueType::Enum(labels), ColumnBuilder::Text(out)) => out.append_value(enum_label(labels, data)?),
        (ValueType::Set(labels), ColumnBuilder::Text(out)) => append_set(labels, data, out)?,
        (ValueType::Json, ColumnBuilder::Text(out)) => {
            json::print(data, out)?;
            out.append_value("");
        }
        (ValueType::Geometry, ColumnBuilder::Bytes(out)) => append_geometry(data, out)?,
        (ValueType::Vector, ColumnBuilder::List(out)) => {
            let (floats, rest) = data.as_chunks::<4>();
            let ColumnBuilder::Float32(items) = out.items() else { return Err(ValueProblem::Mismatch) };
            if !rest.is_empty() {
                return Err(ValueProblem::Length);
            }
            floats.iter().for_each(|bytes| items.append_value(f32::from_le_bytes(*bytes)));
            out.close().map_err(|_| ValueProblem::ListTooLong)?;
        }
        (ValueType::Decimal { precision, scale }, ColumnBuilder::Decimal256(out)) => {
            out.append_value(decimal::read_i256(data, *precision, *scale)?);
        }
        (ValueType::Uuid, ColumnBuilder::Uuid(out)) => {
            out.append_value(padded::<16>(data)?).map_err(|_| ValueProblem::Length)?;
        }
        (ValueType::Inet4, ColumnBuilder::Text(out)) => {
            write!(out, "{}", Ipv4Addr::from(padded::<4>(data)?)).map_err(|_| ValueProblem::Mismatch)?;
            out.append_value("");
        }
        (ValueType::Inet6, ColumnBuilder::Text(out)) => {
            print_inet6(Ipv6Addr::from(padded::<16>(data)?), out).map_err(|_| ValueProblem::Mismatch)?;
            out.append_value("");
        }
        (ValueType::CompressedText(charset), out) => return append_text(charset, decompressed(data, scratch)?, out),
        (ValueType::CompressedBytes, ColumnBuilder::Bytes(out)) => out.append_value(decompressed(data, scratch)?),
        (ValueType::OldTime, ColumnBuilder::Duration(out)) => {
            let [a, b, c] = exact(data)?;
            let digits = i64::from(i32::from_le_bytes([0, a, b, c]) >> 8);
            let (hours, minutes, seconds) = (digits / 10_000, digits / 100 % 100, digits % 100);
            out.append_value((hours * 3600 + minutes * 60 + seconds) * 1_000_000);
        }
        (ValueType::OldDateTime(policy), out) => {
            let value = DateTime::from_digits(u64::from_le_bytes(exact(data)?));
            return calendar::append_datetime(value, 0, *policy, out);
        }
        (ValueType::OldTimestamp(policy), out) => {
            return calendar::append_timestamp(u32::from_le_bytes(exact(data)?), 0, 0, *policy, out);
        }
        _ => return Err(ValueProblem::Mismatch),
    }
    Ok(())
}

/// The first `N` bytes and the microseconds that the others say: pairs of digits in a byte each, big-endian.
#[inline]
fn split_fraction<const N: usize>(data: &[u8]) -> Result<([u8; N], u32), ValueProblem> {
    let (head, fraction) = data.split_first_chunk::<N>().ok_or(ValueProblem::Length)?;
    let micros = match fraction {
        [] => 0,
        [a] => u32::from(*a) * 10_000,
        [a, b] => u32::from(u16::from_be_bytes([*a, *b])) * 100,
        [a, b, c] => u32::from_be_bytes([0, *a, *b, *c]),
        _ => return Err(ValueProblem::Length),
    };
    Ok((*head, micros))
}

/// A packed time of three bytes and up to three of the fraction, with the sign's bit inverted: together one big-endian number.
fn time(data: &[u8]) -> Result<i64, ValueProblem> {
    let fraction_bytes = data.len().checked_sub(3).filter(|bytes| *bytes <= 3).ok_or(ValueProblem::Length)?;
    let number = data.iter().fold(0i64, |number, byte| (number << 8) | i64::from(*byte));
    let fraction_bits = 8 * fraction_bytes as u32;
    let unit = [1, 10_000, 100, 1][fraction_bytes];
    Ok(calendar::time_from_packed(number - (0x80_0000 << fraction_bits), fraction_bits, unit))
}

/// Text of a character set.
#[inline]
pub(super) fn append_text(charset: &Charset, data: &[u8], out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    let ColumnBuilder::Text(out) = out else { return Err(ValueProblem::Mismatch) };
    match charset.as_utf8(data)? {
        Some(text) => out.append_value(text),
        None => {
            charset.decode(data, out)?;
            out.append_value("");
        }
    }
    Ok(())
}

/// Bits as a big-endian number.
pub(super) fn append_bits(data: &[u8], out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    if data.len() > 8 {
        return Err(ValueProblem::Length);
    }
    let number = data.iter().fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
    match out {
        ColumnBuilder::Bool(out) => out.append_value(number != 0),
        ColumnBuilder::Int64(out) => out.append_value(i64::try_from(number).map_err(|_| ValueProblem::Length)?),
        ColumnBuilder::Decimal(out) => out.append_value(number.into()),
        _ => return Err(ValueProblem::Mismatch),
    }
    Ok(())
}

/// A `binary(n)`, from which the log strips zeroes at the end.
fn append_padded(data: &[u8], len: u32, out: &mut arrow_array::builder::BinaryBuilder) -> Result<(), ValueProblem> {
    const ZEROES: [u8; 256] = [0; 256];
    let len = len as usize;
    let missing = len.checked_sub(data.len()).ok_or(ValueProblem::Length)?;
    if missing == 0 {
        out.append_value(data);
        return Ok(());
    }
    // No `binary` is longer than 255 bytes.
    let zeroes = ZEROES.get(..missing).ok_or(ValueProblem::Length)?;
    std::io::Write::write_all(out, data).map_err(|_| ValueProblem::Mismatch)?;
    out.append_value(zeroes);
    Ok(())
}

fn padded<const N: usize>(data: &[u8]) -> Result<[u8; N], ValueProblem> {
    let mut out = [0; N];
    out.get_mut(..data.len()).ok_or(ValueProblem::Length)?.copy_from_slice(data);
    Ok(out)
}

/// As the server prints it: the first longest run of zeroes becomes `::` even if it is one word, and addresses of IPv4 have dots.
fn print_inet6(address: Ipv6Addr, out: &mut impl std::fmt::Write) -> std::fmt::Result {
    let words = address.segments();
    let (mut gap, mut gap_len, mut run) = (words.len(), 0, 0);
    for (index, word) in words.iter().enumerate() {
        run = if *word == 0 { run + 1 } else { 0 };
        if run > gap_len {
            (gap, gap_len) = (index + 1 - run, run);
        }
    }
    let mut index = 0;
    while let Some(word) = words.get(index) {
        if index == gap {
            out.write_str(if index == 0 { "::" } else { ":" })?;
            index += gap_len;
            continue;
        }
        if index == 6 && gap == 0 && (gap_len == 6 || gap_len == 5 && words[5] == 0xFFFF) {
            let [.., a, b, c, d] = address.octets();
            return write!(out, "{a}.{b}.{c}.{d}");
        }
        write!(out, "{word:x}{}", if index == 7 { "" } else { ":" })?;
        index += 1;
    }
    Ok(())
}

/// The label of a number of one or two bytes, from 1.
fn enum_label<'a>(labels: &'a Labels, data: &[u8]) -> Result<&'a str, ValueProblem> {
    let number = match data {
        [number] => usize::from(*number),
        [low, high] => usize::from(u16::from_le_bytes([*low, *high])),
        _ => return Err(ValueProblem::Length),
    };
    match number.checked_sub(1) {
        None => Ok(labels.invalid()),
        Some(index) => labels.labels.get(index).map(String::as_str).ok_or(ValueProblem::Label),
    }
}

/// The labels of a little-endian bitmap's bits, in the order of the type.
fn append_set(labels: &Labels, data: &[u8], out: &mut arrow_array::builder::StringBuilder) -> Result<(), ValueProblem> {
    if data.len() > 8 {
        return Err(ValueProblem::Length);
    }
    let mut bits = data.iter().rev().fold(0u64, |bits, byte| (bits << 8) | u64::from(*byte));
    let mut first = true;
    while bits != 0 {
        let label = labels.labels.get(bits.trailing_zeros() as usize).ok_or(ValueProblem::Label)?;
        let comma = if std::mem::take(&mut first) { "" } else { "," };
        out.write_str(comma).and_then(|()| out.write_str(label)).map_err(|_| ValueProblem::Mismatch)?;
        bits &= bits - 1;
    }
    out.append_value("");
    Ok(())
}

/// Four bytes of SRID before plain WKB: as EWKB, which has the SRID inside where it is not 0.
pub(super) fn append_geometry(data: &[u8], out: &mut arrow_array::builder::BinaryBuilder) -> Result<(), ValueProblem> {
    const HAS_SRID: u8 = 0x20;
    let (srid, wkb) = data.split_first_chunk::<4>().ok_or(ValueProblem::Length)?;
    if *srid == [0; 4] {
        out.append_value(wkb);
        return Ok(());
    }
    // The server writes little-endian WKB only.
    let [1, a, b, c, d, rest @ ..] = wkb else { return Err(ValueProblem::Syntax) };
    let head = [1, *a, *b, *c, d | HAS_SRID];
    for part in [&head[..], srid] {
        std::io::Write::write_all(out, part).map_err(|_| ValueProblem::Mismatch)?;
    }
    out.append_value(rest);
    Ok(())
}

/// MariaDB's compressed columns: a byte that says how (0 for not at all; 8 in the top four bits for zlib, the next bit for a stream without a zlib
/// header, the length of the length in three), the uncompressed length, big-endian, then the data.
fn decompressed<'a>(data: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], ValueProblem> {
    let Some((head, rest)) = data.split_first() else { return Ok(&[]) };
    match head >> 4 {
        0 => Ok(rest),
        8 => {
            let header = if head & 8 == 0 { ZlibHeader::Present } else { ZlibHeader::Absent };
            let (len, rest) = rest.split_at_checked(usize::from(head & 7)).ok_or(ValueProblem::Length)?;
            let len = len.iter().fold(0usize, |len, byte| (len << 8) | usize::from(*byte));
            inflate(rest, len, header, scratch).map_err(|_| ValueProblem::Compression)?;
            Ok(scratch)
        }
        _ => Err(ValueProblem::Compression),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As MariaDB 10.11 prints them.
    #[test]
    fn addresses_are_printed_as_the_server_does() {
        for (address, expected) in [
            ("1:0:2:3:4:5:6:7", "1::2:3:4:5:6:7"),
            ("1:2:3:4:5:6:7:0", "1:2:3:4:5:6:7::"),
            ("0:1:2:3:4:5:6:7", "::1:2:3:4:5:6:7"),
            ("1:0:0:2:0:0:3:4", "1::2:0:0:3:4"),
            ("1:0:0:2:0:0:0:4", "1:0:0:2::4"),
            ("::1:2", "::0.1.0.2"),
            ("::ffff:0:0", "::ffff:0.0.0.0"),
            ("::1", "::1"),
            ("::", "::"),
            ("0:0:0:0:ffff:0:1:2", "::ffff:0:1:2"),
            ("1::", "1::"),
            ("0:2::", "0:2::"),
            ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"),
        ] {
            let mut text = String::new();
            print_inet6(address.parse().unwrap(), &mut text).unwrap();
            assert_eq!(text, expected, "{address}");
        }
    }
}
