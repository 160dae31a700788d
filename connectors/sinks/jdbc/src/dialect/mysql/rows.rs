//! Rows as text: for `LOAD DATA` (fields between tabs, `\N` for NULL, a backslash before what would end a field) and for `VALUES` of a statement
//! (literals). The bytes do not depend on the server's modes, but for `NO_BACKSLASH_ESCAPES`, which our sessions do not have.
use std::fmt::Write;

use super::types::{Flavor, MyType};
use crate::{
    cell::Cell,
    dialect::staging::{Refused, RowEncoder},
    iso, json,
};

/// The first and the last day that a DATE is sure to hold: 0001-01-01 and 9999-12-31, in days since 1970.
const DATE_MIN: i32 = -719_162;
const DATE_MAX: i32 = 2_932_896;
const DAY_US: i64 = 86_400_000_000;
/// The first moment of the first day, and the last one of the last.
const DATETIME_MIN: i64 = DATE_MIN as i64 * DAY_US;
const DATETIME_MAX: i64 = (DATE_MAX as i64 + 1) * DAY_US - 1;
/// The longest TIME: 838:59:59, with a fraction in MariaDB only.
const fn span_max(flavor: Flavor) -> u64 {
    match flavor {
        Flavor::MySql => 3_020_399_000_000,
        Flavor::MariaDb => 3_020_399_999_999,
    }
}

/// What a row of values is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// The data of `LOAD DATA … CHARACTER SET binary`, with the separators that it has by default.
    File,
    /// The list after `VALUES`, or the values of a condition.
    Literal,
}

/// Collects rows of columns with these types.
#[derive(Debug)]
pub(crate) struct TextRows<'a> {
    style: Style,
    flavor: Flavor,
    out: Vec<u8>,
    columns: &'a [MyType],
    /// Values are made here; it is reused from value to value.
    scratch: String,
    /// A field of this row was written.
    within: bool,
    rows: u64,
}

impl<'a> TextRows<'a> {
    pub(crate) fn new(style: Style, flavor: Flavor, columns: &'a [MyType]) -> Self {
        Self { style, flavor, out: Vec::new(), columns, scratch: String::new(), within: false, rows: 0 }
    }

    /// The bytes so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// The rows so far, taken ones included.
    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Takes the bytes so far.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let capacity = self.out.capacity();
        std::mem::replace(&mut self.out, Vec::with_capacity(capacity))
    }

    /// Appends bytes of a statement as they are.
    pub(crate) fn sql(&mut self, sql: &str) {
        self.out.extend(sql.as_bytes());
        self.within = false;
    }

    fn separate(&mut self) {
        if self.within {
            self.out.push(if self.style == Style::File { b'\t' } else { b',' });
        }
        self.within = true;
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        self.scratch.clear();
        // Writing to a String cannot fail.
        let _ = write!(self.scratch, "{value}");
        self.out.extend(self.scratch.as_bytes());
    }

    /// A text of ours, in which nothing needs a backslash.
    fn plain_text(&mut self) {
        if self.style == Style::Literal {
            self.out.push(b'\'');
        }
        self.out.extend(self.scratch.as_bytes());
        if self.style == Style::Literal {
            self.out.push(b'\'');
        }
    }

    fn text(&mut self, text: &[u8]) {
        match self.style {
            Style::File => escape(&mut self.out, text, |byte| match byte {
                b'\t' => Some(b't'),
                b'\n' => Some(b'n'),
                b'\\' => Some(b'\\'),
                0 => Some(b'0'),
                _ => None,
            }),
            Style::Literal => {
                self.out.push(b'\'');
                escape(&mut self.out, text, |byte| match byte {
                    b'\'' => Some(b'\''),
                    b'\\' => Some(b'\\'),
                    0 => Some(b'0'),
                    _ => None,
                });
                self.out.push(b'\'');
            }
        }
    }

    fn blob(&mut self, bytes: &[u8]) {
        match self.style {
            Style::File => self.text(bytes),
            Style::Literal => {
                self.out.extend(b"X'");
                let digit = |half: u8| if half < 10 { b'0' + half } else { b'A' + half - 10 };
                self.out.extend(bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]));
                self.out.push(b'\'');
            }
        }
    }

    /// A text column's value, whatever its type at the source: see [`write_as_text`].
    fn as_text(&mut self, cell: Cell<'_>, length: Option<u32>) -> Result<(), Refused> {
        let fits =
            |text: &str| length.is_none_or(|length| text.len() <= length as usize || text.chars().count() <= length as usize);
        if let Cell::Text(text) = cell {
            if !fits(text) {
                return Err(TOO_LONG);
            }
            self.text(text.as_bytes());
            return Ok(());
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let written = write_as_text(&mut scratch, cell).and_then(|()| if fits(&scratch) { Ok(()) } else { Err(TOO_LONG) });
        self.text(scratch.as_bytes());
        self.scratch = scratch;
        written
    }
}

