//! MySQL's binary JSON, printed as the server prints it.
//!
//! A document is a type byte and a value. An object is its number of members and its length in bytes, for each member where its key is and how long,
//! for each member its value's type and where it is (small values stand there themselves), then keys and values; an array is the same without keys.
//! Members are sorted by the length of their keys, then by bytes. Numbers of members, lengths and places have two bytes in small objects and
//! arrays, four in large ones.

use std::fmt::{self, Write};

use super::{ValueProblem, calendar, calendar::DateTime, decimal};

const SMALL_OBJECT: u8 = 0;
const LARGE_OBJECT: u8 = 1;
const SMALL_ARRAY: u8 = 2;
const LARGE_ARRAY: u8 = 3;
const LITERAL: u8 = 4;
const INT16: u8 = 5;
const UINT16: u8 = 6;
const INT32: u8 = 7;
const UINT32: u8 = 8;
const INT64: u8 = 9;
const UINT64: u8 = 10;
const DOUBLE: u8 = 11;
const STRING: u8 = 12;
const OPAQUE: u8 = 15;

/// The server's own limit is 100.
const DEPTH_MAX: usize = 128;

/// A value that has no other inside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    UInt(u64),
    Double(f64),
    String(&'a str),
    /// A value of one of the types that SQL has and JSON has not: its type code and bytes.
    Opaque(u8, &'a [u8]),
}

/// A value, not taken apart yet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Scalar(Scalar<'a>),
    Container(Container<'a>),
}

/// An object or array.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Container<'a> {
    pub is_object: bool,
    large: bool,
    pub len: usize,
    data: &'a [u8],
}

/// Bounds the work on a document: each value takes a byte at least, so more values than bytes means that places point to the same value again and
/// again.
pub(super) struct Budget {
    values: usize,
}

impl Budget {
    pub(super) fn new(data: &[u8]) -> Self {
        Self { values: data.len() + 1 }
    }

    pub(super) fn spend(&mut self, depth: usize) -> Result<(), ValueProblem> {
        self.values = self.values.checked_sub(1).ok_or(ValueProblem::Json)?;
        if depth > DEPTH_MAX { Err(ValueProblem::Json) } else { Ok(()) }
    }
}

/// Appends a document's text.
pub(super) fn print(data: &[u8], out: &mut impl Write) -> Result<(), ValueProblem> {
    print_value(parse(data)?, 1, &mut Budget::new(data), out)
}

/// The outermost value. A document without bytes is what the server writes for a NULL in a column that must not be NULL: JSON's null.
pub(super) fn parse(data: &[u8]) -> Result<Value<'_>, ValueProblem> {
    match data.split_first() {
        Some((kind, data)) => value(*kind, data),
        None => Ok(Value::Scalar(Scalar::Null)),
    }
}

fn print_value(value: Value<'_>, depth: usize, budget: &mut Budget, out: &mut impl Write) -> Result<(), ValueProblem> {
    budget.spend(depth)?;
    let container = match value {
        Value::Scalar(scalar) => return print_scalar(scalar, out),
        Value::Container(container) => container,
    };
    let (open, close) = if container.is_object { ('{', '}') } else { ('[', ']') };
    write_char(open, out)?;
    for index in 0..container.len {
        if index > 0 {
            out.write_str(", ").map_err(into_memory)?;
        }
        if container.is_object {
            print_string(container.key(index)?, out)?;
            out.write_str(": ").map_err(into_memory)?;
        }
        print_value(container.item(index)?, depth + 1, budget, out)?;
    }
    write_char(close, out)
}

fn into_memory(_: fmt::Error) -> ValueProblem {
    ValueProblem::Mismatch
}

fn write_char(char: char, out: &mut impl Write) -> Result<(), ValueProblem> {
    out.write_char(char).map_err(into_memory)
}

fn fixed<const N: usize>(data: &[u8]) -> Result<[u8; N], ValueProblem> {
    data.first_chunk().copied().ok_or(ValueProblem::Json)
}

fn utf8(data: &[u8]) -> Result<&str, ValueProblem> {
    std::str::from_utf8(data).map_err(|_| ValueProblem::Json)
}

/// Seven bits a byte, the lowest first; the top bit says that another follows.
fn split_len(data: &[u8]) -> Result<(usize, &[u8]), ValueProblem> {
    let mut len = 0usize;
    for (index, byte) in data.iter().enumerate().take(5) {
        len |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((len, data.get(index + 1..).unwrap_or_default()));
        }
    }
    Err(ValueProblem::Json)
}

