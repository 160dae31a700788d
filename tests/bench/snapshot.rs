//! Snapshot: a table through `psql`'s binary `COPY` over two connections into /dev/null, and through Mainstem over two connections.

use std::{fs, process::Command};

use mainstem_tests::{Database, PgServer};

use crate::{
    backlog::{self, COLUMNS, row},
    options::Options,
    process::{Cost, run},
    report::{Report, Target},
};

const CASES: [(&str, Option<usize>); 3] =
    [("psql COPY binary to /dev/null", None), ("Mainstem to its log", Some(0)), ("Mainstem to its log and Parquet", Some(0))];

/// Measures it.
pub fn measure(options: &Options, report: &mut Report) {
    let row_of_i = row("i");
    let server = backlog::server();
    let database = server.create_database("snapshot");
    println!("   making a table of {} rows", options.rows);
    database.exec(&format!(
        "CREATE TABLE orders {COLUMNS}; INSERT INTO orders SELECT {row_of_i} FROM generate_series(1, {}) i",
        options.rows
    ));
    database.exec("VACUUM (FREEZE, ANALYZE) orders");
    database.exec("CHECKPOINT");
    report.section(
        "Snapshot",
        "A table of ten columns over two connections, unix socket. The reference copies its two halves at the same time.",
    );
    let cases = report.in_turns(options, &CASES, |case| match case {
        0 => psql(&server, &database),
        _ => mainstem(options, &server, &database, case == 2),
    });
    report.table(options.rows, &cases);
    let cpu = |case| cases.client_seconds(case, options.rows);
    report.target("Snapshot to the log", cases.ratio(1), "× psql COPY", &Target::AtLeast(0.5));
    report.target("Snapshot to the log: CPU of ours per million rows", cpu(1), "s", &Target::AtMost(2.0));
    report.target("Snapshot to log and Parquet: CPU of ours per million rows", cpu(2), "s", &Target::AtMost(4.0));
    report.target("Snapshot to log and Parquet: peak memory", cases.peak(2), "MiB", &Target::AtMost(150.0));
}

fn psql(server: &PgServer, database: &Database) -> Cost {
    let middle = database.number("SELECT relpages / 2 FROM pg_class WHERE oid = 'orders'::regclass");
    let half = |condition: String| {
        let mut command = database.psql();
        command.args(["-c", &format!("COPY (SELECT * FROM orders WHERE {condition}) TO STDOUT (FORMAT binary)")]);
        command
    };
    run(vec![half(format!("ctid < '({middle},0)'")), half(format!("ctid >= '({middle},0)'"))], server.pid())
}

fn mainstem(options: &Options, server: &PgServer, database: &Database, parquet: bool) -> Cost {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut text = format!(
        "name: bench\nsource:\n  postgres:\n    url: \"{}\"\n    user: postgres\n    tables: [public.orders]\n    snapshot: {{ connections: 2 }}\n",
        database.socket_url()
    );
    if parquet {
        text += &format!("sinks:\n  lake:\n    files: {{ url: \"file://{}\" }}\n", dir.path().join("lake").display());
    }
    let file = dir.path().join("bench.yaml");
    fs::write(&file, text).expect("pipeline file");
    let mut command = Command::new(&options.binary);
    command.arg("run").arg(&file).arg("--data-dir").arg(dir.path().join("data")).arg("--once");
    let cost = run(vec![command], server.pid());
    mainstem_tests::wait_until("the slot is dropped", || {
        database.try_query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots").is_ok()
            && database.slots().is_empty()
    });
    database.exec("DROP PUBLICATION IF EXISTS bench");
    cost
}
