//! The Parquet writer alone, from Arrow batches in memory, beside `pyarrow` on one thread with the same codec and the same rows.

use std::{collections::BTreeMap, path::Path, process::Command};

use mainstem_tests::{python, repository};

use crate::{
    options::Options,
    process::Cost,
    report::{Report, Runs, Target},
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
    let mut table = BTreeMap::from([
        (0, ("pyarrow, one thread".to_owned(), Runs::default(), None)),
        (1, ("Mainstem's files sink".to_owned(), Runs::default(), Some(0))),
    ]);
    for round in 0..options.rounds.max(3) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let ours = seconds(Command::new(&example).arg(dir.path().join("lake")).arg(rows.to_string()).arg("zstd"));
        let script = repository().join("tests/bench/parquet_writer.py");
        let theirs = seconds(Command::new(python()).arg(script).arg(dir.path().join("lake")).arg(out(dir.path())));
        for (i, wall) in [theirs, ours].into_iter().enumerate() {
            if let Some((name, runs, _)) = table.get_mut(&i) {
                println!("   round {}: {name}: {wall:.2} s", round + 1);
                runs.0.push(Cost { wall, ..Cost::default() });
            }
        }
    }
    report.table(rows, &table);
    report.target("Parquet writer from Arrow batches", table[&0].1.wall() / table[&1].1.wall(), "× pyarrow", &Target::AtLeast(0.7));
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
