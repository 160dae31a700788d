//! Rows as `COPY … FROM STDIN (FORMAT binary)` takes them: a header, for each row the number of fields (16 bits) and for each field its
//! length (32 bits, -1 for NULL) and the bytes that its type's receive function reads, and a trailer. All numbers are big-endian.
//! See PostgreSQL's documentation of COPY, "Binary Format", and for the types `*_recv` in `src/backend/utils/adt`.
use bytes::Bytes;

use super::{shape::ShapeColumn, types::PgType};
use crate::{
    cell::Cell,
    decimal_digits::DecimalDigits,
    dialect::staging::{Refused, RowEncoder},
};

const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Days from 1970-01-01 to 2000-01-01, PostgreSQL's epoch.
const EPOCH_DAYS: i32 = 10_957;
const EPOCH_US: i64 = EPOCH_DAYS as i64 * 86_400_000_000;
/// The first day that a date can hold: 4714-11-24 BC, in days since 1970.
const DATE_MIN: i32 = -2_440_588;
/// The last day that a date can hold: 5874897-12-31, in days since 1970.
const DATE_MAX: i32 = 2_145_042_905;
/// The first moment that a timestamp can hold: 4714-11-24 00:00:00 BC, in microseconds since 1970. The last is beyond what 64 bits from 1970 can say.
const TIMESTAMP_MIN: i64 = -210_866_803_200_000_000;

/// Collects rows of these columns.
#[derive(Debug)]
pub(crate) struct CopyRows<'a> {
    out: Vec<u8>,
    columns: &'a [ShapeColumn],
}

impl<'a> CopyRows<'a> {
    /// An empty collection that begins with the header.
    pub(crate) fn new(columns: &'a [ShapeColumn]) -> Self {
        Self { out: HEADER.to_vec(), columns }
    }

    /// The bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Takes the bytes so far; the next rows go on behind them.
    pub(crate) fn take(&mut self) -> Bytes {
        let capacity = self.out.capacity();
        std::mem::replace(&mut self.out, Vec::with_capacity(capacity)).into()
    }

    /// Ends the rows with the trailer, and takes the bytes so far.
    pub(crate) fn finish(mut self) -> Bytes {
        self.out.extend((-1i16).to_be_bytes());
        self.out.into()
    }
}

impl RowEncoder for CopyRows<'_> {
    fn begin(&mut self, fields: usize) {
        self.out.extend((fields as i16).to_be_bytes());
    }

    fn end(&mut self) {}

    fn null(&mut self) {
        self.out.extend((-1i32).to_be_bytes());
    }

    fn kind(&mut self, kind: i16) {
        self.out.extend(2i32.to_be_bytes());
        self.out.extend(kind.to_be_bytes());
    }

    fn number(&mut self, number: i32) {
        self.out.extend(4i32.to_be_bytes());
        self.out.extend(number.to_be_bytes());
    }

    /// A bit for each column, the first one lowest: what `get_bit` counts.
    fn mask(&mut self, unsent: &[bool]) {
        self.out.extend((unsent.len().div_ceil(8) as i32).to_be_bytes());
        let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit));
        self.out.extend(unsent.chunks(8).map(byte));
    }

    #[inline]
    fn value(&mut self, column: usize, cell: Cell<'_>) -> Result<(), Refused> {
        let Some(column) = self.columns.get(column) else { return Err("the table has no such column") };
        write_field(&mut self.out, &column.staged, cell).map(drop)
    }
}

/// Appends a field, its length (32 bits) first. True for NULL.
pub(crate) fn write_field(out: &mut Vec<u8>, kind: &PgType, cell: Cell<'_>) -> Result<bool, Refused> {
    let at = out.len();
    out.extend((-1i32).to_be_bytes());
    if matches!(cell, Cell::Null) {
        return Ok(true);
    }
    write_bytes(out, kind, cell)?;
    let length = i32::try_from(out.len() - at - 4).map_err(|_| "it is larger than 2 GiB")?;
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(false)
}

