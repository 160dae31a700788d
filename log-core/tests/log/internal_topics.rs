//! Schemas and the offsets of groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::Log;
use uuid::Uuid;

use crate::support::{copy_dir, options, temp_dir};

#[test]
fn schemas_have_global_ids() {
    let dir = temp_dir();
    let text = r#"{"type":"string"}"#;
    {
        let log = Log::open(dir.path(), options()).unwrap();
        let schemas = log.schemas();
        assert_eq!(schemas.register("a-value", text).unwrap(), 1);
        assert_eq!(schemas.register("a-value", "\"long\"").unwrap(), 2);
        assert_eq!(schemas.register("a-value", text).unwrap(), 1);
        assert_eq!(schemas.register("b-value", text).unwrap(), 1);
        assert_eq!(log.topic("_schemas").unwrap().end_offset(0), 3);
        // Durable before it returns: a copy of the files has it too.
        let copy = temp_dir();
        copy_dir(dir.path(), copy.path());
        let crashed = Log::open(copy.path(), options()).unwrap();
        assert_eq!(crashed.schemas().versions("b-value").len(), 1);
    }
    let log = Log::open(dir.path(), options()).unwrap();
    let schemas = log.schemas();
    assert_eq!(schemas.get(1), Some(Arc::from(text)));
    assert_eq!(schemas.get(3), None);
    assert_eq!(schemas.subjects(), ["a-value", "b-value"]);
    let versions: Vec<_> = schemas.versions("a-value").into_iter().map(|version| (version.version, version.id)).collect();
    assert_eq!(versions, [(1, 1), (2, 2)]);
    assert_eq!(schemas.register("c-value", "\"int\"").unwrap(), 3);

    // The record shape of Confluent's registry.
    let batches = log.topic("_schemas").unwrap().read(0, 2, 1).unwrap();
    let records = batches[0].records().unwrap();
    let record = records.iter().next().unwrap().unwrap();
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    assert_eq!(text(record.key), r#"{"keytype":"SCHEMA","subject":"b-value","version":1,"magic":1}"#);
    let value = r#"{"subject":"b-value","version":1,"id":1,"schema":"{\"type\":\"string\"}","deleted":false}"#;
    assert_eq!(text(record.value), value);
}

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

#[test]
fn many_schemas_are_registered_together() {
    let dir = temp_dir();
    let expected = [1, 2, 1, 2, 3, 1];
    {
        let log = Log::open(dir.path(), options()).unwrap();
        assert_eq!(log.schemas().register("a-value", "one").unwrap(), 1);
        let all = [
            ("a-value", "one"),
            ("a-value", "two"),
            ("b-value", "one"),
            ("a-value", "two"),
            ("b-value", "three"),
            ("b-value", "one"),
        ];
        assert_eq!(log.schemas().register_all(&all).unwrap(), expected);
        assert_eq!(log.schemas().register_all(&all).unwrap(), expected, "all are known now");
        log.close().unwrap();
    }
    let log = Log::open(dir.path(), options()).unwrap();
    let versions = |subject| log.schemas().versions(subject).iter().map(|v| (v.version, v.id)).collect::<Vec<_>>();
    assert_eq!(versions("a-value"), [(1, 1), (2, 2)]);
    assert_eq!(versions("b-value"), [(1, 1), (2, 3)]);
}
