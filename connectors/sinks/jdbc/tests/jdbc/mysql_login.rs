//! Logging in to MySQL and MariaDB: each way of theirs, with and without encryption, and what is checked of the server.
use connector_api::{Recovery, Severity};
use test_servers::Flavor;

use crate::database::{Database, connector, context};

async fn connect(yaml: &str) -> Result<(), (Recovery, String)> {
    let connected = connector(yaml).connect(context()).await;
    connected.map(drop).map_err(|error| (error.recovery(), error.to_string()))
}

/// The statements that make the user, by the ways of logging in that the server has.
fn users(flavor: Flavor) -> &'static [(&'static str, &'static str)] {
    match flavor {
        Flavor::MySql => &[("sha", "CREATE USER sha@'%' IDENTIFIED WITH caching_sha2_password BY 'open sesame'")],
        Flavor::MariaDb => &[
            ("native", "CREATE USER native@'%' IDENTIFIED VIA mysql_native_password USING PASSWORD('open sesame')"),
            ("ed", "INSTALL SONAME 'auth_ed25519'; CREATE USER ed@'%' IDENTIFIED VIA ed25519 USING PASSWORD('open sesame')"),
        ],
    }
}

#[tokio::test]
async fn passwords_are_taken_with_and_without_encryption() {
    for flavor in Flavor::ALL {
        let database = Database::mysql(flavor).await;
        let Database::MySql { server, name, .. } = &database else { return };
        for (user, sql) in users(flavor) {
            database.run(&format!("{sql}; GRANT ALL ON {name}.* TO {user}@'%'")).await;
            let port = server.port();
            let socket = server.socket();
            for address in [
                format!("url: 'jdbc:{}://127.0.0.1:{port}/{name}?sslMode=DISABLED'", flavor.name()),
                format!("url: 'jdbc:mysql://127.0.0.1:{port}/{name}?sslMode=REQUIRED'"),
                format!("url: 'jdbc:mariadb://127.0.0.1:{port}/{name}'"),
                format!("url: 'mariadb://{user}@localhost/{name}?localSocket={}'", socket.display()),
            ] {
                // The server remembers who logged in; each way is to do it from the beginning.
                database.run("FLUSH PRIVILEGES").await;
                let yaml = |password: &str| format!("{{ {address}, user: {user}, password: '{password}' }}");
                connect(&yaml("open sesame")).await.unwrap_or_else(|(_, error)| panic!("{user}, {address}: {error}"));
                let (recovery, error) = connect(&yaml("wrong")).await.unwrap_err();
                assert_eq!(recovery, Recovery::Stop, "{error}");
                assert!(error.contains("Access denied") && !error.contains("wrong"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn certificates_are_checked_as_asked() {
    for database in Database::each_mysql().await {
        let Database::MySql { server, name, .. } = &database else { return };
        let user = format!("{name}_tls");
        database.run(&format!("CREATE USER {user}@'%' REQUIRE SSL; GRANT ALL ON {name}.* TO {user}@'%'")).await;
        let folder = tempfile::tempdir().unwrap();
        test_servers::make_certificate(folder.path());
        let (port, ca, other_ca) = (server.port(), server.ca(), folder.path().join("ca.pem"));
        let (ca, other_ca) = (ca.display(), other_ca.display());
        let yaml = |host: &str, settings: &str| format!("{{ url: 'jdbc:mysql://{user}@{host}:{port}/{name}', {settings} }}");
        for (host, settings) in [
            ("127.0.0.1", String::new()),
            ("127.0.0.1", "sslmode: require".into()),
            ("127.0.0.1", format!("sslmode: verify-ca, ca: {ca}")),
            ("localhost", format!("sslmode: verify-full, ca: {ca}")),
        ] {
            connect(&yaml(host, &settings)).await.unwrap_or_else(|(_, error)| panic!("{host} {settings}: {error}"));
        }
        let url = format!("{{ url: 'mysql://{user}@localhost:{port}/{name}?sslMode=VERIFY_IDENTITY&serverSslCert={ca}' }}");
        connect(&url).await.unwrap();
        for (host, settings, says) in [
            ("127.0.0.1", "sslmode: disable".into(), "Access denied"),
            // The certificate is for localhost.
            ("127.0.0.1", format!("sslmode: verify-full, ca: {ca}"), "certificate"),
            // Not of the system's authorities.
            ("localhost", "sslmode: verify-full".into(), "certificate"),
            ("localhost", format!("sslmode: require, ca: {other_ca}"), "certificate"),
            ("localhost", "sslmode: verify-ca, ca: /no/such/file".into(), "cannot read /no/such/file, named by `ca`"),
            (
                "localhost",
                format!("sslmode: verify-ca, ca: {}", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
                "no certificate",
            ),
        ] {
            let (recovery, error) = connect(&yaml(host, &settings)).await.unwrap_err();
            assert_eq!(recovery, Recovery::Stop, "{settings}: {error}");
            assert!(error.contains(says), "{settings}: {error}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_reached_says_whether_to_try_again() {
    let database = Database::mysql(Flavor::MySql).await;
    let Database::MySql { server, name, .. } = &database else { return };
    database.run(&format!("CREATE USER {name}_none@'%'")).await;
    let port = server.port();
    let (recovery, error) = connect("{ url: 'mysql://127.0.0.1:1/x' }").await.unwrap_err();
    assert!(recovery == Recovery::Retry && error.contains("127.0.0.1:1/x"), "{error}");
    let (recovery, error) = connect(&format!("{{ url: 'mysql://nobody@127.0.0.1:{port}/x' }}")).await.unwrap_err();
    // For users that it does not know, MySQL makes up a way to log in.
    assert!(recovery == Recovery::Stop && (error.contains("nobody") || error.contains("plugin")), "{error}");
    // Who may not make a database is told so when a table is opened.
    let url = format!("{{ url: 'mysql://{name}_none@127.0.0.1:{port}/nowhere' }}");
    let target = connector(&url).connect(context()).await.unwrap();
    let schema = crate::rows::simple("t");
    let error = target.open(&crate::database::topic(&schema, 1), &Default::default()).await.unwrap_err();
    assert!(error.recovery() == Recovery::Stop && error.to_string().contains("could not create database `nowhere`"), "{error}");
}

#[tokio::test]
async fn check_names_the_grant() {
    for database in Database::each_mysql().await {
        let Database::MySql { server, name, .. } = &database else { return };
        let user = format!("{name}_l");
        database
            .run(&format!("CREATE USER {user}@'%'; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON {name}.* TO {user}@'%'"))
            .await;
        let findings = async |user: &str| {
            let url = format!("mysql://{user}@127.0.0.1:{}/{name}", server.port());
            connector(&format!("{{ url: '{url}' }}")).check(context()).await.unwrap()
        };
        let found = findings(&user).await;
        let [finding] = found.as_slice() else { panic!("{found:?}") };
        let remedy = format!("GRANT ALTER, CREATE TEMPORARY TABLES ON `{name}`.* TO '{user}'@'%';");
        assert_eq!((finding.severity, finding.remedy.as_deref()), (Severity::Error, Some(remedy.as_str())));
        // The remedy works, and what is left is enough to write.
        database.run(&remedy).await;
        assert_eq!(findings(&user).await, []);
        assert_eq!(findings("root").await, []);
        let url = format!("mysql://{user}@127.0.0.1:{}/{name}", server.port());
        let target = connector(&format!("{{ url: '{url}' }}")).connect(context()).await.unwrap();
        crate::mysql_faults::write_all_kinds(target.as_ref(), "granted").await;
        assert_eq!(database.lines("SELECT count(*) FROM granted").await, ["40"]);
    }
}
