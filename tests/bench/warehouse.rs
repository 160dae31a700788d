//! Into PostgreSQL: changes that are in the log, merged into a table or appended to one, beside `psql` doing the same with the same batches.

use std::{fmt::Write, fs, path::Path, process::Command};

use mainstem_tests::{Database, PgServer};

use crate::{
    backlog::{self, COLUMNS, confirm_all, row},
    options::Options,
    process::{Cost, run},
    report::{Report, Target},
};

/// Rows of a batch, both sides.
const BATCH: u64 = 10_000;

/// Measures merge and append.
pub fn measure(options: &Options, report: &mut Report) {
    // A server each: what is written into the target must not be in the WAL that is read.
    let (source, server) = (backlog::server(), backlog::server());
    let (base, changes) = (options.rows, options.rows / 2);
    report.section(
        "Into PostgreSQL",
        &format!(
            "{changes} changes, half of them of rows that are there, half new, merged into a table of {base} rows; and the same changes appended. The changes are in \
             Mainstem's log before the clock starts. The reference is one `psql`: binary `COPY` into a staging table and `INSERT … ON CONFLICT`, a transaction for each \
             {BATCH} rows; or binary `COPY` of what was appended."
        ),
    );
    let names = [
        ("psql: COPY to staging, INSERT … ON CONFLICT", None),
        ("Mainstem: upsert", Some(0)),
        ("psql: COPY binary", None),
        ("Mainstem: append", Some(2)),
    ];
    let mut round = 0;
    let mut stage = None;
    let cases = report.in_turns(options, &names, |case| {
        if case == 0 {
            round += 1;
            stage = None;
            stage = Some(Stage::make(options, &source, &server, base, changes, round));
        }
        let stage = stage.as_ref().expect("the first case makes it");
        match case {
            0 => stage.psql_upsert(&server),
            1 => stage.mainstem(options, &server, "upsert"),
            2 => stage.psql_append(&server),
            _ => stage.mainstem(options, &server, "append"),
        }
    });
    report.table(changes, &cases);
    report.target("Upsert into PostgreSQL", cases.ratio(1), "× psql", &Target::AtLeast(0.9));
    report.target("Append into PostgreSQL", cases.ratio(3), "× psql COPY", &Target::AtLeast(0.8));
}

/// A source with its log filled, and targets that hold the base rows.
struct Stage {
    source: Database,
    target: Database,
    dir: tempfile::TempDir,
    base: u64,
    changes: u64,
}

impl Drop for Stage {
    /// The next round makes slots of the same names.
    fn drop(&mut self) {
        let slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()";
        mainstem_tests::wait_until("the slots are free", || self.source.try_query(slots).is_ok());
    }
}

impl Stage {
    fn make(options: &Options, source: &PgServer, target: &PgServer, base: u64, changes: u64, round: usize) -> Self {
        println!("   making {base} rows and {changes} changes");
        let dir = tempfile::Builder::new().prefix("mainstem-bench-").tempdir().expect("temporary folder");
        let row_of_i = row("i");
        let source = source.create_database(&format!("source_{round}"));
        let target = target.create_database(&format!("target_{round}"));
        source.exec(&format!(
            "CREATE TABLE orders {COLUMNS}; INSERT INTO orders SELECT {row_of_i} FROM generate_series(1, {base}) i"
        ));
        let stage = Self { source, target, dir, base, changes };
        for mode in ["upsert", "append"] {
            // The table is made and filled by Mainstem, as its offset rows have to be there; then the changes go into the log alone.
            stage.run(options, mode, true);
        }
        for from in (0..changes).step_by(BATCH as usize) {
            let (first, last) = (base - changes / 2 + from + 1, base - changes / 2 + from + BATCH);
            stage.source.exec(&format!(
                "INSERT INTO orders SELECT {row_of_i} FROM generate_series({first}, {last}) i
                 ON CONFLICT (id) DO UPDATE SET n = orders.n + 1, amount = excluded.amount + 1, note = excluded.note || '!'"
            ));
        }
        let read = || ["upsert", "append"].iter().for_each(|mode| stage.run(options, mode, false));
        read();
        confirm_all(&stage.source, read);
        stage.prepare_psql();
        stage
    }

