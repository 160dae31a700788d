//! A thousand tables, interleaved row by row.

use std::{thread, time::Duration};

use mainstem_tests::{Database, PgServer, PgVersion, Random, Scenario, compare_parquet, table};

const TABLES: usize = 1000;

/// For every table: how many rows, and a sum over the text of all of them.
fn sums(database: &Database) -> Vec<String> {
    let parts: Vec<String> =
        (0..TABLES).map(|i| format!("SELECT {i} AS i, count(*) AS n, sum(hashtext(t::text)::bigint) AS h FROM t_{i} t")).collect();
    // A query over all tables at once would hold more locks than a server allows by default.
    parts
        .chunks(50)
        .flat_map(|chunk| {
            database.query(&format!("{} ORDER BY 1", chunk.join(" UNION ALL "))).lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn a_thousand_tables_interleaved_with_kills() {
    let server = PgServer::with_settings(PgVersion::V15, &[("max_locks_per_transaction", "256")]);
    let scenario = Scenario::on(&server, "many_tables");
    scenario.source.exec(&format!(
        "DO $$ BEGIN FOR i IN 0..{} LOOP EXECUTE format('CREATE TABLE t_%s (id int PRIMARY KEY, v text)', i);
         EXECUTE format('INSERT INTO t_%s VALUES (0, ''first'')', i); END LOOP; END $$",
        TABLES - 1
    ));
    let pipeline = mainstem_tests::Pipeline::postgres("many_tables", &scenario.source.url(), &["public.*"])
        .files("lake", &scenario.lake())
        .upsert("warehouse", &scenario.warehouse.url());
    // Each transaction touches 500 tables, a row at a time, in an order of its own.
    let database = scenario.source.clone();
    let writer = thread::spawn(move || {
        for round in 1..=30 {
            database.exec(&format!(
                "DO $$ DECLARE i int; BEGIN FOR i IN SELECT (n * 7919 + {round} * 13) % {TABLES} FROM generate_series(1, 500) n LOOP
                 EXECUTE format('INSERT INTO t_%s VALUES ({round}, %L) ON CONFLICT (id) DO UPDATE SET v = excluded.v', i, 'round {round} of ' || i);
                 IF i % 5 = 0 THEN EXECUTE format('UPDATE t_%s SET v = v || ''!'' WHERE id = 0', i); END IF;
                 IF i % 11 = 0 THEN EXECUTE format('DELETE FROM t_%s WHERE id = {round} - 1', i); END IF; END LOOP; END $$"
            ));
        }
    });
    let run = scenario.run(&pipeline);
    let mut random = Random::new("many_tables");
    for _ in 0..3 {
        let mainstem = run.clone().allow("").start();
        thread::sleep(Duration::from_millis(1500 + random.below(2500)));
        mainstem.kill();
    }
    let mut mainstem = run.start();
    writer.join().expect("writer");
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    let (want, got) = (sums(&scenario.source), sums(&scenario.warehouse));
    assert_eq!(want.len(), TABLES);
    let different: Vec<_> = want.iter().zip(&got).filter(|(a, b)| a != b).take(5).collect();
    assert!(different.is_empty(), "source / warehouse: {different:?}");
    for _ in 0..8 {
        let name = format!("t_{}", random.below(TABLES as u64));
        compare_parquet(&table(&scenario.source, "public", &name), &scenario.source, &scenario.lake(), &scenario.topic(&name));
    }
}
