use std::{
    ffi::OsString,
    io::Write,
    process::{Command, Stdio},
};

use crate::Session;

/// A database of a [`MySqlServer`](crate::MySqlServer), used through the client program that comes with it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct MySqlDatabase {
    client: OsString,
    arguments: Vec<OsString>,
    name: String,
    port: u16,
}

impl MySqlDatabase {
    pub(crate) fn new(client: &Command, name: &str, port: u16) -> Self {
        let arguments = client.get_args().map(OsString::from).collect();
        Self { client: client.get_program().into(), arguments, name: name.to_owned(), port }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `mysql://127.0.0.1:port/name`, no user in it.
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same through another port, such as a proxy's.
    pub fn url_at(&self, port: u16) -> String {
        format!("mysql://127.0.0.1:{port}/{}", self.name)
    }

    /// A client command for it: as `root` over the unix socket, in UTF-8, tab-separated without headings, stopping at the first error.
    pub fn client(&self) -> Command {
        let mut command = Command::new(&self.client);
        command.args(&self.arguments).arg(&self.name);
        command
    }

    /// Runs statements, each its own transaction unless they say otherwise; panics with the server's message if one fails.
    #[track_caller]
    pub fn exec(&self, sql: &str) {
        self.query(sql);
    }

    /// Runs statements and returns what they printed, trailing newline cut off: tabs between columns, `NULL`, `\t`, `\n` and `\\` escaped.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        self.try_query(sql).unwrap_or_else(|error| panic!("{error}\n(database {}, statement: {sql:.300})", self.name))
    }

    /// The same; an error is the server's message.
    pub fn try_query(&self, sql: &str) -> Result<String, String> {
        // Through standard input: a command line has a limit.
        let child = self.client().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{}: {e}", self.client.display()));
        let mut input = child.stdin.take().expect("input of the client");
        let text = sql.to_owned();
        let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = child.wait_with_output().expect("wait for the client");
        let _ = writer.join();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// One number.
    #[track_caller]
    pub fn number(&self, sql: &str) -> i64 {
        let text = self.query(sql);
        text.parse().unwrap_or_else(|_| panic!("not a number: `{text}` from {sql}"))
    }

    /// A connection that stays open, for transactions that have to overlap.
    pub fn session(&self) -> Session {
        Session::mysql(self.client())
    }
}
