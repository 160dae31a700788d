//! Compaction, against a plain model: whoever folds a compacted log comes to what the whole log gives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use log_core::{
    Compacted, Compaction, Compression, EncodedBatch, Log, LogOptions, Offset, PartitionId, PipelineLog, RecordBatchBuilder, Topic,
    verify,
};
use proptest::prelude::*;

use crate::support::{commit, options, segment_path, temp_dir};

/// Two columns, of which a partial row may lack the second.
type Row = (u32, u32);
type Rows = BTreeMap<String, Row>;

/// What happened to a row. Each change gets the next number, which orders all of them and is the new value of columns.
#[derive(Clone, Debug)]
enum Change {
    Put(u8),
    /// The second column did not change, and is not sent.
    Patch(u8),
    Delete(u8),
    /// To another key, perhaps with the second column not sent.
    Move(u8, u8, bool),
    Truncate,
}

/// A record as it is appended: key, value, headers.
#[derive(Clone, Debug, Default)]
struct Appended {
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(&'static str, &'static str)>,
}

const PARTITIONS: PartitionId = 2;

fn partition_of(key: u8) -> PartitionId {
    PartitionId::from(key % 2)
}

/// A source with one table, and a log that it is copied to.
struct Fixture {
    log: Log,
    topic: Topic,
    pipeline: PipelineLog,
    rows: Rows,
    number: u32,
    tombstones: bool,
    pending: Vec<(PartitionId, Appended)>,
}

impl Fixture {
    fn new(dir: &std::path::Path, segment_bytes: u64, tombstones: bool) -> Self {
        let log = Log::open(dir, LogOptions { segment_bytes, ..options() }).unwrap();
        let topic = log.create_topic("t", PARTITIONS, "p").unwrap();
        let pipeline = log.pipeline("p").unwrap();
        Self { log, topic, pipeline, rows: Rows::new(), number: 0, tombstones, pending: Vec::new() }
    }

    fn append(&mut self, key: u8, value: Option<String>, headers: &[(&'static str, &'static str)]) {
        let record = Appended { key: Some(key.to_string()), value, headers: headers.to_vec() };
        self.pending.push((partition_of(key), record));
    }

    /// The value has the order of the change, the op, and the columns, as `7 u 12 -`.
    fn change(&mut self, change: &Change) {
        self.number += 1;
        let number = self.number;
        let name = |key: u8| key.to_string();
        match *change {
            Change::Put(key) => {
                self.rows.insert(name(key), (number, number));
                self.append(key, Some(format!("{number} u {number} {number}")), &[("x", "y")]);
            }
            Change::Patch(key) => {
                let Some(row) = self.rows.get_mut(&name(key)) else { return };
                row.0 = number;
                self.append(key, Some(format!("{number} u {number} -")), &[("partial", "1")]);
            }
            Change::Delete(key) => {
                if self.rows.remove(&name(key)).is_some() {
                    self.append(key, Some(format!("{number} d")), &[]);
                    if self.tombstones {
                        self.append(key, None, &[]);
                    }
                }
            }
            Change::Move(from, to, partial) => {
                if from == to || self.rows.contains_key(&name(to)) {
                    return;
                }
                let Some(mut row) = self.rows.remove(&name(from)) else { return };
                row.0 = number;
                row.1 = if partial { row.1 } else { number };
                self.rows.insert(name(to), row);
                let (out, tombstone): (&[_], &[_]) = match partial {
                    true => (&[("move", "out"), ("partial", "1")], &[("partial", "1")]),
                    false => (&[("move", "out")], &[]),
                };
                self.append(from, Some(format!("{number} d")), out);
                if self.tombstones {
                    self.append(from, None, tombstone);
                }
                let second = if partial { "-".to_owned() } else { number.to_string() };
                let into: &[_] = if partial { &[("move", "in"), ("partial", "1")] } else { &[("move", "in")] };
                self.append(to, Some(format!("{number} m {from} {number} {second}")), into);
            }
            Change::Truncate => {
                self.rows.clear();
                for partition in 0..PARTITIONS {
                    let record = Appended { value: Some(format!("{number} t")), ..Appended::default() };
                    self.pending.push((partition, record));
                }
            }
        }
    }