/// Appends bytes, each of those that need it as a backslash and a letter.
fn escape(out: &mut Vec<u8>, bytes: &[u8], letter: impl Fn(u8) -> Option<u8>) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| letter(*byte).is_some()) {
        let (before, from) = rest.split_at(at);
        out.extend(before);
        if let Some((first, after)) = from.split_first() {
            out.extend([b'\\', letter(*first).unwrap_or(*first)]);
            rest = after;
        }
    }
    out.extend(rest);
}

const TOO_LONG: Refused = "it is part of a key and longer than MySQL's index can hold";

/// The text of a value, as a column holds it that is text in the target and another type at the source. Timestamps with time zone are in UTC.
fn write_as_text(out: &mut String, cell: Cell<'_>) -> Result<(), Refused> {
    match cell {
        Cell::Bool(value) => out.push(if value { '1' } else { '0' }),
        Cell::Float32(value) if !value.is_finite() => out.push_str(json::special_float(f64::from(value))),
        Cell::Float64(value) if !value.is_finite() => out.push_str(json::special_float(value)),
        Cell::Decimal { unscaled, scale } => iso::write_decimal(out, unscaled, scale),
        Cell::Date(days) => iso::write_date(out, days),
        Cell::Decimal256 { unscaled, scale } => iso::write_decimal256(out, unscaled, scale),
        Cell::Time(micros) => iso::write_time(out, micros),
        Cell::Duration(micros) => iso::write_span(out, micros),
        Cell::Timestamp(micros) | Cell::TimestampTz(micros) => iso::write_timestamp(out, micros, ""),
        Cell::Interval { months, days, micros } => iso::write_interval(out, months, days, micros),
        Cell::Uuid(bytes) => json::write_uuid(out, bytes),
        Cell::List { items, start, end } => json::write_list(out, items, start, end),
        Cell::Bytes(_) => return Err("it is bytes, and the column is text"),
        // Integers and finite floats are what they are in JSON.
        other => json::write_value(out, other),
    }
    Ok(())
}

