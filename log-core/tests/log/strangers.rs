//! `LOG-CRASH-04` and `LOG-CRASH-09`: files that are not what they should be, or should not be there at all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use log_core::{Log, LogError, LogOptions, Repair, verify};

use crate::support::{Contents, batch, commit, contents, copy_dir, journal_path, options, read_all, segment_path, temp_dir};

fn sample() -> (tempfile::TempDir, Contents) {
    let dir = temp_dir();
    let log = Log::open(dir.path(), LogOptions { segment_bytes: 3000, ..options() }).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    for round in 0..30u8 {
        commit(&pipeline, "position", vec![(topic.clone(), 0, batch(&[vec![round; 200], vec![round; 10]]))]);
    }
    let expected = contents(&log, "p").unwrap();
    log.close().unwrap();
    (dir, expected)
}

fn refused(dir: &Path, change: impl FnOnce(&Path)) -> LogError {
    let copy = temp_dir();
    copy_dir(dir, copy.path());
    change(copy.path());
    match Log::open(copy.path(), options()) {
        Ok(log) => contents(&log, "p").unwrap_err(),
        Err(error) => error,
    }
}

/// Indexes are made from the data each time, so what stands in a file that looks like one means nothing.
#[test]
fn log_crash_04_index_files_of_any_kind_change_nothing() {
    let (dir, expected) = sample();
    let partition = dir.path().join("topics/t/0");
    let segment = fs::read(segment_path(dir.path(), "t", 0, 0)).unwrap();
    let names: Vec<PathBuf> = fs::read_dir(&partition).unwrap().map(|entry| entry.unwrap().path()).collect();
    let contents_of_index: [&[u8]; 5] = [&[], &[0; 8], &[0xff; 4096], b"newer version 9", &segment];
    for content in contents_of_index {
        for (name, extension) in names.iter().flat_map(|name| ["index", "timeindex"].map(|extension| (name, extension))) {
            fs::write(name.with_extension(extension), content).unwrap();
        }
        let log = Log::open(dir.path(), options()).unwrap();
        assert_eq!(contents(&log, "p").unwrap(), expected);
        let topic = log.topic("t").unwrap();
        let values = &expected.records[&("t".to_owned(), 0)];
        for from in 0..values.len() {
            assert_eq!(read_all(&topic, 0, from as i64, 100).unwrap(), values[from..]);
        }
        log.close().unwrap();
        assert_eq!(verify(dir.path(), &[], &mut |_, _| {}).unwrap().damages, []);
    }
}

