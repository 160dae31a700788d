use std::sync::OnceLock;

use test_servers::{PgServer, PgVersion};
use tokio_postgres::{Client, NoTls};

/// The server that the tests share, started when it is first asked for.
pub fn postgres_server() -> &'static PgServer {
    static RUNNING: OnceLock<PgServer> = OnceLock::new();
    RUNNING.get_or_init(|| {
        let settings = [("ssl", "on"), ("autovacuum", "off"), ("full_page_writes", "off")];
        PgServer::with_settings(PgVersion::V15, &settings)
    })
}

/// A connection to one of its databases.
pub async fn client(database: &str) -> Client {
    let address = format!("host=127.0.0.1 port={} user=postgres dbname={database}", postgres_server().port());
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}
