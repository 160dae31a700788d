//! One sink's trouble is that sink's trouble.

use std::fs;

use mainstem_tests::{PgServer, Pipeline, Proxy, Scenario, compare_parquet, run_command, table, wait_until};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'a' FROM generate_series(1, 100) i";

#[test]
fn a_sink_that_is_down_holds_up_neither_the_other_nor_the_slot() {
    let scenario = Scenario::new("sink_down").setup(&["t"], TABLE);
    let proxy = Proxy::to(PgServer::shared().port());
    let pipeline =
        scenario.bare_pipeline().files("lake", &scenario.lake()).upsert("warehouse", &scenario.warehouse.url_at(proxy.port()));
    let run = scenario.run(&pipeline).allow("warehouse");
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    proxy.refuse(true);
    proxy.cut();
    for round in 0..5 {
        scenario.source.exec(&format!(
            "UPDATE t SET v = 'round {round}' WHERE id % 10 = {round}; INSERT INTO t VALUES (1000 + {round}, 'new')"
        ));
        scenario.wait_until_in_log(&mut mainstem);
        wait_until("the lake has it", || mainstem.sink("sink_down", "lake")["lag_records"] == 0);
    }
    let warehouse = mainstem.sink("sink_down", "warehouse");
    assert!(warehouse["lag_records"].as_u64().is_some_and(|lag| lag > 0), "{warehouse}");
    assert!(warehouse["error"].is_string() && warehouse["state"] != "running", "{warehouse}");
    scenario.assert_lake_equal();
    // Also over a restart.
    mainstem.kill();
    let mut mainstem = run.start();
    scenario.source.exec("DELETE FROM t WHERE id = 50");
    scenario.wait_until_in_log(&mut mainstem);
    proxy.refuse(false);
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_equal();
}

#[test]
fn a_table_without_a_key_cannot_be_merged_and_other_pipelines_go_on() {
    let scenario = Scenario::new("no_key")
        .setup(&["t"], "CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL; INSERT INTO t VALUES (1, 'a')");
    let other = Scenario::new("no_key_other").setup(&["t"], TABLE).beside(&scenario);
    let run = scenario.run(&scenario.pipeline()).file(other.pipeline().write(scenario.dir())).allow("no_key");
    let mut mainstem = run.start();
    other.wait_until_drained(&mut mainstem);
    wait_until("the sink stops", || mainstem.sink("no_key", "warehouse")["state"] == "stopped");
    let sink = mainstem.sink("no_key", "warehouse");
    let error = sink["error"].as_str().unwrap_or_default();
    assert!(error.contains("key") && error.contains("append"), "the error does not say what to do: {sink}");
    // The other sink of the same pipeline has no trouble with it.
    wait_until("the lake goes on", || mainstem.sink("no_key", "lake")["lag_records"] == 0);
    other.source.exec("UPDATE t SET v = 'later' WHERE id = 1");
    other.wait_until_drained(&mut mainstem);
    mainstem.stop();
    other.assert_equal();
    assert_eq!(crate::paused_writer::parquet_rows(&scenario.lake()), 1);
}

#[test]
fn append_keeps_every_change() {
    let scenario = Scenario::new("append").setup(&["t"], TABLE);
    let append = format!("jdbc: {{ url: \"{}\", user: postgres, mode: append }}", scenario.warehouse.url());
    let run = scenario.run(&scenario.bare_pipeline().sink("warehouse", &append));
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    scenario.source.exec("UPDATE t SET v = 'b' WHERE id <= 10; DELETE FROM t WHERE id = 1");
    scenario.wait_until_in_log(&mut mainstem);
    mainstem.kill();
    scenario.source.exec("INSERT INTO t VALUES (1, 'again')");
    run.once_succeeds();
    let ops = scenario
        .warehouse
        .query("SELECT string_agg(_op || n, ' ' ORDER BY _op) FROM (SELECT _op, count(*) AS n FROM t GROUP BY 1) x");
    assert_eq!(ops, "c1 d1 r100 u10");
}

/// The files that are there belong to a log that is not there any more: writing on would mix two histories.
#[test]
fn a_deleted_data_directory_stops_with_the_choices() {
    let scenario = Scenario::new("data_deleted").setup(&["t"], TABLE);
    let run = scenario.run(&scenario.pipeline());
    run.once_succeeds();
    scenario.assert_equal();
    let files = crate::paused_writer::parquet_files(&scenario.lake());
    fs::remove_dir_all(scenario.data_dir()).expect("remove the data directory");
    let mut mainstem = run.allow("").once();
    let log = mainstem.log();
    assert_eq!(mainstem.exit().and_then(|status| status.code()), Some(1), "{log}");
    for sink in ["lake", "warehouse"] {
        let told =
            log.lines().any(|line| line.contains("ERROR") && line.contains(&format!("\"{sink}\"")) && line.contains("topic"));
        assert!(told, "sink {sink} did not say what it found:\n{log}");
    }
    assert_eq!(crate::paused_writer::parquet_files(&scenario.lake()), files, "files were written");
    scenario.assert_equal();
}

