use arrow_buffer::i256;
use base64::{Engine, engine::general_purpose::STANDARD};
use connector_api::{ColumnBuilder, ColumnType, OrderKey};

use super::JsonReader;
use crate::{
    error::Malformed,
    run::{ImageState, Plan, Run},
    text::{parse_decimal, parse_interval, parse_timestamp, parse_uuid, parse_wide_decimal},
};

/// Room that is used again for each record.
#[derive(Default)]
pub(crate) struct JsonScratch {
    name: String,
    text: String,
    bytes: Vec<u8>,
    seen: Vec<bool>,
}

/// Reads a value into the run, all but the last step that makes it a row. Fields may come in any order; those of the envelope and of
/// `source` that are not known are passed over.
pub(crate) fn read_event(reader: &mut JsonReader<'_>, run: &mut Run, scratch: &mut JsonScratch) -> Result<(), Malformed> {
    reader.expect(b'{')?;
    let mut first = true;
    while reader.next(&mut first, b'}')? {
        let Run { plan, builder, row, .. } = &mut *run;
        match reader.name(&mut scratch.name)? {
            "before" => {
                let builder = builder.before();
                if begin_image(reader, &mut row.before)? {
                    read_image(reader, plan, builder.present(), &mut row.fault_column, scratch)?;
                } else {
                    builder.absent();
                }
            }
            "after" => {
                let builder = builder.after();
                if begin_image(reader, &mut row.after)? {
                    read_image(reader, plan, builder.present(), &mut row.fault_column, scratch)?;
                } else {
                    builder.absent();
                }
            }
            "source" => {
                if std::mem::replace(&mut row.source_given, true) {
                    return Err(Malformed::Duplicate);
                }
                row.commit_ts_us = read_source(reader, plan, builder.source(), scratch)?;
            }
            "op" => match reader.string(&mut scratch.text)?.as_bytes() {
                [letter] => row.letter = Some(*letter),
                _ => return Err(Malformed::Op),
            },
            "unchanged" => {
                if reader.null()? {
                    continue;
                }
                reader.expect(b'[')?;
                let mut first = true;
                while reader.next(&mut first, b']')? {
                    let column = reader.string(&mut scratch.text)?;
                    row.unchanged.push(plan.index_of(column).ok_or(Malformed::UnknownColumn)?);
                }
            }
            "order" => row.order = Some(read_order(reader, scratch)?),
            _ => reader.skip(&mut scratch.text)?,
        }
    }
    reader.end()
}

/// Notes that the image was met; whether it is there.
fn begin_image(reader: &mut JsonReader<'_>, image: &mut ImageState) -> Result<bool, Malformed> {
    if image.given {
        return Err(Malformed::Duplicate);
    }
    let present = !reader.null()?;
    // From here on the builder is told, whatever else goes wrong.
    *image = ImageState { given: true, present };
    Ok(present)
}

fn read_image(
    reader: &mut JsonReader<'_>,
    plan: &Plan,
    builders: &mut [ColumnBuilder],
    fault_column: &mut Option<usize>,
    scratch: &mut JsonScratch,
) -> Result<(), Malformed> {
    reader.expect(b'{')?;
    let columns = plan.schema.columns();
    scratch.seen.clear();
    scratch.seen.resize(columns.len(), false);
    let (mut first, mut next) = (true, 0);
    while reader.next(&mut first, b'}')? {
        let name = reader.name(&mut scratch.name)?;
        // Our own records have the columns in order; the search by name is for those of others.
        let index = match columns.get(next) {
            Some(column) if column.name == name => next,
            _ => plan.index_of(name).ok_or(Malformed::UnknownColumn)?,
        };
        next = index + 1;
        let (Some(builder), Some(column), Some(seen)) = (builders.get_mut(index), columns.get(index), scratch.seen.get_mut(index))
        else {
            return Err(Malformed::UnknownColumn);
        };
        *fault_column = Some(index);
        if std::mem::replace(seen, true) {
            return Err(Malformed::Duplicate);
        }
        let required = plan.columns.get(index).is_some_and(|column| column.required);
        let limit = plan.columns.get(index).map_or(&i256::ZERO, |column| &column.decimal_limit);
        if !reader.null()? {
            read_value(reader, &column.kind, builder, limit, &mut scratch.text, &mut scratch.bytes)?;
        } else if required {
            return Err(Malformed::MissingKey);
        } else {
            builder.append_null();
        }
    }
    *fault_column = None;
    for (index, builder) in builders.iter_mut().enumerate() {
        if scratch.seen.get(index) == Some(&false) {
            if plan.columns.get(index).is_some_and(|column| column.required) {
                *fault_column = Some(index);
                return Err(Malformed::MissingKey);
            }
            builder.append_null();
        }
    }
    Ok(())
}