    /// Commits what is pending: one batch a partition.
    fn commit(&mut self, compression: Compression, timestamp_ms: i64) {
        let mut builders: Vec<_> = (0..PARTITIONS).map(|_| RecordBatchBuilder::new(compression, timestamp_ms)).collect();
        for (partition, record) in self.pending.drain(..) {
            let headers: Vec<_> = record.headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
            let (key, value) = (record.key.as_deref().map(str::as_bytes), record.value.as_deref().map(str::as_bytes));
            builders[partition as usize].append(key, value, &headers).unwrap();
        }
        let batches: Vec<(Topic, PartitionId, EncodedBatch)> =
            (0..).zip(&mut builders).map(|(partition, builder)| (self.topic.clone(), partition, builder.finish())).collect();
        commit(&self.pipeline, "", batches);
    }

    fn compact(&self, compaction: &Compaction, readers: &[&str]) -> Compacted {
        self.log.compact(&self.topic, compaction, readers, &AtomicBool::new(false)).unwrap()
    }
}

fn eager() -> Compaction {
    Compaction { tombstone_age: Duration::from_secs(1000), bytes_per_second: None, min_dirty_percent: 0, ..Compaction::default() }
}

/// A record as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    offset: Offset,
    key: Option<String>,
    value: Option<String>,
    partial: bool,
    moved: Option<String>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a reader gets from an offset on.
fn read(topic: &Topic, partition: PartitionId, from: Offset) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut next = from;
    while next < topic.end_offset(partition) {
        let batches = topic.read(partition, next, 300).unwrap();
        assert!(!batches.is_empty() && batches[0].next_offset() > next);
        for batch in batches {
            for record in &batch.records().unwrap() {
                let record = record.unwrap();
                assert!(record.offset <= batch.last_offset());
                // Where it goes on, a batch may begin earlier since, to stand for others that are gone.
                if record.offset < next {
                    continue;
                }
                assert!(found.last().is_none_or(|last| last.offset < record.offset));
                found.push(Found {
                    offset: record.offset,
                    key: record.key.map(text),
                    value: record.value.map(text),
                    partial: record.header("partial").is_some(),
                    moved: record.header("move").map(text),
                });
            }
            next = batch.next_offset();
        }
    }
    assert_eq!(next, topic.end_offset(partition).max(from));
    found
}

/// A target that applies what stands in the values, in their order over both partitions. Tombstones it passes over, as our sinks do.
#[derive(Clone, Debug, Default)]
struct Target {
    rows: Rows,
    next: [Offset; PARTITIONS as usize],
}

impl Target {
    /// Reads on to the end, or up to this order, inclusive.
    fn follow(&mut self, topic: &Topic, up_to: u32) {
        let mut changes = Vec::new();
        for partition in 0..PARTITIONS {
            let next = &mut self.next[partition as usize];
            for record in read(topic, partition, *next) {
                let Some(value) = &record.value else { continue };
                let words: Vec<String> = value.split(' ').map(str::to_owned).collect();
                let order: u32 = words[0].parse().unwrap();
                if order > up_to {
                    break;
                }
                *next = record.offset + 1;
                changes.push((order, record.moved.as_deref() == Some("out"), record.key, words));
            }
            if up_to == u32::MAX {
                *next = topic.end_offset(partition);
            }
        }
        // Of the halves of a move, the one that has the whole of it comes first.
        changes.sort_by_key(|(order, out, ..)| (*order, *out));
        let moves: BTreeSet<u32> = changes.iter().filter(|(.., words)| words[1] == "m").map(|(order, ..)| *order).collect();
        for (order, out, key, words) in changes {
            match words[1].as_str() {
                "u" => self.put(key.clone().unwrap(), key.unwrap(), &words[2..]),
                "m" => self.put(key.unwrap(), words[2].clone(), &words[3..]),
                "d" if out && moves.contains(&order) => {}
                "d" => {
                    self.rows.remove(&key.unwrap());
                }
                _ => self.rows.clear(),
            }
        }
    }

    fn put(&mut self, key: String, old: String, columns: &[String]) {
        let before = self.rows.remove(&old);
        let first = columns[0].parse().unwrap();
        let second = columns[1].parse().ok().or(before.map(|row| row.1)).expect("a partial row builds on one that is there");
        self.rows.insert(key, (first, second));
    }
}

