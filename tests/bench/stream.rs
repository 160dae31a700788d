//! Stream: a backlog through `pg_recvlogical` into /dev/null (the limit: it only receives), through Mainstem into its log, and through it into Parquet.

use std::{fs, path::Path, process::Command};

use mainstem_tests::PgServer;

use crate::{
    backlog::{self, Backlog, Kind},
    options::Options,
    process::{Cost, run},
    report::{Cases, Report, Target},
};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Socket {
    Unix,
    Tcp,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    RecvLogical,
    Log,
    Parquet,
}

struct Case {
    socket: Socket,
    client: Client,
}

/// Measures one kind of backlog.
pub fn measure(kind: Kind, options: &Options, report: &mut Report) {
    let (title, about) = match kind {
        Kind::Large => ("Stream: large transactions", "Inserts into a table of ten columns, 100,000 rows a transaction."),
        Kind::Small => ("Stream: one-row transactions", "The same rows, one a transaction, from two sessions."),
        Kind::Updates => {
            ("Stream: updates", "Updates of three of the ten columns, 100,000 rows a transaction, replica identity DEFAULT.")
        }
        Kind::ThousandTables => {
            ("Stream: a thousand tables", "Inserts into a thousand tables in turn, row by row, 100,000 rows a transaction.")
        }
    };
    // A server each: what one backlog left in the WAL must not be read with the next.
    let server = backlog::server();
    let rows = if kind == Kind::ThousandTables { options.rows / 2 } else { options.rows };
    let backlog = Backlog::make(&server, kind, rows);
    report.section(
        title,
        &format!("{about} The reference is `pg_recvlogical` to /dev/null with the same options (protocol 3, binary), over the same kind of socket."),
    );
    let sockets: &[Socket] = if matches!(kind, Kind::Large | Kind::Small) { &[Socket::Unix, Socket::Tcp] } else { &[Socket::Unix] };
    let cases: Vec<Case> = sockets
        .iter()
        .flat_map(|&socket| [Client::RecvLogical, Client::Log, Client::Parquet].map(|client| Case { socket, client }))
        .collect();
    let names: Vec<(String, Option<usize>)> = cases
        .iter()
        .enumerate()
        .map(|(i, case)| (case.name(), (case.client != Client::RecvLogical).then_some(i - i % 3)))
        .collect();
    let names: Vec<(&str, Option<usize>)> = names.iter().map(|(name, reference)| (name.as_str(), *reference)).collect();
    // Removed when all rounds are over: a thousand removed files make the next thousand slower.
    let mut kept = Vec::new();
    let costs = report.in_turns(options, &names, |i| {
        let dir = tempfile::tempdir().expect("temporary folder");
        let cost = cases[i].run(options, &server, &backlog, dir.path());
        kept.push(dir);
        cost
    });
    report.table(rows, &costs);
    report.note(
        "The server's process that sends, in parts of the run: what it waits for beside processors is room in the socket, that is, its reader; and \
         what is left to do when it has sent everything. The kernel holds some 270 small messages of a unix socket. A server that sends a \
         transaction it has decoded fills that in half a millisecond, and stalls if its reader, which shares the other processor with encoding and \
         sinks, gets its turn later. Over TCP there is room for thousands.",
    );
    let senders = cases.iter().enumerate().map(|(i, case)| {
        let percent = |seconds: fn(&Cost) -> f64| format!("{:.0} %", 100.0 * costs.median(i, |cost| seconds(cost) / cost.wall));
        vec![
            case.name(),
            percent(|cost| cost.sender.0),
            percent(|cost| cost.sender.1),
            percent(|cost| cost.wall - cost.sender.0 - cost.sender.1),
        ]
    });
    report.grid(&["case", "runs", "waits for a processor", "waits for its reader"], senders);
    targets(report, kind, rows, &cases, &costs);
}

