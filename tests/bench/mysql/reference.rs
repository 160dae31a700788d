//! The C program that drains a log or a query with the servers' own client library.

use std::{path::Path, process::Command};

use mainstem_tests::{MySqlServer, repository};
use tempfile::TempDir;

/// tests/bench/mysql/client.c, compiled.
pub struct CClient {
    dir: TempDir,
}

impl CClient {
    /// Compiles it; libmariadb-dev has to be there.
    pub fn compile() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let flags =
            Command::new("mariadb_config").args(["--include", "--libs"]).output().expect("mariadb_config of libmariadb-dev");
        let compiled = Command::new("cc")
            .args(["-O2", "-o"])
            .arg(dir.path().join("client"))
            .arg(repository().join("tests/bench/mysql/client.c"))
            .args(String::from_utf8_lossy(&flags.stdout).split_whitespace())
            .status()
            .expect("cc");
        assert!(compiled.success(), "cannot compile tests/bench/mysql/client.c (libmariadb-dev is needed)");
        Self { dir }
    }

    fn command(&self, mode: &str, server: &MySqlServer) -> Command {
        let mut command = Command::new(self.dir.path().join("client"));
        command.arg(mode).arg(server.socket());
        command
    }

    /// Fetches the binary log from the start of a file to its end and throws it away.
    pub fn drain(&self, server: &MySqlServer, file: &Path) -> Command {
        let mut command = self.command("drain", server);
        command.arg(file.file_name().expect("name of a binary log"));
        command
    }

    /// Fetches all rows of a query, unbuffered, and throws them away.
    pub fn select(&self, server: &MySqlServer, query: &str) -> Command {
        let mut command = self.command("select", server);
        command.arg(query);
        command
    }
}
