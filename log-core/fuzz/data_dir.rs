//! Inputs that are a data directory: a byte of flags, then for each file a line with its name, and its content up to a marker. So an
//! input depends on nothing else, and a mutation may make any of it longer.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use log_core::fuzzing::{self, SealJournal};
use log_core::{
    CommitSet, Compaction, Compression, Listing, Log, LogError, LogOptions, Offset, PartitionId, RecordBatchBuilder, Remedy,
    Repair, Retention, Topic, verify,
};

use crate::targets::{dump, in_folder, read_batch};

/// Checksums of journals are put right.
pub const SEAL_JOURNALS: u8 = 1;
/// Those of inline bytes of commits too.
pub const SEAL_PIECES: u8 = 2;
/// And trailers of entries.
pub const SEAL_TRAILERS: u8 = 4;
/// Checksums of segments are put right.
pub const SEAL_SEGMENTS: u8 = 8;
/// What is open is compacted, and cut by retention.
pub const CHANGE: u8 = 16;

const FILES_MAX: usize = 40;
/// Between two files.
const MARKER: &[u8] = b"\n--- ";

/// A file's name and content.
type NamedFile<'a> = (&'a str, &'a [u8]);

/// The flags and files of an input.
fn parse(data: &[u8]) -> Option<(u8, Vec<NamedFile<'_>>)> {
    let (flags, mut rest) = data.split_first()?;
    let mut files = Vec::new();
    while let Some(name_bytes) = rest.iter().position(|byte| *byte == b'\n')
        && files.len() < FILES_MAX
    {
        let (name, content) = (rest.get(..name_bytes)?, rest.get(name_bytes + 1..)?);
        let end = content.windows(MARKER.len()).position(|window| window == MARKER);
        rest = end.and_then(|end| content.get(end + MARKER.len()..)).unwrap_or_default();
        let name = std::str::from_utf8(name).ok()?;
        let inside = Path::new(name).components().all(|component| matches!(component, Component::Normal(_)));
        if inside && !name.is_empty() && !name.contains('\0') && name.split('/').count() <= 4 {
            files.push((name, content.get(..end.unwrap_or(content.len()))?));
        }
    }
    Some((*flags, files))
}

/// The input that has these files.
pub fn encode(flags: u8, files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let files = files.iter().map(|(name, content)| [name.as_bytes(), b"\n", content.as_slice()].concat());
    [vec![flags], files.collect::<Vec<_>>().join(MARKER)].concat()
}

/// Writes the files of an input into `dir`; its flags.
fn unpack(data: &[u8], dir: &Path) -> Option<u8> {
    let (flags, files) = parse(data)?;
    for (name, content) in files {
        let path = dir.join(name);
        let mut content = content.to_vec();
        if flags & SEAL_JOURNALS != 0 && name.ends_with(".journal") {
            let seal = SealJournal { pieces: flags & SEAL_PIECES != 0, trailers: flags & SEAL_TRAILERS != 0 };
            fuzzing::seal_journal(&mut content, seal);
        }
        if flags & SEAL_SEGMENTS != 0 && (name.ends_with(".log") || name.ends_with(".swap")) {
            fuzzing::seal_batches(&mut content);
        }
        // One name may be a file and a folder in an input; the first one wins.
        let _ = path.parent().map(fs::create_dir_all);
        let _ = fs::write(path, content);
    }
    Some(flags)
}

/// Settings with which small logs have many files.
pub fn options() -> LogOptions {
    LogOptions { segment_bytes: 300, journal_bytes: 4 << 10, open_files_max: 4, tail_bytes: 0 }
}

/// Settings with which a compaction does what it can.
pub fn compaction() -> Compaction {
    Compaction {
        tombstone_age: Duration::ZERO,
        memory_bytes: 64 << 10,
        bytes_per_second: None,
        min_dirty_percent: 0,
        ..Compaction::default()
    }
}

/// Opens a data directory for reading and for writing, reads and changes what is in it, and opens it again.
pub fn recovery(data: &[u8]) {
    in_folder(|dir| {
        let Some(flags) = unpack(data, dir) else { return };
        if let Ok(log) = Log::open_read_only(dir) {
            let _ = read(&log);
            let _ = log.refresh();
        }
        let Ok(log) = Log::open(dir, LogOptions { tail_bytes: 200, ..options() }) else { return };
        let before = read(&log);
        // What is open can be written to, or says why not.
        let written = append(&log);
        if flags & CHANGE != 0 {
            change(&log);
        }
        let closed = log.close();
        drop(log);
        if closed.is_err() {
            return;
        }
        // A recovery leaves nothing that the next one refuses.
        let log = Log::open(dir, options()).expect("what was opened and closed opens again");
        if written && flags & CHANGE == 0 {
            let after = read(&log);
            assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().filter(|key| key.0 != OWN).collect::<Vec<_>>());
            for (key, records) in before.iter().filter(|(key, _)| !key.0.starts_with('_')) {
                assert_eq!(after.get(key), Some(records), "{key:?}");
            }
        }
    });
}

