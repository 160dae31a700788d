//! Changed bytes in what was committed: an error that says where, or rebuilt; never silence.

use std::fs;
use std::path::{Path, PathBuf};

use log_core::{Log, LogError};

use crate::support::{Contents, batch, commit, contents, copy_dir, journal_path, one, options, segment_path, temp_dir};

enum End {
    Closed,
    Crashed,
}

fn sample(end: End) -> (tempfile::TempDir, Contents) {
    let original = temp_dir();
    let log = Log::open(original.path(), options()).unwrap();
    let a = log.create_topic("a", 1, "p").unwrap();
    let b = log.create_topic("b", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    for n in 0..4u8 {
        commit(&pipeline, &format!("position {n}"), vec![(a.clone(), 0, batch(&[vec![n], vec![n; 30]])), (b.clone(), 0, one("b"))]);
    }
    let expected = contents(&log, "p").unwrap();
    if let End::Closed = end {
        log.close().unwrap();
    }
    let dir = temp_dir();
    copy_dir(original.path(), dir.path());
    (dir, expected)
}

/// Opens a copy with one byte changed and reads everything.
fn with_change(dir: &Path, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> log_core::Result<Contents> {
    let copy = temp_dir();
    copy_dir(dir, copy.path());
    let path = copy.path().join(path.strip_prefix(dir).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    contents(&Log::open(copy.path(), options())?, "p")
}

/// Of the zeros that a journal ends with, those of the first few bytes.
fn flip_every_bit(dir: &Path, path: &Path, mut check: impl FnMut(usize, log_core::Result<Contents>)) {
    let bytes = fs::read(path).unwrap();
    let len = bytes.len().min(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 20);
    for bit in 0..len * 8 {
        check(bit, with_change(dir, path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8)));
    }
}

fn assert_names(error: &LogError, path: &Path) {
    let text = error.to_string();
    assert!(text.contains(path.file_name().unwrap().to_str().unwrap()), "{text}");
}

#[test]
fn a_bit_of_the_journal() {
    let (dir, expected) = sample(End::Crashed);
    let path = journal_path(dir.path(), "p");
    let mut rebuilt = 0;
    flip_every_bit(dir.path(), &path, |bit, found| match found {
        Ok(found) => {
            // Bytes that the segments have too, or the trailer.
            assert_eq!(found, expected, "bit {bit}");
            rebuilt += 1;
        }
        Err(error) => assert_names(&error, &path),
    });
    assert!(rebuilt > 1000, "{rebuilt} rebuilt");
}

#[test]
fn a_bit_of_a_segment_that_the_journal_still_has() {
    let (dir, expected) = sample(End::Crashed);
    let path = segment_path(dir.path(), "a", 0, 0);
    flip_every_bit(dir.path(), &path, |bit, found| assert_eq!(found.unwrap(), expected, "bit {bit}"));
}

#[test]
fn a_bit_of_a_segment_that_only_the_segment_has() {
    let (dir, _) = sample(End::Closed);
    let path = segment_path(dir.path(), "a", 0, 0);
    flip_every_bit(dir.path(), &path, |bit, found| match found {
        Ok(_) => panic!("bit {bit} went unnoticed"),
        Err(error) => {
            assert!(matches!(error, LogError::Corrupt { .. }), "bit {bit}: {error}");
            assert_names(&error, &path);
        }
    });
}

#[test]
fn a_bit_of_the_checkpoint() {
    let (dir, _) = sample(End::Closed);
    let path = journal_path(dir.path(), "p");
    let trailer = fs::metadata(&path).unwrap().len() as usize * 8 - 16 * 8;
    flip_every_bit(dir.path(), &path, |bit, found| match found {
        Ok(_) => assert!(bit >= trailer, "bit {bit} went unnoticed"),
        Err(error) => assert_names(&error, &path),
    });
}

#[test]
fn a_segment_that_ends_early() {
    let (dir, _) = sample(End::Closed);
    let path = segment_path(dir.path(), "a", 0, 0);
    let error = with_change(dir.path(), &path, |bytes| bytes.truncate(100)).unwrap_err();
    assert_names(&error, &path);
    assert!(error.to_string().contains("damaged at byte 100: the file ends there"), "{error}");
}

#[test]
fn an_entry_in_the_middle() {
    let (dir, expected) = sample(End::Crashed);
    let path = journal_path(dir.path(), "p");
    let journal = fs::read(&path).unwrap();
    let entries: Vec<_> = (0..journal.len() - 4).filter(|at| journal[*at..].starts_with(b"MSJe")).collect();
    // A checkpoint, two topics, and four commits, of which the last may be torn.
    assert_eq!(entries.len(), 7);
    for entry in &entries[..6] {
        // Not only a bit: all of its header, or of its content.
        for range in [*entry..entry + 36, entry + 4..entry + 100] {
            for byte in [0, 0x55] {
                let error = with_change(dir.path(), &path, |bytes| bytes[range.clone()].fill(byte)).unwrap_err();
                assert_names(&error, &path);
                assert!(error.to_string().contains(&format!("at byte {entry}:")), "{error}");
            }
        }
    }
    assert_eq!(with_change(dir.path(), &path, |_| {}).unwrap(), expected);
}

#[test]
fn missing_parts() {
    let (dir, _) = sample(End::Closed);
    let without = |path: &str| {
        let copy = temp_dir();
        copy_dir(dir.path(), copy.path());
        let path: PathBuf = copy.path().join(path);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        Log::open(copy.path(), options()).unwrap_err().to_string()
    };
    let message = without("topics/a/0/00000000000000000000.log");
    assert!(message.contains("00000000000000000000.log is damaged at byte 0: the file ends there"), "{message}");
    let message = without("journals/p");
    assert!(message.contains("topics/a is damaged") && message.contains("no journal knows the topic"), "{message}");
    let message = without("topics/a");
    assert!(message.contains("topics/a/") && message.contains("bytes were committed"), "{message}");
}

#[test]
fn newer_versions_are_refused() {
    let (dir, _) = sample(End::Closed);
    let replace = |path: PathBuf, from: &str, to: &str| {
        let error = with_change(dir.path(), &path, |bytes| {
            let text = String::from_utf8(bytes.clone()).unwrap();
            assert!(text.contains(from));
            *bytes = text.replace(from, to).into_bytes();
        });
        error.unwrap_err().to_string()
    };
    let message = replace(dir.path().join("log.json"), "\"format_version\":1", "\"format_version\":2");
    assert!(message.contains("log.json has format version 2, this build knows 1"), "{message}");
}
