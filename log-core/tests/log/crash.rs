//! A crash at every byte of the last commit: it is there as a whole or not at all, and all before it is there.

use std::fs;
use std::path::{Path, PathBuf};

use log_core::{Log, LogError, PipelineLog, verify};

use crate::support::{
    Contents, batch, commit, contents, copy_dir, journal_path, one, options, read_journal, segment_path, temp_dir,
};

/// What can stand where a write was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// The file ends.
    Nothing,
    /// It has its length, but the rest never reached the disk.
    Zeros,
    /// Something else.
    Garbage,
}

fn cut(bytes: &[u8], at: usize, rest: Rest) -> Vec<u8> {
    let mut cut = bytes[..at].to_vec();
    let tail = bytes.len() - at;
    match rest {
        Rest::Nothing => {}
        Rest::Zeros => cut.resize(bytes.len(), 0),
        Rest::Garbage => cut.extend((0..tail + 100).map(|n| (n as u8).wrapping_mul(31) ^ 0xa5)),
    }
    cut
}

/// A log as a crash leaves it after its last commit, with its contents before and after that.
struct Crashed {
    dir: tempfile::TempDir,
    before: Contents,
    after: Contents,
    /// Where the journal entry of the last commit begins.
    entry_start: usize,
    /// The segments whose bytes of the last commit are in the journal, with their length before.
    before_inline: Vec<(PathBuf, u64)>,
    /// Where the last commit's bytes begin in partition 0 of topic `a`.
    segment_start: usize,
}

fn crashed(last: impl FnOnce(&Log, &PipelineLog)) -> Crashed {
    let original = temp_dir();
    let log = Log::open(original.path(), options()).unwrap();
    let a = log.create_topic("a", 2, "p").unwrap();
    let b = log.create_topic("b", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    commit(&pipeline, "one", vec![(a.clone(), 0, one("a1")), (b, 0, one("b1"))]);
    commit(&pipeline, "two", vec![(a.clone(), 0, batch(&[b"a2".to_vec(), b"a3".to_vec()])), (a, 1, one("a4"))]);
    let before = contents(&log, "p").unwrap();
    let size = |path: &Path| fs::metadata(path).unwrap().len() as usize;
    let entry_start = read_journal(&journal_path(original.path(), "p")).len();
    let segment_start = size(&segment_path(original.path(), "a", 0, 0));
    let segments = [("a", 0), ("a", 1), ("b", 0)].map(|(topic, partition)| {
        let path = segment_path(original.path(), topic, partition, 0);
        let len = size(&path) as u64;
        (path.strip_prefix(original.path()).unwrap().to_owned(), len)
    });
    last(&log, &pipeline);
    let inline = |(path, len): &(PathBuf, u64)| (size(&original.path().join(path)) as u64) < len + 100_000;
    let before_inline = segments.into_iter().filter(inline).collect();
    let after = contents(&log, "p").unwrap();
    let dir = temp_dir();
    copy_dir(original.path(), dir.path());
    Crashed { dir, before, after, entry_start, before_inline, segment_start }
}

fn small_commit(log: &Log, pipeline: &PipelineLog) {
    let (a, b) = (log.topic("a").unwrap(), log.topic("b").unwrap());
    let batches = vec![(a.clone(), 0, one("a5")), (a, 1, one("a6")), (b, 0, batch(&[b"b2".to_vec(), b"b3".to_vec()]))];
    commit(pipeline, "three", batches);
}

/// Topic `a` gets more than goes into the journal, topic `b` less.
fn large_commit(log: &Log, pipeline: &PipelineLog) {
    let (a, b) = (log.topic("a").unwrap(), log.topic("b").unwrap());
    let large: Vec<_> = (0..120u8).map(|n| vec![n | 1; 10_000]).collect();
    commit(pipeline, "three", vec![(a, 0, batch(&large)), (b, 0, one("b2"))]);
}

/// Opens a copy with one file replaced; its contents must be stable over further openings and commits.
fn reopen(crashed: &Crashed, path: &Path, bytes: &[u8]) -> log_core::Result<Contents> {
    let dir = temp_dir();
    copy_dir(crashed.dir.path(), dir.path());
    fs::write(dir.path().join(path.strip_prefix(crashed.dir.path()).unwrap()), bytes).unwrap();
    let log = Log::open(dir.path(), options())?;
    let found = contents(&log, "p")?;
    commit(&log.pipeline("p").unwrap(), "next", vec![(log.topic("a").unwrap(), 0, one("next"))]);
    drop(log);
    let log = Log::open(dir.path(), options())?;
    let mut expected = found.clone();
    expected.records.entry(("a".to_owned(), 0)).or_default().push(b"next".to_vec());
    expected.position = Some((found.position.as_ref().map_or(0, |(sequence, _)| *sequence) + 1, b"next".to_vec()));
    assert_eq!(contents(&log, "p")?, expected);
    Ok(found)
}

/// What the crash left of the bytes that a commit writes to segments after its journal entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unsynced {
    Lost,
    Written,
}