/// Reads the `source` block; gives the commit time in microseconds, if it is there.
fn read_source(
    reader: &mut JsonReader<'_>,
    plan: &Plan,
    builders: &mut [ColumnBuilder],
    scratch: &mut JsonScratch,
) -> Result<Option<i64>, Malformed> {
    reader.expect(b'{')?;
    scratch.seen.clear();
    scratch.seen.resize(builders.len(), false);
    let (mut ts_ms, mut ts_us) = (None, None);
    let mut first = true;
    while reader.next(&mut first, b'}')? {
        let name = reader.name(&mut scratch.name)?;
        match name {
            "ts_ms" => ts_ms = Some(reader.parse_number::<i64>()?),
            "ts_us" if reader.null()? => {}
            "ts_us" => ts_us = Some(reader.parse_number()?),
            _ => {
                let column = plan.source_names.iter().position(|column| column == name);
                let column = column.and_then(|index| Some((index, builders.get_mut(index)?, plan.info.columns.get(index)?)));
                let Some((index, builder, (_, kind))) = column else {
                    reader.skip(&mut scratch.text)?;
                    continue;
                };
                if std::mem::replace(&mut scratch.seen[index], true) {
                    return Err(Malformed::Duplicate);
                }
                if reader.null()? {
                    builder.append_null();
                } else {
                    let limit = plan.source_limits.get(index).unwrap_or(&i256::ZERO);
                    read_value(reader, kind, builder, limit, &mut scratch.text, &mut scratch.bytes)?;
                }
            }
        }
    }
    for (builder, seen) in builders.iter_mut().zip(&scratch.seen) {
        if !seen {
            builder.append_null();
        }
    }
    match (ts_us, ts_ms) {
        (None, Some(ms)) => ms.checked_mul(1000).map(Some).ok_or(Malformed::OutOfRange),
        _ => Ok(ts_us),
    }
}

fn read_order(reader: &mut JsonReader<'_>, scratch: &mut JsonScratch) -> Result<OrderKey, Malformed> {
    reader.expect(b'{')?;
    let (mut sequence, mut ordinal) = (None, None);
    let mut first = true;
    while reader.next(&mut first, b'}')? {
        match reader.name(&mut scratch.name)? {
            "sequence" => sequence = Some(reader.parse_number()?),
            "ordinal" => ordinal = Some(reader.parse_number()?),
            _ => reader.skip(&mut scratch.text)?,
        }
    }
    let (Some(sequence), Some(ordinal)) = (sequence, ordinal) else { return Err(Malformed::MissingField) };
    Ok(OrderKey { sequence, ordinal })
}

