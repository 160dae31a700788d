//! The source's server goes away for long. A file of its own, whose name puts it first: it waits more than it works.

use std::time::Instant;

use mainstem_tests::{MINUTE, PgServer, PgVersion, Pipeline, Scenario, wait_until, wait_until_for};

#[test]
fn a_server_that_is_gone_for_a_minute_is_waited_for() {
    let server = PgServer::start(PgVersion::V15);
    let scenario =
        Scenario::on(&server, "server_gone").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let shared = PgServer::shared().create_database("server_gone_other");
    shared.exec("CREATE TABLE u (id int PRIMARY KEY); INSERT INTO u VALUES (1)");
    let target = PgServer::shared().create_database("server_gone_dw");
    // The targets are on another server, which stays.
    let pipeline = scenario.bare_pipeline().files("lake", &scenario.lake()).upsert("warehouse", &target.url());
    let other = Pipeline::postgres("server_gone_other", &shared.url(), &["public.u"]).upsert("warehouse", &target.url());
    let run = scenario.run(&pipeline).file(other.write(scenario.dir())).allow("");
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    for (mode, absence) in [("immediate", MINUTE / 20), ("fast", MINUTE)] {
        let stopped = Instant::now();
        server.stop(mode);
        wait_until("the loss is seen", || mainstem.pipeline("server_gone")["state"] != "running");
        assert!(mainstem.pipeline("server_gone")["error"].is_string(), "{}", mainstem.pipeline("server_gone"));
        // The other pipeline goes on meanwhile.
        shared.exec("INSERT INTO u SELECT max(id) + 1 FROM u");
        let end = shared.wal_end();
        wait_until("the other pipeline goes on", || shared.confirmed().is_some_and(|confirmed| confirmed >= end));
        wait_until_for(2 * absence, "the absence lasted long enough", || stopped.elapsed() >= absence);
        server.start_again();
        scenario.source.exec("INSERT INTO t SELECT max(id) + 1 FROM t");
        // It tries at least every half minute.
        wait_until_for(MINUTE, "the pipeline is back", || mainstem.pipeline("server_gone")["state"] == "running");
        scenario.source.exec("INSERT INTO t SELECT max(id) + 1 FROM t");
        scenario.wait_until_drained(&mut mainstem);
    }
    mainstem.stop();
    scenario.assert_lake_equal();
    mainstem_tests::compare_warehouse(&mainstem_tests::table(&scenario.source, "public", "t"), &scenario.source, &target);
    assert_eq!(target.query("SELECT count(*) FROM u"), "3");
}
