//! Reading all of a log and knowing what it should hold.

use std::fs;

use log_core::{Codec, Compression, Log, LogError, LogOptions, SegmentDump, verify};

use crate::support::{batch, batch_with, commit, options, segment_path, temp_dir};

#[test]
fn counts_what_it_reads() {
    let dir = temp_dir();
    assert!(matches!(verify(dir.path(), &[], &mut |_, _| {}), Err(LogError::NotALog(_))));
    let log = Log::open(dir.path(), LogOptions { segment_bytes: 3000, ..options() }).unwrap();
    let a = log.create_topic("a", 2, "p").unwrap();
    let b = log.create_topic("b", 1, "q").unwrap();
    let (p, q) = (log.pipeline("p").unwrap(), log.pipeline("q").unwrap());
    for round in 0..20u8 {
        commit(&p, "", vec![(a.clone(), i32::from(round % 2), batch(&[vec![round; 500]]))]);
    }
    // Larger than what is read at once.
    let large: Vec<_> = (0..60u8).map(|n| vec![n; 100_000]).collect();
    commit(&q, "", vec![(b.clone(), 0, batch(&large)), (b.clone(), 0, batch(&[vec![1; 10]])), (b.clone(), 0, batch(&large))]);
    // Beside the open log, and after it was closed.
    for _ in 0..2 {
        let mut told = Vec::new();
        let all = verify(dir.path(), &[], &mut |done, total| told.push((done, total))).unwrap();
        assert_eq!(all.damages, []);
        assert_eq!((all.topics, all.journals, all.journal_only_bytes), (2, 2, 0));
        let segments = a.segments(0).unwrap().len() + a.segments(1).unwrap().len() + b.segments(0).unwrap().len();
        assert_eq!(all.segments, segments);
        let (done, total) = *told.last().unwrap();
        assert!(done == total && total > 12_000_000 && all.bytes > total, "{done} of {total}, {} in all", all.bytes);
        assert!(told.is_sorted());

        let one = verify(dir.path(), &["b".to_owned()], &mut |_, _| {}).unwrap();
        assert_eq!((one.topics, one.segments), (1, b.segments(0).unwrap().len()));
        let unknown = verify(dir.path(), &["c".to_owned()], &mut |_, _| {});
        assert!(matches!(unknown, Err(LogError::UnknownTopic(name)) if name == "c"));
        log.close().unwrap();
    }
}

/// Beside a writer that rolls segments, writes checkpoints, and makes and deletes topics, nothing ever looks damaged.
#[test]
fn a_busy_writer_is_not_taken_for_damage() {
    let dir = temp_dir();
    let small = LogOptions { segment_bytes: 30_000, journal_bytes: 30_000, ..options() };
    let log = Log::open(dir.path(), small).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..800u32 {
                commit(&pipeline, "", vec![(topic.clone(), 0, batch(&[n.to_be_bytes().repeat(200)]))]);
                if n % 20 == 0 {
                    let other = log.create_topic("other", 1, "p").unwrap();
                    commit(&pipeline, "", vec![(other, 0, batch(&[vec![1; 100]]))]);
                    log.delete_topic("other").unwrap();
                }
                if n % 50 == 0 {
                    commit(&pipeline, "", vec![(topic.clone(), 0, batch(&[vec![7; 1_200_000]]))]);
                }
            }
        });
        let mut looks = 0;
        while !writer.is_finished() || looks < 3 {
            let verification = verify(dir.path(), &[], &mut |_, _| {}).unwrap();
            assert_eq!(verification.damages, []);
            looks += 1;
        }
    });
}

/// A topic is made or deleted between a look at the journals and one at the directories, again and again.
#[test]
fn topics_that_come_and_go_are_not_taken_for_lost_ones() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), options()).unwrap();
    let pipeline = log.pipeline("p").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for _ in 0..1000 {
                let topic = log.create_topic("t", 1, "p").unwrap();
                commit(&pipeline, "", vec![(topic, 0, batch(&[vec![1; 100]]))]);
                log.delete_topic("t").unwrap();
            }
        });
        while !writer.is_finished() {
            assert_eq!(verify(dir.path(), &[], &mut |_, _| {}).unwrap().damages, []);
        }
    });
    let lost = dir.path().join("topics/lost/0");
    fs::create_dir_all(&lost).unwrap();
    fs::write(lost.join("00000000000000000000.log"), [1]).unwrap();
    let damages = verify(dir.path(), &[], &mut |_, _| {}).unwrap().damages;
    assert!(matches!(&damages[..], [damage] if damage.path == lost.parent().unwrap()), "{damages:?}");
}

#[test]
fn segments_are_described_and_dumped() {
    let dir = temp_dir();
    let log = Log::open(dir.path(), LogOptions { segment_bytes: 2000, ..options() }).unwrap();
    let topic = log.create_topic("t", 1, "p").unwrap();
    let pipeline = log.pipeline("p").unwrap();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd].repeat(3) {
        commit(&pipeline, "", vec![(topic.clone(), 0, batch_with(compression, &[vec![7; 500], vec![8; 500]]))]);
    }
    let segments = topic.segments(0).unwrap();
    assert!(segments.len() > 1);
    assert_eq!((segments[0].base_offset, segments.last().unwrap().end_offset), (0, 18));
    let mut offset = 0;
    let mut codecs = Vec::new();
    for segment in &segments {
        assert_eq!((segment.first_timestamp_ms, segment.last_timestamp_ms), (1_700_000_000_000, 1_700_000_000_000));
        let path = segment_path(dir.path(), "t", 0, segment.base_offset);
        assert_eq!(fs::metadata(&path).unwrap().len(), segment.bytes);
        let mut position = 0;
        for batch in SegmentDump::open(&path).unwrap() {
            let batch = batch.unwrap();
            assert_eq!((batch.position, batch.base_offset(), batch.last_offset()), (position, offset, offset + 1));
            assert_eq!((batch.record_count(), batch.base_timestamp_ms()), (2, 1_700_000_000_000));
            assert!(!batch.is_control() && !batch.is_lost() && batch.problem.is_none());
            assert_eq!(batch.batch().unwrap().records().unwrap().iter().count(), 2);
            codecs.push(batch.codec().unwrap());
            position += batch.size_bytes() as u64;
            offset += 2;
        }
        assert_eq!((position, offset), (segment.bytes, segment.end_offset));
    }
    assert_eq!(codecs, [Codec::None, Codec::Lz4, Codec::Zstd].repeat(3));

    // A batch of a broker has a leader epoch; one with a wrong checksum is shown, and garbage ends it.
    let path = segment_path(dir.path(), "t", 0, 0);
    let mut bytes = fs::read(&path).unwrap();
    let first = SegmentDump::open(&path).unwrap().next().unwrap().unwrap().size_bytes();
    bytes[15] = 7;
    bytes[first + 100] ^= 1;
    let length = bytes.len() as u64;
    bytes.extend_from_slice(&[1; 100]);
    let copy = dir.path().join("copy");
    fs::write(&copy, bytes).unwrap();
    let dumped: Vec<_> = SegmentDump::open(&copy).unwrap().collect();
    assert!(dumped[0].as_ref().unwrap().problem.is_none());
    assert!(dumped[1].as_ref().unwrap().problem.is_some() && dumped[1].as_ref().unwrap().batch().is_none());
    let error = dumped.last().unwrap().as_ref().unwrap_err();
    assert!(matches!(error, LogError::Corrupt { position, .. } if *position == length), "{error}");
    assert_eq!(SegmentDump::open(&dir.path().join("log.json")).unwrap().count(), 1);
}
