//! Where files go: a folder on disk, or a bucket. Both promise the same: a file becomes visible at once and whole, and only if there is
//! none of its name.
mod local;
mod s3;
mod s3_client;
mod s3_upload;

use bytes::Bytes;
use connector_api::{Finding, NextOffsets, Offset, TopicInfo};

pub(crate) use self::{local::LocalStore, s3::S3Store};
use self::{local::LocalUpload, s3_upload::S3Upload};
use crate::{
    error::FilesError,
    file_header::{FileHeader, FileIdentity},
    object_name::PartitionFolder,
    parquet_file::Output,
};

/// Whether a file could be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Created {
    /// It is there now, of that many bytes.
    Yes { bytes: u64 },
    /// There was one of its name; ours is gone.
    ExistsAlready,
}

/// Where files go.
#[derive(Debug)]
pub(crate) enum Store {
    Local(LocalStore),
    S3(S3Store),
}

impl Store {
    /// Tries out what the sink needs of the store, and leaves nothing behind. `create` says whether what is missing may be created.
    pub async fn probe(&self, create: bool) -> Result<Vec<Finding>, FilesError> {
        match self {
            Self::Local(store) => store.probe(create).await,
            Self::S3(store) => store.probe().await,
        }
    }

    /// Removes probes that an earlier process, killed in the middle of one, left behind.
    pub async fn remove_left_probes(&self) -> Result<(), FilesError> {
        match self {
            Self::Local(store) => store.remove_left_probes().await,
            Self::S3(store) => {
                store.remove_left_probes().await;
                Ok(())
            }
        }
    }

    /// Removes what earlier writers of the topic left unfinished.
    pub async fn clean(&self, topic: &TopicInfo) -> Result<(), FilesError> {
        match self {
            Self::Local(store) => store.clean(topic).await,
            Self::S3(store) => store.clean(topic).await,
        }
    }

    /// The first offset of the last file of a partition. Files that begin before `from` may be passed over.
    pub async fn last_file(&self, folder: &PartitionFolder, from: Offset) -> Result<Option<Offset>, FilesError> {
        match self {
            Self::Local(store) => store.last_file(folder).await,
            Self::S3(store) => store.last_file(folder, from).await,
        }
    }

    /// What the file whose range begins at that offset says of itself; `None` if there is none.
    pub async fn header(&self, folder: &PartitionFolder, first: Offset) -> Result<Option<FileHeader>, FilesError> {
        match self {
            Self::Local(store) => store.header(folder, first).await,
            Self::S3(store) => store.header(folder, first).await,
        }
    }

    /// Begins a file.
    pub async fn begin(&self, folder: &PartitionFolder, identity: &FileIdentity) -> Result<(Output, Upload), FilesError> {
        match self {
            Self::Local(store) => {
                let (output, upload) = store.begin(folder, identity.first).await?;
                Ok((output, Upload::Local(upload)))
            }
            Self::S3(store) => {
                let (output, upload) = store.begin(folder, identity);
                Ok((output, Upload::S3(upload)))
            }
        }
    }

    /// The file's full name, for messages.
    pub fn place(&self, folder: &PartitionFolder, first: Offset) -> String {
        match self {
            Self::Local(store) => store.path(folder, first).display().to_string(),
            Self::S3(store) => store.place(&store.key(&folder.file(first))),
        }
    }
}

/// A file on its way to the store. Dropped before [`publish`](Self::publish), it leaves nothing that a reader would see.
pub(crate) enum Upload {
    Local(LocalUpload),
    S3(S3Upload),
}

impl Upload {
    /// Takes parts of the output that are full. Waits while too many are under way.
    pub async fn accept(&mut self, parts: Vec<Bytes>) -> Result<(), FilesError> {
        match self {
            Self::Local(_) => Ok(()),
            Self::S3(upload) => upload.accept(parts).await,
        }
    }

    /// Makes the file visible under its name, durably, if there is none of that name.
    pub async fn publish(self, output: Output, next: Offset) -> Result<Created, FilesError> {
        match (self, output) {
            (Self::Local(upload), Output::File(file)) => upload.publish(file).await,
            (Self::S3(mut upload), Output::Parts(parts)) => {
                upload.accept(parts.full).await?;
                upload.publish(Bytes::from(parts.last), next).await
            }
            (Self::Local(upload), Output::Parts(_)) => Err(FilesError::UnfinishedGone { place: upload.place() }),
            (Self::S3(upload), Output::File(_)) => Err(FilesError::UnfinishedGone { place: upload.place() }),
        }
    }
}

/// For each partition from where the target goes on: the later of what was reported and what the last file says. An object of another
/// topic is an error.
pub(crate) async fn resume(store: &Store, topic: &TopicInfo, reported: &NextOffsets) -> Result<NextOffsets, FilesError> {
    let mut next = NextOffsets::new();
    for partition in 0..topic.partitions {
        let folder = PartitionFolder { topic: topic.name.clone(), partition };
        let reported = reported.get(&partition).copied();
        let end = match store.last_file(&folder, reported.unwrap_or(0)).await? {
            Some(first) => end_of(store, &folder, first, topic).await?,
            None => None,
        };
        if let Some(offset) = reported.max(end) {
            next.insert(partition, offset);
        }
    }
    Ok(next)
}

/// Where the range of an existing file ends (exclusive), once it is known to be of this topic. `None` if there is no such file.
pub(crate) async fn end_of(
    store: &Store,
    folder: &PartitionFolder,
    first: Offset,
    topic: &TopicInfo,
) -> Result<Option<Offset>, FilesError> {
    let Some(header) = store.header(folder, first).await? else { return Ok(None) };
    let place = || store.place(folder, first);
    let expected = topic.id.to_string();
    if header.topic_id != expected {
        return Err(FilesError::OtherTopic { place: place(), topic: topic.name.clone(), found: header.topic_id, expected });
    }
    if (header.partition, header.first) != (folder.partition, first) {
        let reason = format!("it holds partition {} from offset {}", header.partition, header.first);
        return Err(FilesError::NotOurs { place: place(), reason });
    }
    if header.next <= first {
        return Err(FilesError::EndsBeforeItBegins { place: place(), next: header.next });
    }
    Ok(Some(header.next))
}
