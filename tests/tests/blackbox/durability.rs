//! Commits that are synced together: `log: { durability: interval(…) }`.

use std::{fs, thread, time::Duration};

use mainstem_tests::{Scenario, wait_until};

use crate::positions::{events, value};

fn journal_holds(scenario: &Scenario, text: &str) -> bool {
    let dir = scenario.data_dir().join("journals").join(&scenario.name);
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let holds = |bytes: Vec<u8>| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    files.map(|file| fs::read(file.path()).unwrap_or_default()).any(holds)
}

fn insert(scenario: &Scenario, text: &str) {
    scenario.source.exec(&format!("INSERT INTO t (v) VALUES ('{text}')"));
    wait_until(&format!("the journal holds `{text}`"), || journal_holds(scenario, text));
}

fn times_in_log(scenario: &Scenario, text: &str) -> usize {
    let events = events(&scenario.data_dir(), &scenario.topic("t"));
    events.iter().filter(|event| value(event)["after"]["v"] == text).count()
}

/// What is not synced is not shown to sinks and not confirmed to the server; a kill and a stop lose nothing of it.
#[test]
fn an_interval_delays_and_loses_nothing() {
    let scenario = Scenario::new("durability")
        .setup(&["t"], "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) VALUES ('snapshot')");
    let run = scenario.run(&scenario.pipeline().log("durability: interval(60s)"));
    run.once_succeeds();
    scenario.assert_equal();

    let mainstem = run.clone().allow("").start();
    // The first commit is synced at once, the next one waits for a minute.
    insert(&scenario, "the-first");
    let before = scenario.source.wal_end();
    insert(&scenario, "not-synced");
    // Time in which it must not show.
    thread::sleep(Duration::from_millis(700));
    assert_eq!(scenario.warehouse.query("SELECT count(*) FROM t WHERE v = 'not-synced'"), "0");
    let confirmed = scenario.source.confirmed().expect("a slot");
    assert!(confirmed <= before, "{confirmed} is confirmed, but what came after {before} is not synced");
    mainstem.kill();

    let mainstem = run.clone().allow("is active").start();
    wait_until("the warehouse has what the kill left", || {
        scenario.warehouse.query("SELECT count(*) FROM t WHERE v = 'not-synced'") == "1"
    });
    insert(&scenario, "again-the-first");
    insert(&scenario, "before-the-stop");
    mainstem.stop();
    assert_eq!(times_in_log(&scenario, "before-the-stop"), 1, "a stop syncs");

    run.once_succeeds();
    scenario.assert_equal();
    for text in ["the-first", "not-synced", "again-the-first", "before-the-stop"] {
        assert_eq!(times_in_log(&scenario, text), 1, "{text}");
    }
}
