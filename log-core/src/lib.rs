//! A partitioned, append-only log on local disk, in Kafka's record-batch layout.
//!
//! It is not a message broker: there is no network, and a record's bytes mean nothing here. What it promises:
//!
//! - [`PipelineLog::commit`] appends to any number of partitions and stores the source's position, all of it or nothing,
//!   durable when it returns, visible to readers at one instant.
//! - Readers see committed records only, as whole batches, straight from the segment files.
//! - What was committed is still there after a crash, or there is an error that names file and byte. A commit that was
//!   torn by the crash is gone as a whole.
//!
//! Start with [`Log`]. The formats on disk are drawn in `journal::format`, `batch`, `segment`, `topic` and `data_dir`, and
//! for readers outside this crate in `docs/log-format.md`.

mod log;

// What readers see.
mod lookup;
mod partition;
mod segment;
mod segment_tail;
mod sparse_index;
mod topic;

// What is in a segment.
mod batch;
mod batch_builder;
mod codec;
mod compression;
mod records;
mod varint;

// How it gets there, and what a crash does to it.
mod checkpoint;
mod commit;
mod journal;
mod pipeline;
mod recovery;

// What is not kept.
mod compaction;
mod retention;

// How it is looked at from outside, and mended.
mod inspect;

// What the log keeps in itself.
mod group_offsets;
mod schema_store;

mod clock;
mod data_dir;
mod durable_file;
mod error;
mod names;
mod open_files;
mod partitioner;
mod sync_threads;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod power_loss;

pub use crate::{
    batch::{EncodedBatch, RecordBatch},
    batch_builder::RecordBatchBuilder,
    codec::Codec,
    compaction::{Compacted, Compaction, KeyIdentity},
    compression::Compression,
    error::{BatchError, LogError, Result},
    group_offsets::GroupOffsets,
    inspect::{Damage, DumpedBatch, Remedy, Repair, SegmentDescription, SegmentDump, Verification, verify},
    log::{Log, LogOptions},
    lookup::Backlog,
    partition::{Offset, PartitionId},
    partitioner::{murmur2, partition_for},
    pipeline::{CommitSet, PipelineLog, StoredPosition},
    records::{Headers, Record, RecordIter, Records},
    retention::{Removed, Retention},
    schema_store::{
        Candidate, Deletion, Listing, RawSchemaRecord, ResolvedSchema, Schema, SchemaCheck, SchemaReference, SchemaStore,
        SchemaVersion,
    },
    topic::Topic,
};