/// As a reader that knows keys alone: a tombstone is a delete, and so is the half of a move under the old key.
fn fold_by_key(topic: &Topic) -> BTreeMap<String, u32> {
    let mut last = BTreeMap::new();
    for partition in 0..PARTITIONS {
        for record in read(topic, partition, 0) {
            let words: Vec<_> = record.value.as_deref().unwrap_or("0 d").split(' ').collect();
            match (words[1], record.key) {
                ("u", Some(key)) => last.insert(key, words[2].parse().unwrap()),
                ("m", Some(key)) => last.insert(key, words[3].parse().unwrap()),
                (_, Some(key)) => last.remove(&key),
                (_, None) => {
                    last.retain(|key, _| partition_of(key.parse().unwrap()) != partition);
                    None
                }
            };
        }
    }
    last
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let key = || 0u8..7;
    let change = prop_oneof![
        6 => key().prop_map(Change::Put),
        4 => key().prop_map(Change::Patch),
        3 => key().prop_map(Change::Delete),
        2 => (key(), key(), any::<bool>()).prop_map(|(from, to, partial)| Change::Move(from, to, partial)),
        1 => Just(Change::Truncate),
    ];
    prop::collection::vec(change, 1..8)
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Change>, u8, bool),
    /// A target that is there already reads on, up to a part of what there is, in percent.
    Follow(u32),
    /// With so many bytes of memory for keys.
    Compact(u64),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (changes(), 0u8..3, any::<bool>()).prop_map(|(changes, codec, old)| Step::Commit(changes, codec, old)),
        2 => (0u32..=100).prop_map(Step::Follow),
        3 => prop_oneof![Just(0), Just(1 << 20)].prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

fn compression(number: u8) -> Compression {
    [Compression::None, Compression::Lz4, Compression::Zstd][usize::from(number)]
}

fn run(steps: &[Step], segment_bytes: u64, tombstones: bool) {
    let dir = temp_dir();
    let mut fixture = Fixture::new(dir.path(), segment_bytes, tombstones);
    let mut target = Target::default();
    let now_ms = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let mut young = false;
    for step in steps {
        match step {
            Step::Commit(changes, codec, old) => {
                changes.iter().for_each(|change| fixture.change(change));
                // Times do not go back.
                young |= !old;
                let timestamp_ms = if young { now_ms() } else { now_ms() - 2_000_000 };
                fixture.commit(compression(*codec), timestamp_ms);
            }
            Step::Follow(percent) => target.follow(&fixture.topic, fixture.number * percent / 100),
            Step::Compact(memory_bytes) => {
                for partition in 0..PARTITIONS {
                    let next = target.next[partition as usize];
                    fixture.log.offsets().report("g", fixture.topic.id(), partition, next);
                }
                let starts: Vec<_> = (0..PARTITIONS).map(|partition| fixture.topic.start_offset(partition)).collect();
                let ends = fixture.topic.end_offsets();
                let compaction = Compaction { memory_bytes: *memory_bytes, ..eager() };
                fixture.compact(&compaction, &["g"]);
                assert_eq!(fixture.topic.end_offsets(), ends);
                assert!((0..).zip(starts).all(|(partition, start)| fixture.topic.start_offset(partition) == start));
                // Once more, at most segments that were large become one.
                if *memory_bytes > 0 {
                    assert_eq!(fixture.compact(&compaction, &["g"]).records, 0);
                }
            }
            Step::Reopen => {
                let Fixture { log, topic, pipeline, rows, number, .. } = fixture;
                log.close().unwrap();
                drop((log, topic, pipeline));
                fixture = Fixture::new(dir.path(), segment_bytes, tombstones);
                (fixture.rows, fixture.number) = (rows, number);
            }
        }
        let mut fresh = Target::default();
        fresh.follow(&fixture.topic, u32::MAX);
        assert_eq!(fresh.rows, fixture.rows, "from the start of the log");
        let mut behind = target.clone();
        behind.follow(&fixture.topic, u32::MAX);
        assert_eq!(behind.rows, fixture.rows, "from {:?} on", target.next);
        let firsts: BTreeMap<_, _> = fixture.rows.iter().map(|(key, row)| (key.clone(), row.0)).collect();
        assert_eq!(fold_by_key(&fixture.topic), firsts, "by key");
    }
    fixture.log.close().unwrap();
    let verification = verify(dir.path(), &[], &mut |_, _| {}).unwrap();
    assert_eq!(verification.damages, []);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn a_compacted_log_comes_to_the_same(steps in steps(), segment_bytes in 150u64..1500, tombstones in any::<bool>()) {
        run(&steps, segment_bytes, tombstones);
    }
}

/// Puts of keys, a batch each.
fn puts(fixture: &mut Fixture, keys: impl IntoIterator<Item = u8>) {
    for key in keys {
        fixture.change(&Change::Put(key));
        fixture.commit(Compression::None, 1);
    }
}

