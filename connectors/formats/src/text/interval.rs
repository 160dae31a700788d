//! Intervals in ISO 8601, as Debezium's string mode writes them: `P1Y2M3DT4H5M6.78S`. Each part has its own sign, because months, days
//! and time do: `P0Y-1M15DT-23H-59M-59.999999S`.
use super::digits::{parse_digits, push_i64, push_padded, push_u64};

const MICROS_PER_SECOND: i64 = 1_000_000;

/// Appends an interval, all parts spelt out.
pub(crate) fn push_interval(months: i32, days: i32, micros: i64, out: &mut Vec<u8>) {
    out.push(b'P');
    push_i64(out, (months / 12).into());
    out.push(b'Y');
    push_i64(out, (months % 12).into());
    out.push(b'M');
    push_i64(out, days.into());
    out.extend_from_slice(b"DT");
    let seconds = micros / MICROS_PER_SECOND;
    push_i64(out, seconds / 3600);
    out.push(b'H');
    push_i64(out, seconds / 60 % 60);
    out.push(b'M');
    // The sign is put apart: -0.5 seconds have no whole second that could carry it.
    let micros_of_minute = micros % (60 * MICROS_PER_SECOND);
    if micros_of_minute < 0 {
        out.push(b'-');
    }
    let micros_of_minute = micros_of_minute.unsigned_abs();
    push_u64(out, micros_of_minute / MICROS_PER_SECOND as u64);
    let fraction = micros_of_minute % MICROS_PER_SECOND as u64;
    if fraction > 0 {
        out.push(b'.');
        push_padded(out, fraction, 6);
        while out.last() == Some(&b'0') {
            out.pop();
        }
    }
    out.push(b'S');
}

/// Reads an interval as months, days and microseconds. Parts may be left out, not reordered; years and months may hold any number.
pub(crate) fn parse_interval(text: &[u8]) -> Option<(i32, i32, i64)> {
    let date_and_time = text.strip_prefix(b"P")?;
    let (mut date, mut time) = match date_and_time.iter().position(|byte| *byte == b'T') {
        Some(at) => (&date_and_time[..at], &date_and_time[at + 1..]),
        None => (date_and_time, &[][..]),
    };
    let (years, months, days) = (part(&mut date, b'Y')?, part(&mut date, b'M')?, part(&mut date, b'D')?);
    let (hours, minutes, seconds) = (part(&mut time, b'H')?, part(&mut time, b'M')?, part(&mut time, b'S')?);
    let whole = |micros: i128| (micros % 1_000_000 == 0).then_some(micros / 1_000_000);
    if !date.is_empty() || !time.is_empty() || date_and_time.is_empty() {
        return None;
    }
    let months = whole(years)? * 12 + whole(months)?;
    let micros = whole(hours)? * 3_600_000_000 + whole(minutes)? * 60_000_000 + seconds;
    Some((months.try_into().ok()?, whole(days)?.try_into().ok()?, micros.try_into().ok()?))
}

/// Takes a number and its unit from the front, in millionths; 0 if the next unit is another.
fn part(rest: &mut &[u8], unit: u8) -> Option<i128> {
    let Some(at) = rest.iter().position(|byte| byte.is_ascii_alphabetic()) else {
        return rest.is_empty().then_some(0);
    };
    if rest[at] != unit {
        return Some(0);
    }
    let (number, behind) = (&rest[..at], &rest[at + 1..]);
    *rest = behind;
    let (negative, number) = number.strip_prefix(b"-").map_or((false, number), |number| (true, number));
    let (whole, fraction) = match number.iter().position(|byte| *byte == b'.') {
        Some(point) => (&number[..point], Some(&number[point + 1..])),
        None => (number, None),
    };
    let mut micros = i128::from(parse_digits(whole, 18)?) * 1_000_000;
    if let Some(fraction) = fraction {
        micros += i128::from(parse_digits(fraction, 6)? * 10_i64.pow(6 - fraction.len() as u32));
    }
    Some(if negative { -micros } else { micros })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(months: i32, days: i32, micros: i64) -> String {
        let mut out = Vec::new();
        push_interval(months, days, micros, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn forms() {
        assert_eq!(text(14, 3, 14_706_780_000), "P1Y2M3DT4H5M6.78S");
        assert_eq!(text(0, 0, 0), "P0Y0M0DT0H0M0S");
        assert_eq!(text(-1, 15, -86_399_999_999), "P0Y-1M15DT-23H-59M-59.999999S");
        assert_eq!(text(0, 0, -500_000), "P0Y0M0DT0H0M-0.5S");
        assert_eq!(parse_interval(b"P3D"), Some((0, 3, 0)));
        assert_eq!(parse_interval(b"PT-0.000001S"), Some((0, 0, -1)));
        for bad in ["", "P", "3D", "P1", "P1D2Y", "P1X", "PT1.1234567S", "P1.5D", "P--1D", "PT1M1", "P200000000Y", "PT2562047789H"]
        {
            assert_eq!(parse_interval(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(months: i32, days: i32, micros: i64) {
            prop_assert_eq!(parse_interval(text(months, days, micros).as_bytes()), Some((months, days, micros)));
        }
    }

    #[test]
    fn extremes() {
        for (months, days, micros) in [(i32::MIN, i32::MIN, i64::MIN), (i32::MAX, i32::MAX, i64::MAX)] {
            assert_eq!(parse_interval(text(months, days, micros).as_bytes()), Some((months, days, micros)));
        }
    }
}
