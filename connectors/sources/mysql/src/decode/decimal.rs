//! MySQL's binary decimals: groups of nine digits in four bytes, big-endian, outwards from the point; the group that is farthest from it takes as
//! many bytes as its digits need. The top bit of the first byte is inverted, and of negative numbers all bits are.

use arrow_buffer::i256;

use super::ValueProblem;

/// Bytes of a group of so many digits.
const GROUP_BYTES: [usize; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];
const POWERS: [u32; 10] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000];
/// No type has more.
const DIGITS_MAX: usize = 81;

/// Bytes of a decimal of that type.
pub(super) fn binary_len(precision: u8, scale: u8) -> usize {
    let (whole, fraction) = (usize::from(precision.saturating_sub(scale)), usize::from(scale));
    whole / 9 * 4 + GROUP_BYTES[whole % 9] + fraction / 9 * 4 + GROUP_BYTES[fraction % 9]
}

/// Calls `group` with each group's value and number of digits, the highest first. Returns whether the number is negative.
#[inline]
fn groups(
    data: &[u8],
    precision: u8,
    scale: u8,
    mut group: impl FnMut(u32, usize) -> Result<(), ValueProblem>,
) -> Result<bool, ValueProblem> {
    if scale > precision || data.len() != binary_len(precision, scale) {
        return Err(ValueProblem::Length);
    }
    let (whole, fraction) = (usize::from(precision - scale), usize::from(scale));
    let negative = data.first().is_some_and(|first| first & 0x80 == 0);
    let mask: u8 = if negative { 0xFF } else { 0 };
    let mut rest = data;
    let mut first = 0x80;
    let mut take = |digits: usize| -> Result<(), ValueProblem> {
        let (bytes, behind) = rest.split_at_checked(GROUP_BYTES[digits]).ok_or(ValueProblem::Length)?;
        rest = behind;
        let mut value = 0u32;
        for byte in bytes {
            value = value << 8 | u32::from(byte ^ mask ^ std::mem::take(&mut first));
        }
        if value >= POWERS[digits] {
            return Err(ValueProblem::DecimalRange);
        }
        group(value, digits)
    };
    if whole % 9 > 0 {
        take(whole % 9)?;
    }
    for _ in 0..whole / 9 + fraction / 9 {
        take(9)?;
    }
    if fraction % 9 > 0 {
        take(fraction % 9)?;
    }
    Ok(negative)
}

/// A decimal of at most 38 digits, without its point.
pub(super) fn read_i128(data: &[u8], precision: u8, scale: u8) -> Result<i128, ValueProblem> {
    let mut value = 0i128;
    let negative = groups(data, precision, scale, |group, digits| {
        value = value.checked_mul(POWERS[digits].into()).ok_or(ValueProblem::DecimalRange)? + i128::from(group);
        Ok(())
    })?;
    Ok(if negative { -value } else { value })
}

/// A decimal of at most 76 digits, without its point.
pub(super) fn read_i256(data: &[u8], precision: u8, scale: u8) -> Result<i256, ValueProblem> {
    // Groups are gathered in 128 bits as far as they go: four at a time.
    let (mut value, mut part, mut part_scale, mut count) = (i256::ZERO, 0i128, 1i128, 0);
    let negative = groups(data, precision, scale, |group, digits| {
        part = part * i128::from(POWERS[digits]) + i128::from(group);
        part_scale *= i128::from(POWERS[digits]);
        count += 1;
        if count == 4 {
            value = value.checked_mul(i256::from_i128(part_scale)).ok_or(ValueProblem::DecimalRange)?;
            value = value.checked_add(i256::from_i128(part)).ok_or(ValueProblem::DecimalRange)?;
            (part, part_scale, count) = (0, 1, 0);
        }
        Ok(())
    })?;
    let value = value.checked_mul(i256::from_i128(part_scale)).ok_or(ValueProblem::DecimalRange)?;
    let value = value.checked_add(i256::from_i128(part)).ok_or(ValueProblem::DecimalRange)?;
    Ok(if negative { value.wrapping_neg() } else { value })
}

/// Appends the decimal as the server prints it: all digits of the scale, no zeroes in front.
pub(super) fn print(data: &[u8], precision: u8, scale: u8, out: &mut impl std::fmt::Write) -> Result<(), ValueProblem> {
    let mut digits = [0u8; DIGITS_MAX];
    let mut len = 0;
    let negative = groups(data, precision, scale, |group, count| {
        let target = digits.get_mut(len..len + count).ok_or(ValueProblem::DecimalRange)?;
        let mut group = group;
        for digit in target.iter_mut().rev() {
            *digit = b'0' + (group % 10) as u8;
            group /= 10;
        }
        len += count;
        Ok(())
    })?;
    let digits = std::str::from_utf8(&digits[..len]).map_err(|_| ValueProblem::Syntax)?;
    let (whole, fraction) = digits.split_at(len - usize::from(scale));
    let whole = whole.trim_start_matches('0');
    let written = (|| {
        if negative {
            out.write_char('-')?;
        }
        out.write_str(if whole.is_empty() { "0" } else { whole })?;
        if !fraction.is_empty() {
            out.write_char('.')?;
            out.write_str(fraction)?;
        }
        Ok(())
    })();
    written.map_err(|_: std::fmt::Error| ValueProblem::Mismatch)
}

