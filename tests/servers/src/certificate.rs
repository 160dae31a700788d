use std::{
    path::Path,
    process::{Command, Stdio},
};

/// Makes `ca.pem`, and a server's certificate for `localhost` that it signed, as `server-cert.pem` and `server-key.pem`, in `folder`. They hold
/// for a year, because the folder may be copied for later servers. The address 127.0.0.1 is not in it, so a check of the name can fail.
pub fn make_certificate(folder: &Path) {
    let openssl = |arguments: &str| {
        let mut command = Command::new("openssl");
        let output = command.args(arguments.split(' ')).current_dir(folder).stdin(Stdio::null()).output();
        let output = output.unwrap_or_else(|e| panic!("openssl: {e}: run `scripts/install.sh openssl`"));
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=authority -keyout ca-key.pem -out ca.pem",
    );
    openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server-key.pem -out server.csr");
    let extensions = folder.join("extensions");
    std::fs::write(&extensions, "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").expect("extensions");
    openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 365 -extfile extensions -out server-cert.pem",
    );
}
