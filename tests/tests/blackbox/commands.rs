//! The other commands, and what a running process tells.

use std::{ffi::OsStr, fs, process::Command};

use mainstem_tests::{SIGCONT, SIGSTOP, Scenario, mainstem_binary, repository, run_command, wait_until};
use serde_json::Value;

use crate::positions::{events, value};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a'), (2, 'b')";

#[test]
fn check_status_topics_and_read() {
    let scenario = Scenario::new("commands").setup(&["t"], TABLE);
    let run = scenario.run(&scenario.pipeline());
    let (file, data) = (scenario.dir().join("commands.yaml"), scenario.data_dir());
    let check = run_command(["check".as_ref(), file.as_os_str()]);
    assert_eq!(check.code, Some(0), "{}{}", check.stdout, check.stderr);
    assert_eq!(scenario.source.slots(), "", "check created a slot");
    assert_eq!(scenario.source.query("SELECT count(*) FROM pg_publication"), "0", "check created a publication");
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    scenario.source.exec("UPDATE t SET v = 'c' WHERE id = 1; DELETE FROM t WHERE id = 2");
    scenario.wait_until_drained(&mut mainstem);

    let status = mainstem.pipeline("commands");
    assert_eq!(status["state"], "running");
    assert!(status["error"].is_null(), "{status}");
    assert_eq!(status["records"], 4, "{status}");
    assert!(status["source"]["retained_bytes"].is_u64() || status["source"]["retained_bytes"].is_null(), "{status}");
    let metrics = mainstem.get("/metrics").expect("metrics");
    assert!(metrics.contains("pipeline=\"commands\"") && metrics.contains("# TYPE"), "{metrics}");
    assert!(mainstem.get("/health").is_ok());
    assert!(mainstem.get("/nonsense").is_err());

    // Beside the running process.
    let beside = |arguments: &[&OsStr]| {
        let output = run_command(arguments);
        assert_eq!(output.code, Some(0), "{arguments:?}: {}{}", output.stdout, output.stderr);
        output.stdout
    };
    let shown = beside(&["status".as_ref(), "--data-dir".as_ref(), data.as_ref(), file.as_ref()]);
    assert!(shown.contains("commands") && shown.contains("lake") && shown.contains("warehouse"), "{shown}");
    let shown: Value =
        serde_json::from_str(&beside(&["status".as_ref(), "--json".as_ref(), "--data-dir".as_ref(), data.as_ref(), file.as_ref()]))
            .expect("JSON");
    assert!(shown.to_string().contains("commands"), "{shown}");
    let topics: Value =
        serde_json::from_str(&beside(&["topics".as_ref(), "--json".as_ref(), "--data-dir".as_ref(), data.as_ref()])).expect("JSON");
    assert!(topics.to_string().contains("commands.public.t"), "{topics}");
    let all = events(&data, "commands.public.t");
    let ops: Vec<&str> = all.iter().map(|event| value(event)["op"].as_str().expect("op")).collect();
    assert_eq!(ops, ["r", "r", "u", "d"]);
    let source = &value(&all[2])["source"];
    assert_eq!(
        (&source["connector"], &source["db"], &source["schema"], &source["table"]),
        (&"postgresql".into(), &"commands".into(), &"public".into(), &"t".into())
    );
    assert_eq!(value(&all[2])["after"], serde_json::json!({ "id": 1, "v": "c" }));
    let later = beside(&[
        "read".as_ref(),
        "commands.public.t".as_ref(),
        "--from".as_ref(),
        "3".as_ref(),
        "--data-dir".as_ref(),
        data.as_ref(),
    ]);
    assert_eq!(later.lines().count(), 1, "{later}");
    let topic = "commands.public.t";
    let since = |time: &str| {
        let arguments: [&OsStr; 6] =
            ["read".as_ref(), topic.as_ref(), "--since".as_ref(), time.as_ref(), "--data-dir".as_ref(), data.as_os_str()];
        run_command(arguments)
    };
    for time in ["1h", "2020-01-01T00:00:00+01:00"] {
        assert_eq!(since(time).stdout.lines().count(), 4, "{time}");
    }
    assert_eq!(since("2120-01-01T00:00:00Z").stdout, "");
    assert_eq!(since("yesterday").code, Some(2));
    let unknown = run_command(["read".as_ref(), "nonsense".as_ref(), "--data-dir".as_ref(), data.as_os_str()]);
    assert_ne!(unknown.code, Some(0));
    assert!(unknown.stderr.contains("nonsense"), "{}", unknown.stderr);
    mainstem.stop();
}

