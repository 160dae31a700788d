use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use connector_api::{Recoverable, Recovery};
use tokio_postgres::{Client, Config, NoTls, Statement, config::SslMode as Negotiation};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{tls, types::PgType};
use crate::{
    config::{PostgresSettings, SslMode},
    dialect::pool::{self, Server},
    error::{JdbcError, ServerError, is_untrusted},
};

/// What a session is set to.
///
/// - Nothing but our own statements decides how long a transaction lasts; a lock that somebody else holds is waited for a minute, then
///   the flush starts over.
/// - Texts that casts print and read do not depend on the server's settings, and names are found in no schema but those we write.
/// - A batch is merged by looking its keys up in the table's index. The planner has no statistics of staged rows and would sometimes
///   read the whole table to join it with ten thousand rows; it may not, and has no use for JIT either.
/// - Staged rows stay in memory: `temp_buffers` holds more than one batch.
const SESSION: &str = "SET statement_timeout = 0; SET lock_timeout = '60s'; SET idle_in_transaction_session_timeout = 0; \
    SET timezone = 'UTC'; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET bytea_output = 'hex'; \
    SET standard_conforming_strings = on; SET client_min_messages = warning; SET search_path = ''; \
    SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off; SET temp_buffers = '32MB'";

/// A connection keeps this many layouts of staged rows, and this many prepared statements; then it is replaced by a fresh one.
const STAGES_MAX: usize = 64;
const STATEMENTS_MAX: usize = 4096;

/// The connections that all tables of a target share.
pub(crate) type Pool = pool::Pool<PostgresServer>;

/// How to reach the server.
#[derive(Debug)]
pub(crate) struct PostgresServer {
    pub settings: PostgresSettings,
    tls: Arc<rustls::ClientConfig>,
}

/// One connection, with what was made on it.
pub(crate) struct Connection {
    pub client: Client,
    address: String,
    stages: HashMap<String, String>,
    statements: HashMap<String, Statement>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

impl PostgresServer {
    pub(crate) fn new(settings: PostgresSettings) -> Result<Self, JdbcError> {
        let tls = Arc::new(tls::client_config(&settings)?);
        Ok(Self { settings, tls })
    }
}

#[async_trait]
impl Server for PostgresServer {
    type Connection = Connection;

    fn is_open(connection: &Connection) -> bool {
        !connection.client.is_closed()
    }

    fn is_worth_keeping(connection: &Connection) -> bool {
        connection.stages.len() < STAGES_MAX && connection.statements.len() < STATEMENTS_MAX
    }

