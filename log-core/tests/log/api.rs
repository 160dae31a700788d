//! What the log promises when nothing fails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use bytes::Bytes;
use log_core::{Backlog, CommitSet, Compression, Log, LogError, LogOptions, RecordBatchBuilder, Removed, Retention};

use crate::support::{batch, batch_with, commit, contents, copy_dir, one, options, read_all, temp_dir};

#[test]
fn round_trip_over_reopening() {
    let dir = temp_dir();
    {
        let log = Log::open(dir.path(), LogOptions::default()).unwrap();
        let orders = log.create_topic("shop.public.orders", 2, "shop").unwrap();
        let items = log.create_topic("shop.public.items", 1, "shop").unwrap();
        let pipeline = log.pipeline("shop").unwrap();
        assert_eq!(pipeline.position(), None);
        assert_eq!(pipeline.next_sequence(), 1);
        let batches = vec![
            (orders.clone(), 1, one("a")),
            (items.clone(), 0, one("b")),
            (orders.clone(), 1, batch(&[b"c".to_vec(), b"d".to_vec()])),
            (orders.clone(), 0, batch(&[])),
        ];
        assert_eq!(commit(&pipeline, "p1", batches), 1);
        assert_eq!(commit(&pipeline, "p2", vec![]), 2);
        assert_eq!(log.committed_ends(&orders), [0, 3]);
        assert_eq!(items.end_offset(0), 1);
        assert_eq!(orders.read(0, 0, 1000).unwrap().len(), 0);
        assert_eq!(orders.read(1, 3, 1000).unwrap().len(), 0);
        assert_eq!(orders.read(1, 1, 1).unwrap()[0].base_offset(), 1);
    }
    for _ in 0..2 {
        let log = Log::open(dir.path(), LogOptions::default()).unwrap();
        let contents = contents(&log, "shop").unwrap();
        assert_eq!(contents.position, Some((2, b"p2".to_vec())));
        assert_eq!(contents.records[&("shop.public.orders".to_owned(), 1)], [b"a", b"c", b"d"]);
        assert_eq!(contents.records[&("shop.public.items".to_owned(), 0)], [b"b"]);
        assert_eq!(log.pipelines(), ["shop"]);
        assert_eq!(log.pipeline("shop").unwrap().next_sequence(), 3);
    }
}

#[test]
fn a_sync_shows_all_that_was_appended() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), LogOptions { segment_bytes: 3000, ..LogOptions::default() }).unwrap();
    let topic = log.create_topic("t", 2, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    let large = || batch(&[vec![b'x'; 200_000]]);
    let append = |position: &str, batches: Vec<_>| {
        let batches = batches.into_iter().map(|(partition, batch)| (topic.clone(), partition, batch)).collect();
        pipeline.append(CommitSet { batches, position: Bytes::copy_from_slice(position.as_bytes()) }).unwrap()
    };
    assert_eq!(append("p1", vec![(0, one("a")), (1, one("b"))]), 1);
    assert_eq!(append("p2", vec![(0, large()), (1, one("c"))]), 2);
    assert_eq!(append("p3", vec![(0, one("d")), (1, large())]), 3);
    assert_eq!(log.committed_ends(&topic), [0, 0]);
    assert_eq!(topic.read(0, 0, 1000).unwrap().len(), 0);
    // As a kill would leave it: everything that the page cache has.
    let copy = temp_dir();
    copy_dir(dir.path(), copy.path());
    let check = |dir: &Path, after: &[&str]| {
        let log = Log::open(dir, LogOptions::default()).unwrap();
        let contents = contents(&log, "p").unwrap();
        assert_eq!(contents.records[&("t".to_owned(), 0)].iter().map(Vec::len).collect::<Vec<_>>(), [1, 200_000, 1]);
        let lens = contents.records[&("t".to_owned(), 1)].iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lens, [&[1, 1, 200_000][..], &vec![1; after.len()]].concat());
    };
    check(copy.path(), &[]);

    pipeline.sync().unwrap();
    pipeline.sync().unwrap();
    assert_eq!(log.committed_ends(&topic), [3, 3]);
    assert_eq!(read_all(&topic, 1, 0, 1000).unwrap()[..2], [b"b", b"c"]);
    // A commit takes what was appended with it, and so does the next owner.
    append("p4", vec![(1, one("e"))]);
    commit(&pipeline, "p5", vec![]);
    assert_eq!(log.committed_ends(&topic), [3, 4]);
    append("p6", vec![(1, one("f"))]);
    drop(pipeline);
    assert_eq!(log.committed_ends(&topic), [3, 4]);
    let pipeline = log.pipeline("p").unwrap();
    assert_eq!(log.committed_ends(&topic), [3, 5]);
    assert_eq!(pipeline.position().unwrap().position, "p6");
    // A topic's entry in the journal says that everything before it was synced.
    pipeline.append(CommitSet { batches: vec![(topic.clone(), 1, one("g"))], position: Bytes::new() }).unwrap();
    log.create_topic("u", 1, "p").unwrap();
    assert_eq!(log.committed_ends(&topic), [3, 6]);
    pipeline.append(CommitSet { batches: vec![(topic.clone(), 1, one("h"))], position: Bytes::new() }).unwrap();
    log.close().unwrap();
    drop((pipeline, topic, log));
    check(dir.path(), &["e", "f", "g", "h"]);
}

