//! Builds logs, copies them as a crash would leave them, and reads them back whole.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use log_core::{
    CommitSet, Compression, EncodedBatch, Log, LogOptions, Offset, PartitionId, PipelineLog, RecordBatchBuilder, Topic,
};
use tempfile::TempDir;

/// A directory in memory where there is one: these tests open and recover logs thousands of times.
pub fn temp_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    let builder = tempfile::Builder::new();
    if memory.is_dir() { builder.tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// All committed bytes are in segment files, where tests change them.
pub fn options() -> LogOptions {
    LogOptions { tail_bytes: 0, ..LogOptions::default() }
}

pub fn batch(values: &[Vec<u8>]) -> EncodedBatch {
    batch_with(Compression::None, values)
}

pub fn batch_with(compression: Compression, values: &[Vec<u8>]) -> EncodedBatch {
    let mut builder = RecordBatchBuilder::new(compression, 1_700_000_000_000);
    for value in values {
        builder.append(Some(b"key"), Some(value), &[("h", b"1")]).unwrap();
    }
    builder.finish()
}

/// The values of one record each.
pub fn one(value: &str) -> EncodedBatch {
    batch(&[value.as_bytes().to_vec()])
}

pub fn commit(pipeline: &PipelineLog, position: &str, batches: Vec<(Topic, PartitionId, EncodedBatch)>) -> u64 {
    pipeline.commit(CommitSet { batches, position: Bytes::copy_from_slice(position.as_bytes()) }).unwrap()
}

/// All that a log holds, for comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Values by topic and partition.
    pub records: BTreeMap<(String, PartitionId), Vec<Vec<u8>>>,
    /// Sequence and position.
    pub position: Option<(u64, Vec<u8>)>,
}

/// Reads everything of one pipeline, checking offsets on the way.
pub fn contents(log: &Log, pipeline: &str) -> log_core::Result<Contents> {
    let mut contents = Contents {
        position: log.position(pipeline).map(|stored| (stored.sequence, stored.position.to_vec())),
        ..Contents::default()
    };
    for topic in log.topics().into_iter().filter(|topic| topic.pipeline() == pipeline) {
        for partition in 0..topic.partitions() {
            let values = read_all(&topic, partition, 0, 64 << 10)?;
            if !values.is_empty() {
                contents.records.insert((topic.name().to_owned(), partition), values);
            }
        }
    }
    Ok(contents)
}

/// Reads a partition from `from` on, in reads of `bytes_max`.
pub fn read_all(topic: &Topic, partition: PartitionId, from: Offset, bytes_max: usize) -> log_core::Result<Vec<Vec<u8>>> {
    let mut values = Vec::new();
    let mut next = from;
    // Somebody may be writing: what is committed from here on may be read too, or not.
    let end = topic.end_offset(partition);
    while next < end {
        let batches = topic.read(partition, next, bytes_max)?;
        assert!(!batches.is_empty());
        for batch in batches {
            for record in &batch.records()? {
                let record = record?;
                if record.offset >= from {
                    assert_eq!(record.offset, from + values.len() as i64);
                    values.push(record.value.unwrap().to_vec());
                }
            }
            next = batch.next_offset();
        }
    }
    assert!(next >= end.max(from) && next <= topic.end_offset(partition).max(from));
    Ok(values)
}

/// Copies the files as they are now: what a crash of the process leaves. A checkpoint may be replacing a journal file
/// meanwhile; then it begins anew.
pub fn copy_dir(from: &Path, to: &Path) {
    while let Err(error) = try_copy(from, to) {
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        fs::remove_dir_all(to).unwrap();
    }
}

fn try_copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    let mut entries = fs::read_dir(from)?.collect::<std::io::Result<Vec<_>>>()?;
    // Journals before topics: a journal that is newer than a copied segment may say that this has bytes which only the older one had.
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            try_copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// A journal file without the zeros behind its last entry.
pub fn read_journal(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    bytes
}

/// The journal file of a pipeline.
pub fn journal_path(dir: &Path, pipeline: &str) -> PathBuf {
    let files = fs::read_dir(dir.join("journals").join(pipeline)).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "journal")).max().unwrap()
}

pub fn segment_path(dir: &Path, topic: &str, partition: PartitionId, base_offset: Offset) -> PathBuf {
    dir.join("topics").join(topic).join(partition.to_string()).join(format!("{base_offset:020}.log"))
}
