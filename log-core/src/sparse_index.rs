//! Where in a segment batches stand and how late they are, in memory: Kafka's offset index and time index in one, an entry for each 16 KiB.

use crate::partition::Offset;

/// Bytes between two entries, at least.
pub(crate) const INDEX_INTERVAL_BYTES: u64 = 16 << 10;

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchPlace {
    pub(crate) base_offset: Offset,
    pub(crate) position: u64,
}

/// The index of one segment, from its first batch up to [`scanned`](Self::scanned).
#[derive(Debug)]
pub(crate) struct SparseIndex {
    first: BatchPlace,
    /// In the order of their places, all before `scanned`.
    entries: Vec<Entry>,
    scanned: BatchPlace,
    latest_ms: i64,
}

/// A place, relative to the segment's start. Both numbers fit: a segment is rolled before either would not.
#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u32,
    position: u32,
    /// The latest time of a record before the place.
    latest_before_ms: i64,
}

impl SparseIndex {
    /// Of a segment of which nothing is known but its base offset.
    pub(crate) fn new(base_offset: Offset) -> Self {
        let first = BatchPlace { base_offset, position: 0 };
        Self { first, entries: Vec::new(), scanned: first, latest_ms: i64::MIN }
    }

    /// Where the next batch begins that is not in the index. The chain of offsets up to there was verified.
    pub(crate) fn scanned(&self) -> BatchPlace {
        self.scanned
    }

    /// The latest time of a record in the index, milliseconds since 1970.
    pub(crate) fn latest_ms(&self) -> i64 {
        self.latest_ms
    }

    /// Adds the batch at [`scanned`](Self::scanned), behind which `next` begins.
    pub(crate) fn add(&mut self, next: BatchPlace, max_timestamp_ms: i64) {
        let place = self.scanned;
        let far = self.entries.last().is_none_or(|last| place.position >= u64::from(last.position) + INDEX_INTERVAL_BYTES);
        if far
            && let Ok(offset) = u32::try_from(place.base_offset - self.first.base_offset)
            && let Ok(position) = u32::try_from(place.position)
        {
            self.entries.push(Entry { offset, position, latest_before_ms: self.latest_ms });
        }
        self.scanned = next;
        self.latest_ms = self.latest_ms.max(max_timestamp_ms);
    }

    /// The last entry whose batch begins at `offset` or before: less than one interval before the batch that holds it.
    pub(crate) fn before_offset(&self, offset: Offset) -> BatchPlace {
        self.place(self.entries.partition_point(|entry| self.first.base_offset + Offset::from(entry.offset) <= offset))
    }

    /// The last entry before which all records are earlier than `timestamp_ms`.
    pub(crate) fn before_time(&self, timestamp_ms: i64) -> BatchPlace {
        self.place(self.entries.partition_point(|entry| entry.latest_before_ms < timestamp_ms))
    }

    /// The last of the first so many entries; the segment's start if there is none.
    fn place(&self, entries: usize) -> BatchPlace {
        let entry = entries.checked_sub(1).and_then(|last| self.entries.get(last));
        entry.map_or(self.first, |entry| BatchPlace {
            base_offset: self.first.base_offset + Offset::from(entry.offset),
            position: entry.position.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_by_offset_and_time() {
        let mut index = SparseIndex::new(100);
        let place = |batch: i64| BatchPlace { base_offset: 100 + batch * 10, position: batch as u64 * 6000 };
        assert_eq!(index.before_time(0), place(0));
        // The clock is set back once, at the eighth batch.
        let time = |batch: i64| if batch < 8 { batch * 1000 } else { batch * 1000 - 5000 };
        for batch in 0..20 {
            assert_eq!(index.scanned(), place(batch));
            index.add(place(batch + 1), time(batch));
        }
        assert_eq!(index.latest_ms(), 14_000);
        for batch in 0..20 {
            for offset in 0..10 {
                let found = index.before_offset(100 + batch * 10 + offset);
                assert!(found.position <= place(batch).position, "{batch}");
                assert!(place(batch).position - found.position < INDEX_INTERVAL_BYTES + 6000, "{batch}");
            }
            let found = index.before_time(time(batch));
            let first = (0..).find(|earlier| time(*earlier) >= time(batch)).unwrap();
            assert!(found.position <= place(first).position, "{batch}");
            assert!(place(first).position - found.position < INDEX_INTERVAL_BYTES + 6000, "{batch}");
        }
        assert!(index.before_time(i64::MAX).position > place(16).position);
    }
}
