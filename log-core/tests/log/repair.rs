//! Damage in committed bytes: what a repair saves, what it gives up, and that nothing else is touched.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use log_core::{Compression, Damage, Log, LogError, LogOptions, Offset, Remedy, Repair, Topic, verify};
use proptest::prelude::*;

use crate::support::{batch, batch_with, commit, copy_dir, journal_path, one, options, segment_path, temp_dir};

/// Bytes of a batch's header before its checksum.
const DERIVED_BYTES: u64 = 17;
const HEADER_BYTES: u64 = 61;

/// Values of all records by their offsets.
fn records(topic: &Topic) -> log_core::Result<BTreeMap<Offset, Vec<u8>>> {
    let mut records = BTreeMap::new();
    let mut next = topic.start_offset(0);
    while next < topic.end_offset(0) {
        for batch in topic.read(0, next, 5000)? {
            assert!(!batch.is_lost() || batch.records()?.is_empty());
            for record in &batch.records()? {
                let record = record?;
                records.insert(record.offset, record.value.unwrap().to_vec());
            }
            next = batch.next_offset();
        }
    }
    Ok(records)
}

/// A closed log whose topic `t` has three segments of four batches of three records, with the offsets where batches begin and
/// their places in the files.
struct Sample {
    dir: tempfile::TempDir,
    records: BTreeMap<Offset, Vec<u8>>,
    segments: Vec<PathBuf>,
    /// Of the second segment.
    batches: Vec<(Range<Offset>, Range<u64>)>,
}

fn sample() -> Sample {
    let dir = temp_dir();
    let small = LogOptions { segment_bytes: 1300, ..options() };
    let log = Log::open(dir.path(), small).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    for round in 0..12u8 {
        let codec = if round % 2 == 0 { Compression::None } else { Compression::Lz4 };
        let values: Vec<_> = (0..3u8).map(|n| [round, n].repeat(40 + usize::from(n))).collect();
        commit(&pipeline, &format!("{round}"), vec![(topic.clone(), 0, batch_with(codec, &values))]);
    }
    let records = records(&topic).unwrap();
    let segments: Vec<_> = topic.segments(0).unwrap();
    assert!(segments.len() >= 3, "{segments:?}");
    let paths = segments.iter().map(|segment| segment_path(dir.path(), "t", 0, segment.base_offset)).collect();
    let mut batches = Vec::new();
    let mut position = 0;
    for batch in topic.read(0, segments[1].base_offset, segments[1].bytes as usize).unwrap() {
        let end = position + batch.bytes().len() as u64;
        batches.push((batch.base_offset()..batch.next_offset(), position..end));
        position = end;
    }
    assert!(position == segments[1].bytes && batches.len() >= 4, "{batches:?}");
    log.close().unwrap();
    Sample { dir, records, segments: paths, batches }
}

fn damages(dir: &Path) -> Vec<Damage> {
    verify(dir, &[], &mut |_, _| {}).unwrap().damages
}

fn repair(dir: &Path) -> Vec<Damage> {
    let repair = Repair::plan(dir, &mut |_, _| {}).unwrap();
    let damages = repair.verification().damages.clone();
    repair.apply().unwrap();
    damages
}

