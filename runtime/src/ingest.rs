//! Source → log: encodes each group of changes, has it committed together with the source's position, and tells the source.
//!
//! Invariant: nothing but this file confirms a position to a source, and only after the commit that holds it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use connector_api::{ChangeBatch, ChangeGroup, Source, SourceContext, SourcePosition, TableName};
use formats::{Encoder, RecordRef, RecordSink};
use log_core::{EncodedBatch, Log, LogError, PartitionId, RecordBatchBuilder, Schema, Topic, partition_for};
use tokio::runtime::Handle;

use crate::{
    commit_thread::{CommitThread, EncodedGroup},
    definition::{LogSettings, Pipeline},
    failure::Failure,
    registry::LogRegistry,
    schema_check,
    status::PipelineStatus,
};

/// A record batch is closed at this many bytes: Kafka's own default for the largest batch that clients take.
const RECORD_BATCH_BYTES_MAX: usize = 1 << 20;

/// What an ingest run needs from the runtime.
pub(crate) struct IngestContext {
    pub log: Log,
    pub source: SourceContext,
    pub status: Arc<PipelineStatus>,
}

/// Runs the source of a pipeline until it ends, fails, or has been stopped. Blocks: it has a thread of its own, so that encoding never
/// holds up other tasks, and a second one that commits.
pub(crate) fn run(pipeline: &Pipeline, context: &IngestContext, runtime: &Handle) -> Result<(), Failure> {
    let Some(connector) = &pipeline.source else { return Ok(()) };
    let pipeline_log = context.log.pipeline(&pipeline.name)?;
    let stored = pipeline_log.position();
    context.status.committed(stored.as_ref().map_or(0, |stored| stored.sequence), 0, 0);
    let position = stored.map(|stored| SourcePosition::new(stored.position.to_vec()));
    context.status.set_position(position.as_ref().and_then(|position| connector.describe(position).ok()));
    let mut source = runtime.block_on(connector.open(context.source.clone(), position))?;
    context.status.ingest_running();
    pipeline_log.set_segment_bytes(pipeline.log.segment.0);
    let mut ingest = Ingest::new(pipeline, context, pipeline_log.next_sequence());
    thread::scope(|scope| {
        let mut commits =
            CommitThread::start(scope, pipeline_log, pipeline.log.durability.interval(), Arc::clone(&context.status))?;
        let confirm = |source: &dyn Source, position: &SourcePosition| {
            source.confirm(position);
            if context.status.wants_position() {
                context.status.set_position(connector.describe(position).ok());
            }
        };
        let ended = loop {
            let next = runtime.block_on(async {
                while commits.is_pending() {
                    let next = if commits.is_busy() { source.next_full() } else { source.next() };
                    let progress = tokio::select! {
                        biased;
                        progress = commits.progress() => progress,
                        group = next => return group,
                    };
                    let Some(progress) = progress else { return Ok(None) };
                    progress.durable.iter().for_each(|position| confirm(source.as_ref(), position));
                }
                source.next().await
            });
            let group = match next {
                Ok(Some(group)) => group,
                // After a shutdown the source hands over what it has read, and then ends by itself.
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            };
            let last = group.reached_end && context.source.once;
            match ingest.encode_group(group) {
                Ok(encoded) => {
                    if !commits.commit(encoded) || last {
                        break Ok(());
                    }
                }
                Err(failure) => break Err(failure),
            }
        };
        let (durable, committed) = commits.finish();
        // It goes out while the source closes.
        durable.iter().for_each(|position| confirm(source.as_ref(), position));
        ended.and(committed)
    })
}

/// Encodes groups for the log.
struct Ingest<'a> {
    pipeline: &'a str,
    settings: &'a LogSettings,
    log: Log,
    /// Of the commit that the next group will be.
    sequence: u64,
    registry: LogRegistry,
    topics: HashMap<TableName, TopicEncoder>,
    /// One for each partition, shared by all topics: a table's rows are encoded in one go, and a thousand tables need no thousand
    /// buffers.
    builders: Vec<RecordBatchBuilder>,
    status: Arc<PipelineStatus>,
}

struct TopicEncoder {
    topic: Topic,
    encoder: Encoder,
}

impl<'a> Ingest<'a> {
    fn new(pipeline: &'a Pipeline, context: &IngestContext, sequence: u64) -> Self {
        let settings = &pipeline.log;
        let builders = (0..settings.partitions).map(|_| RecordBatchBuilder::new(settings.compression, 0)).collect();
        Self {
            pipeline: &pipeline.name,
            settings,
            log: context.log.clone(),
            sequence,
            registry: LogRegistry(context.log.clone()),
            topics: HashMap::new(),
            builders,
            status: Arc::clone(&context.status),
        }
    }

    /// Encodes all of a group. Topics of tables that are new are made now, whether or not the group will be committed.
    fn encode_group(&mut self, group: ChangeGroup) -> Result<EncodedGroup, Failure> {
        let sequence = self.sequence;
        self.sequence += 1;
        let clock_us = clock_us();
        self.builders.iter_mut().for_each(|builder| builder.set_timestamp_ms(clock_us / 1000));
        self.create_topics(&group.batches)?;
        let mut batches = Vec::new();
        for batch in &group.batches {
            self.encode(batch, sequence, clock_us, &mut batches)?;
        }
        Ok(EncodedGroup { batches, position: group.position })
    }

