//! What goes wrong around a MySQL or MariaDB source.

use std::{fs, path::Path, time::Duration};

use mainstem_tests::{Flavor, MINUTE, MySqlServer, Pipeline, Proxy, Run, run_command, wait_until_for};
use serde_json::Value;

/// The first byte of each batch in a segment, and its end.
fn batches(segment: &Path) -> Vec<(usize, usize)> {
    let output = run_command(["log", "dump", &segment.display().to_string(), "--json"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let lines = output.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let number = |value: &Value| value.as_u64().expect("number") as usize;
    lines.map(|batch| (number(&batch["position"]), number(&batch["position"]) + number(&batch["bytes"]))).collect()
}

/// Other systems keep the statements that made their schemas, and read them all at a start. Here each schema stands in the log, under a checksum.
#[test]
fn my_ddl_11_a_schema_store_that_is_damaged_or_gone_stops_the_start() {
    let source = MySqlServer::shared(Flavor::MySql).create_database("my_ddl_11");
    source.exec("CREATE TABLE t (id int PRIMARY KEY)");
    let dir = tempfile::tempdir().expect("temporary folder");
    let (data, lake) = (dir.path().join("data"), dir.path().join("lake"));
    let pipeline = Pipeline::mysql("my_ddl_11", &source.url(), &["my_ddl_11.*"]).files("lake", &lake);
    let run = Run::new(&data).file(pipeline.write(dir.path()));
    for column in ["a", "b", "c"] {
        source.exec(&format!(
            "ALTER TABLE t ADD COLUMN {column} int; INSERT INTO t (id, {column}) SELECT coalesce(max(id), 0) + 1, 7 FROM t"
        ));
        run.once_succeeds();
    }
    let store = data.join("topics/_schemas");
    let segment = store.join("0/00000000000000000000.log");
    let whole = fs::read(&segment).expect("segment of the schema store");
    let entries = batches(&segment);
    assert!(entries.len() >= 3, "{entries:?}");
    let (begin, end) = entries[entries.len() / 2];
    let mut damaged = whole.clone();
    damaged[(begin + end) / 2] ^= 0x10;
    fs::write(&segment, &damaged).expect("segment");
    let refused = |what: &str| {
        let mut mainstem = run.clone().allow("").spawn_once();
        let status = mainstem.wait_for_end(MINUTE);
        assert!(!status.success(), "{}", mainstem.log());
        assert!(mainstem.log().contains(what), "{what}: {}", mainstem.log());
        mainstem.log()
    };
    let log = refused("_schemas/0/00000000000000000000.log");
    assert!(log.contains(&begin.to_string()), "it says where: {begin} in {log}");
    assert_eq!(fs::read(&segment).expect("segment"), damaged, "nothing was cut off");
    fs::write(&segment, &whole).expect("segment");
    let aside = dir.path().join("aside");
    fs::rename(&store, &aside).expect("the schema store is put aside");
    refused("_schemas");
    if store.exists() {
        fs::remove_dir_all(&store).expect("remove");
    }
    fs::rename(&aside, &store).expect("the schema store is put back");
    source.exec("INSERT INTO t VALUES (100, 1, 2, 3)");
    run.once_succeeds();
    let read = run_command(["read".as_ref(), "my_ddl_11.my_ddl_11.t".as_ref(), "--data-dir".as_ref(), data.as_os_str()]);
    assert!(read.stdout.contains("\"after\":{\"id\":100,\"a\":1,\"b\":2,\"c\":3}"), "{}", read.stdout);
}

/// An event that takes longer on its way than a silent server is waited for.
#[test]
fn my_pos_10_a_large_event_on_a_slow_link_arrives_at_the_first_attempt() {
    const EVENT_BYTES: u64 = 40 << 20;
    let server = MySqlServer::shared(Flavor::MySql);
    let source = server.create_database("my_pos_10");
    source.exec("CREATE TABLE t (id int PRIMARY KEY, a longblob)");
    let proxy = Proxy::to(server.port());
    let dir = tempfile::tempdir().expect("temporary folder");
    let data = dir.path().join("data");
    let pipeline = Pipeline::mysql("my_pos_10", &source.url_at(proxy.port()), &["my_pos_10.*"]);
    let mut mainstem = Run::new(&data).file(pipeline.write(dir.path())).start();
    source.exec("INSERT INTO t VALUES (1, 'x')");
    let records = |mainstem: &mut mainstem_tests::Mainstem| mainstem.pipeline("my_pos_10")["records"].as_u64().unwrap_or(0);
    wait_until_for(MINUTE, "the stream runs", || records(&mut mainstem) >= 1);
    let before = proxy.forwarded();
    // It takes 75 seconds. A server is taken for dead after one minute without a byte.
    proxy.slow_down(EVENT_BYTES / 75);
    source.exec(&format!("INSERT INTO t VALUES (2, repeat('y', {EVENT_BYTES}))"));
    wait_until_for(4 * MINUTE, "the event is in the log", || {
        assert!(!mainstem.has_ended(), "{}", mainstem.log());
        records(&mut mainstem) >= 2
    });
    let sent = proxy.forwarded() - before;
    assert!((EVENT_BYTES..EVENT_BYTES * 5 / 4).contains(&sent), "it was sent more than once: {sent} bytes");
    proxy.slow_down(u64::MAX);
    mainstem.stop();
}

/// Before the first event a server looks for the place where the GTIDs of a position end, and says nothing meanwhile, not even that it is there.
#[test]
fn my_pos_10_a_server_that_searches_for_longer_than_a_dead_one_is_silent_is_waited_for() {
    /// A server is taken for dead after one minute without a byte.
    const SEARCH: Duration = Duration::from_secs(70);
    const BINLOG_DUMPS: [u8; 2] = [0x12, 0x1E];
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut started = Vec::new();
    for flavor in Flavor::ALL {
        let server = MySqlServer::shared(flavor);
        let name = format!("my_pos_10_search_{}", flavor.name());
        let source = server.create_database(&name);
        source.exec("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
        let proxy = Proxy::to(server.port());
        let url = format!("{}?ssl-mode=DISABLED", source.url_at(proxy.port()));
        let pipeline = Pipeline::mysql(&name, &url, &[&format!("{name}.*")]);
        let run = Run::new(&dir.path().join(flavor.name())).file(pipeline.write(dir.path()));
        run.once_succeeds();
        proxy.hold_answers_to(&BINLOG_DUMPS);
        source.exec("INSERT INTO t VALUES (2)");
        started.push((name, proxy, run.start()));
    }
    for (name, proxy, _) in &started {
        wait_until_for(MINUTE, &format!("{name} asks for the log"), || proxy.held() == 1);
    }
    std::thread::sleep(SEARCH);
    for (name, proxy, mut mainstem) in started {
        assert_eq!((proxy.held(), mainstem.has_ended()), (1, false), "{name}: {}", mainstem.log());
        proxy.hold_answers_to(&[]);
        wait_until_for(MINUTE, "the row is in the log", || mainstem.pipeline(&name)["records"].as_u64() == Some(1));
        assert_eq!(proxy.held(), 1, "{name} asked once more: {}", mainstem.log());
        mainstem.stop();
    }
}
