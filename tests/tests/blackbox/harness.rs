//! That the comparison can fail: a test suite whose oracle always agrees proves nothing.

use std::{fs, panic::catch_unwind, process::Command};

use mainstem_tests::{
    Answer, Guard, PgServer, PgVersion, Proxy, S3Front, Weed, compare_parquet, compare_warehouse, python, repository, table,
    wait_until,
};

#[test]
fn the_comparison_sees_a_changed_a_missing_and_an_extra_row() {
    let server = PgServer::shared();
    let source = server.create_database("harness");
    let target = server.create_database("harness_dw");
    for database in [&source, &target] {
        database.exec("CREATE TABLE t (id int PRIMARY KEY, v numeric(6,2)); INSERT INTO t VALUES (1, 1.10), (2, NULL)");
    }
    let shape = table(&source, "public", "t");
    assert_eq!(shape.key, ["id"]);
    compare_warehouse(&shape, &source, &target);
    for change in [
        "UPDATE t SET v = 1.11 WHERE id = 1",
        "DELETE FROM t WHERE id = 2",
        "INSERT INTO t VALUES (3, 0)",
        "UPDATE t SET v = 0 WHERE id = 2",
    ] {
        target.exec(change);
        let fails = catch_unwind(|| compare_warehouse(&shape, &source, &target)).is_err();
        assert!(fails, "not seen: {change}");
        target.exec("TRUNCATE t; INSERT INTO t VALUES (1, 1.10), (2, NULL)");
    }
}

/// Files written by pyarrow in the documented layout, with an update, a delete, an unchanged column and a change of key.
const WRITE_FILES: &str = r#"
import sys, pathlib, decimal, pyarrow as pa, pyarrow.parquet as pq
directory = pathlib.Path(sys.argv[1], "topic=p.public.t", "partition=0")
directory.mkdir(parents=True)
D = decimal.Decimal
rows = [
    dict(id=1, v=D("1.00"), _op="r", _sequence=1, _ordinal=0, _unchanged=None, _old_key=None),
    dict(id=9, v=D("9.00"), _op="r", _sequence=1, _ordinal=1, _unchanged=None, _old_key=None),
    dict(id=None, v=None, _op="s", _sequence=2, _ordinal=0, _unchanged=None, _old_key=None),
    dict(id=1, v=D("1.10"), _op="r", _sequence=3, _ordinal=0, _unchanged=None, _old_key=None),
    dict(id=2, v=D("2.20"), _op="c", _sequence=4, _ordinal=0, _unchanged=None, _old_key=None),
    dict(id=1, v=None, _op="u", _sequence=5, _ordinal=0, _unchanged=["v"], _old_key=None),
    dict(id=2, v=None, _op="d", _sequence=6, _ordinal=0, _unchanged=None, _old_key=dict(id=2)),
    dict(id=3, v=None, _op="u", _sequence=6, _ordinal=0, _unchanged=["v"], _old_key=dict(id=2)),
    dict(id=4, v=D("4.00"), _op="c", _sequence=7, _ordinal=0, _unchanged=None, _old_key=None),
    dict(id=4, v=None, _op="d", _sequence=8, _ordinal=0, _unchanged=None, _old_key=None),
]
schema = pa.schema([("id", pa.int32()), ("v", pa.decimal128(6, 2)), ("_op", pa.string()), ("_sequence", pa.int64()), ("_ordinal", pa.int32()),
    ("_unchanged", pa.list_(pa.string())), ("_old_key", pa.struct([("id", pa.int32())]))])
pq.write_table(pa.Table.from_pylist(rows, schema), directory / "00000000000000000000.parquet")
"#;

#[test]
fn the_fold_of_files_knows_markers_deletes_unchanged_columns_and_moves() {
    let source = PgServer::shared().create_database("harness_fold");
    source.exec("CREATE TABLE t (id int PRIMARY KEY, v numeric(6,2)); INSERT INTO t VALUES (1, 1.10), (3, 2.20)");
    let dir = tempfile::tempdir().expect("temporary folder");
    let status = Command::new(python()).arg("-c").arg(WRITE_FILES).arg(dir.path()).status().expect("python");
    assert!(status.success());
    let shape = table(&source, "public", "t");
    compare_parquet(&shape, &source, dir.path(), "p.public.t");
    source.exec("UPDATE t SET v = 2.21 WHERE id = 3");
    assert!(catch_unwind(|| compare_parquet(&shape, &source, dir.path(), "p.public.t")).is_err(), "a wrong value was not seen");
}

#[test]
fn the_proxy_holds_back_at_the_byte() {
    let server = PgServer::shared();
    let proxy = Proxy::to(server.port());
    let database = server.existing_database("postgres");
    let query = |port: u16| {
        let mut command = Command::new(server.bin().join("psql"));
        command.args(["-X", "-A", "-t", "-U", "postgres", "-h", "127.0.0.1", "-p", &port.to_string(), "-d", database.name()]);
        command.args(["-c", "SELECT repeat('x', 100000)"]).stdout(std::process::Stdio::piped()).spawn().expect("psql")
    };
    proxy.stall_after(5000);
    let child = query(proxy.port());
    wait_until("the proxy stalls", || proxy.is_stalled());
    assert!(proxy.forwarded() < 10_000);
    proxy.stall(false);
    let output = child.wait_with_output().expect("psql");
    assert_eq!(output.stdout.len(), 100_001);
}

#[test]
fn a_guard_cleans_up() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("cleaned");
    let guard = Guard::new("touch \"$1\"", &[&file.display().to_string()], false);
    assert!(!file.exists());
    drop(guard);
    assert!(file.exists());
    fs::remove_file(&file).expect("remove");
}

/// Signatures stay valid through the front, and what it answers by itself reaches the client.
#[test]
fn the_front_of_the_s3_server_passes_requests_on_and_can_lie() {
    let weed = Weed::shared();
    weed.create_bucket("harness");
    let front = S3Front::to(weed.port(), |line| {
        if line.starts_with("PUT /forbidden") { Answer::Instead("403 Forbidden".into(), String::new()) } else { Answer::Forward }
    });
    let client = |arguments: &[&str]| {
        let mut command = Command::new(python());
        command
            .arg(repository().join("tests/servers/s3.py"))
            .arg(front.port().to_string())
            .args([Weed::ACCESS_KEY, Weed::SECRET_KEY]);
        command.args(arguments).output().expect("python").status.success()
    };
    assert!(client(&["probe"]), "{:?}", front.requests());
    assert!(!client(&["create-bucket", "forbidden"]), "{:?}", front.requests());
    assert_eq!(weed.objects("probe"), ["object"]);
    assert!(weed.objects("harness").is_empty());
}

#[test]
fn servers_that_are_dropped_are_gone_with_their_folders() {
    let server = PgServer::start(PgVersion::V15);
    let (pid, folder) = (server.pid(), server.socket_dir().to_owned());
    let process = std::path::PathBuf::from(format!("/proc/{pid}"));
    assert!(process.exists() && folder.exists());
    drop(server);
    assert!(!folder.exists());
    // It looks for its folder once a minute by itself.
    let is_running = || fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(!is_running(), "the server outlived its folder");
}
