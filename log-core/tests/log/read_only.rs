//! Looking at a log beside the process that writes it.

use bytes::Bytes;
use log_core::{CommitSet, Listing, Log, LogError, LogOptions, Schema};

use crate::support::{batch, commit, contents, copy_dir, one, read_all, temp_dir};

#[test]
fn shows_what_is_committed_after_a_refresh() {
    let dir = temp_dir();
    assert!(matches!(Log::open_read_only(dir.path()), Err(LogError::NotALog(_))));
    let small = LogOptions { segment_bytes: 4000, journal_bytes: 20_000, ..LogOptions::default() };
    let log = Log::open(dir.path(), small).unwrap();
    let reader = Log::open_read_only(dir.path()).unwrap();
    assert!(reader.topics().is_empty());
    let topic = log.create_topic("t", 2, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    for round in 0..200u8 {
        commit(&pipeline, &format!("{round}"), vec![(topic.clone(), i32::from(round % 2), batch(&[vec![round; 500]]))]);
        if round % 10 == 0 {
            reader.refresh().unwrap();
            assert_eq!(contents(&reader, "p").unwrap(), contents(&log, "p").unwrap());
        }
    }
    log.schemas().register("s", &Schema::avro("{}"), &|_| Ok(())).unwrap();
    let seen = reader.topic("t").unwrap();
    log.delete_topic("t").unwrap();
    reader.refresh().unwrap();
    assert!(seen.is_deleted() && reader.topic("t").is_none());
    assert_eq!(reader.schemas().subjects(Listing::Live), ["s"]);
}

#[test]
fn changes_nothing_and_refuses_writes() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    commit(&pipeline, "1", vec![(topic.clone(), 0, one("a"))]);
    commit(&pipeline, "2", vec![(topic.clone(), 0, one("b"))]);

    // As after a loss of power: the segment never reached the disk, the journal did.
    let crashed = temp_dir();
    copy_dir(dir.path(), crashed.path());
    let segment = crate::support::segment_path(crashed.path(), "t", 0, 0);
    assert_eq!(std::fs::metadata(&segment).unwrap().len(), 0);
    let reader = Log::open_read_only(crashed.path()).unwrap();
    // The journal tells it.
    assert_eq!(reader.position("p").unwrap().sequence, 2);
    assert_eq!(read_all(&reader.topic("t").unwrap(), 0, 0, 100).unwrap(), [b"a", b"b"]);
    assert_eq!(std::fs::metadata(&segment).unwrap().len(), 0);

    assert!(matches!(reader.create_topic("u", 1, "p"), Err(LogError::ReadOnly(_))));
    assert!(matches!(reader.pipeline("p"), Err(LogError::ReadOnly(_))));
    assert!(matches!(reader.delete_topic("t"), Err(LogError::ReadOnly(_))));
    assert!(matches!(reader.delete_pipeline("p"), Err(LogError::ReadOnly(_))));
    assert!(matches!(reader.schemas().register("s", &Schema::avro("{}"), &|_| Ok(())), Err(LogError::ReadOnly(_))));
    reader.offsets().report("g", topic.id(), 0, 1);
    reader.offsets().flush().unwrap();
    drop(reader);
    let writer = Log::open(crashed.path(), LogOptions::default()).unwrap();
    assert_eq!(read_all(&writer.topic("t").unwrap(), 0, 0, 100).unwrap(), [b"a", b"b"]);
    let set = CommitSet { batches: vec![], position: Bytes::from_static(b"3") };
    assert_eq!(writer.pipeline("p").unwrap().commit(set).unwrap(), 3);
}

/// A reader that looks all the time never meets an error, whatever the writer is doing.
#[test]
fn reads_beside_a_busy_writer() {
    let dir = temp_dir();
    let small = LogOptions { segment_bytes: 30_000, journal_bytes: 30_000, ..LogOptions::default() };
    let log = Log::open(dir.path(), small).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..1500u32 {
                commit(&pipeline, "", vec![(topic.clone(), 0, batch(&[n.to_be_bytes().repeat(100)]))]);
            }
        });
        let reader = Log::open_read_only(dir.path()).unwrap();
        let mut next = 0u32;
        while !writer.is_finished() || next < 1500 {
            reader.refresh().unwrap();
            for value in read_all(&reader.topic("t").unwrap(), 0, i64::from(next), 10_000).unwrap() {
                assert_eq!(value[..4], next.to_be_bytes());
                next += 1;
            }
        }
    });
}
