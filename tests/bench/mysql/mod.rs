//! MySQL and MariaDB: their logs into ours, their tables, and what is merged into them, each beside the client programs and libraries that
//! come with the servers.
pub mod binlog;
mod reference;
pub mod sink;
pub mod snapshot;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use mainstem_tests::{Flavor, MySqlDatabase, MySqlServer};

use crate::options::Options;

/// A server as a database of some size has it.
fn server(flavor: Flavor, durable: bool) -> MySqlServer {
    let mut options = vec![
        "--innodb-buffer-pool-size=1G",
        "--innodb-log-file-size=1G",
        "--max-binlog-size=1G",
        "--binlog-cache-size=1M",
        "--max-binlog-cache-size=4G",
    ];
    if flavor == Flavor::MySql {
        options[1] = "--innodb-redo-log-capacity=2G";
    }
    if durable {
        options.extend(["--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1"]);
    }
    MySqlServer::start(flavor, &options)
}

/// Columns of the table, without its name: those of PostgreSQL's, in types that both servers have.
const COLUMNS: &str =
    "(id bigint PRIMARY KEY, n int, amount decimal(12,2), note text, code varchar(16), placed datetime(6), day date,
    paid boolean, items json, ref binary(16))";

/// A row for the number that the SQL expression `i` gives. MySQL 9.7 has no `md5()`.
fn row(i: &str) -> String {
    let hash = format!("left(sha2({i}, 256), 32)");
    format!(
        "{i}, {i} * 7919 % 1000003, cast({i} * 37 % 100000000 AS decimal(12,2)) / 100, concat('note ', {hash}), concat('code', {i} % 100000), \
         timestampadd(MICROSECOND, {i} * 1000001, '2026-01-01 00:00:00.000000'), date_add('2020-01-01', INTERVAL {i} % 2000 DAY), {i} % 3 = 0, \
         json_object('sku', concat('A', {i} % 9973), 'qty', {i} % 7, 'gift', {i} % 5 = 0), unhex({hash})"
    )
}

/// Rows of each large transaction.
const LARGE: u64 = 100_000;

/// A table `numbers` with the column `k`: 1 to 100,000.
fn make_numbers(database: &MySqlDatabase) {
    let digits = "(SELECT 0 d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9)";
    database.exec(&format!(
        "CREATE TABLE numbers (k bigint PRIMARY KEY); INSERT INTO numbers SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d
         FROM {digits} a, {digits} b, {digits} c, {digits} e, {digits} f"
    ));
}

/// Inserts the rows `from` to `to`, both inclusive, 100,000 a transaction. Rows that are there get another number, amount and note.
fn insert(database: &MySqlDatabase, from: u64, to: u64) {
    for first in (from..=to).step_by(LARGE as usize) {
        let count = LARGE.min(to - first + 1);
        database.exec(&format!(
            "INSERT INTO orders SELECT {} FROM numbers WHERE k <= {count}
             ON DUPLICATE KEY UPDATE n = orders.n + 1, amount = orders.amount + 1, note = concat(orders.note, '!')",
            row(&format!("(k + {})", first - 1))
        ));
    }
}

/// Inserts the rows `from` to `to`, one a transaction, from two sessions.
fn insert_one_by_one(database: &MySqlDatabase, from: u64, to: u64) {
    database.exec(&format!(
        "DELIMITER //\nCREATE PROCEDURE one_by_one(k bigint, last bigint) BEGIN WHILE k <= last DO INSERT INTO orders VALUES ({}); SET k = k + 1; END WHILE; END //",
        row("k")
    ));
    let middle = u64::midpoint(from, to);
    let sessions = [(from, middle), (middle + 1, to)].map(|(from, to)| {
        let database = database.clone();
        thread::spawn(move || database.exec(&format!("CALL one_by_one({from}, {to})")))
    });
    for session in sessions {
        session.join().expect("session");
    }
}

/// A pipeline file of the table `orders`, with more settings of the source and with sinks.
fn pipeline(dir: &Path, server: &MySqlServer, database: &MySqlDatabase, more: &str, sinks: &str) -> PathBuf {
    let text = format!(
        "name: bench\nsource:\n  mysql:\n    url: \"mysql://localhost/{}?socket={}\"\n    user: root\n    tables: [orders]\n{more}{sinks}",
        database.name(),
        server.socket().display()
    );
    let file = dir.join("bench.yaml");
    fs::write(&file, text).expect("pipeline file");
    file
}

fn lake(dir: &Path) -> String {
    format!("sinks:\n  lake:\n    files: {{ url: \"file://{}\" }}\n", dir.join("lake").display())
}

/// `mainstem run FILE --once`.
fn once(options: &Options, file: &Path, data: &Path) -> Command {
    let mut command = Command::new(&options.binary);
    command.arg("run").arg(file).arg("--data-dir").arg(data).arg("--once");
    command
}

fn succeed(mut command: Command) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
