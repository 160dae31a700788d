//! Walks over the batches of a segment, and over what is damaged in it to what can be read behind.

use super::committed_bytes::CommittedBytes;
use crate::batch::{BatchHeader, CRC_COVERS_FROM, HEADER_BYTES, LENGTH_EXCLUDES, MAGIC};
use crate::error::BatchError;
use crate::partition::Offset;
use crate::sparse_index::BatchPlace;

/// Bytes of a header before its CRC: base offset, length, leader epoch, magic. All follow from where the batch stands.
const DERIVED_BYTES: usize = 17;
/// Leader epoch 0 and the magic byte, as they stand at byte 12 of every batch.
const LANDMARK: [u8; 5] = [0, 0, 0, 0, MAGIC as u8];
const LANDMARK_AT: usize = LENGTH_EXCLUDES;

/// A part of a segment in which no batch can be read.
#[derive(Clone, Debug)]
pub(super) struct Hole {
    /// The first byte and offset.
    pub(super) start: BatchPlace,
    /// Where reading can go on; the segment's end where nothing is readable behind.
    pub(super) end: BatchPlace,
    /// How many records it had, if a header says so.
    pub(super) records: Option<u64>,
    /// Newest time of the batch before it, oldest of that behind it where there is none before.
    pub(super) timestamp_ms: Option<i64>,
    pub(super) problem: String,
    /// The right first bytes of the batch, if it is whole but for these.
    pub(super) header: Option<[u8; DERIVED_BYTES]>,
}

/// What a walk over a segment found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) holes: Vec<Hole>,
    /// Offsets that an earlier repair gave up.
    pub(super) lost_offsets: u64,
}

/// Reads all batches from the segment's first to its end. `progress` is told after each how many bytes it had.
pub(super) fn scan(bytes: &mut CommittedBytes<'_>, base_offset: Offset, end_offset: Offset, progress: &mut dyn FnMut(u64)) -> Scan {
    let mut scan = Scan::default();
    let mut place = BatchPlace { base_offset, position: 0 };
    let mut timestamp_ms = None;
    while place.position < bytes.len() {
        let start = place.position;
        match check(bytes, place, end_offset) {
            Ok(header) => {
                place = header.place_behind(place);
                timestamp_ms = Some(header.max_timestamp_ms);
                if let Some(hole) = scan.holes.last_mut() {
                    hole.timestamp_ms.get_or_insert(header.base_timestamp_ms);
                }
                if header.is_lost() {
                    scan.lost_offsets += u64::try_from(header.next_offset() - header.base_offset).unwrap_or(0);
                }
            }
            Err(error) => {
                let hole = measure(bytes, place, end_offset, timestamp_ms, &error);
                place = hole.end;
                scan.holes.push(hole);
            }
        }
        progress(place.position - start);
    }
    if place.base_offset < end_offset {
        let problem =
            format!("the last record there has offset {}, but those to {} were committed", place.base_offset - 1, end_offset - 1);
        let end = BatchPlace { base_offset: end_offset, position: place.position };
        scan.holes.push(Hole { start: place, end, records: None, timestamp_ms, problem, header: None });
    }
    scan
}

/// The header of the batch at `place`, if it is one that belongs there and its checksum fits.
fn check(bytes: &mut CommittedBytes<'_>, place: BatchPlace, end_offset: Offset) -> Result<BatchHeader, BatchError> {
    let header = check_header(bytes, place, end_offset)?;
    let stored = bytes.stored().saturating_sub(place.position);
    if header.total_bytes as u64 > stored {
        return Err(BatchError::Short { need: header.total_bytes as u64, have: stored });
    }
    // The whole batch at once, if the window is large enough.
    bytes.at(place.position, header.total_bytes);
    let end = place.position + header.total_bytes as u64;
    let computed = bytes.crc(place.position + CRC_COVERS_FROM as u64, end);
    if computed == header.crc { Ok(header) } else { Err(BatchError::Crc { stored: header.crc, computed }) }
}

fn check_header(bytes: &mut CommittedBytes<'_>, place: BatchPlace, end_offset: Offset) -> Result<BatchHeader, BatchError> {
    let left = bytes.len() - place.position;
    let header = BatchHeader::parse(bytes.at(place.position, HEADER_BYTES))?;
    if header.base_offset != place.base_offset {
        return Err(BatchError::BaseOffset { found: header.base_offset, expected: place.base_offset });
    }
    if header.total_bytes as u64 > left {
        return Err(BatchError::Short { need: header.total_bytes as u64, have: left });
    }
    if header.next_offset() > end_offset {
        return Err(BatchError::BaseOffset { found: header.next_offset(), expected: end_offset });
    }
    Ok(header)
}

