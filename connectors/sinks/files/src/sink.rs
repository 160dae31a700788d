use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use connector_api::{
    Barrier, ChangeBatch, ConnectorError, Delivery, Filled, Finding, FlushPolicy, Flushed, NextOffsets, Offset, OpenedSink,
    PartitionId, Rows, Sink, SinkConnector, SinkContext, SinkFactory, SinkInput, Target, TopicInfo,
};

use crate::{
    change_log::FileSchema,
    config::{FilesSinkConfig, StoreUrl},
    error::{FilesError, blocking},
    file_header::FileIdentity,
    object_name::PartitionFolder,
    parquet_file::ParquetFile,
    store::{Created, LocalStore, S3Store, Store, Upload, end_of, resume},
};

/// The sink `files`: each topic becomes Parquet files in the form of a change log. `docs/parquet-files.md` describes them.
#[derive(Debug, Clone)]
pub struct FilesSink {
    config: FilesSinkConfig,
}

impl FilesSink {
    /// Checks the settings. An error names the field, what is wrong, and what would be right.
    pub fn new(config: FilesSinkConfig) -> Result<Self, (&'static str, String)> {
        config.validate()?;
        Ok(Self { config })
    }

    /// Makes such sinks from pipeline files.
    pub fn factory() -> SinkFactory {
        SinkFactory::new(Self::new)
    }

    async fn store(&self) -> Result<Store, FilesError> {
        let config = &self.config;
        match &config.url {
            StoreUrl::Local(root) => Ok(Store::Local(LocalStore::new(root.clone(), config.single_writer))),
            StoreUrl::S3 { bucket, prefix } => {
                let settings = config.s3.clone().unwrap_or_default();
                let (bucket, prefix) = (bucket.clone(), prefix.clone());
                let store = S3Store::new(bucket, prefix, &settings, config.single_writer, config.roll.bytes.0).await?;
                Ok(Store::S3(store))
            }
        }
    }
}

#[async_trait]
impl SinkConnector for FilesSink {
    async fn connect(&self, context: SinkContext) -> Result<Arc<dyn Target>, ConnectorError> {
        let store = self.store().await?;
        store.probe(true).await?;
        store.remove_left_probes().await?;
        Ok(Arc::new(FilesTarget(Arc::new(Connected { store, config: self.config.clone(), context }))))
    }

    async fn check(&self, _context: SinkContext) -> Result<Vec<Finding>, ConnectorError> {
        let store = match self.store().await {
            Ok(store) => store,
            Err(error) => return Ok(vec![finding(error)]),
        };
        let mut findings = store.probe(false).await.unwrap_or_else(|error| vec![finding(error)]);
        if self.config.single_writer {
            findings.push(Finding::note(format!(
                "`single_writer: true`: nothing keeps a second process from overwriting files in {}",
                self.config.url
            )));
        }
        Ok(findings)
    }

    fn delivery(&self) -> Delivery {
        Delivery::PerPartition
    }

    fn policy(&self) -> FlushPolicy {
        let roll = &self.config.roll;
        FlushPolicy { bytes: roll.bytes.0, rows: roll.rows.unwrap_or(u64::MAX), age: roll.age.0 }
    }
}

fn finding(error: FilesError) -> Finding {
    // With the causes, as the supervisor prints them.
    Finding::error(ConnectorError::from(error).to_string())
}

/// What all sinks of one target share.
struct Connected {
    store: Store,
    config: FilesSinkConfig,
    context: SinkContext,
}

/// A folder or bucket that was tried out.
struct FilesTarget(Arc<Connected>);

#[async_trait]
impl Target for FilesTarget {
    async fn open(&self, topic: &TopicInfo, reported: &NextOffsets) -> Result<OpenedSink, ConnectorError> {
        let connected = Arc::clone(&self.0);
        // Before the last file is looked for: an unfinished file that is gone can't be published afterwards.
        connected.store.clean(topic).await?;
        let next = resume(&connected.store, topic, reported).await?;
        let files = TopicFiles { connected, topic: topic.clone() };
        let sink = TopicWriter { files, next: next.clone(), open: BTreeMap::new() };
        Ok(OpenedSink { sink: Box::new(sink), next })
    }
}

/// Writes the files of one topic.
///
/// For each partition `next` is where the last file ends (or where we were told to begin), so it is also the name of the next file.
/// Ranges without rows are written down as files without rows: were they only skipped, a writer that saw them and one that did not
/// would give different names to files with the same rows.
struct TopicWriter {
    files: TopicFiles,
    next: NextOffsets,
    open: BTreeMap<PartitionId, OpenFile>,
}

/// Begins and ends files of one topic.
struct TopicFiles {
    connected: Arc<Connected>,
    topic: TopicInfo,
}

/// A file that is being written: offsets `first..next` of one partition.
struct OpenFile {
    folder: PartitionFolder,
    identity: FileIdentity,
    next: Offset,
    rows: u64,
    file: ParquetFile,
    upload: Upload,
}