fn targets(report: &mut Report, kind: Kind, rows: u64, cases: &[Case], costs: &Cases) {
    for (i, case) in cases.iter().enumerate() {
        if case.client == Client::RecvLogical {
            continue;
        }
        let what = format!("{kind:?}, {}", case.name());
        let limit = match (kind, case.client) {
            (Kind::ThousandTables, _) => 0.6,
            (_, Client::Parquet) => 0.85,
            _ => 0.9,
        };
        report.target(&what, costs.ratio(i), "× pg_recvlogical", &Target::AtLeast(limit));
        report.target(&format!("{what}: peak memory"), costs.peak(i), "MiB", &Target::AtMost(150.0));
        let cpu = costs.client_seconds(i, rows);
        let limit = match kind {
            Kind::Large => 5.0,
            Kind::Small => 12.0,
            _ => continue,
        };
        if case.client == Client::Parquet {
            report.target(&format!("{what}: CPU of ours per million rows"), cpu, "s", &Target::AtMost(limit));
        }
    }
}

impl Case {
    fn name(&self) -> String {
        let client = match self.client {
            Client::RecvLogical => "pg_recvlogical to /dev/null",
            Client::Log => "Mainstem to its log",
            Client::Parquet => "Mainstem to its log and Parquet",
        };
        let socket = match self.socket {
            Socket::Unix => "unix socket",
            Socket::Tcp => "TCP",
        };
        format!("{client}, {socket}")
    }

    fn run(&self, options: &Options, server: &PgServer, backlog: &Backlog, dir: &Path) -> Cost {
        backlog.copy_slot("run");
        let command = match self.client {
            Client::RecvLogical => self.recvlogical(server, backlog),
            Client::Log | Client::Parquet => self.mainstem(options, backlog, dir),
        };
        let cost = run(vec![command], server.pid());
        if self.client != Client::RecvLogical {
            check(options, backlog.rows, dir);
        }
        backlog.drop_slot("run");
        cost
    }

    fn recvlogical(&self, server: &PgServer, backlog: &Backlog) -> Command {
        let mut command = Command::new(server.bin().join("pg_recvlogical"));
        let host = match self.socket {
            Socket::Unix => server.socket_dir().display().to_string(),
            Socket::Tcp => "127.0.0.1".to_owned(),
        };
        command.args(["-h", &host, "-p", &server.port().to_string(), "-U", "postgres", "-d", backlog.database.name()]);
        command.args(["-S", "run", "--start", "--no-loop", "-F", "0", "-f", "/dev/null", "--endpos", &backlog.end]);
        command.args(["-o", "proto_version=3", "-o", "publication_names=bench", "-o", "binary=true"]);
        command
    }

    fn mainstem(&self, options: &Options, backlog: &Backlog, dir: &Path) -> Command {
        let url = match self.socket {
            Socket::Unix => backlog.database.socket_url(),
            Socket::Tcp => backlog.database.url(),
        };
        let mut text = format!(
            "name: bench\nsource:\n  postgres:\n    url: \"{url}\"\n    user: postgres\n    tables: [\"public.*\"]\n    \
             slot: {{ name: run, create: false }}\n    publication: {{ name: bench, create: false }}\n    snapshot: {{ mode: never }}\n"
        );
        if self.client == Client::Parquet {
            text += &format!("sinks:\n  lake:\n    files: {{ url: \"file://{}\" }}\n", dir.join("lake").display());
        }
        let file = dir.join("bench.yaml");
        fs::write(&file, text).expect("pipeline file");
        let mut command = Command::new(&options.binary);
        command.arg("run").arg(&file).arg("--data-dir").arg(dir.join("data")).arg("--once");
        command
    }
}

/// Every row event has to be in the log: a fast run that lost some is no run.
pub fn check(options: &Options, rows: u64, dir: &Path) {
    let output = Command::new(&options.binary)
        .args(["topics", "--json", "--data-dir"])
        .arg(dir.join("data"))
        .output()
        .expect("mainstem topics");
    let topics: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).expect("JSON of mainstem topics");
    let ours = topics.iter().filter(|topic| topic["pipeline"] == "bench");
    let records: u64 = ours.filter_map(|topic| topic["records"].as_u64()).sum();
    assert_eq!(records, rows, "records in the log");
}
