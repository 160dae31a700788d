//! The first look at a partition: which records of which key may go.

use super::offset_map::{KeyHash, OffsetMap};
use super::pace::Pace;
use super::{Extent, HEADER_MOVE, HEADER_PARTIAL, KeyIdentity, MOVED_AWAY, Pass, READ_BYTES};
use crate::batch::RecordBatch;
use crate::error::Result;
use crate::partition::{Offset, Partition};
use crate::records::Record;

/// What decides about a record, beside the records of its key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) identity: KeyIdentity,
    /// Tombstones that were appended before this may go, in milliseconds since 1970 …
    pub(super) tombstones_before_ms: i64,
    /// … if every reader has come so far, exclusive.
    pub(super) read_to: Offset,
}

/// What a record means for others of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Full,
    /// Builds on the record of its key before it.
    Partial,
    Tombstone,
    /// A partial row has another key from here on.
    MovedAway,
    /// A partial row had another key before: it builds on the records of that.
    MovedHere,
}

impl Kind {
    fn of(record: &Record<'_>) -> Self {
        let (mut partial, mut moved) = (false, None);
        for (name, value) in record.headers() {
            partial |= name == HEADER_PARTIAL;
            if name == HEADER_MOVE {
                moved = Some(value);
            }
        }
        match (partial, moved, record.value) {
            (true, Some(Some(MOVED_AWAY)), _) => Self::MovedAway,
            (true, Some(_), _) => Self::MovedHere,
            (true, None, _) => Self::Partial,
            (false, _, None) => Self::Tombstone,
            (false, _, Some(_)) => Self::Full,
        }
    }
}

/// What was found.
pub(super) struct Survey {
    map: OffsetMap,
    rules: Rules,
    /// Records before this were looked at, and only those may go.
    pub(super) to: Offset,
    /// Keys that keep all their records did not fit, so none may go.
    pub(super) lacks_memory: bool,
    /// The first and the last record that builds on those of its key.
    pub(super) partials: Option<(Offset, Offset)>,
    /// The last record, if it is a full one with a key.
    before: Option<(KeyHash, Offset)>,
    /// Of the first key.
    shape: Option<u64>,
    /// There are keys of other shapes.
    mixed: bool,
    /// Reused for each key.
    identity: Vec<u8>,
}

impl Survey {
    /// Reads a partition; nothing if it shall not go on or the partition's start moves up meanwhile.
    pub(super) fn take(
        partition: &Partition,
        extent: &Extent,
        rules: &Rules,
        memory_bytes: u64,
        pace: &mut Pace<'_>,
    ) -> Result<Option<Self>> {
        let offsets = u64::try_from(extent.end - extent.start).unwrap_or(0);
        let mut survey = Self {
            map: OffsetMap::new(memory_bytes, offsets),
            rules: *rules,
            to: extent.start,
            lacks_memory: false,
            partials: None,
            before: None,
            shape: None,
            mixed: false,
            identity: Vec::new(),
        };
        while survey.to < extent.end {
            for batch in partition.read(survey.to, READ_BYTES)? {
                if batch.base_offset() != survey.to || !pace.advance(batch.bytes().len() as u64)? {
                    return Ok(None);
                }
                let dirty = batch.base_offset() >= extent.dirty;
                // One that is too large by itself is passed over in part: of some of its keys, older records stay.
                let full = survey.map.room() < batch.record_count() && batch.base_offset() > extent.dirty;
                if batch.base_offset() >= extent.end || full || survey.lacks_memory {
                    return Ok(Some(survey));
                }
                survey.enter(&batch, dirty)?;
                survey.to = batch.next_offset();
            }
        }
        Ok(Some(survey))
    }

    /// Whether a record goes in that pass.
    pub(super) fn goes(&mut self, record: &Record<'_>, pass: Pass) -> bool {
        if record.offset >= self.to || (pass == Pass::Partials && Kind::of(record) != Kind::Partial) {
            return false;
        }
        let Some((key, _)) = self.key(record) else { return false };
        self.map.stays_from(key).is_some_and(|stays_from| record.offset < stays_from)
    }

    fn key(&mut self, record: &Record<'_>) -> Option<(KeyHash, u64)> {
        self.identity.clear();
        let shape = (self.rules.identity)(record.key?, &mut self.identity)?;
        Some((self.map.hash(&self.identity), shape))
    }

    fn enter(&mut self, batch: &RecordBatch, dirty: bool) -> Result<()> {
        for record in &batch.records()? {
            let record = record?;
            let Some((key, shape)) = self.key(&record) else {
                self.before = None;
                continue;
            };
            self.mixed |= *self.shape.get_or_insert(shape) != shape;
            let kind = Kind::of(&record);
            let fits = match kind {
                Kind::MovedAway => {
                    let fits = self.map.keep_all(key);
                    // In a dirty batch, what is not looked at builds on what stays anyway.
                    self.lacks_memory |= !fits && !dirty;
                    fits
                }
                Kind::Tombstone if self.may_go(&record) => {
                    // Of clean ones, the next round takes the rest: dirty keys need room too.
                    (!dirty && self.map.is_half_full()) || self.map.let_go_before(key, record.offset + 1)
                }
                Kind::Tombstone if dirty => {
                    let delete = self.before.filter(|before| *before == (key, record.offset - 1));
                    self.map.let_go_before(key, delete.map_or(record.offset, |(_, offset)| offset))
                }
                Kind::Full if dirty => self.map.let_go_before(key, record.offset),
                Kind::Partial => {
                    self.partials.get_or_insert((record.offset, record.offset)).1 = record.offset;
                    true
                }
                Kind::Full | Kind::Tombstone | Kind::MovedHere => true,
            };
            if !fits {
                self.before = None;
                break;
            }
            self.before = (kind == Kind::Full).then_some((key, record.offset));
        }
        Ok(())
    }

    fn may_go(&self, tombstone: &Record<'_>) -> bool {
        let old = tombstone.timestamp_ms < self.rules.tombstones_before_ms;
        old && tombstone.offset < self.rules.read_to && !self.mixed
    }
}
