use arrow_buffer::i256;
use connector_api::ColumnType;

/// Digits that are handled at once: as many as any 128-bit integer can have.
const PART_DIGITS: usize = 38;
const PART: i256 = i256::from_i128(10_i128.pow(PART_DIGITS as u32));

/// What the unscaled value of a decimal column, or of a list of decimals, must stay below, in size; 0 for other types.
///
/// It fits in an `i128` where the column's Arrow type is of 128 bits.
pub(crate) fn decimal_limit(kind: &ColumnType) -> i256 {
    match kind {
        ColumnType::Decimal { precision, .. } => i256::from_i128(10).checked_pow((*precision).into()).unwrap_or(i256::MAX),
        ColumnType::List(item) => decimal_limit(item),
        _ => i256::ZERO,
    }
}

/// Appends a decimal with all digits of its scale: `-0.05`.
pub(crate) fn push_decimal(value: i128, scale: u8, out: &mut Vec<u8>) {
    push_parts(value < 0, &[value.unsigned_abs()], scale, out);
}

/// [`push_decimal`] for values of more digits.
pub(crate) fn push_wide_decimal(value: i256, scale: u8, out: &mut Vec<u8>) {
    // Three parts hold any value. The remainders have the sign of the value.
    let mut parts = [0; 3];
    let mut rest = value;
    for part in &mut parts {
        let (quotient, remainder) = rest.wrapping_div_rem(PART);
        *part = remainder.as_i128().unsigned_abs();
        rest = quotient;
    }
    push_parts(value.is_negative(), &parts, scale, out);
}

/// `parts`: the digits, [`PART_DIGITS`] each but for the last, lowest first.
fn push_parts(negative: bool, parts: &[u128], scale: u8, out: &mut Vec<u8>) {
    if negative {
        out.push(b'-');
    }
    let scale = usize::from(scale);
    // Room for one digit more than three parts have: a zero stands before the point even if all digits are behind it.
    let mut digits = [b'0'; 3 * PART_DIGITS + 1];
    let mut start = digits.len();
    for (place, part) in parts.iter().enumerate() {
        let (mut rest, mut at) = (*part, digits.len() - place * PART_DIGITS);
        while rest > 0 {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            start = at;
        }
    }
    let point = digits.len().saturating_sub(scale);
    start = start.min(point.saturating_sub(1));
    out.extend_from_slice(&digits[start..point]);
    if scale > 0 {
        out.push(b'.');
        out.extend_from_slice(&digits[point..]);
    }
}

/// Reads a decimal of at most that many digits behind the point as an unscaled value; `None` if it is malformed or its size is not below
/// `limit`.
pub(crate) fn parse_decimal(text: &[u8], scale: u8, limit: i128) -> Option<i128> {
    let Parts { negative, high: 0, low } = parse_parts(text, scale)? else { return None };
    let value = i128::try_from(low).ok().filter(|value| *value < limit)?;
    Some(if negative { -value } else { value })
}

/// [`parse_decimal`] for values of more digits.
pub(crate) fn parse_wide_decimal(text: &[u8], scale: u8, limit: i256) -> Option<i256> {
    let Parts { negative, high, low } = parse_parts(text, scale)?;
    let value = i256::from_parts(high, 0).checked_mul(PART)?.checked_add(i256::from_parts(low, 0))?;
    (value < limit).then_some(if negative { value.wrapping_neg() } else { value })
}

/// `high * 10^38 + low`, with a sign.
struct Parts {
    negative: bool,
    high: u128,
    low: u128,
}

