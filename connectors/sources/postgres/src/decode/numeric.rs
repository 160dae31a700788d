//! `numeric` on the wire: number of base-10000 digits, weight of the first (its power of 10000), sign, digits after the decimal point to
//! print, then the digits; each 16 bits, big-endian. Zero has no digits.

use super::ValueProblem;

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const NEGATIVE_INFINITY: u16 = 0xF000;

struct Numeric<'a> {
    weight: i32,
    sign: u16,
    printed_scale: usize,
    digits: &'a [[u8; 2]],
}

impl<'a> Numeric<'a> {
    fn parse(data: &'a [u8]) -> Result<Self, ValueProblem> {
        let ([count, weight, sign, scale], []) = data.get(..8).ok_or(ValueProblem::Length)?.as_chunks::<2>() else {
            return Err(ValueProblem::Length);
        };
        let (digits, rest) = data[8..].as_chunks::<2>();
        if !rest.is_empty() || digits.len() != usize::from(u16::from_be_bytes(*count)) {
            return Err(ValueProblem::Length);
        }
        if digits.iter().any(|digit| u16::from_be_bytes(*digit) > 9_999) {
            return Err(ValueProblem::Syntax);
        }
        Ok(Self {
            weight: i32::from(i16::from_be_bytes(*weight)),
            sign: u16::from_be_bytes(*sign),
            printed_scale: usize::from(u16::from_be_bytes(*scale) & 0x3FFF),
            digits,
        })
    }

    fn digit(&self, index: i32) -> u16 {
        usize::try_from(index).ok().and_then(|index| self.digits.get(index)).map_or(0, |digit| u16::from_be_bytes(*digit))
    }
}

/// The value times 10^scale.
pub(super) fn decimal_from_binary(data: &[u8], precision: u8, scale: u8) -> Result<i128, ValueProblem> {
    let numeric = Numeric::parse(data)?;
    if !matches!(numeric.sign, 0 | NEGATIVE) {
        return Err(ValueProblem::NotADecimal);
    }
    let mut value = 0i128;
    let mut exponent = 0;
    for (index, digit) in numeric.digits.iter().enumerate() {
        let digit = i128::from(u16::from_be_bytes(*digit));
        exponent = (numeric.weight - index as i32) * 4 + i32::from(scale);
        // The last digit may reach beyond the scale; what is cut off there must be zero. Cutting before adding keeps a number of 38
        // digits within 128 bits.
        let (kept, cut) = match exponent {
            0.. => (4, 0),
            -3..=-1 => ((4 + exponent) as u32, (-exponent) as u32),
            _ if digit == 0 => continue,
            _ => return Err(ValueProblem::DecimalRange),
        };
        if digit % 10i128.pow(cut) != 0 {
            return Err(ValueProblem::DecimalRange);
        }
        let shifted = value.checked_mul(10i128.pow(kept)).ok_or(ValueProblem::DecimalRange)?;
        value = shifted.checked_add(digit / 10i128.pow(cut)).ok_or(ValueProblem::DecimalRange)?;
    }
    if exponent > 0 && value != 0 {
        let factor = 10i128.checked_pow(exponent as u32).ok_or(ValueProblem::DecimalRange)?;
        value = value.checked_mul(factor).ok_or(ValueProblem::DecimalRange)?;
    }
    within(if numeric.sign == NEGATIVE { -value } else { value }, precision)
}

/// The value of `-12.30` times 10^scale.
pub(super) fn decimal_from_text(text: &str, precision: u8, scale: u8) -> Result<i128, ValueProblem> {
    if matches!(text, "NaN" | "Infinity" | "-Infinity") {
        return Err(ValueProblem::NotADecimal);
    }
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(ValueProblem::Syntax);
    }
    let (fraction, beyond) = fraction.split_at_checked(usize::from(scale)).unwrap_or((fraction, ""));
    if beyond.bytes().any(|digit| digit != b'0') {
        return Err(ValueProblem::DecimalRange);
    }
    let padding = usize::from(scale) - fraction.len();
    let mut value = 0i128;
    for digit in whole.bytes().chain(fraction.bytes()).chain(std::iter::repeat_n(b'0', padding)) {
        if !digit.is_ascii_digit() {
            return Err(ValueProblem::Syntax);
        }
        let shifted = value.checked_mul(10).ok_or(ValueProblem::DecimalRange)?;
        value = shifted.checked_add(i128::from(digit - b'0')).ok_or(ValueProblem::DecimalRange)?;
    }
    within(if negative { -value } else { value }, precision)
}

