use std::{fmt, io, path::PathBuf};

use connector_api::{Offset, PartitionId, Recoverable, Recovery, TopicId};

/// What a database server said, without anything that could be a row's value.
///
/// A server's DETAIL, its HINT and, for data exceptions (class 22), its message may quote values: they are left out.
#[derive(Debug, Clone)]
pub struct ServerError {
    /// The five-character SQLSTATE.
    pub code: String,
    /// The number of the error, for servers that number theirs (MySQL).
    pub number: Option<u16>,
    /// The server's message, empty where it may quote a value.
    pub message: String,
    /// The table that the server names.
    pub table: Option<String>,
    /// The column that the server names.
    pub column: Option<String>,
    /// The constraint that the server names.
    pub constraint: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            f.write_str("a value does not fit")?;
        } else {
            f.write_str(&self.message)?;
        }
        f.write_str(" (")?;
        if let Some(number) = self.number {
            write!(f, "error {number}, ")?;
        }
        write!(f, "SQLSTATE {}", self.code)?;
        for (name, value) in [("table", &self.table), ("column", &self.column), ("constraint", &self.constraint)] {
            if let Some(value) = value {
                write!(f, ", {name} `{value}`")?;
            }
        }
        f.write_str(")")
    }
}

impl std::error::Error for ServerError {}

