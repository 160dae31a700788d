//! Where the snapshot ends and the stream begins: no row is missed, none is taken twice, whoever writes and whatever breaks.

use std::thread;

use mainstem_tests::{PgServer, Pipeline, Proxy, Random, Scenario, wait_until};

#[test]
fn pg_snap_01_a_transaction_that_is_open_at_the_start() {
    let scenario = Scenario::new("pg_snap_01").setup(
        &["t"],
        "CREATE TABLE t (id serial PRIMARY KEY, writer int, v int); INSERT INTO t (writer, v) SELECT 0, i FROM generate_series(1, 20000) i",
    );
    let mut open = scenario.source.session();
    open.exec("BEGIN; INSERT INTO t (writer, v) VALUES (-1, 1); UPDATE t SET v = -v WHERE id <= 10");
    let writers: Vec<_> = (1..=16)
        .map(|writer| {
            let database = scenario.source.clone();
            thread::spawn(move || {
                for _ in 0..25 {
                    database.exec(&format!(
                        "DO $$ BEGIN FOR i IN 1..10 LOOP INSERT INTO t (writer, v) VALUES ({writer}, i); UPDATE t SET v = v + 1 WHERE id = {writer} * 100 + i;
                         DELETE FROM t WHERE id = 10000 + {writer} * 100 + i; COMMIT; END LOOP; END $$"
                    ));
                }
            })
        })
        .collect();
    let run = scenario.run(&scenario.pipeline());
    let mut mainstem = run.start();
    // Creating a slot waits for the transactions that are open.
    wait_until("the slot is being created", || !scenario.source.slots().is_empty());
    open.exec("INSERT INTO t (writer, v) VALUES (-1, 2); COMMIT");
    for writer in writers {
        writer.join().expect("writer");
    }
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_equal();
    assert_eq!(scenario.warehouse.query("SELECT count(*) FROM t WHERE writer = -1"), "2");
}

#[test]
fn pg_snap_03_killed_and_cut_in_the_middle_of_a_copy() {
    let scenario = Scenario::new("pg_snap_03").setup(
        &["small", "t"],
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 200000) i;
         CREATE TABLE small (id int PRIMARY KEY, v text); INSERT INTO small SELECT i, 's' FROM generate_series(1, 100) i",
    );
    let proxy = Proxy::to(PgServer::shared().port());
    let tables = ["public.small", "public.t"];
    let pipeline = Pipeline::postgres(&scenario.name, &scenario.source.url_at(proxy.port()), &tables)
        .files("lake", &scenario.lake())
        .upsert("warehouse", &scenario.warehouse.url());
    let run = scenario.run(&pipeline).allow("");
    let mut random = Random::new("pg_snap_03");
    for round in 0..3 {
        // The whole copy is about 23 MB.
        proxy.stall_after(3_000_000 + random.below(15_000_000));
        let mainstem = run.start();
        wait_until("the copy is under way", || proxy.is_stalled());
        scenario.source.exec(&format!(
            "UPDATE t SET v = 'changed {round}' WHERE id % 1000 = {round}; DELETE FROM t WHERE id % 1000 = 500 + {round};
             INSERT INTO t VALUES (1000000 + {round}, 'new'); UPDATE small SET v = 'changed {round}' WHERE id = {round}"
        ));
        mainstem.kill();
        proxy.cut();
        proxy.stall(false);
    }
    // Now the server ends the copying connections instead: the runtime starts over by itself.
    proxy.stall_after(3_000_000 + random.below(15_000_000));
    let mut mainstem = run.start();
    wait_until("the copy is under way", || proxy.is_stalled());
    scenario.source.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'COPY%' AND pid <> pg_backend_pid()");
    proxy.stall(false);
    scenario.source.exec("INSERT INTO t VALUES (1000100, 'new')");
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_equal();
    assert_eq!(
        scenario.source.number("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()"),
        1,
        "temporary slots are left"
    );
}
