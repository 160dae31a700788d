use std::{fmt, io};

use connector_api::{Recoverable, Recovery};

use crate::event::EventProblem;

/// What the server said when it refused something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerError {
    /// The server's own number, see [`number`].
    pub number: u16,
    /// SQLSTATE, five characters; empty before the login.
    pub state: String,
    pub message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (error {})", self.message, self.number)
    }
}

impl std::error::Error for ServerError {}

/// Error numbers that this crate tells apart; the same in MySQL and MariaDB but where noted.
pub(crate) mod number {
    pub(crate) const DATABASE_ACCESS_DENIED: u16 = 1044;
    pub(crate) const ACCESS_DENIED: u16 = 1045;
    pub(crate) const UNKNOWN_DATABASE: u16 = 1049;
    pub(crate) const UNKNOWN_COLUMN: u16 = 1054;
    pub(crate) const TABLE_ACCESS_DENIED: u16 = 1142;
    pub(crate) const NO_SUCH_TABLE: u16 = 1146;
    pub(crate) const UNKNOWN_SYSTEM_VARIABLE: u16 = 1193;
    pub(crate) const SPECIFIC_ACCESS_DENIED: u16 = 1227;
    pub(crate) const BINLOG_FATAL: u16 = 1236;
    pub(crate) const TABLE_DEFINITION_CHANGED: u16 = 1412;
    /// MariaDB's.
    pub(crate) const SAME_SERVER_ID: u16 = 4052;
}

/// What can be done where the stream cannot go on.
pub(crate) const CHOICES: &str = "`mainstem resnapshot PIPELINE` reads all tables again and goes on from there; `mainstem drop PIPELINE` \
     removes the pipeline's topics, to begin anew";

/// Any error of this source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MySqlError {
    #[error("could not connect to the server at {address}")]
    Connect {
        address: String,
        #[source]
        cause: io::Error,
    },
    #[error("lost the connection to the server at {address}")]
    ConnectionLost {
        address: String,
        #[source]
        cause: io::Error,
    },
    #[error("the server at {address} did not answer for {seconds} s")]
    NoAnswer { address: String, seconds: u64 },
    #[error("TLS with the server at {address} failed: {problem}")]
    Tls { address: String, problem: String },
    #[error("the server at {address} did not let `{user}` in: {problem}")]
    Authentication { address: String, user: String, problem: String },
    #[error("failed to {doing}: {error}")]
    Server {
        doing: String,
        #[source]
        error: ServerError,
    },
    #[error("the server sent what the protocol does not allow: {problem}")]
    Protocol { problem: String },
    #[error("{problem}; {remedy}")]
    Prerequisite { problem: String, remedy: String },
    #[error(
        "another replica with server_id {server_id} is connected to this server; give each pipeline a `server_id` of its own ({message})"
    )]
    ServerIdTaken { server_id: u32, message: String },
    #[error("cannot go on without a gap: {problem}. Choose: {choices}")]
    Gap { problem: String, choices: String },
    #[error("event at {place}: {problem}")]
    Event { place: String, problem: EventProblem },
    #[error("event at {place}: its checksum is wrong; the log is damaged on the server's disk or on the way here")]
    Checksum { place: String },
    #[error("at {place}: {problem}")]
    Stream { place: String, problem: String },
    #[error("table {table}: {problem}")]
    Table { table: String, problem: String },
    #[error("table {table} was altered while its snapshot was being read; the snapshot starts again")]
    TableChanged { table: String },
    #[error("the stored position cannot be read: {problem}")]
    Position { problem: String },
    #[error("could not start a thread")]
    Thread(#[source] io::Error),
    #[error("failed to build a batch of changes of table {table}")]
    Batch {
        table: String,
        #[source]
        cause: arrow_schema::ArrowError,
    },
    #[error("the reader of the binary log ended unexpectedly")]
    ReaderGone,
}

impl MySqlError {
    pub(crate) fn protocol(problem: impl Into<String>) -> Self {
        Self::Protocol { problem: problem.into() }
    }

    pub(crate) fn prerequisite(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Prerequisite { problem: problem.into(), remedy: remedy.into() }
    }

    pub(crate) fn gap(problem: impl Into<String>) -> Self {
        Self::Gap { problem: problem.into(), choices: CHOICES.to_owned() }
    }

    /// The server's error number, if it gave one.
    pub(crate) fn number(&self) -> Option<u16> {
        match self {
            Self::Server { error, .. } => Some(error.number),
            _ => None,
        }
    }

    /// Whether the connection, not the request, failed.
    pub(crate) fn is_connection(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::ConnectionLost { .. } | Self::NoAnswer { .. })
    }
}

impl Recoverable for MySqlError {
    fn recovery(&self) -> Recovery {
        match self {
            Self::Connect { .. } | Self::ConnectionLost { .. } | Self::NoAnswer { .. } => Recovery::Retry,
            // A damaged event may have been damaged on the way; one that is damaged on disk comes again, with the same message.
            Self::TableChanged { .. } | Self::Thread(_) | Self::ReaderGone | Self::Checksum { .. } => Recovery::Retry,
            Self::Server { error, .. } => server_recovery(error.number),
            Self::Tls { .. } | Self::Authentication { .. } | Self::Protocol { .. } | Self::Prerequisite { .. } => Recovery::Stop,
            Self::Gap { .. } | Self::Event { .. } | Self::Stream { .. } | Self::Table { .. } => Recovery::Stop,
            Self::Position { .. } | Self::Batch { .. } | Self::ServerIdTaken { .. } => Recovery::Stop,
        }
    }
}

/// Too many connections (1040, 1203, 1226), shutdown (1053), a killed query or connection (1317, 1927), lock waits and deadlocks (1205,
/// 1213), a table that changed under a snapshot (1412), a host that is blocked for a while (1129), memory (1037, 1038, 1041), reading
/// packets (1158 to 1161), an execution time that ran out (3024, 1969), and a server that is offline (3032) pass by themselves; so does what
/// the server's operating system refused it, such as room for a temporary table (below 1000).
fn server_recovery(number: u16) -> Recovery {
    match number {
        1..=999 => Recovery::Retry,
        1037 | 1038 | 1040 | 1041 | 1053 | 1129 | 1158..=1161 | 1203 | 1205 | 1213 | 1226 => Recovery::Retry,
        1317 | 1412 | 1927 | 1969 | 3024 | 3032 => Recovery::Retry,
        _ => Recovery::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_retried() {
        for (number, expected) in [
            (6, Recovery::Retry),
            (1040, Recovery::Retry),
            (1053, Recovery::Retry),
            (1205, Recovery::Retry),
            (1045, Recovery::Stop),
            (1236, Recovery::Stop),
            (1227, Recovery::Stop),
        ] {
            assert_eq!(server_recovery(number), expected, "{number}");
        }
    }
}