fn parse_parts(text: &[u8], scale: u8) -> Option<Parts> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (whole, fraction) = match digits.iter().position(|byte| *byte == b'.') {
        Some(point) => (&digits[..point], &digits[point + 1..]),
        None => (digits, &[][..]),
    };
    let missing = usize::from(scale).checked_sub(fraction.len())?;
    if whole.is_empty() || (fraction.is_empty() && digits.len() > whole.len()) {
        return None;
    }
    let mut unscaled = whole.iter().chain(fraction).copied().chain(std::iter::repeat_n(b'0', missing));
    let mut take = |count: usize| {
        unscaled.by_ref().take(count).try_fold(0_u128, |value, digit| {
            let digit = digit.is_ascii_digit().then(|| u128::from(digit - b'0'))?;
            value.checked_mul(10)?.checked_add(digit)
        })
    };
    let high = take((whole.len() + usize::from(scale)).saturating_sub(PART_DIGITS))?;
    Some(Parts { negative, high, low: take(PART_DIGITS)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn there_and_back() {
        let limit = 10_i128.pow(38);
        for (value, scale, text) in [
            (0, 0, "0"),
            (0, 3, "0.000"),
            (-5, 2, "-0.05"),
            (110, 2, "1.10"),
            (-999, 2, "-9.99"),
            (limit - 1, 0, "99999999999999999999999999999999999999"),
            (1 - limit, 38, "-0.99999999999999999999999999999999999999"),
            (1, 38, "0.00000000000000000000000000000000000001"),
        ] {
            let mut out = Vec::new();
            push_decimal(value, scale, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
            assert_eq!(parse_decimal(text.as_bytes(), scale, limit), Some(value));
            assert_eq!(parse_wide_decimal(text.as_bytes(), scale, PART), Some(i256::from_i128(value)));
        }
        assert_eq!(parse_decimal(b"7", 2, 1000), Some(700));
        assert_eq!(parse_decimal(b"7.5", 2, 1000), Some(750));
        assert_eq!(parse_decimal(format!("{}7", "0".repeat(100)).as_bytes(), 2, 1000), Some(700));
        for bad in ["", "-", ".", "1.", ".5", "+1", "1.234", "10", "1e2", "--1", "1.-1", "NaN", &"9".repeat(60), &"9".repeat(200)] {
            assert_eq!(parse_decimal(bad.as_bytes(), 2, 1000), None, "{bad}");
            assert_eq!(parse_wide_decimal(bad.as_bytes(), 2, i256::from_i128(1000)), None, "{bad}");
        }
    }

    #[test]
    fn more_digits_than_128_bits_have() {
        let nines = "9".repeat(76);
        let limit = decimal_limit(&ColumnType::Decimal { precision: 76, scale: 0 });
        for (text, scale) in [
            (nines.clone(), 0),
            (format!("-{nines}"), 0),
            (format!("-0.{nines}"), 76),
            (format!("{}.{}", &nines[..35], &nines[..30]), 30),
            (format!("0.{}1", "0".repeat(64)), 65),
            (format!("1{}", "0".repeat(38)), 0),
            (format!("1{}.5", "0".repeat(38)), 1),
        ] {
            let value = parse_wide_decimal(text.as_bytes(), scale, limit).unwrap();
            let (sign, plain) = text.strip_prefix('-').map_or(("", text.as_str()), |plain| ("-", plain));
            assert_eq!(value.to_string(), format!("{sign}{}", plain.replace('.', "").trim_start_matches('0')));
            let mut out = Vec::new();
            push_wide_decimal(value, scale, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
        assert_eq!(parse_wide_decimal(format!("1{}", "0".repeat(76)).as_bytes(), 0, limit), None);
        assert_eq!(parse_wide_decimal("9".repeat(77).as_bytes(), 0, limit), None);
    }

    proptest! {
        /// Whatever an array holds becomes all of its digits.
        #[test]
        fn any_value(low: u128, high: i128, shift in 0..250_u32) {
            let value = i256::from_parts(low, high) >> shift as u8;
            let mut out = Vec::new();
            push_wide_decimal(value, 0, &mut out);
            prop_assert_eq!(std::str::from_utf8(&out).unwrap(), value.to_string());
        }
    }
}
