use connector_api::ColumnBuilder;

use super::{ValueProblem, ValueType, calendar, numeric};

fn exact<const N: usize>(data: &[u8]) -> Result<[u8; N], ValueProblem> {
    data.try_into().map_err(|_| ValueProblem::Length)
}

fn utf8(data: &[u8]) -> Result<&str, ValueProblem> {
    std::str::from_utf8(data).map_err(|_| ValueProblem::Utf8)
}

/// Appends a value in the form of the type's `typsend` function.
#[inline]
pub(super) fn append(kind: &ValueType, data: &[u8], out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    match (kind, out) {
        (ValueType::Int8, ColumnBuilder::Int64(out)) => out.append_value(i64::from_be_bytes(exact(data)?)),
        (ValueType::Int4, ColumnBuilder::Int32(out)) => out.append_value(i32::from_be_bytes(exact(data)?)),
        (ValueType::Int2, ColumnBuilder::Int16(out)) => out.append_value(i16::from_be_bytes(exact(data)?)),
        (ValueType::Oid, ColumnBuilder::Int64(out)) => out.append_value(i64::from(u32::from_be_bytes(exact(data)?))),
        (ValueType::Bool, ColumnBuilder::Bool(out)) => out.append_value(exact::<1>(data)?[0] != 0),
        (ValueType::Text | ValueType::Json | ValueType::Printed, ColumnBuilder::Text(out)) => out.append_value(utf8(data)?),
        (ValueType::Decimal { precision, scale }, ColumnBuilder::Decimal(out)) => {
            out.append_value(numeric::decimal_from_binary(data, *precision, *scale)?);
        }
        (ValueType::TimestampTz | ValueType::Timestamp, ColumnBuilder::Timestamp(out)) => {
            out.append_value(calendar::micros_since_1970(i64::from_be_bytes(exact(data)?))?);
        }
        (ValueType::Date, ColumnBuilder::Date(out)) => {
            out.append_value(calendar::date_since_1970(i32::from_be_bytes(exact(data)?))?);
        }
        (ValueType::Jsonb, ColumnBuilder::Text(out)) => match data {
            [1, json @ ..] => out.append_value(utf8(json)?),
            _ => return Err(ValueProblem::Syntax),
        },
        (ValueType::Uuid, ColumnBuilder::Uuid(out)) => {
            out.append_value(exact::<16>(data)?).map_err(|_| ValueProblem::Length)?;
        }
        (ValueType::Float8, ColumnBuilder::Float64(out)) => out.append_value(plain_f64(f64::from_be_bytes(exact(data)?))),
        (ValueType::Float4, ColumnBuilder::Float32(out)) => out.append_value(plain_f32(f32::from_be_bytes(exact(data)?))),
        (ValueType::Bytea, ColumnBuilder::Bytes(out)) => out.append_value(data),
        (ValueType::Time, ColumnBuilder::Time(out)) => out.append_value(i64::from_be_bytes(exact(data)?)),
        (ValueType::Interval, ColumnBuilder::Interval(out)) => {
            let (micros, rest) = data.split_first_chunk::<8>().ok_or(ValueProblem::Length)?;
            let (days, months) = rest.split_first_chunk::<4>().ok_or(ValueProblem::Length)?;
            out.append_value(i32::from_be_bytes(exact(months)?), i32::from_be_bytes(*days), i64::from_be_bytes(*micros));
        }
        (ValueType::NumericText, ColumnBuilder::Text(out)) => {
            let mut text = String::with_capacity(data.len() * 2 + 8);
            numeric::print(data, &mut text)?;
            out.append_value(text);
        }
        (ValueType::Char, ColumnBuilder::Text(out)) => out.append_value(char_text(exact::<1>(data)?[0])),
        (ValueType::List(item), ColumnBuilder::List(out)) => {
            for element in elements(data)? {
                match element? {
                    Some(element) => append(item, element, out.items())?,
                    None => out.items().append_null(),
                }
            }
            out.close().map_err(|_| ValueProblem::ListTooLong)?;
        }
        _ => return Err(ValueProblem::Mismatch),
    }
    Ok(())
}

/// All NaN are one value to the server, and print the same.
pub(super) fn plain_f64(value: f64) -> f64 {
    if value.is_nan() { f64::NAN } else { value }
}

/// See [`plain_f64`].
pub(super) fn plain_f32(value: f32) -> f32 {
    if value.is_nan() { f32::NAN } else { value }
}

/// `"char"` is a byte: zero prints as nothing, and what is no ASCII as an octal escape (as servers from 16 on do).
pub(super) fn char_text(byte: u8) -> String {
    match byte {
        0 => String::new(),
        0x80.. => format!("\\{byte:03o}"),
        _ => char::from(byte).to_string(),
    }
}

/// An array: number of dimensions, whether it has NULLs, the elements' type, for each dimension its length and first index, then the
/// elements, each with its length (-1 for NULL). An empty array has no dimension.
fn elements(data: &[u8]) -> Result<impl Iterator<Item = Result<Option<&[u8]>, ValueProblem>>, ValueProblem> {
    let (header, rest) = data.split_first_chunk::<12>().ok_or(ValueProblem::Length)?;
    let word = |bytes: &[u8]| bytes.first_chunk::<4>().map_or(-1, |bytes| i32::from_be_bytes(*bytes));
    let (count, mut rest) = match word(header) {
        0 => (0, rest),
        1 => {
            let (dimension, rest) = rest.split_first_chunk::<8>().ok_or(ValueProblem::Length)?;
            if word(&dimension[4..]) != 1 {
                return Err(ValueProblem::ArrayShape);
            }
            (usize::try_from(word(dimension)).map_err(|_| ValueProblem::Length)?, rest)
        }
        2.. => return Err(ValueProblem::ArrayShape),
        _ => return Err(ValueProblem::Length),
    };
    // Each element takes four bytes at least: a count that claims more is a lie, found before the loop runs.
    if count > rest.len() / 4 {
        return Err(ValueProblem::Length);
    }
    let mut left = count;
    Ok(std::iter::from_fn(move || {
        if left == 0 {
            return (!std::mem::take(&mut rest).is_empty()).then_some(Err(ValueProblem::Length));
        }
        left -= 1;
        Some(element(&mut rest))
    }))
}

fn element<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, ValueProblem> {
    let (len, after) = rest.split_first_chunk::<4>().ok_or(ValueProblem::Length)?;
    let len = i32::from_be_bytes(*len);
    if len == -1 {
        *rest = after;
        return Ok(None);
    }
    let len = usize::try_from(len).map_err(|_| ValueProblem::Length)?;
    let (value, after) = after.split_at_checked(len).ok_or(ValueProblem::Length)?;
    *rest = after;
    Ok(Some(value))
}