fn write_bytes(out: &mut Vec<u8>, kind: &PgType, cell: Cell<'_>) -> Result<(), Refused> {
    match (kind, cell) {
        (PgType::Bool, Cell::Bool(value)) => out.push(u8::from(value)),
        (PgType::Int2, Cell::Int16(value)) => out.extend(value.to_be_bytes()),
        (PgType::Int4, Cell::Int32(value)) => out.extend(value.to_be_bytes()),
        (PgType::Int8, Cell::Int64(value)) => out.extend(value.to_be_bytes()),
        (PgType::Float4, Cell::Float32(value)) => out.extend(value.to_be_bytes()),
        (PgType::Float8, Cell::Float64(value)) => out.extend(value.to_be_bytes()),
        (PgType::Numeric(_), Cell::Decimal { unscaled, scale }) => write_decimal(out, unscaled, scale),
        (PgType::Numeric(_), Cell::Decimal256 { unscaled, scale }) => {
            let digits = DecimalDigits::new(unscaled, scale);
            write_numeric_digits(out, unscaled.is_negative(), digits.whole(), digits.fraction());
        }
        (PgType::Numeric(_), Cell::Text(text)) => write_numeric_text(out, text)?,
        (PgType::Text | PgType::Json, Cell::Text(text)) => write_text(out, text)?,
        (PgType::Jsonb, Cell::Text(text)) => {
            // The version of the binary form.
            out.push(1);
            write_text(out, text)?;
        }
        (PgType::Bytea, Cell::Bytes(value)) => out.extend(value),
        (PgType::Date, Cell::Date(days)) => out.extend(date(days)?.to_be_bytes()),
        (PgType::Time, Cell::Time(micros)) => {
            if !(0..=86_400_000_000).contains(&micros) {
                return Err("it is no time of day");
            }
            out.extend(micros.to_be_bytes());
        }
        (PgType::Timestamp, Cell::Timestamp(micros)) | (PgType::TimestampTz, Cell::TimestampTz(micros)) => {
            out.extend(timestamp(micros)?.to_be_bytes());
        }
        (PgType::Interval, Cell::Interval { months, days, micros }) => {
            out.extend(micros.to_be_bytes());
            out.extend(days.to_be_bytes());
            out.extend(months.to_be_bytes());
        }
        (PgType::Interval, Cell::Duration(micros)) => {
            out.extend(micros.to_be_bytes());
            // No days and no months: the server shows as many hours as there are.
            out.extend([0; 8]);
        }
        (PgType::Uuid, Cell::Uuid(value)) => out.extend(value),
        (PgType::Array(item), Cell::List { items, start, end }) => {
            let length = end.saturating_sub(start);
            let dimensions = i32::from(length > 0);
            let has_null = i32::from((start..end).any(|index| matches!(items.cell(index), Cell::Null)));
            out.extend(dimensions.to_be_bytes());
            out.extend(has_null.to_be_bytes());
            out.extend(item.oid().to_be_bytes());
            if length > 0 {
                out.extend(i32::try_from(length).map_err(|_| "it has too many elements")?.to_be_bytes());
                // The index of the first element.
                out.extend(1i32.to_be_bytes());
            }
            for index in start..end {
                write_field(out, item, items.cell(index))?;
            }
        }
        _ => return Err("its type is not the one that its schema says"),
    }
    Ok(())
}

fn write_text(out: &mut Vec<u8>, text: &str) -> Result<(), Refused> {
    if text.as_bytes().contains(&0) {
        return Err("PostgreSQL's text cannot hold the character U+0000");
    }
    out.extend(text.as_bytes());
    Ok(())
}

fn date(days: i32) -> Result<i32, Refused> {
    match days {
        i32::MAX | i32::MIN => Ok(days),
        DATE_MIN..=DATE_MAX => Ok(days - EPOCH_DAYS),
        _ => Err("it is outside PostgreSQL's dates, 4714-11-24 BC to 5874897-12-31"),
    }
}

fn timestamp(micros: i64) -> Result<i64, Refused> {
    match micros {
        i64::MAX | i64::MIN => Ok(micros),
        TIMESTAMP_MIN.. => Ok(micros - EPOCH_US),
        _ => Err("it is before PostgreSQL's first timestamp, 4714-11-24 00:00:00 BC"),
    }
}

