//! The tables that the log named, and the rows that are collected for each.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use connector_api::TableName;

use crate::decode::{Shape, TableRows};

/// Table ids are small numbers without an adversary: one multiplication spreads them.
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, value: u64) {
        // The odd number nearest to 2^64 divided by the golden ratio.
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(20);
    }
}

/// A table that the log named.
#[derive(Debug)]
pub(crate) struct Entry {
    pub name: TableName,
    /// A table of this pipeline.
    pub captured: bool,
    /// The bytes by which the log described it last; empty before that.
    pub described: Vec<u8>,
    /// How its rows are read, or why they cannot be: that matters only if there is a row that is wanted.
    pub shape: Result<Arc<Shape>, String>,
    pub rows: Option<TableRows>,
    /// The point as of which the table was read, while that matters.
    pub point: Option<u32>,
    /// The table's definition changed, and the log does not say how.
    pub altered: bool,
    /// The transaction that the next three are about.
    transaction: u64,
    /// Rows of the transaction so far.
    pub seen: u64,
    /// As many of them were handed over before.
    pub skip: u64,
    /// The table's snapshot has the transaction.
    pub passed: bool,
    /// The table has rows in the group.
    pub touched: bool,
}

impl Entry {
    /// Whether this is the first that the table has of the transaction of that number.
    #[inline]
    pub(crate) fn enters(&mut self, transaction: u64) -> bool {
        if self.transaction == transaction {
            return false;
        }
        self.transaction = transaction;
        self.seen = 0;
        true
    }

    /// The rows of the transaction of that number that the log had.
    pub(crate) fn seen_of(&self, transaction: u64) -> u64 {
        if self.transaction == transaction { self.seen } else { 0 }
    }

    /// The rows of the transaction of that number that are done with.
    pub(crate) fn done_of(&self, transaction: u64) -> Option<u64> {
        (self.transaction == transaction && !self.passed).then(|| self.seen.max(self.skip)).filter(|rows| *rows > 0)
    }
}

/// All tables that the log named. Row events name tables by numbers, which hold until the next file and may be given anew.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    entries: Vec<Entry>,
    by_id: HashMap<u64, usize, BuildHasherDefault<IdHasher>>,
    by_name: HashMap<TableName, usize>,
    /// What was looked up last: rows come in runs.
    last: Option<(u64, usize)>,
}

impl Tables {
    /// Forgets the numbers: another file, or another connection, begins.
    pub(crate) fn forget_ids(&mut self) {
        self.by_id.clear();
        self.last = None;
    }

    /// The table of that number.
    #[inline]
    pub(crate) fn by_id(&mut self, id: u64) -> Option<(usize, &mut Entry)> {
        let index = match self.last {
            Some((last, index)) if last == id => index,
            _ => {
                let index = *self.by_id.get(&id)?;
                self.last = Some((id, index));
                index
            }
        };
        self.entries.get_mut(index).map(|entry| (index, entry))
    }

    /// Notes that the number means that table.
    pub(crate) fn name_id(&mut self, id: u64, index: usize) {
        self.by_id.insert(id, index);
        self.last = Some((id, index));
    }

    /// The table of that name. One that is new is made with what `captured` says: whether it is captured, and its point.
    pub(crate) fn by_name(&mut self, name: &TableName, captured: impl FnOnce() -> (bool, Option<u32>)) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let (captured, point) = captured();
        let index = self.entries.len();
        self.by_name.insert(name.clone(), index);
        self.entries.push(Entry {
            name: name.clone(),
            captured,
            described: Vec::new(),
            shape: Err("the log did not describe it".to_owned()),
            rows: None,
            point,
            altered: false,
            transaction: 0,
            seen: 0,
            skip: 0,
            passed: false,
            touched: false,
        });
        index
    }

    pub(crate) fn get(&mut self, index: usize) -> Option<&mut Entry> {
        self.entries.get_mut(index)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }
}
