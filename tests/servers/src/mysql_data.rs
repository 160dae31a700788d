//! Data directories of MySQL and MariaDB: made once for each version, then copied for every server.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{Flavor, certificate::make_certificate, environment::repository, mysql::server_command};

/// Part of the name of a template. A change of what this file puts into one needs another number.
const LAYOUT: u32 = 3;

/// Fills `data`, which must not be there yet, with the system tables, the certificate, and the users of a new server.
pub(crate) fn create(flavor: Flavor, program: &Path, data: &Path) {
    let template = template(flavor, program);
    let status = Command::new("cp").args(["-a", "--reflink=auto", "--sparse=always"]).arg(&template).arg(data).status();
    assert!(status.is_ok_and(|status| status.success()), "copying {} to {}", template.display(), data.display());
}

/// The template, made if it is missing. A lock lets one of several processes make it.
fn template(flavor: Flavor, program: &Path) -> PathBuf {
    let version = Command::new(program).arg("--version").output().unwrap_or_else(|e| {
        panic!(
            "{}: {e}: run `scripts/unpack.sh {1}`, or name another server in {2}",
            program.display(),
            flavor.name(),
            flavor.variable()
        )
    });
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let version = version.split_whitespace().skip_while(|&word| word != "Ver").nth(1).unwrap_or_else(|| {
        panic!("{} --version does not say its version: {version}", program.display());
    });
    let folder = repository().join(".cache/data-directories");
    fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let made = folder.join(format!("{}-{version}-{LAYOUT}", flavor.name()));
    let lock = fs::File::create(folder.join("lock")).expect("lock file");
    lock.lock().expect("lock");
    if !made.is_dir() {
        let unfinished = folder.join("unfinished");
        let _ = fs::remove_dir_all(&unfinished);
        fs::create_dir(&unfinished).expect("folder of a template");
        match flavor {
            Flavor::MySql => run(server_command(flavor, program, &unfinished).arg("--initialize-insecure"), None),
            Flavor::MariaDb => {
                let mut command = server_command(flavor, program, &unfinished);
                command.args(["--bootstrap", "--enforce-storage-engine=", "--max-allowed-packet=8M"]);
                run(&mut command, Some(&system_tables(program)));
            }
        }
        // `root` from everywhere, without a password. Users and grants are not among the statements of `--initialize`, so this is a run of its own.
        let users = unfinished.join("users.sql");
        fs::write(&users, "CREATE USER root@'%';\nGRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;\nSHUTDOWN;\n")
            .expect("users.sql");
        let mut command = server_command(flavor, program, &unfinished);
        command
            .args(["--skip-log-bin", "--skip-networking", "--socket=users.sock"])
            .arg(format!("--init-file={}", users.display()));
        if flavor == Flavor::MySql {
            command.arg("--loose-mysqlx=OFF");
        }
        run(&mut command, None);
        make_certificate(&unfinished);
        // Every server has an identity of its own.
        let _ = fs::remove_file(unfinished.join("auto.cnf"));
        fs::rename(&unfinished, &made).expect("rename of a template");
    }
    made
}

/// The statements that make MariaDB's system tables, from the files that come with the server, in the order of `mariadb-install-db`.
fn system_tables(program: &Path) -> String {
    let bin = program.parent().unwrap_or(Path::new("/"));
    let share = ["../share/mysql", "../share/mariadb", "../share", "../usr/share/mysql", "../usr/share/mariadb"];
    // They begin with `mysql_` up to MariaDB 10, with `mariadb_` later.
    let found = share.iter().map(|share| bin.join(share)).find_map(|share| {
        let prefix = ["mysql", "mariadb"].into_iter().find(|prefix| share.join(format!("{prefix}_system_tables.sql")).is_file())?;
        Some((share, prefix))
    });
    let (share, prefix) = found.unwrap_or_else(|| panic!("no system_tables.sql of MariaDB found from {}", program.display()));
    let mut text = String::from(
        "CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\nSET @skip_auth_anonymous=1;\n",
    );
    for part in ["system_tables", "performance_tables", "system_tables_data"] {
        let path = share.join(format!("{prefix}_{part}.sql"));
        text += &fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    text
}

fn run(command: &mut Command, input: Option<&str>) {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    let mut stdin = child.stdin.take().expect("input of the server");
    let text = input.unwrap_or_default().to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child.wait_with_output().expect("wait for the server");
    let _ = writer.join();
    assert!(output.status.success(), "{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
}
