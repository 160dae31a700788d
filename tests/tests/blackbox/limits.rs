//! Little memory, little time, and targets that refuse.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use mainstem_tests::{Pipeline, Scenario, wait_until};

/// Rows of one and three megabytes, 450 MB in all, through a budget of a few: it takes turns, and neither stands still nor grows. What a sink holds for one
/// flush comes on top of the budget.
fn large_rows(name: &str, sink: impl Fn(&Scenario) -> Pipeline, peak_mib_max: u64) -> Scenario {
    let scenario = Scenario::new(name).setup(
        &["t"],
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat(md5(i::text), 32 * 1024) FROM generate_series(1, 150) i",
    );
    let run = scenario.run(&sink(&scenario)).option("--memory=8MiB");
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    scenario.source.exec(
        "BEGIN; UPDATE t SET v = repeat(md5(v), 32 * 1024); INSERT INTO t SELECT i, repeat(md5(i::text), 96 * 1024) FROM generate_series(201, 250) i; COMMIT",
    );
    scenario.wait_until_drained(&mut mainstem);
    let peak = mainstem.memory_kib("VmHWM") >> 10;
    mainstem.stop();
    assert!(peak <= peak_mib_max, "peak memory {peak} MiB");
    scenario
}

#[test]
fn large_rows_pass_into_files_with_little_memory() {
    large_rows("large_rows_files", |scenario| scenario.bare_pipeline().files("lake", &scenario.lake()), 300).assert_lake_equal();
}

#[test]
fn large_rows_pass_into_a_warehouse_with_little_memory() {
    large_rows("large_rows_dw", |scenario| scenario.bare_pipeline().upsert("warehouse", &scenario.warehouse.url()), 160)
        .assert_warehouse_equal();
}

/// SIGTERM in the middle of work: it flushes, ends in time, and goes on from there.
#[test]
fn a_stop_under_load_is_quick_and_loses_nothing() {
    let scenario = Scenario::new("stop_under_load")
        .setup(&["t"], "CREATE TABLE t (id bigserial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('first')");
    let done = Arc::new(AtomicBool::new(false));
    let (database, stop) = (scenario.source.clone(), Arc::clone(&done));
    let writer = thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            database.exec("INSERT INTO t (v) SELECT md5(i::text) FROM generate_series(1, 2000) i");
        }
    });
    let run = scenario.run(&scenario.pipeline());
    for round in 0..4 {
        let mainstem = run.start();
        wait_until("rows have arrived", || mainstem.pipeline("stop_under_load")["records"].as_u64() > Some(1000 * round));
        mainstem.stop();
    }
    done.store(true, Ordering::Relaxed);
    writer.join().expect("writer");
    run.once_succeeds();
    scenario.assert_equal();
}

#[test]
fn partitioned_tables_and_generated_columns() {
    let scenario = Scenario::new("partitioned").setup(
        &["t", "g"],
        "CREATE TABLE t (id int, day date, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
         CREATE TABLE t_2025 PARTITION OF t FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
         CREATE TABLE t_2026 (v text, day date NOT NULL, id int NOT NULL);
         ALTER TABLE t ATTACH PARTITION t_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
         INSERT INTO t SELECT i, date '2025-12-20' + i, 'v' || i FROM generate_series(1, 30) i;
         CREATE TABLE g (id int PRIMARY KEY, a int); INSERT INTO g VALUES (1, 1)",
    );
    let run = scenario.run(&scenario.pipeline());
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    // Over the border of partitions: a delete in one and an insert in the other.
    scenario.source.exec(
        "UPDATE t SET day = day + 10 WHERE id < 15; DELETE FROM t WHERE id = 20; INSERT INTO t VALUES (100, '2026-05-05', 'new')",
    );
    scenario.source.exec("CREATE TABLE t_2027 PARTITION OF t FOR VALUES FROM ('2027-01-01') TO ('2028-01-01'); INSERT INTO t VALUES (200, '2027-05-05', 'newer')");
    scenario.source.exec("ALTER TABLE t DETACH PARTITION t_2027; DROP TABLE t_2027; DELETE FROM t WHERE id = 200");
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    // Detaching a partition is no change of rows: what was in it stays in the targets.
    assert_eq!(scenario.warehouse.query("SELECT string_agg(id::text, ',') FROM t WHERE id >= 200"), "200");
    scenario.source.exec("CREATE TABLE t_2027 PARTITION OF t FOR VALUES FROM ('2027-01-01') TO ('2028-01-01'); INSERT INTO t VALUES (200, '2027-05-05', 'newer')");
    run.once_succeeds();
    scenario.assert_equal();
}

/// Somebody made a column of the target narrower: the sink stops with the column's name, writes nothing of the batch, and the other sink goes on.
#[test]
fn a_value_that_the_target_refuses_stops_that_sink_and_is_caught_up() {
    let scenario = Scenario::new("refused_value")
        .setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'abc')");
    let run = scenario.run(&scenario.pipeline()).allow("warehouse");
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    scenario.warehouse.exec("ALTER TABLE t ADD CONSTRAINT short CHECK (length(v) < 10)");
    scenario
        .source
        .exec("BEGIN; INSERT INTO t VALUES (2, 'short'); INSERT INTO t VALUES (3, 'a secret value that is long'); COMMIT");
    wait_until("the sink stops", || mainstem.sink("refused_value", "warehouse")["state"] == "stopped");
    let sink = mainstem.sink("refused_value", "warehouse");
    let error = sink["error"].as_str().unwrap_or_default();
    assert!(error.contains("short"), "the error does not name the constraint: {sink}");
    assert!(!mainstem.log().contains("secret value"), "a row's value is in the log:\n{}", mainstem.log());
    assert_eq!(scenario.warehouse.query("SELECT string_agg(id::text, ',') FROM t"), "1", "half a batch was written");
    scenario.wait_until_in_log(&mut mainstem);
    wait_until("the lake goes on", || mainstem.sink("refused_value", "lake")["lag_records"] == 0);
    mainstem.stop();
    scenario.warehouse.exec("ALTER TABLE t DROP CONSTRAINT short");
    run.once_succeeds();
    scenario.assert_equal();
}
