use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use tempfile::TempDir;

use crate::{
    Database, Guard, PgVersion,
    environment::{as_server_user, server_user},
    free_port, make_certificate,
    postgres_version::pg_bin,
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
    // What it is anyway as of 14.
    ("password_encryption", "scram-sha-256"),
    ("ssl_cert_file", "../server-cert.pem"),
    ("ssl_key_file", "../server-key.pem"),
];

/// Users whose names say how they have to prove themselves come first; everybody else is trusted.
const ACCESS: &str = "hostssl all,replication tls_user 127.0.0.1/32 scram-sha-256
host all,replication tls_user 127.0.0.1/32 reject
hostnossl all,replication open_user 127.0.0.1/32 scram-sha-256
host all,replication open_user 127.0.0.1/32 reject
host all,replication scram_user 127.0.0.1/32 scram-sha-256
host all,replication md5_user 127.0.0.1/32 md5
host all,replication plain_user 127.0.0.1/32 password
local all,replication all trust
host all,replication all 127.0.0.1/32 trust
";

/// A private PostgreSQL in a temporary folder, on a free port and a unix socket. Stopped and removed when dropped, or when this
/// process ends.
///
/// It speaks TLS when the setting `ssl` is `on` (see [`has_tls`](Self::has_tls)), with a certificate for `localhost`.
#[derive(Debug)]
pub struct PgServer {
    bin: PathBuf,
    port: u16,
    /// Before the folder: a server whose folder is gone cannot be told to stop, and only looks for it once a minute.
    _guard: Guard,
    dir: TempDir,
}

impl PgServer {
    /// Starts one.
    pub fn start(version: PgVersion) -> Self {
        Self::with_settings(version, &[])
    }

    /// Starts one with more settings, which win over the usual ones.
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
        initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
        run(initdb, "initdb");
        let port = free_port();
        let mut text = format!("port = {port}\nunix_socket_directories = '{}'\n", dir.path().display());
        for (name, value) in SETTINGS.iter().chain(settings) {
            text += &format!("{name} = '{value}'\n");
        }
        append(&data.join("postgresql.conf"), &text);
        fs::write(data.join("pg_hba.conf"), ACCESS).expect("pg_hba.conf");
        make_certificate(dir.path());
        if let Some((uid, gid)) = server_user() {
            // The key may be nobody else's.
            chown(dir.path().join("server-key.pem"), Some(uid), Some(gid)).expect("chown");
        }
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

    /// Its version's first number: 15.
    pub fn version(&self) -> u32 {
        let number = self.existing_database("postgres").query("show server_version_num");
        number.parse::<u32>().unwrap_or_else(|_| panic!("not a version: {number}")) / 10_000
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The certificate of the authority that signed the server's.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Whether the server was built with TLS.
    pub fn has_tls(&self) -> bool {
        let mut command = Command::new(self.bin.join("postgres"));
        command.args(["-C", "ssl_library", "-D"]).arg(self.data_dir()).stdin(Stdio::null());
        as_server_user(&mut command);
        let output = command.output().expect("run postgres");
        !output.stdout.trim_ascii().is_empty()
    }

    /// A client program, such as `pgbench`, aimed at the server.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env("PGHOST", self.socket_dir()).env("PGPORT", self.port.to_string()).env("PGUSER", "postgres");
        command.stdin(Stdio::null());
        command
    }

    /// Process id of the server's first process.
    pub fn pid(&self) -> u32 {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).expect("postmaster.pid");
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
        command.arg(action).arg("-D").arg(self.data_dir());
        command
    }

    /// Creates a database of that name.
    pub fn create_database(&self, name: &str) -> Database {
        self.existing_database("postgres").exec(&format!("CREATE DATABASE {}", crate::identifier(name)));
        self.existing_database(name)
    }

    /// A database that is there already.
    pub fn existing_database(&self, name: &str) -> Database {
        Database::new(&self.bin, self.socket_dir(), self.port, name)
    }
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
