use std::{sync::Arc, time::Duration};

use aws_sdk_s3::{
    Client,
    error::SdkError,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use connector_api::{Finding, Offset, TopicInfo};
use parquet::{errors::ParquetError, file::metadata::ParquetMetaDataReader};

use super::{
    s3_client::{answer, checksums, client},
    s3_upload::S3Upload,
};
use crate::{
    config::{Checksum, S3Config},
    error::{FilesError, S3Answer},
    file_header::{FileHeader, FileIdentity},
    object_name::{PROBE_PREFIX, PartitionFolder, file_name, first_offset, is_left_probe, probe_name, topic_folder},
    parquet_file::{Output, Parts},
};

/// Objects up to this size go up in one request, larger ones in parts of it.
const PART_BYTES_MIN: u64 = 8 << 20;
/// The most parts that S3 allows is 10,000; a file may become larger than it should, so we plan for half of them.
const PARTS_PLANNED: u64 = 5_000;
/// How much of an object's end is read for its footer at first.
const FOOTER_BYTES: u64 = 64 << 10;
const CONFLICTS_MAX: u32 = 6;

/// A bucket, and the beginning of all keys in it.
#[derive(Debug, Clone)]
pub(crate) struct S3Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    bucket: String,
    prefix: String,
    part_bytes: usize,
    single_writer: bool,
    checksum: Checksum,
}

impl S3Store {
    /// A store that expects files of about `file_bytes`. Nothing is sent yet.
    pub async fn new(
        bucket: String,
        prefix: String,
        settings: &S3Config,
        single_writer: bool,
        file_bytes: u64,
    ) -> Result<Self, FilesError> {
        let client = client(settings, &format!("s3://{bucket}/{prefix}")).await?;
        let part_bytes = usize::try_from(file_bytes.div_ceil(PARTS_PLANNED).max(PART_BYTES_MIN)).unwrap_or(usize::MAX);
        Ok(Self(Arc::new(Inner { client, bucket, prefix, part_bytes, single_writer, checksum: checksums(settings) })))
    }

    pub(super) fn client(&self) -> &Client {
        &self.0.client
    }

    pub(super) fn bucket(&self) -> &str {
        &self.0.bucket
    }

    pub(super) fn checksum(&self) -> Checksum {
        self.0.checksum
    }

    /// `If-None-Match` for the request that makes an object visible.
    pub(super) fn condition(&self) -> Option<String> {
        (!self.0.single_writer).then(|| "*".to_owned())
    }