#[test]
fn a_backlog_begins_with_the_batch_of_its_offset() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), LogOptions { segment_bytes: 2000, ..LogOptions::default() }).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    let mut sizes = Vec::new();
    for time in 0..50 {
        let mut builder = RecordBatchBuilder::new(Compression::None, time);
        (0..2).for_each(|_| builder.append(None, Some(&[7; 100]), &[]).unwrap());
        let batch = builder.finish();
        sizes.push(batch.size_bytes() as u64);
        commit(&pipeline, "", vec![(topic.clone(), 0, batch)]);
    }
    for from in 0..100 {
        let backlog = topic.backlog(0, from).unwrap();
        let batch = from as usize / 2;
        let expected = (100 - from as u64, sizes[batch..].iter().sum(), Some(batch as i64));
        assert_eq!((backlog.records, backlog.bytes, backlog.oldest_timestamp_ms), expected, "{from}");
    }
    assert_eq!(topic.backlog(0, 100).unwrap(), Backlog::default());
}

/// Against a walk over all records, for each moment, in a log that was just written and in one that was opened anew.
#[test]
fn offsets_are_found_by_time() {
    let dir = temp_dir();
    let options = LogOptions { segment_bytes: 60_000, ..LogOptions::default() };
    let mut times = Vec::new();
    let check = |log: &Log, times: &[i64]| {
        let topic = log.topic("t").unwrap();
        let start = topic.start_offset(0);
        let latest = times.iter().max().copied().unwrap();
        for moment in (0..latest + 3).rev() {
            let expected = times.iter().zip(0..).find(|(time, offset)| **time >= moment && *offset >= start);
            let found = topic.offset_for_time(0, moment).unwrap();
            assert_eq!(found, expected.map(|(_, offset)| offset), "{moment}");
        }
    };
    {
        let log = Log::open(dir.path(), options.clone()).unwrap();
        let topic = log.create_topic("t", 1, "p").unwrap();
        assert_eq!(topic.offset_for_time(0, 0).unwrap(), None);
        let pipeline = log.pipeline("p").unwrap();
        for number in 0..120 {
            // Several batches of one moment, and moments without any.
            let time = number / 3 * 5;
            let records = 1 + number % 4;
            let mut builder = RecordBatchBuilder::new(Compression::None, time);
            (0..records).for_each(|_| builder.append(None, Some(&[7; 900]), &[]).unwrap());
            commit(&pipeline, "", vec![(topic.clone(), 0, builder.finish())]);
            times.extend((0..records).map(|_| time));
        }
        check(&log, &times);
    }
    let log = Log::open(dir.path(), options).unwrap();
    check(&log, &times);
    let pipeline = log.pipeline("p").unwrap();
    let topic = log.topic("t").unwrap();
    let retention = Retention { bytes: Some(100_000), ..Retention::default() };
    assert!(log.retain(&topic, &retention, &[]).unwrap().segments > 0);
    assert!(topic.start_offset(0) > 0);
    check(&log, &times);
    drop(pipeline);
    assert!(matches!(topic.offset_for_time(1, 0), Err(LogError::UnknownPartition { .. })));
}