impl RowEncoder for TextRows<'_> {
    fn begin(&mut self, _: usize) {
        if self.style == Style::Literal {
            self.out.extend(if self.rows > 0 && self.out.last() == Some(&b')') { &b",("[..] } else { b"(" });
        }
        self.within = false;
        self.rows += 1;
    }

    fn end(&mut self) {
        self.out.push(if self.style == Style::File { b'\n' } else { b')' });
    }

    fn null(&mut self) {
        self.separate();
        self.out.extend(if self.style == Style::File { &b"\\N"[..] } else { b"NULL" });
    }

    fn kind(&mut self, kind: i16) {
        self.separate();
        self.display(kind);
    }

    fn number(&mut self, number: i32) {
        self.separate();
        self.display(number);
    }

    /// A letter for each column, `1` for those that were not sent.
    fn mask(&mut self, unsent: &[bool]) {
        self.separate();
        self.scratch.clear();
        self.scratch.extend(unsent.iter().map(|unsent| if *unsent { '1' } else { '0' }));
        self.plain_text();
    }

    #[inline]
    fn value(&mut self, column: usize, cell: Cell<'_>) -> Result<(), Refused> {
        if matches!(cell, Cell::Null) {
            self.null();
            return Ok(());
        }
        self.separate();
        let Some(kind) = self.columns.get(column) else { return Err("the table has no such column") };
        match (kind, cell) {
            (MyType::TinyInt, Cell::Bool(value)) => self.out.push(b'0' + u8::from(value)),
            (MyType::SmallInt, Cell::Int16(value)) => self.display(value),
            (MyType::Int, Cell::Int32(value)) => self.display(value),
            (MyType::BigInt, Cell::Int64(value)) => self.display(value),
            (MyType::Float, Cell::Float32(value)) => self.float(f64::from(value))?,
            (MyType::Double, Cell::Float64(value)) => self.float(value)?,
            (MyType::Decimal(..), Cell::Decimal { unscaled, scale }) => {
                self.scratch.clear();
                iso::write_decimal(&mut self.scratch, unscaled, scale);
                self.out.extend(self.scratch.as_bytes());
            }
            (MyType::Decimal(..), Cell::Decimal256 { unscaled, scale }) => {
                self.scratch.clear();
                iso::write_decimal256(&mut self.scratch, unscaled, scale);
                self.out.extend(self.scratch.as_bytes());
            }
            (MyType::LongText, cell) => self.as_text(cell, None)?,
            (MyType::VarChar(length), cell) => self.as_text(cell, Some(*length))?,
            (MyType::LongBlob, Cell::Bytes(value)) => self.blob(value),
            (MyType::VarBinary(length), Cell::Bytes(value)) => {
                if value.len() > *length as usize {
                    return Err(TOO_LONG);
                }
                self.blob(value);
            }
            (MyType::Date, Cell::Date(days)) => {
                if !(DATE_MIN..=DATE_MAX).contains(&days) {
                    return Err(
                        "MySQL's dates go from year 1 to year 9999 and know no infinity: make the column `longtext`, and it takes any date as text",
                    );
                }
                self.scratch.clear();
                iso::write_date(&mut self.scratch, days);
                self.plain_text();
            }
            (MyType::Time(_), Cell::Time(micros)) => {
                if !(0..=DAY_US).contains(&micros) {
                    return Err("it is no time of day");
                }
                self.scratch.clear();
                iso::write_time(&mut self.scratch, micros);
                self.plain_text();
            }
            (MyType::Time(_), Cell::Duration(micros)) => {
                if micros.unsigned_abs() > span_max(self.flavor) {
                    return Err("MySQL's TIME ends with 838:59:59: make the column `longtext`, and it takes any span as text");
                }
                self.scratch.clear();
                iso::write_span(&mut self.scratch, micros);
                self.plain_text();
            }
            (MyType::DateTime(_), Cell::Timestamp(micros) | Cell::TimestampTz(micros)) => {
                if !(DATETIME_MIN..=DATETIME_MAX).contains(&micros) {
                    return Err(
                        "MySQL's DATETIME goes from year 1 to year 9999 and knows no infinity: make the column `longtext`, and it takes any time as text",
                    );
                }
                self.scratch.clear();
                iso::write_timestamp(&mut self.scratch, micros, "");
                self.plain_text();
            }
            (MyType::Uuid, Cell::Uuid(bytes)) => {
                self.scratch.clear();
                json::write_uuid(&mut self.scratch, bytes);
                self.plain_text();
            }
            _ => return Err("its type is not the one that its schema says"),
        }
        Ok(())
    }
}

