//! What the slot is told, and where reading goes on after a crash.

use std::{collections::HashMap, thread, time::Duration};

use mainstem_tests::{Database, PgServer, PgVersion, Pipeline, Proxy, Random, Run, Scenario, run_command, wait_until};
use serde_json::Value;

/// The events of a topic, as `mainstem read` prints them.
pub(crate) fn events(run_dir: &std::path::Path, topic: &str) -> Vec<Value> {
    let output = run_command(["read".as_ref(), topic.as_ref(), "--data-dir".as_ref(), run_dir.as_os_str()]);
    assert_eq!(output.code, Some(0), "mainstem read: {}", output.stderr);
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
}

/// Debezium's envelope in a line of `mainstem read`.
pub(crate) fn value(line: &Value) -> &Value {
    &line["event"]
}

/// A pipeline that reaches the source through `proxy`, without sinks.
fn through(proxy: &Proxy, scenario: &Scenario, table: &str) -> Pipeline {
    Pipeline::postgres(&scenario.name, &scenario.source.url_at(proxy.port()), &[table])
}

/// Kills the runtime while the server has sent only so many bytes, again and again. `bytes_max` is less than what there is to send: a run that
/// gets all of it leaves nothing to hold back in the next one.
fn kill_at_random_bytes(run: &Run, proxy: &Proxy, random: &mut Random, rounds: usize, bytes_max: u64) {
    for _ in 0..rounds {
        proxy.stall_after(random.below(bytes_max));
        let mainstem = run.start();
        wait_until("the server was held back", || proxy.is_stalled());
        // What was received is committed now: the socket is empty and the log is free.
        thread::sleep(Duration::from_millis(random.below(150)));
        mainstem.kill();
        proxy.cut();
        proxy.stall(false);
    }
}

fn wait_until_slot_is_free(database: &Database) {
    wait_until("the server noticed that the runtime is gone", || {
        database.query("SELECT count(*) FROM pg_replication_slots WHERE active AND database = current_database()") == "0"
    });
}

/// One `COPY` of 10,000 rows is one transaction in which many rows share a position; killed in the middle again and again.
#[test]
fn pg_lsn_03_no_row_of_a_transaction_is_skipped_or_repeated() {
    let scenario = Scenario::new("pg_lsn_03").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY, v text)");
    let proxy = Proxy::to(PgServer::shared().port());
    let run = scenario.run(&through(&proxy, &scenario, "public.t")).allow("");
    run.once_succeeds();
    scenario.source.exec(
        "COPY t FROM PROGRAM 'awk ''BEGIN { for (i = 1; i <= 10000; i++) printf \"%d\\t%0400d\\n\", i, i }''';
         INSERT INTO t VALUES (10001, 'after')",
    );
    kill_at_random_bytes(&run, &proxy, &mut Random::new("pg_lsn_03"), 12, 3_900_000);
    wait_until_slot_is_free(&scenario.source);
    run.once_succeeds();
    let mut seen = HashMap::new();
    for event in events(&scenario.data_dir(), &scenario.topic("t")) {
        *seen.entry(value(&event)["after"]["id"].as_i64().expect("id")).or_insert(0) += 1;
    }
    let wrong: Vec<_> = (1..=10_001).filter(|id| seen.get(id) != Some(&1)).take(10).collect();
    assert!(wrong.is_empty(), "not exactly once in the log: {wrong:?}");
}

/// A run that ends tells the server before that how far the log has come, also where there was nothing to read: what a server is not told of it keeps,
/// and with a pipeline that runs now and then for good.
#[test]
fn a_run_that_ends_leaves_the_slot_where_the_log_ends() {
    let scenario = Scenario::new("last_position").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int)");
    let run = scenario.run(&scenario.pipeline());
    run.once_succeeds();
    for sql in ["INSERT INTO t VALUES (1), (2)", "INSERT INTO other SELECT generate_series(1, 1000)", "CHECKPOINT"] {
        scenario.source.exec(sql);
        let end = scenario.source.query("SELECT pg_current_wal_lsn()");
        run.once_succeeds();
        let slot = "pg_replication_slots WHERE database = current_database()";
        let confirmed = scenario.source.query(&format!("SELECT confirmed_flush_lsn, confirmed_flush_lsn >= '{end}' FROM {slot}"));
        assert!(confirmed.ends_with("|t"), "{sql}: the slot is told of {confirmed}, the log was read to {end}");
    }
}

