//! Columns that the server did not send, changes of key, truncates; on several partitions too.

use mainstem_tests::{Scenario, compare_sqlite, table};

const BIG: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, a text, b bytea, c jsonb, d uuid[], e int[], f date[], g bytea[]);
    ALTER TABLE t ALTER a SET STORAGE EXTERNAL, ALTER b SET STORAGE EXTERNAL, ALTER c SET STORAGE EXTERNAL, ALTER d SET STORAGE EXTERNAL,
        ALTER e SET STORAGE EXTERNAL, ALTER f SET STORAGE EXTERNAL, ALTER g SET STORAGE EXTERNAL;
    CREATE FUNCTION fill(n int) RETURNS SETOF t LANGUAGE sql AS $$
        SELECT i, 0, repeat(md5(i::text), 200), decode(repeat(md5(i::text), 200), 'hex'), jsonb_build_object('k', repeat(md5(i::text), 200)),
            array_fill(md5(i::text)::uuid, ARRAY[500]), array_fill(i, ARRAY[2000]), array_fill(date '2020-01-01' + i, ARRAY[2000]),
            array_fill(decode(md5(i::text), 'hex'), ARRAY[300])
        FROM generate_series(1, n) i $$;
    INSERT INTO t SELECT * FROM fill(20);";

/// Changes of every kind to the table of [`BIG`], each leaving some of the big columns unsent.
fn change(scenario: &Scenario) {
    let source = &scenario.source;
    source.exec("UPDATE t SET n = n + 1");
    source.exec("BEGIN; UPDATE t SET n = 10 WHERE id = 1; UPDATE t SET a = repeat('B', 5000), n = 11 WHERE id = 1; UPDATE t SET n = 12 WHERE id = 1; COMMIT");
    source.exec("UPDATE t SET a = NULL WHERE id = 2; UPDATE t SET n = 20 WHERE id = 2");
    // Key changes with unchanged big columns: alone, in a chain, back, and onto a key that was just deleted.
    source.exec("UPDATE t SET id = 103, n = 30 WHERE id = 3");
    source.exec("BEGIN; UPDATE t SET id = 104 WHERE id = 4; UPDATE t SET n = 40 WHERE id = 104; UPDATE t SET id = 204 WHERE id = 104; COMMIT");
    source.exec("BEGIN; UPDATE t SET id = 105 WHERE id = 5; UPDATE t SET id = 5 WHERE id = 105; COMMIT");
    source
        .exec("BEGIN; DELETE FROM t WHERE id = 6; UPDATE t SET id = 6 WHERE id = 7; INSERT INTO t (id, n) VALUES (7, 70); COMMIT");
    source.exec(
        "BEGIN; UPDATE t SET id = 1000 WHERE id = 8; UPDATE t SET id = 8 WHERE id = 9; UPDATE t SET id = 9 WHERE id = 1000; COMMIT",
    );
    source.exec("BEGIN; UPDATE t SET id = 110 WHERE id = 10; DELETE FROM t WHERE id = 110; COMMIT");
    source.exec("BEGIN; INSERT INTO t (id, a) VALUES (300, repeat('z', 9000)); UPDATE t SET n = 1 WHERE id = 300; UPDATE t SET id = 301 WHERE id = 300; COMMIT");
}

fn run_changes(scenario: &Scenario, log: &str) {
    let sqlite = scenario.dir().join("warehouse.db");
    let run = scenario.run(&scenario.pipeline().upsert("embedded", &format!("jdbc:sqlite:{}", sqlite.display())).log(log));
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    change(scenario);
    scenario.wait_until_drained(&mut mainstem);
    scenario.assert_equal();
    // And all of it in one batch after the runtime was away.
    mainstem.kill();
    scenario.source.exec("TRUNCATE t; INSERT INTO t SELECT * FROM fill(20)");
    change(scenario);
    run.once_succeeds();
    scenario.assert_equal();
    compare_sqlite(&table(&scenario.source, "public", "t"), &scenario.source, &sqlite);
}

