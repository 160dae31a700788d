use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use super::{
    connection::{Connection, Step, malformed, server_error},
    handshake::{Flavor, Version},
};
use crate::{
    config::Settings,
    error::{MySqlError, number},
    event::Bytes,
};

/// A question to the catalog is answered within this time, or the server is taken for gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
const RECEIVE_BUFFER_BYTES: usize = 32 << 10;
const COM_QUERY: u8 = 3;

/// What the text of values and the meaning of statements depend on. Time-outs that the server may have would end a snapshot in the
/// middle, or a connection that waits for its turn.
const SESSION: &str = "SET NAMES utf8mb4, time_zone = '+00:00', sql_mode = '', wait_timeout = 2147483, net_write_timeout = 86400, \
     net_read_timeout = 600, lock_wait_timeout = 60, autocommit = 1, sql_select_limit = DEFAULT";

/// A connection for statements, one at a time, by the text protocol.
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
    pub(crate) fn number<T: FromStr>(&self, column: usize) -> Result<T, MySqlError> {
        self.text(column).parse().map_err(|_| MySqlError::protocol(format!("`{}` where a number should be", self.text(column))))
    }

    /// Whether the column is true.
    pub(crate) fn is_true(&self, column: usize) -> bool {
        matches!(self.text(column), "1" | "ON" | "YES" | "on" | "yes")
    }
}

/// A message of an answer whose rows are taken as they come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer<'a> {
    /// A row's bytes: each column is 0xFB for NULL, else its length-encoded length and its text.
    Row(&'a [u8]),
    /// There are no more rows.
    End,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(settings: &Settings) -> Result<Self, MySqlError> {
        Self::connect_with(settings, RECEIVE_BUFFER_BYTES)
    }

    /// Connects for much data. `buffer_bytes` is the size of a large read.
    pub(crate) fn connect_with(settings: &Settings, buffer_bytes: usize) -> Result<Self, MySqlError> {
        let mut client = Self { connection: Connection::open(settings, buffer_bytes)? };
        client.execute("set the session up", SESSION)?;
        let limit = match client.flavor() {
            Flavor::MySql => "SET max_execution_time = 0",
            Flavor::MariaDb => "SET max_statement_time = 0",
        };
        client.execute("set the session up", limit)?;
        Ok(client)
    }

    pub(crate) fn version(&self) -> Version {
        self.connection.version()
    }

    pub(crate) fn flavor(&self) -> Flavor {
        self.version().flavor
    }

    /// The connection itself.
    pub(crate) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Says good-bye.
    pub(crate) fn close(self) {
        self.connection.close();
    }

    /// Runs a statement and returns its rows. `doing` completes "failed to …".
    pub(crate) fn query(&mut self, doing: &str, sql: &str) -> Result<Vec<Row>, MySqlError> {
        self.query_within(doing, sql, ANSWER_TIMEOUT)
    }

    /// [`query`](Self::query) with a time limit of its own.
    pub(crate) fn query_within(&mut self, doing: &str, sql: &str, limit: Duration) -> Result<Vec<Row>, MySqlError> {
        let deadline = Instant::now() + limit;
        let columns = self.start(doing, sql, deadline)?;
        self.rows(doing, columns, deadline)
    }

    /// The rows of a statement that was started.
    fn rows(&mut self, doing: &str, columns: usize, deadline: Instant) -> Result<Vec<Row>, MySqlError> {
        let mut rows = Vec::new();
        if columns == 0 {
            return Ok(rows);
        }
        loop {
            let row = self.connection.message(Some(deadline), |body| match answer(doing, body)? {
                Answer::Row(bytes) => text_row(bytes, columns).map(Some),
                Answer::End => Ok(None),
            })?;
            match row {
                Some(row) => rows.push(row),
                None => return Ok(rows),
            }
        }
    }

    /// Runs a statement of which no rows are wanted.
    pub(crate) fn execute(&mut self, doing: &str, sql: &str) -> Result<(), MySqlError> {
        self.query(doing, sql).map(|_| ())
    }

    /// [`query`](Self::query) for a statement that gives one row.
    pub(crate) fn query_one(&mut self, doing: &str, sql: &str) -> Result<Row, MySqlError> {
        let rows = self.query(doing, sql)?;
        rows.into_iter().next().ok_or_else(|| MySqlError::protocol(format!("no row when asked to {doing}")))
    }

    /// [`query_one`](Self::query_one) with the names of the columns.
    pub(crate) fn query_named(&mut self, doing: &str, sql: &str) -> Result<(Vec<String>, Row), MySqlError> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut names = Vec::new();
        let columns = self.begin(doing, sql, deadline, |body| {
            names.push(column_name(body)?);
            Ok(())
        })?;
        let found = self.rows(doing, columns, deadline)?.into_iter().next();
        found.map(|row| (names, row)).ok_or_else(|| MySqlError::protocol(format!("no row when asked to {doing}")))
    }

    /// Sends a command whose only answer is that it was done.
    pub(crate) fn command(&mut self, doing: &str, command: u8, arguments: &[u8]) -> Result<(), MySqlError> {
        self.connection.command(command, arguments)?;
        self.connection.message(Some(Instant::now() + ANSWER_TIMEOUT), |body| match body {
            [0xFF, rest @ ..] => Err(MySqlError::Server { doing: doing.to_owned(), error: server_error(rest)? }),
            _ => Ok(()),
        })
    }

    /// A system variable's value; `None` where the server has no such variable.
    pub(crate) fn variable(&mut self, name: &str) -> Result<Option<String>, MySqlError> {
        match self.query_one("read a system variable", &format!("SELECT @@global.{name}")) {
            Ok(row) => Ok(Some(row.text(0).to_owned())),
            Err(error) if error.number() == Some(number::UNKNOWN_SYSTEM_VARIABLE) => Ok(None),
            // Some exist in sessions only.
            Err(error) if error.number() == Some(1238) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Sends a statement and reads up to its first row. Returns the number of columns, 0 if it gives no rows. Then rows follow until
    /// [`Answer::End`]: see [`answer`].
    pub(crate) fn start(&mut self, doing: &str, sql: &str, deadline: Instant) -> Result<usize, MySqlError> {
        self.begin(doing, sql, deadline, |_| Ok(()))
    }

    fn begin(
        &mut self,
        doing: &str,
        sql: &str,
        deadline: Instant,
        mut definition: impl FnMut(&[u8]) -> Result<(), MySqlError>,
    ) -> Result<usize, MySqlError> {
        self.connection.command(COM_QUERY, sql.as_bytes())?;
        let columns = self.connection.message(Some(deadline), |body| match body {
            [0xFF, rest @ ..] => Err(MySqlError::Server { doing: doing.to_owned(), error: server_error(rest)? }),
            [0, ..] => Ok(0),
            [0xFB, ..] => Err(MySqlError::protocol("a request for a file of ours")),
            _ => Bytes::new(body, "an answer").packed_len().map_err(malformed),
        })?;
        if columns == 0 {
            return Ok(0);
        }
        for _ in 0..columns {
            self.connection.message(Some(deadline), &mut definition)?;
        }
        // What ends the definitions.
        self.connection.message(Some(deadline), |_| Ok(()))?;
        Ok(columns)
    }

    /// Takes the rows that were received so far of a statement that was [started](Self::start). [`Step::Stop`]: that was all.
    #[inline]
    pub(crate) fn take_rows(
        &mut self,
        doing: &str,
        mut take: impl FnMut(&[u8]) -> Result<(), MySqlError>,
    ) -> Result<Step, MySqlError> {
        self.connection.take_messages(|body| match answer(doing, body)? {
            Answer::Row(bytes) => take(bytes).map(|()| Step::More),
            Answer::End => Ok(Step::Stop),
        })
    }
}

/// What a message behind the columns' definitions is. A row can begin with 0xFE (a value of more than 16 MiB), but is longer then.
#[inline]
fn answer<'a>(doing: &str, body: &'a [u8]) -> Result<Answer<'a>, MySqlError> {
    match body {
        [0xFE, ..] if body.len() < 9 => Ok(Answer::End),
        [0xFF, rest @ ..] => Err(MySqlError::Server { doing: doing.to_owned(), error: server_error(rest)? }),
        _ => Ok(Answer::Row(body)),
    }
}