/// A row with a low position arrives after rows with higher ones when its transaction ends later.
#[test]
fn pg_lsn_05_interleaved_transactions_survive_restarts() {
    let scenario = Scenario::new("pg_lsn_05").setup(&["t"], "CREATE TABLE t (id serial PRIMARY KEY, v text)");
    let run = scenario.run(&scenario.pipeline());
    for round in 0..5 {
        let mut long = scenario.source.session();
        long.exec("BEGIN; INSERT INTO t (v) SELECT 'long, early' FROM generate_series(1, 50)");
        let mut middle = scenario.source.session();
        middle.exec("BEGIN; INSERT INTO t (v) SELECT 'middle, early' FROM generate_series(1, 50)");
        // The first start waits for transactions that are open; they have to end before the slot has a consistent point.
        if round == 0 {
            long.exec("COMMIT; BEGIN");
            middle.exec("COMMIT; BEGIN");
        }
        let mut mainstem = run.start();
        if round == 0 {
            scenario.wait_until_drained(&mut mainstem);
            long.exec("INSERT INTO t (v) SELECT 'long, early' FROM generate_series(1, 50)");
            middle.exec("INSERT INTO t (v) SELECT 'middle, early' FROM generate_series(1, 50)");
        }
        for _ in 0..20 {
            scenario.source.exec("INSERT INTO t (v) SELECT 'short' FROM generate_series(1, 3)");
        }
        middle.exec("INSERT INTO t (v) VALUES ('middle, late'); COMMIT");
        wait_until("short transactions have arrived", || {
            scenario.warehouse.try_query("SELECT count(*) FROM t WHERE v = 'middle, late'") == Ok((round + 1).to_string())
        });
        mainstem.kill();
        long.exec("INSERT INTO t (v) VALUES ('long, late'); COMMIT");
        scenario.source.exec("UPDATE t SET v = v || '!' WHERE id % 7 = 0");
    }
    run.once_succeeds();
    scenario.assert_equal();
}

/// A change of key is two records; no crash leaves one of them alone.
#[test]
fn pg_lsn_07_a_change_of_key_is_never_halved() {
    let scenario = Scenario::new("pg_lsn_07").setup(
        &["t"],
        "CREATE TABLE t (id int PRIMARY KEY, n int, big text); ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
         INSERT INTO t SELECT i, 0, repeat(md5(i::text), 100) FROM generate_series(1, 2000) i",
    );
    let proxy = Proxy::to(PgServer::shared().port());
    let pipeline = through(&proxy, &scenario, "public.t").log("partitions: 4");
    let run = scenario.run(&pipeline).allow("");
    run.once_succeeds();
    // 2,000 changes of key in one transaction, the big column unchanged and so not sent; and some with it.
    scenario.source.exec("BEGIN; UPDATE t SET id = id + 100000, n = 1; UPDATE t SET id = id + 100000, big = repeat('y', 3000) WHERE id % 3 = 0; COMMIT");
    kill_at_random_bytes(&run, &proxy, &mut Random::new("pg_lsn_07"), 10, 1_900_000);
    wait_until_slot_is_free(&scenario.source);
    run.once_succeeds();
    let (mut removed, mut added) = (HashMap::new(), HashMap::new());
    for event in events(&scenario.data_dir(), &scenario.topic("t")) {
        let value = value(&event);
        if let Some(id) = value["after"]["id"].as_i64().filter(|id| *id > 100_000) {
            *added.entry(id).or_insert(0) += 1;
        } else if value["op"] == "d" {
            *removed.entry(value["before"]["id"].as_i64().expect("old key")).or_insert(0) += 1;
        }
    }
    let moves: i64 = 2000 + scenario.source.number("SELECT count(*) FROM t WHERE id > 200000");
    assert_eq!(added.values().sum::<i64>(), moves, "new halves");
    assert_eq!(removed.values().sum::<i64>(), moves, "old halves");
    assert!(added.values().chain(removed.values()).all(|count| *count == 1));
    // The sinks come later and give the same rows.
    scenario.run(&scenario.pipeline().log("partitions: 4")).once_succeeds();
    scenario.assert_equal();
}

/// Only tables that the pipeline does not read change: the slot has to move all the same.
#[test]
fn pg_lsn_13_an_idle_pipeline_keeps_no_wal() {
    let server = PgServer::start(PgVersion::V15);
    let scenario = Scenario::on(&server, "pg_lsn_13")
        .setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE TABLE other (v text)");
    let run = scenario.run(&scenario.pipeline());
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    for _ in 0..3 {
        scenario.source.exec("INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 5000)");
        scenario.wait_until_in_log(&mut mainstem);
    }
    wait_until("the slot keeps less than a segment and a bit", || {
        scenario.source.exec("CHECKPOINT");
        scenario.source.number("SELECT pg_current_wal_lsn() - restart_lsn FROM pg_replication_slots WHERE NOT temporary")
            < 4_000_000
    });
    mainstem.kill();
    scenario.source.exec("INSERT INTO t VALUES (2)");
    run.once_succeeds();
    scenario.assert_equal();
}

