//! Every file operation of a repair fails once: what can be read then is as before or as repaired, and the next repair finishes it.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use bytes::Bytes;
use tempfile::TempDir;

use super::{Remedy, Repair};
use crate::durable_file::faults;
use crate::{CommitSet, Compression, EncodedBatch, Log, LogOptions, Offset, RecordBatchBuilder};

fn batch(round: u8, size: usize) -> EncodedBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None, 1);
    builder.append(None, Some(&vec![round; size]), &[]).unwrap();
    builder.finish()
}

/// A log as a crash leaves it, with damage in an old segment, behind the checkpoint, and in what the journal has too. With the
/// offsets that nothing can bring back.
fn damaged() -> (TempDir, Vec<Offset>) {
    let dir = temp_dir();
    let options = || LogOptions { segment_bytes: 3000, tail_bytes: 0, ..LogOptions::default() };
    let commit = |log: &Log, rounds: Range<u8>| {
        let topic = log.create_topic("t", 1, "p").unwrap();
        let pipeline = log.pipeline("p").unwrap();
        for round in rounds {
            // The last but one is too large for the journal.
            let size = if round == 15 { 1_200_000 } else { 900 };
            let set = CommitSet { batches: vec![(topic.clone(), 0, batch(round, size))], position: Bytes::new() };
            pipeline.commit(set).unwrap();
        }
    };
    let log = Log::open(dir.path(), options()).unwrap();
    commit(&log, 0..10);
    log.close().unwrap();
    let log = Log::open(dir.path(), options()).unwrap();
    commit(&log, 10..17);
    let crashed = temp_dir();
    copy_dir(dir.path(), crashed.path());
    let segments = log.topic("t").unwrap().segments(0).unwrap();
    let change = |offset: Offset| {
        let segment = segments.iter().rfind(|segment| segment.base_offset <= offset).unwrap();
        let path = crashed.path().join(format!("topics/t/0/{:020}.log", segment.base_offset));
        let mut bytes = fs::read(&path).unwrap();
        let len = 61 + 900 + 10;
        let at = (offset - segment.base_offset) as usize * len + 500;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    [1, 4, 15, 16].into_iter().for_each(change);
    (crashed, vec![1, 4, 15])
}

fn temp_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn records(log: &Log) -> crate::Result<BTreeMap<Offset, u8>> {
    let topic = log.topic("t").unwrap();
    let mut records = BTreeMap::new();
    let mut next = 0;
    while next < topic.end_offset(0) {
        for batch in topic.read(0, next, 1 << 20)? {
            for record in &batch.records()? {
                let record = record?;
                records.insert(record.offset, record.value.unwrap()[0]);
            }
            next = batch.next_offset();
        }
    }
    Ok(records)
}

/// Repairs a copy with a failure on the way; `false` when the failure never came.
fn run(original: &Path, lost: &[Offset], action: &'static str, nth: usize) -> bool {
    let dir = temp_dir();
    copy_dir(original, dir.path());
    let plan = Repair::plan(dir.path(), &mut |_, _| {}).unwrap();
    let cut = plan.verification().damages.iter().filter(|damage| damage.remedy == Remedy::CutOut);
    assert_eq!(cut.map(|damage| damage.offsets.clone().unwrap().start).collect::<Vec<_>>(), lost);
    faults::fail(dir.path(), action, "", nth);
    let applied = plan.apply();
    let failed = !faults::clear(dir.path());
    assert_eq!(applied.is_err(), failed, "{action} {nth}");
    let expected: BTreeMap<Offset, u8> =
        (0..17).filter(|round| !lost.contains(&i64::from(*round))).map(|round| (round.into(), round)).collect();
    if failed {
        // A start in between refuses what is damaged, or finds all of it repaired.
        if let Ok(log) = Log::open(dir.path(), LogOptions::default())
            && let Ok(found) = records(&log)
        {
            assert_eq!(found, expected, "{action} {nth}");
        }
        let again = Repair::plan(dir.path(), &mut |_, _| {}).unwrap();
        let cut = again.verification().damages.iter().filter(|damage| damage.remedy == Remedy::CutOut);
        cut.for_each(|damage| assert!(lost.contains(&damage.offsets.as_ref().unwrap().start), "{action} {nth}: {damage:?}"));
        again.apply().unwrap();
    }
    let verification = super::verify(dir.path(), &[], &mut |_, _| {}).unwrap();
    assert_eq!((verification.damages, verification.lost_offsets), (vec![], lost.len() as u64), "{action} {nth}");
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(records(&log).unwrap(), expected, "{action} {nth}");
    assert_eq!(log.position("p").unwrap().sequence, 17);
    failed
}

#[test]
fn a_repair_that_fails_anywhere_is_finished_by_the_next() {
    let (dir, lost) = damaged();
    for action in ["create", "write", "sync", "rename", "remove"] {
        let mut failures = 0;
        while run(dir.path(), &lost, action, failures) {
            failures += 1;
        }
        assert!(failures > 2, "{action} failed {failures} times");
    }
}