/// So many digits fit into 64 bits with a sign.
pub(super) const DIGITS_OF_I64: usize = 18;

const POWERS_OF_I64: [i64; DIGITS_OF_I64 + 1] = {
    let mut powers = [1; DIGITS_OF_I64 + 1];
    let mut exponent = 1;
    while exponent <= DIGITS_OF_I64 {
        powers[exponent] = powers[exponent - 1] * 10;
        exponent += 1;
    }
    powers
};

/// The number that 1 to [`DIGITS_OF_I64`] digits make.
#[inline]
pub(super) fn digits(text: &[u8]) -> Result<i64, ValueProblem> {
    if text.is_empty() || text.len() > DIGITS_OF_I64 {
        return Err(ValueProblem::Syntax);
    }
    let mut value = 0;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return Err(ValueProblem::Syntax);
        }
        value = value * 10 + i64::from(digit);
    }
    Ok(value)
}

/// Splits `-12.50` into its sign, what stands before the point, which is not empty, and what stands behind it, which is not longer than the scale.
#[inline]
fn split(text: &[u8], scale: u8) -> Result<(bool, &[u8], &[u8]), ValueProblem> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    // The server prints all digits of the scale, so the point is where it should be. What it computes may have fewer.
    let expected = digits.len().wrapping_sub(usize::from(scale) + 1);
    let point = match digits.get(expected) {
        Some(b'.') => expected,
        _ => digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len()),
    };
    let (whole, fraction) = digits.split_at(point);
    let fraction = fraction.get(1..).unwrap_or_default();
    if whole.is_empty() || fraction.len() > scale.into() { Err(ValueProblem::Syntax) } else { Ok((negative, whole, fraction)) }
}

/// The printed form of a decimal of at most 38 digits.
#[inline]
pub(super) fn parse_i128(text: &[u8], precision: u8, scale: u8) -> Result<i128, ValueProblem> {
    let (negative, whole, fraction) = split(text, scale)?;
    if whole.len() + usize::from(scale) > DIGITS_OF_I64 {
        return parse_long(negative, whole, fraction, precision, scale);
    }
    let mut value = digits(whole)?;
    if !fraction.is_empty() {
        value = value * POWERS_OF_I64[fraction.len()] + digits(fraction)?;
    }
    value *= POWERS_OF_I64[usize::from(scale) - fraction.len()];
    if POWERS_OF_I64.get(usize::from(precision)).is_some_and(|limit| value >= *limit) {
        return Err(ValueProblem::DecimalRange);
    }
    Ok(i128::from(if negative { -value } else { value }))
}

fn parse_long(negative: bool, whole: &[u8], fraction: &[u8], precision: u8, scale: u8) -> Result<i128, ValueProblem> {
    let mut value = 0i128;
    for part in [whole, fraction].into_iter().flat_map(|part| part.chunks(DIGITS_OF_I64)) {
        let (part, power) = (digits(part)?, POWERS_OF_I64[part.len()]);
        value =
            value.checked_mul(power.into()).and_then(|value| value.checked_add(part.into())).ok_or(ValueProblem::DecimalRange)?;
    }
    let missing = u32::from(scale) - fraction.len() as u32;
    let value = 10i128.checked_pow(missing).and_then(|power| value.checked_mul(power)).ok_or(ValueProblem::DecimalRange)?;
    if precision < 38 && value >= 10i128.pow(precision.into()) {
        return Err(ValueProblem::DecimalRange);
    }
    Ok(if negative { -value } else { value })
}

