//! Dates and times, packed and printed.

use std::fmt::{self, Write};

use connector_api::ColumnBuilder;

use super::{ValueProblem, ZeroDates};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A date and time of day as the server keeps it, which need not be in any calendar.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct DateTime {
    pub year: u32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub micros: u32,
}

impl DateTime {
    /// The packed form of `date`: day in five bits, month in four, year.
    #[inline]
    pub(super) fn from_packed_date(packed: u32) -> Self {
        Self { year: packed >> 9, month: packed >> 5 & 15, day: packed & 31, ..Self::default() }
    }

    /// The packed form of `datetime`: second and minute in six bits each, hour in five, day in five, then 13 times the year plus the month.
    #[inline]
    pub(super) fn from_packed(packed: u64, micros: u32) -> Self {
        let year_month = (packed >> 22) as u32;
        Self {
            year: year_month / 13,
            month: year_month % 13,
            day: (packed >> 17 & 31) as u32,
            hour: (packed >> 12 & 31) as u32,
            minute: (packed >> 6 & 63) as u32,
            second: (packed & 63) as u32,
            micros,
        }
    }

    /// The form of servers before 5.6: the number that its digits make, `20180620063703`.
    pub(super) fn from_digits(digits: u64) -> Self {
        let pair = |power: u64| (digits / power % 100) as u32;
        Self {
            year: (digits / 10_000_000_000).min(99_999) as u32,
            month: pair(100_000_000),
            day: pair(1_000_000),
            hour: pair(10_000),
            minute: pair(100),
            second: pair(1),
            micros: 0,
        }
    }

    /// `2018-06-20 06:37:03.123`, or the date alone.
    #[inline]
    pub(super) fn parse(text: &[u8]) -> Result<Self, ValueProblem> {
        let (date, time) = text.split_at_checked(10).ok_or(ValueProblem::Syntax)?;
        let parsed = Self::parse_date(date)?;
        let [b' ', clock @ ..] = time else { return if time.is_empty() { Ok(parsed) } else { Err(ValueProblem::Syntax) } };
        let (hour, minute, second, micros) = parse_clock(clock)?;
        Ok(Self { hour, minute, second, micros, ..parsed })
    }

