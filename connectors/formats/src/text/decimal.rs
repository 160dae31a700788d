/// Appends a decimal with all digits of its scale: `-0.05`.
pub(crate) fn push_decimal(value: i128, scale: u8, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let scale = usize::from(scale);
    // 39 digits are the most that an i128 has; a zero stands before the point even if all digits are behind it.
    let mut digits = [b'0'; 40];
    let mut start = digits.len();
    let mut rest = value.unsigned_abs();
    while rest > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
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
    let mut value = 0_i128;
    for digit in whole.iter().chain(fraction).copied().chain(std::iter::repeat_n(b'0', missing)) {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    (value < limit).then_some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
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
        }
        assert_eq!(parse_decimal(b"7", 2, 1000), Some(700));
        assert_eq!(parse_decimal(b"7.5", 2, 1000), Some(750));
        for bad in ["", "-", ".", "1.", ".5", "+1", "1.234", "10", "1e2", "--1", "1.-1", "NaN", &"9".repeat(60)] {
            assert_eq!(parse_decimal(bad.as_bytes(), 2, 1000), None, "{bad}");
        }
    }
}
