use arrow_buffer::i256;

use crate::cell::Cell;

/// Appends a key value to `out`, so that two keys of one table have equal bytes exactly where a database takes them for equal: `-0.0` is
/// `0.0`, `1.0` as text of an unbounded numeric is `1.00`, a day is 24 hours. The bytes of integers, dates, texts and UUIDs also sort as the values
/// do, which keeps keys that are near each other in an index together. False for NULL, which is no key.
pub(crate) fn write_key(out: &mut Vec<u8>, cell: Cell<'_>, numeric_text: bool) -> bool {
    match cell {
        Cell::Null => return false,
        Cell::Bool(value) => out.push(u8::from(value)),
        // The sign bit is turned around, so that negative numbers come first.
        Cell::Int16(value) => out.extend((value ^ i16::MIN).to_be_bytes()),
        Cell::Int32(value) | Cell::Date(value) => out.extend((value ^ i32::MIN).to_be_bytes()),
        Cell::Int64(value) | Cell::Time(value) | Cell::Timestamp(value) | Cell::TimestampTz(value) | Cell::Duration(value) => {
            out.extend((value ^ i64::MIN).to_be_bytes());
        }
        Cell::Float32(value) => out.extend(float_bits(f64::from(value)).to_be_bytes()),
        Cell::Float64(value) => out.extend(float_bits(value).to_be_bytes()),
        Cell::Decimal { unscaled, .. } => out.extend((unscaled ^ i128::MIN).to_be_bytes()),
        Cell::Decimal256 { unscaled, .. } => out.extend((*unscaled ^ i256::MIN).to_be_bytes()),
        Cell::Text(value) => write_bytes(out, if numeric_text { plain_number(value) } else { value }.as_bytes()),
        Cell::Bytes(value) => write_bytes(out, value),
        Cell::Interval { months, days, micros } => {
            let days = i128::from(months) * 30 + i128::from(days);
            out.extend((days * 86_400_000_000 + i128::from(micros)).to_be_bytes());
        }
        Cell::Uuid(value) => out.extend(value),
        Cell::List { items, start, end } => {
            out.extend((end.saturating_sub(start) as u32).to_be_bytes());
            for index in start..end {
                let flag = out.len();
                out.push(1);
                if !write_key(out, items.cell(index), numeric_text) {
                    out[flag] = 0;
                }
            }
        }
    }
    true
}

/// Appends bytes with an end that no value holds, so that ("a", "bc") and ("ab", "c") stay apart: a zero is followed by 255, the end is a zero
/// followed by 1.
fn write_bytes(out: &mut Vec<u8>, value: &[u8]) {
    for (index, part) in value.split(|byte| *byte == 0).enumerate() {
        if index > 0 {
            out.extend([0, 255]);
        }
        out.extend(part);
    }
    out.extend([0, 1]);
}

fn float_bits(value: f64) -> u64 {
    if value.is_nan() {
        return f64::NAN.to_bits();
    }
    // Adding zero turns -0.0 into 0.0.
    (value + 0.0).to_bits()
}

/// A number's text without the zeroes that its scale adds.
fn plain_number(text: &str) -> &str {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(cells: &[Cell<'_>], numeric_text: bool) -> Vec<u8> {
        let mut out = Vec::new();
        assert!(cells.iter().all(|cell| write_key(&mut out, *cell, numeric_text)));
        out
    }

    #[test]
    fn equal_for_the_database_is_equal_here() {
        assert_eq!(bytes(&[Cell::Float64(-0.0)], false), bytes(&[Cell::Float64(0.0)], false));
        assert_eq!(bytes(&[Cell::Text("1.0")], true), bytes(&[Cell::Text("1.00")], true));
        assert_eq!(bytes(&[Cell::Text("1")], true), bytes(&[Cell::Text("1.00")], true));
        assert_ne!(bytes(&[Cell::Text("10")], true), bytes(&[Cell::Text("1")], true));
        assert_ne!(bytes(&[Cell::Text("1.0")], false), bytes(&[Cell::Text("1.00")], false));
        let day = Cell::Interval { months: 0, days: 1, micros: 0 };
        assert_eq!(bytes(&[day], false), bytes(&[Cell::Interval { months: 0, days: 0, micros: 86_400_000_000 }], false));
    }

    #[test]
    fn parts_of_a_key_do_not_run_together() {
        assert_ne!(bytes(&[Cell::Text("a"), Cell::Text("bc")], false), bytes(&[Cell::Text("ab"), Cell::Text("c")], false));
    }

    #[test]
    fn keys_sort_as_their_values_do() {
        let ints = [i64::MIN, -1, 0, 1, i64::MAX].map(|value| bytes(&[Cell::Int64(value)], false));
        let texts = ["", "\0", "\0a", "a", "a\0", "aa", "b"].map(|value| bytes(&[Cell::Text(value)], false));
        let wide = [i256::MIN, i256::MINUS_ONE, i256::ZERO, i256::ONE, i256::MAX];
        let wide = wide.each_ref().map(|unscaled| bytes(&[Cell::Decimal256 { unscaled, scale: 2 }], false));
        assert!(wide.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ints.is_sorted() && texts.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn null_is_no_key() {
        assert!(!write_key(&mut Vec::new(), Cell::Null, false));
    }
}
