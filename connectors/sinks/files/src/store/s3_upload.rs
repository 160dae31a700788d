use aws_sdk_s3::{
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use connector_api::Offset;
use tokio::task::JoinSet;

use super::{Created, s3::S3Store, s3_client::answer};
use crate::{
    config::Checksum,
    error::FilesError,
    file_header::{FileIdentity, NEXT_OFFSET},
};

/// Parts that are under way at a time. Together with the row group that is being encoded they are what a file holds in memory.
const PARTS_UNDER_WAY: usize = 2;

/// An object on its way to a bucket: one request if it is small, else a multipart upload, which is begun when the first part is full.
/// A multipart upload that is dropped stays at the store, seen by no reader, until the topic is opened next.
#[derive(Debug)]
pub(crate) struct S3Upload {
    store: S3Store,
    key: String,
    /// Names and values of the object's metadata. For people: the sink itself reads the footer.
    metadata: Vec<(String, String)>,
    multipart: Option<Multipart>,
    bytes: u64,
}

#[derive(Debug)]
struct Multipart {
    id: String,
    under_way: JoinSet<Result<CompletedPart, FilesError>>,
    done: Vec<CompletedPart>,
    next_number: i32,
}

impl S3Upload {
    pub fn new(store: S3Store, key: String, identity: &FileIdentity) -> Self {
        let metadata = identity.pairs().into_iter().map(|(name, value)| (metadata_name(name), metadata_value(&value))).collect();
        Self { store, key, metadata, multipart: None, bytes: 0 }
    }

    pub fn place(&self) -> String {
        self.store.place(&self.key)
    }

    pub async fn accept(&mut self, parts: Vec<Bytes>) -> Result<(), FilesError> {
        for part in parts {
            self.upload_part(part).await?;
        }
        Ok(())
    }

    async fn upload_part(&mut self, body: Bytes) -> Result<(), FilesError> {
        self.bytes += body.len() as u64;
        let multipart = match &mut self.multipart {
            Some(multipart) => multipart,
            none => none.insert(begin(&self.store, &self.key, &self.metadata).await?),
        };
        while multipart.under_way.len() >= PARTS_UNDER_WAY {
            multipart.join_one().await?;
        }
        let number = multipart.next_number;
        multipart.next_number += 1;
        multipart.under_way.spawn(upload_part(self.store.clone(), self.key.clone(), multipart.id.clone(), number, body));
        Ok(())
    }

    /// Sends what is left and makes the object visible, if there is none of its name. `next` is the end of the file's range.
    pub async fn publish(mut self, last: Bytes, next: Offset) -> Result<Created, FilesError> {
        if self.multipart.is_none() {
            self.metadata.push((metadata_name(NEXT_OFFSET), next.to_string()));
            let bytes = last.len() as u64;
            let put = self.store.put(&self.key, last, &self.metadata).await?;
            return Ok(if put.is_ok() { Created::Yes { bytes } } else { Created::ExistsAlready });
        }
        if !last.is_empty() {
            self.upload_part(last).await?;
        }
        let Self { store, key, multipart: Some(mut multipart), bytes, .. } = self else {
            return Err(FilesError::UnfinishedGone { place: self.store.place(&self.key) });
        };
        while !multipart.under_way.is_empty() {
            multipart.join_one().await?;
        }
        multipart.done.sort_by_key(CompletedPart::part_number);
        let parts = CompletedMultipartUpload::builder().set_parts(Some(multipart.done)).build();
        let request = store.client().complete_multipart_upload().bucket(store.bucket()).key(&key).upload_id(&multipart.id);
        let completed = request.multipart_upload(parts).set_if_none_match(store.condition()).send().await;
        match completed.map_err(answer) {
            Ok(_) => Ok(Created::Yes { bytes }),
            Err(answer) if answer.is_exists_already() => {
                store.abort(&key, &multipart.id).await;
                Ok(Created::ExistsAlready)
            }
            // Either our own first attempt arrived and its answer was lost, or another writer gave our upload up at its start. Which
            // of the two it was, the object says: the caller reads it, and tries again if there is none.
            Err(answer) if answer.is_absent() => Ok(Created::ExistsAlready),
            // S3 wants all parts sent again after this; by then the other writer's object is there.
            Err(answer) if answer.is_conflict() => {
                store.abort(&key, &multipart.id).await;
                Err(FilesError::Conflict { place: store.place(&key) })
            }
            Err(answer) => Err(answer.into_error("write", "s3:PutObject", store.place(&key))),
        }
    }
}

impl Multipart {
    async fn join_one(&mut self) -> Result<(), FilesError> {
        if let Some(part) = self.under_way.join_next().await {
            self.done.push(part.map_err(|source| FilesError::Task { source })??);
        }
        Ok(())
    }
}

async fn begin(store: &S3Store, key: &str, metadata: &[(String, String)]) -> Result<Multipart, FilesError> {
    let mut request = store.client().create_multipart_upload().bucket(store.bucket()).key(key);
    for (name, value) in metadata {
        request = request.metadata(name, value);
    }
    request = request.set_checksum_algorithm(algorithm(store));
    let begun = request.send().await.map_err(|error| store.error(error, "write", "s3:PutObject", key))?;
    let id = begun.upload_id().filter(|id| !id.is_empty()).ok_or_else(|| FilesError::S3Broken {
        place: store.place(key),
        reason: "a multipart upload was begun without an id".into(),
    })?;
    Ok(Multipart { id: id.to_owned(), under_way: JoinSet::new(), done: Vec::new(), next_number: 1 })
}

async fn upload_part(
    store: S3Store,
    key: String,
    upload_id: String,
    number: i32,
    body: Bytes,
) -> Result<CompletedPart, FilesError> {
    let request = store.client().upload_part().bucket(store.bucket()).key(&key).upload_id(upload_id).part_number(number);
    let sent = request.set_checksum_algorithm(algorithm(&store)).body(ByteStream::from(body)).send().await;
    match sent.map_err(answer) {
        Ok(part) => Ok(CompletedPart::builder()
            .part_number(number)
            .set_e_tag(part.e_tag().map(Into::into))
            .set_checksum_crc32(part.checksum_crc32().map(Into::into))
            .build()),
        Err(answer) if answer.is_absent() => Err(FilesError::UnfinishedGone { place: store.place(&key) }),
        Err(answer) => Err(answer.into_error("write", "s3:PutObject", store.place(&key))),
    }
}

/// All parts of an object, and the object, need the same kind of checksum.
fn algorithm(store: &S3Store) -> Option<ChecksumAlgorithm> {
    match store.checksum() {
        Checksum::Supported => Some(ChecksumAlgorithm::Crc32),
        Checksum::Required => None,
    }
}

/// `mainstem.topic_id` as a header's name: `mainstem-topic-id`.
fn metadata_name(pair: &str) -> String {
    pair.replace(['.', '_'], "-")
}

/// Headers are ASCII without control characters.
fn metadata_value(value: &str) -> String {
    value.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '_' }).collect()
}