impl TextRows<'_> {
    /// A finite number, always with an exponent: without one, MySQL takes a literal for a DECIMAL. The text of a single is that of the double
    /// it is equal to, because the server reads a double and rounds it.
    fn float(&mut self, value: f64) -> Result<(), Refused> {
        if !value.is_finite() {
            return Err("MySQL has no NaN and no infinity: make the column `longtext`, and it takes them as text");
        }
        self.scratch.clear();
        let _ = write!(self.scratch, "{value:e}");
        self.out.extend(self.scratch.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(style: Style, kind: &MyType, cell: Cell<'_>) -> Result<String, Refused> {
        let columns = [kind.clone()];
        let mut rows = TextRows::new(style, Flavor::MySql, &columns);
        rows.begin(1);
        rows.value(0, cell)?;
        rows.end();
        Ok(String::from_utf8(rows.take()).unwrap())
    }

    #[test]
    fn texts_are_escaped_for_their_place() {
        let hostile = Cell::Text("a\tb\nc\\d'e\0f\r;-- ");
        assert_eq!(one(Style::File, &MyType::LongText, hostile).unwrap(), "a\\tb\\nc\\\\d'e\\0f\r;-- \n");
        assert_eq!(one(Style::Literal, &MyType::LongText, hostile).unwrap(), "('a\tb\nc\\\\d\\'e\\0f\r;-- ')");
        assert_eq!(one(Style::File, &MyType::LongText, Cell::Text("\\N")).unwrap(), "\\\\N\n");
        assert_eq!(one(Style::File, &MyType::LongText, Cell::Null).unwrap(), "\\N\n");
        assert_eq!(one(Style::Literal, &MyType::LongBlob, Cell::Bytes(&[0, 0x5c, 0xff])).unwrap(), "(X'005CFF')");
    }

    #[test]
    fn numbers_are_literals_of_their_own_kind() {
        assert_eq!(one(Style::Literal, &MyType::Double, Cell::Float64(0.1)).unwrap(), "(1e-1)");
        assert_eq!(one(Style::Literal, &MyType::Float, Cell::Float32(0.1)).unwrap(), "(1.0000000149011612e-1)");
        assert_eq!(one(Style::Literal, &MyType::Decimal(5, 2), Cell::Decimal { unscaled: -110, scale: 2 }).unwrap(), "(-1.10)");
    }

    #[test]
    fn what_the_server_cannot_hold_is_refused() {
        let refused = |kind: MyType, cell: Cell<'_>| assert!(one(Style::File, &kind, cell).is_err(), "{kind:?} {cell:?}");
        refused(MyType::Double, Cell::Float64(f64::NAN));
        refused(MyType::Float, Cell::Float32(f32::INFINITY));
        refused(MyType::Date, Cell::Date(i32::MAX));
        refused(MyType::Date, Cell::Date(DATE_MIN - 1));
        refused(MyType::DateTime(6), Cell::Timestamp(DATETIME_MAX + 1));
        refused(MyType::Time(6), Cell::Duration(-3_020_399_000_001));
        refused(MyType::VarChar(3), Cell::Text("abcd"));
        refused(MyType::VarBinary(1), Cell::Bytes(&[1, 2]));
        refused(MyType::Int, Cell::Int64(1));
        refused(MyType::LongText, Cell::Bytes(&[1]));
        assert_eq!(one(Style::File, &MyType::VarChar(3), Cell::Text("äöü")).unwrap(), "äöü\n");
        assert_eq!(one(Style::File, &MyType::LongText, Cell::Date(i32::MAX)).unwrap(), "infinity\n");
        assert_eq!(one(Style::File, &MyType::LongText, Cell::Float64(f64::NAN)).unwrap(), "NaN\n");
    }

    #[test]
    fn rows_of_a_statement_are_separated() {
        let columns = [MyType::Int, MyType::Int];
        let mut rows = TextRows::new(Style::Literal, Flavor::MySql, &columns);
        for row in 0..2 {
            rows.begin(2);
            rows.value(0, Cell::Int32(row)).unwrap();
            rows.value(1, Cell::Null).unwrap();
            rows.end();
        }
        assert_eq!((rows.bytes(), rows.rows()), (&b"(0,NULL),(1,NULL)"[..], 2));
    }
}