fn cut_journal(last: fn(&Log, &PipelineLog), unsynced: Unsynced) {
    let crashed = crashed(last);
    if unsynced == Unsynced::Lost {
        for (path, len) in &crashed.before_inline {
            fs::OpenOptions::new().write(true).open(crashed.dir.path().join(path)).unwrap().set_len(*len).unwrap();
        }
    }
    let path = journal_path(crashed.dir.path(), "p");
    let journal = read_journal(&path);
    // The trailer repeats what stands before it; without it the commit is whole.
    let content_end = journal.len() - 16;
    for at in crashed.entry_start..=journal.len() {
        for rest in [Rest::Nothing, Rest::Zeros, Rest::Garbage] {
            let bytes = cut(&journal, at, rest);
            let found = reopen(&crashed, &path, &bytes).unwrap_or_else(|error| panic!("cut at {at}, {rest:?}: {error}"));
            let whole = bytes.len() >= journal.len() && bytes[..content_end] == journal[..content_end];
            match unsynced {
                Unsynced::Lost => {
                    assert_eq!(found, if whole { &crashed.after } else { &crashed.before }.clone(), "cut at {at}, {rest:?}");
                }
                // Bytes that are gone from the entry can be in the segments: as a whole or not at all it is in any case.
                Unsynced::Written => assert!(found == crashed.before || found == crashed.after, "cut at {at}, {rest:?}: {found:?}"),
            }
            assert!(!whole || found == crashed.after, "cut at {at}, {rest:?}");
        }
    }
}

#[test]
fn journal_cut_at_every_byte_of_a_small_commit() {
    cut_journal(small_commit, Unsynced::Lost);
    cut_journal(small_commit, Unsynced::Written);
}

#[test]
fn journal_cut_at_every_byte_of_a_large_commit() {
    cut_journal(large_commit, Unsynced::Lost);
    cut_journal(large_commit, Unsynced::Written);
}

/// The disk writes blocks in any order. Of the entry's first block, an older entry has the beginning.
#[test]
fn any_blocks_of_the_last_entry_never_reached_the_disk() {
    let crashed = crashed(small_commit);
    for (path, len) in &crashed.before_inline {
        fs::OpenOptions::new().write(true).open(crashed.dir.path().join(path)).unwrap().set_len(*len).unwrap();
    }
    let path = journal_path(crashed.dir.path(), "p");
    let journal = read_journal(&path);
    let content_end = journal.len() - 16;
    let mut blocks = Vec::new();
    let mut start = crashed.entry_start;
    while start < journal.len() {
        let end = (start / 512 + 1) * 512;
        blocks.push(start..end.min(journal.len()));
        start = end;
    }
    assert!(blocks.len() > 1 && !blocks[0].start.is_multiple_of(512), "{blocks:?}");
    for lost in 0..1 << blocks.len() {
        let mut bytes = journal.clone();
        let lost = blocks.iter().enumerate().filter(|(index, _)| lost & 1 << index != 0);
        lost.for_each(|(_, block)| bytes[block.clone()].fill(0));
        let found = reopen(&crashed, &path, &bytes).unwrap();
        let whole = bytes[..content_end] == journal[..content_end];
        assert_eq!(found, if whole { &crashed.after } else { &crashed.before }.clone());
    }
}

