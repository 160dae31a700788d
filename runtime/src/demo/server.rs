//! A PostgreSQL of our own: in a folder of its own, on a free port of the loopback, with a password, as a user that is not root.

use std::{
    fs,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use tokio_postgres::{Client, NoTls};

/// The PostgreSQL programs: in the folder that was asked for, else the newest that is installed.
pub(super) fn find(asked: Option<&Path>) -> Result<PathBuf> {
    if let Some(dir) = asked {
        if !dir.join("initdb").exists() || !dir.join("postgres").exists() {
            bail!("{} does not hold PostgreSQL's programs `initdb` and `postgres`", dir.display());
        }
        return Ok(dir.to_owned());
    }
    let places = (12..=18).rev().flat_map(|major| {
        [
            format!("/usr/lib/postgresql/{major}/bin"),
            format!("/usr/pgsql-{major}/bin"),
            format!("/opt/homebrew/opt/postgresql@{major}/bin"),
        ]
    });
    let on_path = std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    places.map(PathBuf::from).chain(on_path).find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists()).context(
        "no PostgreSQL server is installed; on Debian or Ubuntu: `apt-get install postgresql`; or name its folder with --pg-bin",
    )
}

/// The server. Stopped when dropped.
pub(super) struct Server {
    bin: PathBuf,
    data: PathBuf,
    user: Option<(u32, u32)>,
    child: Option<Child>,
    pub port: u16,
    pub password: String,
}

impl Server {
    pub async fn start(bin: &Path, dir: &Path) -> Result<Self> {
        fs::create_dir(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let user = unprivileged_user()?;
        if let Some((uid, gid)) = user {
            chown(dir, Some(uid), Some(gid)).with_context(|| format!("cannot give {} to the server's user", dir.display()))?;
        }
        let password = uuid::Uuid::new_v4().simple().to_string();
        let password_file = dir.join("password");
        fs::write(&password_file, &password)?;
        if let Some((uid, gid)) = user {
            chown(&password_file, Some(uid), Some(gid))?;
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut server = Self { bin: bin.to_owned(), data: dir.join("data"), user, child: None, port, password };
        let mut initdb = server.command("initdb");
        initdb.args(["-U", "shop", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&server.data);
        let output = initdb.arg(format!("--pwfile={}", password_file.display())).output().context("cannot run initdb")?;
        if !output.status.success() {
            bail!("initdb failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let log = fs::File::create(dir.join("server.log"))?;
        let mut postgres = server.command("postgres");
        postgres.arg("-D").arg(&server.data).args(["-p", &port.to_string()]);
        for setting in ["listen_addresses=127.0.0.1", "unix_socket_directories=", "wal_level=logical", "max_wal_size=512MB"] {
            postgres.args(["-c", setting]);
        }
        server.child =
            Some(postgres.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn().context("cannot start postgres")?);
        let start = Instant::now();
        while let Err(error) = server.connect("postgres").await {
            if start.elapsed() > Duration::from_secs(60) || server.has_ended() {
                let log = fs::read_to_string(dir.join("server.log")).unwrap_or_default();
                return Err(error.context(format!("PostgreSQL did not start; its log: {log}")));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(server)
    }

    /// A connection to a database, served by a task of its own.
    pub async fn connect(&self, database: &str) -> Result<Client> {
        let mut config = tokio_postgres::Config::new();
        config.host("127.0.0.1").port(self.port).user("shop").password(&self.password).dbname(database);
        let (client, connection) = config.connect(NoTls).await.context("cannot connect to the private PostgreSQL")?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn has_ended(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        // A folder that the server's user may be in.
        command.current_dir("/").env_remove("PGDATA");
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Stops it and waits for its end.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "-m", "immediate", "-D"]).arg(&self.data).stdout(Stdio::null()).stderr(Stdio::null());
        if !stop.status().is_ok_and(|status| status.success()) {
            let _ = child.kill();
        }
        let _ = child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whom the server runs as when we are root, which it refuses to run as: `postgres` if there is such a user, else `nobody`.
fn unprivileged_user() -> Result<Option<(u32, u32)>> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|rest| rest.split_whitespace().nth(1));
    if effective != Some("0") {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    for name in ["postgres", "nobody"] {
        for line in users.lines() {
            let mut fields = line.split(':');
            if fields.next() == Some(name)
                && let Some(Ok(uid)) = fields.nth(1).map(str::parse)
                && let Some(Ok(gid)) = fields.next().map(str::parse)
            {
                return Ok(Some((uid, gid)));
            }
        }
    }
    bail!("PostgreSQL does not run as root, and there is neither a user `postgres` nor `nobody`")
}