/// Damages a copy of the sample and repairs it: the records left are those outside the offsets that the plan gave up, and a log
/// that goes on. Returns the plan.
fn damage_and_repair(sample: &Sample, damage: impl FnOnce(&Path)) -> Vec<Damage> {
    let copy = temp_dir();
    let dir = copy.path();
    copy_dir(sample.dir.path(), dir);
    damage(dir);
    let before = damages(dir);
    let planned = repair(dir);
    assert_eq!(before, planned);
    let lost = |offset: &Offset| {
        let cut = planned.iter().filter(|damage| damage.remedy == Remedy::CutOut);
        cut.clone().any(|damage| damage.offsets.as_ref().is_some_and(|offsets| offsets.contains(offset)))
    };
    let mut expected: BTreeMap<_, _> =
        sample.records.iter().filter(|(offset, _)| !lost(offset)).map(|(offset, value)| (*offset, value.clone())).collect();
    let lost_offsets = (sample.records.len() - expected.len()) as u64;
    for round in 0..2 {
        let verification = verify(dir, &[], &mut |_, _| {}).unwrap();
        assert_eq!((verification.damages, verification.lost_offsets), (vec![], lost_offsets));
        let log = Log::open(dir, options()).unwrap();
        let topic = log.topic("t").unwrap();
        assert_eq!(records(&topic).unwrap(), expected);
        for offset in 0..topic.end_offset(0) {
            let batches = topic.read(0, offset, 1).unwrap();
            assert!(batches[0].base_offset() <= offset && offset <= batches[0].last_offset());
        }
        assert_eq!(log.position("p").unwrap().sequence, 12 + round);
        expected.insert(topic.end_offset(0), b"next".to_vec());
        commit(&log.pipeline("p").unwrap(), "next", vec![(topic.clone(), 0, one("next"))]);
        assert_eq!(records(&topic).unwrap(), expected);
        log.close().unwrap();
    }
    planned
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

fn inside(sample: &Sample, dir: &Path, segment: usize) -> PathBuf {
    dir.join(sample.segments[segment].strip_prefix(sample.dir.path()).unwrap())
}

/// `LOG-CRASH-03`: one flipped bit in an old, closed segment.
#[test]
fn log_crash_03_one_flipped_bit_of_a_closed_segment() {
    let sample = sample();
    let len = fs::metadata(&sample.segments[1]).unwrap().len();
    let in_header = |byte: u64| sample.batches.iter().any(|(_, bytes)| bytes.contains(&byte) && byte < bytes.start + HEADER_BYTES);
    // Every bit of every header, and some of the rest.
    for bit in (0..len * 8).filter(|bit| in_header(bit / 8) || bit % 29 == 0) {
        let byte = bit / 8;
        let (offsets, bytes) = sample.batches.iter().find(|(_, bytes)| bytes.contains(&byte)).unwrap();
        let planned = damage_and_repair(&sample, |dir| {
            let path = inside(&sample, dir, 1);
            change(&path, |bytes| bytes[byte as usize] ^= 1 << (bit % 8));
            // A start neither sees it nor takes anything away; reading finds it, and says where.
            let log = Log::open(dir, options()).unwrap();
            let topic = log.topic("t").unwrap();
            assert_eq!(topic.end_offset(0), sample.records.len() as i64);
            let error = records(&topic).unwrap_err();
            assert!(matches!(&error, LogError::Corrupt { position, .. } if *position == bytes.start), "bit {bit}: {error}");
            let text = error.to_string();
            assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "bit {bit}: {text}");
            assert!(text.contains(&format!("{}", offsets.start)), "bit {bit}: {text}");
            // Segments before and behind are as readable as ever, and so are other batches if the headers lead there.
            let next_segment = sample.batches.last().unwrap().0.end;
            assert!(!topic.read(0, next_segment, 1 << 20).unwrap().is_empty());
            assert!(!topic.read(0, 0, 1).unwrap().is_empty());
            if byte >= bytes.start + HEADER_BYTES && offsets.end < next_segment {
                assert_eq!(topic.read(0, offsets.end, 1).unwrap()[0].base_offset(), offsets.end);
            }
            log.close().unwrap();
            assert_eq!(fs::metadata(&path).unwrap().len(), len);
        });
        assert_eq!(planned.len(), 1, "bit {bit}: {planned:?}");
        let derived = byte < bytes.start + DERIVED_BYTES;
        let expected = if derived { Remedy::RebuildHeader } else { Remedy::CutOut };
        assert_eq!(planned[0].remedy, expected, "bit {bit}: {planned:?}");
        assert_eq!((&planned[0].bytes, planned[0].offsets.as_ref()), (bytes, Some(offsets)), "bit {bit}");
        assert_eq!(planned[0].partition, Some(("t".to_owned(), 0)));
    }
}