/// Reads a value that is not `null`. On an error, the builder may have got a part of a list.
fn read_value(
    reader: &mut JsonReader<'_>,
    kind: &ColumnType,
    builder: &mut ColumnBuilder,
    decimal_limit: &i256,
    text: &mut String,
    bytes: &mut Vec<u8>,
) -> Result<(), Malformed> {
    match builder {
        ColumnBuilder::Bool(values) => values.append_value(reader.bool()?),
        ColumnBuilder::Int16(values) => values.append_value(reader.parse_number()?),
        ColumnBuilder::Int32(values) => values.append_value(reader.parse_number()?),
        ColumnBuilder::Int64(values) => values.append_value(reader.parse_number()?),
        ColumnBuilder::Float32(values) => values.append_value(match special_float(reader, text)? {
            Some(special) => special as f32,
            None => Some(reader.parse_number()?).filter(|value: &f32| value.is_finite()).ok_or(Malformed::Number)?,
        }),
        ColumnBuilder::Float64(values) => values.append_value(match special_float(reader, text)? {
            Some(special) => special,
            None => Some(reader.parse_number()?).filter(|value: &f64| value.is_finite()).ok_or(Malformed::Number)?,
        }),
        ColumnBuilder::Decimal(values) => {
            let ColumnType::Decimal { scale, .. } = kind else { return Err(Malformed::Decimal) };
            let decimal = parse_decimal(reader.string(text)?.as_bytes(), *scale, decimal_limit.as_i128());
            values.append_value(decimal.ok_or(Malformed::Decimal)?);
        }
        ColumnBuilder::Decimal256(values) => {
            let ColumnType::Decimal { scale, .. } = kind else { return Err(Malformed::Decimal) };
            let decimal = parse_wide_decimal(reader.string(text)?.as_bytes(), *scale, *decimal_limit);
            values.append_value(decimal.ok_or(Malformed::Decimal)?);
        }
        ColumnBuilder::Text(values) => values.append_value(reader.string(text)?),
        ColumnBuilder::Bytes(values) => {
            bytes.clear();
            STANDARD.decode_vec(reader.string(text)?, bytes).map_err(|_| Malformed::Base64)?;
            values.append_value(&bytes);
        }
        ColumnBuilder::Date(values) => values.append_value(reader.parse_number()?),
        ColumnBuilder::Time(values) => values.append_value(reader.parse_number()?),
        ColumnBuilder::Timestamp(values) => values.append_value(match kind {
            ColumnType::TimestampTz => parse_timestamp(reader.string(text)?.as_bytes()).ok_or(Malformed::Timestamp)?,
            _ => reader.parse_number()?,
        }),
        ColumnBuilder::Duration(values) => values.append_value(reader.parse_number()?),
        ColumnBuilder::Interval(values) => {
            let (months, days, micros) = parse_interval(reader.string(text)?.as_bytes()).ok_or(Malformed::Interval)?;
            values.append_value(months, days, micros);
        }
        ColumnBuilder::Uuid(values) => {
            let uuid = parse_uuid(reader.string(text)?.as_bytes()).ok_or(Malformed::Uuid)?;
            values.append_value(uuid).map_err(|_| Malformed::Uuid)?;
        }
        ColumnBuilder::List(list) => {
            let ColumnType::List(item) = kind else { return Err(Malformed::Syntax) };
            reader.expect(b'[')?;
            let mut first = true;
            while reader.next(&mut first, b']')? {
                if reader.null()? {
                    list.items().append_null();
                } else {
                    read_value(reader, item, list.items(), decimal_limit, text, bytes)?;
                }
            }
            list.close().map_err(|_| Malformed::ListTooLong)?;
        }
    }
    Ok(())
}

/// The floats that JSON has no number for; `None` if a number comes next.
fn special_float(reader: &mut JsonReader<'_>, text: &mut String) -> Result<Option<f64>, Malformed> {
    if reader.peek()? != b'"' {
        return Ok(None);
    }
    match reader.string(text)? {
        "NaN" => Ok(Some(f64::NAN)),
        "Infinity" => Ok(Some(f64::INFINITY)),
        "-Infinity" => Ok(Some(f64::NEG_INFINITY)),
        _ => Err(Malformed::Number),
    }
}