fn within(value: i128, precision: u8) -> Result<i128, ValueProblem> {
    let limit = 10i128.checked_pow(u32::from(precision)).ok_or(ValueProblem::DecimalRange)?;
    if value.abs() < limit { Ok(value) } else { Err(ValueProblem::DecimalRange) }
}

/// The text that the server prints for a value.
pub(super) fn print(data: &[u8], out: &mut String) -> Result<(), ValueProblem> {
    use std::fmt::Write as _;
    let numeric = Numeric::parse(data)?;
    match numeric.sign {
        0 => {}
        NEGATIVE => out.push('-'),
        NAN => {
            out.push_str("NaN");
            return Ok(());
        }
        INFINITY => {
            out.push_str("Infinity");
            return Ok(());
        }
        NEGATIVE_INFINITY => {
            out.push_str("-Infinity");
            return Ok(());
        }
        _ => return Err(ValueProblem::Syntax),
    }
    // Writing into a `String` cannot fail.
    if numeric.weight < 0 {
        out.push('0');
    } else {
        let _ = write!(out, "{}", numeric.digit(0));
        for index in 1..=numeric.weight {
            let _ = write!(out, "{:04}", numeric.digit(index));
        }
    }
    if numeric.printed_scale > 0 {
        out.push('.');
        let end = out.len() + numeric.printed_scale;
        let mut index = numeric.weight + 1;
        while out.len() < end {
            let _ = write!(out, "{:04}", numeric.digit(index));
            index += 1;
        }
        out.truncate(end);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wire(weight: i16, sign: u16, scale: u16, digits: &[u16]) -> Vec<u8> {
        let head = [digits.len() as u16, weight as u16, sign, scale];
        head.iter().chain(digits).flat_map(|word| word.to_be_bytes()).collect()
    }

    fn printed(data: &[u8]) -> String {
        let mut text = String::new();
        print(data, &mut text).unwrap();
        text
    }

    #[test]
    fn digits_become_text_and_decimals() {
        for (data, text, scale, value) in [
            (wire(0, 0, 2, &[12, 3000]), "12.30", 2, 1230),
            (wire(0, NEGATIVE, 2, &[1, 100]), "-1.01", 2, -101),
            (wire(0, 0, 3, &[]), "0.000", 3, 0),
            (wire(1, 0, 0, &[1, 2345]), "12345", 0, 12345),
            (wire(2, 0, 1, &[7]), "700000000.0", 1, 7_000_000_000),
            (wire(-2, 0, 8, &[5]), "0.00000005", 8, 5),
            (wire(-1, 0, 1, &[1000]), "0.1", 1, 1),
        ] {
            assert_eq!(printed(&data), text);
            assert_eq!(decimal_from_binary(&data, 38, scale), Ok(value), "{text}");
            assert_eq!(decimal_from_text(text, 38, scale), Ok(value), "{text}");
        }
    }

    #[test]
    fn thirty_eight_nines_fit() {
        let text = format!("{}.{}", "9".repeat(28), "9".repeat(10));
        let value = 10i128.pow(38) - 1;
        assert_eq!(decimal_from_text(&text, 38, 10), Ok(value));
        let digits = [9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9999, 9900];
        assert_eq!(decimal_from_binary(&wire(6, 0, 10, &digits), 38, 10), Ok(value));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        assert_eq!(decimal_from_binary(&wire(0, NAN, 0, &[]), 10, 2), Err(ValueProblem::NotADecimal));
        assert_eq!(decimal_from_text("NaN", 10, 2), Err(ValueProblem::NotADecimal));
        assert_eq!(decimal_from_text("100", 2, 0), Err(ValueProblem::DecimalRange));
        assert_eq!(decimal_from_text("0.001", 5, 2), Err(ValueProblem::DecimalRange));
        assert_eq!(decimal_from_binary(&wire(0, 0, 3, &[0, 10]), 5, 2), Err(ValueProblem::DecimalRange));
        assert_eq!(decimal_from_binary(&wire(30_000, 0, 0, &[1]), 38, 0), Err(ValueProblem::DecimalRange));
    }

    proptest! {
        #[test]
        fn binary_and_text_agree(weight in -3i16..6, negative: bool, digits in proptest::collection::vec(0u16..10_000, 0..6), scale in 0u8..20) {
            let data = wire(weight, if negative { NEGATIVE } else { 0 }, 24, &digits);
            let text = printed(&data);
            prop_assert_eq!(decimal_from_binary(&data, 38, scale), decimal_from_text(&text, 38, scale), "{}", text);
        }

        #[test]
        fn no_bytes_panic(data in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = decimal_from_binary(&data, 38, 10);
            let mut text = String::new();
            let _ = print(&data, &mut text);
        }
    }
}