const POSITIVE: u16 = 0x0000;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

/// A numeric is its digits to the base 10,000, the first one's power (weight), a sign, and the decimal digits to show after the point.
fn write_numeric(out: &mut Vec<u8>, digits: impl Iterator<Item = i16>, mut weight: i16, sign: u16, scale: u16) {
    let head = out.len();
    out.extend([0; 8]);
    for digit in digits {
        // No zeroes in front, nor, below, at the end.
        if digit == 0 && out.len() == head + 8 {
            weight -= 1;
        } else {
            out.extend(digit.to_be_bytes());
        }
    }
    while out.len() > head + 8 && out.ends_with(&[0, 0]) {
        out.truncate(out.len() - 2);
    }
    let count = ((out.len() - head - 8) / 2) as u16;
    let (weight, sign) = if count > 0 { (weight, sign) } else { (0, if sign == NEGATIVE { POSITIVE } else { sign }) };
    if let Some(place) = out.get_mut(head..head + 8) {
        for (place, word) in place.chunks_exact_mut(2).zip([count, weight as u16, sign, scale]) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }
}

/// The same from decimal digits in ASCII before and after the point, without zeroes in front.
fn write_numeric_digits(out: &mut Vec<u8>, negative: bool, whole: &[u8], fraction: &[u8]) {
    let value = |group: &[u8]| group.iter().fold(0i16, |value, digit| value * 10 + i16::from(digit - b'0'));
    let (short, groups) = whole.split_at(whole.len() % 4);
    let weight = whole.len().div_ceil(4) as i32 - 1;
    let short = (!short.is_empty()).then(|| value(short));
    let fraction_groups = fraction.chunks(4).map(|group| value(group) * 10i16.pow(4 - group.len() as u32));
    let digits = short.into_iter().chain(groups.chunks(4).map(value)).chain(fraction_groups);
    write_numeric(out, digits, weight as i16, if negative { NEGATIVE } else { POSITIVE }, fraction.len() as u16);
}

fn write_decimal(out: &mut Vec<u8>, unscaled: i128, scale: u8) {
    let sign = if unscaled < 0 { NEGATIVE } else { POSITIVE };
    let (scale, value) = (u32::from(scale.min(38)), unscaled.unsigned_abs());
    let divisor = 10u128.pow(scale);
    let (mut whole, mut fraction) = (value / divisor, value % divisor);
    // At most 10 digits before the point and 10 after it; filled from the last one.
    let mut digits = [0i16; 20];
    let mut first = digits.len();
    let mut put = |digit: u128| {
        first -= 1;
        if let Some(place) = digits.get_mut(first) {
            *place = digit as i16;
        }
    };
    let mut rest = scale;
    while rest > 0 {
        // Only the last group can be short of four decimal digits: it is filled up with zeroes.
        let taken = if rest.is_multiple_of(4) { 4 } else { rest % 4 };
        let power = 10u128.pow(taken);
        put(fraction % power * 10u128.pow(4 - taken));
        fraction /= power;
        rest -= taken;
    }
    let mut weight = -1;
    while whole > 0 {
        put(whole % 10_000);
        whole /= 10_000;
        weight += 1;
    }
    write_numeric(out, digits.into_iter().skip(first), weight, sign, scale as u16);
}

