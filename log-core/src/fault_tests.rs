//! Every file operation of commits, rolls, checkpoints and recoveries fails once; nothing that was acknowledged is lost,
//! and nothing that failed shows up by halves.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use tempfile::TempDir;

use crate::durable_file::faults;
use crate::{CommitSet, Compaction, Compression, EncodedBatch, Log, LogError, LogOptions, PartitionId, RecordBatchBuilder, Topic};

fn options() -> LogOptions {
    // A few commits fill a segment and a journal file.
    LogOptions { segment_bytes: 3000, journal_bytes: 2500, tail_bytes: 0, ..LogOptions::default() }
}

fn batch(round: u8, size: usize) -> EncodedBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None, 1);
    builder.append(None, Some(&vec![round; size]), &[]).unwrap();
    builder.finish()
}

/// The rounds whose records a partition holds.
fn rounds(topic: &Topic, partition: PartitionId) -> Vec<u8> {
    let mut rounds = Vec::new();
    let mut next = 0;
    while next < topic.end_offset(partition) {
        for batch in topic.read(partition, next, 1 << 20).unwrap() {
            for record in &batch.records().unwrap() {
                rounds.push(record.unwrap().value.unwrap()[0]);
            }
            next = batch.next_offset();
        }
    }
    rounds
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn temp_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

/// Commits 12 rounds with a failure on the way; `false` when the failure never came.
fn run(action: &'static str, path_part: &str, nth: usize) -> bool {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let topics = [log.create_topic("a", 2, "p").unwrap(), log.create_topic("b", 1, "p").unwrap()];
    let mut pipeline = log.pipeline("p").unwrap();
    let mut committed: Vec<u8> = Vec::new();
    faults::fail(dir.path(), action, path_part, nth);
    let mut failures = 0;
    for round in 1..=12u8 {
        // Every fourth is written to the segment itself.
        let size = if round % 4 == 0 { 1_200_000 } else { 400 };
        let batches = || vec![(topics[0].clone(), 1, batch(round, size)), (topics[1].clone(), 0, batch(round, 300))];
        let commit = |pipeline: &crate::PipelineLog| {
            pipeline.commit(CommitSet { batches: batches(), position: Bytes::copy_from_slice(&[round]) })
        };
        if let Err(error) = commit(&pipeline) {
            // The failure itself, or, when a checkpoint after the last commit met it, the refusal that follows.
            assert!(matches!(error, LogError::Io { .. } | LogError::Poisoned { .. }), "{error}");
            failures += 1;
            assert!(failures <= 1, "one failure was scripted, the second is {error}");
            assert!(matches!(commit(&pipeline), Err(LogError::Poisoned { .. })));
            // Readers go on with what they had, or see the commit whose outcome was unknown.
            assert!(rounds(&topics[0], 1).starts_with(&committed));
            pipeline = log.pipeline("p").unwrap();
            if pipeline.position().is_some_and(|stored| stored.position[..] == [round]) {
                committed.push(round);
                continue;
            }
            commit(&pipeline).unwrap();
        }
        committed.push(round);
        assert_eq!(pipeline.position().unwrap().position[..], [round]);
        assert_eq!(pipeline.next_sequence(), u64::from(round) + 1);
    }
    // A checkpoint may still be running, and meet the failure.
    let _ = log.close();
    let happened = !faults::clear(dir.path());
    let check = |log: &Log| {
        assert_eq!(rounds(&log.topic("a").unwrap(), 1), committed, "{action} {path_part} {nth}");
        assert_eq!(rounds(&log.topic("b").unwrap(), 0), committed, "{action} {path_part} {nth}");
        assert_eq!(log.position("p").unwrap().sequence, 12);
    };
    check(&log);
    drop((pipeline, log, topics));
    check(&Log::open(dir.path(), options()).unwrap());
    happened
}

fn run_all(action: &'static str, path_part: &str, at_least: usize) {
    let mut nth = 0;
    while run(action, path_part, nth) {
        nth += 1;
    }
    assert!(nth >= at_least, "{action} {path_part} happened {nth} times");
}

#[test]
fn log_disk_01_failing_syncs() {
    run_all("sync", "journal", 15);
    run_all("sync", "topics", 6);
}

#[test]
fn failing_writes() {
    run_all("write", "journal", 15);
    run_all("write", "topics", 20);
}

#[test]
fn failing_names() {
    run_all("create", ".log", 4);
    run_all("create", ".journal", 2);
    run_all("rename", ".journal", 2);
    run_all("remove", ".journal", 2);
}

/// A recovery that fails is tried again, and loses nothing.
#[test]
fn failing_recoveries() {
    for action in ["sync", "write", "create", "rename", "truncate", "remove"] {
        let mut nth = 0;
        loop {
            let dir = temp_dir();
            let options = || LogOptions { segment_bytes: 1 << 20, ..options() };
            let log = Log::open(dir.path(), options()).unwrap();
            let topic = log.create_topic("a", 1, "p").unwrap();
            let pipeline = log.pipeline("p").unwrap();
            let commit = |pipeline: &crate::PipelineLog, round, size| {
                let batches = vec![(topic.clone(), 0, batch(round, size))];
                pipeline.commit(CommitSet { batches, position: Bytes::copy_from_slice(&[round]) })
            };
            // A checkpoint comes after the fifth.
            for round in 1..=7 {
                commit(&pipeline, round, 300).unwrap();
            }
            while dir.path().join("journals/p/00000000000000000001.journal").exists() {
                std::thread::yield_now();
            }
            // Bytes in the segment, no entry in the journal.
            faults::fail(dir.path(), "write", "journal", 0);
            commit(&pipeline, 8, 1_200_000).unwrap_err();
            faults::fail(dir.path(), action, "", nth);
            let first = log.pipeline("p");
            let happened = !faults::clear(dir.path());
            assert_eq!(first.is_err(), happened, "{action} {nth}");
            let crashed = temp_dir();
            copy_dir(dir.path(), crashed.path());
            assert_eq!(rounds(&topic, 0), [1, 2, 3, 4, 5, 6, 7]);
            // Opened anew, in this process or after a crash.
            let again = first.or_else(|_| log.pipeline("p")).unwrap();
            assert_eq!(again.next_sequence(), 8);
            commit(&again, 8, 300).unwrap();
            assert_eq!(rounds(&topic, 0), [1, 2, 3, 4, 5, 6, 7, 8], "{action} {nth}");
            let crashed_log = Log::open(crashed.path(), options()).unwrap();
            assert_eq!(rounds(&crashed_log.topic("a").unwrap(), 0), [1, 2, 3, 4, 5, 6, 7], "{action} {nth}");
            drop(log);
            drop((again, pipeline));
            let reopened = Log::open(dir.path(), options()).unwrap();
            assert_eq!(rounds(&reopened.topic("a").unwrap(), 0), [1, 2, 3, 4, 5, 6, 7, 8], "{action} {nth}");
            if !happened {
                break;
            }
            nth += 1;
        }
        assert!(nth > 0, "{action} never happened");
    }
}

/// A compaction that fails anywhere leaves every key's last record, and the next one does what it did not.
#[test]
fn failing_compactions() {
    let compaction = Compaction { memory_bytes: 0, bytes_per_second: None, min_dirty_percent: 0, ..Compaction::default() };
    for action in ["create", "write", "sync", "rename", "remove"] {
        let mut nth = 0;
        loop {
            let dir = temp_dir();
            let log = Log::open(dir.path(), options()).unwrap();
            let topic = log.create_topic("a", 1, "p").unwrap();
            let mut pipeline = log.pipeline("p").unwrap();
            for round in 0..30u8 {
                let mut builder = RecordBatchBuilder::new(Compression::None, 1);
                builder.append(Some(&[round % 5]), Some(&vec![round; 300]), &[]).unwrap();
                pipeline.commit(CommitSet { batches: vec![(topic.clone(), 0, builder.finish())], position: Bytes::new() }).unwrap();
            }
            drop(pipeline.pipeline.lock_alone());
            let left = [25, 26, 27, 28, 29];
            let stop = AtomicBool::new(false);
            faults::fail(dir.path(), action, "", nth);
            let failed = log.compact(&topic, &compaction, &[], &stop).is_err();
            let happened = !faults::clear(dir.path());
            // Removing what a failure left, and replaced journals' files, may fail unseen.
            assert!(happened || !failed, "{action} {nth}");
            let crashed = temp_dir();
            copy_dir(dir.path(), crashed.path());
            assert!(rounds(&topic, 0).ends_with(&left), "{action} {nth}");
            let check = |log: &Log| {
                let topic = log.topic("a").unwrap();
                assert!(log.compact(&topic, &compaction, &[], &stop).unwrap().finished);
                let found = rounds(&topic, 0);
                let closed = topic.segments(0).unwrap().last().unwrap().base_offset;
                let expected: Vec<u8> = (closed as u8 - 5..30).collect();
                assert_eq!(found, expected, "{action} {nth}");
            };
            if failed {
                pipeline = log.pipeline("p").unwrap_or(pipeline);
            }
            check(&log);
            check(&Log::open(crashed.path(), options()).unwrap());
            drop((pipeline, topic));
            log.close().unwrap();
            drop(log);
            check(&Log::open(dir.path(), options()).unwrap());
            if !happened {
                break;
            }
            nth += 1;
        }
        assert!(nth > 3, "{action} happened {nth} times");
    }
}

/// Records that say only what changed of a row, and have no record of it before them.
fn partial_records_alone(log: &Log) -> Vec<i64> {
    let topic = log.topic("a").unwrap();
    let (mut keys, mut alone) = (BTreeSet::new(), Vec::new());
    let mut next = 0;
    while next < topic.end_offset(0) {
        for batch in topic.read(0, next, 1 << 20).unwrap() {
            for record in &batch.records().unwrap() {
                let record = record.unwrap();
                let builds_on_key = record.header("partial").is_some() && record.header("move").is_none();
                if keys.insert(record.key.unwrap().to_vec()) && builds_on_key {
                    alone.push(record.offset);
                }
            }
            next = batch.next_offset();
        }
    }
    alone
}

/// Wherever a compaction ends early, whoever reads the log from its start finds what a partial record builds on.
#[test]
fn compactions_that_end_early_leave_no_partial_record_alone() {
    let compaction = Compaction { bytes_per_second: None, min_dirty_percent: 0, ..Compaction::default() };
    let stop = AtomicBool::new(false);
    for action in ["create", "write", "sync", "rename", "remove"] {
        let mut nth = 0;
        loop {
            let dir = temp_dir();
            let log = Log::open(dir.path(), options()).unwrap();
            let topic = log.create_topic("a", 1, "p").unwrap();
            let pipeline = log.pipeline("p").unwrap();
            for round in 0..80u8 {
                let mut builder = RecordBatchBuilder::new(Compression::None, 1);
                // Rows of five keys: whole ones, which later ones of other segments build on, and one that came from another key.
                let (key, kind) = (round % 5, round / 5 % 4);
                let headers: &[(&str, &[u8])] = match kind {
                    0 if key == 4 => &[("move", b"in"), ("partial", b"1")],
                    0 => &[],
                    _ => &[("partial", b"1")],
                };
                let headers = if round >= 60 { &[] } else { headers };
                builder.append(Some(&[key]), Some(&vec![round; 300]), headers).unwrap();
                // One that stays, or all of the rest would become one segment, at once.
                builder.append(Some(&[100 + round]), Some(&[u8::MAX; 300]), &[]).unwrap();
                pipeline.commit(CommitSet { batches: vec![(topic.clone(), 0, builder.finish())], position: Bytes::new() }).unwrap();
            }
            drop(pipeline.pipeline.lock_alone());
            faults::fail(dir.path(), action, "", nth);
            let _ = log.compact(&topic, &compaction, &[], &stop);
            let happened = !faults::clear(dir.path());
            let crashed = temp_dir();
            copy_dir(dir.path(), crashed.path());
            for log in [log, Log::open(crashed.path(), options()).unwrap()] {
                assert_eq!(partial_records_alone(&log), [] as [i64; 0], "{action} {nth}");
                let topic = log.topic("a").unwrap();
                let left = || rounds(&topic, 0).into_iter().filter(|round| *round != u8::MAX).collect::<Vec<_>>();
                assert!(left().ends_with(&[75, 76, 77, 78, 79]), "{action} {nth}: {:?}", left());
                // What it did not come to, the next one does.
                drop(log.pipeline("p"));
                assert!(log.compact(&topic, &compaction, &[], &stop).unwrap().finished);
                let closed = topic.segments(0).unwrap().last().unwrap().base_offset;
                let expected: Vec<u8> = (closed as u8 / 2 - 5..80).collect();
                assert_eq!(left(), expected, "{action} {nth}");
            }
            if !happened {
                break;
            }
            nth += 1;
        }
        assert!(nth > 3, "{action} happened {nth} times");
    }
}

#[test]
fn a_failure_names_the_file_and_the_next_commit_the_failure() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let pipeline = log.pipeline("p").unwrap();
    faults::fail(dir.path(), "sync", "journal", 0);
    let error = pipeline.commit(CommitSet::default()).unwrap_err().to_string();
    let path = dir.path().join("journals/p/00000000000000000001.journal");
    assert_eq!(error, format!("failed to sync {}", path.display()));
    let error = pipeline.commit(CommitSet::default()).unwrap_err().to_string();
    let expected = "the log of pipeline `p` takes no commits since an earlier failure (failed to sync";
    assert!(error.starts_with(expected) && error.ends_with("; open it again to recover"), "{error}");
    // Another handle, and the old one is out.
    let again = log.pipeline("p").unwrap();
    assert!(matches!(pipeline.commit(CommitSet::default()), Err(LogError::Poisoned { .. })));
    drop(pipeline);
    assert!(matches!(log.pipeline("p"), Err(LogError::PipelineInUse(_))));
    // The outcome of the failed one was unknown; it turned out to have happened.
    assert_eq!(again.commit(CommitSet::default()).unwrap(), 2);
}

