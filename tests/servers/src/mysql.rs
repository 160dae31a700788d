use std::{
    fs,
    io::Read,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    Guard, MySqlDatabase,
    environment::{is_root, named_or},
    free_port, mysql_data,
    wait::MINUTE,
};

/// Which of the two relatives a test starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// Oracle's: `MAINSTEM_MYSQLD`, else the one in `.cache/mysql`.
    MySql,
    /// MariaDB: `MAINSTEM_MARIADBD`, else the one in `.cache/mariadb`.
    MariaDb,
}

impl Flavor {
    /// Both, for tests that run on each.
    pub const ALL: [Self; 2] = [Self::MySql, Self::MariaDb];

    /// `mysql` or `mariadb`, as URLs and client programs have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
        }
    }

    /// The environment variable that names the server program.
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::MySql => "MAINSTEM_MYSQLD",
            Self::MariaDb => "MAINSTEM_MARIADBD",
        }
    }

    fn program(self) -> PathBuf {
        match self {
            Self::MySql => named_or(self.variable(), ".cache/mysql/bin/mysqld"),
            Self::MariaDb => named_or(self.variable(), ".cache/mariadb/bin/mariadbd"),
        }
    }
}

/// What every server is started with: a binary log that describes its tables, little memory, and no waiting for the disk, because no test cuts
/// the power of the machine. Options of a test come after these and win.
const OPTIONS: &[&str] = &[
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--server-id=1",
    "--log-bin=binlog",
    "--binlog-row-metadata=FULL",
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-buffer-pool-size=32M",
    "--max-allowed-packet=256M",
    "--max-connections=400",
    "--table-open-cache=400",
    "--table-definition-cache=400",
    "--local-infile=ON",
    "--default-time-zone=+00:00",
    "--ssl-ca=ca.pem",
    "--ssl-cert=server-cert.pem",
    "--ssl-key=server-key.pem",
];
const MYSQL_OPTIONS: &[&str] = &["--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--loose-mysqlx=OFF"];
const MARIADB_OPTIONS: &[&str] = &["--binlog-format=ROW", "--performance-schema=OFF", "--character-set-server=utf8mb4"];

/// A private MySQL or MariaDB in a temporary folder, on a free port and a unix socket, with a user `root` that has no password. Killed and
/// removed when dropped, or when this process ends.
///
/// Row format, full metadata, GTIDs, TLS with a certificate for `localhost` that [`ca`](Self::ca) signed.
#[derive(Debug)]
pub struct MySqlServer {
    flavor: Flavor,
    program: PathBuf,
    options: Mutex<Vec<String>>,
    child: Mutex<Option<Child>>,
    port: u16,
    _guard: Guard,
    dir: TempDir,
}

impl MySqlServer {
    /// Starts one, with more options (`--name=value`) after the usual ones.
    pub fn start(flavor: Flavor, options: &[&str]) -> Self {
        let program = flavor.program();
        let dir = tempfile::Builder::new().prefix(&format!("mainstem-{}-", flavor.name())).tempdir().expect("temporary folder");
        mysql_data::create(flavor, &program, &dir.path().join("data"));
        fs::create_dir(dir.path().join("tmp")).expect("folder for temporary tables");
        let guard = Guard::new(
            "pid=$(cat \"$1/pid\") && grep -qF \"$1\" \"/proc/$pid/cmdline\" && kill -9 \"$pid\"; rm -rf \"$1\"",
            &[&dir.path().display().to_string()],
            false,
        );
        let mut server = Self {
            flavor,
            program,
            options: Mutex::new(owned(options)),
            child: Mutex::new(None),
            port: free_port(),
            _guard: guard,
            dir,
        };
        for _ in 0..5 {
            match server.try_start() {
                Ok(()) => return server,
                // Somebody was faster. Both say so in these words.
                Err(log) if log.contains("Address already in use") => server.port = free_port(),
                Err(log) => panic!("{} does not start:\n{log}", flavor.name()),
            }
        }
        panic!("{} found no free port", flavor.name());
    }