fn write_numeric_text(out: &mut Vec<u8>, text: &str) -> Result<(), Refused> {
    const NO_NUMBER: Refused = "it is the text of a number in the source, but does not read as one";
    let special = match text {
        "NaN" => Some(NAN),
        "Infinity" => Some(INFINITY),
        "-Infinity" => Some(NEGATIVE_INFINITY),
        _ => None,
    };
    if let Some(sign) = special {
        write_numeric(out, std::iter::empty(), 0, sign, 0);
        return Ok(());
    }
    let (negative, plain) = text.strip_prefix('-').map_or((false, text), |plain| (true, plain));
    let (whole, fraction) = plain.split_once('.').unwrap_or((plain, ""));
    let digit_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && fraction.is_empty()) || !digit_only(whole) || !digit_only(fraction) {
        return Err(NO_NUMBER);
    }
    let whole = whole.trim_start_matches('0');
    if whole.len() > 131_072 || fraction.len() > 16_383 {
        return Err("it has more digits than PostgreSQL's numeric can hold");
    }
    write_numeric_digits(out, negative, whole.as_bytes(), fraction.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow_buffer::i256;

    use super::*;

    fn numeric(write: impl FnOnce(&mut Vec<u8>)) -> (Vec<i16>, i16, u16, u16) {
        let mut out = Vec::new();
        write(&mut out);
        let word = |index: usize| i16::from_be_bytes([out[index * 2], out[index * 2 + 1]]);
        assert_eq!(out.len(), 8 + word(0) as usize * 2);
        ((0..word(0) as usize).map(|index| word(4 + index)).collect(), word(1), word(2) as u16, word(3) as u16)
    }

    #[test]
    fn numerics_from_numbers_and_from_text_are_the_same() {
        for (unscaled, scale, text, expected) in [
            (110, 2, "1.10", (vec![1, 1000], 0, POSITIVE, 2)),
            (-999, 2, "-9.99", (vec![9, 9900], 0, NEGATIVE, 2)),
            (0, 2, "0.00", (vec![], 0, POSITIVE, 2)),
            (12_345_678, 0, "12345678", (vec![1234, 5678], 1, POSITIVE, 0)),
            (100_000_000, 0, "100000000", (vec![1], 2, POSITIVE, 0)),
            (1, 5, "0.00001", (vec![1000], -2, POSITIVE, 5)),
            (222_200, 4, "22.2200", (vec![22, 2200], 0, POSITIVE, 4)),
        ] {
            assert_eq!(numeric(|out| write_decimal(out, unscaled, scale)), expected, "{text}");
            assert_eq!(numeric(|out| write_numeric_text(out, text).unwrap()), expected, "{text}");
        }
        let wide = |text: &str, scale| {
            let unscaled = i256::from_string(&text.replace('.', "")).unwrap();
            numeric(|out| write_bytes(out, &PgType::Numeric(None), Cell::Decimal256 { unscaled: &unscaled, scale }).unwrap())
        };
        for text in ["0.00", "-0.00001", "9999.9", "12345678", "-100000000.01", &"9".repeat(76), &format!("0.{}1", "0".repeat(75))]
        {
            let scale = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            assert_eq!(wide(text, scale as u8), numeric(|out| write_numeric_text(out, text).unwrap()), "{text}");
        }
        let nines = 10i128.pow(38) - 1;
        assert_eq!(
            numeric(|out| write_decimal(out, nines, 38)),
            numeric(|out| write_numeric_text(out, &format!("0.{}", "9".repeat(38))).unwrap())
        );
    }

    #[test]
    fn text_that_is_no_number_is_refused() {
        for text in ["", ".", "-", "1e5", "1.2.3", "+1", "12x", " 1", "0x10", "--1"] {
            assert!(write_numeric_text(&mut Vec::new(), text).is_err(), "{text}");
        }
        assert!(write_numeric_text(&mut Vec::new(), &"9".repeat(131_072)).is_ok());
        assert!(write_numeric_text(&mut Vec::new(), &"9".repeat(131_073)).is_err());
    }

    #[test]
    fn what_the_server_cannot_hold_is_refused() {
        assert!(date(DATE_MIN - 1).is_err() && date(DATE_MAX + 1).is_err());
        assert_eq!((date(0), date(i32::MAX)), (Ok(-10_957), Ok(i32::MAX)));
        assert!(timestamp(TIMESTAMP_MIN - 1).is_err());
        assert_eq!(timestamp(i64::MIN), Ok(i64::MIN));
        assert!(write_text(&mut Vec::new(), "a\0b").is_err());
        assert!(write_bytes(&mut Vec::new(), &PgType::Time, Cell::Time(-1)).is_err());
        assert!(write_bytes(&mut Vec::new(), &PgType::Int4, Cell::Int64(1)).is_err());
    }
}