#[test]
fn pg_ri_01_and_03_unchanged_columns_keep_their_values() {
    run_changes(&Scenario::new("pg_ri_01").setup(&["t"], BIG), "format: avro");
}

#[test]
fn pg_ri_01_in_json() {
    run_changes(&Scenario::new("pg_ri_01_json").setup(&["t"], BIG), "format: json, tombstones: true");
}

#[test]
fn pg_ri_02_replica_identity_full() {
    run_changes(&Scenario::new("pg_ri_02").setup(&["t"], &format!("{BIG} ALTER TABLE t REPLICA IDENTITY FULL")), "format: avro");
}

#[test]
fn key_changes_with_unchanged_columns_on_four_partitions() {
    run_changes(&Scenario::new("keys_on_4").setup(&["t"], BIG), "partitions: 4");
}

#[test]
fn a_truncate_on_four_partitions_voids_what_came_before_and_nothing_else() {
    let scenario = Scenario::new("truncate_on_4").setup(
        &["a", "b"],
        "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY REFERENCES a, v text);
         INSERT INTO a SELECT i, 'old' FROM generate_series(1, 500) i; INSERT INTO b SELECT i, 'old' FROM generate_series(1, 500) i",
    );
    let run = scenario.run(&scenario.pipeline().log("partitions: 4"));
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    let both = |from: i32, to: i32, v: &str| {
        format!(
            "INSERT INTO a SELECT i, '{v}' FROM generate_series({from}, {to}) i; INSERT INTO b SELECT i, '{v}' FROM generate_series({from}, {to}) i;"
        )
    };
    scenario.source.exec(&format!("BEGIN; {} TRUNCATE a CASCADE; {} COMMIT", both(501, 600, "voided"), both(1, 100, "new")));
    scenario.source.exec(&both(101, 150, "later"));
    scenario.wait_until_drained(&mut mainstem);
    scenario.assert_equal();
    mainstem.kill();
    for round in 0..4 {
        scenario.source.exec(&format!(
            "BEGIN; TRUNCATE b; TRUNCATE a CASCADE; {} COMMIT; {}",
            both(1, 40 + round, "x"),
            both(1000, 1100, "y")
        ));
    }
    scenario.source.exec("TRUNCATE b");
    run.once_succeeds();
    scenario.assert_equal();
}

#[test]
fn sink_db_02_a_batch_is_applied_in_order() {
    let scenario = Scenario::new("sink_db_02")
        .setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')");
    let sqlite = scenario.dir().join("warehouse.db");
    let run = scenario.run(&scenario.pipeline().upsert("embedded", &format!("jdbc:sqlite:{}", sqlite.display())));
    run.once_succeeds();
    scenario
        .source
        .exec("BEGIN; UPDATE t SET v = 'a1' WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, 'b1'); COMMIT");
    scenario.source.exec("INSERT INTO t VALUES (4, 'x')");
    scenario.source.exec("DELETE FROM t WHERE id = 4");
    scenario.source.exec("INSERT INTO t VALUES (4, 'y'); ");
    scenario.source.exec("BEGIN; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (3, 'c1'); DELETE FROM t WHERE id = 3; COMMIT");
    scenario.source.exec("BEGIN; INSERT INTO t VALUES (5, 'x'); DELETE FROM t WHERE id = 5; INSERT INTO t VALUES (5, 'z'); UPDATE t SET v = v || v WHERE id = 5; COMMIT");
    run.once_succeeds();
    scenario.assert_equal();
    compare_sqlite(&table(&scenario.source, "public", "t"), &scenario.source, &sqlite);
    assert_eq!(scenario.warehouse.query("SELECT string_agg(id || v, ' ' ORDER BY id) FROM t"), "1a1 2b1 4y 5zz");
}