    /// Makes the topics of tables that are met for the first time, all together: each by itself costs a sync.
    fn create_topics(&mut self, batches: &[ChangeBatch]) -> Result<(), Failure> {
        let unknown = |table: &&TableName| !self.topics.contains_key(*table);
        let tables: BTreeSet<&TableName> = batches.iter().map(|batch| batch.schema.table()).filter(unknown).collect();
        if tables.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = tables.iter().map(|table| formats::topic_name(self.pipeline, table)).collect();
        let partitions = PartitionId::from(self.settings.partitions);
        let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), partitions)).collect();
        let topics = self.log.create_topics(&wanted, self.pipeline)?;
        self.register_schemas(batches)?;
        for ((table, name), topic) in tables.into_iter().zip(&names).zip(topics) {
            let encoder = Encoder::new(self.settings.format, name, self.pipeline);
            self.topics.insert(table.clone(), TopicEncoder { topic, encoder });
        }
        self.status.topic_added();
        Ok(())
    }

    /// Registers the schemas of these batches in one commit; the encoders then find them there.
    fn register_schemas(&self, batches: &[ChangeBatch]) -> Result<(), Failure> {
        let mut schemas = Vec::new();
        for batch in batches {
            let topic = formats::topic_name(self.pipeline, batch.schema.table());
            if let Some(key) = formats::key_schema(&topic, &batch.schema) {
                schemas.push((formats::key_subject(&topic), key));
            }
            schemas.push((formats::value_subject(&topic), formats::value_schema(&topic, &batch.schema, &batch.info)));
        }
        let schemas: Vec<_> = schemas.iter().map(|(subject, text)| (subject.as_str(), Schema::avro(text.as_str()))).collect();
        self.log.schemas().register_all(&schemas, &schema_check::check)?;
        Ok(())
    }

    fn encode(
        &mut self,
        batch: &ChangeBatch,
        sequence: u64,
        clock_us: i64,
        batches: &mut Vec<(Topic, PartitionId, EncodedBatch)>,
    ) -> Result<(), Failure> {
        let Some(TopicEncoder { topic, encoder }) = self.topics.get_mut(batch.schema.table()) else { return Ok(()) };
        let mut records = Records { topic, builders: &mut self.builders, batches, error: None };
        encoder.encode(batch, sequence, clock_us, self.settings.writes_tombstones(), &self.registry, &mut records)?;
        records.close()
    }
}

/// Puts encoded records into the record batches of their partitions.
struct Records<'a> {
    topic: &'a Topic,
    builders: &'a mut [RecordBatchBuilder],
    batches: &'a mut Vec<(Topic, PartitionId, EncodedBatch)>,
    error: Option<LogError>,
}

impl Records<'_> {
    fn append(&mut self, partition: usize, record: &RecordRef<'_>) {
        let builder = &mut self.builders[partition];
        if let Err(error) = builder.append(record.key, record.value, record.headers) {
            self.error.get_or_insert(error);
        } else if builder.size_bytes() >= RECORD_BATCH_BYTES_MAX {
            self.batches.push((self.topic.clone(), partition as PartitionId, builder.finish()));
        }
    }

    fn close(self) -> Result<(), Failure> {
        for (partition, builder) in self.builders.iter_mut().enumerate() {
            if builder.record_count() > 0 {
                self.batches.push((self.topic.clone(), partition as PartitionId, builder.finish()));
            }
        }
        self.error.map_or(Ok(()), |error| Err(error.into()))
    }
}

impl RecordSink for Records<'_> {
    fn record(&mut self, record: RecordRef<'_>) {
        let partitions = self.builders.len();
        if record.barrier {
            (0..partitions).for_each(|partition| self.append(partition, &record));
        } else if partitions == 1 || record.key.is_none() {
            self.append(0, &record);
        } else {
            self.append(partition_for(record.key_body, partitions as PartitionId) as usize, &record);
        }
    }
}

/// Now, in microseconds since 1970 UTC.
pub(crate) fn clock_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64)
}

#[cfg(test)]
pub(crate) mod testing {
    use bytes::Bytes;
    use connector_api::{ByteBudget, Shutdown, SourceStatus};
    use log_core::{CommitSet, PipelineLog};

    use super::*;

    /// Commits batches as a pipeline with these settings would, one commit a call.
    pub(crate) struct Committer {
        pipeline: Pipeline,
        context: IngestContext,
        pipeline_log: Option<PipelineLog>,
    }

    impl Committer {
        pub fn new(log: &Log, partitions: u16) -> Self {
            let pipeline = Pipeline {
                name: "test".into(),
                file: String::new(),
                source: None,
                topics: Vec::new(),
                log: LogSettings { partitions, tombstones: Some(true), ..LogSettings::default() },
                sinks: Vec::new(),
            };
            let (_, shutdown) = Shutdown::new();
            let source = SourceContext {
                pipeline: "test".into(),
                budget: ByteBudget::new(1 << 20),
                shutdown,
                status: SourceStatus::default(),
                once: false,
                snapshots: connector_api::SnapshotRequests::default(),
            };
            let status = PipelineStatus::new("test", true, SourceStatus::default());
            let pipeline_log = log.pipeline("test").expect("the log of the pipeline opens");
            Self { pipeline, context: IngestContext { log: log.clone(), source, status }, pipeline_log: Some(pipeline_log) }
        }

        pub fn commit(&mut self, batches: Vec<ChangeBatch>) {
            let pipeline_log = self.pipeline_log.take().expect("given back by the call before");
            let mut ingest = Ingest::new(&self.pipeline, &self.context, pipeline_log.next_sequence());
            let position = SourcePosition::new(b"p".to_vec());
            let group = ChangeGroup { batches, position, reached_end: false, reservation: None };
            let group = ingest.encode_group(group).expect("topics and records");
            let position = Bytes::copy_from_slice(group.position.as_bytes());
            pipeline_log.commit(CommitSet { batches: group.batches, position }).expect("a commit");
            self.pipeline_log = Some(pipeline_log);
        }
    }
}
