//! `make bench`: Mainstem beside the leanest client there is, in turns, on the same server, in the same minutes. Prints rates and ratios,
//! and writes docs/benchmarks.md.
//!
//! What is compared, and why so, stands in each module. A figure is the median of the rounds; its range is printed beside it. Nothing else
//! should run on the machine.
mod backlog;
mod log;
mod mysql;
mod options;
mod parquet;
mod process;
mod quiet;
mod report;
mod snapshot;
mod sqlite;
mod stream;
mod warehouse;

use std::process::ExitCode;

use crate::{
    options::{Options, Part},
    report::Report,
};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            println!("{message}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new(&options);
    for part in &options.parts {
        match part {
            Part::Stream(kind) => stream::measure(*kind, &options, &mut report),
            Part::Snapshot => snapshot::measure(&options, &mut report),
            Part::Warehouse => warehouse::measure(&options, &mut report),
            Part::Sqlite => sqlite::measure(&options, &mut report),
            Part::Parquet => parquet::measure(&options, &mut report),
            Part::Quiet => quiet::measure(&options, &mut report),
            Part::Binlog => mysql::binlog::measure(&options, &mut report),
            Part::MySqlSnapshot => mysql::snapshot::measure(&options, &mut report),
            Part::MySqlSink => mysql::sink::measure(&options, &mut report),
            Part::LogAppend => log::append::measure(&options, &mut report),
            Part::LogLatency => log::latency::measure(&options, &mut report),
            Part::LogRead => log::read::measure(&options, &mut report),
            Part::LogOpen => log::open::measure(&options, &mut report),
            Part::LogSize => log::size::measure(&options, &mut report),
            Part::Kafka => log::kafka::measure(&options, &mut report),
        }
    }
    let path = mainstem_tests::repository().join("docs/benchmarks.md");
    let text = report.finish(&std::fs::read_to_string(&path).unwrap_or_default());
    println!("\n{text}");
    if options.write {
        if let Err(error) = std::fs::write(&path, &text) {
            println!("cannot write {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
        println!("written to {}", path.display());
    }
    ExitCode::SUCCESS
}
