//! The log's files as a crash may leave them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use mainstem_tests::{Random, Run, wait_until};

use crate::paused_writer::parquet_files;

pub(crate) fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    assert!(Command::new("cp").arg("-aT").arg(from).arg(to).status().expect("cp").success());
}

/// Files below a folder, with sizes, largest path last.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().map_while(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path, entry.metadata().map_or(0, |meta| meta.len())));
        }
    }
    found.sort();
    found
}

fn only<'a>(all: &'a [(PathBuf, u64)], part: &str) -> Vec<&'a (PathBuf, u64)> {
    all.iter().filter(|(path, size)| *size > 0 && path.to_string_lossy().contains(part)).collect()
}

/// Ids in the Parquet files, as pyarrow reads them.
pub(crate) fn ids(lake: &Path) -> Vec<i64> {
    let script = "import sys, pyarrow.parquet as pq\nfor name in sys.argv[1:]:\n  print(*pq.ParquetFile(name).read(['id']).column('id').to_pylist(), sep='\\n')";
    let output = Command::new(mainstem_tests::python()).arg("-c").arg(script).args(parquet_files(lake)).output().expect("python");
    let mut ids: Vec<i64> = String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| line.parse().ok()).collect();
    ids.sort_unstable();
    ids
}

/// The journal's last entry cut at every few bytes, or followed by zeros or garbage: what was whole stays, the rest is made again, and the sink
/// gets every row exactly once.
#[test]
fn log_crash_02_a_torn_tail_is_cut_off_and_the_start_succeeds() {
    const ROWS: i64 = 300;
    let dir = tempfile::tempdir().expect("temporary folder");
    let pipeline = |name: &str, rows: i64, sinks: &str| {
        let path = dir.path().join(name);
        let text = format!("name: torn\nsource:\n  generate: {{ rows: {rows}, rows_per_second: 1000, columns: 2 }}\n{sinks}");
        fs::write(&path, text).expect("pipeline file");
        path
    };
    let data = dir.path().join("data");
    Run::new(&data).file(pipeline("a.yaml", ROWS / 2, "")).once_succeeds();
    let before = files(&data);
    // A kill leaves the journal as it is; a clean end would write a checkpoint.
    let second = Run::new(&data).file(pipeline("b.yaml", ROWS, "")).start();
    wait_until("the other half is in the log", || second.pipeline("torn")["records"] == ROWS / 2);
    second.kill();
    let after = files(&data);
    let journals = only(&after, "journal");
    assert!(!journals.is_empty(), "no journal in {after:?}");
    let (journal, size) =
        journals.last().map(|(path, size)| (path.strip_prefix(&data).expect("inside").to_owned(), *size)).expect("journal");
    let old_size = before.iter().find(|(path, _)| path.ends_with(&journal)).map_or(0, |(_, size)| *size);
    let lake = dir.path().join("lake");
    let sinks = format!("sinks:\n  lake:\n    files: {{ url: \"file://{}\", roll: {{ age: 1s }} }}\n", lake.display());
    let file = pipeline("c.yaml", ROWS, &sinks);
    let mut random = Random::new("log_crash_02");
    let torn = dir.path().join("torn");
    let check = |what: &str| {
        let _ = fs::remove_dir_all(&lake);
        let mut run = Run::new(&torn).file(&file).allow("").once();
        let log = run.log();
        assert_eq!(run.exit().and_then(|status| status.code()), Some(0), "{what}:\n{log}");
        let ids = ids(&lake);
        let expected: Vec<i64> = (ids.first().copied().unwrap_or(0)..).take(ROWS as usize).collect();
        assert_eq!(ids, expected, "{what}: not every row exactly once:\n{log}");
    };
    let first = old_size.max(size.saturating_sub(4000));
    let mut cuts: Vec<u64> = (0..12).map(|_| first + random.below(size - first)).collect();
    cuts.extend([size - 1, size - 4, size - 8, first]);
    for cut in cuts {
        copy(&data, &torn);
        fs::OpenOptions::new().write(true).open(torn.join(&journal)).and_then(|file| file.set_len(cut)).expect("cut");
        if fs::metadata(torn.join(&journal)).is_ok_and(|meta| meta.len() >= old_size) {
            check(&format!("journal of {size} bytes cut at {cut}"));
        }
    }
    let garbage: Vec<u8> = (0..500).map(|_| random.bits() as u8).collect();
    let segment = only(&after, ".log")
        .into_iter()
        .find(|(path, _)| path.to_string_lossy().contains("torn."))
        .map(|(path, _)| path.strip_prefix(&data).expect("inside").to_owned());
    for tail in [vec![0; 500], garbage] {
        for file in [Some(&journal), segment.as_ref()].into_iter().flatten() {
            copy(&data, &torn);
            let mut bytes = fs::read(torn.join(file)).expect("file");
            bytes.extend(&tail);
            fs::write(torn.join(file), bytes).expect("file");
            check(&format!("{} followed by {} bytes", file.display(), tail.len()));
        }
    }
}

/// A flipped bit in what was committed is an error with the file's name, or mended; it is never passed on in silence.
#[test]
fn log_crash_03_damage_in_committed_bytes_is_never_passed_on() {
    const ROWS: i64 = 2000;
    let dir = tempfile::tempdir().expect("temporary folder");
    let lake = dir.path().join("lake");
    let file = dir.path().join("damaged.yaml");
    let write = |sinks: &str| {
        fs::write(&file, format!("name: damaged\nsource:\n  generate: {{ rows: {ROWS}, columns: 3 }}\n{sinks}"))
            .expect("pipeline file");
    };
    write("");
    let data = dir.path().join("data");
    Run::new(&data).file(&file).once_succeeds();
    write(&format!("sinks:\n  lake:\n    files: {{ url: \"file://{}\", roll: {{ age: 1s }} }}\n", lake.display()));
    let all = files(&data);
    let segments: Vec<_> = all.iter().filter(|(path, size)| *size > 1000 && path.to_string_lossy().contains("damaged.")).collect();
    assert!(!segments.is_empty(), "no segment in {all:?}");
    let mut random = Random::new("log_crash_03");
    for _ in 0..12 {
        let (path, size) = segments[random.below(segments.len() as u64) as usize];
        let inside = path.strip_prefix(&data).expect("inside");
        let copied = dir.path().join("copy");
        copy(&data, &copied);
        let mut bytes = fs::read(copied.join(inside)).expect("segment");
        let at = random.below(*size) as usize;
        bytes[at] ^= 1 << random.below(8);
        fs::write(copied.join(inside), bytes).expect("segment");
        let _ = fs::remove_dir_all(&lake);
        let mut run = Run::new(&copied).file(&file).allow("").once();
        let log = run.log();
        if run.exit().and_then(|status| status.code()) == Some(0) {
            let ids = ids(&lake);
            let expected: Vec<i64> = (ids.first().copied().unwrap_or(0)..).take(ROWS as usize).collect();
            assert_eq!(ids, expected, "bit flipped at {at} of {}: passed on in silence\n{log}", inside.display());
        } else {
            assert!(
                log.contains(&inside.file_name().expect("name").to_string_lossy().into_owned()),
                "the error does not name {}:\n{log}",
                inside.display()
            );
        }
    }
}
