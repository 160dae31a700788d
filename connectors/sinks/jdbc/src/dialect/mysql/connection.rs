use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use connector_api::{Recoverable, Recovery};
use futures_util::{StreamExt, future::BoxFuture};
use mysql_async::{
    Conn, DriverError, Error, InfileData, LocalInfileError, Opts, OptsBuilder, Row,
    prelude::{FromValue, GlobalHandler, Queryable},
};
use tokio::sync::mpsc;

use super::{
    refusal::{refusal, says_that_a_value_changed},
    tls,
    types::{Flavor, MyType},
};
use crate::{
    config::{MySqlSettings, SslMode},
    dialect::pool::{self, Server},
    error::{JdbcError, ServerError, is_untrusted},
};

/// How long making a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What a session is set to, whatever the server's own settings are.
///
/// - The modes are a fixed list: values that do not fit are errors, 0 is a value like others for `AUTO_INCREMENT`, `"` quotes strings and a
///   backslash escapes in them (no `ANSI_QUOTES`, no `NO_BACKSLASH_ESCAPES`).
/// - Texts go to and fro as `utf8mb4`, times are UTC.
/// - A lock that somebody else holds is waited for a minute, then the flush starts over. Rows are locked, and no gaps between them.
/// - Idle connections are kept as long as the server allows at all; nothing limits how long a statement takes or how many rows it reads.
const SESSION: &str = "SET NAMES utf8mb4; SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,\
    ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00', autocommit = 1, \
    completion_type = 'NO_CHAIN', innodb_lock_wait_timeout = 60, lock_wait_timeout = 60, wait_timeout = 2147483, \
    net_read_timeout = 600, net_write_timeout = 600, sql_notes = 1, sql_safe_updates = 0, sql_big_selects = 1, \
    sql_select_limit = DEFAULT; \
    SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE";

/// A connection keeps this many layouts of staged rows; then it is replaced by a fresh one.
const STAGES_MAX: usize = 64;

/// The connections that all tables of a target share.
pub(crate) type Pool = pool::Pool<MySqlServer>;

/// How to reach the server.
#[derive(Debug)]
pub(crate) struct MySqlServer {
    pub settings: MySqlSettings,
}

/// The data for one `LOAD DATA LOCAL`, under the name that the statement gives it.
type Offer = Option<(String, mpsc::Receiver<Bytes>)>;

/// One connection, with what was made on it.
pub(crate) struct Connection {
    conn: Conn,
    pub address: String,
    pub flavor: Flavor,
    /// The server's name and version, for messages.
    pub version: String,
    /// Whether `LOAD DATA LOCAL` is allowed, here and by the server.
    pub local_infile: bool,
    /// The most bytes of a statement.
    pub packet_bytes_max: usize,
    offer: Arc<Mutex<Offer>>,
    loads: u64,
    stages: HashMap<String, String>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Answers the server's requests for files: with the data that was offered for just this statement, and with nothing else. There is no way from here
/// to a file.
struct Handler(Arc<Mutex<Offer>>);

impl GlobalHandler for Handler {
    fn handle(&self, name: &[u8]) -> BoxFuture<'static, Result<InfileData, LocalInfileError>> {
        let offer = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let data = match offer {
            Some((offered, data)) if offered.as_bytes() == name => Ok(data),
            _ => Err(LocalInfileError::PathIsNotInTheWhiteList("the server asked for a file that it was not told of".into())),
        };
        Box::pin(async move {
            let pieces = futures_util::stream::unfold(data?, async |mut data| data.recv().await.map(|piece| (Ok(piece), data)));
            Ok(pieces.boxed())
        })
    }
}

impl MySqlServer {
    pub(crate) fn new(settings: MySqlSettings) -> Self {
        Self { settings }
    }

    pub(crate) fn address(&self) -> String {
        let database = self.settings.database.as_ref().map(|database| format!("/{database}")).unwrap_or_default();
        format!("{}{database}", self.settings.address)
    }