#[test]
fn read_follows() {
    let scenario = Scenario::new("follows").setup(&["t"], TABLE);
    let mut mainstem = scenario.run(&scenario.bare_pipeline()).start();
    scenario.wait_until_in_log(&mut mainstem);
    let out = scenario.dir().join("followed");
    let mut reader = Command::new(mainstem_binary())
        .args(["read", "follows.public.t", "--follow", "--data-dir"])
        .arg(scenario.data_dir())
        .stdout(fs::File::create(&out).expect("file"))
        .spawn()
        .expect("mainstem read");
    let lines = || fs::read_to_string(&out).unwrap_or_default().lines().count();
    wait_until("the snapshot is printed", || lines() == 2);
    scenario.source.exec("INSERT INTO t VALUES (3, 'c')");
    wait_until("the new row is printed", || lines() == 3);
    reader.kill().expect("kill");
    let _ = reader.wait();
    mainstem.stop();
}

/// Also beside one that hangs, which has the directory all the same, and goes on with it when it wakes.
#[test]
fn log_disk_05_a_second_runtime_on_the_same_data_directory_is_refused() {
    let scenario = Scenario::new("second_runtime").setup(&["t"], TABLE);
    let run = scenario.run(&scenario.pipeline());
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    let run = run.allow("");
    let assert_refused = || {
        let mut second = run.once();
        assert_ne!(second.exit().and_then(|status| status.code()), Some(0), "{}", second.log());
        assert!(
            second.log().contains(&mainstem.pid().to_string()),
            "the error does not name the process {}:\n{}",
            mainstem.pid(),
            second.log()
        );
    };
    assert_refused();
    mainstem.signal(SIGSTOP);
    scenario.source.exec("INSERT INTO t VALUES (3, 'c')");
    assert_refused();
    mainstem.signal(SIGCONT);
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_equal();
}

#[test]
fn wrong_flags_and_files_end_with_2() {
    for arguments in [
        &["run"][..],
        &["run", "/nowhere/pipeline.yaml"],
        &["nonsense"],
        &["run", "--memory=lots", "/nowhere/pipeline.yaml"],
        &["check"],
        &["connectors", "nonsense"],
    ] {
        let output = run_command(arguments);
        assert_eq!(output.code, Some(2), "{arguments:?}: {}{}", output.stdout, output.stderr);
        assert!(!output.stderr.is_empty(), "{arguments:?} says nothing");
    }
}

#[test]
fn connectors_are_listed_and_described() {
    let list = run_command(["connectors"]);
    for name in ["postgres", "generate", "files", "jdbc"] {
        assert!(list.stdout.contains(name), "{}", list.stdout);
        let one = run_command(["connectors", name]);
        assert_eq!(one.code, Some(0), "{}", one.stderr);
        let schema = run_command(["connectors", name, "--schema"]);
        assert!(serde_json::from_str::<Value>(&schema.stdout).is_ok(), "{}", schema.stdout);
    }
    let all = run_command(["connectors", "--schema"]);
    assert!(serde_json::from_str::<Value>(&all.stdout).is_ok(), "{}", all.stdout);
}

/// Every file in `pipelines/` can be loaded.
#[test]
fn the_pipeline_files_that_come_with_it_are_good() {
    let mut files = 0;
    for entry in fs::read_dir(repository().join("pipelines")).expect("pipelines").map_while(Result::ok) {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            files += 1;
            let mut command = Command::new(mainstem_binary());
            command.args(["check", "--offline"]).arg(&path);
            // Every variable that they use.
            for name in ["PGPASSWORD", "MYSQL_PASSWORD", "DW_PASSWORD", "DEMO_PASSWORD"] {
                command.env(name, "not-a-secret");
            }
            command.env("DEMO_PORT", "5432").env("DEMO_DIR", "/tmp/demo");
            let output = command.output().expect("mainstem");
            assert!(output.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&output.stderr));
        }
    }
    assert!(files >= 3, "{files} pipeline files");
}

/// The example of a build with a sink of one's own lists it and runs it.
#[test]
fn the_example_with_a_sink_of_ones_own_runs() {
    let example = mainstem_binary().parent().expect("folder").join("examples/own_sink");
    assert!(example.exists(), "{} is not there: run `cargo build -p mainstem --examples`", example.display());
    let list = Command::new(&example).arg("connectors").output().expect("example");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("postgres") && list.contains("count"), "{list}");
    assert!(!run_command(["connectors"]).stdout.contains("count"), "the example proves nothing");

    let dir = tempfile::tempdir().expect("temporary folder");
    let (file, totals) = (dir.path().join("own.yaml"), dir.path().join("totals"));
    let text = format!(
        "name: own\nsource: {{ generate: {{ rows: 1234 }} }}\nsinks:\n  totals:\n    count: {{ folder: \"{}\" }}\n",
        totals.display()
    );
    fs::write(&file, text).expect("pipeline file");
    let output = Command::new(&example)
        .arg("run")
        .arg(&file)
        .arg("--data-dir")
        .arg(dir.path().join("data"))
        .arg("--once")
        .output()
        .expect("example");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files: Vec<_> = fs::read_dir(&totals)
        .expect("folder")
        .map_while(Result::ok)
        .map(|entry| fs::read_to_string(entry.path()).unwrap_or_default())
        .collect();
    assert!(files.len() == 1 && files[0].contains("1234"), "{files:?}");
}
