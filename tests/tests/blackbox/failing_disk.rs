//! A disk that does not keep its word.

use std::{
    fs,
    process::{Command, Stdio},
};

use mainstem_tests::{Guard, Scenario, wait_until};

/// Every sync of the log fails from some moment on: the slot must not be told about anything that came after.
#[test]
fn pg_lsn_02_nothing_is_confirmed_that_is_not_durable() {
    let scenario = Scenario::new("pg_lsn_02").setup(
        &["t"],
        "CREATE TABLE t (id serial PRIMARY KEY, v text); INSERT INTO t (v) SELECT 'snapshot' FROM generate_series(1, 50)",
    );
    let run = scenario.run(&scenario.pipeline());
    let mut mainstem = run.clone().allow("").start();
    scenario.wait_until_drained(&mut mainstem);

    // strace counts `when` by thread, so it cannot start after some syncs of the process: it comes when the log is in use.
    let pid = mainstem.pid().to_string();
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "-p", &pid]);
    let mut strace = strace.stderr(Stdio::inherit()).spawn().expect("strace is missing: run scripts/install.sh strace");
    let _guard = Guard::new("kill -9 \"$1\"", &[&strace.id().to_string()], false);
    let traced = |task: &str| {
        fs::read_to_string(format!("/proc/{pid}/task/{task}/status")).is_ok_and(|status| !status.contains("TracerPid:\t0"))
    };
    wait_until("strace holds all threads (where only root may trace: sysctl kernel.yama.ptrace_scope=0)", || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
        tasks.map_while(Result::ok).all(|task| traced(&task.file_name().to_string_lossy()))
    });
    let limit = scenario.source.wal_end();
    let mut highest = 0;
    let mut rows = 0;
    while rows < 40 || !mainstem.has_logged("Input/output error") {
        scenario.source.exec("INSERT INTO t (v) VALUES ('while no sync succeeds')");
        rows += 1;
        assert!(rows < 1200, "no sync failed:\n{}", mainstem.log());
        highest = highest.max(scenario.source.confirmed().unwrap_or(0));
    }
    // It has tried again by now; nothing that it does makes these rows durable.
    wait_until("it has tried again", || mainstem.log().matches("Input/output error").count() >= 2);
    highest = highest.max(scenario.source.confirmed().unwrap_or(0));
    assert!(highest <= limit, "confirmed {highest}, but nothing after {limit} can be durable");
    mainstem.kill();
    let _ = strace.wait();
    wait_until("the server noticed", || {
        scenario.source.query("SELECT count(*) FROM pg_replication_slots WHERE active AND database = current_database()") == "0"
    });
    assert!(scenario.source.confirmed().is_some_and(|confirmed| confirmed <= limit));
    // What the failed commits left is cleared away, and said so.
    run.allow("log_core::recovery").once_succeeds();
    scenario.assert_equal();
}