fn value(kind: u8, data: &[u8]) -> Result<Value<'_>, ValueProblem> {
    let scalar = match kind {
        SMALL_OBJECT | LARGE_OBJECT | SMALL_ARRAY | LARGE_ARRAY => return Container::parse(kind, data).map(Value::Container),
        LITERAL => match data.first() {
            Some(0) => Scalar::Null,
            Some(1) => Scalar::Bool(true),
            Some(2) => Scalar::Bool(false),
            _ => return Err(ValueProblem::Json),
        },
        INT16 => Scalar::Int(i16::from_le_bytes(fixed(data)?).into()),
        UINT16 => Scalar::UInt(u16::from_le_bytes(fixed(data)?).into()),
        INT32 => Scalar::Int(i32::from_le_bytes(fixed(data)?).into()),
        UINT32 => Scalar::UInt(u32::from_le_bytes(fixed(data)?).into()),
        INT64 => Scalar::Int(i64::from_le_bytes(fixed(data)?)),
        UINT64 => Scalar::UInt(u64::from_le_bytes(fixed(data)?)),
        DOUBLE => Scalar::Double(f64::from_le_bytes(fixed(data)?)),
        STRING => {
            let (len, text) = split_len(data)?;
            Scalar::String(utf8(text.get(..len).ok_or(ValueProblem::Json)?)?)
        }
        OPAQUE => {
            let (type_code, rest) = data.split_first().ok_or(ValueProblem::Json)?;
            let (len, bytes) = split_len(rest)?;
            Scalar::Opaque(*type_code, bytes.get(..len).ok_or(ValueProblem::Json)?)
        }
        _ => return Err(ValueProblem::Json),
    };
    Ok(Value::Scalar(scalar))
}

impl<'a> Container<'a> {
    fn parse(kind: u8, data: &'a [u8]) -> Result<Self, ValueProblem> {
        let large = matches!(kind, LARGE_OBJECT | LARGE_ARRAY);
        let mut container = Self { is_object: matches!(kind, SMALL_OBJECT | LARGE_OBJECT), large, len: 0, data };
        let len = container.number(0)?;
        let bytes = container.number(container.width())?;
        container.data = data.get(..bytes).ok_or(ValueProblem::Json)?;
        container.len = len;
        // The table of members must fit: so many are worth walking.
        if container.entry(len)? > bytes { Err(ValueProblem::Json) } else { Ok(container) }
    }

    fn width(&self) -> usize {
        if self.large { 4 } else { 2 }
    }

    fn number(&self, at: usize) -> Result<usize, ValueProblem> {
        let data = self.data.get(at..).ok_or(ValueProblem::Json)?;
        Ok(if self.large { u32::from_le_bytes(fixed(data)?) as usize } else { u16::from_le_bytes(fixed(data)?).into() })
    }

    /// Where the entry of a value stands.
    fn entry(&self, index: usize) -> Result<usize, ValueProblem> {
        let keys = if self.is_object { self.len.checked_mul(self.width() + 2) } else { Some(0) };
        let entries = index.checked_mul(self.width() + 1);
        let at = keys.zip(entries).and_then(|(keys, entries)| (2 * self.width()).checked_add(keys)?.checked_add(entries));
        at.ok_or(ValueProblem::Json)
    }

    /// The key of a member of an object.
    pub(super) fn key(&self, index: usize) -> Result<&'a str, ValueProblem> {
        let at = 2 * self.width() + index * (self.width() + 2);
        let begin = self.number(at)?;
        let len = u16::from_le_bytes(fixed(self.data.get(at + self.width()..).ok_or(ValueProblem::Json)?)?);
        let key = self.data.get(begin..).and_then(|key| key.get(..usize::from(len)));
        utf8(key.ok_or(ValueProblem::Json)?)
    }

    /// A member of an object or an element of an array.
    pub(super) fn item(&self, index: usize) -> Result<Value<'a>, ValueProblem> {
        let at = self.entry(index)?;
        let entry = self.data.get(at..).ok_or(ValueProblem::Json)?;
        let (kind, inside) = entry.split_first().ok_or(ValueProblem::Json)?;
        let is_inside = match *kind {
            LITERAL | INT16 | UINT16 => true,
            INT32 | UINT32 => self.large,
            _ => false,
        };
        if is_inside {
            return value(*kind, inside);
        }
        let begin = self.number(at + 1)?;
        value(*kind, self.data.get(begin..).ok_or(ValueProblem::Json)?)
    }
}

/// A scalar's text.
pub(super) fn print_scalar(scalar: Scalar<'_>, out: &mut impl Write) -> Result<(), ValueProblem> {
    match scalar {
        Scalar::Null => out.write_str("null").map_err(into_memory),
        Scalar::Bool(value) => write!(out, "{value}").map_err(into_memory),
        Scalar::Int(value) => write!(out, "{value}").map_err(into_memory),
        Scalar::UInt(value) => write!(out, "{value}").map_err(into_memory),
        Scalar::Double(value) => print_double(value, out),
        Scalar::String(text) => print_string(text, out),
        Scalar::Opaque(type_code, data) => print_opaque(type_code, data, out),
    }
}

