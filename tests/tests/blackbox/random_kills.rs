//! Fifty kills at random moments while clients write.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use mainstem_tests::{Database, PgServer, PgVersion, Random, Scenario, compare_sqlite, table};

use crate::positions::{events, value};

const TABLES: &str =
    "CREATE TABLE accounts (id int PRIMARY KEY, balance numeric(12,2) NOT NULL, note text, changed timestamptz DEFAULT now());
    ALTER TABLE accounts ALTER note SET STORAGE EXTERNAL;
    INSERT INTO accounts SELECT i, 100, repeat(md5(i::text), 100) FROM generate_series(1, 500) i;
    CREATE TABLE moves (id bigserial PRIMARY KEY, writer int, n int, amount numeric(12,2));
    CREATE TABLE sessions (id int, device text, seen timestamptz, tags text[], PRIMARY KEY (device, id));";

/// One client: transfers, inserts, deletes, changes of key, rolled-back work, now and then a truncate.
fn work(database: &Database, writer: u64, seed: u64, stop: &AtomicBool) {
    let mut random = Random::from_seed(seed);
    let mut session = database.session();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let (a, b) = (1 + random.below(500), 1 + random.below(500));
        let amount = 1 + random.below(999);
        let body = match random.below(10) {
            0..=4 => format!(
                "UPDATE accounts SET balance = balance - {amount} / 100.0, changed = clock_timestamp() WHERE id = {a};
                 UPDATE accounts SET balance = balance + {amount} / 100.0 WHERE id = {b}"
            ),
            5 => format!("UPDATE accounts SET note = repeat(md5('{n}'), {amount}) WHERE id = {a}"),
            6 => format!(
                "INSERT INTO sessions SELECT i, 'phone {writer}', now(), ARRAY['a', NULL] FROM generate_series({a}, {a} + 5) i ON CONFLICT DO NOTHING"
            ),
            7 => format!(
                "UPDATE sessions SET id = -id - {n} * 1000 WHERE device = 'phone {writer}' AND id > 0 AND id % 7 = {}",
                amount % 7
            ),
            8 => format!("DELETE FROM sessions WHERE device = 'phone {writer}' AND id % 5 = {}", amount % 5),
            _ => format!("SAVEPOINT s; UPDATE accounts SET balance = -1 WHERE id = {a}; ROLLBACK TO s"),
        };
        let truncate = if writer == 1 && n % 150 == 0 { "TRUNCATE sessions;" } else { "" };
        // Account rows are locked in no fixed order, so two clients may deadlock: one table lock keeps the load simple.
        session.exec(&format!(
            "BEGIN; LOCK TABLE accounts, sessions IN EXCLUSIVE MODE; {truncate} INSERT INTO moves (writer, n, amount) VALUES ({writer}, {n}, {amount}); {body}; COMMIT"
        ));
    }
}

#[test]
fn fifty_random_kills_under_load() {
    let server = PgServer::start(PgVersion::V15);
    let scenario = Scenario::on(&server, "random_kills").setup(&["accounts", "moves", "sessions"], TABLES);
    let sqlite = scenario.dir().join("warehouse.db");
    let mut random = Random::new("fifty_random_kills_under_load");
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (1..=3)
        .map(|writer| {
            let (database, stop, seed) = (scenario.source.clone(), Arc::clone(&stop), random.bits());
            thread::spawn(move || work(&database, writer, seed, &stop))
        })
        .collect();
    let pipeline = scenario.pipeline().upsert("embedded", &format!("jdbc:sqlite:{}", sqlite.display()));
    let run = |durability: &str| {
        let log = format!("partitions: 2, durability: {durability}");
        scenario.run(&pipeline.clone().log(&log))
    };
    for round in 0..50 {
        let run = run(["fsync", "interval(100ms)"][round % 2]);
        let mainstem = run.clone().allow("").start();
        thread::sleep(Duration::from_millis(if round % 10 == 0 { 2500 } else { random.below(700) }));
        mainstem.kill();
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("client");
    }
    // The old connection may still be there for a moment.
    let mut mainstem = run("fsync").allow("is active").start();
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_equal();
    for name in ["accounts", "moves", "sessions"] {
        compare_sqlite(&table(&scenario.source, "public", name), &scenario.source, &sqlite);
    }
    // Rows of this table are only ever inserted: each is in the log exactly once, or more than once only where a snapshot was voided.
    let mut seen: HashMap<(u64, i64), u32> = HashMap::new();
    for event in events(&scenario.data_dir(), &scenario.topic("moves")) {
        // One partition comes after the other, each with a barrier of its own.
        let partition = event["partition"].as_u64().expect("partition");
        match value(&event)["op"].as_str() {
            Some("s") => seen.retain(|(other, _), _| *other != partition),
            _ => *seen.entry((partition, value(&event)["after"]["id"].as_i64().expect("id"))).or_default() += 1,
        }
    }
    let twice: Vec<_> = seen.iter().filter(|(_, count)| **count != 1).take(5).collect();
    assert!(twice.is_empty(), "in the log more than once: {twice:?}");
    assert_eq!(seen.len() as i64, scenario.source.number("SELECT count(*) FROM moves"));
}
