//! Instants in ISO 8601 at UTC with six digits behind the second, as Debezium's `ZonedTimestamp`. Years beyond four digits have a sign, the
//! year 0000 is 1 BC, and the calendar is the Gregorian one at all times.
use super::digits::{parse_digits, push_padded, push_u64};

const MICROS_PER_DAY: i64 = 86_400_000_000;
/// A leap year cycle.
const DAYS_PER_400_YEARS: i64 = 146_097;
/// From 0000-03-01, where a cycle of years that end with their leap day begins, to 1970-01-01.
const DAYS_TO_1970: i64 = 719_468;

/// Appends microseconds since 1970 as text; the extremes are infinities.
pub(crate) fn push_timestamp(micros: i64, out: &mut Vec<u8>) {
    match micros {
        i64::MAX => return out.extend_from_slice(b"infinity"),
        i64::MIN => return out.extend_from_slice(b"-infinity"),
        _ => {}
    }
    let (year, month, day) = date_of(micros.div_euclid(MICROS_PER_DAY));
    let micros = micros.rem_euclid(MICROS_PER_DAY) as u64;
    if !(0..=9999).contains(&year) {
        out.push(if year < 0 { b'-' } else { b'+' });
    }
    if year.unsigned_abs() > 9999 {
        push_u64(out, year.unsigned_abs());
    } else {
        push_padded(out, year.unsigned_abs(), 4);
    }
    let seconds = micros / 1_000_000;
    for (separator, value) in
        [(b'-', month as u64), (b'-', day as u64), (b'T', seconds / 3600), (b':', seconds / 60 % 60), (b':', seconds % 60)]
    {
        out.push(separator);
        push_padded(out, value, 2);
    }
    out.push(b'.');
    push_padded(out, micros % 1_000_000, 6);
    out.push(b'Z');
}

/// Reads what [`push_timestamp`] wrote; fewer digits behind the second are accepted too.
pub(crate) fn parse_timestamp(text: &[u8]) -> Option<i64> {
    match text {
        b"infinity" => return Some(i64::MAX),
        b"-infinity" => return Some(i64::MIN),
        _ => {}
    }
    let (sign, rest) = match text {
        [b'-', rest @ ..] => (-1, rest),
        [b'+', rest @ ..] => (1, rest),
        _ => (1, text),
    };
    let year_digits = rest.iter().position(|byte| *byte == b'-')?;
    let (year, rest) = rest.split_at_checked(year_digits)?;
    let year = sign * parse_digits(year, 6).filter(|_| year.len() >= 4)?;
    let (fixed, rest) = rest.split_first_chunk::<15>()?;
    let [b'-', month1, month2, b'-', day1, day2, b'T', hour1, hour2, b':', minute1, minute2, b':', second1, second2] = *fixed
    else {
        return None;
    };
    let two = |high, low| parse_digits(&[high, low], 2);
    let (month, day) = (two(month1, month2)?, two(day1, day2)?);
    let (hour, minute, second) = (two(hour1, hour2)?, two(minute1, minute2)?, two(second1, second2)?);
    let fraction = match rest.strip_suffix(b"Z")? {
        [] => 0,
        [b'.', digits @ ..] => parse_digits(digits, 6)? * 10_i64.pow(6 - digits.len() as u32),
        _ => return None,
    };
    let days = days_of(year, month, day)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let micros_of_day = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction;
    let micros = i64::try_from(i128::from(days) * i128::from(MICROS_PER_DAY) + i128::from(micros_of_day)).ok()?;
    // The extremes are taken: an instant must not turn into an infinity.
    (micros != i64::MAX && micros != i64::MIN).then_some(micros)
}

/// Year, month and day of a number of days since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let since_march = days + DAYS_TO_1970;
    let cycle = since_march.div_euclid(DAYS_PER_400_YEARS);
    let day_of_cycle = since_march.rem_euclid(DAYS_PER_400_YEARS);
    // Taking out the leap days (every 4 years, not every 100, every 400) leaves years of 365 days.
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    // From March on, five months have 153 days, again and again.
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day)
}

/// Days since 1970-01-01 of a date; `None` if there is no such date.
fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    let year_from_march = year - i64::from(month <= 2);
    let month_from_march = (month + 9) % 12;
    let year_of_cycle = year_from_march.rem_euclid(400);
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    let days = year_from_march.div_euclid(400) * DAYS_PER_400_YEARS + day_of_cycle - DAYS_TO_1970;
    // A day beyond its month lands in the next one.
    (date_of(days) == (year, month, day)).then_some(days)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(micros: i64) -> String {
        let mut out = Vec::new();
        push_timestamp(micros, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn forms() {
        for (micros, expected) in [
            (1_478_260_290_123_456, "2016-11-04T11:51:30.123456Z"),
            (0, "1970-01-01T00:00:00.000000Z"),
            (-1, "1969-12-31T23:59:59.999999Z"),
            (601_060_312_290_123_456 - 7 * 3_600_000_000, "+21016-11-04T06:51:30.123456Z"),
            (327_416_976_550_000_000, "+12345-06-07T08:09:10.000000Z"),
            (-62_133_004_800_000_000, "0001-01-31T00:00:00.000000Z"),
            (-63_521_412_467_000_000, "-0043-02-01T11:12:13.000000Z"),
            (-62_167_219_200_000_000, "0000-01-01T00:00:00.000000Z"),
            (-210_831_897_600_000_001, "-4712-12-31T23:59:59.999999Z"),
            (-210_866_803_200_000_000, "-4713-11-24T00:00:00.000000Z"),
            (253_402_300_799_999_999, "9999-12-31T23:59:59.999999Z"),
            (9_223_371_331_199_999_999, "+294247-01-01T23:59:59.999999Z"),
            (i64::MAX, "infinity"),
            (i64::MIN, "-infinity"),
        ] {
            assert_eq!(parse_timestamp(expected.as_bytes()), Some(micros), "{expected}");
            assert_eq!(text(micros), expected);
        }
        assert_eq!(parse_timestamp(b"1970-01-01T00:00:01.5Z"), Some(1_500_000));
        assert_eq!(parse_timestamp(b"2000-02-29T00:00:00Z"), Some(951_782_400_000_000));
        for bad in [
            "",
            "2016",
            "2016-11-04",
            "2016-11-04T11:51:30.123456",
            "2016-13-04T11:51:30Z",
            "2015-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2016-11-04T24:00:00Z",
            "2016-11-04T11:60:30Z",
            "2016-11-04T11:51:60Z",
            "2016-11-04T11:51:30.Z",
            "2016-11-04T11:51:30.1234567Z",
            "16-11-04T11:51:30Z",
            "2016-11-04 11:51:30Z",
            "+999999-01-01T00:00:00Z",
            "+294247-01-10T04:00:54.775807Z",
            "Infinity",
            "2016-11-00T00:00:00Z",
        ] {
            assert_eq!(parse_timestamp(bad.as_bytes()), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(micros: i64) {
            prop_assert_eq!(parse_timestamp(text(micros).as_bytes()), Some(micros));
        }

        #[test]
        fn near_now(micros in -100_000_000_000_000_000_i64..400_000_000_000_000_000) {
            prop_assert_eq!(parse_timestamp(text(micros).as_bytes()), Some(micros));
        }
    }
}
