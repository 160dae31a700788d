//! The source's server goes away, refuses, stalls, or does not let us in.

use mainstem_tests::{PgServer, PgVersion, Pipeline, Proxy, Scenario, run_command, wait_until};

/// The connection is there and nothing comes; then it is cut. Nothing is lost and nothing repeated.
#[test]
fn pg_net_01_stalled_and_flapping_connections() {
    let scenario = Scenario::new("pg_net_01").setup(&["t"], "CREATE TABLE t (id serial PRIMARY KEY, v text)");
    let proxy = Proxy::to(PgServer::shared().port());
    let pipeline = Pipeline::postgres(&scenario.name, &scenario.source.url_at(proxy.port()), &["public.t"])
        .files("lake", &scenario.lake())
        .upsert("warehouse", &scenario.warehouse.url());
    let mut mainstem = scenario.run(&pipeline).allow("").start();
    scenario.wait_until_drained(&mut mainstem);
    for round in 0..5 {
        scenario.source.exec(&format!("INSERT INTO t (v) SELECT repeat('x', 500) FROM generate_series(1, 500); UPDATE t SET v = 'round {round}' WHERE id % 50 = {round}"));
        proxy.stall_after(50_000);
        wait_until("the connection stalls", || proxy.is_stalled());
        // Not each time: every failure doubles the pause before the next attempt.
        proxy.refuse(round < 2);
        proxy.cut();
        proxy.stall(false);
        wait_until("it comes back and is sent away", || round >= 2 || proxy.refused() > 0);
        proxy.refuse(false);
    }
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_equal();
}

#[test]
fn wrong_passwords_and_missing_rights_say_what_to_do() {
    let scenario = Scenario::new("access").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    scenario.source.exec("CREATE USER scram_user PASSWORD 'right-password'");
    let pipeline = |password: &str, user: &str| {
        let url = scenario.source.url();
        let text = format!(
            "name: access\nsource:\n  postgres: {{ url: \"{url}\", user: {user}, password: {password}, tables: [public.t] }}\nsinks:\n  lake:\n    files: {{ url: \"file://{}\", roll: {{ age: 1s }} }}\n",
            scenario.lake().display()
        );
        let path = scenario.dir().join("access.yaml");
        std::fs::write(&path, text).expect("pipeline file");
        path
    };
    let fails = |password: &str, says: &[&str]| {
        let file = pipeline(password, "scram_user");
        let mut run = mainstem_tests::Run::new(&scenario.data_dir()).file(&file).allow("").once();
        let log = run.log();
        assert_eq!(run.exit().and_then(|status| status.code()), Some(1), "{log}");
        let check = run_command(["check".as_ref(), file.as_os_str()]);
        assert_ne!(check.code, Some(0), "check found nothing: {}{}", check.stdout, check.stderr);
        for text in [log, check.stdout + &check.stderr] {
            assert!(says.iter().any(|expected| text.contains(expected)), "none of {says:?} in:\n{text}");
            assert!(!text.contains(password), "the password is in:\n{text}");
        }
        assert_eq!(
            scenario.source.query("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'access'"),
            "0",
            "left a slot"
        );
    };
    fails("wrong-password", &["password authentication failed"]);
    fails("right-password", &["REPLICATION", "GRANT SELECT"]);
    scenario.source.exec("ALTER USER scram_user REPLICATION");
    fails("right-password", &["GRANT"]);
    scenario
        .source
        .exec("GRANT SELECT ON t TO scram_user; GRANT CREATE ON DATABASE access TO scram_user; ALTER TABLE t OWNER TO scram_user");
    let file = pipeline("right-password", "scram_user");
    let check = run_command(["check".as_ref(), file.as_os_str()]);
    assert_eq!(check.code, Some(0), "{}{}", check.stdout, check.stderr);
    mainstem_tests::Run::new(&scenario.data_dir()).file(&file).once_succeeds();
    scenario.assert_lake_equal();
}

#[test]
fn a_server_without_logical_wal_is_told_which_setting_to_change() {
    let server = PgServer::with_settings(PgVersion::V15, &[("wal_level", "replica")]);
    let scenario = Scenario::on(&server, "wal_level").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY)");
    let mut run = scenario.run(&scenario.pipeline()).allow("").once();
    assert_eq!(run.exit().and_then(|status| status.code()), Some(1), "{}", run.log());
    assert!(run.log().contains("wal_level"), "{}", run.log());
    let check = run_command(["check".as_ref(), scenario.dir().join("wal_level.yaml").as_os_str()]);
    assert_ne!(check.code, Some(0));
    assert!((check.stdout.clone() + &check.stderr).contains("wal_level"), "{}{}", check.stdout, check.stderr);
}