    /// One for the tests that need none of their own; it runs until the process ends.
    pub fn shared(flavor: Flavor) -> &'static Self {
        static MYSQL: OnceLock<MySqlServer> = OnceLock::new();
        static MARIADB: OnceLock<MySqlServer> = OnceLock::new();
        let cell = match flavor {
            Flavor::MySql => &MYSQL,
            Flavor::MariaDb => &MARIADB,
        };
        cell.get_or_init(|| Self::start(flavor, &[]))
    }

    /// Which it is.
    pub fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The unix socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// The data directory, where the binary logs are too (`binlog.000001`…).
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The certificate of the authority that signed the server's.
    pub fn ca(&self) -> PathBuf {
        self.data_dir().join("ca.pem")
    }

    /// `mysql://127.0.0.1:port`, no user in it.
    pub fn url(&self) -> String {
        format!("mysql://127.0.0.1:{}", self.port)
    }

    /// The server's own log since it was started last.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("server.log")).unwrap_or_default()
    }

    /// Process id of the running server.
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).as_ref().expect("the server was stopped").id()
    }

    /// A client or tool of the server, such as `mysqlbinlog`: beside the server program, else on the search path.
    pub fn tool(&self, name: &str) -> Command {
        let beside = self.program.with_file_name(name);
        Command::new(if beside.exists() { beside } else { name.into() })
    }

    /// Creates a database of that name.
    pub fn create_database(&self, name: &str) -> MySqlDatabase {
        self.exec(&format!("CREATE DATABASE `{}`", name.replace('`', "``")));
        self.existing_database(name)
    }

    /// A database that is there already.
    pub fn existing_database(&self, name: &str) -> MySqlDatabase {
        let mut client = self.tool(self.flavor.name());
        client.args([
            "--no-defaults",
            "--user=root",
            "--batch",
            "--skip-column-names",
            "--unbuffered",
            "--default-character-set=utf8mb4",
        ]);
        client.args(["--max-allowed-packet=256M", "--protocol=socket"]).arg(format!("--socket={}", self.socket().display()));
        MySqlDatabase::new(&client, name, self.port)
    }

    /// Runs statements as `root` in the database `mysql`; panics with the server's message if one fails.
    #[track_caller]
    pub fn exec(&self, sql: &str) {
        self.existing_database("mysql").exec(sql);
    }

    /// The same, and returns what they printed.
    #[track_caller]
    pub fn query(&self, sql: &str) -> String {
        self.existing_database("mysql").query(sql)
    }

    /// Its version's first two numbers: (8, 4), (10, 11).
    pub fn version(&self) -> (u32, u32) {
        let text = self.query("select version()");
        let mut numbers = text.split(['.', '-']).map_while(|part| part.parse().ok());
        numbers.next().zip(numbers.next()).unwrap_or_else(|| panic!("not a version: {text}"))
    }

    /// Stops it and waits for its end.
    pub fn stop(&self) {
        self.end("TERM");
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.end("KILL");
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), on the same port and with the same options.
    #[track_caller]
    pub fn start_again(&self) {
        if let Err(log) = self.try_start() {
            panic!("{} does not start again:\n{log}", self.flavor.name());
        }
    }

    /// Stops and starts it.
    #[track_caller]
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }

    /// Stops it and starts it with these options in the place of those that the test gave before.
    #[track_caller]
    pub fn restart_with(&self, options: &[&str]) {
        self.stop();
        *self.options.lock().unwrap_or_else(PoisonError::into_inner) = owned(options);
        self.start_again();
    }

    /// Starts the program and waits until it greets a client. An error is its log.
    fn try_start(&self) -> Result<(), String> {
        let log = fs::File::create(self.dir.path().join("server.log")).expect("server.log");
        let mut command = server_command(self.flavor, &self.program, &self.data_dir());
        command.args(OPTIONS).args(if self.flavor == Flavor::MySql { MYSQL_OPTIONS } else { MARIADB_OPTIONS });
        command.arg(format!("--port={}", self.port)).arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--pid-file={}", self.dir.path().join("server.pid").display()));
        // One of its own: a server that starts removes every `#sql…` file in it, also those that another server is using.
        command.arg(format!("--tmpdir={}", self.dir.path().join("tmp").display()));
        command.args(self.options.lock().unwrap_or_else(PoisonError::into_inner).iter());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("server.log")).stderr(log);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", self.program.display()));
        fs::write(self.dir.path().join("pid"), child.id().to_string()).expect("pid");
        let start = Instant::now();
        loop {
            if child.try_wait().expect("wait for the server").is_some() {
                return Err(self.log());
            }
            if self.greets() {
                break;
            }
            if start.elapsed() > 2 * MINUTE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("it does not answer\n{}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        Ok(())
    }

    /// Whether it sends the first packet of a connection: a header of four bytes, then the version of the protocol.
    fn greets(&self) -> bool {
        let mut start = [0; 5];
        let greeting = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.read_exact(&mut start)
        });
        greeting.is_ok() && start[4] == 10
    }

    fn end(&self, signal: &str) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut child = child.expect("the server runs");
        let _ = Command::new("kill").arg(format!("-{signal}")).arg(child.id().to_string()).status();
        let _ = child.wait();
    }
}

impl Drop for MySqlServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The server program for a data directory, with a small log of its storage engine. It refuses to run as root unless told to.
pub(crate) fn server_command(flavor: Flavor, program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--no-defaults").arg(format!("--datadir={}", data.display())).current_dir(data);
    command.arg(match flavor {
        // Not before MySQL 8.0.30.
        Flavor::MySql => "--loose-innodb-redo-log-capacity=32M",
        Flavor::MariaDb => "--innodb-log-file-size=32M",
    });
    if is_root() {
        command.arg("--user=root");
    }
    command
}

fn owned(options: &[&str]) -> Vec<String> {
    options.iter().map(|&option| option.to_owned()).collect()
}