    fn opts(&self, offer: &Arc<Mutex<Offer>>) -> Result<OptsBuilder, JdbcError> {
        let settings = &self.settings;
        // No database is chosen: it may have to be made first, and all names say theirs.
        let opts = OptsBuilder::default()
            .ip_or_hostname(settings.address.host.clone())
            .tcp_port(settings.address.port)
            .user(Some(settings.user.clone()))
            .pass(settings.password.as_ref().map(|password| password.expose().to_owned()))
            .prefer_socket(false)
            .socket(settings.address.socket.as_ref().map(|socket| socket.display().to_string()))
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .local_infile_handler(Some(Handler(Arc::clone(offer))))
            .stmt_cache_size(0);
        let encrypted = settings.address.socket.is_none() && settings.sslmode != SslMode::Disable;
        Ok(if encrypted { opts.ssl_opts(tls::options(settings)?) } else { opts })
    }

    async fn log_in(&self, opts: OptsBuilder) -> Result<Conn, JdbcError> {
        let first = self.try_log_in(opts.clone()).await?;
        let failed = |error| connect_error(self.address(), error);
        match first {
            Err(Error::Driver(DriverError::NoClientSslFlagFromServer)) if self.settings.sslmode == SslMode::Prefer => {
                self.try_log_in(opts.ssl_opts(None)).await?.map_err(failed)
            }
            Err(error) if self.settings.sslmode != SslMode::VerifyFull => match tls::presented_name(&error) {
                // Everything else was good. The driver knows no way to leave out the name alone, so it is given the one that it will find.
                Some(name) => {
                    let tls = tls::options(&self.settings)?.with_danger_tls_hostname_override(Some(name));
                    self.try_log_in(opts.ssl_opts(tls)).await?.map_err(failed)
                }
                None => Err(failed(error)),
            },
            other => other.map_err(failed),
        }
    }

    /// Waits no longer than [`CONNECT_TIMEOUT`].
    async fn try_log_in(&self, opts: OptsBuilder) -> Result<Result<Conn, Error>, JdbcError> {
        match tokio::time::timeout(CONNECT_TIMEOUT, Conn::new(Opts::from(opts))).await {
            Ok(result) => Ok(result),
            Err(_) => {
                let cause = Box::new(std::io::Error::new(std::io::ErrorKind::TimedOut, "it does not answer within 10 seconds"));
                Err(JdbcError::Connect { address: self.address(), transient: true, cause })
            }
        }
    }
}

#[async_trait]
impl Server for MySqlServer {
    type Connection = Connection;

    fn is_open(connection: &Connection) -> bool {
        !connection.conn.is_disconnected()
    }

    fn is_worth_keeping(connection: &Connection) -> bool {
        connection.stages.len() < STAGES_MAX
    }

    async fn connect(&self) -> Result<Connection, JdbcError> {
        let offer = Arc::new(Mutex::new(None));
        let conn = self.log_in(self.opts(&offer)?).await?;
        let mut connection = Connection {
            conn,
            address: self.address(),
            flavor: Flavor::MySql,
            version: String::new(),
            local_infile: false,
            packet_bytes_max: 0,
            offer,
            loads: 0,
            stages: HashMap::new(),
        };
        let doing = "set up a session";
        let row = connection.row(doing, "SELECT VERSION(), @@local_infile, @@max_allowed_packet").await?;
        connection.version = connection.value(doing, &row, 0)?;
        connection.local_infile = connection.value::<i64>(doing, &row, 1)? != 0 && self.settings.address.local_infile;
        connection.packet_bytes_max = connection.value(doing, &row, 2)?;
        if connection.version.contains("MariaDB") {
            connection.flavor = Flavor::MariaDb;
        }
        check_version(&connection)?;
        connection.run(doing, SESSION).await?;
        let no_limit = match connection.flavor {
            Flavor::MySql => "SET SESSION max_execution_time = 0",
            Flavor::MariaDb => "SET SESSION max_statement_time = 0",
        };
        connection.run(doing, no_limit).await?;
        Ok(connection)
    }
}

/// The collations that keys need are there since MySQL 8.0.17 and MariaDB 10.2; MariaDB is tested from 10.5 on.
fn check_version(connection: &Connection) -> Result<(), JdbcError> {
    let mut parts = connection.version.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let found = [parts.next(), parts.next(), parts.next()].map(|part| part.unwrap_or(0));
    let (least, needed) = match connection.flavor {
        Flavor::MySql => ([8, 0, 17], "MySQL 8.0.17 or later"),
        Flavor::MariaDb => ([10, 5, 0], "MariaDB 10.5 or later"),
    };
    if found < least {
        let (address, found) = (connection.address.clone(), connection.version.clone());
        return Err(JdbcError::TooOld { address, found, needed });
    }
    Ok(())
}

