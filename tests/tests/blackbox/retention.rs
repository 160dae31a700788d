//! What is old and read is removed from the log; what is not read is kept, and nobody goes on behind a hole in silence.

use std::{fs, path::Path};

use mainstem_tests::{MINUTE, PgServer, PgVersion, Pipeline, Scenario, compare_sqlite, table, wait_until, wait_until_for};

/// Names of the segments of a topic's only partition, oldest first.
fn segments(data_dir: &Path, topic: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(data_dir.join("topics").join(topic).join("0"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

const ROWS: &str =
    "INSERT INTO t SELECT coalesce(max, 0) + i, repeat(md5(i::text), 30) FROM (SELECT max(id) FROM t) m, generate_series(1, 500) i";

fn sqlite(file: &Path) -> String {
    format!("jdbc: {{ url: \"jdbc:sqlite:{}\" }}", file.display())
}

#[test]
fn what_every_sink_has_read_is_removed_and_a_new_sink_does_not_begin_behind_it() {
    let scenario = Scenario::new("retention").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY, v text)");
    let topic = scenario.topic("t");
    let log = "segment: 64KiB, retention: { age: 1s }";
    let pipeline = scenario.bare_pipeline().log(log).files("lake", &scenario.lake());
    let mut mainstem = scenario.run(&pipeline).start();
    for _ in 0..5 {
        scenario.source.exec(ROWS);
    }
    scenario.wait_until_drained(&mut mainstem);
    let first = "00000000000000000000.log";
    wait_until("old segments are gone", || segments(&scenario.data_dir(), &topic).first().is_none_or(|name| name != first));
    scenario.source.exec(ROWS);
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_lake_equal();

    // A sink that comes later would miss what was removed.
    let file = scenario.dir().join("late.db");
    let late = pipeline.clone().sink("late", &sqlite(&file));
    let mut run = scenario.run(&late).allow("the records between are gone").once();
    assert_eq!(run.exit().and_then(|status| status.code()), Some(1));
    assert!(run.has_logged("from: log_start"), "{}", run.log());

    // With what is left, or all of it anew.
    let late = pipeline.sink("late", &format!("from: log_start\n    {}", sqlite(&file)));
    scenario.run(&late).once_succeeds();
    let data_dir = scenario.data_dir();
    let anew = mainstem_tests::run_command(["resnapshot", "retention", "--data-dir", data_dir.to_str().expect("path")]);
    assert_eq!(anew.code, Some(0), "{anew:?}");
    scenario.run(&late).once_succeeds();
    compare_sqlite(&table(&scenario.source, "public", "t"), &scenario.source, &file);
}

/// A sink lags behind what the log may keep for it.
#[test]
fn log_eos_03_a_sink_that_lags_behind_retention_stops_and_says_so() {
    let scenario = Scenario::new("log_eos_03").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY, v text)");
    let server = PgServer::start(PgVersion::V15);
    let target = server.create_database("dw");
    let topic = scenario.topic("t");
    let log = "segment: 64KiB, retention: { age: 1s, unread_bytes: 512KiB }";
    let pipeline: Pipeline = scenario.bare_pipeline().log(log).files("lake", &scenario.lake()).upsert("warehouse", &target.url());
    let mut mainstem = scenario.run(&pipeline).allow("").start();
    scenario.source.exec(ROWS);
    scenario.wait_until_drained(&mut mainstem);
    server.stop("fast");
    // Within the limit all of it is kept for the sink that is away …
    scenario.source.exec("INSERT INTO t SELECT -i, repeat('x', 900) FROM generate_series(1, 300) i");
    scenario.wait_until_in_log(&mut mainstem);
    wait_until("the other sink has it", || mainstem.sink("log_eos_03", "lake")["lag_records"] == 0);
    assert!(!mainstem.has_logged("has not read"), "{}", mainstem.log());
    // … and beyond it no more.
    for _ in 0..4 {
        // Little enough to be kept until the sink that is there has it.
        scenario.source.exec(ROWS);
        scenario.wait_until_in_log(&mut mainstem);
        wait_until("the other sink has it", || mainstem.sink("log_eos_03", "lake")["lag_records"] == 0);
    }
    mainstem.wait_for_log("removing records that a sink has not read");
    let kept: u64 = segments(&scenario.data_dir(), &topic)
        .iter()
        .filter_map(|name| fs::metadata(scenario.data_dir().join("topics").join(&topic).join("0").join(name)).ok())
        .map(|metadata| metadata.len())
        .sum();
    assert!(kept >= 512 << 10, "{kept} bytes are kept");
    let rows = |count: u32| format!("SELECT count(*) = {count} FROM t");
    server.start_again();
    wait_until_for(MINUTE, "the sink stops", || mainstem.sink("log_eos_03", "warehouse")["state"] == "stopped");
    let error = mainstem.sink("log_eos_03", "warehouse").to_string();
    assert!(error.contains("are gone") || error.contains("out of range"), "{error}");
    assert_eq!(target.query(&rows(500)), "t", "nothing behind the hole was written");
    mainstem.stop();
    scenario.assert_lake_equal();
}
