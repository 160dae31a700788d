//! Dates and times as ISO 8601 text, over the whole range of the column types: proleptic Gregorian, years before 1 as `0044-02-01 BC`,
//! years after 9999 with more digits, no fraction where it is zero. It is the text that PostgreSQL prints with DateStyle ISO, but for the
//! zone, which is written `+00:00` because SQLite's date functions read that.
use std::fmt::Write;

use arrow_buffer::i256;

use crate::decimal_digits::DecimalDigits;

const DAY_US: i64 = 86_400_000_000;

/// The days since 1970-01-01 as year (astronomical: 0 is 1 BC), month and day. Counts in eras of 400 years from 1 March of year 0, so that
/// the leap day is a year's last.
fn civil(days: i64) -> (i64, u32, u32) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Appends a number with at least `width` digits. Rows have several of these: formatting by `write!` costs more than SQLite's own work.
fn push_number(out: &mut String, mut value: u64, width: usize) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    for digit in digits.iter_mut().rev() {
        if value == 0 {
            break;
        }
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
        first -= 1;
    }
    let first = first.min(digits.len() - width.clamp(1, digits.len()));
    push_ascii(out, digits.get(first..).unwrap_or_default());
}

/// Appends bytes that are known to be ASCII.
pub(crate) fn push_ascii(out: &mut String, bytes: &[u8]) {
    debug_assert!(bytes.is_ascii());
    out.push_str(std::str::from_utf8(bytes).unwrap_or_default());
}

fn two_digits(value: i64) -> [u8; 2] {
    [b'0' + (value / 10 % 10) as u8, b'0' + (value % 10) as u8]
}

fn write_day(out: &mut String, days: i64) -> bool {
    let (year, month, day) = civil(days);
    let before_christ = year <= 0;
    push_number(out, (if before_christ { 1 - year } else { year }).unsigned_abs(), 4);
    let ([m1, m0], [d1, d0]) = (two_digits(i64::from(month)), two_digits(i64::from(day)));
    push_ascii(out, &[b'-', m1, m0, b'-', d1, d0]);
    before_christ
}

/// Appends a date: days since 1970-01-01, with the two infinities.
pub(crate) fn write_date(out: &mut String, days: i32) {
    match days {
        i32::MAX => out.push_str("infinity"),
        i32::MIN => out.push_str("-infinity"),
        days => {
            if write_day(out, i64::from(days)) {
                out.push_str(" BC");
            }
        }
    }
}

/// Appends a time of day in microseconds, to `24:00:00` inclusive.
pub(crate) fn write_time(out: &mut String, micros: i64) {
    let seconds = micros.div_euclid(1_000_000);
    let ([h1, h0], [m1, m0], [s1, s0]) = (two_digits(seconds / 3600), two_digits(seconds / 60 % 60), two_digits(seconds % 60));
    push_ascii(out, &[h1, h0, b':', m1, m0, b':', s1, s0]);
    write_fraction(out, micros.rem_euclid(1_000_000));
}

/// Appends a span of microseconds in hours, minutes and seconds, as MySQL's TIME has it: `-838:59:59.5`.
pub(crate) fn write_span(out: &mut String, micros: i64) {
    if micros < 0 {
        out.push('-');
    }
    let magnitude = micros.unsigned_abs();
    let seconds = magnitude / 1_000_000;
    push_number(out, seconds / 3600, 2);
    let ([m1, m0], [s1, s0]) = (two_digits((seconds / 60 % 60) as i64), two_digits((seconds % 60) as i64));
    push_ascii(out, &[b':', m1, m0, b':', s1, s0]);
    write_fraction(out, (magnitude % 1_000_000) as i64);
}

fn write_fraction(out: &mut String, micros: i64) {
    if micros != 0 {
        out.push('.');
        push_number(out, micros.unsigned_abs(), 6);
        out.truncate(out.trim_end_matches('0').len());
    }
}

/// Appends a timestamp in microseconds since 1970, with the two infinities; `zone` follows the time.
pub(crate) fn write_timestamp(out: &mut String, micros: i64, zone: &str) {
    match micros {
        i64::MAX => out.push_str("infinity"),
        i64::MIN => out.push_str("-infinity"),
        micros => {
            let before_christ = write_day(out, micros.div_euclid(DAY_US));
            out.push(' ');
            write_time(out, micros.rem_euclid(DAY_US));
            out.push_str(zone);
            if before_christ {
                out.push_str(" BC");
            }
        }
    }
}

/// Appends an interval as an ISO 8601 duration with signs inside (`P1Y2M3DT4H5M6.78S`, `P-1M15DT-23H`): months, days and time stay apart.
pub(crate) fn write_interval(out: &mut String, months: i32, days: i32, micros: i64) {
    let start = out.len();
    out.push('P');
    let hours = micros / 3_600_000_000;
    let minutes = micros / 60_000_000 % 60;
    for (value, unit) in [(i64::from(months / 12), 'Y'), (i64::from(months % 12), 'M'), (i64::from(days), 'D')] {
        if value != 0 {
            let _ = write!(out, "{value}{unit}");
        }
    }
    if micros != 0 {
        out.push('T');
        for (value, unit) in [(hours, 'H'), (minutes, 'M')] {
            if value != 0 {
                let _ = write!(out, "{value}{unit}");
            }
        }
        let rest = micros % 60_000_000;
        if rest != 0 {
            let sign = if rest < 0 { "-" } else { "" };
            let _ = write!(out, "{sign}{}", (rest / 1_000_000).abs());
            write_fraction(out, (rest % 1_000_000).abs());
            out.push('S');
        }
    }
    if out.len() == start + 1 {
        out.push_str("T0S");
    }
}