    async fn connect(&self) -> Result<Connection, JdbcError> {
        let settings = &self.settings;
        let unix = settings.host.starts_with('/');
        let mut config = Config::new();
        config
            .host(&settings.host)
            .port(settings.port)
            .dbname(&settings.database)
            .user(&settings.user)
            .application_name("mainstem")
            .connect_timeout(Duration::from_secs(10))
            .keepalives_idle(Duration::from_secs(30))
            .keepalives_interval(Duration::from_secs(10))
            .keepalives_retries(3)
            .tcp_user_timeout(Duration::from_secs(60))
            .ssl_mode(match settings.sslmode {
                SslMode::Disable => Negotiation::Disable,
                SslMode::Prefer => Negotiation::Prefer,
                SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => Negotiation::Require,
            });
        if let Some(password) = &settings.password {
            config.password(password.expose());
        }
        let failed = |error: tokio_postgres::Error| connect_error(settings.address(), error);
        let client = if unix || settings.sslmode == SslMode::Disable {
            let (client, connection) = config.ssl_mode(Negotiation::Disable).connect(NoTls).await.map_err(failed)?;
            tokio::spawn(connection);
            client
        } else {
            let connector = MakeRustlsConnect::new(self.tls.as_ref().clone());
            let (client, connection) = config.connect(connector).await.map_err(failed)?;
            tokio::spawn(connection);
            client
        };
        let connection = Connection { client, address: settings.address(), stages: HashMap::new(), statements: HashMap::new() };
        connection.client.batch_execute(SESSION).await.map_err(|error| connection.failed("set up a session", error))?;
        Ok(connection)
    }
}

fn connect_error(address: String, error: tokio_postgres::Error) -> JdbcError {
    let Some(refusal) = error.as_db_error() else {
        let untrusted = is_untrusted(&error);
        // A server without TLS stays without; missing passwords and unknown ways to log in stay too.
        let text = error.to_string();
        let settled = ["server does not support TLS", "password missing", "unsupported authentication"];
        let transient = !untrusted && !settled.iter().any(|part| chain_contains(&error, part) || text.contains(part));
        return JdbcError::Connect { address, transient, cause: Box::new(error) };
    };
    let cause = server_error(refusal);
    let server = JdbcError::Server { doing: String::new(), cause: Box::new(cause.clone()) };
    JdbcError::Connect { address, transient: server.recovery() == Recovery::Retry, cause: Box::new(cause) }
}

fn chain_contains(error: &dyn std::error::Error, part: &str) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(part) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What the server said, without what may be a row's value: see [`ServerError`].
fn server_error(error: &tokio_postgres::error::DbError) -> ServerError {
    let code = error.code().code().to_owned();
    ServerError {
        number: None,
        message: if code.starts_with("22") { String::new() } else { error.message().to_owned() },
        table: error.table().map(str::to_owned),
        column: error.column().or_else(|| copied_column(error.where_()?)).map(str::to_owned),
        constraint: error.constraint().map(str::to_owned),
        code,
    }
}

/// The column that a COPY stopped at, by the server's account of where it was: `COPY table, line 2, column name`. In the binary format no
/// value follows.
fn copied_column(context: &str) -> Option<&str> {
    let line = context.lines().find(|line| line.starts_with("COPY "))?;
    line.split_once(", column ").map(|(_, column)| column)
}

impl Connection {
    /// The error of a statement that was to do something.
    pub(crate) fn failed(&self, doing: &str, error: tokio_postgres::Error) -> JdbcError {
        match error.as_db_error() {
            Some(refusal) => JdbcError::Server { doing: doing.to_owned(), cause: Box::new(server_error(refusal)) },
            None => JdbcError::ConnectionLost { address: self.address.clone(), doing: doing.to_owned(), cause: Box::new(error) },
        }
    }

    /// Runs statements that take no parameters and give no rows.
    pub(crate) async fn run(&self, doing: &str, sql: &str) -> Result<(), JdbcError> {
        self.client.batch_execute(sql).await.map_err(|error| self.failed(doing, error))
    }

    /// The prepared statement for a text.
    pub(crate) async fn prepare(&mut self, doing: &str, sql: &str) -> Result<Statement, JdbcError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await.map_err(|error| self.failed(doing, error))?;
        self.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// The name of the temporary table for staged rows of these types, made if this connection has none yet. Made in a transaction
    /// that fails it is gone, but so is the connection then. Its columns have numbers instead of names, so tables with the same types share it:
    ///
    /// | column | meaning |
    /// |---|---|
    /// | `c0`… | the columns |
    /// | `o0`… | the key that a moved row had |
    /// | `k` | what to do, see [`stage_kind`](crate::dialect::staging::stage_kind) |
    /// | `n` | the number of the row in the flush |
    /// | `m` | a bit for each column that was not sent; NULL if all were |
    ///
    /// A stage of plain rows has the columns alone: a NULL in a row has the server look for the columns behind it one by one.
    pub(crate) async fn stage(&mut self, columns: &[PgType], key: &[usize], plain: bool) -> Result<String, JdbcError> {
        let mut parts: Vec<String> = columns.iter().enumerate().map(|(number, kind)| format!("c{number} {}", kind.sql())).collect();
        if !plain {
            let key = key.iter().filter_map(|&index| columns.get(index)).enumerate();
            parts.extend(key.map(|(number, kind)| format!("o{number} {}", kind.sql())));
            parts.extend(["k smallint", "n integer", "m bytea"].map(str::to_owned));
        }
        let layout = parts.join(", ");
        if let Some(name) = self.stages.get(&layout) {
            return Ok(name.clone());
        }
        let name = format!("pg_temp.mainstem_stage_{}", self.stages.len());
        self.run("create a temporary table", &format!("CREATE TEMPORARY TABLE {name} ({layout}) ON COMMIT DELETE ROWS")).await?;
        self.stages.insert(layout, name.clone());
        Ok(name)
    }
}