fn offsets(topic: &Topic, partition: PartitionId) -> Vec<Offset> {
    read(topic, partition, 0).iter().map(|found| found.offset).collect()
}

#[test]
fn the_last_record_of_a_key_stays_and_so_does_the_segment_being_written() {
    let dir = temp_dir();
    let mut fixture = Fixture::new(dir.path(), 400, false);
    puts(&mut fixture, [0, 2, 4].into_iter().cycle().take(40));
    let (segments, bytes) = {
        let segments = fixture.topic.segments(0).unwrap();
        (segments.len(), segments.iter().map(|segment| segment.bytes).sum::<u64>())
    };
    assert!(segments > 5);
    let compacted = fixture.compact(&eager(), &[]);
    let last = *fixture.topic.segments(0).unwrap().last().unwrap();
    let expected: Vec<_> = (last.base_offset - 3..40).collect();
    assert_eq!(offsets(&fixture.topic, 0), expected);
    let left: u64 = fixture.topic.segments(0).unwrap().iter().map(|segment| segment.bytes).sum();
    assert_eq!((compacted.records, compacted.bytes), (40 - expected.len() as u64, bytes - left));
    assert_eq!(fixture.topic.segments(0).unwrap().len(), 2, "small ones become one");
    assert_eq!(fixture.topic.start_offset(0), 0);
    assert_eq!(fixture.topic.backlog(0, 0).unwrap().records, 40);
    let files = std::fs::read_dir(dir.path().join("topics/t/0")).unwrap().count();
    assert_eq!(files, 2, "nothing is left of what was replaced");
    // A part that is large enough by itself is due only when enough was added.
    let lazy = Compaction { min_dirty_percent: 50, ..eager() };
    assert_eq!(fixture.compact(&lazy, &[]), Compacted { finished: true, ..Compacted::default() });
    puts(&mut fixture, [0; 40]);
    assert!(fixture.compact(&lazy, &[]).records > 30);
}

#[test]
fn a_tombstone_and_its_delete_go_when_they_are_old_and_every_reader_has_passed_them() {
    let dir = temp_dir();
    let mut fixture = Fixture::new(dir.path(), 200, true);
    let (old_ms, id) = (1, fixture.topic.id());
    for change in [Change::Put(0), Change::Patch(0), Change::Delete(0)] {
        fixture.change(&change);
    }
    fixture.commit(Compression::None, old_ms);
    puts(&mut fixture, [2; 10]);
    let kept = |fixture: &Fixture| offsets(&fixture.topic, 0).into_iter().take_while(|offset| *offset < 4).collect::<Vec<_>>();
    // Nobody reads, but it is too young.
    let ages = Compaction { tombstone_age: Duration::from_secs(1 << 40), ..eager() };
    fixture.compact(&ages, &[]);
    assert_eq!(kept(&fixture), [2, 3]);
    // A reader that reported nothing, and one that has not passed it.
    fixture.compact(&eager(), &["g"]);
    fixture.log.offsets().report("g", id, 0, 3);
    fixture.compact(&eager(), &["g"]);
    fixture.log.offsets().report("g", id, 0, 4);
    fixture.compact(&eager(), &["g", "h"]);
    assert_eq!(kept(&fixture), [2, 3]);
    fixture.log.offsets().report("h", id, 0, 14);
    fixture.compact(&eager(), &["g", "h"]);
    assert!(kept(&fixture).is_empty());
}

#[test]
fn a_tombstone_stays_while_older_records_have_keys_of_another_shape() {
    let identity = |key: &[u8], identity: &mut Vec<u8>| {
        let (shape, body) = key.split_first()?;
        identity.extend_from_slice(body);
        (*shape != b'-').then_some(u64::from(*shape))
    };
    let dir = temp_dir();
    let fixture = Fixture::new(dir.path(), 100, false);
    for (key, value) in [("aX", Some("1")), ("-X", Some("2")), ("-X", None), ("bY", None), ("bX", None), ("aZ", Some("3"))] {
        let mut builder = RecordBatchBuilder::new(Compression::None, 1);
        builder.append(Some(key.as_bytes()), value.map(str::as_bytes), &[]).unwrap();
        commit(&fixture.pipeline, "", vec![(fixture.topic.clone(), 0, builder.finish())]);
    }
    fixture.compact(&Compaction { identity, ..eager() }, &[]);
    let left: Vec<_> = read(&fixture.topic, 0, 0).into_iter().map(|found| found.key.unwrap()).collect();
    assert_eq!(left, ["-X", "-X", "bY", "bX", "aZ"], "the same row has one identity, and those without one stay");
}

