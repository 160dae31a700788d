use std::{
    io,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::connection::{Connection, Purpose};
use crate::{
    config::Settings,
    error::{PostgresError, ServerError},
};

/// A question to the catalogs is answered within this time, or the server is taken for gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const RECEIVE_BUFFER_BYTES: usize = 32 << 10;

/// What the text of values depends on. `search_path` without user schemas makes type names print in full, and keeps functions of the
/// same name in user schemas from being called. The time-outs that a role may carry would end a snapshot in the middle; the view knows
/// which of them this server has.
const SESSION: &str = "SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; SET timezone = 'UTC'; SET extra_float_digits = 3; \
     SET bytea_output = 'hex'; SET search_path = pg_catalog; SET default_transaction_read_only = off; \
     SET standard_conforming_strings = on; \
     SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout', 'lock_timeout', \
     'idle_in_transaction_session_timeout', 'idle_session_timeout', 'transaction_timeout')";

/// A connection for statements, one at a time, by the simple query protocol.
pub(crate) struct Client {
    connection: Connection,
}

/// A row of an answer, as text.
#[derive(Debug, Clone)]
pub(crate) struct Row(Vec<Option<String>>);

impl Row {
    /// The column's text; "" for NULL and for columns that are not there.
    pub(crate) fn text(&self, column: usize) -> &str {
        self.get(column).unwrap_or_default()
    }

    /// The column's text; `None` for NULL.
    pub(crate) fn get(&self, column: usize) -> Option<&str> {
        self.0.get(column).and_then(Option::as_deref)
    }

    /// The column as a number; an error if it is none.
    pub(crate) fn number<T: std::str::FromStr>(&self, column: usize) -> Result<T, PostgresError> {
        self.text(column).parse().map_err(|_| PostgresError::protocol(format!("`{}` where a number should be", self.text(column))))
    }

    /// Whether the column is true.
    pub(crate) fn is_true(&self, column: usize) -> bool {
        self.text(column) == "t"
    }
}

impl Client {
    /// Connects for SQL.
    pub(crate) fn connect(settings: &Settings) -> Result<Self, PostgresError> {
        Self::start(Connection::open(settings, Purpose::Query, RECEIVE_BUFFER_BYTES)?)
    }

    /// Connects for replication commands and SQL. `buffer_bytes` is the size of a large read.
    pub(crate) fn connect_replication(settings: &Settings, buffer_bytes: usize) -> Result<Self, PostgresError> {
        Self::start(Connection::open(settings, Purpose::Replication, buffer_bytes)?)
    }

    /// Connects for SQL and `COPY`. `buffer_bytes` is the size of a large read.
    pub(crate) fn connect_copy(settings: &Settings, buffer_bytes: usize) -> Result<Self, PostgresError> {
        Self::start(Connection::open(settings, Purpose::Query, buffer_bytes)?)
    }

    fn start(connection: Connection) -> Result<Self, PostgresError> {
        let mut client = Self { connection };
        client.query("set the session up", SESSION)?;
        Ok(client)
    }

    /// The server's version: 150018 is 15.18.
    pub(crate) fn version(&self) -> u32 {
        self.connection.version()
    }

    /// Runs statements and returns the rows of all of them. `doing` completes "failed to …".
    pub(crate) fn query(&mut self, doing: &str, sql: &str) -> Result<Vec<Row>, PostgresError> {
        self.query_within(doing, sql, Some(ANSWER_TIMEOUT))
    }

    /// [`query`](Self::query) with a time limit of its own; `None` waits for ever.
    pub(crate) fn query_within(&mut self, doing: &str, sql: &str, limit: Option<Duration>) -> Result<Vec<Row>, PostgresError> {
        self.ask(sql)?;
        let deadline = limit.map(|limit| Instant::now() + limit);
        let mut rows = Vec::new();
        let mut failure = None;
        loop {
            let ready = self.connection.message(deadline, |tag, body| match tag {
                b'D' => data_row(body).map(|row| {
                    rows.push(row);
                    false
                }),
                b'E' => {
                    failure = Some(server_error(body));
                    Ok(false)
                }
                b'Z' => Ok(true),
                b'T' | b'C' | b'N' | b'S' | b'I' | b'A' => Ok(false),
                other => Err(PostgresError::protocol(format!("message `{}` as an answer to a query", other.escape_ascii()))),
            });
            match (ready, failure.take()) {
                (Ok(true), None) => return Ok(rows),
                (Ok(true), Some(error)) => return Err(PostgresError::Server { doing: doing.to_owned(), error }),
                (Ok(false), failed) => failure = failed,
                // The server says why before it hangs up.
                (Err(PostgresError::ConnectionLost { .. }), Some(error)) => {
                    return Err(PostgresError::Server { doing: doing.to_owned(), error });
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// The first row of an answer; none is an error.
    pub(crate) fn query_one(&mut self, doing: &str, sql: &str) -> Result<Row, PostgresError> {
        let rows = self.query(doing, sql)?;
        rows.into_iter().next().ok_or_else(|| PostgresError::protocol(format!("no row when asked to {doing}")))
    }

    /// Sends a command that makes the connection a stream (`COPY … TO STDOUT`, `START_REPLICATION`) and waits until it is one.
    pub(crate) fn start_copy(&mut self, doing: &str, command: &str) -> Result<(), PostgresError> {
        self.ask(command)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT * 10;
        let mut failure = None;
        loop {
            let streaming = self.connection.message(Some(deadline), |tag, body| match tag {
                b'H' | b'W' => Ok(Some(true)),
                b'E' => {
                    failure = Some(server_error(body));
                    Ok(None)
                }
                b'Z' => Ok(Some(false)),
                b'N' | b'S' | b'T' | b'D' | b'C' | b'A' => Ok(None),
                other => Err(PostgresError::protocol(format!("message `{}` when a stream should begin", other.escape_ascii()))),
            });
            match (streaming, failure.take()) {
                (Ok(Some(true)), _) => return Ok(()),
                (Ok(Some(false)), None) => return Err(PostgresError::protocol("no stream where one was asked for")),
                (Ok(Some(false)) | Err(PostgresError::ConnectionLost { .. }), Some(error)) => {
                    return Err(PostgresError::Server { doing: doing.to_owned(), error });
                }
                (Ok(None), failed) => failure = failed,
                (Err(error), _) => return Err(error),
            }
        }
    }

    /// After the end of a `COPY`, waits until the server is ready for the next command.
    pub(crate) fn wait_ready(&mut self, doing: &str) -> Result<(), PostgresError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let ready = self.connection.message(Some(deadline), |tag, body| match tag {
                b'Z' => Ok(true),
                b'E' => Err(PostgresError::Server { doing: doing.to_owned(), error: server_error(body) }),
                _ => Ok(false),
            })?;
            if ready {
                return Ok(());
            }
        }
    }

    fn ask(&mut self, sql: &str) -> Result<(), PostgresError> {
        let mut message = BytesMut::with_capacity(sql.len() + 16);
        frontend::query(sql, &mut message).map_err(|error: io::Error| PostgresError::protocol(error.to_string()))?;
        self.connection.send(&message)
    }

    /// The connection under it, for streams.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Ends the session.
    pub(crate) fn close(self) {
        self.connection.close();
    }
}

/// `DataRow`: the number of columns, then for each its length (-1 for NULL) and bytes.
fn data_row(body: &[u8]) -> Result<Row, PostgresError> {
    let broken = || PostgresError::protocol("a row of an answer that does not add up");
    let (count, mut rest) = body.split_first_chunk::<2>().ok_or_else(broken)?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (len, after) = rest.split_first_chunk::<4>().ok_or_else(broken)?;
        rest = after;
        let Ok(len) = usize::try_from(i32::from_be_bytes(*len)) else {
            columns.push(None);
            continue;
        };
        let (text, after) = rest.split_at_checked(len).ok_or_else(broken)?;
        columns.push(Some(String::from_utf8_lossy(text).into_owned()));
        rest = after;
    }
    Ok(Row(columns))
}

/// `ErrorResponse`: fields of a letter and a zero-terminated text each.
pub(crate) fn server_error(body: &[u8]) -> ServerError {
    let mut error = ServerError { code: "XX000".to_owned(), message: "an error without a message".to_owned(), hint: None };
    for field in body.split(|byte| *byte == 0) {
        let Some((kind, text)) = field.split_first() else { continue };
        let text = || String::from_utf8_lossy(text).into_owned();
        match kind {
            b'C' => error.code = text(),
            b'M' => error.message = text(),
            b'H' => error.hint = Some(text()),
            _ => {}
        }
    }
    error
}

/// An identifier in SQL and in replication commands.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string in SQL and in replication commands: the session has `standard_conforming_strings` on, so a backslash is itself.
pub(crate) fn quote_literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quoting_doubles() {
        assert_eq!(quote_identifier("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("o'clock\\"), "'o''clock\\'");
    }

    #[test]
    fn errors_are_read_field_by_field() {
        let error = server_error(b"SFATAL\0C57P03\0Mthe database system is starting up\0\0");
        assert_eq!((error.code.as_str(), error.message.as_str()), ("57P03", "the database system is starting up"));
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = data_row(&body);
            let _ = server_error(&body);
        }
    }
}
