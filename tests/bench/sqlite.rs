//! Into SQLite: changes that are in the log, merged into a table, beside a C program that does the same with the same batches.

use std::{fs, path::Path, process::Command};

use mainstem_tests::{PgServer, repository};

use crate::{
    backlog::{self, COLUMNS, row},
    options::Options,
    process::run,
    report::{Report, Target},
};

/// Rows of a transaction, both sides.
const BATCH: u64 = 50_000;

/// Measures it.
pub fn measure(options: &Options, report: &mut Report) {
    let (base, changes) = (options.rows, options.rows / 2);
    report.section(
        "Into SQLite",
        &format!(
            "{changes} changes, half of them of rows that are there, half new, merged into a table of {base} rows, {BATCH} rows a transaction (WAL, synchronous=NORMAL). The \
             changes are in Mainstem's log before the clock starts. The reference is tests/bench/sqlite_upsert.c, compiled with -O2, which reads them from a text file."
        ),
    );
    let program = std::env::temp_dir().join(format!("mainstem-sqlite-upsert-{}", std::process::id()));
    let compiled = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(repository().join("tests/bench/sqlite_upsert.c"))
        .arg("-lsqlite3")
        .status()
        .expect("cc");
    assert!(compiled.success(), "cannot compile tests/bench/sqlite_upsert.c (libsqlite3-dev is needed)");
    let server = backlog::server();
    let c = |dir: &Path, rows: &str| {
        let mut command = Command::new(&program);
        command.arg(dir.join("c.db")).arg(dir.join(rows)).arg(BATCH.to_string());
        command
    };
    let mut round = 0;
    let mut stage = None;
    let cases = report.in_turns(options, &[("C program: INSERT … ON CONFLICT", None), ("Mainstem: upsert", Some(0))], |case| {
        if case == 0 {
            round += 1;
            let dir = tempfile::Builder::new().prefix("mainstem-bench-").tempdir().expect("temporary folder");
            prepare(options, &server, dir.path(), base, changes, round);
            run(vec![c(dir.path(), "base.txt")], server.pid());
            stage = Some(dir);
        }
        let dir = stage.as_ref().expect("the first case makes it").path();
        // What was written before is no case's to write back.
        assert!(Command::new("sync").status().expect("sync").success());
        run(vec![if case == 0 { c(dir, "changes.txt") } else { mainstem(options, dir, true) }], server.pid())
    });
    let _ = fs::remove_file(&program);
    report.table(changes, &cases);
    report.target("Upsert into SQLite", cases.ratio(1), "× the C program", &Target::AtLeast(0.8));
}

fn mainstem(options: &Options, dir: &Path, with_sink: bool) -> Command {
    let mut command = Command::new(&options.binary);
    command
        .arg("run")
        .arg(dir.join(if with_sink { "with.yaml" } else { "without.yaml" }))
        .arg("--data-dir")
        .arg(dir.join("data"))
        .arg("--once");
    command
}

/// The base rows in the target, the changes in the log; and both as text for the C program, in `base.txt` and `changes.txt`.
fn prepare(options: &Options, server: &PgServer, dir: &Path, base: u64, changes: u64, round: usize) {
    println!("   making {base} rows and {changes} changes");
    let row_of_i = row("i");
    let source = server.create_database(&format!("sqlite_{round}"));
    source.exec(&format!("CREATE TABLE orders {COLUMNS}; INSERT INTO orders SELECT {row_of_i} FROM generate_series(1, {base}) i"));
    let text = format!(
        "name: sqlite_{round}\nsource:\n  postgres:\n    url: \"{}\"\n    user: postgres\n    tables: [public.orders]\n",
        source.socket_url()
    );
    let sink = format!(
        "sinks:\n  warehouse:\n    jdbc: {{ url: \"jdbc:sqlite:{}\", batch: {{ rows: {BATCH}, bytes: 64MiB }} }}\n",
        dir.join("mainstem.db").display()
    );
    fs::write(dir.join("without.yaml"), &text).expect("pipeline file");
    fs::write(dir.join("with.yaml"), text + &sink).expect("pipeline file");
    let succeed = |with_sink: bool| {
        let output = mainstem(options, dir, with_sink).output().expect("mainstem");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    succeed(true);
    let copy = |condition: &str, name: &str| {
        let file = dir.join(name);
        let query = format!("\\copy (SELECT * FROM orders {condition}) TO '{}'", file.display());
        let output = source.psql().args(["-c", &query]).output().expect("psql");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    copy("", "base.txt");
    let (first, last) = (base - changes / 2 + 1, base + changes / 2);
    source.exec(&format!(
        "INSERT INTO orders SELECT {row_of_i} FROM generate_series({first}, {last}) i
         ON CONFLICT (id) DO UPDATE SET n = orders.n + 1, amount = excluded.amount + 1, note = excluded.note || '!'"
    ));
    succeed(false);
    backlog::confirm_all(&source, || succeed(false));
    copy(&format!("WHERE id BETWEEN {first} AND {last}"), "changes.txt");
}