    fn file(&self, mode: &str, with_sink: bool) -> std::path::PathBuf {
        let mut text = format!(
            "name: {mode}\nsource:\n  postgres:\n    url: \"{}\"\n    user: postgres\n    tables: [public.orders]\n",
            self.source.socket_url()
        );
        if with_sink {
            let _ = write!(
                text,
                "sinks:\n  warehouse:\n    jdbc: {{ url: \"{}\", user: postgres, mode: {mode}, schema: to_{mode} }}\n",
                self.target.socket_url()
            );
        }
        let file = self.dir.path().join(format!("{mode}.yaml"));
        fs::write(&file, text).expect("pipeline file");
        file
    }

    fn command(&self, options: &Options, mode: &str, with_sink: bool) -> Command {
        let mut command = Command::new(&options.binary);
        command.arg("run").arg(self.file(mode, with_sink)).arg("--data-dir").arg(self.dir.path().join(mode)).arg("--once");
        command
    }

    fn run(&self, options: &Options, mode: &str, with_sink: bool) {
        let output = self.command(options, mode, with_sink).output().expect("mainstem");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn mainstem(&self, options: &Options, server: &PgServer, mode: &str) -> Cost {
        self.target.exec("CHECKPOINT");
        run(vec![self.command(options, mode, true)], server.pid())
    }

    /// The rows as the changes leave them, in files of one batch, and a table like the one that Mainstem made.
    fn prepare_psql(&self) {
        let base = self.base;
        self.target.exec(&format!("CREATE TABLE orders {COLUMNS}"));
        let first = base - self.changes / 2;
        let all = self.dir.path().join("base.copy");
        copy_out(&self.source, &format!("SELECT * FROM orders WHERE id <= {base}"), &all);
        copy_in(&self.target, "orders", &all);
        for (i, from) in (0..self.changes).step_by(BATCH as usize).enumerate() {
            let range = format!("SELECT * FROM orders WHERE id BETWEEN {} AND {}", first + from + 1, first + from + BATCH);
            copy_out(&self.source, &range, &self.dir.path().join(format!("{i}.copy")));
        }
    }

    fn psql_upsert(&self, server: &PgServer) -> Cost {
        let columns = ["n", "amount", "note", "code", "placed", "day", "paid", "items", "ref"];
        let set: Vec<String> = columns.iter().map(|name| format!("{name} = excluded.{name}")).collect();
        let mut script = "CREATE TEMP TABLE staging (LIKE orders);\n".to_owned();
        for i in 0..self.changes.div_ceil(BATCH) {
            let file = self.dir.path().join(format!("{i}.copy"));
            let _ = write!(
                script,
                "BEGIN;\n\\copy staging FROM '{}' (FORMAT binary)\nINSERT INTO orders SELECT * FROM staging ON CONFLICT (id) DO UPDATE SET {};\nTRUNCATE staging;\nCOMMIT;\n",
                file.display(),
                set.join(", ")
            );
        }
        let path = self.dir.path().join("upsert.sql");
        fs::write(&path, script).expect("script");
        self.target.exec("CHECKPOINT");
        let mut command = self.target.psql();
        command.arg("-f").arg(&path);
        run(vec![command], server.pid())
    }

    /// As many rows with the same columns as Mainstem's append writes: those of the base that it wrote before.
    fn psql_append(&self, server: &PgServer) -> Cost {
        self.target.exec("CREATE TABLE like_append AS SELECT * FROM to_append.orders LIMIT 0");
        let rows = self.dir.path().join("append.copy");
        copy_out(&self.target, &format!("SELECT * FROM to_append.orders WHERE id > {}", self.base - self.changes), &rows);
        self.target.exec("CHECKPOINT");
        let mut command = self.target.psql();
        command.args(["-c", &format!("\\copy like_append FROM '{}' (FORMAT binary)", rows.display())]);
        run(vec![command], server.pid())
    }
}

fn copy_out(database: &Database, query: &str, file: &Path) {
    let output =
        database.psql().args(["-c", &format!("\\copy ({query}) TO '{}' (FORMAT binary)", file.display())]).output().expect("psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn copy_in(database: &Database, table: &str, file: &Path) {
    let output =
        database.psql().args(["-c", &format!("\\copy {table} FROM '{}' (FORMAT binary)", file.display())]).output().expect("psql");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
