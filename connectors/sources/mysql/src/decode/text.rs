//! Values as the text protocol has them. Strings come in the column's own character set, so they go the same way as those of row events.

use connector_api::ColumnBuilder;

use super::{
    ValueProblem, ZeroDates, binlog, calendar,
    calendar::DateTime,
    charset::Charset,
    decimal,
    value_type::{INVALID_ENUM, ValueType},
};

/// Appends a value.
#[inline]
pub(super) fn append(kind: &ValueType, data: &[u8], out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    match (kind, out) {
        (ValueType::Text(charset) | ValueType::CompressedText(charset), out) => return binlog::append_text(charset, data, out),
        (ValueType::UInt16 | ValueType::Int24 | ValueType::UInt24 | ValueType::Int32, ColumnBuilder::Int32(out)) => {
            out.append_value(integer(data)?);
        }
        (ValueType::UInt32 | ValueType::Int64, ColumnBuilder::Int64(out)) => out.append_value(integer(data)?),
        (ValueType::DateTime(digits, policy) | ValueType::Timestamp(digits, policy), out) => {
            return append_datetime(data, *digits, *policy, out);
        }
        (ValueType::Decimal { precision, scale }, ColumnBuilder::Decimal(out)) => {
            out.append_value(decimal::parse_i128(data, *precision, *scale)?);
        }
        (ValueType::Int8 | ValueType::UInt8 | ValueType::Int16 | ValueType::Year, ColumnBuilder::Int16(out)) => {
            out.append_value(integer(data)?);
        }
        (ValueType::TinyBool, ColumnBuilder::Bool(out)) => out.append_value(integer::<i16>(data)? != 0),
        (ValueType::UInt64, ColumnBuilder::Decimal(out)) => out.append_value(integer::<u64>(data)?.into()),
        (ValueType::Double, ColumnBuilder::Float64(out)) => out.append_value(double(data)?),
        // Printed as a double, so that the nearest float is the very one.
        (ValueType::Float, ColumnBuilder::Float32(out)) => out.append_value(double(data)? as f32),
        (ValueType::Date(policy), out) => return calendar::append_date(DateTime::parse_date(data)?, *policy, out),
        (ValueType::Time(_) | ValueType::OldTime, ColumnBuilder::Duration(out)) => out.append_value(calendar::parse_time(data)?),
        (ValueType::Bit(_), out) => return binlog::append_bits(data, out),
        (ValueType::Bytes | ValueType::CompressedBytes | ValueType::FixedBytes(_), ColumnBuilder::Bytes(out)) => {
            out.append_value(data);
        }
        (ValueType::Enum(labels), out) if data != INVALID_ENUM.as_bytes() => {
            return binlog::append_text(&labels.charset, data, out);
        }
        (ValueType::Enum(_), ColumnBuilder::Text(out)) => out.append_value(INVALID_ENUM),
        (ValueType::Set(labels), out) => return binlog::append_text(&labels.charset, data, out),
        (ValueType::Json | ValueType::Inet4 | ValueType::Inet6, out) => return binlog::append_text(&Charset::Utf8, data, out),
        (ValueType::Geometry, ColumnBuilder::Bytes(out)) => binlog::append_geometry(data, out)?,
        (ValueType::Vector, out) => return binlog::append(kind, data, out, &mut Vec::new()),
        (ValueType::Decimal { precision, scale }, ColumnBuilder::Decimal256(out)) => {
            out.append_value(decimal::parse_i256(data, *precision, *scale)?);
        }
        (ValueType::Uuid, ColumnBuilder::Uuid(out)) => {
            out.append_value(uuid(data)?).map_err(|_| ValueProblem::Length)?;
        }
        (ValueType::OldDateTime(policy) | ValueType::OldTimestamp(policy), out) => {
            return append_datetime(data, 0, *policy, out);
        }
        _ => return Err(ValueProblem::Mismatch),
    }
    Ok(())
}

/// In a function of its own, so that the parts of the date stay in registers.
fn append_datetime(data: &[u8], digits: u8, policy: ZeroDates, out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    calendar::append_datetime(DateTime::parse(data)?, digits, policy, out)
}

fn ascii(data: &[u8]) -> Result<&str, ValueProblem> {
    std::str::from_utf8(data).map_err(|_| ValueProblem::Syntax)
}

#[inline]
fn integer<T: TryFrom<i64> + std::str::FromStr>(data: &[u8]) -> Result<T, ValueProblem> {
    let (negative, digits) = match data {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, data),
    };
    if digits.len() > decimal::DIGITS_OF_I64 {
        return ascii(data)?.parse().map_err(|_| ValueProblem::Syntax);
    }
    let value = decimal::digits(digits)?;
    T::try_from(if negative { -value } else { value }).map_err(|_| ValueProblem::Syntax)
}

fn double(data: &[u8]) -> Result<f64, ValueProblem> {
    ascii(data)?.parse().map_err(|_| ValueProblem::Syntax)
}

/// `a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11`
fn uuid(data: &[u8]) -> Result<[u8; 16], ValueProblem> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8).ok_or(ValueProblem::Syntax);
    let mut digits = data.iter().filter(|byte| **byte != b'-');
    let mut out = [0; 16];
    for byte in &mut out {
        let (Some(high), Some(low)) = (digits.next(), digits.next()) else { return Err(ValueProblem::Length) };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    if digits.next().is_some() { Err(ValueProblem::Length) } else { Ok(out) }
}
