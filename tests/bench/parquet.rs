//! The Parquet writer alone, from Arrow batches in memory, beside `pyarrow` on one thread with the same codec and the same rows.

use std::{path::Path, process::Command};

use mainstem_tests::{python, repository};

use crate::{
    options::Options,
    process::Cost,
    report::{Report, Target},
};

/// Measures it.
pub fn measure(options: &Options, report: &mut Report) {
    let rows = options.rows / 2;
    report.section(
        "Parquet writer",
        &format!(
            "{rows} rows of ten columns and the sink's own (`_op`, `_order` …), zstd, from Arrow batches in memory to files on disk, one thread. The reference is pyarrow \
             writing the rows that it read back from those files. Processor time and memory were not taken."
        ),
    );
    let example = options.binary.parent().expect("folder of the binary").join("examples/encode_rate");
    assert!(example.exists(), "{} is not there: cargo build --release -p sink-files --example encode_rate", example.display());
    let mut dir = None;
    let cases = report.in_turns(options, &[("Mainstem's files sink", Some(1)), ("pyarrow, one thread", None)], |case| {
        let wall = if case == 0 {
            let dir = dir.insert(tempfile::tempdir().expect("temporary folder"));
            seconds(Command::new(&example).arg(dir.path().join("lake")).arg(rows.to_string()).arg("zstd"))
        } else {
            let dir = dir.as_ref().expect("the first case makes it").path();
            let script = repository().join("tests/bench/parquet_writer.py");
            seconds(Command::new(python()).arg(script).arg(dir.join("lake")).arg(out(dir)))
        };
        Cost { wall, ..Cost::default() }
    });
    report.table(rows, &cases);
    report.target("Parquet writer from Arrow batches", cases.ratio(0), "× pyarrow", &Target::AtLeast(0.7));
}

fn out(dir: &Path) -> std::path::PathBuf {
    dir.join("pyarrow.parquet")
}

/// Runs a program that prints `seconds=…`.
fn seconds(command: &mut Command) -> f64 {
    let output = command.output().expect("run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().find_map(|line| line.strip_prefix("seconds=")?.parse().ok()).unwrap_or_else(|| panic!("no seconds in {text}"))
}