/// Finds out how far the damage at `start` goes.
fn measure(
    bytes: &mut CommittedBytes<'_>,
    start: BatchPlace,
    end_offset: Offset,
    timestamp_ms: Option<i64>,
    error: &BatchError,
) -> Hole {
    let segment_end = BatchPlace { base_offset: end_offset, position: bytes.len() };
    // The header may be right, and only what follows it wrong.
    let believed = check_header(bytes, start, end_offset).ok().filter(|header| {
        let next = header.place_behind(start);
        next == segment_end || check_header(bytes, next, end_offset).is_ok()
    });
    let end = match &believed {
        Some(header) => header.place_behind(start),
        None => find_batch(bytes, start, end_offset).unwrap_or(segment_end),
    };
    let problem = bytes.explain(start.position, end.position);
    Hole {
        start,
        end,
        records: believed.and_then(|header| u64::try_from(header.record_count).ok()),
        timestamp_ms,
        problem: problem.unwrap_or_else(|| format!("the record batch there cannot be read: {error}")),
        header: rebuild_header(bytes, start, end),
    }
}

/// The first batch behind `start` that can be read and that another one, or the segment's end, follows. The latter tells it from
/// bytes in somebody's record that only look like a batch.
fn find_batch(bytes: &mut CommittedBytes<'_>, start: BatchPlace, end_offset: Offset) -> Option<BatchPlace> {
    let segment_end = BatchPlace { base_offset: end_offset, position: bytes.len() };
    let mut from = start.position + 1;
    loop {
        let left = usize::try_from(bytes.stored().saturating_sub(from)).unwrap_or(usize::MAX);
        let window = bytes.at(from, HEADER_BYTES);
        let window = window.get(..left).unwrap_or(window);
        let tails = window.get(LANDMARK_AT..)?.windows(LANDMARK.len());
        if window.len() < HEADER_BYTES {
            return None;
        }
        let searched = tails.len();
        let found = tails.enumerate().find(|(_, tail)| *tail == LANDMARK);
        let Some((distance, _)) = found else {
            from += searched as u64;
            continue;
        };
        let position = from + distance as u64;
        from = position + 1;
        let Ok(header) = BatchHeader::parse(bytes.at(position, HEADER_BYTES)) else { continue };
        let place = BatchPlace { base_offset: header.base_offset, position };
        if place.base_offset > start.base_offset && check(bytes, place, end_offset).is_ok() {
            let next = header.place_behind(place);
            if next == segment_end || check_header(bytes, next, end_offset).is_ok() {
                return Some(place);
            }
        }
    }
}

/// The first bytes of the one batch from `start` to `end`, if with them it is whole.
fn rebuild_header(bytes: &mut CommittedBytes<'_>, start: BatchPlace, end: BatchPlace) -> Option<[u8; DERIVED_BYTES]> {
    if end.position > bytes.stored() {
        return None;
    }
    let length = i32::try_from(end.position - start.position).ok()? - LENGTH_EXCLUDES as i32;
    let mut header = *bytes.at(start.position, HEADER_BYTES).first_chunk::<HEADER_BYTES>()?;
    header[..8].copy_from_slice(&start.base_offset.to_be_bytes());
    header[8..12].copy_from_slice(&length.to_be_bytes());
    header[LANDMARK_AT..DERIVED_BYTES].copy_from_slice(&LANDMARK);
    let parsed = BatchHeader::parse(&header).ok()?;
    let whole =
        parsed.next_offset() == end.base_offset && bytes.crc(start.position + CRC_COVERS_FROM as u64, end.position) == parsed.crc;
    whole.then_some(())?;
    header.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_builder;

    /// The time of a scan depends on what is there, not on what a journal says.
    #[test]
    fn bytes_that_nothing_has_are_not_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("segment");
        let first = batch_builder::lost_batch(0, 4, 1);
        let mut second = batch_builder::lost_batch(4, 1, 1);
        // It says that it is 1 GiB long.
        second[8..12].copy_from_slice(&((1 << 30) - LENGTH_EXCLUDES as i32).to_be_bytes());
        let whole = first.len() as u64;
        for (content, start) in
            [([first.as_slice(), &second].concat(), whole), ([first.as_slice(), &[1; 100]].concat(), whole), (vec![], 0)]
        {
            std::fs::write(&path, content).unwrap();
            let mut bytes = CommittedBytes::open(&path, 1 << 50, &[]).unwrap();
            let scan = scan(&mut bytes, 0, 10, &mut |_| {});
            let holes: Vec<_> = scan.holes.iter().map(|hole| (hole.start.position, hole.end)).collect();
            assert_eq!(holes, [(start, BatchPlace { base_offset: 10, position: 1 << 50 })]);
        }
    }
}
