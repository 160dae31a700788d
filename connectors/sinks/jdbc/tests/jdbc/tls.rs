//! What is checked of a server that can encrypt, and logging in with a password.
use connector_api::Recovery;

use crate::{
    database::{connector, context},
    postgres_server::{client, postgres_server},
};

#[tokio::test]
async fn certificates_and_passwords_are_checked_as_asked() {
    let server = postgres_server();
    let admin = client("postgres").await;
    admin.batch_execute("CREATE ROLE tls_user LOGIN PASSWORD 'open sesame'").await.unwrap();
    admin.batch_execute("CREATE DATABASE secured OWNER tls_user").await.unwrap();
    let (port, ca) = (server.port(), server.ca());
    let ca = ca.display();
    // Of the same name, but not the one.
    let folder = tempfile::tempdir().unwrap();
    test_servers::make_certificate(folder.path());
    let other_ca = folder.path().join("ca.pem");
    let other_ca = other_ca.display();
    let connect = async |host: &str, password: &str, settings: &str| {
        let url = format!("postgres://tls_user@{host}:{port}/secured");
        let yaml = format!("{{ url: '{url}', password: '{password}', {settings} }}");
        let connected = connector(&yaml).connect(context()).await;
        connected.map(drop).map_err(|error| (error.recovery(), error.to_string()))
    };
    let right = "open sesame";
    for (host, settings) in [
        ("127.0.0.1", "".to_owned()),
        ("127.0.0.1", "sslmode: require".to_owned()),
        ("127.0.0.1", format!("sslmode: verify-ca, ca: {ca}")),
        ("localhost", format!("sslmode: verify-full, ca: {ca}")),
    ] {
        connect(host, right, &settings).await.unwrap_or_else(|(_, error)| panic!("{host} {settings}: {error}"));
    }
    for (host, password, settings, says) in [
        ("127.0.0.1", "wrong", "sslmode: require".to_owned(), "password authentication failed"),
        ("127.0.0.1", right, "sslmode: disable".to_owned(), "pg_hba.conf rejects"),
        // The certificate is for localhost.
        ("127.0.0.1", right, format!("sslmode: verify-full, ca: {ca}"), "certificate"),
        // Not of the system's authorities.
        ("localhost", right, "sslmode: verify-full".to_owned(), "certificate"),
        ("localhost", right, format!("sslmode: require, ca: {other_ca}"), "certificate"),
        ("localhost", right, "sslmode: verify-ca, ca: /no/such/file".to_owned(), "cannot read /no/such/file, named by `ca`"),
    ] {
        let (recovery, error) = connect(host, password, &settings).await.unwrap_err();
        assert_eq!(recovery, Recovery::Stop, "{settings}: {error}");
        assert!(error.contains(says) && !error.contains(right), "{settings}: {error}");
    }
}
