//! No room for the log, and then room again.

use mainstem_tests::{Scenario, SmallDisk, wait_until};

/// Random text, so that no compression makes it fit: some 4 MB.
const MORE: &str = "INSERT INTO t (v) SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 20000) i, generate_series(1, 6) GROUP BY i";

#[test]
fn log_disk_02_a_full_disk_is_waited_for_and_nothing_is_lost() {
    let disk = SmallDisk::new(48);
    let scenario = Scenario::new("log_disk_02").with_data_dir(disk.path().join("data")).setup(
        &["t", "u"],
        "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'snapshot' FROM generate_series(1, 100);
         CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)",
    );
    let run = scenario.run(&scenario.pipeline()).allow("No space left on device").allow("log_core::recovery");
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    disk.fill_up_to(1);
    let durable = scenario.source.confirmed();
    scenario.source.exec(MORE);
    let end = scenario.source.wal_end();
    wait_until("the full disk is seen", || {
        let status = mainstem.pipeline("log_disk_02");
        status["state"] == "retrying" && status["error"].as_str().is_some_and(|error| error.contains("No space left on device"))
    });
    assert!(scenario.source.confirmed() < Some(end), "confirmed {durable:?} before, and now what no log holds");
    // It stays so for a while, and so does a runtime that starts then.
    let complaints = || mainstem.log().matches("No space left on device").count();
    wait_until("it tries again", || complaints() >= 4);
    mainstem.kill();
    let mut mainstem = run.start();
    scenario.source.exec("UPDATE u SET id = 2");
    wait_until("the full disk is seen again", || mainstem.has_logged("No space left on device"));
    assert!(!mainstem.has_ended(), "{}", mainstem.log());
    assert!(scenario.source.confirmed() < Some(end));

    disk.make_room();
    scenario.wait_until_drained(&mut mainstem);
    scenario.source.exec("INSERT INTO t (v) VALUES ('after')");
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_equal();
    let events = super::positions::events(&scenario.data_dir(), &scenario.topic("t")).len();
    assert_eq!(events as i64, scenario.source.number("SELECT count(*) FROM t"), "events in the log");
}
