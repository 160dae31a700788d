use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use tokio_postgres::{Client, NoTls};

/// A private server in a temporary folder. It ends with this process, and the folder with it.
pub struct PostgresServer {
    /// Its input is the server's life line, so it is kept.
    _child: Child,
    folder: PathBuf,
    pub port: u16,
}

/// The server that the tests share, started when it is first asked for.
pub fn postgres_server() -> &'static PostgresServer {
    static RUNNING: OnceLock<PostgresServer> = OnceLock::new();
    RUNNING.get_or_init(PostgresServer::start)
}

/// The folder of the server's programs: on the search path, or where Debian puts them.
fn programs() -> PathBuf {
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    on_path.chain(debian).find(|folder| folder.join("initdb").exists()).expect("install PostgreSQL: `apt-get install postgresql`")
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.trim_ascii() == b"0"
}

impl PostgresServer {
    fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("mainstem-jdbc-").tempdir().unwrap().keep();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // The shell ends the server when its input ends, which it does with this process, however that ends.
        let script = r#"
            set -e
            "$1/initdb" -D "$2/data" -U postgres -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$2/initdb.log" 2>&1
            cd "$2"
            openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=test authority" -keyout ca.key -out ca.pem >openssl.log 2>&1
            openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout data/server.key -out server.csr >>openssl.log 2>&1
            printf 'subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n' >extensions
            openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile extensions \
                -out data/server.crt >>openssl.log 2>&1
            # A database and a user that may only be reached with encryption and a password.
            printf 'hostssl secured locked 127.0.0.1/32 scram-sha-256\nhost secured locked 127.0.0.1/32 reject\n' >hba
            cat data/pg_hba.conf >>hba
            cp hba data/pg_hba.conf
            "$1/postgres" -D "$2/data" -p "$3" -k "$2" -c listen_addresses=127.0.0.1 -c ssl=on -c fsync=off -c full_page_writes=off -c autovacuum=off -c max_connections=200 >"$2/log" 2>&1 &
            server=$!
            read -r line || true
            kill -INT $server
            wait $server || true
            rm -rf "$2"
        "#;
        let arguments = [programs().into_os_string(), folder.clone().into_os_string(), port.to_string().into()];
        let mut command = if is_root() {
            // The server refuses to run as root.
            assert!(Command::new("chown").arg("postgres").arg(&folder).status().unwrap().success());
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        let child = command.args(["-c", script, "sh"]).args(arguments).stdin(Stdio::piped()).current_dir("/").spawn().unwrap();
        let server = Self { _child: child, folder, port };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !server.is_ready() {
            let log = || fs::read_to_string(server.folder.join("log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "the server does not start: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// The last line of its lock file says when it takes connections.
    fn is_ready(&self) -> bool {
        fs::read_to_string(self.folder.join("data/postmaster.pid")).is_ok_and(|text| text.trim_end().ends_with("ready"))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub async fn client(&self, database: &str) -> Client {
        let address = format!("host=127.0.0.1 port={} user=postgres dbname={database}", self.port);
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}