#[test]
fn segment_cut_at_every_byte_of_a_small_commit() {
    let crashed = crashed(small_commit);
    let path = segment_path(crashed.dir.path(), "a", 0, 0);
    let segment = fs::read(&path).unwrap();
    // The journal has the bytes, those of the commits before included: nothing is lost wherever it is cut.
    for at in 0..=segment.len() {
        for rest in [Rest::Nothing, Rest::Zeros, Rest::Garbage] {
            assert_eq!(reopen(&crashed, &path, &cut(&segment, at, rest)).unwrap(), crashed.after, "cut at {at}, {rest:?}");
        }
    }
}

#[test]
fn segment_cut_in_a_large_commit() {
    let crashed = crashed(large_commit);
    let path = segment_path(crashed.dir.path(), "a", 0, 0);
    let segment = fs::read(&path).unwrap();
    let journal_path = journal_path(crashed.dir.path(), "p");
    let journal = read_journal(&journal_path);
    for at in (crashed.segment_start..segment.len()).step_by(20_011) {
        for rest in [Rest::Nothing, Rest::Zeros, Rest::Garbage] {
            let found = reopen(&crashed, &path, &cut(&segment, at, rest));
            if rest == Rest::Garbage {
                // Nothing writes there before the commit, so that is damage.
                let error = found.unwrap_err().to_string();
                assert!(error.contains(path.file_name().unwrap().to_str().unwrap()), "{error}");
                assert!(error.contains(&format!("damaged at byte {}", crashed.segment_start)), "{error}");
                assert!(error.contains("offsets 3 to 122, are not those that were committed"), "{error}");
            } else {
                // The entry and the segment were to be synced together: the commit did not happen.
                assert_eq!(found.unwrap(), crashed.before, "cut at {at}, {rest:?}");
            }
            // Without its entry it did not in any case.
            fs::write(&journal_path, &journal[..crashed.entry_start]).unwrap();
            assert_eq!(reopen(&crashed, &path, &cut(&segment, at, rest)).unwrap(), crashed.before);
            fs::write(&journal_path, &journal).unwrap();
        }
    }
    assert_eq!(reopen(&crashed, &path, &cut(&segment, segment.len(), Rest::Garbage)).unwrap(), crashed.after);

    // With another entry behind it, it was durable: that its bytes are gone is damage, however it looks.
    let log = Log::open(crashed.dir.path(), options()).unwrap();
    small_commit(&log, &log.pipeline("p").unwrap());
    let later = temp_dir();
    copy_dir(crashed.dir.path(), later.path());
    let path = segment_path(later.path(), "a", 0, 0);
    for rest in [Rest::Nothing, Rest::Zeros, Rest::Garbage] {
        fs::write(&path, cut(&segment, crashed.segment_start + 1000, rest)).unwrap();
        assert!(matches!(Log::open(later.path(), options()), Err(LogError::Corrupt { .. })), "{rest:?}");
    }
}

/// What became of the rest of a commit that was not finished does not matter: nobody says that it is damage.
#[test]
fn one_segment_torn_and_another_garbled_in_a_large_commit() {
    let crashed = crashed(|log, pipeline| {
        let a = log.topic("a").unwrap();
        let large = || batch(&[vec![1; 200_000]]);
        commit(pipeline, "three", vec![(a.clone(), 0, large()), (a, 1, large())]);
    });
    let [torn, garbled] = [0, 1].map(|partition| segment_path(crashed.dir.path(), "a", partition, 0));
    for (torn, garbled) in [(&torn, &garbled), (&garbled, &torn)] {
        let dir = temp_dir();
        copy_dir(crashed.dir.path(), dir.path());
        for (path, rest) in [(torn, Rest::Nothing), (garbled, Rest::Garbage)] {
            let bytes = cut(&fs::read(path).unwrap(), 100_000, rest);
            fs::write(dir.path().join(path.strip_prefix(crashed.dir.path()).unwrap()), bytes).unwrap();
        }
        assert_eq!(verify(dir.path(), &[], &mut |_, _| {}).unwrap().damages, []);
        let log = Log::open(dir.path(), options()).unwrap();
        assert_eq!(contents(&log, "p").unwrap(), crashed.before);
    }
}

