//! Entries there and back, and every kind of damage.

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::{decode::decode_entry, entry::*, format::*};
use crate::partition::Offset;

fn commit(unsynced_before: u64) -> (Commit, Vec<u8>) {
    let inline = [Bytes::from_static(b"first bytes"), Bytes::from_static(b"second")];
    let piece = |partition, inline: Option<&Bytes>| Piece {
        topic: Uuid::from_u128(7),
        partition,
        inline: inline.is_some(),
        segment: 100,
        file_position: 4096,
        base_offset: 110,
        next_offset: 120,
        length: inline.map_or(1 << 20, |bytes| bytes.len() as u64),
        crc: inline.map_or(9, |bytes| crc_fast::crc32_iscsi(bytes)),
    };
    let commit = Commit {
        sequence: 3,
        unsynced_before,
        position: Bytes::from_static(b"position"),
        pieces: vec![piece(0, Some(&inline[0])), piece(1, None), piece(2, Some(&inline[1]))],
        inline: vec![Some(inline[0].clone()), None, Some(inline[1].clone())],
    };
    let mut bytes = Vec::new();
    let pieces = commit.inline.iter().flatten().map(|bytes| bytes.as_ref());
    let place = CommitPlace { salt: 42, sequence: 3, unsynced_before };
    encode_commit(&mut bytes, place, b"position", &commit.pieces, pieces);
    (commit, bytes)
}

fn topic(number: u128) -> TopicEntry {
    TopicEntry { id: Uuid::from_u128(number), name: format!("shop.public.t_{number}"), partitions: 4 }
}

fn topics_created() -> (Vec<TopicEntry>, Vec<u8>) {
    let topics = vec![topic(1), topic(2)];
    let mut bytes = Vec::new();
    encode_topics_created(&mut bytes, 42, 8, topics.iter());
    (topics, bytes)
}

fn checkpoint() -> (Checkpoint, Vec<u8>) {
    let segment = |base_offset, swap, compacted| SegmentImage { base_offset, length: 100, swap, compacted };
    let segments = vec![segment(5, false, true), segment(7, true, true), segment(9, true, false), segment(11, false, false)];
    let image = PartitionImage { start_offset: 6, next_offset: 12, segments };
    let partitions = vec![(0, image), (3, PartitionImage::default())];
    let topics = vec![TopicImage { topic: topic(1), partitions }, TopicImage { topic: topic(2), partitions: Vec::new() }];
    let checkpoint = Checkpoint { sequence: 8, position: Some(Bytes::from_static(b"p")), topics };
    let mut bytes = Vec::new();
    encode_checkpoint(&mut bytes, 42, &checkpoint);
    (checkpoint, bytes)
}

#[test]
fn round_trip() {
    for unsynced_before in [0, 777] {
        let (commit, bytes) = commit(unsynced_before);
        let len = bytes.len();
        assert_eq!(decode_entry(&Bytes::from(bytes), 42), Ok((Entry::Commit(commit), len)));
    }
    let (checkpoint, bytes) = checkpoint();
    let len = bytes.len();
    assert_eq!(decode_entry(&Bytes::from(bytes), 42), Ok((Entry::Checkpoint(checkpoint), len)));
    let mut bytes = Vec::new();
    let topics = vec![Uuid::from_u128(1), Uuid::from_u128(2)];
    encode_topics_deleted(&mut bytes, 42, 8, topics.iter().copied());
    let expected = Entry::TopicsDeleted { sequence: 8, topics };
    assert_eq!(decode_entry(&Bytes::from(bytes.clone()), 42), Ok((expected, bytes.len())));
    let (topics, created) = topics_created();
    let expected = Entry::TopicsCreated { sequence: 8, topics };
    assert_eq!(decode_entry(&Bytes::from(created.clone()), 42), Ok((expected, created.len())));
    // The same bytes in another file are no entry.
    assert!(matches!(decode_entry(&Bytes::from(bytes), 43), Err(Malformed::Header(_))));
    assert_eq!(decode_file_header(&encode_file_header(42)), Ok(42));
}

/// A checkpoint with one partition.
fn checkpoint_of(image: PartitionImage) -> Vec<u8> {
    let topics = vec![TopicImage { topic: topic(1), partitions: vec![(0, image)] }];
    let mut bytes = Vec::new();
    encode_checkpoint(&mut bytes, 42, &Checkpoint { sequence: 1, position: None, topics });
    bytes
}

