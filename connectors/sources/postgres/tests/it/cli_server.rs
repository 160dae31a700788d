//! A private server, and databases on it.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Sender, channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static DATABASES: AtomicUsize = AtomicUsize::new(0);

const HBA: &str = "local all all trust
hostnossl all scram_user 127.0.0.1/32 scram-sha-256
hostnossl all md5_user 127.0.0.1/32 md5
hostnossl all plain_user 127.0.0.1/32 password
hostssl all all 127.0.0.1/32 scram-sha-256
host all postgres 127.0.0.1/32 trust
";

pub struct Server {
    pub folder: PathBuf,
    pub port: u16,
    /// The server was built with TLS.
    pub has_tls: bool,
    /// The server was built with the functions of `xml`.
    pub has_xml: bool,
    stop: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
    _temporary: tempfile::TempDir,
}

/// Where the server's programs are.
fn bin() -> PathBuf {
    let versions = (12..=18).rev().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin")));
    let own = std::env::var_os("PG_BIN").map(PathBuf::from);
    own.into_iter()
        .chain(versions)
        .find(|folder| folder.join("initdb").exists())
        .expect("PostgreSQL's server programs are needed: apt-get install postgresql")
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0)
}

/// A server program, as a user that is not root; it ends with this process.
fn program(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "QUIT", "--"]).arg(bin().join(name)).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

impl Server {
    /// The server that the tests share.
    pub fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start("wal_level = logical\n"));
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// A server of one's own, with further settings.
    pub fn start(settings: &str) -> Self {
        let temporary = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        let folder = temporary.path().to_owned();
        let data = folder.join("data");
        make_certificate(&folder);
        if is_root() {
            run(Command::new("chown").args(["-R", "postgres"]).arg(&folder));
        }
        run(program("initdb").args(["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8", "-N", "-D"]).arg(&data));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let built = Command::new(bin().join("pg_config")).arg("--configure").output().unwrap().stdout;
        let [has_tls, has_xml] = ["openssl", "libxml"].map(|part| String::from_utf8_lossy(&built).contains(part));
        let tls = if has_tls { "on" } else { "off" };
        let base = format!(
            "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{0}'\nmax_replication_slots = 60\nmax_wal_senders = 60\n\
             fsync = off\nmax_connections = 150\nssl = {tls}\nssl_cert_file = '{0}/server.crt'\nssl_key_file = '{0}/server.key'\n\
             wal_sender_timeout = 5s\n{settings}",
            folder.display()
        );
        let mut config = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        config.push_str(&base);
        fs::write(data.join("postgresql.conf"), config).unwrap();
        let hba = HBA.lines().filter(|line| has_tls || !line.starts_with("hostssl")).collect::<Vec<_>>().join("\n");
        fs::write(data.join("pg_hba.conf"), hba + "\n").unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let (stop, stopped) = channel::<()>();
        let (started, starting) = channel();
        // The program ends with the thread that started it: this one stays as long as the server does.
        let keeper = std::thread::spawn(move || {
            let mut server = program("postgres").arg("-D").arg(&data).stderr(log).stdout(Stdio::null()).spawn().unwrap();
            started.send(()).unwrap();
            let _ = stopped.recv();
            interrupt(&server);
            let _ = server.wait();
        });
        starting.recv().unwrap();
        let server = Self { folder, port, has_tls, has_xml, stop: Some(stop), keeper: Some(keeper), _temporary: temporary };
        let until = Instant::now() + Duration::from_secs(60);
        while !server.command("psql").args(["-d", "postgres", "-c", "select 1"]).output().unwrap().status.success() {
            assert!(Instant::now() < until, "{}", fs::read_to_string(server.folder.join("log")).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    /// A client program, aimed at the server.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(bin().join(name));
        command.env("PGHOST", &self.folder).env("PGPORT", self.port.to_string()).env("PGUSER", "postgres").stdin(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// An immediate end: SIGQUIT.
fn interrupt(child: &Child) {
    let _ = Command::new("kill").args(["-QUIT", &child.id().to_string()]).status();
}

/// `ca.crt` and a server certificate for `localhost` that it signed.
fn make_certificate(folder: &Path) {
    let openssl = |arguments: &str| {
        run(Command::new("openssl").args(arguments.split(' ')).current_dir(folder));
    };
    openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=authority -keyout ca.key -out ca.crt");
    openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr");
    fs::write(folder.join("san"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl("x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt");
}

/// A database of a test.
pub struct Database {
    pub server: Arc<Server>,
    pub name: String,
}

impl Database {
    pub fn new() -> Self {
        Self::on(Server::shared())
    }

    pub fn on(server: Arc<Server>) -> Self {
        let name = format!("db{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        run(server.command("psql").args(["-q", "-d", "postgres", "-c", &format!("create database {name}")]));
        Self { server, name }
    }

    /// Runs statements, each its own transaction unless they say otherwise; returns what they print, unaligned.
    pub fn sql(&self, sql: &str) -> String {
        let output = self.try_sql(sql);
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub fn try_sql(&self, sql: &str) -> std::process::Output {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), sql).unwrap();
        self.server
            .command("psql")
            .args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-d", &self.name, "-f"])
            .arg(file.path())
            .output()
            .unwrap()
    }

    /// A URL over the unix socket.
    pub fn url(&self) -> String {
        format!("postgres://postgres@/{}?host={}&port={}", self.name, self.server.folder.display(), self.server.port)
    }

    /// A URL over TCP.
    pub fn tcp_url(&self, user: &str, host: &str) -> String {
        format!("postgres://{user}@{host}:{}/{}", self.server.port, self.name)
    }

    /// Waits until a query prints `expected`.
    pub fn wait_for(&self, sql: &str, expected: &str) {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let found = self.sql(sql);
            if found == expected {
                return;
            }
            assert!(Instant::now() < until, "{sql}: {found} instead of {expected}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Slots outlive databases' tests otherwise, and there are not many.
        let drop_slots = format!(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '{}' and not active",
            self.name
        );
        let _ = self.server.command("psql").args(["-q", "-d", "postgres", "-c", &drop_slots]).output();
    }
}
