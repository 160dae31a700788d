//! Nothing to do, and little to do: memory and processor time when idle, time from start to the first change, and latency at a thousand rows a second.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use mainstem_tests::{Database, kill, wait_until};
use serde_json::Value;

use crate::{
    backlog::{self, COLUMNS, row},
    options::Options,
    process::{cpu_seconds, memory_mib},
    report::{Report, Target},
};

const IDLE_SECONDS: u64 = 20;
const LATENCY_SECONDS: u64 = 20;
const ROWS_PER_SECOND: u64 = 1000;

/// Measures all three.
pub fn measure(options: &Options, report: &mut Report) {
    report.section("Quiet", "One pipeline from PostgreSQL into the log and Parquet files, unix socket.");
    let row_of_i = row("i");
    let server = backlog::server();
    let database = server.create_database("quiet");
    database.exec(&format!("CREATE TABLE orders {COLUMNS}; INSERT INTO orders SELECT {row_of_i} FROM generate_series(1, 10) i"));
    let dir = tempfile::tempdir().expect("temporary folder");
    let text = format!(
        "name: quiet\nsource:\n  postgres:\n    url: \"{}\"\n    user: postgres\n    tables: [public.orders]\nsinks:\n  lake:\n    files: {{ url: \"file://{}\" }}\n",
        database.socket_url(),
        dir.path().join("lake").display()
    );
    fs::write(dir.path().join("quiet.yaml"), text).expect("pipeline file");
    // The slot is in place and the first rows are in the log.
    drop(Running::start(options, dir.path(), |running| running.records() >= 10));

    let mut first = Vec::new();
    for i in 0..options.rounds.max(3) {
        wait_until("the slot is free", || database.query("SELECT count(*) FROM pg_replication_slots WHERE active") == "0");
        database.exec(&format!("INSERT INTO orders SELECT {row_of_i} FROM generate_series({0}, {0}) i", 100 + i));
        let start = Instant::now();
        drop(Running::start(options, dir.path(), |running| running.records() >= 1));
        first.push(start.elapsed().as_secs_f64());
    }
    first.sort_by(f64::total_cmp);
    let first = first[first.len() / 2];
    report.target("Start to the first change in the log, slot in place", first, "s", &Target::AtMost(1.0));

    wait_until("the slot is free", || database.query("SELECT count(*) FROM pg_replication_slots WHERE active") == "0");
    let running = Running::start(options, dir.path(), |running| running.has("\"state\":\"running\""));
    thread::sleep(Duration::from_secs(5));
    let before = cpu_seconds(running.child.id(), false);
    thread::sleep(Duration::from_secs(IDLE_SECONDS));
    let cpu = (cpu_seconds(running.child.id(), false) - before) / IDLE_SECONDS as f64 * 100.0;
    let memory = memory_mib(running.child.id(), "VmRSS");
    report.target("Idle: resident memory", memory, "MiB", &Target::AtMost(30.0));
    report.target("Idle: processor time", cpu, "% of a core", &Target::AtMost(1.0));

    let (p50, p99) = latency(options, &database, dir.path());
    report.target("Latency at 1,000 rows/s, commit to log, p50", p50, "ms", &Target::AtMost(50.0));
    report.target("Latency at 1,000 rows/s, commit to log, p99", p99, "ms", &Target::AtMost(50.0));
    report.note(&format!(
        "Start to the first change in the log {first:.2} s; idle {memory:.0} MiB and {cpu:.2} % of a core over {IDLE_SECONDS} s; latency over {LATENCY_SECONDS} s of one-row \
         transactions p50 {p50:.1} ms, p99 {p99:.1} ms.",
    ));
    report.note(
        "Latency is from the server's commit time to the time in the log's record, both from the same clock. The record's time has a resolution of 1 ms, which is \
         added; it is taken when the record is appended, just before the commit's one sync, which takes about 0.3 ms on this kind of disk.",
    );
    drop(running);
}

/// One-row transactions, a millisecond apart; then the times that the log gives for them.
fn latency(options: &Options, database: &Database, dir: &Path) -> (f64, f64) {
    let first = 1_000_000;
    let rows = ROWS_PER_SECOND * LATENCY_SECONDS;
    database.exec(&format!(
        "DO $$ DECLARE start timestamptz := clock_timestamp(); rest double precision; BEGIN
         FOR i IN {first}..{} LOOP
             INSERT INTO orders SELECT {}; COMMIT;
             rest := (i - {first} + 1) / {ROWS_PER_SECOND}.0 - extract(epoch FROM clock_timestamp() - start);
             IF rest > 0 THEN PERFORM pg_sleep(rest); END IF;
         END LOOP; END $$",
        first + rows - 1,
        row("i")
    ));
    let end = database.wal_end();
    wait_until("all of it is in the log", || database.confirmed().is_some_and(|confirmed| confirmed >= end));
    let output = Command::new(&options.binary)
        .args(["read", "quiet.public.orders", "--data-dir"])
        .arg(dir.join("data"))
        .output()
        .expect("mainstem read");
    let mut late: Vec<f64> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["event"]["after"]["id"].as_u64().is_some_and(|id| id >= first))
        .filter_map(|line| Some(line["timestamp_ms"].as_f64()? + 1.0 - line["event"]["source"]["ts_us"].as_f64()? / 1000.0))
        .collect();
    assert_eq!(late.len() as u64, rows, "rows in the log");
    late.sort_by(f64::total_cmp);
    (late[late.len() / 2], late[late.len() * 99 / 100])
}

struct Running {
    child: Child,
    address: String,
}

impl Running {
    /// Starts it and waits for a condition, looking every few milliseconds.
    fn start(options: &Options, dir: &Path, ready: impl Fn(&Self) -> bool) -> Self {
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(&options.binary);
        command.arg("run").arg(dir.join("quiet.yaml")).arg("--data-dir").arg(dir.join("data")).args(["--listen", &address]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mainstem");
        let running = Self { child, address };
        let start = Instant::now();
        while !ready(&running) {
            assert!(start.elapsed() < Duration::from_secs(60), "mainstem is not ready: {:?}", running.status());
            thread::sleep(Duration::from_millis(3));
        }
        running
    }

    fn status(&self) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        write!(stream, "GET /status HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text.split_once("\r\n\r\n")?.1.to_owned())
    }

    fn has(&self, text: &str) -> bool {
        self.status().is_some_and(|status| status.replace(' ', "").contains(text))
    }

    fn records(&self) -> u64 {
        let status = self.status().and_then(|text| serde_json::from_str::<Value>(&text).ok()).unwrap_or_default();
        status["pipelines"][0]["records"].as_u64().unwrap_or(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(self.child.id(), mainstem_tests::SIGTERM);
        let _ = self.child.wait();
    }
}