#[async_trait]
impl Sink for TopicWriter {
    async fn write(&mut self, input: SinkInput) -> Result<Filled, ConnectorError> {
        match input {
            SinkInput::Rows(rows) => self.write_rows(rows).await?,
            SinkInput::Barrier(barrier) => self.write_barrier(barrier).await?,
        }
        let open = self.open.values();
        Ok(open.fold(Filled::default(), |sum, open| Filled { bytes: sum.bytes + open.file.bytes(), rows: sum.rows + open.rows }))
    }

    async fn flush(&mut self) -> Result<Flushed, ConnectorError> {
        let mut flushed = Flushed::default();
        while let Some((partition, open)) = self.open.pop_first() {
            let (next, bytes) = self.files.publish(open).await?;
            self.next.insert(partition, next);
            flushed.next.insert(partition, next);
            flushed.bytes += bytes;
        }
        Ok(flushed)
    }
}

impl TopicWriter {
    async fn write_rows(&mut self, rows: Rows) -> Result<(), FilesError> {
        let Rows { partition, first_offset, next_offset, offsets, batch } = rows;
        let done = self.open.get(&partition).map(|open| open.next).or_else(|| self.next.get(&partition).copied());
        if done.is_some_and(|done| next_offset <= done) {
            return Ok(());
        }
        // Rows that are written already come again if the input was cut otherwise before.
        let skip = done.map_or(0, |done| offsets.partition_point(|offset| *offset < done)).min(batch.len());
        let batch = if skip == 0 { batch } else { batch.slice(skip, batch.len() - skip) };
        self.append(partition, done.unwrap_or(first_offset), next_offset, batch).await
    }

    async fn write_barrier(&mut self, barrier: Barrier) -> Result<(), FilesError> {
        for (partition, next_offset) in barrier.next {
            let done = self.open.get(&partition).map(|open| open.next).or_else(|| self.next.get(&partition).copied());
            if done.is_none_or(|done| next_offset > done) {
                let first = done.unwrap_or(next_offset - 1);
                self.append(partition, first, next_offset, barrier.batch.clone()).await?;
            }
        }
        Ok(())
    }

    /// Appends to the partition's open file, or to a new one that begins at `first`.
    async fn append(&mut self, partition: PartitionId, first: Offset, next: Offset, batch: ChangeBatch) -> Result<(), FilesError> {
        let mut open = match self.open.remove(&partition) {
            Some(open) => open,
            None => self.files.begin(partition, first, &batch).await?,
        };
        if !open.file.schema().fits(&batch) {
            return Err(FilesError::TwoSchemas { topic: self.files.topic.name.clone() });
        }
        let topic = self.files.topic.name.clone();
        open.rows += batch.len() as u64;
        open.next = next;
        let mut file = open.file;
        file = blocking(move || {
            file.write(&batch).map_err(|source| FilesError::Encode { topic, source })?;
            Ok(file)
        })
        .await?;
        open.upload.accept(file.take_parts()).await?;
        open.file = file;
        self.open.insert(partition, open);
        Ok(())
    }
}

impl TopicFiles {
    async fn begin(&self, partition: PartitionId, first: Offset, batch: &ChangeBatch) -> Result<OpenFile, FilesError> {
        let folder = PartitionFolder { topic: self.topic.name.clone(), partition };
        let identity = FileIdentity {
            topic: self.topic.name.clone(),
            topic_id: self.topic.id,
            partition,
            first,
            writer: self.connected.context.writer.clone(),
        };
        let schema = Arc::new(FileSchema::new(Arc::clone(&batch.schema), Arc::clone(&batch.info)));
        let (output, upload) = self.connected.store.begin(&folder, &identity).await?;
        let file =
            ParquetFile::new(schema, self.connected.config.compression, output).map_err(|source| self.encode_error(source))?;
        Ok(OpenFile { folder, identity, next: first, rows: 0, file, upload })
    }

    /// Makes a file visible. Returns from where the partition goes on, and the bytes written.
    async fn publish(&self, open: OpenFile) -> Result<(Offset, u64), FilesError> {
        let OpenFile { folder, identity, next, rows, file, upload } = open;
        let footer = identity.footer(next, file.schema());
        let topic = self.topic.name.clone();
        let output = blocking(move || file.finish(footer).map_err(|source| FilesError::Encode { topic, source })).await?;
        let store = &self.connected.store;
        match upload.publish(output, next).await? {
            Created::Yes { bytes } => {
                tracing::debug!(
                    topic = folder.topic,
                    partition = folder.partition,
                    first = identity.first,
                    next,
                    rows,
                    bytes,
                    "wrote a file"
                );
                Ok((next, bytes))
            }
            Created::ExistsAlready => {
                let place = store.place(&folder, identity.first);
                let end = end_of(store, &folder, identity.first, &self.topic).await?;
                let end = end.ok_or(FilesError::UnfinishedGone { place: place.clone() })?;
                tracing::warn!(
                    file = place,
                    next = end,
                    "another writer has written this range; going on from where its file ends"
                );
                Ok((end, 0))
            }
        }
    }

    fn encode_error(&self, source: parquet::errors::ParquetError) -> FilesError {
        FilesError::Encode { topic: self.topic.name.clone(), source }
    }
}