impl ServerError {
    /// Whether trying again may help: the server went away, was busy, or chose this transaction as the victim.
    fn recovery(&self) -> Recovery {
        if let Some(number) = self.number {
            return mysql_recovery(number);
        }
        match self.code.as_str() {
            // Failover: the old primary is read-only until the address points to the new one.
            "25006" => Recovery::Retry,
            // Lock not available; object in use; out of memory, disk or connections is class 53, operator intervention 57, system
            // errors 58, connection exceptions 08, deadlock and serialization failures 40.
            "55P03" | "55006" => Recovery::Retry,
            code if ["08", "40", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => Recovery::Retry,
            _ => Recovery::Stop,
        }
    }
}

/// Whether trying again may help, by MySQL's and MariaDB's error numbers. Their SQLSTATEs are too coarse: most are HY000.
fn mysql_recovery(number: u16) -> Recovery {
    match number {
        // No room on the disk or in memory; no connection left, for the server or for this user.
        1021 | 1037 | 1038 | 1041 | 1114 | 1135 | 1040 | 1203 | 1226 => Recovery::Retry,
        // Lock wait timeout, too many locks, deadlock, and other transactions that were given up so that others can go on.
        1205 | 1206 | 1213 | 1412 | 1613 | 1614 | 1615 | 1637 | 3058 | 3101 | 3572 => Recovery::Retry,
        // The server shuts down, ends the session or the statement, or the network failed it.
        1053
        | 1077..=1079
        | 1152
        | 1158..=1161
        | 1184
        | 1189
        | 1190
        | 1317
        | 1927
        | 1969
        | 2006
        | 2013
        | 3024
        | 3168
        | 3169
        | 4031 => Recovery::Retry,
        // Failover: the old primary is read-only until the address points to the new one, and a member of a cluster is not ready.
        1047 | 1290 | 1792 | 1836 | 3100 => Recovery::Retry,
        _ => Recovery::Stop,
    }
}

/// What was wrong with a server's certificate, if that is what an error comes from.
pub(crate) fn certificate_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::CertificateError> {
    let inner = |error: &'a (dyn std::error::Error + 'static)| match error.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(error)) => Some(error),
        _ => None,
    };
    let mut next = Some(error);
    while let Some(error) = next {
        let inside = error.downcast_ref::<io::Error>().and_then(|io| io.get_ref());
        if let Some(found) = inner(error).or_else(|| inner(inside?)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Whether a certificate was not trusted: it will not be trusted next time.
pub(crate) fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    certificate_error(error).is_some()
}

/// What can go wrong in this sink.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are what the messages print them as")]
pub enum JdbcError {
    /// No connection could be made.
    #[error("cannot connect to {address}")]
    Connect {
        address: String,
        transient: bool,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The connection ended in the middle of something.
    #[error("lost the connection to {address} while it was to {doing}")]
    ConnectionLost {
        address: String,
        doing: String,
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The server refused a statement.
    #[error("could not {doing}")]
    Server {
        doing: String,
        #[source]
        cause: Box<ServerError>,
    },
    /// SQLite refused a statement.
    #[error("{path}: could not {doing}")]
    Sqlite {
        path: PathBuf,
        doing: String,
        #[source]
        cause: rusqlite::Error,
    },
    /// A file that the settings name cannot be read.
    #[error("cannot read {path}, named by `ca`")]
    Certificate {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    /// TLS could not be set up from the settings.
    #[error("cannot set up TLS for {address}")]
    Tls {
        address: String,
        #[source]
        cause: connector_tls::SetupError,
    },
    /// The target was filled from a topic that is not this one.
    #[error(
        "table {table} was filled from topic `{topic}` with id {stored}, but the log's topic has id {found}: the log or the topic was made \
         anew. Restore the data directory that belongs to the target; or load again: `DROP TABLE {table}` and \
         `DELETE FROM {offsets} WHERE target_table = '{literal}'`; or set another `schema`",
        literal = table.replace('\'', "''")
    )]
    OtherTopic { table: String, offsets: String, topic: String, stored: String, found: TopicId },
    /// Two topics would write one table.
    #[error(
        "table {table} is written by {writer} already: a table has one writer. Set another \
         `schema` for one of them; if that one is gone, `DELETE FROM {offsets} WHERE target_table = '{literal}'`",
        literal = table.replace('\'', "''")
    )]
    OtherWriter { table: String, offsets: String, writer: String },
    /// The table has rows, or had some by what the log knows, but there are no offsets for it.
    #[error(
        "table {table} exists, but {offsets} has no offsets for topic `{topic}`: {evidence}. Restore the offset rows; or load again: \
         `DROP TABLE {table}`; or set another `schema`"
    )]
    LostOffsets { table: String, offsets: String, topic: String, evidence: &'static str },
    /// There are offsets, but the table is gone.
    #[error(
        "table {table} is gone, but {offsets} says that it was filled from topic `{topic}`. Restore the table; or load again: \
         `DELETE FROM {offsets} WHERE target_table = '{literal}'`",
        literal = table.replace('\'', "''")
    )]
    LostTable { table: String, offsets: String, topic: String },
    /// Another writer moved the offsets on.
    #[error(
        "another writer took over table {table} (partition {partition} of topic `{topic}`): {offsets} holds next offset {found_next} and epoch \
         {found_epoch} where this one left {held_next} and {held_epoch}. Stop one of the two"
    )]
    TakenOver {
        table: String,
        offsets: String,
        topic: String,
        partition: PartitionId,
        held_next: Offset,
        held_epoch: i64,
        found_next: Offset,
        found_epoch: i64,
    },
    /// `upsert` needs a key.
    #[error(
        "table {table} has no key, so `mode: upsert` cannot tell its rows apart. Give the source table a primary key, or name a unique index: \
         `ALTER TABLE {source_table} REPLICA IDENTITY USING INDEX …`; or set `mode: append`"
    )]
    NoKey { table: String, source_table: String },
    /// A name that the target would cut.
    #[error(
        "the name `{name}` has {bytes} bytes, the target allows {limit}: it would be cut. Rename it at the source, or set `schema`"
    )]
    NameTooLong { name: String, bytes: usize, limit: usize },
    /// A name that the target does not take.
    #[error("the name `{name}` cannot be used in the target: {reason}. Rename it at the source, or set `schema`")]
    BadName { name: String, reason: &'static str },
    /// A key whose texts the target would compare by rules that differ from the source's.
    #[error(
        "table {table} compares its key column `{column}` by collation `{collation}`, for which keys that differ (in case, accents or spaces at the \
         end) are equal. Change it: `ALTER TABLE {table} MODIFY {column} {wanted} NOT NULL`"
    )]
    KeyCollation { table: String, column: String, collation: String, wanted: String },
    /// A server that is too old.
    #[error("{address} is {found}: this sink needs {needed}")]
    TooOld { address: String, found: String, needed: &'static str },
    /// A source column has the name of one of our own columns.
    #[error(
        "table {table} has a column `{column}`, a name that `mode: append` needs for itself. Rename it at the source, or use `mode: upsert`"
    )]
    ReservedColumn { table: String, column: String },
    /// A column changed its type in a way that the target cannot follow.
    #[error(
        "column `{column}` of table {table} has type {existing} and would have to become {wanted}, which cannot be done without touching its \
         values. Change it by hand with `ALTER TABLE`, or drop the table and its offset rows to load again"
    )]
    TypeChange { table: String, column: String, existing: String, wanted: String },
    /// A value that the target's type does not have.
    #[error("{table}, column `{column}`: the value at offset {offset} of partition {partition} cannot be stored: {reason}")]
    Unrepresentable { table: String, column: String, partition: PartitionId, offset: Offset, reason: &'static str },
    /// A row that the server takes by no way that is open.
    #[error(
        "{table}: a statement with one row has {bytes} bytes, and the server takes {limit}: `SET GLOBAL max_allowed_packet = {needed}`, or `SET GLOBAL \
         local_infile = ON`"
    )]
    RowTooLarge { table: String, bytes: usize, limit: usize, needed: usize },
    /// A change that lacks columns of a row that is not there.
    #[error(
        "{table}: the change at offset {offset} of partition {partition} updates a row that is not in the table, and does not hold all of its \
         columns. Rows were deleted here by hand, or the table was not loaded from its beginning: drop the table and its offset rows to load again"
    )]
    MissingRow { table: String, partition: PartitionId, offset: Offset },
    /// A change without the key of its row.
    #[error("{table}: the change at offset {offset} of partition {partition} lacks key column `{column}`")]
    MissingKey { table: String, column: String, partition: PartitionId, offset: Offset },
    /// A hole in what was handed over.
    #[error("{table}: changes of partition {partition} go on at offset {found}, but {expected} comes next")]
    Gap { table: String, partition: PartitionId, expected: Offset, found: Offset },
    /// Rows that do not have the shape that they claim.
    #[error("{table}: a batch of changes does not have the shape of its schema: {what}")]
    BadBatch { table: String, what: String },
    /// The thread that writes to SQLite ended.
    #[error("{path}: the writing thread ended early")]
    Interrupted { path: PathBuf },
}