/// Somebody who has to wait for a checkpoint must not make room for a second one, whose journal would speak of what the first one has not synced yet.
#[test]
fn there_is_one_checkpoint_at_a_time() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), LogOptions { tail_bytes: 1 << 20, ..options() }).unwrap();
    let topic = log.create_topic("a", 2, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    let mut committed = 0;
    let mut commit = || {
        committed += 1;
        let batches = vec![(topic.clone(), i32::from(committed % 2), batch(committed, 100))];
        pipeline.commit(CommitSet { batches, position: Bytes::new() }).unwrap();
    };
    let held = faults::hold(dir.path(), "sync", ".log");
    while !held.is_reached() {
        commit();
    }
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| log.pipeline("p").map(|_| ()));
        // Time in which it gets there. It is refused in the end, as the pipeline is in use.
        std::thread::sleep(std::time::Duration::from_millis(50));
        (0..5).for_each(|_| commit());
        drop(held);
        assert!(matches!(waits.join().unwrap(), Err(LogError::PipelineInUse(_))));
    });
    (0..20).for_each(|_| commit());
    // A checkpoint under way removes and renames what is to be copied.
    drop(pipeline.pipeline.lock_alone());
    let crashed = temp_dir();
    copy_dir(dir.path(), crashed.path());
    let all: Vec<u8> = (1..=committed).collect();
    log.close().unwrap();
    drop((pipeline, topic, log));
    for dir in [crashed.path(), dir.path()] {
        let log = Log::open(dir, options()).unwrap();
        let topic = log.topic("a").unwrap();
        let mut found = [rounds(&topic, 0), rounds(&topic, 1)].concat();
        found.sort_unstable();
        assert_eq!(found, all);
    }
}
