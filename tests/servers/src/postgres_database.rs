use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use crate::Session;

/// A database of a [`PgServer`], used through `psql`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    bin: PathBuf,
    socket_dir: PathBuf,
    port: u16,
    name: String,
}

impl Database {
    pub(crate) fn new(bin: &Path, socket_dir: &Path, port: u16, name: &str) -> Self {
        Self { bin: bin.to_owned(), socket_dir: socket_dir.to_owned(), port, name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its URL over TCP; no user in it.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// Its URL over TCP through another port, such as a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        format!("postgres://127.0.0.1:{port}/{}", self.name)
    }

    /// Its URL over the unix socket; no user in it.
    pub fn socket_url(&self) -> String {
        format!("postgres://localhost:{}/{}?host={}", self.port, self.name, self.socket_dir.display())
    }

    /// A `psql` command for it, quiet and stopping at the first error.
    pub fn psql(&self) -> Command {
        let mut command = Command::new(self.bin.join("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", &self.name]);
        command.arg("-h").arg(&self.socket_dir).arg("-p").arg(self.port.to_string());
        let options = "-c client_min_messages=error -c intervalstyle=postgres -c bytea_output=hex -c extra_float_digits=3";
        command.env("PGTZ", "UTC").env("PGDATESTYLE", "ISO").env("PGCLIENTENCODING", "UTF8").env("PGOPTIONS", options);
        command
    }

    /// Runs statements; panics with the server's message if one fails. One call is one implicit transaction, as `psql -c` has it.
    #[track_caller]
    pub fn exec(&self, sql: &str) {
        self.query(sql);
    }

    /// Runs statements and returns what the server printed, trailing newline cut off.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        self.try_query(sql).unwrap_or_else(|error| panic!("{error}\n(database {}, statement: {:.300})", self.name, sql))
    }

    /// The same; an error is the server's message.
    pub fn try_query(&self, sql: &str) -> Result<String, String> {
        // Through standard input when it is long: a command line has a limit.
        if sql.len() < 100_000 {
            text(&self.psql().arg("-c").arg(sql).stdin(Stdio::null()).output().expect("run psql"))
        } else {
            self.through_input(sql, &["-1"])
        }
    }

    /// Runs statements, each its own transaction unless they say otherwise. An error is the server's message, and the statements before it
    /// stay done.
    pub fn script(&self, sql: &str) -> Result<String, String> {
        self.through_input(sql, &[])
    }

    fn through_input(&self, sql: &str, options: &[&str]) -> Result<String, String> {
        let mut command = self.psql();
        command.args(options).args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("run psql");
        let mut input = child.stdin.take().expect("stdin of psql");
        let sql = sql.to_owned();
        let writer = std::thread::spawn(move || input.write_all(sql.as_bytes()));
        let output = child.wait_with_output().expect("psql");
        let _ = writer.join();
        text(&output)
    }

    /// One number.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let text = self.query(sql);
        text.parse().unwrap_or_else(|_| panic!("not a number: `{text}` from {sql}"))
    }

    /// A connection that stays open, for transactions that have to overlap.
    pub fn session(&self) -> Session {
        Session::psql(self.psql())
    }

    /// The end of the server's log now, as a number that grows.
    pub fn wal_end(&self) -> i64 {
        self.number("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn")
    }

    /// What the permanent logical slot of this database has confirmed, as a number that grows; `None` when there is no such slot or it
    /// has confirmed nothing yet.
    pub fn confirmed(&self) -> Option<i64> {
        self.query(
            "SELECT confirmed_flush_lsn - '0/0'::pg_lsn FROM pg_replication_slots \
             WHERE database = current_database() AND NOT temporary AND slot_type = 'logical' ORDER BY 1 LIMIT 1",
        )
        .parse()
        .ok()
    }

    /// Names of the permanent slots of this database, comma-separated.
    pub fn slots(&self) -> String {
        self.query(
            "SELECT string_agg(slot_name, ',') FROM pg_replication_slots WHERE database = current_database() AND NOT temporary",
        )
    }
}

/// A name as PostgreSQL's SQL wants it.
pub fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// What a client printed; an error is what it complained of.
fn text(output: &Output) -> Result<String, String> {
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}
