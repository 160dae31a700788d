//! What the tests of other crates rely on.

use test_servers::{Flavor, MySqlServer};

/// Starts, takes statements, survives being stopped and killed, and leaves neither process nor folder.
fn serves(flavor: Flavor) {
    let server = MySqlServer::start(flavor, &["--binlog-cache-size=64K"]);
    let shop = server.create_database("shop");
    shop.exec("CREATE TABLE t (id INT PRIMARY KEY, name TEXT); INSERT INTO t VALUES (1, 'ö'), (2, NULL)");
    assert_eq!(shop.query("SELECT * FROM t ORDER BY id"), "1\tö\n2\tNULL");
    assert_eq!(shop.query("SELECT @@binlog_row_metadata, @@binlog_format, @@log_bin, @@binlog_cache_size"), "FULL\tROW\t1\t65536");
    assert!(shop.try_query("SELECT nothing FROM t").is_err_and(|error| error.contains("nothing")));

    let mut session = shop.session();
    session.exec("BEGIN");
    session.exec("INSERT INTO t VALUES (3, 'open')");
    assert_eq!(shop.number("SELECT count(*) FROM t"), 2);
    assert_eq!(session.exec("SELECT count(*) FROM t"), "3");
    drop(session);

    let uuid = match flavor {
        Flavor::MySql => server.query("SELECT @@server_uuid"),
        Flavor::MariaDb => server.query("SELECT @@gtid_domain_id"),
    };
    server.restart_with(&["--server-id=77"]);
    assert_eq!(server.query("SELECT @@server_id"), "77");
    server.kill();
    server.start_again();
    assert_eq!(shop.number("SELECT count(*) FROM t"), 2);
    if flavor == Flavor::MySql {
        assert_eq!(server.query("SELECT @@server_uuid, @@gtid_mode"), format!("{uuid}\tON"));
        assert_ne!(server.query("SELECT @@server_uuid"), MySqlServer::start(flavor, &[]).query("SELECT @@server_uuid"));
    }

    let (folder, pid) = (server.data_dir(), server.pid());
    drop(server);
    assert!(!folder.exists());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn mysql_serves() {
    serves(Flavor::MySql);
}

#[test]
fn mariadb_serves() {
    serves(Flavor::MariaDb);
}

/// The certificate is good for `localhost`, and encryption works over TCP.
#[test]
fn both_offer_tls() {
    for flavor in Flavor::ALL {
        let server = MySqlServer::shared(flavor);
        let mut client = server.tool(flavor.name());
        client.args(["--no-defaults", "--user=root", "--protocol=tcp", "--host=127.0.0.1", "--batch", "--skip-column-names"]);
        client.arg(format!("--port={}", server.port())).arg(format!("--ssl-ca={}", server.ca().display()));
        if flavor == Flavor::MySql {
            client.arg("--ssl-mode=VERIFY_CA");
        }
        let output = client.args(["-e", "SHOW STATUS LIKE 'Ssl_cipher'"]).output().expect("the client runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("TLS_AES"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    }
}