/// Changes the version in a journal's file header or first entry, under a right checksum.
fn newer_journal(dir: &Path, at: usize, checksum_at: usize) {
    let path = journal_path(dir, "p");
    let mut bytes = fs::read(&path).unwrap();
    let salt = bytes[8..16].to_vec();
    let start = if checksum_at == 16 { 0 } else { 20 };
    assert_eq!(bytes[at], 1);
    bytes[at] = 2;
    let salted = [salt.as_slice(), &bytes[start..checksum_at]].concat();
    let crc = crc_fast::crc32_iscsi(&salted);
    bytes[checksum_at..checksum_at + 4].copy_from_slice(&crc.to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn log_crash_09_newer_versions_are_refused() {
    let (dir, _) = sample();
    let replace = |dir: &Path, file: &str, from: &str, to: &str| {
        let text = fs::read_to_string(dir.join(file)).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(dir.join(file), text.replace(from, to)).unwrap();
    };
    type Change<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Change<'_>); 3] = [
        ("log.json", &|dir| replace(dir, "log.json", "\"format_version\":1", "\"format_version\":9")),
        (".journal", &|dir| newer_journal(dir, 4, 16)),
        (".journal", &|dir| newer_journal(dir, 24, 52)),
    ];
    for (file, change) in cases {
        let error = refused(dir.path(), change);
        assert!(matches!(&error, LogError::UnsupportedVersion { .. }), "{file}: {error}");
        assert!(error.to_string().contains(file) && error.to_string().contains("run the newer build"), "{error}");
        // Nor are they taken for damage, which a repair would throw away.
        let copy = temp_dir();
        copy_dir(dir.path(), copy.path());
        change(copy.path());
        assert!(matches!(verify(copy.path(), &[], &mut |_, _| {}), Err(LogError::UnsupportedVersion { .. })), "{file}");
        let plan = Repair::plan(copy.path(), &mut |_, _| {});
        assert!(matches!(plan, Err(LogError::UnsupportedVersion { .. })), "{file}");
    }
    // A batch of a later format.
    let error = refused(dir.path(), |dir| {
        let path = segment_path(dir, "t", 0, 0);
        let mut bytes = fs::read(&path).unwrap();
        bytes[16] = 3;
        fs::write(path, bytes).unwrap();
    });
    assert!(error.to_string().contains("its magic byte is 3, expected 2"), "{error}");
    // A later journal file that is none.
    let error = refused(dir.path(), |dir| fs::write(dir.join("journals/p/00000000000000000099.journal"), "newer").unwrap());
    assert!(error.to_string().contains("00000000000000000099.journal"), "{error}");
}

/// What somebody else put there stays there; what only looks like ours goes, and never what a link points to.
#[test]
fn log_crash_09_strangers_and_links() {
    let (dir, expected) = sample();
    let elsewhere = temp_dir();
    let outside = elsewhere.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "precious").unwrap();
    fs::write(outside.join("00000000000000000000.log"), "precious").unwrap();
    let strangers =
        ["topics/t/0/notes.txt", "topics/t/0/0.log", "topics/t/7/file", "topics/file", "journals/p/notes", "journals/file", "file"];
    for stranger in strangers {
        let path = dir.path().join(stranger);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "stranger").unwrap();
    }
    // A segment that nothing is committed to, empty or not, is left over from a commit that did not happen.
    fs::write(dir.path().join("topics/t/0/00000000000000000060.log"), "").unwrap();
    fs::write(dir.path().join("topics/t/0/00000000000000000077.log"), "rest").unwrap();
    let links = [
        ("topics/t/0/link", outside.join("file")),
        ("topics/t/0/dangling", PathBuf::from("/nonexistent")),
        ("topics/t/0/loop", dir.path().join("topics/t/0/loop")),
        ("topics/linked", outside.clone()),
        ("topics/dangling", PathBuf::from("/nonexistent")),
        ("journals/x.y", outside.clone()),
    ];
    for (link, target) in &links {
        symlink(target, dir.path().join(link)).unwrap();
    }
    let removed = ["topics/t/0/00000000000000000055.log", "topics/t/0/00000000000000000000.log.swap", "topics/.deleted-1"];
    for link in removed {
        symlink(if link.contains("deleted") { outside.clone() } else { outside.join("file") }, dir.path().join(link)).unwrap();
    }
    assert_eq!(verify(dir.path(), &[], &mut |_, _| {}).unwrap().damages, []);
    let log = Log::open(dir.path(), options()).unwrap();
    assert_eq!(contents(&log, "p").unwrap(), expected);
    log.close().unwrap();
    for stranger in strangers {
        assert_eq!(fs::read_to_string(dir.path().join(stranger)).unwrap(), "stranger", "{stranger}");
    }
    for (link, _) in &links {
        assert!(fs::symlink_metadata(dir.path().join(link)).is_ok(), "{link}");
    }
    for gone in removed.iter().chain(&["topics/t/0/00000000000000000060.log", "topics/t/0/00000000000000000077.log"]) {
        assert!(fs::symlink_metadata(dir.path().join(gone)).is_err(), "{gone}");
    }
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "precious");
    assert_eq!(fs::read_to_string(outside.join("00000000000000000000.log")).unwrap(), "precious");

    let (dir, _) = sample();
    // A committed segment that is a link to nothing is missing; nothing is made in its place.
    let error = refused(dir.path(), |dir| {
        let path = segment_path(dir, "t", 0, 0);
        fs::remove_file(&path).unwrap();
        symlink("/nonexistent/segment", &path).unwrap();
    });
    assert!(error.to_string().contains("the file ends there"), "{error}");
    // So is all of a topic whose folder is one.
    let error = refused(dir.path(), |dir| {
        fs::remove_dir_all(dir.join("topics/t")).unwrap();
        symlink("/nonexistent", dir.join("topics/t")).unwrap();
    });
    assert!(error.to_string().contains("the file ends there"), "{error}");
}
