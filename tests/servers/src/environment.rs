use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The top folder of the checkout.
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// A program or folder that an environment variable names, else the one at this path of the checkout.
pub(crate) fn named_or(variable: &str, path: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| repository().join(path), PathBuf::from)
}

/// The Python of `.cache/venv`, with duckdb, pyarrow and kafka-python.
pub fn python() -> PathBuf {
    named_or("MAINSTEM_PYTHON", ".cache/venv/bin/python")
}

/// The S3 server of `.cache/venv`.
pub(crate) fn weed_binary() -> PathBuf {
    named_or("MAINSTEM_WEED", ".cache/venv/bin/weed")
}

/// Whether this process is root's.
pub(crate) fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("/proc/self/status");
    status.lines().find_map(|line| line.strip_prefix("Uid:")).and_then(|rest| rest.split_whitespace().nth(1)) == Some("0")
}

/// The user that PostgreSQL runs as when this program is root: `postgres` if there is one, else `nobody`.
pub(crate) fn server_user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        if !is_root() {
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