#[test]
fn what_is_left_of_larger_damage_is_saved() {
    let sample = sample();
    let (first, second) = (&sample.batches[0], &sample.batches[1]);
    let third = &sample.batches[2];
    let end = sample.batches.last().unwrap();
    let pair = |offsets: &Range<Offset>| (offsets.start, offsets.end);
    let lost = |planned: &[Damage]| -> Vec<(Offset, Offset)> {
        assert!(planned.iter().all(|damage| damage.remedy == Remedy::CutOut), "{planned:?}");
        planned.iter().map(|damage| pair(damage.offsets.as_ref().unwrap())).collect()
    };
    let check = |what: &str, expected: &[(Offset, Offset)], damage: &dyn Fn(&mut Vec<u8>)| {
        let planned = damage_and_repair(&sample, |dir| change(&inside(&sample, dir, 1), damage));
        assert_eq!(lost(&planned), expected, "{what}: {planned:?}");
        planned
    };
    let at = |range: &Range<u64>| range.start as usize..range.end as usize;

    let planned = check("the contents of two batches", &[pair(&first.0), pair(&second.0)], &|bytes| {
        bytes[first.1.start as usize + 70] ^= 1;
        bytes[second.1.start as usize + 70] ^= 1;
    });
    assert_eq!(planned[0].records, Some(3));
    check("two whole batches", &[(first.0.start, second.0.end)], &|bytes| {
        bytes[first.1.start as usize..second.1.end as usize].fill(0);
    });
    check("from one into the next", &[(second.0.start, third.0.end)], &|bytes| {
        bytes[second.1.start as usize + 5..third.1.start as usize + 30].fill(0xee);
    });
    check("a header and the contents", &[pair(&second.0)], &|bytes| bytes[at(&second.1)][..40].fill(0x55));
    check("the last batch", &[pair(&end.0)], &|bytes| bytes[at(&end.1)].fill(1));
    check("all of it", &[(first.0.start, end.0.end)], &|bytes| bytes.fill(0xff));
    check("an early end", &[(second.0.start, end.0.end)], &|bytes| bytes.truncate(second.1.start as usize + 20));
    check("the end of a batch", &[(second.0.start, end.0.end)], &|bytes| bytes.truncate(second.1.start as usize));
    check("nothing left", &[(first.0.start, end.0.end)], &Vec::clear);
    // Whole, but moved: a length that lies about the batch, which another batch inside it follows.
    check("a batch inside of a batch", &[pair(&second.0)], &|bytes| {
        let nested: Vec<u8> = bytes[at(&third.1)].to_vec();
        let room = at(&second.1);
        let nested = &nested[..nested.len().min(room.len() - 30)];
        bytes[room.start..room.start + 20].fill(9);
        bytes[room.start + 25..room.start + 25 + nested.len()].copy_from_slice(nested);
    });
    let planned = damage_and_repair(&sample, |dir| fs::remove_file(inside(&sample, dir, 0)).unwrap());
    assert!(planned[0].problem.starts_with("the file is missing"), "{planned:?}");
    let planned = damage_and_repair(&sample, |dir| fs::remove_dir_all(dir.join("topics/t")).unwrap());
    assert_eq!(planned.len(), sample.segments.len());
    let planned = damage_and_repair(&sample, |dir| change(&inside(&sample, dir, 1), |bytes| bytes.truncate(100)));
    assert!(planned[0].problem.starts_with("the file ends at byte 100, but"), "{planned:?}");
    // A folder in the place of the file: opens, and cannot be read.
    let copy = temp_dir();
    copy_dir(sample.dir.path(), copy.path());
    let path = inside(&sample, copy.path(), 1);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(damages(copy.path())[0].problem.contains("cannot be read"), "{:?}", damages(copy.path()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is overwritten in a segment, what is left after the repair is what was written, but for what the plan gave up.
    #[test]
    fn random_damage(
        changes in prop::collection::vec((any::<prop::sample::Index>(), 1usize..400, any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        segment in 0usize..3,
    ) {
        let sample = sample();
        damage_and_repair(&sample, |dir| change(&inside(&sample, dir, segment), |bytes| {
            for (start, len, byte) in &changes {
                let start = start.index(bytes.len());
                bytes.iter_mut().skip(start).take(*len).for_each(|target| *target = *byte);
            }
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len()));
            }
        }));
    }
}

/// A log whose journal has a tail behind its checkpoint: small commits inside, and a large one in its segment.
fn crashed() -> (tempfile::TempDir, BTreeMap<Offset, Vec<u8>>) {
    let original = temp_dir();
    let log = Log::open(original.path(), options()).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    commit(&pipeline, "1", vec![(topic.clone(), 0, batch(&[vec![1; 100], vec![2; 100]]))]);
    let large: Vec<_> = (0..12u8).map(|n| vec![n; 100_000]).collect();
    commit(&pipeline, "2", vec![(topic.clone(), 0, batch(&large))]);
    commit(&pipeline, "3", vec![(topic.clone(), 0, one("three"))]);
    let records = records(&topic).unwrap();
    let dir = temp_dir();
    copy_dir(original.path(), dir.path());
    (dir, records)
}

fn read_back(dir: &Path) -> log_core::Result<BTreeMap<Offset, Vec<u8>>> {
    records(&Log::open(dir, options())?.topic("t").unwrap())
}

#[test]
fn what_the_journal_has_is_written_again() {
    let (dir, expected) = crashed();
    let path = segment_path(dir.path(), "t", 0, 0);
    change(&path, |bytes| {
        bytes[100] ^= 4;
        let end = bytes.len();
        bytes[end - 10] ^= 4;
    });
    let found = damages(dir.path());
    assert_eq!(found.iter().map(|damage| damage.remedy).collect::<Vec<_>>(), [Remedy::FromJournal; 2], "{found:?}");
    assert_eq!(found[0].offsets, Some(0..2));
    assert_eq!(found[1].offsets, Some(14..15));
    assert_eq!(repair(dir.path()), found);
    assert_eq!(damages(dir.path()), []);
    assert_eq!(read_back(dir.path()).unwrap(), expected);

    // As a loss of power leaves it: no damage, for the next start writes it.
    let (dir, expected) = crashed();
    let path = segment_path(dir.path(), "t", 0, 0);
    change(&path, |bytes| bytes.truncate(bytes.len() - 50));
    let verification = verify(dir.path(), &[], &mut |_, _| {}).unwrap();
    assert_eq!(verification.damages, []);
    assert!(verification.journal_only_bytes > 50, "{verification:?}");
    assert_eq!(read_back(dir.path()).unwrap(), expected);
}

/// A start refuses damage behind the checkpoint that the journal cannot mend. A repair makes it possible.
#[test]
fn a_log_that_a_start_refuses() {
    let (dir, mut expected) = crashed();
    let path = segment_path(dir.path(), "t", 0, 0);
    change(&path, |bytes| {
        bytes[600_000] ^= 1;
        let end = bytes.len();
        bytes[end - 10] ^= 1;
    });
    let error = read_back(dir.path()).unwrap_err().to_string();
    assert!(error.contains("offsets 2 to 13, are not those that were committed"), "{error}");
    let planned = repair(dir.path());
    assert_eq!(
        planned.iter().map(|damage| damage.remedy).collect::<Vec<_>>(),
        [Remedy::FromJournal, Remedy::CutOut],
        "{planned:?}"
    );
    assert_eq!((planned[1].offsets.clone(), planned[1].records), (Some(2..14), Some(12)));
    (2..14).for_each(|offset| drop(expected.remove(&offset)));
    assert_eq!(read_back(dir.path()).unwrap(), expected);
    assert_eq!(Log::open(dir.path(), options()).unwrap().position("p").unwrap().sequence, 3);
}

#[test]
fn a_journal_is_written_anew_where_segments_know_better() {
    let (dir, expected) = crashed();
    let path = journal_path(dir.path(), "p");
    let journal = fs::read(&path).unwrap();
    let entries: Vec<_> = (0..journal.len() - 4).filter(|at| journal[*at..].starts_with(b"MSJe")).collect();
    // The trailers of checkpoint, topic and first commit, and the bytes inside the latter.
    for at in [entries[1] - 10, entries[2] - 10, entries[3] - 10, entries[3] - 16 - 20] {
        let copy = temp_dir();
        copy_dir(dir.path(), copy.path());
        change(&journal_path(copy.path(), "p"), |bytes| bytes[at] ^= 1);
        let found = repair(copy.path());
        assert_eq!(found.iter().map(|damage| damage.remedy).collect::<Vec<_>>(), [Remedy::NewJournal], "{found:?}");
        assert!(found[0].bytes.contains(&(at as u64)), "{at}: {found:?}");
        assert_eq!(damages(copy.path()), []);
        assert_eq!(read_back(copy.path()).unwrap(), expected);
    }
}

#[test]
fn what_cannot_be_repaired_stays_as_it_is() {
    let (dir, _) = crashed();
    let log = Log::open(dir.path(), options()).unwrap();
    log.schemas().register("s", &log_core::Schema::avro("{}"), &|_| Ok(())).unwrap();
    log.close().unwrap();
    let everything = |dir: &Path| {
        let mut files = BTreeMap::new();
        let mut dirs = vec![dir.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    dirs.push(entry);
                } else if entry.file_name().unwrap() != "lock" {
                    files.insert(entry.clone(), fs::read(&entry).unwrap());
                }
            }
        }
        files
    };
    type Change = fn(&Path);
    let cases: [(&str, Change); 3] = [
        ("the checkpoint", |dir| change(&journal_path(dir, "p"), |bytes| bytes[40] ^= 1)),
        ("the schemas", |dir| change(&segment_path(dir, "_schemas", 0, 0), |bytes| bytes[70] ^= 1)),
        ("a missing journal", |dir| fs::remove_dir_all(dir.join("journals/p")).unwrap()),
    ];
    for (what, damage) in cases {
        let copy = temp_dir();
        copy_dir(dir.path(), copy.path());
        damage(copy.path());
        let before = everything(copy.path());
        let found = repair(copy.path());
        assert!(!found.is_empty() && found.iter().all(|damage| !damage.remedy.mends()), "{what}: {found:?}");
        assert_eq!(everything(copy.path()), before, "{what}");
        assert!(!damages(copy.path()).is_empty(), "{what}");
    }
}

#[test]
fn an_open_log_is_not_repaired() {
    let dir = temp_dir();
    assert!(matches!(Repair::plan(dir.path(), &mut |_, _| {}), Err(LogError::NotALog(_))));
    let log = Log::open(dir.path(), options()).unwrap();
    assert!(matches!(Repair::plan(dir.path(), &mut |_, _| {}), Err(LogError::Locked { .. })));
    drop(log);
    let plan = Repair::plan(dir.path(), &mut |_, _| {}).unwrap();
    assert!(matches!(Log::open(dir.path(), options()), Err(LogError::Locked { .. })));
    plan.apply().unwrap();
    Log::open(dir.path(), options()).unwrap();
}
