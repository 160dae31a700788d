//! One transaction of two million rows, and kills in the middle of it.

use mainstem_tests::{PgServer, PgVersion, Scenario, wait_until};

#[test]
fn two_million_rows_in_one_transaction_with_kills() {
    let server = PgServer::start(PgVersion::V15);
    let scenario = Scenario::on(&server, "big_transaction")
        .setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY, n bigint, v text); INSERT INTO t VALUES (0, 0, 'first')");
    let pipeline = scenario
        .bare_pipeline()
        .sink("lake", &format!("files: {{ url: \"file://{}\", roll: {{ bytes: 16MiB, age: 2s }} }}", scenario.lake().display()));
    let run = scenario.run(&pipeline);
    run.once_succeeds();
    let mut other = scenario.source.session();
    other.exec("BEGIN; INSERT INTO t VALUES (-1, 0, 'open all along')");
    scenario.source.exec("INSERT INTO t SELECT i, i * 3, 'row ' || i FROM generate_series(1, 2000000) i");
    other.exec("COMMIT");
    scenario.source.exec("UPDATE t SET v = 'changed' WHERE id % 100000 = 0");
    let rows = |mainstem: &mainstem_tests::Mainstem| mainstem.pipeline("big_transaction")["records"].as_u64().unwrap_or(0);
    let mut peak = 0;
    for part in [300_000, 900_000] {
        let mut mainstem = run.clone().allow("").start();
        wait_until("part of the transaction is in the log", || {
            assert!(!mainstem.has_ended(), "{}", mainstem.log());
            let in_log = rows(&mainstem);
            assert!(in_log < 2_000_000, "the runtime was too fast to be killed in the middle");
            in_log >= part
        });
        peak = peak.max(mainstem.memory_kib("VmHWM"));
        mainstem.kill();
    }
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    peak = peak.max(mainstem.memory_kib("VmHWM"));
    mainstem.stop();
    scenario.assert_lake_equal();
    assert!(peak < 256 << 10, "peak memory {} MiB", peak >> 10);
}
