use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const MARKER: &str = "--done--";

/// A connection through a client program that stays open, for transactions that have to overlap. Dropping it closes the connection, which rolls
/// an open transaction back.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What makes the client print the marker.
    print_marker: String,
}

impl Session {
    pub(crate) fn psql(command: Command) -> Self {
        Self::open(command, format!("\\echo {MARKER}"))
    }

    pub(crate) fn mysql(command: Command) -> Self {
        Self::open(command, format!("SELECT '{MARKER}';"))
    }

    fn open(mut client: Command, print_marker: String) -> Self {
        let child = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = child.unwrap_or_else(|e| panic!("{}: {e}", client.get_program().display()));
        let input = child.stdin.take().expect("input of the client");
        let output = BufReader::new(child.stdout.take().expect("output of the client"));
        Self { child, input, output, print_marker }
    }

    /// Runs statements and returns what they printed.
    #[track_caller]
    pub fn exec(&mut self, sql: &str) -> String {
        writeln!(self.input, "{sql};\n{}", self.print_marker).and_then(|()| self.input.flush()).expect("write to the client");
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("read from the client");
            assert!(read > 0, "the client ended (a statement failed): {sql:.300}");
            if line.trim_end() == MARKER {
                return text.trim_end_matches('\n').to_owned();
            }
            text += &line;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