#[test]
fn a_pipeline_without_a_source_drains_topics_that_are_there() {
    let scenario = Scenario::new("archive").setup(&["t"], TABLE);
    scenario.run(&scenario.bare_pipeline()).once_succeeds();
    let file = scenario.dir().join("copy.yaml");
    let text = format!(
        "name: copy\ntopics: [\"archive.public.*\"]\nsinks:\n  lake:\n    files: {{ url: \"file://{}\", roll: {{ age: 1s }} }}\n",
        scenario.lake().display()
    );
    fs::write(&file, text).expect("pipeline file");
    // It says that the pipeline that filled the log does not run.
    mainstem_tests::Run::new(&scenario.data_dir()).file(&file).allow("is not among the files").once_succeeds();
    compare_parquet(&table(&scenario.source, "public", "t"), &scenario.source, &scenario.lake(), &scenario.topic("t"));
}

#[test]
fn the_generator_needs_no_database() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let sqlite = dir.path().join("warehouse.db");
    let text = format!(
        "name: generated\nsource:\n  generate: {{ rows: 5000 }}\nsinks:\n  lake:\n    files: {{ url: \"file://{}\", roll: {{ age: 1s }} }}\n  warehouse:\n    jdbc: {{ url: \"jdbc:sqlite:{}\" }}\n",
        dir.path().join("lake").display(),
        sqlite.display()
    );
    let file = dir.path().join("generated.yaml");
    fs::write(&file, text).expect("pipeline file");
    let run = mainstem_tests::Run::new(&dir.path().join("data")).file(&file);
    run.once_succeeds();
    run.once_succeeds();
    assert_eq!(crate::paused_writer::parquet_rows(&dir.path().join("lake")), 5000);
    let output = run_command(["topics".as_ref(), "--json".as_ref(), "--data-dir".as_ref(), dir.path().join("data").as_os_str()]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    assert!(output.stdout.contains("generated."), "{}", output.stdout);
    assert!(sqlite.exists());
}

/// A run that ends by itself does not leave the writing of files to its end.
#[test]
fn under_once_a_file_begins_before_the_source_ends() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let (data, lake) = (dir.path().join("data"), dir.path().join("lake"));
    let text = format!(
        "name: early\nsource:\n  generate: {{ rows: 400000, rows_per_second: 50000, columns: 20 }}\nsinks:\n  lake:\n    files: {{ url: \"file://{}\" }}\n",
        lake.display()
    );
    let file = dir.path().join("early.yaml");
    fs::write(&file, text).expect("pipeline file");
    let run = mainstem_tests::Run::new(&data).file(&file);
    let (begun, ended) = std::thread::scope(|scope| {
        let whole = scope.spawn(|| run.once_succeeds());
        wait_until("a file is begun", || bytes_below(&lake, ".tmp-") > 0);
        let begun = bytes_below(&data.join("topics"), "");
        whole.join().expect("run");
        (begun, bytes_below(&data.join("topics"), ""))
    });
    assert!(begun < ended / 2, "{begun} bytes in the log when the file was begun, {ended} at the end");
    assert_eq!(crate::paused_writer::parquet_rows(&lake), 400_000);
}

/// The bytes of all files below a folder whose names begin so.
fn bytes_below(folder: &std::path::Path, prefix: &str) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let bytes = |entry: fs::DirEntry| match entry.metadata() {
        Ok(data) if data.is_dir() => bytes_below(&entry.path(), prefix),
        Ok(data) if entry.file_name().to_string_lossy().starts_with(prefix) => data.len(),
        _ => 0,
    };
    entries.filter_map(Result::ok).map(bytes).sum()
}

/// Two processes that write to one table: the second takes over, the first notices.
#[test]
fn a_second_writer_of_the_same_table_fences_the_first() {
    let scenario = Scenario::new("fenced").setup(&["t"], TABLE);
    let proxy = Proxy::to(PgServer::shared().port());
    let pipeline = scenario.bare_pipeline().upsert("warehouse", &scenario.warehouse.url_at(proxy.port()));
    let run = scenario.run(&pipeline).allow("");
    let mut first = run.start();
    scenario.wait_until_drained(&mut first);
    let copy = scenario.dir().join("copy");
    assert!(std::process::Command::new("cp").arg("-a").arg(scenario.data_dir()).arg(&copy).status().expect("cp").success());
    // The copy drains what is in its log; the first one keeps the slot.
    let direct: Pipeline = scenario.bare_pipeline().upsert("warehouse", &scenario.warehouse.url());
    let dir = scenario.dir().join("second");
    fs::create_dir(&dir).expect("folder");
    let second = mainstem_tests::Run::new(&copy).file(direct.write(&dir)).allow("").start();
    wait_until("the second one has taken over", || {
        scenario
            .warehouse
            .query("SELECT max(epoch) FROM mainstem_offsets WHERE topic LIKE 'fenced.%'")
            .parse::<i64>()
            .is_ok_and(|epoch| epoch > 1)
    });
    scenario.source.exec("UPDATE t SET v = 'by whom?'");
    wait_until("the first one stops", || first.sink("fenced", "warehouse")["state"] == "stopped");
    assert_eq!(scenario.warehouse.query("SELECT count(*) FROM t WHERE v = 'by whom?'"), "0");
    drop(second);
    first.stop();
}