#[test]
fn leftovers_are_removed_and_strangers_left_alone() {
    let crashed = crashed(small_commit);
    let dir = crashed.dir.path();
    let leftovers = [
        "journals/p/00000000000000000009.journal.new",
        "topics/a/1/00000000000000000077.log",
        "topics/a/1/00000000000000000000.log.swap",
        "topics/.deleted-1/0/00000000000000000000.log",
        "journals/.deleted-1/00000000000000000001.journal",
    ];
    let strangers = ["topics/a/1/notes.txt", "topics/README", "topics/not a topic/x", "journals/x.y/z", "notes"];
    for path in leftovers.iter().chain(&strangers) {
        fs::create_dir_all(dir.join(path).parent().unwrap()).unwrap();
        fs::write(dir.join(path), "x").unwrap();
    }
    std::os::unix::fs::symlink("/nonexistent", dir.join("topics/a/1/link")).unwrap();
    let log = Log::open(dir, options()).unwrap();
    assert_eq!(contents(&log, "p").unwrap(), crashed.after);
    for path in leftovers {
        assert!(!dir.join(path).exists(), "{path}");
    }
    for path in strangers {
        assert!(dir.join(path).exists(), "{path}");
    }
}

#[test]
fn topics_are_what_the_journals_say() {
    let original = temp_dir();
    let log = Log::open(original.path(), options()).unwrap();
    let names: Vec<String> = (0..50).map(|n| format!("t.{n}")).collect();
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let topics = log.create_topics(&wanted, "p").unwrap();
    // Without records there are no directories.
    assert_eq!(fs::read_dir(original.path().join("topics")).unwrap().count(), 0);
    let pipeline = log.pipeline("p").unwrap();
    commit(&pipeline, "1", vec![(topics[0].clone(), 1, one("a")), (topics[1].clone(), 0, one("b"))]);
    // One is deleted, and its name given to another pipeline, before either journal has a checkpoint.
    log.delete_topic("t.1").unwrap();
    let again = log.create_topic("t.1", 1, "q").unwrap();
    let other = log.pipeline("q").unwrap();
    commit(&other, "1", vec![(again.clone(), 0, one("c"))]);
    commit(&pipeline, "2", vec![(topics[0].clone(), 1, one("d"))]);
    let (before, of_q) = (contents(&log, "p").unwrap(), contents(&log, "q").unwrap());
    let crashed = temp_dir();
    copy_dir(original.path(), crashed.path());
    for _ in 0..2 {
        let log = Log::open(crashed.path(), options()).unwrap();
        let live: Vec<_> = log.topics().iter().filter(|topic| topic.pipeline() == "p").map(|topic| topic.id()).collect();
        let mut expected: Vec<_> = topics.iter().filter(|topic| topic.name() != "t.1").map(|topic| topic.id()).collect();
        let mut live = live;
        live.sort_unstable();
        expected.sort_unstable();
        assert_eq!(live, expected);
        assert_eq!(log.topic("t.1").unwrap().id(), again.id());
        assert_eq!((contents(&log, "p").unwrap(), contents(&log, "q").unwrap()), (before.clone(), of_q.clone()));
        // The second time after a close, which wrote checkpoints.
        log.close().unwrap();
    }
    let read_only = Log::open_read_only(crashed.path()).unwrap();
    assert_eq!(read_only.topics().len(), 50);
}
