//! The offsets of groups.

use std::collections::BTreeMap;

use log_core::Log;
use uuid::Uuid;

use crate::support::{copy_dir, options, temp_dir};

#[test]
fn offsets_of_groups_survive_closing() {
    let dir = temp_dir();
    let (t1, t2) = (Uuid::from_u128(1), Uuid::from_u128(2));
    {
        let log = Log::open(dir.path(), options()).unwrap();
        let offsets = log.offsets();
        offsets.report("lake", t1, 0, 5);
        offsets.report("lake", t1, 3, 7);
        offsets.report("lake", t2, 0, 1);
        offsets.report("warehouse", t1, 0, 9);
        offsets.report("lake", t1, 0, 6);
        assert_eq!(offsets.get("lake", t1), BTreeMap::from([(0, 6), (3, 7)]));
    }
    {
        let log = Log::open(dir.path(), options()).unwrap();
        let offsets = log.offsets();
        assert_eq!(offsets.get("lake", t1), BTreeMap::from([(0, 6), (3, 7)]));
        assert_eq!(offsets.groups(), ["lake", "warehouse"]);
        offsets.remove_group("lake");
        offsets.flush().unwrap();
        offsets.report("warehouse", t1, 0, 8);
        log.close().unwrap();
    }
    let log = Log::open(dir.path(), options()).unwrap();
    assert_eq!(log.offsets().get("lake", t1), BTreeMap::new());
    assert_eq!(log.offsets().get("warehouse", t1), BTreeMap::from([(0, 8)]));
    assert_eq!(log.offsets().groups(), ["warehouse"]);
}

/// The thread that writes reports down takes the first one at once; a flush meanwhile must not return before it is durable.
#[test]
fn a_flush_waits_for_the_thread_that_writes() {
    for _ in 0..30 {
        let dir = temp_dir();
        let log = Log::open(dir.path(), options()).unwrap();
        log.offsets().report("lake", Uuid::from_u128(1), 0, 5);
        while log.topic("_offsets").is_none() {
            std::thread::yield_now();
        }
        log.offsets().flush().unwrap();
        assert_eq!(log.topic("_offsets").map(|topic| topic.end_offset(0)), Some(1));
    }
}

#[test]
fn reports_are_written_down_without_being_asked() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let topic = Uuid::from_u128(1);
    let mut committed = log.watch();
    log.offsets().report("lake", topic, 0, 5);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(std::time::Duration::from_secs(60), committed.changed()).await })
        .unwrap()
        .unwrap();
    let reader = Log::open_read_only(dir.path()).unwrap();
    assert_eq!(reader.offsets().get("lake", topic), BTreeMap::from([(0, 5)]));
}

#[test]
fn the_offsets_topic_stays_short() {
    let dir = temp_dir();
    let small = log_core::LogOptions { segment_bytes: 4000, ..options() };
    let log = Log::open(dir.path(), small).unwrap();
    let topic = Uuid::from_u128(1);
    for offset in 1..=500 {
        log.offsets().report("lake", topic, 0, offset);
        if offset == 1 {
            log.offsets().report("old", topic, 0, 1);
        }
        log.offsets().flush().unwrap();
    }
    let offsets = log.topic("_offsets").unwrap();
    assert!(offsets.start_offset(0) > 100 && offsets.end_offset(0) > 500);
    let files = || std::fs::read_dir(dir.path().join("topics/_offsets/0")).unwrap().count();
    assert!(files() <= 3, "{} files", files());
    let copy = temp_dir();
    copy_dir(dir.path(), copy.path());
    let crashed = Log::open(copy.path(), options()).unwrap();
    assert_eq!(crashed.offsets().get("lake", topic), BTreeMap::from([(0, 500)]));
    assert_eq!(crashed.offsets().get("old", topic), BTreeMap::from([(0, 1)]));
    assert_eq!(crashed.topic("_offsets").unwrap().start_offset(0), offsets.start_offset(0));
}