/// A server that crashed may have forgotten what its slot had confirmed: it sends again what is in the log already.
#[test]
fn pg_lsn_15_a_crashed_server_sends_again_and_nothing_is_repeated() {
    let server = PgServer::with_settings(PgVersion::V15, &[("checkpoint_timeout", "1h")]);
    let scenario = Scenario::on(&server, "pg_lsn_15").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY, v text)");
    let run = scenario.run(&scenario.pipeline()).allow("");
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    scenario.source.exec("INSERT INTO t SELECT i, 'before' FROM generate_series(1, 1000) i");
    scenario.wait_until_drained(&mut mainstem);
    server.stop("immediate");
    server.start_again();
    scenario.source.exec("INSERT INTO t SELECT i, 'after' FROM generate_series(1001, 1500) i");
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_equal();
    assert_eq!(events(&scenario.data_dir(), &scenario.topic("t")).len(), 1500, "events in the log");
}

/// The slot was dropped and made again while nobody looked: what lies between is gone, so going on would be a silent gap.
#[test]
fn pg_lsn_09_a_recreated_slot_stops_with_the_choices() {
    let scenario = Scenario::new("pg_lsn_09").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let run = scenario.run(&scenario.pipeline());
    run.once_succeeds();
    let slot = scenario.source.slots();
    scenario.source.exec(&format!("SELECT pg_drop_replication_slot('{slot}')"));
    let mut gone = run.clone().allow("").once();
    assert_eq!(gone.exit().and_then(|s| s.code()), Some(1), "a missing slot: {}", gone.log());
    assert!(gone.has_logged("resnapshot"), "the error does not say what to do:\n{}", gone.log());
    scenario.source.exec("INSERT INTO t VALUES (2)");
    scenario.source.exec(&format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    let mut ahead = run.clone().allow("").once();
    assert_eq!(ahead.exit().and_then(|s| s.code()), Some(1), "a slot ahead of the log: {}", ahead.log());
    assert!(ahead.has_logged("resnapshot"), "the error does not say what to do:\n{}", ahead.log());
    // The choice that the message names.
    let file = scenario.dir().join("pg_lsn_09.yaml");
    let data = scenario.data_dir();
    let output = run_command(["resnapshot".as_ref(), "--data-dir".as_ref(), data.as_os_str(), file.as_os_str()]);
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    scenario.source.exec("INSERT INTO t VALUES (3); DELETE FROM t WHERE id = 1");
    run.once_succeeds();
    scenario.assert_equal();
}

/// The server needed the room more than the slot: what the slot kept is gone. A runtime that looks on sees it, and so does one that starts.
#[test]
fn pg_slot_01_an_invalidated_slot_stops_with_the_choices() {
    let settings = [("max_slot_wal_keep_size", "1MB"), ("max_wal_size", "32MB"), ("min_wal_size", "32MB")];
    let server = PgServer::with_settings(PgVersion::V15, &settings);
    let scenario =
        Scenario::on(&server, "pg_slot_01").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let run = scenario.run(&scenario.pipeline());
    run.once_succeeds();
    let lost = || scenario.source.query("SELECT wal_status FROM pg_replication_slots") == "lost";
    scenario.source.exec("INSERT INTO t VALUES (2)");
    wait_until("the server gives the slot up", || {
        scenario.source.exec("CREATE TABLE IF NOT EXISTS noise (v text); TRUNCATE noise");
        scenario.source.exec("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 20000)");
        scenario.source.exec("SELECT pg_switch_wal()");
        scenario.source.exec("CHECKPOINT");
        lost()
    });
    let mut mainstem = run.clone().allow("invalidated").start();
    mainstem.wait_for_state("pg_slot_01", "stopped");
    let error = mainstem.pipeline("pg_slot_01")["error"].as_str().unwrap_or_default().to_owned();
    for part in ["max_slot_wal_keep_size", "resnapshot"] {
        assert!(error.contains(part), "the error does not say `{part}`: {error}");
    }
    assert!(lost(), "the slot was made anew in silence");
    mainstem.stop();
    let file = scenario.dir().join("pg_slot_01.yaml");
    let check = run_command(["check".as_ref(), "--data-dir".as_ref(), scenario.data_dir().as_os_str(), file.as_os_str()]);
    assert!((check.stdout.clone() + &check.stderr).contains("invalidated"), "{}{}", check.stdout, check.stderr);
    // The choice that the message names.
    let data = scenario.data_dir();
    let output = run_command(["resnapshot".as_ref(), "--data-dir".as_ref(), data.as_os_str(), file.as_os_str()]);
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    scenario.source.exec("INSERT INTO t VALUES (3); DELETE FROM t WHERE id = 1");
    run.once_succeeds();
    scenario.assert_equal();
}