#[test]
fn topics_are_made_once() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let topic = log.create_topic("t", 3, "p").unwrap();
    assert_eq!(log.create_topic("t", 3, "p").unwrap().id(), topic.id());
    let message = log.create_topic("t", 4, "p").unwrap_err().to_string();
    assert_eq!(message, "topic `t` has 3 partitions, not 4: the number is fixed when a topic is made");
    let message = log.create_topic("t", 3, "q").unwrap_err().to_string();
    assert_eq!(message, "topic `t` belongs to pipeline `p`, not to `q`");
    for bad in ["", "a/b", "..", "a b"] {
        assert!(matches!(log.create_topic(bad, 1, "p"), Err(LogError::InvalidTopicName(_))), "{bad}");
    }
    assert!(matches!(log.create_topic("u", 0, "p"), Err(LogError::InvalidPartitionCount { .. })));
    assert!(matches!(log.create_topic("u", 1, "_system"), Err(LogError::InvalidPipelineName(_))));
    assert!(matches!(log.pipeline(""), Err(LogError::InvalidPipelineName(_))));
}

#[test]
fn a_commit_that_does_not_fit_changes_nothing() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let mine = log.create_topic("mine", 1, "p").unwrap();
    let other = log.create_topic("other", 1, "q").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    let try_commit = |batches| pipeline.commit(CommitSet { batches, position: Bytes::new() });
    let error = try_commit(vec![(mine.clone(), 0, one("a")), (other, 0, one("b"))]).unwrap_err();
    assert!(matches!(error, LogError::TopicOwner { .. }), "{error}");
    let error = try_commit(vec![(mine.clone(), 0, one("a")), (mine.clone(), 1, one("b"))]).unwrap_err();
    assert_eq!(error.to_string(), "topic `mine` has no partition 1: it has 1, numbered from 0");
    assert_eq!(mine.end_offset(0), 0);
    assert_eq!(try_commit(vec![(mine.clone(), 0, one("a"))]).unwrap(), 1);
    let error = mine.read(0, 2, 100).unwrap_err();
    assert_eq!(error.to_string(), "offset 2 of topic `mine` partition 0 is out of range: it holds 0 to 1 (exclusive)");
}

#[test]
fn segments_roll_and_reads_cross_them() {
    let dir = temp_dir();
    let small = LogOptions { segment_bytes: 2000, ..LogOptions::default() };
    let log = Log::open(dir.path(), small.clone()).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    let mut expected = Vec::new();
    for round in 0..40u8 {
        // The last ones are larger than a segment, and than what goes into the journal.
        let size = if round < 30 { 300 } else { 1_200_000 };
        let values: Vec<_> = (0..3).map(|n| vec![round ^ n; size / 3]).collect();
        expected.extend(values.clone());
        commit(&pipeline, "", vec![(topic.clone(), 0, batch(&values[..1])), (topic.clone(), 0, batch(&values[1..]))]);
    }
    let segments = fs::read_dir(dir.path().join("topics/t/0")).unwrap().count();
    assert!(segments > 12, "{segments} segments");
    drop((pipeline, log));

    let log = Log::open(dir.path(), small).unwrap();
    let topic = log.topic("t").unwrap();
    for from in 0..=expected.len() {
        assert!(read_all(&topic, 0, from as i64, 5000).unwrap() == expected[from..], "from {from}");
    }
    assert!(read_all(&topic, 0, 0, 1).unwrap() == expected);
    assert!(read_all(&topic, 0, 0, 1 << 30).unwrap() == expected);
    let all = topic.read(0, 0, 1 << 30).unwrap();
    assert_eq!(all.last().unwrap().next_offset(), 120);
    let whole: usize = all.iter().map(|batch| batch.bytes().len()).sum();

    let backlog = topic.backlog(0, 0).unwrap();
    assert_eq!((backlog.records, backlog.bytes), (120, whole as u64));
    assert_eq!(backlog.oldest_timestamp_ms, Some(1_700_000_000_000));
    let backlog = topic.backlog(0, 119).unwrap();
    assert_eq!(backlog.records, 1);
    assert!(backlog.bytes > 800_000 && backlog.bytes < 1_300_000, "{backlog:?}");
    assert_eq!(topic.backlog(0, 120).unwrap(), Backlog::default());
}