/// Appends a decimal: all `scale` digits after the point.
pub(crate) fn write_decimal(out: &mut String, unscaled: i128, scale: u8) {
    if unscaled < 0 {
        out.push('-');
    }
    let digits = unscaled.unsigned_abs();
    // Division of 128 bits is slow, and rarely needed.
    let small = u64::try_from(digits).ok().zip(10u64.checked_pow(u32::from(scale)));
    match small {
        Some((digits, _)) if scale == 0 => push_number(out, digits, 1),
        Some((digits, divisor)) => {
            push_number(out, digits / divisor, 1);
            out.push('.');
            push_number(out, digits % divisor, usize::from(scale));
        }
        None => {
            let divisor = 10u128.pow(u32::from(scale.min(38)));
            // Writing to a String cannot fail.
            let _ = write!(out, "{}", digits / divisor);
            if scale > 0 {
                let _ = write!(out, ".{:0width$}", digits % divisor, width = usize::from(scale));
            }
        }
    }
}

/// [`write_decimal`] for more than 38 digits.
pub(crate) fn write_decimal256(out: &mut String, unscaled: &i256, scale: u8) {
    let digits = DecimalDigits::new(unscaled, scale);
    if unscaled.is_negative() {
        out.push('-');
    }
    push_ascii(out, if digits.whole().is_empty() { b"0" } else { digits.whole() });
    if scale > 0 {
        out.push('.');
        push_ascii(out, digits.fraction());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    #[test]
    fn dates_over_the_whole_range() {
        for (days, expected) in [
            (17_109, "2016-11-04"),
            (0, "1970-01-01"),
            (11_016, "2000-02-29"),
            (-25_508, "1900-03-01"),
            (2_932_896, "9999-12-31"),
            (-719_162, "0001-01-01"),
            (-141_438, "1582-10-04"),
            (-735_202, "0044-02-01 BC"),
            (-2_440_588, "4714-11-24 BC"),
            (2_145_042_905, "5874897-12-31"),
            (i32::MAX, "infinity"),
            (i32::MIN, "-infinity"),
        ] {
            assert_eq!(text(|out| write_date(out, days)), expected);
        }
    }

    #[test]
    fn timestamps_over_the_whole_range() {
        for (micros, expected) in [
            (1_478_267_490_123_456, "2016-11-04 13:51:30.123456+00:00"),
            (-1, "1969-12-31 23:59:59.999999+00:00"),
            (-63_521_412_467_000_000, "0044-02-01 11:12:13+00:00 BC"),
            (253_402_300_799_999_999, "9999-12-31 23:59:59.999999+00:00"),
            (9_223_371_331_199_999_999, "294247-01-01 23:59:59.999999+00:00"),
            (i64::MIN, "-infinity"),
        ] {
            assert_eq!(text(|out| write_timestamp(out, micros, "+00:00")), expected);
        }
        assert_eq!(text(|out| write_time(out, 86_400_000_000)), "24:00:00");
        assert_eq!(text(|out| write_time(out, 49_890_120_000)), "13:51:30.12");
    }

    #[test]
    fn spans_go_beyond_a_day_both_ways() {
        for (micros, expected) in [
            (0, "00:00:00"),
            (-500_000, "-00:00:00.5"),
            (3_020_399_000_000, "838:59:59"),
            (-3_020_398_999_999, "-838:59:58.999999"),
            (i64::MIN, "-2562047788:00:54.775808"),
        ] {
            assert_eq!(text(|out| write_span(out, micros)), expected);
        }
    }

    #[test]
    fn intervals_keep_three_parts() {
        for ((months, days, micros), expected) in [
            ((14, 3, 14_706_780_000), "P1Y2M3DT4H5M6.78S"),
            ((0, 0, 0), "PT0S"),
            ((-1, 15, -86_399_999_999), "P-1M15DT-23H-59M-59.999999S"),
            ((0, 0, -500_000), "PT-0.5S"),
            ((0, 1, 0), "P1D"),
            ((0, 0, 86_400_000_000), "PT24H"),
            ((2, 0, 0), "P2M"),
        ] {
            assert_eq!(text(|out| write_interval(out, months, days, micros)), expected);
        }
    }

    #[test]
    fn decimals_keep_their_scale() {
        for (unscaled, scale, expected) in [(110, 2, "1.10"), (-5, 3, "-0.005"), (42, 0, "42"), (0, 2, "0.00")] {
            assert_eq!(text(|out| write_decimal(out, unscaled, scale)), expected);
        }
        assert_eq!(text(|out| write_decimal(out, 10i128.pow(38) - 1, 38)), format!("0.{}", "9".repeat(38)));
        let nines = "9".repeat(76);
        for (digits, scale, expected) in [
            (nines.clone(), 0, nines.clone()),
            (format!("-{nines}"), 76, format!("-0.{nines}")),
            (format!("-{nines}"), 41, format!("-{}.{}", &nines[..35], &nines[..41])),
            (format!("1{}", "0".repeat(38)), 38, format!("1.{}", "0".repeat(38))),
            ("-5".into(), 65, format!("-0.{}5", "0".repeat(64))),
            ("0".into(), 40, format!("0.{}", "0".repeat(40))),
            (i256::MIN.to_string(), 0, i256::MIN.to_string()),
        ] {
            let unscaled = i256::from_string(&digits).unwrap();
            assert_eq!(text(|out| write_decimal256(out, &unscaled, scale)), expected);
        }
    }
}