#[test]
fn what_cannot_be_is_refused() {
    const LONGEST: u64 = SEGMENT_BYTES_MAX;
    let image = |start_offset, next_offset, segments: &[(Offset, u64)]| {
        let segment = |(base_offset, length)| SegmentImage { base_offset, length, swap: false, compacted: false };
        PartitionImage { start_offset, next_offset, segments: segments.iter().copied().map(segment).collect() }
    };
    let far = NUMBER_MAX as Offset;
    for possible in [
        image(0, 0, &[]),
        image(9, 9, &[]),
        image(6, 9, &[(5, 1), (8, 1)]),
        image(far - 1, far, &[(far - 1, LONGEST)]),
        image(0, i32::MAX.into(), &[(0, 1)]),
    ] {
        assert!(decode_entry(&Bytes::from(checkpoint_of(possible.clone())), 42).is_ok(), "{possible:?}");
    }
    for impossible in [
        // The end before the start, no segment for what is there, none at the start.
        image(9, 5, &[(5, 1)]),
        image(0, 5, &[]),
        image(4, 9, &[(5, 1)]),
        // Segments in a wrong order, twice, behind the end.
        image(5, 9, &[(5, 1), (8, 1), (7, 1)]),
        image(5, 9, &[(5, 1), (5, 1)]),
        image(5, 9, &[(5, 1), (9, 1)]),
        // Too much in one.
        image(0, 1, &[(0, LONGEST + 1)]),
        image(0, Offset::from(i32::MAX) + 1, &[(0, 1)]),
        image(far, far + 1, &[(far, 1)]),
    ] {
        let decoded = decode_entry(&Bytes::from(checkpoint_of(impossible.clone())), 42);
        assert!(matches!(decoded, Err(Malformed::Content(..))), "{impossible:?}");
    }
    let mut commit = commit(0).0;
    let decode = |sequence, pieces: &[Piece], inline: &[Option<Bytes>]| {
        let mut bytes = Vec::new();
        let place = CommitPlace { salt: 42, sequence, unsynced_before: 0 };
        encode_commit(&mut bytes, place, b"", pieces, inline.iter().flatten().map(|bytes| bytes.as_ref()));
        decode_entry(&Bytes::from(bytes), 42)
    };
    assert!(decode(NUMBER_MAX, &commit.pieces, &commit.inline).is_ok());
    assert!(matches!(decode(NUMBER_MAX + 1, &commit.pieces, &commit.inline), Err(Malformed::Content(..))));
    for (file_position, length) in [(LONGEST, 1), (0, LONGEST + 1), (1, u64::MAX)] {
        let piece = Piece { file_position, length, ..commit.pieces.swap_remove(1) };
        assert!(matches!(decode(1, std::slice::from_ref(&piece), &[]), Err(Malformed::Content(..))), "{piece:?}");
        commit.pieces.insert(1, piece);
    }
}

#[test]
fn every_cut_and_every_flipped_bit_is_found() {
    for bytes in [commit(0).1, commit(777).1, checkpoint().1, topics_created().1] {
        for len in 0..bytes.len() {
            let cut = decode_entry(&Bytes::copy_from_slice(&bytes[..len]), 42);
            assert_eq!(cut, Err(Malformed::Cut), "{len} bytes");
        }
        let whole = decode_entry(&Bytes::from(bytes.clone()), 42).unwrap();
        let trailer = (bytes.len() - TRAILER_BYTES) * 8;
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            match decode_entry(&Bytes::from(changed), 42) {
                Err(_) => {}
                Ok(same) if bit >= trailer => assert_eq!(same, whole),
                Ok((Entry::Commit(commit), _)) => {
                    let lost = commit.inline.iter().zip(&commit.pieces);
                    assert!(lost.filter(|(bytes, piece)| bytes.is_none() && piece.inline).count() == 1);
                }
                Ok(_) => panic!("bit {bit} went unnoticed"),
            }
        }
    }
    let header = encode_file_header(42);
    for bit in 0..header.len() * 8 {
        let mut changed = header.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(decode_file_header(&changed).is_err(), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(decode_entry(&Bytes::from(bytes.clone()), 42).is_err());
        prop_assert!(decode_file_header(&bytes).is_err());
    }

    /// Wrong contents under right checksums.
    #[test]
    fn wrong_contents_never_panic(
        kind in 0u8..7,
        head in prop::collection::vec(any::<u8>(), 0..300),
        inline in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        begin_entry(&mut bytes, kind, 1);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&inline);
        end_entry(&mut bytes, 42, 1, inline.len());
        let _ = decode_entry(&Bytes::from(bytes), 42);
    }
}