/// A column's definition: catalog, schema, table, original table, name.
fn column_name(body: &[u8]) -> Result<String, MySqlError> {
    let mut bytes = Bytes::new(body, "a column's definition");
    for _ in 0..4 {
        bytes.packed_bytes().map_err(malformed)?;
    }
    Ok(String::from_utf8_lossy(bytes.packed_bytes().map_err(malformed)?).into_owned())
}

fn text_row(body: &[u8], columns: usize) -> Result<Row, MySqlError> {
    let mut bytes = Bytes::new(body, "a row");
    let mut row = Vec::with_capacity(columns);
    for _ in 0..columns {
        if bytes.rest().first() == Some(&0xFB) {
            bytes.u8().map_err(malformed)?;
            row.push(None);
        } else {
            row.push(Some(String::from_utf8_lossy(bytes.packed_bytes().map_err(malformed)?).into_owned()));
        }
    }
    Ok(Row(row))
}

/// A name as SQL wants it.
pub(crate) fn quote_identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A text as SQL wants it, whatever the SQL mode says of backslashes: ours is empty, so they escape.
pub(crate) fn quote_literal(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('\'');
    for c in text.chars() {
        if matches!(c, '\'' | '\\') {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_follows_the_columns_is_told_apart() {
        assert_eq!(answer("read", &[0xFE, 0, 0, 2, 0]).unwrap(), Answer::End);
        let large = [0xFE, 0, 0, 0, 1, 0, 0, 0, 0, b'x'];
        assert_eq!(answer("read", &large).unwrap(), Answer::Row(&large));
        let error = answer("read", b"\xFF\x16\x04#42000no").unwrap_err();
        assert_eq!(error.number(), Some(0x416));
        assert_eq!(text_row(&[0xFB, 2, b'a', b'b'], 2).unwrap().get(1), Some("ab"));
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quote_identifier("a`b"), "`a``b`");
        assert_eq!(quote_literal("a'b\\"), "'a\\'b\\\\'");
    }

    proptest! {
        #[test]
        fn no_row_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = text_row(&bytes, 3);
            let _ = answer("read", &bytes);
        }
    }
}