#[test]
fn compressed_batches_are_kept_as_they_are() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    let values: Vec<_> = (0..1000).map(|n| format!("value {n} of many that are alike").into_bytes()).collect();
    let mut expected = Vec::new();
    for compression in [Compression::Lz4, Compression::Zstd, Compression::None] {
        commit(&pipeline, "", vec![(topic.clone(), 0, batch_with(compression, &values))]);
        expected.extend(values.clone());
    }
    assert!(read_all(&topic, 0, 0, 1000).unwrap() == expected);
    let stored = topic.read(0, 0, 1 << 30).unwrap();
    assert!(stored[1].bytes().len() < stored[0].bytes().len() && stored[0].bytes().len() * 2 < stored[2].bytes().len());
}

#[test]
fn a_second_owner_is_refused() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let error = Log::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, LogError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&format!("in use by process {}", std::process::id())), "{error}");
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    assert!(matches!(log.pipeline("p"), Err(LogError::PipelineInUse(_))));
    drop(pipeline);
    let pipeline = log.pipeline("p").unwrap();
    log.close().unwrap();
    // Handles that outlive the log neither keep it locked nor write to it.
    let error = pipeline.commit(CommitSet::default()).unwrap_err();
    assert!(matches!(error, LogError::Closed(_)), "{error}");
    let again = Log::open(dir.path(), options()).unwrap();
    assert_eq!(again.topic("t").unwrap().id(), topic.id());
}

#[test]
fn deleted_topics_and_pipelines_are_gone() {
    let dir = temp_dir();
    let id = {
        let log = Log::open(dir.path(), options()).unwrap();
        let keep = log.create_topic("keep", 1, "p").unwrap();
        let gone = log.create_topic("gone", 1, "p").unwrap();
        let other = log.create_topic("other", 1, "q").unwrap();
        let pipeline = log.pipeline("p").unwrap();
        commit(&pipeline, "1", vec![(keep.clone(), 0, one("a")), (gone.clone(), 0, one("b"))]);
        commit(&log.pipeline("q").unwrap(), "1", vec![(other, 0, one("c"))]);
        log.delete_topic("gone").unwrap();
        assert!(gone.is_deleted() && log.topic("gone").is_none());
        assert!(matches!(gone.read(0, 0, 1), Err(LogError::UnknownTopic(_))));
        assert!(matches!(log.delete_topic("gone"), Err(LogError::UnknownTopic(_))));
        let set = CommitSet { batches: vec![(gone.clone(), 0, one("x"))], position: Bytes::new() };
        assert!(matches!(pipeline.commit(set), Err(LogError::UnknownTopic(_))));
        commit(&pipeline, "2", vec![(keep, 0, one("d"))]);
        let again = log.create_topic("gone", 1, "p").unwrap();
        assert_ne!(again.id(), gone.id());
        assert_eq!(again.end_offset(0), 0);
        assert!(matches!(log.delete_pipeline("p"), Err(LogError::PipelineInUse(_))));
        again.id()
    };
    let log = Log::open(dir.path(), options()).unwrap();
    assert_eq!(log.topic("gone").unwrap().id(), id);
    assert_eq!(read_all(&log.topic("keep").unwrap(), 0, 0, 100).unwrap(), [b"a", b"d"]);
    log.delete_pipeline("p").unwrap();
    assert_eq!(log.pipelines(), ["q"]);
    drop(log);
    let log = Log::open(dir.path(), options()).unwrap();
    assert_eq!(log.topics().iter().map(|topic| topic.name().to_owned()).collect::<Vec<_>>(), ["other"]);
    assert_eq!(log.position("p"), None);
    assert_eq!(log.pipeline("p").unwrap().next_sequence(), 1);
}