fn connect_error(address: String, error: Error) -> JdbcError {
    match error {
        Error::Server(error) => {
            let cause = refusal(error.code, &error.state, &error.message);
            let server = JdbcError::Server { doing: String::new(), cause: Box::new(cause.clone()) };
            JdbcError::Connect { address, transient: server.recovery() == Recovery::Retry, cause: Box::new(cause) }
        }
        // A server without TLS or with a login that is unknown here stays so, and a certificate that is not trusted too.
        Error::Driver(
            DriverError::NoClientSslFlagFromServer
            | DriverError::UnknownAuthPlugin { .. }
            | DriverError::CleartextPluginDisabled
            | DriverError::MysqlOldPasswordDisabled,
        )
        | Error::Url(_) => JdbcError::Connect { address, transient: false, cause: Box::new(error) },
        error => JdbcError::Connect { address, transient: !is_untrusted(&error), cause: Box::new(error) },
    }
}

impl Connection {
    /// The error of a statement that was to do something.
    pub(crate) fn failed(&self, doing: &str, error: Error) -> JdbcError {
        match error {
            Error::Server(error) => {
                let cause = Box::new(refusal(error.code, &error.state, &error.message));
                JdbcError::Server { doing: doing.to_owned(), cause }
            }
            error => JdbcError::ConnectionLost { address: self.address.clone(), doing: doing.to_owned(), cause: Box::new(error) },
        }
    }

    /// Runs statements, separated by `;`, and passes over the rows that they give. Returns how many rows the last one touched, and how many warnings
    /// it had.
    pub(crate) async fn run(&mut self, doing: &str, sql: impl AsRef<[u8]>) -> Result<(u64, u16), JdbcError> {
        let done = self.conn.query_drop(sql.as_ref()).await;
        done.map_err(|error| self.failed(doing, error))?;
        Ok((self.conn.affected_rows(), self.conn.get_warnings()))
    }

    /// Runs a statement that writes values. One that was not stored as it was given is an error, also where the server only warns of it: texts that
    /// lose spaces at their end, digits that are rounded away.
    pub(crate) async fn write(&mut self, doing: &str, sql: impl AsRef<[u8]>) -> Result<u64, JdbcError> {
        let (rows, warnings) = self.run(doing, sql).await?;
        self.check_warnings(doing, warnings).await?;
        Ok(rows)
    }

    async fn check_warnings(&mut self, doing: &str, warnings: u16) -> Result<(), JdbcError> {
        if warnings == 0 {
            return Ok(());
        }
        let refused = |cause| Err(JdbcError::Server { doing: doing.to_owned(), cause: Box::new(cause) });
        let rows = self.rows(doing, "SHOW WARNINGS").await?;
        if rows.is_empty() {
            let message = "a value was not stored as it is; `max_error_count` is 0, so the server does not say which";
            return refused(ServerError { message: message.into(), ..refusal(0, "01000", "") });
        }
        for row in &rows {
            let number: u16 = self.value(doing, row, 1)?;
            if says_that_a_value_changed(number) {
                return refused(refusal(number, "01000", &self.value::<String>(doing, row, 2)?));
            }
        }
        Ok(())
    }

    /// The rows of a query.
    pub(crate) async fn rows(&mut self, doing: &str, sql: &str) -> Result<Vec<Row>, JdbcError> {
        let rows = self.conn.query(sql).await;
        rows.map_err(|error| self.failed(doing, error))
    }

    /// The one row of a query.
    pub(crate) async fn row(&mut self, doing: &str, sql: &str) -> Result<Row, JdbcError> {
        let row = self.conn.query_first(sql).await.map_err(|error| self.failed(doing, error))?;
        row.ok_or_else(|| self.unexpected(doing))
    }

    /// The rows of the last of several statements.
    pub(crate) async fn rows_of_last(&mut self, doing: &str, sql: &str) -> Result<Vec<Row>, JdbcError> {
        let read = async {
            let mut result = self.conn.query_iter(sql).await?;
            let mut rows = Vec::new();
            while !result.is_empty() {
                rows = result.collect::<Row>().await?;
            }
            // An error of a later statement is kept back until here.
            result.drop_result().await?;
            Ok(rows)
        };
        let rows = read.await;
        rows.map_err(|error| self.failed(doing, error))
    }