    /// `2018-06-20`
    #[inline]
    pub(super) fn parse_date(text: &[u8]) -> Result<Self, ValueProblem> {
        let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return Err(ValueProblem::Syntax) };
        let [century, year, month, day] = pairs([[*y1, *y2], [*y3, *y4], [*m1, *m2], [*d1, *d2]])?;
        Ok(Self { year: century * 100 + year, month, day, ..Self::default() })
    }

    /// Days since 1970 of the proleptic Gregorian calendar; `None` if that has no such day.
    #[inline]
    pub(super) fn days(&self) -> Option<i32> {
        let leap = self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        let month_days = match self.month {
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            4 | 6 | 9 | 11 => 30,
            2 => 28 + u32::from(leap),
            _ => return None,
        };
        if self.day == 0 || self.day > month_days || self.year > 9999 {
            return None;
        }
        // Years are counted from March, so that the leap day is the last of its year. One cycle of 400 years more keeps all positive.
        let years = self.year + 400 - u32::from(self.month <= 2);
        let month_from_march = (self.month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + self.day - 1;
        let days = years * 365 + years / 4 - years / 100 + years / 400 + day_of_year;
        // From March of the year -400 to 1970: 719,468 days and a cycle of 146,097.
        Some(days as i32 - 865_565)
    }

    /// Microseconds since 1970; `None` if the calendar has no such day or a day no such time.
    #[inline]
    pub(super) fn micros_since_1970(&self) -> Option<i64> {
        if self.hour > 23 || self.minute > 59 || self.second > 59 || self.micros > 999_999 {
            return None;
        }
        let seconds = i64::from(self.hour * 3600 + self.minute * 60 + self.second);
        Some(i64::from(self.days()?) * MICROS_PER_DAY + seconds * MICROS_PER_SECOND + i64::from(self.micros))
    }

    /// The date and time so many microseconds after 1970.
    pub(super) fn from_micros_since_1970(micros: i64) -> Self {
        let days = micros.div_euclid(MICROS_PER_DAY) + 719_468;
        let of_day = micros.rem_euclid(MICROS_PER_DAY);
        let cycle = days.div_euclid(146_097);
        let day_of_cycle = days.rem_euclid(146_097);
        let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
        let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = (month_from_march + 2) % 12 + 1;
        let seconds = of_day / MICROS_PER_SECOND;
        Self {
            year: (cycle * 400 + year_of_cycle + i64::from(month <= 2)) as u32,
            month: month as u32,
            day: (day_of_year - (153 * month_from_march + 2) / 5 + 1) as u32,
            hour: (seconds / 3600) as u32,
            minute: (seconds / 60 % 60) as u32,
            second: (seconds % 60) as u32,
            micros: (of_day % MICROS_PER_SECOND) as u32,
        }
    }

    pub(super) fn print_date(&self, out: &mut impl Write) -> fmt::Result {
        write!(out, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    /// With so many digits of the fraction.
    pub(super) fn print(&self, digits: u8, out: &mut impl Write) -> fmt::Result {
        self.print_date(out)?;
        write!(out, " {:02}:{:02}:{:02}", self.hour, self.minute, self.second)?;
        print_fraction(self.micros, digits, out)
    }
}

fn print_fraction(micros: u32, digits: u8, out: &mut impl Write) -> fmt::Result {
    match digits {
        0 => Ok(()),
        1..=5 => write!(out, ".{:0width$}", micros / 10u32.pow(6 - u32::from(digits)), width = usize::from(digits)),
        _ => write!(out, ".{micros:06}"),
    }
}

/// `-12:34:56.789000`, with hours of at least two digits.
pub(super) fn print_time(micros: i64, digits: u8, out: &mut impl Write) -> fmt::Result {
    let sign = if micros < 0 { "-" } else { "" };
    let micros = micros.unsigned_abs();
    let seconds = micros / 1_000_000;
    write!(out, "{sign}{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)?;
    print_fraction((micros % 1_000_000) as u32, digits, out)
}

/// Numbers of two digits each, with one branch for all of them.
#[inline]
fn pairs<const N: usize>(digits: [[u8; 2]; N]) -> Result<[u32; N], ValueProblem> {
    let mut wrong = false;
    let numbers = digits.map(|digits| {
        let [high, low] = digits.map(|digit| digit.wrapping_sub(b'0'));
        wrong |= (high > 9) | (low > 9);
        u32::from(high) * 10 + u32::from(low)
    });
    if wrong { Err(ValueProblem::Syntax) } else { Ok(numbers) }
}

/// `06:37:03.123` with hours of two or three digits: hours, minutes, seconds, microseconds.
#[inline]
fn parse_clock(text: &[u8]) -> Result<(u32, u32, u32, u32), ValueProblem> {
    // The usual one in one go.
    if let [h1, h2, b':', m1, m2, b':', s1, s2, b'.', a, b, c, d, e, f] = *text {
        let [hour, minute, second, first, middle, last] = pairs([[h1, h2], [m1, m2], [s1, s2], [a, b], [c, d], [e, f]])?;
        return Ok((hour, minute, second, first * 10_000 + middle * 100 + last));
    }
    let (hundreds, h1, h2, rest) = match text {
        [h1, h2, b':', rest @ ..] => (b'0', *h1, *h2, rest),
        [hundreds, h1, h2, b':', rest @ ..] => (*hundreds, *h1, *h2, rest),
        _ => return Err(ValueProblem::Syntax),
    };
    let [m1, m2, b':', s1, s2, fraction @ ..] = rest else { return Err(ValueProblem::Syntax) };
    let digits = match fraction {
        [] => &[],
        [b'.', digits @ ..] if (1..=6).contains(&digits.len()) => digits,
        _ => return Err(ValueProblem::Syntax),
    };
    let digit = |index: usize| digits.get(index).copied().unwrap_or(b'0');
    let [hundreds, hour, minute, second, first, middle, last] = pairs([
        [b'0', hundreds],
        [h1, h2],
        [*m1, *m2],
        [*s1, *s2],
        [digit(0), digit(1)],
        [digit(2), digit(3)],
        [digit(4), digit(5)],
    ])?;
    Ok((hundreds * 100 + hour, minute, second, first * 10_000 + middle * 100 + last))
}

/// A `time`'s microseconds from its printed form.
pub(super) fn parse_time(text: &[u8]) -> Result<i64, ValueProblem> {
    let (negative, clock) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (hour, minute, second, micros) = parse_clock(clock)?;
    let micros = i64::from(hour * 3600 + minute * 60 + second) * MICROS_PER_SECOND + i64::from(micros);
    Ok(if negative { -micros } else { micros })
}

/// A `time`'s microseconds from its packed form: hours in ten bits, minutes and seconds in six each, and behind them so many bits of the fraction, of
/// which each counts `unit` microseconds.
#[inline]
pub(super) fn time_from_packed(packed: i64, fraction_bits: u32, unit: i64) -> i64 {
    let magnitude = packed.unsigned_abs();
    let fraction = (magnitude & ((1 << fraction_bits) - 1)) as i64 * unit;
    let clock = (magnitude >> fraction_bits) as i64;
    let seconds = (clock >> 12 & 0x3FF) * 3600 + (clock >> 6 & 0x3F) * 60 + (clock & 0x3F);
    let micros = seconds * MICROS_PER_SECOND + fraction;
    if packed < 0 { -micros } else { micros }
}

/// Appends a date, or what the policy makes of one that no calendar has.
#[inline]
pub(super) fn append_date(date: DateTime, policy: ZeroDates, out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    match out {
        ColumnBuilder::Date(out) => match (date.days(), policy) {
            (Some(days), _) => out.append_value(days),
            (None, ZeroDates::Error) => return Err(ValueProblem::ZeroDate),
            (None, _) => out.append_null(),
        },
        ColumnBuilder::Text(out) => {
            date.print_date(out).map_err(|_| ValueProblem::Mismatch)?;
            out.append_value("");
        }
        _ => return Err(ValueProblem::Mismatch),
    }
    Ok(())
}

/// Appends a date and time, or what the policy makes of one that no calendar has.
#[inline]
pub(super) fn append_datetime(value: DateTime, digits: u8, policy: ZeroDates, out: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    match out {
        ColumnBuilder::Timestamp(out) => match (value.micros_since_1970(), policy) {
            (Some(micros), _) => out.append_value(micros),
            (None, ZeroDates::Error) => return Err(ValueProblem::ZeroDate),
            (None, _) => out.append_null(),
        },
        ColumnBuilder::Text(out) => {
            value.print(digits, out).map_err(|_| ValueProblem::Mismatch)?;
            out.append_value("");
        }
        _ => return Err(ValueProblem::Mismatch),
    }
    Ok(())
}

/// Appends an instant. 0 seconds and no fraction is the zero date: the type's range begins a second later.
#[inline]
pub(super) fn append_timestamp(
    seconds: u32,
    micros: u32,
    digits: u8,
    policy: ZeroDates,
    out: &mut ColumnBuilder,
) -> Result<(), ValueProblem> {
    let since_1970 = i64::from(seconds) * MICROS_PER_SECOND + i64::from(micros);
    if let (ColumnBuilder::Timestamp(out), 1..) = (&mut *out, since_1970) {
        out.append_value(since_1970);
        return Ok(());
    }
    let value = if since_1970 == 0 { DateTime::default() } else { DateTime::from_micros_since_1970(since_1970) };
    append_datetime(value, digits, policy, out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dates_are_proleptic_gregorian() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("1000-01-01", Some(-354_285)),
            ("9999-12-31", Some(2_932_896)),
            ("1935-01-01", Some(-12_784)),
            ("0018-04-01", Some(-712_863)),
            ("0000-01-01", Some(-719_528)),
            ("2000-02-29", Some(11_016)),
            ("1900-02-29", None),
            ("0000-00-00", None),
            ("2000-01-00", None),
            ("2000-00-01", None),
            ("2000-02-31", None),
        ] {
            assert_eq!(DateTime::parse(text.as_bytes()).unwrap().days(), expected, "{text}");
        }
    }

    #[test]
    fn times_may_be_negative_and_longer_than_a_day() {
        for (text, expected) in [
            ("17:51:04.78", 64_264_780_000),
            ("517:51:04.78", 1_864_264_780_000),
            ("838:59:59", 3_020_399_000_000),
            ("-13:14:50", -47_690_000_000),
            ("-733:00:00.001", -2_638_800_001_000),
            ("-838:59:58.999999", -3_020_398_999_999),
            ("-00:00:00.5", -500_000),
        ] {
            assert_eq!(parse_time(text.as_bytes()), Ok(expected), "{text}");
        }
        let mut printed = String::new();
        print_time(-500_000, 2, &mut printed).unwrap();
        assert_eq!(printed, "-00:00:00.50");
    }

    #[test]
    fn nonsense_is_an_error() {
        for text in
            ["", "2018", "2018-06-20x", "2018-06-20 1:2:3", "2018-06-20 01:02:03.", "2018-06-20 01:02:03.1234567", "20x8-06-20"]
        {
            assert!(DateTime::parse(text.as_bytes()).is_err(), "{text}");
        }
        for text in ["", "-", "1:2:3", "1234:00:00", "00:00", "00:00:00.x"] {
            assert!(parse_time(text.as_bytes()).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn instants_go_there_and_back(micros in -62_167_219_200_000_000i64..253_402_300_800_000_000) {
            prop_assert_eq!(DateTime::from_micros_since_1970(micros).micros_since_1970(), Some(micros));
        }

        #[test]
        fn no_date_panics(text in "[-0-9: .]{0,30}", packed: u64) {
            let _ = DateTime::parse(text.as_bytes());
            let _ = parse_time(text.as_bytes());
            let _ = DateTime::from_packed(packed, 0).micros_since_1970();
            let _ = DateTime::from_digits(packed).micros_since_1970();
            let _ = DateTime::from_packed_date(packed as u32).days();
        }
    }
}