    pub fn key(&self, path: &str) -> String {
        if self.0.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.0.prefix) }
    }

    pub fn place(&self, key: &str) -> String {
        format!("s3://{}/{key}", self.0.bucket)
    }

    pub async fn last_file(&self, folder: &PartitionFolder, from: Offset) -> Result<Option<Offset>, FilesError> {
        let prefix = self.key(&format!("{}/", folder.path()));
        let request = self.client().list_objects_v2().bucket(self.bucket()).prefix(&prefix);
        // Exclusive: the first name that is looked at is the one of `from` itself.
        let start_after = (from > 0).then(|| format!("{prefix}{}", file_name(from - 1)));
        let mut pages = request.set_start_after(start_after).into_paginator().send();
        let mut last = None;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| self.error(error, "list", "s3:ListBucket", &prefix))?;
            let names = page.contents().iter().filter_map(|object| object.key()?.strip_prefix(&prefix));
            last = last.max(names.filter_map(first_offset).max());
        }
        Ok(last)
    }

    pub async fn header(&self, folder: &PartitionFolder, first: Offset) -> Result<Option<FileHeader>, FilesError> {
        let key = self.key(&folder.file(first));
        let place = self.place(&key);
        let not_ours = |reason: String| FilesError::NotOurs { place: place.clone(), reason };
        let mut reader = ParquetMetaDataReader::new();
        let mut wanted = FOOTER_BYTES;
        loop {
            let Some((bytes, size)) = self.tail(&key, wanted).await? else { return Ok(None) };
            match reader.try_parse_sized(&bytes, size) {
                Ok(()) => break,
                Err(ParquetError::NeedMoreData(needed)) if needed as u64 > wanted => wanted = needed as u64,
                Err(error) => return Err(not_ours(error.to_string())),
            }
        }
        let metadata = reader.finish().map_err(|error| not_ours(error.to_string()))?;
        FileHeader::read(&metadata, &place).map(Some)
    }

    /// The last `wanted` bytes of an object, or all of a shorter one, and its size. `None` if there is no such object.
    async fn tail(&self, key: &str, wanted: u64) -> Result<Option<(Bytes, u64)>, FilesError> {
        let sent = self.client().get_object().bucket(self.bucket()).key(key).range(format!("bytes=-{wanted}")).send().await;
        let found = match sent.map_err(answer) {
            Ok(found) => found,
            Err(answer) if answer.is_absent() => return Ok(None),
            // The range of an empty object.
            Err(answer) if answer.status() == Some(416) => {
                return Err(FilesError::NotOurs { place: self.place(key), reason: "it is empty".into() });
            }
            Err(answer) => return Err(answer.into_error("read", "s3:GetObject", self.place(key))),
        };
        let size = found.content_range().and_then(|range| range.rsplit('/').next()?.parse().ok());
        let read = found.body.collect().await;
        let bytes =
            read.map_err(|error| FilesError::S3 { action: "read", place: self.place(key), answer: S3Answer::None(error.into()) })?;
        let bytes = bytes.into_bytes();
        let size = size.unwrap_or(bytes.len() as u64);
        Ok(Some((bytes, size)))
    }

    /// Gives up multipart uploads of the topic that nobody will end: they cost money and are seen by nobody.
    pub async fn clean(&self, topic: &TopicInfo) -> Result<(), FilesError> {
        let prefix = self.key(&format!("{}/", topic_folder(&topic.name)));
        let ours = |key: &str| key.strip_prefix(&prefix).and_then(|rest| rest.rsplit('/').next()).and_then(first_offset).is_some();
        self.give_up_uploads(&prefix, ours).await;
        Ok(())
    }

    /// Gives up the multipart uploads below a prefix whose keys are `ours`, as far as that is possible.
    async fn give_up_uploads(&self, prefix: &str, ours: impl Fn(&str) -> bool) {
        let (mut after_key, mut after_id) = (None, None);
        loop {
            let request = self.client().list_multipart_uploads().bucket(self.bucket()).prefix(prefix);
            let sent = request.set_key_marker(after_key.take()).set_upload_id_marker(after_id.take()).send().await;
            let page = match sent.map_err(answer) {
                Ok(page) => page,
                Err(answer) => {
                    // Only tidiness is lost.
                    tracing::warn!(
                        place = self.place(prefix),
                        error = %answer,
                        "can't look for unfinished multipart uploads; grant s3:ListBucketMultipartUploads, or add a lifecycle rule that aborts them"
                    );
                    return;
                }
            };
            for upload in page.uploads() {
                let (Some(key), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                if ours(key) {
                    tracing::info!(place = self.place(key), "giving up an unfinished multipart upload");
                    self.abort(key, id).await;
                }
            }
            after_key = page.next_key_marker().map(Into::into);
            after_id = page.next_upload_id_marker().map(Into::into);
            if page.is_truncated() != Some(true) || after_key.is_none() {
                return;
            }
        }
    }

    /// Gives up a multipart upload, as far as that is possible.
    pub(super) async fn abort(&self, key: &str, upload_id: &str) {
        let request = self.client().abort_multipart_upload().bucket(self.bucket()).key(key).upload_id(upload_id);
        match request.send().await.map_err(answer) {
            Ok(_) => {}
            Err(answer) if answer.is_absent() => {}
            Err(answer) => tracing::warn!(place = self.place(key), error = %answer, "can't give up a multipart upload"),
        }
    }

    pub fn begin(&self, folder: &PartitionFolder, identity: &FileIdentity) -> (Output, S3Upload) {
        let upload = S3Upload::new(self.clone(), self.key(&folder.file(identity.first)), identity);
        (Output::Parts(Parts::new(self.0.part_bytes)), upload)
    }

    /// Creates an object in one request. A conflict with another writer is tried again, so that it becomes a yes or a no.
    pub(super) async fn put(
        &self,
        key: &str,
        body: Bytes,
        metadata: &[(String, String)],
    ) -> Result<Result<(), S3Answer>, FilesError> {
        let mut pause = Duration::from_millis(100);
        for _ in 0..CONFLICTS_MAX {
            let mut request = self.client().put_object().bucket(self.bucket()).key(key).set_if_none_match(self.condition());
            for (name, value) in metadata {
                request = request.metadata(name, value);
            }
            match request.body(ByteStream::from(body.clone())).send().await.map_err(answer) {
                Ok(_) => return Ok(Ok(())),
                Err(answer) if answer.is_exists_already() => return Ok(Err(answer)),
                Err(answer) if answer.is_conflict() => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(answer) => return Err(answer.into_error("write", "s3:PutObject", self.place(key))),
            }
        }
        Err(FilesError::Conflict { place: self.place(key) })
    }

    /// Writes, lists, reads and removes an object, and tries to overwrite it in each way that a file can be written.
    pub async fn probe(&self) -> Result<Vec<Finding>, FilesError> {
        let key = self.key(&probe_name());
        self.put(&key, Bytes::from_static(b"probe"), &[]).await?.map_err(|answer| FilesError::S3Broken {
            place: self.place(&key),
            reason: format!("it refused to create an object of a new name: {answer}"),
        })?;
        let probed = self.probe_object(&key).await;
        let mut findings = Vec::new();
        if let Err(error) = self.client().delete_object().bucket(self.bucket()).key(&key).send().await.map_err(answer) {
            tracing::warn!(place = self.place(&key), %error, "can't remove the probe object");
            findings.push(Finding::warning(format!(
                "{} was written to try the store out, and can't be removed: {error}",
                self.place(&key)
            )));
        }
        probed.map(|()| findings)
    }

    /// Removes what processes that were killed in the middle of [`probe`](Self::probe) left.
    pub async fn remove_left_probes(&self) {
        let prefix = self.key(PROBE_PREFIX);
        let left = |key: &str| is_left_probe(key.rsplit('/').next().unwrap_or_default());
        // A page is a thousand: more at a later start.
        let listed = self.client().list_objects_v2().bucket(self.bucket()).prefix(&prefix).send().await;
        let listed = listed.map(|page| page.contents.unwrap_or_default()).unwrap_or_default();
        for key in listed.iter().filter_map(|object| object.key()).filter(|key| left(key)) {
            tracing::info!(place = self.place(key), "removing what an earlier start left");
            // Only tidiness is lost, and the next start tries again.
            let _ = self.client().delete_object().bucket(self.bucket()).key(key).send().await;
        }
        self.give_up_uploads(&prefix, left).await;
    }

    async fn probe_object(&self, key: &str) -> Result<(), FilesError> {
        let listed = self.client().list_objects_v2().bucket(self.bucket()).prefix(key).send().await;
        listed.map_err(|error| self.error(error, "list", "s3:ListBucket", key))?;
        let read = self.tail(key, FOOTER_BYTES).await?;
        if read.is_none_or(|(bytes, _)| bytes != "probe") {
            let reason = "the end of an object that was just written reads otherwise".to_owned();
            return Err(FilesError::S3Broken { place: self.place(key), reason });
        }
        if self.0.single_writer {
            return Ok(());
        }
        let not_conditional =
            |reason: &str| FilesError::NotConditional { place: format!("s3://{}", self.bucket()), reason: reason.to_owned() };
        if self.put(key, Bytes::from_static(b"second"), &[]).await?.is_ok() {
            return Err(not_conditional("PutObject with If-None-Match replaced an object"));
        }
        if self.probe_multipart(key).await? {
            return Err(not_conditional("CompleteMultipartUpload with If-None-Match replaced an object"));
        }
        Ok(())
    }

    /// Whether a multipart upload replaces an object that is there.
    async fn probe_multipart(&self, key: &str) -> Result<bool, FilesError> {
        let begun = self.client().create_multipart_upload().bucket(self.bucket()).key(key).send().await;
        let begun = begun.map_err(|error| self.error(error, "write", "s3:PutObject", key))?;
        let id = begun.upload_id().unwrap_or_default();
        let body = ByteStream::from_static(b"third");
        let part = self.client().upload_part().bucket(self.bucket()).key(key).upload_id(id).part_number(1).body(body).send().await;
        let completed = match part {
            Ok(part) => {
                let part = CompletedPart::builder()
                    .part_number(1)
                    .set_e_tag(part.e_tag().map(Into::into))
                    .set_checksum_crc32(part.checksum_crc32().map(Into::into));
                let parts = CompletedMultipartUpload::builder().parts(part.build()).build();
                let request = self.client().complete_multipart_upload().bucket(self.bucket()).key(key).upload_id(id);
                let completed = request.multipart_upload(parts).if_none_match("*").send().await;
                completed.map(|_| ()).map_err(answer)
            }
            Err(error) => {
                self.abort(key, id).await;
                return Err(self.error(error, "write", "s3:PutObject", key));
            }
        };
        match completed {
            Ok(()) => Ok(true),
            Err(answer) => {
                self.abort(key, id).await;
                if answer.is_exists_already() {
                    Ok(false)
                } else {
                    Err(answer.into_error("write", "s3:PutObject", self.place(key)))
                }
            }
        }
    }

    pub(super) fn error<E>(
        &self,
        error: SdkError<E, aws_sdk_s3::config::http::HttpResponse>,
        action: &'static str,
        permission: &'static str,
        key: &str,
    ) -> FilesError
    where
        E: aws_sdk_s3::error::ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        answer(error).into_error(action, permission, self.place(key))
    }
}
