use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const MARKER: &str = "--done--";

/// A connection through `psql` that stays open, for transactions that have to overlap. Dropping it closes the connection, which rolls an open
/// transaction back.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Session {
    pub(crate) fn open(mut psql: Command) -> Self {
        let mut child = psql.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("run psql");
        let input = child.stdin.take().expect("stdin of psql");
        let output = BufReader::new(child.stdout.take().expect("stdout of psql"));
        Self { child, input, output }
    }

    /// Runs statements and returns what they printed.
    #[track_caller]
    pub fn exec(&mut self, sql: &str) -> String {
        writeln!(self.input, "{sql};\n\\echo {MARKER}").expect("write to psql");
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("read from psql");
            assert!(read > 0, "psql ended (a statement failed): {sql:.300}");
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