/// In quotes; what JSON demands is escaped and nothing else.
pub(super) fn print_string(text: &str, out: &mut impl Write) -> Result<(), ValueProblem> {
    write_char('"', out)?;
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\') {
        let (plain, special) = rest.split_at(at);
        out.write_str(plain).map_err(into_memory)?;
        match special.as_bytes().first() {
            Some(b'"') => out.write_str("\\\""),
            Some(b'\\') => out.write_str("\\\\"),
            Some(8) => out.write_str("\\b"),
            Some(b'\t') => out.write_str("\\t"),
            Some(b'\n') => out.write_str("\\n"),
            Some(12) => out.write_str("\\f"),
            Some(b'\r') => out.write_str("\\r"),
            Some(byte) => write!(out, "\\u{byte:04x}"),
            None => Ok(()),
        }
        .map_err(into_memory)?;
        rest = special.get(1..).unwrap_or_default();
    }
    out.write_str(rest).map_err(into_memory)?;
    write_char('"', out)
}

/// The fewest digits that give the number back. With an exponent from 10^15 on and below 10^-15, where the number has no more digits than that. A
/// number without fraction and exponent ends in `.0`.
fn print_double(value: f64, out: &mut impl Write) -> Result<(), ValueProblem> {
    if !value.is_finite() {
        return Err(ValueProblem::Json);
    }
    // `-1.2345e-7`: digits and exponent are all that is needed.
    let mut text = FixedText::default();
    write!(text, "{value:e}").map_err(into_memory)?;
    let (mantissa, exponent) = text.as_str().split_once('e').ok_or(ValueProblem::Json)?;
    let exponent: i32 = exponent.parse().map_err(|_| ValueProblem::Json)?;
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |mantissa| ("-", mantissa));
    let (first, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = 1 + fraction.len() as i32;
    // Digits before the point.
    let point = exponent + 1;
    let written = (|| {
        out.write_str(sign)?;
        if !(point >= -14 && (point <= 15 || digits > point)) {
            out.write_str(first)?;
            if !fraction.is_empty() {
                write!(out, ".{fraction}")?;
            }
            return write!(out, "e{exponent}");
        }
        if point <= 0 {
            out.write_str("0.")?;
            for _ in point..0 {
                out.write_char('0')?;
            }
            return write!(out, "{first}{fraction}");
        }
        let before = (point - 1) as usize;
        out.write_str(first)?;
        match fraction.split_at_checked(before) {
            Some((whole, "")) => write!(out, "{whole}.0"),
            Some((whole, fraction)) => write!(out, "{whole}.{fraction}"),
            None => write!(out, "{fraction:0<before$}.0"),
        }
    })();
    written.map_err(into_memory)
}

/// Room for a double's text, without the heap.
#[derive(Default)]
struct FixedText {
    bytes: [u8; 32],
    len: usize,
}

impl FixedText {
    fn as_str(&self) -> &str {
        self.bytes.get(..self.len).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl Write for FixedText {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let target = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        target.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Decimals are numbers, dates and times strings; the rest is base64 behind its type.
fn print_opaque(type_code: u8, data: &[u8], out: &mut impl Write) -> Result<(), ValueProblem> {
    use crate::event::column_type::{DATE, DATETIME, NEWDECIMAL, TIME, TIMESTAMP};
    match type_code {
        NEWDECIMAL => {
            let [precision, scale, data @ ..] = data else { return Err(ValueProblem::Json) };
            decimal::print(data, *precision, *scale, out).map_err(|_| ValueProblem::Json)
        }
        DATE | TIME | DATETIME | TIMESTAMP => {
            // The packed form of a datetime or time over 24 bits of microseconds.
            let packed = i64::from_le_bytes(fixed(data)?);
            write_char('"', out)?;
            if type_code == TIME {
                calendar::print_time(calendar::time_from_packed(packed, 24, 1), 6, out).map_err(into_memory)?;
            } else {
                let value = DateTime::from_packed(packed.unsigned_abs() >> 24, (packed.unsigned_abs() & 0xFF_FFFF) as u32);
                let printed = if type_code == DATE { value.print_date(out) } else { value.print(6, out) };
                printed.map_err(into_memory)?;
            }
            write_char('"', out)
        }
        _ => {
            write!(out, "\"base64:type{type_code}:").map_err(into_memory)?;
            print_base64(data, out)?;
            write_char('"', out)
        }
    }
}

fn print_base64(data: &[u8], out: &mut impl Write) -> Result<(), ValueProblem> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (group, chunk) in data.chunks(3).enumerate() {
        // The server breaks lines of 76 characters, and JSON has a line break escaped.
        if group > 0 && group % 19 == 0 {
            out.write_str("\\n").map_err(into_memory)?;
        }
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let char = if index <= chunk.len() { char::from(ALPHABET[(bits >> (18 - 6 * index) & 63) as usize]) } else { '=' };
            write_char(char, out)?;
        }
    }
    Ok(())
}
