//! Days and microseconds between the server's epoch, 1970, and the text `2016-11-04 13:51:30.123456+00 BC`.

use super::ValueProblem;

/// The server counts from 2000-01-01.
const DAYS_1970_TO_2000: i32 = 10_957;
const MICROS_1970_TO_2000: i64 = DAYS_1970_TO_2000 as i64 * MICROS_PER_DAY;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Days since 2000 as days since 1970. The extremes are the infinities on both sides.
pub(super) fn date_since_1970(days: i32) -> Result<i32, ValueProblem> {
    match days {
        i32::MIN | i32::MAX => Ok(days),
        _ => days.checked_add(DAYS_1970_TO_2000).filter(|days| *days < i32::MAX).ok_or(ValueProblem::TimeRange),
    }
}

/// Microseconds since 2000 as microseconds since 1970. The extremes are the infinities on both sides.
pub(crate) fn micros_since_1970(micros: i64) -> Result<i64, ValueProblem> {
    match micros {
        i64::MIN | i64::MAX => Ok(micros),
        _ => micros.checked_add(MICROS_1970_TO_2000).filter(|micros| *micros < i64::MAX).ok_or(ValueProblem::TimeRange),
    }
}

/// `2016-11-04`, `0044-02-01 BC`, `infinity`, `-infinity`.
pub(super) fn parse_date(text: &str) -> Result<i32, ValueProblem> {
    match text {
        "infinity" => return Ok(i32::MAX),
        "-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let (text, bc) = era(text);
    i32::try_from(days_of(text, bc)?).map_err(|_| ValueProblem::TimeRange)
}

/// `2016-11-04 13:51:30.123456`, perhaps with a zone `+00` (sessions run in UTC) and `BC`; the infinities.
pub(super) fn parse_timestamp(text: &str) -> Result<i64, ValueProblem> {
    match text {
        "infinity" => return Ok(i64::MAX),
        "-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let (text, bc) = era(text);
    let text = text.strip_suffix("+00").unwrap_or(text);
    let (date, time) = text.split_once(' ').ok_or(ValueProblem::Syntax)?;
    let days = days_of(date, bc)?;
    let micros = i128::from(days) * i128::from(MICROS_PER_DAY) + i128::from(parse_time(time)?);
    i64::try_from(micros).ok().filter(|micros| *micros < i64::MAX).ok_or(ValueProblem::TimeRange)
}

/// `13:51:30.123456`; hours may have more than two digits, for intervals.
pub(super) fn parse_time(text: &str) -> Result<i64, ValueProblem> {
    let (clock, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts = clock.split(':').map(digits);
    let (Some(hours), Some(minutes), Some(seconds), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(ValueProblem::Syntax);
    };
    let whole = hours?.checked_mul(3600).and_then(|hours| hours.checked_add(minutes.ok()? * 60 + seconds.ok()?));
    let micros = if fraction.is_empty() { 0 } else { fraction_micros(fraction)? };
    whole.and_then(|seconds| seconds.checked_mul(1_000_000)?.checked_add(micros)).ok_or(ValueProblem::Syntax)
}

/// `-1 mons +15 days -23:59:59.999999`, `1 year 2 mons`, `00:00:00`; (months, days, microseconds).
pub(super) fn parse_interval(text: &str) -> Result<(i32, i32, i64), ValueProblem> {
    match text {
        "infinity" => return Ok((i32::MAX, i32::MAX, i64::MAX)),
        "-infinity" => return Ok((i32::MIN, i32::MIN, i64::MIN)),
        _ => {}
    }
    let (mut months, mut days, mut micros) = (0i64, 0i64, 0i64);
    let mut words = text.split(' ');
    while let Some(word) = words.next() {
        if word.contains(':') {
            let (negative, clock) = match word.strip_prefix('-') {
                Some(clock) => (true, clock),
                None => (false, word.strip_prefix('+').unwrap_or(word)),
            };
            let time = parse_time(clock)?;
            micros = if negative { -time } else { time };
            continue;
        }
        let count: i64 = word.strip_prefix('+').unwrap_or(word).parse().map_err(|_| ValueProblem::Syntax)?;
        match words.next() {
            Some("year" | "years") => months += count.checked_mul(12).ok_or(ValueProblem::Syntax)?,
            Some("mon" | "mons") => months += count,
            Some("day" | "days") => days += count,
            _ => return Err(ValueProblem::Syntax),
        }
    }
    let narrow = |value: i64| i32::try_from(value).map_err(|_| ValueProblem::Syntax);
    Ok((narrow(months)?, narrow(days)?, micros))
}

fn era(text: &str) -> (&str, bool) {
    text.strip_suffix(" BC").map_or((text, false), |text| (text, true))
}

fn digits(text: &str) -> Result<i64, ValueProblem> {
    if text.is_empty() || text.len() > 12 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ValueProblem::Syntax);
    }
    Ok(text.bytes().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

fn fraction_micros(fraction: &str) -> Result<i64, ValueProblem> {
    let value = digits(fraction)?;
    let missing = 6u32.checked_sub(fraction.len() as u32).ok_or(ValueProblem::Syntax)?;
    Ok(value * 10i64.pow(missing))
}

fn days_of(text: &str, bc: bool) -> Result<i64, ValueProblem> {
    let mut parts = text.split('-').map(digits);
    let (Some(Ok(year)), Some(Ok(month)), Some(Ok(day)), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(ValueProblem::Syntax);
    };
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return Err(ValueProblem::Syntax);
    }
    Ok(days_since_1970(if bc { 1 - year } else { year }, month, day))
}

/// Days of the proleptic Gregorian calendar. Years are counted from March, so that the leap day is a year's last, and in cycles of 400
/// years, which all have 146,097 days.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let cycle = year.div_euclid(400);
    let year_of_cycle = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_cycle = year_of_cycle * 365 + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year;
    // 0000-03-01 is 719,468 days before 1970-01-01.
    cycle * 146_097 + day_of_cycle - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_proleptic_gregorian() {
        for (text, expected) in [
            ("1970-01-01", 0),
            ("2016-11-04", 17_109),
            ("2000-02-29", 11_016),
            ("1900-03-01", -25_508),
            ("0001-01-01", -719_162),
            ("1582-10-10", -141_432),
            ("0044-02-01 BC", -735_202),
            ("4714-11-24 BC", -2_440_588),
            ("5874897-12-31", 2_145_042_905),
            ("infinity", i32::MAX),
            ("-infinity", i32::MIN),
        ] {
            assert_eq!(parse_date(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn timestamps_reach_from_4714_bc_to_294246() {
        for (text, expected) in [
            ("2016-11-04 13:51:30.123456", 1_478_267_490_123_456),
            ("1969-12-31 23:59:59.999999+00", -1),
            ("0044-02-01 11:12:13 BC", -63_521_412_467_000_000),
            ("4713-12-31 23:59:59.999999+00 BC", -210_831_897_600_000_001),
            ("294247-01-01 23:59:59.999999", 9_223_371_331_199_999_999),
        ] {
            assert_eq!(parse_timestamp(text), Ok(expected), "{text}");
        }
        assert_eq!(parse_timestamp("294276-12-31 23:59:59"), Err(ValueProblem::TimeRange));
        assert_eq!(micros_since_1970(i64::MAX - 1), Err(ValueProblem::TimeRange));
        assert_eq!(parse_time("24:00:00"), Ok(86_400_000_000));
    }

    #[test]
    fn intervals_keep_their_three_parts() {
        for (text, expected) in [
            ("1 year 2 mons 3 days 04:05:06.78", (14, 3, 14_706_780_000)),
            ("-1 mons +15 days -23:59:59.999999", (-1, 15, -86_399_999_999)),
            ("00:00:00", (0, 0, 0)),
            ("24:00:00", (0, 0, 86_400_000_000)),
            ("-1 years -2 mons", (-14, 0, 0)),
        ] {
            assert_eq!(parse_interval(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in
            ["", "x", "1-1", "2016-13-01", "2016-11-04", "2016-11-04 1:2", "1 day 2", "--1-1", "9999999999999-01-01 00:00:00"]
        {
            assert!(parse_timestamp(text).is_err(), "{text}");
            assert!(parse_interval(text).is_err(), "{text}");
        }
        assert!(parse_date("2016-1").is_err());
    }
}
