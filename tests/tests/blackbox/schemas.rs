//! Compatibility levels: what they let through, and what they stop.

use std::ffi::OsStr;

use mainstem_tests::{Scenario, run_command};

#[test]
fn a_level_stops_what_it_does_not_allow_until_it_is_allowed() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)";
    let scenario = Scenario::new("levels").setup(&["t"], table);
    let data = scenario.data_dir();
    let schemas = |arguments: &[&str]| {
        let arguments: Vec<&OsStr> = [&["schemas"], arguments, &["--data-dir"]].concat().into_iter().map(OsStr::new).collect();
        let output = run_command([&arguments[..], &[data.as_os_str()]].concat());
        assert_eq!(output.code, Some(0), "{arguments:?}: {}{}", output.stdout, output.stderr);
        output.stdout
    };
    let run = scenario.run(&scenario.pipeline());
    run.once_succeeds();
    schemas(&["set-compatibility", "FULL"]);

    // A column that comes keeps to it; one that changes its type does not.
    scenario.source.exec("ALTER TABLE t ADD COLUMN more text; INSERT INTO t VALUES (2, 2, 'two')");
    run.once_succeeds();
    assert!(schemas(&["list"]).contains("1, 2"));
    scenario.source.exec("ALTER TABLE t ALTER COLUMN n TYPE bigint; INSERT INTO t VALUES (3, 3, 'three')");
    let mut mainstem = run.clone().allow("refused").start();
    mainstem.wait_for_state("levels", "stopped");
    let error = mainstem.pipeline("levels")["error"].as_str().unwrap_or_default().to_owned();
    for part in ["levels.public.t-value", "FULL", "against version 2", "/fields/1/type/1"] {
        assert!(error.contains(part), "the error does not say `{part}`: {error}");
    }
    mainstem.stop();
    let shown = schemas(&["list"]);
    assert!(shown.contains("1, 2") && !shown.contains("1, 2, 3"), "{shown}");

    schemas(&["set-compatibility", "NONE", "levels.public.t-value"]);
    run.once_succeeds();
    scenario.assert_equal();
    assert!(schemas(&["list"]).contains("1, 2, 3"));
}
