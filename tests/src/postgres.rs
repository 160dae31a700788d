use std::{
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

use crate::{
    Guard, PgVersion, Session,
    environment::{as_server_user, pg_bin, server_user},
};

/// What every server of the tests is started with. `fsync` is off because no test cuts the power of the machine.
const SETTINGS: &[(&str, &str)] = &[
    ("wal_level", "logical"),
    ("max_wal_senders", "60"),
    ("max_replication_slots", "60"),
    ("max_connections", "200"),
    ("max_wal_size", "4GB"),
    ("shared_buffers", "256MB"),
    ("fsync", "off"),
    ("log_min_messages", "warning"),
    ("listen_addresses", "127.0.0.1"),
];

/// A private PostgreSQL in a temporary folder, on a free port and a unix socket. Stopped and removed when dropped, or when this
/// process ends.
#[derive(Debug)]
pub struct PgServer {
    dir: TempDir,
    bin: PathBuf,
    port: u16,
    _guard: Guard,
}

impl PgServer {
    /// Starts one.
    pub fn start(version: PgVersion) -> Self {
        Self::with_settings(version, &[])
    }

    /// Starts one with more settings.
    pub fn with_settings(version: PgVersion, settings: &[(&str, &str)]) -> Self {
        Self::with_binaries(&pg_bin(version), settings)
    }

    /// Starts one from the programs in `bin`.
    pub fn with_binaries(bin: &Path, settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::Builder::new().prefix("mainstem-pg-").tempdir().expect("temporary folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        if let Some((uid, gid)) = server_user() {
            chown(dir.path(), Some(uid), Some(gid)).expect("chown");
        }
        let data = dir.path().join("data");
        let mut initdb = Command::new(bin.join("initdb"));
        initdb
            .args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions", "-D"])
            .arg(&data);
        run(initdb, "initdb");
        let port = free_port();
        let mut text = format!("port = {port}\nunix_socket_directories = '{}'\n", dir.path().display());
        for (name, value) in SETTINGS.iter().chain(settings) {
            text += &format!("{name} = '{value}'\n");
        }
        append(&data.join("postgresql.conf"), &text);
        // Users whose names say how they have to prove themselves come first; everybody else is trusted.
        let hba = "host all,replication scram_user 127.0.0.1/32 scram-sha-256\nhost all,replication md5_user 127.0.0.1/32 md5\n\
                   local all all trust\nhost all all 127.0.0.1/32 trust\nlocal replication all trust\nhost replication all 127.0.0.1/32 trust\n";
        fs::write(data.join("pg_hba.conf"), hba).expect("pg_hba.conf");
        let arguments = [bin.join("pg_ctl").display().to_string(), data.display().to_string(), dir.path().display().to_string()];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let guard = Guard::new("\"$1\" -D \"$2\" stop -m immediate; rm -rf \"$3\"", &arguments, true);
        let server = Self { dir, bin: bin.to_owned(), port, _guard: guard };
        server.start_again();
        server
    }

    /// A server for the tests that need none of their own; stopped when the process ends.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PgServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(PgVersion::V15))
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the unix socket.
    pub fn socket_dir(&self) -> &Path {
        self.dir.path()
    }

    /// The folder with its programs.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Process id of the server's first process.
    pub fn pid(&self) -> u32 {
        let text = fs::read_to_string(self.dir.path().join("data/postmaster.pid")).expect("postmaster.pid");
        text.lines().next().and_then(|line| line.trim().parse().ok()).expect("pid in postmaster.pid")
    }

    /// The server's own log.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    /// Stops it: `fast` (says goodbye to clients) or `immediate` (as if it had crashed).
    pub fn stop(&self, mode: &str) {
        let mut command = self.pg_ctl("stop");
        command.args(["-m", mode, "-w"]);
        run(command, "pg_ctl stop");
    }

    /// Starts it again after [`stop`](Self::stop), on the same port.
    pub fn start_again(&self) {
        let mut command = self.pg_ctl("start");
        command.args(["-w", "-t", "60", "-l"]).arg(self.dir.path().join("server.log"));
        run(command, "pg_ctl start");
    }

    fn pg_ctl(&self, action: &str) -> Command {
        let mut command = Command::new(self.bin.join("pg_ctl"));
        command.arg(action).arg("-D").arg(self.dir.path().join("data"));
        command
    }

    /// Creates a database of that name.
    pub fn create_database(&self, name: &str) -> Database {
        self.existing_database("postgres").exec(&format!("CREATE DATABASE {}", identifier(name)));
        self.existing_database(name)
    }

    /// A database that is there already.
    pub fn existing_database(&self, name: &str) -> Database {
        Database { bin: self.bin.clone(), socket_dir: self.socket_dir().to_owned(), port: self.port, name: name.to_owned() }
    }
}

/// A database of a [`PgServer`], used through `psql`. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Database {
    bin: PathBuf,
    socket_dir: PathBuf,
    port: u16,
    name: String,
}

impl Database {
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
        use std::io::Write;
        // Through standard input when it is long: a command line has a limit.
        let mut command = self.psql();
        let output = if sql.len() < 100_000 {
            command.arg("-c").arg(sql).stdin(Stdio::null()).output().expect("run psql")
        } else {
            let mut child = command
                .args(["-1", "-f", "-"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("run psql");
            let mut input = child.stdin.take().expect("stdin of psql");
            let text = sql.to_owned();
            let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
            let output = child.wait_with_output().expect("psql");
            let _ = writer.join();
            output
        };
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() {
            Ok(text.trim_end_matches('\n').to_owned())
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
        Session::open(self.psql())
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

/// A name as SQL wants it.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn append(path: &Path, text: &str) {
    let mut all = fs::read_to_string(path).expect("configuration file");
    all += text;
    fs::write(path, all).expect("configuration file");
}

fn run(mut command: Command, what: &str) {
    as_server_user(&mut command);
    // Into a file, not a pipe: the server that `pg_ctl start` leaves behind would hold the pipe open.
    let out = tempfile::tempfile().expect("temporary file");
    command.stdin(Stdio::null()).stdout(out.try_clone().expect("file")).stderr(out.try_clone().expect("file"));
    let status = command.status().unwrap_or_else(|e| panic!("{what}: {e}"));
    if !status.success() {
        use std::io::{Read, Seek};
        let (mut out, mut text) = (out, String::new());
        let _ = out.rewind();
        let _ = out.read_to_string(&mut text);
        panic!("{what}: {status}: {text}");
    }
}

/// A TCP port that nobody listens on now.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}