/// Verifies and repairs a data directory, and opens it.
pub fn inspect(data: &[u8]) {
    in_folder(|dir| {
        if unpack(data, dir).is_none() {
            return;
        }
        for_each_segment(dir, &dump);
        let verified = verify(dir, &[], &mut |_, _| {});
        let Ok(plan) = Repair::plan(dir, &mut |_, _| {}) else { return };
        let found = plan.verification().clone();
        assert_eq!(verified.ok().as_ref().map(|verified| &verified.damages), Some(&found.damages));
        if plan.apply().is_err() {
            return;
        }
        let left = verify(dir, &[], &mut |_, _| {}).expect("what was repaired can be verified");
        // A file with a damage that cannot be mended stays as it is.
        let stays = |remedy: Remedy| !remedy.mends();
        if !found.damages.iter().any(|damage| stays(damage.remedy)) {
            assert_eq!(left.damages, []);
            if let Ok(log) = Log::open(dir, options()) {
                let _ = read(&log);
            }
        }
    });
}

fn for_each_segment(dir: &Path, each: &dyn Fn(&Path)) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            for_each_segment(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "log" || extension == "swap") {
            each(&path);
        }
    }
}

/// What can be read of a partition: for each record its offset, key and value, and at the end whether an error came.
type Found = Vec<(Offset, Option<Vec<u8>>, Option<Vec<u8>>)>;

/// Reads all that a log has.
fn read(log: &Log) -> BTreeMap<(String, PartitionId), (Found, bool)> {
    let mut found = BTreeMap::new();
    for topic in log.topics() {
        for partition in 0..topic.partitions() {
            let mut records = Vec::new();
            let failed = read_partition(&topic, partition, &mut records).is_err();
            found.insert((topic.name().to_owned(), partition), (records, failed));
            let _ = (topic.segments(partition), topic.backlog(partition, topic.start_offset(partition)));
        }
    }
    for pipeline in log.pipelines() {
        let _ = log.position(&pipeline);
    }
    for group in log.offsets().groups() {
        log.topics().iter().for_each(|topic| drop(log.offsets().get(&group, topic.id())));
    }
    for subject in log.schemas().subjects(Listing::WithDeleted) {
        let _ = log.schemas().versions(&subject, Listing::WithDeleted);
    }
    let _ = log.schemas().export();
    found
}

fn read_partition(topic: &Topic, partition: PartitionId, found: &mut Found) -> log_core::Result<()> {
    let (mut next, end) = (topic.start_offset(partition), topic.end_offset(partition));
    while next < end {
        let batches = topic.read(partition, next, 200)?;
        assert!(!batches.is_empty(), "at least one batch before the end");
        for batch in batches {
            assert!(batch.base_offset() <= next && next < batch.next_offset());
            read_batch(&batch);
            for record in &batch.records()? {
                let record = record?;
                found.push((record.offset, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec)));
            }
            next = batch.next_offset();
        }
    }
    assert_eq!(next, end);
    Ok(())
}

/// The topic that [`append`] makes.
const OWN: &str = "fuzz";

/// Commits one record; whether that could be done.
fn append(log: &Log) -> bool {
    let commit = || {
        let topic = log.create_topic(OWN, 1, "p")?;
        let pipeline = log.pipeline("p")?;
        let mut builder = RecordBatchBuilder::new(Compression::None, 1);
        builder.append(Some(b"key"), Some(b"value"), &[])?;
        let batches = vec![(topic, 0, builder.finish())];
        pipeline.commit(CommitSet { batches, position: Bytes::from_static(b"position") })?;
        Ok::<_, LogError>(())
    };
    commit().is_ok()
}

/// Everything that reads segments and writes them anew, or removes them.
fn change(log: &Log) {
    let stop = AtomicBool::new(false);
    for topic in log.topics() {
        let _ = log.compact(&topic, &compaction(), &[], &stop);
        let _ = log.retain(&topic, &Retention { bytes: Some(300), ..Retention::default() }, &[]);
    }
    let _ = log.compact_schemas(&compaction(), &stop);
    let _ = log.offsets().flush();
}
