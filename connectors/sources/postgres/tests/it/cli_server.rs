//! Databases of the tests, on a server that they share.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use test_servers::{PgServer, PgVersion, wait_until};

static DATABASES: AtomicUsize = AtomicUsize::new(0);

/// A server of one's own, with further settings.
pub fn server(settings: &[(&str, &str)]) -> Arc<PgServer> {
    let usual = [("ssl", "on"), ("max_connections", "150"), ("wal_sender_timeout", "5s")];
    Arc::new(PgServer::with_settings(PgVersion::V15, &[&usual, settings].concat()))
}

/// A database of a test.
pub struct Database {
    pub server: Arc<PgServer>,
    pub name: String,
    inner: test_servers::Database,
}

impl Database {
    /// One on the server that the tests share.
    pub fn new() -> Self {
        static SHARED: OnceLock<Arc<PgServer>> = OnceLock::new();
        Self::on(Arc::clone(SHARED.get_or_init(|| server(&[]))))
    }

    pub fn on(server: Arc<PgServer>) -> Self {
        let name = format!("db{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let inner = server.create_database(&name);
        Self { server, name, inner }
    }

    /// Runs statements, each its own transaction unless they say otherwise; returns what they print, unaligned.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.try_sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub fn try_sql(&self, sql: &str) -> Result<String, String> {
        self.inner.script(sql)
    }

    /// A URL over the unix socket.
    pub fn url(&self) -> String {
        format!("postgres://postgres@/{}?host={}&port={}", self.name, self.server.socket_dir().display(), self.server.port())
    }

    /// A URL over TCP.
    pub fn tcp_url(&self, user: &str, host: &str) -> String {
        format!("postgres://{user}@{host}:{}/{}", self.server.port(), self.name)
    }

    /// Process id of the server's process that sends to the slot of this name.
    pub fn sender(&self) -> String {
        self.sql(&format!("select active_pid from pg_replication_slots where slot_name = '{}'", self.name))
    }

    /// Waits until a query prints `expected`.
    #[track_caller]
    pub fn wait_for(&self, sql: &str, expected: &str) {
        wait_until(&format!("{sql} prints {expected}"), || self.sql(sql) == expected);
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Slots outlive databases' tests otherwise, and there are not many.
        let _ = self.inner.script(
            "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = current_database() and not active",
        );
    }
}