#[test]
fn readers_go_on_while_segments_are_replaced() {
    let dir = temp_dir();
    let mut fixture = Fixture::new(dir.path(), 600, false);
    puts(&mut fixture, (0..60).map(|round| round % 3 * 2));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let other = Log::open_read_only(dir.path()).unwrap();
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    for (topic, is_view) in [(fixture.topic.clone(), false), (other.topic("t").unwrap(), true)] {
                        // Where a view ends, all rows may have later records by now: it meets those after a refresh.
                        let last = read(&topic, 0, 0).pop();
                        assert!(is_view || last.is_some());
                        assert!(last.is_none_or(|last| last.offset < topic.end_offset(0)));
                        topic.backlog(0, 5).unwrap();
                    }
                    other.refresh().unwrap();
                }
            });
        }
        let pipeline = &fixture.pipeline;
        for round in 0..20 {
            let stop = AtomicBool::new(false);
            assert!(fixture.log.compact(&fixture.topic, &eager(), &[], &stop).unwrap().finished);
            for key in ["0", "2", "4", "0", "2", "4", "0", "2"] {
                let mut builder = RecordBatchBuilder::new(Compression::Lz4, 1);
                builder.append(Some(key.as_bytes()), Some(format!("{round} u 1 1").as_bytes()), &[]).unwrap();
                commit(pipeline, "", vec![(fixture.topic.clone(), 0, builder.finish())]);
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn it_can_be_stopped_and_goes_on() {
    let dir = temp_dir();
    let mut fixture = Fixture::new(dir.path(), 300, false);
    puts(&mut fixture, [0, 2].into_iter().cycle().take(60));
    let stopped = fixture.log.compact(&fixture.topic, &eager(), &[], &AtomicBool::new(true)).unwrap();
    assert_eq!(stopped, Compacted::default());
    // With memory for a few keys, and with each of them another round.
    let small = Compaction { memory_bytes: 0, ..eager() };
    let compacted = fixture.compact(&small, &[]);
    assert!(compacted.finished && compacted.records > 50, "{compacted:?}");
    // So slow that only closing the log ends it.
    puts(&mut fixture, [0; 60]);
    let log = fixture.log.clone();
    let slow = Compaction { bytes_per_second: Some(1), ..eager() };
    let topic = fixture.topic.clone();
    let compaction = std::thread::spawn(move || log.compact(&topic, &slow, &[], &AtomicBool::new(false)));
    fixture.log.close().unwrap();
    let ended = compaction.join().unwrap();
    assert!(matches!(&ended, Err(log_core::LogError::Closed(_))), "{ended:?}");
}

#[test]
fn more_keys_than_memory_are_compacted_part_by_part() {
    let dir = temp_dir();
    let mut fixture = Fixture::new(dir.path(), 4000, false);
    // Room for three keys; 40 keys, and segments that hold more of them than that.
    for _ in 0..4 {
        puts(&mut fixture, (0..40).map(|key| key * 2));
    }
    let small = Compaction { memory_bytes: 0, ..eager() };
    let compacted = fixture.compact(&small, &[]);
    assert!(compacted.finished);
    let closed = fixture.topic.segments(0).unwrap().last().unwrap().base_offset;
    let found = read(&fixture.topic, 0, 0);
    let clean = found.iter().filter(|found| found.offset < closed);
    let keys: Vec<_> = clean.map(|found| found.key.clone().unwrap()).collect();
    assert_eq!(keys.len(), keys.iter().collect::<BTreeSet<_>>().len(), "each key is there once");
    let mut target = Target::default();
    target.follow(&fixture.topic, u32::MAX);
    assert_eq!(target.rows, fixture.rows);
}

#[test]
fn damage_in_a_compacted_segment_is_found() {
    let dir = temp_dir();
    let mut fixture = Fixture::new(dir.path(), 800, false);
    puts(&mut fixture, [0, 2, 4, 6, 8].into_iter().cycle().take(60));
    fixture.compact(&eager(), &[]);
    let Fixture { log, topic, pipeline, .. } = fixture;
    log.close().unwrap();
    drop((topic, pipeline, log));
    let path = segment_path(dir.path(), "t", 0, 0);
    let whole = std::fs::read(&path).unwrap();
    for byte in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[byte] ^= 1;
        std::fs::write(&path, &damaged).unwrap();
        let verification = verify(dir.path(), &[], &mut |_, _| {}).unwrap();
        assert!(!verification.damages.is_empty(), "byte {byte}");
    }
}
