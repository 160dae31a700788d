//! Into MySQL and MariaDB: changes that are in the log, merged into a table, beside the client program that loads and merges the same rows.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use mainstem_tests::{Flavor, MySqlDatabase, MySqlServer};

use super::{COLUMNS, insert, make_numbers, once, pipeline, server, succeed};
use crate::{
    options::Options,
    process::run,
    report::{Report, Target},
};

/// Measures both servers.
pub fn measure(options: &Options, report: &mut Report) {
    for flavor in Flavor::ALL {
        let (base, changes) = (options.rows / 2, options.rows / 4);
        report.section(
            &format!("Into {flavor:?}"),
            &format!(
                "{changes} changes, half of them of rows that are there, half new, merged into a table of {base} rows. The changes are in Mainstem's log before the clock starts. \
                 The reference is the client program: `LOAD DATA LOCAL INFILE` into a temporary table and one `INSERT … SELECT … ON DUPLICATE KEY UPDATE` of all of them. \
                 Both over the unix socket; the server syncs its logs at every commit."
            ),
        );
        // A server each: what is written into the target must not be in the log that is read.
        let (source, target) = (server(flavor, false), server(flavor, true));
        let mut stage = None;
        let mut round = 0;
        let cases = report.in_turns(options, &[("LOAD DATA LOCAL, one merge", None), ("Mainstem: upsert", Some(0))], |case| {
            if case == 0 {
                round += 1;
                stage = Some(Stage::make(options, &source, &target, round, base, changes));
            }
            let stage = stage.as_ref().expect("the first case makes it");
            run(vec![if case == 0 { stage.client() } else { stage.mainstem(options, true) }], target.pid())
        });
        report.table(changes, &cases);
        report.target(&format!("Upsert into {flavor:?}"), cases.ratio(1), "× LOAD DATA and one merge", &Target::AtLeast(0.8));
    }
}

/// A source with its changes in the log, and two targets with the base rows.
struct Stage {
    dir: tempfile::TempDir,
    ours: MySqlDatabase,
    theirs: MySqlDatabase,
}

impl Stage {
    fn make(options: &Options, source: &MySqlServer, target: &MySqlServer, round: usize, base: u64, changes: u64) -> Self {
        println!("   making {base} rows and {changes} changes");
        let dir = tempfile::tempdir().expect("temporary folder");
        let database = source.create_database(&format!("bench{round}"));
        let (ours, theirs) = (target.create_database(&format!("ours{round}")), target.create_database(&format!("theirs{round}")));
        for database in [&database, &theirs] {
            database.exec(&format!("CREATE TABLE orders {COLUMNS}"));
        }
        make_numbers(&database);
        insert(&database, 1, base);
        let stage = Self { dir, ours, theirs };
        stage.write_files(source, &database, target);
        succeed(stage.mainstem(options, true));
        stage.load_base(&database);
        let (first, last) = (base - changes / 2 + 1, base + changes / 2);
        insert(&database, first, last);
        succeed(stage.mainstem(options, false));
        stage.text(&database, "changes.txt", &format!("id BETWEEN {first} AND {last}"));
        stage
    }

    fn write_files(&self, source: &MySqlServer, database: &MySqlDatabase, target: &MySqlServer) {
        let sink = format!(
            "sinks:\n  warehouse:\n    jdbc: {{ url: \"jdbc:mysql://localhost/{}?localSocket={}\", user: root }}\n",
            self.ours.name(),
            target.socket().display()
        );
        for (name, sinks) in [("with", sink.as_str()), ("without", "")] {
            fs::create_dir(self.dir.path().join(name)).expect("folder");
            pipeline(&self.dir.path().join(name), source, database, "", sinks);
        }
    }

    fn mainstem(&self, options: &Options, with_sink: bool) -> Command {
        let folder = self.dir.path().join(if with_sink { "with" } else { "without" });
        once(options, &folder.join("bench.yaml"), &self.dir.path().join("data"))
    }

    /// Rows of the source as text that `LOAD DATA` reads.
    fn text(&self, database: &MySqlDatabase, name: &str, condition: &str) -> PathBuf {
        let file = self.dir.path().join(name);
        let mut command = database.client();
        command.arg("--execute").arg(format!(
            "SELECT id, n, amount, note, code, placed, day, paid, items, hex(ref) FROM orders WHERE {condition} ORDER BY id"
        ));
        let rows = fs::File::create(&file).expect("file for rows");
        let status = command.stdout(rows).status().expect("client");
        assert!(status.success(), "the client cannot read the rows of {}", database.name());
        file
    }

    fn load_base(&self, database: &MySqlDatabase) {
        let file = self.text(database, "base.txt", "true");
        succeed(self.script(&load("orders", &file)));
    }

    fn script(&self, sql: &str) -> Command {
        let mut command = self.theirs.client();
        command.arg("--local-infile=1").arg("--execute").arg(sql);
        command
    }

    fn client(&self) -> Command {
        let columns = ["n", "amount", "note", "code", "placed", "day", "paid", "items", "ref"];
        let set: Vec<String> = columns.iter().map(|name| format!("{name} = VALUES({name})")).collect();
        self.script(&format!(
            "CREATE TEMPORARY TABLE staging LIKE orders; BEGIN; {}; INSERT INTO orders SELECT * FROM staging ON DUPLICATE KEY UPDATE {}; COMMIT",
            load("staging", &self.dir.path().join("changes.txt")),
            set.join(", ")
        ))
    }
}

fn load(table: &str, file: &Path) -> String {
    format!(
        "LOAD DATA LOCAL INFILE '{}' INTO TABLE {table} CHARACTER SET utf8mb4 (id, n, amount, note, code, placed, day, paid, items, @ref) SET ref = unhex(@ref)",
        file.display()
    )
}