impl Recoverable for JdbcError {
    fn recovery(&self) -> Recovery {
        match self {
            Self::Connect { transient: true, .. } | Self::ConnectionLost { .. } | Self::Interrupted { .. } => Recovery::Retry,
            Self::Server { cause, .. } => cause.recovery(),
            Self::Sqlite { cause, .. } => sqlite_recovery(cause),
            Self::Connect { transient: false, .. }
            | Self::Certificate { .. }
            | Self::Tls { .. }
            | Self::OtherTopic { .. }
            | Self::OtherWriter { .. }
            | Self::LostOffsets { .. }
            | Self::LostTable { .. }
            | Self::TakenOver { .. }
            | Self::NoKey { .. }
            | Self::NameTooLong { .. }
            | Self::BadName { .. }
            | Self::KeyCollation { .. }
            | Self::TooOld { .. }
            | Self::ReservedColumn { .. }
            | Self::TypeChange { .. }
            | Self::Unrepresentable { .. }
            | Self::RowTooLarge { .. }
            | Self::MissingRow { .. }
            | Self::MissingKey { .. }
            | Self::Gap { .. }
            | Self::BadBatch { .. } => Recovery::Stop,
        }
    }
}

fn sqlite_recovery(error: &rusqlite::Error) -> Recovery {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        // A full disk may be given room, and another process may let go of its lock.
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull | ErrorCode::SystemIoFailure) => {
            Recovery::Retry
        }
        _ => Recovery::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_decides_whether_to_try_again() {
        let recovery = |code: &str| {
            let (table, column, constraint) = (None, None, None);
            let cause = Box::new(ServerError { code: code.into(), number: None, message: "m".into(), table, column, constraint });
            JdbcError::Server { doing: "x".into(), cause }.recovery()
        };
        for code in ["40P01", "40001", "57P01", "53300", "55P03", "53100", "08006", "25006", "57P03"] {
            assert_eq!(recovery(code), Recovery::Retry, "{code}");
        }
        for code in ["42501", "23505", "23502", "22001", "42P01", "28P01", "0A000"] {
            assert_eq!(recovery(code), Recovery::Stop, "{code}");
        }
        for number in [1205, 1213, 1053, 1040, 1290, 1836, 1927, 4031] {
            assert_eq!(mysql_recovery(number), Recovery::Retry, "{number}");
        }
        for number in [1044, 1045, 1049, 1062, 1064, 1146, 1264, 1366, 1406, 1419] {
            assert_eq!(mysql_recovery(number), Recovery::Stop, "{number}");
        }
        let failure = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
        assert_eq!(sqlite_recovery(&failure(5)), Recovery::Retry, "busy");
        assert_eq!(sqlite_recovery(&failure(13)), Recovery::Retry, "full");
        assert_eq!(sqlite_recovery(&failure(19)), Recovery::Stop, "constraint");
        assert_eq!(sqlite_recovery(&failure(11)), Recovery::Stop, "corrupt");
    }

    #[test]
    fn messages_have_what_to_run() {
        let error = JdbcError::LostTable { table: "\"s\".\"it's\"".into(), offsets: "\"s\".o".into(), topic: "t".into() };
        assert!(error.to_string().contains(r#"DELETE FROM "s".o WHERE target_table = '"s"."it''s"'"#), "{error}");
    }
}