    /// A value of a row.
    pub(crate) fn value<T: FromValue>(&self, doing: &str, row: &Row, index: usize) -> Result<T, JdbcError> {
        row.get_opt(index).and_then(Result::ok).ok_or_else(|| self.unexpected(doing))
    }

    /// The error for a row that is larger than the statements that the server takes.
    pub(crate) fn row_too_large(&self, table: &str, bytes: usize) -> JdbcError {
        let (table, limit) = (table.to_owned(), self.packet_bytes_max);
        JdbcError::RowTooLarge { table, bytes, limit, needed: bytes.next_power_of_two() }
    }

    fn unexpected(&self, doing: &str) -> JdbcError {
        let cause = Box::new(std::io::Error::other("the server's answer is not of the expected form"));
        JdbcError::ConnectionLost { address: self.address.clone(), doing: doing.to_owned(), cause }
    }

    /// Offers data to the `LOAD DATA LOCAL` that names it so. The pieces are sent as they are given.
    pub(crate) fn offer(&mut self) -> (String, mpsc::Sender<Bytes>) {
        // A few pieces in advance: the server takes in one while the next ones are made.
        let (sender, receiver) = mpsc::channel(4);
        self.loads += 1;
        let name = format!("mainstem-rows-{}", self.loads);
        *self.offer.lock().unwrap_or_else(PoisonError::into_inner) = Some((name.clone(), receiver));
        (name, sender)
    }

    /// The temporary table for staged rows of these types, empty. Its columns have numbers instead of names, so tables with the same types share it:
    ///
    /// | column | meaning |
    /// |---|---|
    /// | `n` | the number of the row in the flush |
    /// | `k` | what to do, see [`stage_kind`](crate::dialect::staging::stage_kind) |
    /// | `m` | a letter for each column, `1` if it was not sent; NULL if all were |
    /// | `o0`… | the key that a moved row had |
    /// | `c0`… | the columns |
    ///
    /// Emptying it commits, so no transaction may be open.
    pub(crate) async fn stage(&mut self, database: &str, columns: &[MyType], key: &[usize]) -> Result<String, JdbcError> {
        let flavor = self.flavor;
        let mut layout =
            String::from("n int unsigned NOT NULL AUTO_INCREMENT PRIMARY KEY, k tinyint NOT NULL DEFAULT 0, m varbinary(1024)");
        for (number, kind) in key.iter().filter_map(|&index| columns.get(index)).enumerate() {
            layout.push_str(&format!(", o{number} {}", kind.sql(flavor)));
        }
        for (number, kind) in columns.iter().enumerate() {
            layout.push_str(&format!(", c{number} {}", kind.sql(flavor)));
        }
        let place = format!("{database} {layout}");
        if let Some(name) = self.stages.get(&place).cloned() {
            self.run("empty a temporary table", format!("TRUNCATE TABLE {name}")).await?;
            return Ok(name);
        }
        let name = format!("{database}.mainstem_stage_{}", self.stages.len());
        self.run("create a temporary table", format!("CREATE TEMPORARY TABLE {name} ({layout}) ENGINE=InnoDB")).await?;
        self.stages.insert(place, name.clone());
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_gets_the_data_of_its_statement_and_nothing_else() {
        let offer: Arc<Mutex<Offer>> = Arc::default();
        let handler = Handler(Arc::clone(&offer));
        assert!(handler.handle(b"/etc/passwd").await.is_err(), "nothing was offered");
        let give = || {
            let (sender, receiver) = mpsc::channel(1);
            *offer.lock().unwrap() = Some(("mainstem-rows-1".into(), receiver));
            sender
        };
        let sender = give();
        assert!(handler.handle(b"/etc/passwd").await.is_err(), "another name");
        assert!(sender.is_closed(), "and the offer is gone");
        let sender = give();
        let data = handler.handle(b"mainstem-rows-1").await.unwrap();
        sender.send(Bytes::from_static(b"1\n")).await.unwrap();
        drop(sender);
        let pieces: Vec<_> = data.map(Result::unwrap).collect().await;
        assert_eq!(pieces, [Bytes::from_static(b"1\n")]);
        assert!(handler.handle(b"mainstem-rows-1").await.is_err(), "once");
    }
}
