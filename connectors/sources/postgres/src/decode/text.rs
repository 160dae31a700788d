use connector_api::ColumnBuilder;

use super::{
    ValueProblem, ValueType,
    binary::{char_text, plain_f32, plain_f64},
    calendar, numeric,
};

/// Appends a value as the type's output function prints it, under the settings of our sessions.
pub(super) fn append(kind: &ValueType, data: &[u8], out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    if let (ValueType::Char, ColumnBuilder::Text(out)) = (kind, &mut *out) {
        // Servers before 16 print the byte itself, which need be no UTF-8.
        match data {
            [byte] if !byte.is_ascii() => out.append_value(char_text(*byte)),
            _ => out.append_value(utf8(data)?),
        }
        return Ok(());
    }
    let text = utf8(data)?;
    match (kind, out) {
        (ValueType::Int8 | ValueType::Oid, ColumnBuilder::Int64(out)) => out.append_value(parse(text)?),
        (ValueType::Int4, ColumnBuilder::Int32(out)) => out.append_value(parse(text)?),
        (ValueType::Int2, ColumnBuilder::Int16(out)) => out.append_value(parse(text)?),
        (ValueType::Bool, ColumnBuilder::Bool(out)) => match text {
            "t" => out.append_value(true),
            "f" => out.append_value(false),
            _ => return Err(ValueProblem::Syntax),
        },
        (
            ValueType::Text | ValueType::Json | ValueType::Jsonb | ValueType::NumericText | ValueType::Printed,
            ColumnBuilder::Text(out),
        ) => out.append_value(text),
        (ValueType::Decimal { precision, scale }, ColumnBuilder::Decimal(out)) => {
            out.append_value(numeric::decimal_from_text(text, *precision, *scale)?);
        }
        (ValueType::TimestampTz | ValueType::Timestamp, ColumnBuilder::Timestamp(out)) => {
            out.append_value(calendar::parse_timestamp(text)?);
        }
        (ValueType::Date, ColumnBuilder::Date(out)) => out.append_value(calendar::parse_date(text)?),
        (ValueType::Time, ColumnBuilder::Time(out)) => out.append_value(calendar::parse_time(text)?),
        (ValueType::Uuid, ColumnBuilder::Uuid(out)) => {
            out.append_value(uuid(text)?).map_err(|_| ValueProblem::Length)?;
        }
        (ValueType::Float8, ColumnBuilder::Float64(out)) => out.append_value(plain_f64(parse(text)?)),
        (ValueType::Float4, ColumnBuilder::Float32(out)) => out.append_value(plain_f32(parse(text)?)),
        (ValueType::Bytea, ColumnBuilder::Bytes(out)) => out.append_value(bytes(text)?),
        (ValueType::Interval, ColumnBuilder::Interval(out)) => {
            let (months, days, micros) = calendar::parse_interval(text)?;
            out.append_value(months, days, micros);
        }
        (ValueType::List(item), ColumnBuilder::List(out)) => {
            let mut scratch = Vec::new();
            let mut elements = Elements::new(text)?;
            while let Some(element) = elements.next(&mut scratch)? {
                match element {
                    Element::Null => out.items().append_null(),
                    Element::Value => append(item, &scratch, out.items())?,
                }
            }
            out.close().map_err(|_| ValueProblem::ListTooLong)?;
        }
        _ => return Err(ValueProblem::Mismatch),
    }
    Ok(())
}

fn utf8(data: &[u8]) -> Result<&str, ValueProblem> {
    std::str::from_utf8(data).map_err(|_| ValueProblem::Utf8)
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, ValueProblem> {
    text.parse().map_err(|_| ValueProblem::Syntax)
}

fn hex_digit(digit: u8) -> Result<u8, ValueProblem> {
    char::from(digit).to_digit(16).map(|value| value as u8).ok_or(ValueProblem::Syntax)
}

fn hex_pair([high, low]: [u8; 2]) -> Result<u8, ValueProblem> {
    Ok(hex_digit(high)? << 4 | hex_digit(low)?)
}

/// `\xdeadbeef`
fn bytes(text: &str) -> Result<Vec<u8>, ValueProblem> {
    let (pairs, rest) = text.strip_prefix("\\x").ok_or(ValueProblem::Syntax)?.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return Err(ValueProblem::Syntax);
    }
    pairs.iter().map(|pair| hex_pair(*pair)).collect()
}

/// `a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11`
fn uuid(text: &str) -> Result<[u8; 16], ValueProblem> {
    let mut digits = text.bytes().filter(|byte| *byte != b'-');
    let mut out = [0; 16];
    for byte in &mut out {
        let (Some(high), Some(low)) = (digits.next(), digits.next()) else { return Err(ValueProblem::Length) };
        *byte = hex_pair([high, low])?;
    }
    if digits.next().is_some() { Err(ValueProblem::Length) } else { Ok(out) }
}

enum Element {
    Null,
    Value,
}

/// Walks `{1,NULL,"a \"quoted\" one"}`.
struct Elements<'a> {
    rest: &'a [u8],
    first: bool,
}

