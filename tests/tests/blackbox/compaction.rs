//! What later changes of the same row make superfluous leaves the log, and every sink ends up with what the source has.

use mainstem_tests::{
    MINUTE, Mainstem, PgServer, PgVersion, Scenario, compare_sqlite, compare_warehouse, run_command, table, wait_until_for,
};
use serde_json::Value;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, big text);
    ALTER TABLE t ALTER big SET STORAGE EXTERNAL;
    INSERT INTO t SELECT i, 0, repeat(md5(i::text), 100) FROM generate_series(1, 60) i";

/// The same rows again and again; the big column is not sent with most of the changes, not even where the key changes.
fn change(scenario: &Scenario, round: u32) {
    let source = &scenario.source;
    source.exec("UPDATE t SET n = n + 1");
    source.exec(&format!("UPDATE t SET big = repeat(md5('{round}' || id), 100) WHERE id % 3 <> 0"));
    let moved = 1000 + round;
    source.exec(&format!("UPDATE t SET id = {moved}, n = -{round} WHERE id = {round}"));
    source.exec(&format!("UPDATE t SET id = {} WHERE id = {}", moved + 1000, 30 + round));
    source.exec(&format!("UPDATE t SET big = 'whole' WHERE id = {}", moved + 1000));
    source.exec(&format!("INSERT INTO t VALUES ({round}, {round}, 'again')"));
    source.exec(&format!("DELETE FROM t WHERE id IN ({}, {})", 20 + round % 9, moved - 3));
}

/// How many of the topic's segments are compacted.
fn compacted_segments(scenario: &Scenario) -> usize {
    let data = scenario.data_dir();
    let topic = scenario.topic("t");
    let arguments =
        ["log".as_ref(), "describe".as_ref(), topic.as_ref(), "--json".as_ref(), "--data-dir".as_ref(), data.as_os_str()];
    let described: Value = serde_json::from_str(&run_command(arguments).stdout).expect("a description of the topic");
    let partitions = described["partitions"].as_array().expect("partitions");
    let segments = partitions.iter().flat_map(|partition| partition["segments"].as_array().expect("segments"));
    segments.filter(|segment| segment["compacted"] == true).count()
}

/// How often records have gone.
fn compactions(mainstem: &Mainstem) -> usize {
    mainstem.log().matches("\"compacted\"").count()
}

#[test]
fn sinks_that_are_behind_or_come_later_end_up_with_what_the_source_has() {
    let scenario = Scenario::new("compaction").setup(&["t"], TABLE);
    let server = PgServer::start(PgVersion::V15);
    let target = server.create_database("dw");
    let ahead = scenario.dir().join("ahead.db");
    let log = "partitions: 2, segment: 64KiB, cleanup: compact, \
               compaction: { tombstone_age: 2s, rate: 1GiB, memory: 64KiB, min_dirty_percent: 10 }";
    let pipeline = scenario.bare_pipeline().log(log).upsert("behind", &target.url());
    let pipeline = pipeline.upsert("ahead", &format!("jdbc:sqlite:{}", ahead.display()));
    let mut mainstem = scenario.run(&pipeline).allow("").start();
    scenario.wait_until_drained(&mut mainstem);
    for round in 1..=3 {
        change(&scenario, round);
    }
    scenario.wait_until_drained(&mut mainstem);

    // One of them is away while the log loses most of its bytes, and a good many deletes.
    server.stop("fast");
    let before = compactions(&mainstem);
    for round in 4..=9 {
        change(&scenario, round);
    }
    scenario.wait_until_in_log(&mut mainstem);
    wait_until_for(MINUTE, "the log is compacted", || compactions(&mainstem) > before && compacted_segments(&scenario) >= 2);
    server.start_again();
    scenario.wait_until_drained(&mut mainstem);
    let table = table(&scenario.source, "public", "t");
    compare_warehouse(&table, &scenario.source, &target);
    compare_sqlite(&table, &scenario.source, &ahead);

    // Now that all have them, old deletes may go too; some changes come after that.
    let before = compactions(&mainstem);
    for round in 10..=14 {
        change(&scenario, round);
    }
    scenario.wait_until_drained(&mut mainstem);
    wait_until_for(MINUTE, "the log is compacted again", || compactions(&mainstem) > before);
    mainstem.stop();
    let late = scenario.dir().join("late.db");
    let settings = format!("from: log_start\n    jdbc: {{ url: \"jdbc:sqlite:{}\", mode: upsert }}", late.display());
    let lake = format!("from: log_start\n    files: {{ url: \"file://{}\" }}", scenario.lake().display());
    let with_late = pipeline.sink("late", &settings).sink("lake", &lake);
    scenario.run(&with_late).once_succeeds();
    for file in [&ahead, &late] {
        compare_sqlite(&table, &scenario.source, file);
    }
    compare_warehouse(&table, &scenario.source, &target);
    scenario.assert_lake_equal();
    let data = scenario.data_dir();
    let verified = run_command(["log".as_ref(), "verify".as_ref(), "--data-dir".as_ref(), data.as_os_str()]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
}