/// The printed form of a decimal of at most 76 digits.
pub(super) fn parse_i256(text: &[u8], precision: u8, scale: u8) -> Result<i256, ValueProblem> {
    let (negative, whole, fraction) = split(text, scale)?;
    if !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return Err(ValueProblem::Syntax);
    }
    let whole_max = usize::from(precision.saturating_sub(scale)).max(1);
    if whole.len() > whole_max {
        return Err(ValueProblem::DecimalRange);
    }
    let missing = usize::from(scale) - fraction.len();
    let digits = whole.iter().chain(fraction).map(|digit| digit - b'0').chain(std::iter::repeat_n(0, missing));
    let (mut value, mut part, mut part_scale) = (i256::ZERO, 0i128, 1i128);
    let add = |value: i256, part: i128, part_scale: i128| {
        value.wrapping_mul(i256::from_i128(part_scale)).wrapping_add(i256::from_i128(part))
    };
    for (index, digit) in digits.enumerate() {
        part = part * 10 + i128::from(digit);
        part_scale *= 10;
        if index % 36 == 35 {
            value = add(value, part, part_scale);
            (part, part_scale) = (0, 1);
        }
    }
    let value = add(value, part, part_scale);
    Ok(if negative { value.wrapping_neg() } else { value })
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Our own encoder, from the printed form.
    pub(in crate::decode) fn encode(text: &str, precision: u8, scale: u8) -> Vec<u8> {
        let negative = text.starts_with('-');
        let text = text.trim_start_matches('-');
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = whole.trim_start_matches('0');
        let digits = format!("{whole:0>width$}", width = usize::from(precision - scale));
        let fraction = format!("{fraction:0<width$}", width = usize::from(scale));
        let mut out = Vec::new();
        let mut push = |group: &str| {
            let value: u32 = group.parse().unwrap();
            out.extend_from_slice(&value.to_be_bytes()[4 - GROUP_BYTES[group.len()]..]);
        };
        let (head, tail) = digits.split_at(digits.len() % 9);
        if !head.is_empty() {
            push(head);
        }
        tail.as_bytes().chunks(9).for_each(|group| push(std::str::from_utf8(group).unwrap()));
        fraction.as_bytes().chunks(9).for_each(|group| push(std::str::from_utf8(group).unwrap()));
        if negative {
            out.iter_mut().for_each(|byte| *byte = !*byte);
        }
        if let Some(first) = out.first_mut() {
            *first ^= 0x80;
        }
        out
    }

    #[test]
    fn decimals_are_exact() {
        let nines = format!("{}.{}", "9".repeat(35), "9".repeat(30));
        let negative = format!("-{nines}");
        for (text, precision, scale) in [
            ("12345.67", 7, 2),
            ("-0.01", 7, 2),
            ("0.00", 7, 2),
            ("0", 1, 0),
            ("1234567890.1234", 14, 4),
            (nines.as_str(), 65, 30),
            (negative.as_str(), 65, 30),
            ("0.000000000000000000000000000001", 65, 30),
        ] {
            let data = encode(text, precision, scale);
            let mut printed = String::new();
            print(&data, precision, scale, &mut printed).unwrap();
            assert_eq!(printed, text);
            let expected = i256::from_string(&text.replace('.', "")).unwrap();
            assert_eq!(read_i256(&data, precision, scale), Ok(expected), "{text}");
            assert_eq!(parse_i256(text.as_bytes(), precision, scale), Ok(expected), "{text}");
            if precision <= 38 {
                assert_eq!(read_i128(&data, precision, scale).map(i256::from_i128), Ok(expected), "{text}");
                assert_eq!(parse_i128(text.as_bytes(), precision, scale).map(i256::from_i128), Ok(expected), "{text}");
            }
        }
        // The known example of 14 digits, four of them behind the point.
        let known = [0x81, 0x0D, 0xFB, 0x38, 0xD2, 0x04, 0xD2];
        assert_eq!(read_i128(&known, 14, 4), Ok(12_345_678_901_234));
        assert_eq!(read_i128(&known.map(|byte| !byte), 14, 4), Ok(-12_345_678_901_234));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert_eq!(read_i128(&[0x80], 7, 2), Err(ValueProblem::Length));
        assert_eq!(read_i128(&[0xFF, 0xFF, 0xFF, 99], 7, 2), Err(ValueProblem::DecimalRange));
        for text in ["", "-", "1.234", "x", "1e5", "123456.00", "1.2.3", "+1"] {
            assert!(parse_i128(text.as_bytes(), 7, 2).is_err(), "{text}");
            assert!(parse_i256(text.as_bytes(), 7, 2).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn both_forms_agree(whole in "(0|[1-9][0-9]{0,34})", fraction in "[0-9]{30}", negative: bool) {
            let sign = if negative { "-" } else { "" };
            let text = format!("{sign}{whole}.{fraction}");
            let data = encode(&text, 65, 30);
            let expected = i256::from_string(&text.replace('.', "")).unwrap();
            prop_assert_eq!(read_i256(&data, 65, 30), Ok(expected));
            prop_assert_eq!(parse_i256(text.as_bytes(), 65, 30), Ok(expected));
        }

        #[test]
        fn no_decimal_panics(data in proptest::collection::vec(any::<u8>(), 0..40), precision: u8, scale: u8) {
            let _ = read_i128(&data, precision.min(38), scale);
            let _ = read_i256(&data, precision.min(65), scale);
            let _ = print(&data, precision, scale, &mut String::new());
            let _ = parse_i128(&data, precision.min(38), scale.min(38));
            let _ = parse_i256(&data, precision.min(65), scale.min(65));
        }
    }
}