impl<'a> Elements<'a> {
    fn new(text: &'a str) -> Result<Self, ValueProblem> {
        match text.as_bytes() {
            // Bounds stand in front where they are not the usual ones.
            [b'[', ..] => Err(ValueProblem::ArrayShape),
            [b'{', rest @ .., b'}'] => Ok(Self { rest, first: true }),
            _ => Err(ValueProblem::Syntax),
        }
    }

    /// Puts the next element's text into `out`.
    fn next(&mut self, out: &mut Vec<u8>) -> Result<Option<Element>, ValueProblem> {
        out.clear();
        match (self.rest, std::mem::take(&mut self.first)) {
            ([], _) => return Ok(None),
            (_, true) => {}
            ([b',', rest @ ..], false) => self.rest = rest,
            _ => return Err(ValueProblem::Syntax),
        }
        match self.rest {
            [b'{', ..] => Err(ValueProblem::ArrayShape),
            [b'"', rest @ ..] => {
                self.rest = rest;
                self.quoted(out)
            }
            _ => {
                let end = self.rest.iter().position(|byte| *byte == b',').unwrap_or(self.rest.len());
                let (word, rest) = self.rest.split_at(end);
                self.rest = rest;
                match word {
                    b"" => Err(ValueProblem::Syntax),
                    b"NULL" => Ok(Some(Element::Null)),
                    _ => {
                        out.extend_from_slice(word);
                        Ok(Some(Element::Value))
                    }
                }
            }
        }
    }

    fn quoted(&mut self, out: &mut Vec<u8>) -> Result<Option<Element>, ValueProblem> {
        loop {
            match self.rest {
                [b'\\', byte, rest @ ..] => {
                    out.push(*byte);
                    self.rest = rest;
                }
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return Ok(Some(Element::Value));
                }
                [byte, rest @ ..] => {
                    out.push(*byte);
                    self.rest = rest;
                }
                [] => return Err(ValueProblem::Syntax),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::{append_binary, append_text};

    fn list(text: &str) -> Result<Vec<Option<String>>, ValueProblem> {
        let mut elements = Elements::new(text)?;
        let (mut out, mut scratch) = (Vec::new(), Vec::new());
        while let Some(element) = elements.next(&mut scratch)? {
            out.push(match element {
                Element::Null => None,
                Element::Value => Some(String::from_utf8(scratch.clone()).unwrap()),
            });
        }
        Ok(out)
    }

    #[test]
    fn arrays_are_walked_element_by_element() {
        let value = |text: &str| Some(text.to_owned());
        assert_eq!(list("{}").unwrap(), vec![]);
        assert_eq!(list("{1,NULL,3}").unwrap(), vec![value("1"), None, value("3")]);
        let tricky = r#"{"NULL",NULL,"a,b","{x}","q\"","\\",""}"#;
        assert_eq!(
            list(tricky).unwrap(),
            vec![value("NULL"), None, value("a,b"), value("{x}"), value("q\""), value("\\"), value("")]
        );
        for (wrong, problem) in [
            ("{{1,2},{3,4}}", ValueProblem::ArrayShape),
            ("[0:1]={7,8}", ValueProblem::ArrayShape),
            ("{1,", ValueProblem::Syntax),
            ("{,}", ValueProblem::Syntax),
            ("{\"a}", ValueProblem::Syntax),
            ("", ValueProblem::Syntax),
        ] {
            assert_eq!(list(wrong), Err(problem), "{wrong}");
        }
    }

    fn any_type() -> impl Strategy<Value = ValueType> {
        use ValueType::*;
        let plain = vec![
            Bool,
            Int2,
            Int4,
            Int8,
            Oid,
            Float4,
            Float8,
            NumericText,
            Text,
            Char,
            Json,
            Jsonb,
            Bytea,
            Date,
            Time,
            Timestamp,
            TimestampTz,
            Interval,
            Uuid,
            Printed,
        ];
        let plain = prop_oneof![proptest::sample::select(plain), Just(Decimal { precision: 12, scale: 2 })];
        prop_oneof![plain.clone(), plain.prop_map(|item| List(Box::new(item)))]
    }

    proptest! {
        #[test]
        fn no_value_panics(kind in any_type(), data in proptest::collection::vec(any::<u8>(), 0..48)) {
            let mut out = ColumnBuilder::new(&kind.column_type());
            let _ = append_binary(&kind, &data, &mut out);
            let mut out = ColumnBuilder::new(&kind.column_type());
            let _ = append_text(&kind, &data, &mut out);
        }

        #[test]
        fn no_array_panics(kind in any_type(), claimed: i32, data in proptest::collection::vec(any::<u8>(), 0..48)) {
            let header = [&1i32.to_be_bytes()[..], &[0; 8], &claimed.to_be_bytes(), &1i32.to_be_bytes(), &data].concat();
            let kind = ValueType::List(Box::new(kind));
            if !matches!(kind.column_type(), connector_api::ColumnType::List(item) if matches!(*item, connector_api::ColumnType::List(_))) {
                let mut out = ColumnBuilder::new(&kind.column_type());
                let _ = append_binary(&kind, &header, &mut out);
            }
        }

        #[test]
        fn no_text_panics(kind in any_type(), text in "[-+0-9:. BC{},\\[\\]\"NULinfty\\\\x]{0,24}") {
            let mut out = ColumnBuilder::new(&kind.column_type());
            let _ = append_text(&kind, text.as_bytes(), &mut out);
        }
    }
}
