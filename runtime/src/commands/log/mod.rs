//! `mainstem log`: a look at the log's files, one file for each command.
mod delete_topic;
mod describe;
mod dump;
mod repair;
mod verify;

use std::process::ExitCode;

use indicatif::{ProgressBar, ProgressStyle};

use crate::{cli::LogCommand, commands::topics};

/// `mainstem log`.
pub(crate) fn run(command: LogCommand) -> anyhow::Result<ExitCode> {
    match command {
        LogCommand::Topics(args) => topics::run(args),
        LogCommand::Describe(args) => describe::run(&args),
        LogCommand::Verify(args) => verify::run(&args),
        LogCommand::Repair(args) => repair::run(&args),
        LogCommand::Dump(args) => dump::run(&args),
        LogCommand::DeleteTopic(args) => delete_topic::run(&args),
    }
}

/// Runs what reads a log and tells how far it is, with a bar on standard error where that is a terminal.
fn with_bar<T>(work: impl FnOnce(&mut dyn FnMut(u64, u64)) -> T) -> T {
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(0).with_style(style);
    let result = work(&mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    result
}

/// Milliseconds since 1970 as `2026-11-23T07:30:00.000Z`, in the Gregorian calendar.
fn time(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Years begin in March here, so that a leap day is the last of its year; 400 of them are 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z", year + era * 400)
}

#[cfg(test)]
mod tests {
    #[test]
    fn times() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_123, "2000-02-29T00:00:00.123Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_709_251_200_000, "2024-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(super::time(ms), expected);
        }
        // What damage can leave in a file.
        super::time(i64::MIN);
        super::time(i64::MAX);
    }
}
