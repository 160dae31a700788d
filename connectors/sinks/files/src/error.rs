use std::{io, path::PathBuf};

use connector_api::{Offset, Recoverable, Recovery};
use parquet::errors::ParquetError;

/// What can go wrong between the log and the files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("failed to {action} {}", path.display())]
    Disk {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },

    #[error("failed to {action} {place}")]
    S3 {
        action: &'static str,
        place: String,
        #[source]
        answer: S3Answer,
    },

    #[error("S3 refused to {action} {place}; {advice}")]
    S3Refused {
        action: &'static str,
        place: String,
        advice: String,
        #[source]
        answer: S3Answer,
    },

    #[error("the store does not do what S3 promises: {place}: {reason}")]
    S3Broken { place: String, reason: String },

    #[error(
        "{place} does not keep a file from being overwritten ({reason}), so a second writer could destroy data; use a store that does, \
         or set `single_writer: true` if nothing but this one process ever writes there"
    )]
    NotConditional { place: String, reason: String },

    #[error(
        "{place} was written for another topic of the name `{topic}` (id {found}, now {expected}): the log was made anew while its files \
         stayed; write to another `url`, or move or delete the folder `topic={topic}` and take a new snapshot (`mainstem resnapshot`)"
    )]
    OtherTopic { place: String, topic: String, found: String, expected: String },

    #[error("{place} has the name of a file of this sink but is none ({reason}); move it away, or restore it from a backup")]
    NotOurs { place: String, reason: String },

    #[error("{place} ends at offset {next}, before it begins; it is damaged: move it away, or restore it from a backup")]
    EndsBeforeItBegins { place: String, next: Offset },

    #[error("the unfinished file for {place} is gone: another writer took over, or somebody cleaned up")]
    UnfinishedGone { place: String },

    #[error("{place} was being created by another writer at the same moment")]
    Conflict { place: String },

    #[error("failed to encode rows of topic {topic} as Parquet")]
    Encode {
        topic: String,
        #[source]
        source: ParquetError,
    },

    #[error("rows of topic {topic} came with two schemas and no flush between them; this is a mistake of the runtime")]
    TwoSchemas { topic: String },

    #[error("no AWS region is known for {place}; set `s3.region`, or AWS_REGION in the environment")]
    NoRegion { place: String },

    #[error("a task of the files sink failed")]
    Task {
        #[source]
        source: tokio::task::JoinError,
    },
}

/// What S3 answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum S3Answer {
    /// An error document or status.
    #[error("HTTP {status} {code}{}{message}", if message.is_empty() { "" } else { ": " })]
    Error { status: u16, code: String, message: String },
    /// Nothing that could be read: connection, name, TLS, time-out, credentials.
    #[error("no answer from S3")]
    None(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Recoverable for FilesError {
    fn recovery(&self) -> Recovery {
        match self {
            Self::Disk { source, .. } => disk_recovery(source),
            Self::Encode { source, .. } => match source {
                // An error of the file below the encoder.
                ParquetError::External(source) => source.downcast_ref::<io::Error>().map_or(Recovery::Stop, disk_recovery),
                _ => Recovery::Stop,
            },
            Self::S3 { .. } | Self::UnfinishedGone { .. } | Self::Conflict { .. } => Recovery::Retry,
            Self::S3Refused { .. }
            | Self::S3Broken { .. }
            | Self::NotConditional { .. }
            | Self::OtherTopic { .. }
            | Self::NotOurs { .. }
            | Self::EndsBeforeItBegins { .. }
            | Self::TwoSchemas { .. }
            | Self::NoRegion { .. }
            | Self::Task { .. } => Recovery::Stop,
        }
    }
}

/// A full disk may get room and a mount may come back; rights and kinds of file systems stay as they are.
fn disk_recovery(error: &io::Error) -> Recovery {
    match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::InvalidFilename
        | io::ErrorKind::Unsupported => Recovery::Stop,
        _ => Recovery::Retry,
    }
}

/// Runs file work or encoding on a thread where waiting is allowed, so that the async workers stay free.
pub(crate) async fn blocking<T, F>(work: F) -> Result<T, FilesError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, FilesError> + Send + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(|source| FilesError::Task { source })?
}
