//! Binary log: a backlog decoded to text by the server's own tool, drained by its client library, and through Mainstem into its log and Parquet.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use mainstem_tests::{Flavor, MySqlDatabase, MySqlServer};

use super::{COLUMNS, LARGE, insert, insert_one_by_one, lake, make_numbers, once, pipeline, reference::CClient, server, succeed};
use crate::{
    backlog::Kind,
    options::Options,
    process::{Cost, run},
    report::{Cases, Report, Target},
    stream::check,
};

/// Measures the kinds of backlog of both servers.
pub fn measure(options: &Options, report: &mut Report) {
    let client = CClient::compile();
    for flavor in Flavor::ALL {
        for kind in [Kind::Large, Kind::Updates, Kind::Small] {
            one(flavor, kind, options, report, &client);
        }
    }
}

fn one(flavor: Flavor, kind: Kind, options: &Options, report: &mut Report, client: &CClient) {
    let server = server(flavor, false);
    let (tool, product) = match flavor {
        Flavor::MariaDb => ("mariadb-binlog", "MariaDB"),
        Flavor::MySql => ("mysqlbinlog", "MySQL"),
    };
    let about = match kind {
        Kind::Large => "inserts into a table of ten columns, 100,000 rows a transaction",
        Kind::Updates => "updates of three of the ten columns, 100,000 rows a transaction, full row images",
        _ => "the same inserts, one a transaction",
    };
    report.section(
        &format!("Binary log of {product}: {kind:?}"),
        &format!(
            "{} {about}. The reference is `{tool} --base64-output=decode-rows -v` over the same files to /dev/null; beside it what only receives \
             the events. Unix socket.",
            options.rows
        ),
    );
    let backlog = Backlog::make(options, &server, kind);
    // MariaDB's client library does not know all events of MySQL.
    let drained = match flavor {
        Flavor::MariaDb => "C client, events thrown away",
        Flavor::MySql => "mysqlbinlog --raw from the server to files",
    };
    let names = [&format!("{tool} -v to /dev/null"), drained, "Mainstem to its log", "Mainstem to its log and Parquet"];
    let cases: Cases = report.in_turns(options, &names.map(|name| (name, (name != names[0]).then_some(0))), |case| match case {
        0 => {
            let mut command = server.tool(tool);
            command.args(["--no-defaults", "--base64-output=decode-rows", "-v"]).args(&backlog.files);
            run(vec![command], server.pid())
        }
        1 if flavor == Flavor::MariaDb => run(vec![client.drain(&server, &backlog.files[0])], server.pid()),
        1 => backlog.raw(&server),
        _ => backlog.mainstem(options, &server, case == 3),
    });
    report.table(options.rows, &cases);
    let what = format!("{product}, {kind:?}: binary log to log");
    let limit = if kind == Kind::Small { 3.0 } else { 1.3 };
    report.target(&what, cases.ratio(2), &format!("× {tool}"), &Target::AtLeast(limit));
    report.target(
        &format!("{what}: CPU of ours per million rows"),
        cases.client_seconds(2, options.rows),
        "s",
        &Target::AtMost(2.0),
    );
    report.target(&format!("{what}: peak memory"), cases.peak(2), "MiB", &Target::AtMost(150.0));
}

/// A binary log full of changes, and a data directory whose pipeline stands before them.
struct Backlog {
    database: MySqlDatabase,
    rows: u64,
    files: Vec<PathBuf>,
    dir: tempfile::TempDir,
}

impl Backlog {
    fn make(options: &Options, server: &MySqlServer, kind: Kind) -> Self {
        println!("   making a backlog of {} row events ({kind:?})", options.rows);
        let dir = tempfile::tempdir().expect("temporary folder");
        let database = server.create_database("bench");
        database.exec(&format!("CREATE TABLE orders {COLUMNS}"));
        make_numbers(&database);
        if kind == Kind::Updates {
            insert(&database, 1, options.rows);
        }
        database.exec("FLUSH BINARY LOGS");
        let file = pipeline(dir.path(), server, &database, SOURCE, "");
        succeed(once(options, &file, &dir.path().join("data")));
        let before = logs(server).len() - 1;
        match kind {
            Kind::Updates => {
                for from in (0..options.rows).step_by(LARGE as usize) {
                    database.exec(&format!(
                        "UPDATE orders SET n = n + 1, amount = amount + 1, placed = placed + INTERVAL 1 SECOND WHERE id BETWEEN {} AND {}",
                        from + 1,
                        from + LARGE
                    ));
                }
            }
            Kind::Small => insert_one_by_one(&database, 1, options.rows),
            _ => insert(&database, 1, options.rows),
        }
        let files = logs(server).split_off(before);
        Self { database, rows: options.rows, files, dir }
    }

    /// All that the server sends, as it is, into files.
    fn raw(&self, server: &MySqlServer) -> Cost {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut command = server.tool("mysqlbinlog");
        command.args(["--no-defaults", "--user=root", "--read-from-remote-server", "--raw", "--to-last-log"]);
        command.arg(format!("--socket={}", server.socket().display()));
        command.arg(format!("--result-file={}/", dir.path().display()));
        command.arg(self.files[0].file_name().expect("name of a binary log"));
        run(vec![command], server.pid())
    }

    fn mainstem(&self, options: &Options, server: &MySqlServer, parquet: bool) -> Cost {
        let dir = tempfile::tempdir().expect("temporary folder");
        let data = dir.path().join("data");
        succeed({
            let mut command = Command::new("cp");
            command.arg("-r").arg(self.dir.path().join("data")).arg(&data).stdin(Stdio::null());
            command
        });
        let sinks = if parquet { lake(dir.path()) } else { String::new() };
        let file = pipeline(dir.path(), server, &self.database, SOURCE, &sinks);
        let cost = run(vec![once(options, &file, &data)], server.pid());
        check(options, self.rows, dir.path());
        cost
    }
}

const SOURCE: &str = "    snapshot: { mode: never }\n";

/// The server's binary logs, oldest first.
fn logs(server: &MySqlServer) -> Vec<PathBuf> {
    let folder: &Path = &server.data_dir();
    let index = fs::read_to_string(folder.join("binlog.index")).expect("index of the binary logs");
    index.lines().map(|line| folder.join(line)).collect()
}