#[test]
fn files_belong_to_their_owner_only() {
    fn check(path: &Path) {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let is_dir = entry.file_type().unwrap().is_dir();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, if is_dir { 0o700 } else { 0o600 }, "{}", entry.path().display());
            if is_dir {
                check(&entry.path());
            }
        }
    }
    let dir = temp_dir();
    let log = Log::open(&dir.path().join("data"), options()).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    commit(&log.pipeline("p").unwrap(), "", vec![(topic, 0, one("a"))]);
    log.schemas().register("t-value", &log_core::Schema::avro("{}"), &|_| Ok(())).unwrap();
    check(dir.path());
    log.close().unwrap();
    check(dir.path());
}

#[tokio::test]
async fn waiting_readers_are_woken() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let other = log.create_topic("u", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    let mut any = log.watch();
    let reader = tokio::spawn({
        let topic = topic.clone();
        async move {
            let mut committed = topic.committed();
            let mut values = Vec::new();
            while values.len() < 100 {
                let more = read_all(&topic, 0, values.len() as i64, 100).unwrap();
                if more.is_empty() {
                    committed.changed().await.unwrap();
                }
                values.extend(more);
            }
            values
        }
    });
    let untouched = other.committed();
    for n in 0..100u8 {
        commit(&pipeline, "", vec![(topic.clone(), 0, batch(&[vec![n]]))]);
        if n % 7 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(reader.await.unwrap(), (0..100).map(|n| vec![n]).collect::<Vec<_>>());
    assert!(any.has_changed().unwrap() && !untouched.has_changed().unwrap());
    any.mark_unchanged();
    commit(&pipeline, "keep-alive", vec![]);
    assert!(any.has_changed().unwrap());
}

/// Readers never see a part of a commit.
#[test]
fn ends_move_together() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let topic = log.create_topic("t", 16, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    let rounds = 300;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..rounds {
                let batches = (0..16).map(|partition| (topic.clone(), partition, one("a")));
                commit(&pipeline, "", batches.collect());
            }
        });
        loop {
            let ends = log.committed_ends(&topic);
            assert!(ends.iter().all(|end| *end == ends[0]), "{ends:?}");
            if ends[0] == rounds {
                break;
            }
            for partition in 0..16 {
                read_all(&topic, partition, topic.end_offset(partition).saturating_sub(2).max(0), 100).unwrap();
            }
        }
    });
}

#[test]
fn log_disk_04_many_partitions_with_few_descriptors() {
    let dir = temp_dir();
    let few = LogOptions { open_files_max: 8, ..options() };
    let log = Log::open(dir.path(), few).unwrap();
    let topics: Vec<_> = (0..100).map(|n| log.create_topic(&format!("t{n:03}"), 2, "p").unwrap()).collect();
    let pipeline = log.pipeline("p").unwrap();
    for round in 0..5u8 {
        let all = topics.iter().flat_map(|topic| [(topic.clone(), 0), (topic.clone(), 1)]);
        commit(&pipeline, "", all.map(|(topic, partition)| (topic, partition, batch(&[vec![round]]))).collect());
    }
    let segments = fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    let segments = segments.filter(|path| path.starts_with(dir.path()) && path.extension().is_some_and(|e| e == "log")).count();
    assert!(segments <= 8, "{segments} segment files are open");
    for topic in &topics {
        assert_eq!(read_all(topic, 1, 0, 100).unwrap(), (0..5).map(|n| vec![n]).collect::<Vec<_>>());
    }
}

