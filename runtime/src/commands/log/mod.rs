//! `mainstem log`: a look at the log's files, one file for each command.
mod delete_topic;
mod describe;
mod dump;
mod groups;
mod repair;
mod verify;

use std::process::ExitCode;

use chrono::{DateTime, SecondsFormat};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{cli::LogCommand, commands::topics};

/// `mainstem log`.
pub(crate) fn run(command: LogCommand) -> anyhow::Result<ExitCode> {
    match command {
        LogCommand::Topics(args) => topics::run(args),
        LogCommand::Describe(args) => describe::run(&args),
        LogCommand::Groups(args) => groups::run(&args),
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

/// Milliseconds since 1970 as `2026-11-23T07:30:00.000Z`; damage can leave times in a file that no calendar has.
fn time(ms: i64) -> String {
    let time = DateTime::from_timestamp_millis(ms);
    time.map_or_else(|| format!("{ms} ms"), |time| time.to_rfc3339_opts(SecondsFormat::Millis, true))
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
        assert_eq!(super::time(i64::MIN), "-9223372036854775808 ms");
    }
}
