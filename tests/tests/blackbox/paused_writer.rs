//! A writer that everybody takes for dead, and that wakes up.

use std::{fs, process::Command};

use mainstem_tests::{Run, SIGCONT, SIGSTOP, Scenario, wait_until};

#[test]
fn a_paused_parquet_writer_that_was_overtaken_overwrites_and_repeats_nothing() {
    let scenario = Scenario::new("paused_writer")
        .setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'a' FROM generate_series(1, 100) i");
    // A roll age that leaves time to pause the writer with rows in its log that are in no file yet.
    let lake = format!("files: {{ url: \"file://{}\", roll: {{ age: 4s }} }}", scenario.lake().display());
    let pipeline = scenario.bare_pipeline().sink("lake", &lake);
    let run = scenario.run(&pipeline).allow("");
    let mut first = run.start();
    scenario.wait_until_drained(&mut first);
    scenario.source.exec("INSERT INTO t SELECT i, 'b' FROM generate_series(101, 200) i");
    scenario.wait_until_in_log(&mut first);
    first.signal(SIGSTOP);
    let files_then = files(&scenario);
    let copy = scenario.dir().join("copy");
    assert!(Command::new("cp").arg("-a").arg(scenario.data_dir()).arg(&copy).status().expect("cp").success());
    // What an operator does when a machine seems lost: end its connections, go on elsewhere.
    scenario.source.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active_pid IS NOT NULL");
    let file = scenario.dir().join("paused_writer.yaml");
    let mut second = Run::new(&copy).file(&file).allow("").start();
    scenario.source.exec("INSERT INTO t SELECT i, 'c' FROM generate_series(201, 300) i; UPDATE t SET v = 'd' WHERE id % 10 = 0");
    scenario.wait_until_drained(&mut second);
    assert!(files(&scenario).len() > files_then.len(), "the second writer wrote no file");
    let before = contents(&scenario);
    first.signal(SIGCONT);
    // It has rows that are due. It must find the second writer's file, not replace it and not write beside it.
    wait_until("the first writer notices", || {
        let status = first.pipeline("paused_writer");
        first.has_ended()
            || status["sinks"][0]["lag_records"] == 0
            || status["sinks"][0]["state"] == "stopped"
            || status["state"] == "stopped"
    });
    scenario.source.exec("INSERT INTO t SELECT i, 'e' FROM generate_series(301, 350) i");
    scenario.wait_until_in_log(&mut second);
    scenario.wait_until_drained(&mut second);
    for (name, bytes) in before {
        assert!(fs::read(&name).is_ok_and(|now| now == bytes), "{} was changed", name.display());
    }
    drop(first);
    second.stop();
    scenario.assert_lake_equal();
    let rows = scenario.source.number("SELECT count(*) FROM t") + 30;
    assert_eq!(parquet_rows(&scenario.lake()), rows as u64, "changes in the files");
}

fn files(scenario: &Scenario) -> Vec<std::path::PathBuf> {
    parquet_files(&scenario.lake())
}

fn contents(scenario: &Scenario) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    files(scenario).into_iter().map(|path| (path.clone(), fs::read(&path).expect("file"))).collect()
}

/// Parquet files below a folder, hidden ones left out.
pub(crate) fn parquet_files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().map_while(Result::ok) {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(parquet_files(&path));
        } else if name.ends_with(".parquet") && !name.starts_with('.') {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Rows in all Parquet files below a folder, as pyarrow counts them.
pub(crate) fn parquet_rows(dir: &std::path::Path) -> u64 {
    let script = "import sys, pyarrow.parquet as pq\nprint(sum(pq.ParquetFile(name).metadata.num_rows for name in sys.argv[1:]))";
    let output = Command::new(mainstem_tests::python()).arg("-c").arg(script).args(parquet_files(dir)).output().expect("python");
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}