#[test]
fn retention_removes_what_was_read_and_is_old_or_too_much() {
    let dir = temp_dir();
    let options = LogOptions { segment_bytes: 2000, ..options() };
    let log = Log::open(dir.path(), options.clone()).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    // The time in these batches is in 2023. Each commit has 100 offsets and a segment of its own.
    let fill = |count: usize| {
        for _ in 0..count {
            commit(&pipeline, "x", vec![(topic.clone(), 0, batch(&vec![vec![7; 10]; 100]))]);
        }
    };
    let files = || fs::read_dir(dir.path().join("topics/t/0")).unwrap().count();
    fill(10);
    assert_eq!((files(), topic.start_offset(0)), (10, 0));
    let segment = fs::metadata(dir.path().join("topics/t/0/00000000000000000000.log")).unwrap().len();
    let bytes = |count: u64| Retention { bytes: Some(segment * count), ..Retention::default() };
    let year = Some(std::time::Duration::from_secs(365 * 24 * 3600));
    let age = Retention { age: year, ..Retention::default() };

    // Somebody who never reported needs everything, however old it is.
    assert_eq!(log.retain(&topic, &age, &["sink"]).unwrap(), Removed::default());
    log.offsets().report("sink", topic.id(), 0, 250);
    assert_eq!(log.retain(&topic, &Retention::default(), &["sink"]).unwrap(), Removed::default());
    let removed = log.retain(&topic, &age, &["sink"]).unwrap();
    assert_eq!(removed, Removed { segments: 2, bytes: 2 * segment, unread: 0 });
    assert_eq!((files(), topic.start_offset(0)), (8, 200));
    // What was removed is out of range, for readers and after a crash.
    assert!(matches!(topic.read(0, 150, 100), Err(LogError::OffsetOutOfRange { start: 200, .. })));
    let crashed = temp_dir();
    copy_dir(dir.path(), crashed.path());
    let again = Log::open(crashed.path(), options).unwrap().topic("t").unwrap();
    assert_eq!((again.start_offset(0), again.end_offset(0)), (200, 1000));

    // By bytes, up to what was read, and beyond it where that is too much.
    log.offsets().report("sink", topic.id(), 0, 600);
    log.offsets().report("other", topic.id(), 0, 1000);
    assert_eq!(log.retain(&topic, &bytes(5), &["sink", "other"]).unwrap().segments, 3);
    assert_eq!(log.retain(&topic, &bytes(1), &["sink", "other"]).unwrap().segments, 1);
    assert_eq!(topic.start_offset(0), 600);
    let forced = Retention { unread_bytes: Some(2 * segment), ..bytes(1) };
    assert_eq!(log.retain(&topic, &forced, &["sink"]).unwrap(), Removed { segments: 2, bytes: 2 * segment, unread: 200 });
    assert_eq!((files(), topic.start_offset(0)), (2, 800));

    // With everything read and old, nothing is left, and the offsets go on.
    assert_eq!(log.retain(&topic, &age, &["other"]).unwrap().segments, 2);
    assert_eq!((files(), topic.start_offset(0), topic.end_offset(0)), (0, 1000, 1000));
    fill(1);
    assert_eq!((files(), topic.start_offset(0), topic.end_offset(0)), (1, 1000, 1100));
    assert_eq!(topic.read(0, 1000, 100).unwrap().len(), 1);
    drop(pipeline);
    log.close().unwrap();
    let again = Log::open(dir.path(), LogOptions::default()).unwrap().topic("t").unwrap();
    assert_eq!((again.start_offset(0), again.end_offset(0)), (1000, 1100));
}
