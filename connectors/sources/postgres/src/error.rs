use std::{fmt, io};

use connector_api::{Recoverable, Recovery};

/// What the PostgreSQL server said when it refused something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServerError {
    /// SQLSTATE, five characters.
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)?;
        if let Some(hint) = &self.hint {
            write!(f, "; hint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ServerError {}

/// SQLSTATEs that this crate tells apart.
pub(crate) mod sqlstate {
    pub(crate) const OBJECT_IN_USE: &str = "55006";
    pub(crate) const PREREQUISITE_STATE: &str = "55000";
    pub(crate) const UNDEFINED_OBJECT: &str = "42704";
    pub(crate) const INSUFFICIENT_PRIVILEGE: &str = "42501";
    pub(crate) const INVALID_CATALOG_NAME: &str = "3D000";
    pub(crate) const CONFIGURATION_LIMIT: &str = "53400";
}

/// Any error of this source.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresError {
    #[error("could not connect to PostgreSQL at {address}")]
    Connect {
        address: String,
        #[source]
        cause: io::Error,
    },
    #[error("lost the connection to PostgreSQL at {address}")]
    ConnectionLost {
        address: String,
        #[source]
        cause: io::Error,
    },
    #[error("PostgreSQL at {address} did not answer for {seconds} s")]
    NoAnswer { address: String, seconds: u64 },
    #[error("TLS with PostgreSQL at {address} failed: {problem}")]
    Tls { address: String, problem: String },
    #[error("PostgreSQL at {address} did not let `{user}` in: {problem}")]
    Authentication { address: String, user: String, problem: String },
    #[error("failed to {doing}: {error}")]
    Server {
        doing: String,
        #[source]
        error: ServerError,
    },
    #[error("PostgreSQL sent what the protocol does not allow: {problem}")]
    Protocol { problem: String },
    #[error("{problem}; {remedy}")]
    Prerequisite { problem: String, remedy: String },
    #[error("replication slot `{slot}` is in use by another connection (process {pid} of the server)")]
    SlotActive { slot: String, pid: String },
    #[error("cannot go on without a gap: {problem}. Choose: {choices}")]
    Gap { problem: String, choices: String },
    #[error("table {table}, column `{column}`: {problem}")]
    Value { table: String, column: String, problem: String },
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
    #[error("the reader of the replication stream ended unexpectedly")]
    ReaderGone,
}

impl PostgresError {
    pub(crate) fn protocol(problem: impl Into<String>) -> Self {
        Self::Protocol { problem: problem.into() }
    }

    pub(crate) fn prerequisite(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Prerequisite { problem: problem.into(), remedy: remedy.into() }
    }

    /// The SQLSTATE, if the server gave one.
    pub(crate) fn code(&self) -> Option<&str> {
        match self {
            Self::Server { error, .. } => Some(&error.code),
            _ => None,
        }
    }
}

impl Recoverable for PostgresError {
    fn recovery(&self) -> Recovery {
        match self {
            Self::Connect { .. } | Self::ConnectionLost { .. } | Self::NoAnswer { .. } | Self::SlotActive { .. } => Recovery::Retry,
            Self::TableChanged { .. } | Self::Thread(_) | Self::ReaderGone => Recovery::Retry,
            Self::Server { error, .. } => server_recovery(&error.code),
            Self::Tls { .. } | Self::Authentication { .. } | Self::Protocol { .. } | Self::Prerequisite { .. } => Recovery::Stop,
            Self::Gap { .. } | Self::Value { .. } | Self::Position { .. } | Self::Batch { .. } => Recovery::Stop,
        }
    }
}

/// Connection exceptions (08), rollbacks such as deadlocks (40), a lack of resources (53), a busy object or a lock that timed out
/// (55006, 55P03), shutdown, crash and start-up (57) pass by themselves.
fn server_recovery(code: &str) -> Recovery {
    let passes = ["08", "40", "57"].iter().any(|class| code.starts_with(class));
    let resources = code.starts_with("53") && code != sqlstate::CONFIGURATION_LIMIT;
    if passes || resources || code == sqlstate::OBJECT_IN_USE || code == "55P03" { Recovery::Retry } else { Recovery::Stop }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_retried() {
        for (code, expected) in [
            ("57P03", Recovery::Retry),
            ("53300", Recovery::Retry),
            ("55006", Recovery::Retry),
            ("57P01", Recovery::Retry),
            ("28P01", Recovery::Stop),
            ("42501", Recovery::Stop),
            ("53400", Recovery::Stop),
        ] {
            assert_eq!(server_recovery(code), expected, "{code}");
        }
    }
}
