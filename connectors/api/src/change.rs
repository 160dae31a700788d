use std::sync::Arc;

use arrow_array::{Array, ArrayRef, StructArray};

use crate::{Reservation, SourceInfo, SourcePosition, TableSchema};

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// A row read by a snapshot (`r`): `after` only.
    Read = b'r',
    /// An insert (`c`): `after` only.
    Insert = b'c',
    /// An update that kept the key (`u`): `after`, and `before` where the identity is [`Full`](crate::Identity::Full).
    Update = b'u',
    /// An update that changed the key (`u`): `before` holds at least the old key, `after` the new row. In the log it is two records:
    /// this one under the new key, and a [`MoveOut`](Self::MoveOut) under the old key.
    Move = b'm',
    /// The old key's half of a [`Move`](Self::Move) (`d`), for readers that fold by record key. A sink that applies moves ignores it beside its
    /// other half. By itself it is a delete: a compaction of the log takes the other half once its row was written again.
    MoveOut = b'o',
    /// A delete (`d`): `before` only.
    Delete = b'd',
    /// All rows so far are gone (`t`): no image. A barrier.
    Truncate = b't',
    /// A new snapshot of the table begins and voids all that the topic held so far (`s`): no image. A barrier.
    SnapshotRestart = b's',
}

impl Op {
    /// The letter in Debezium's `op` field. Two ops may share one: a record header tells them apart.
    pub fn letter(self) -> u8 {
        match self {
            Self::Move => b'u',
            Self::MoveOut => b'd',
            other => other as u8,
        }
    }

    /// True for changes that concern the whole table and stand in every partition.
    pub fn is_barrier(self) -> bool {
        matches!(self, Self::Truncate | Self::SnapshotRestart)
    }
}

/// Sorts all changes of a pipeline, over tables and partitions. Both halves of a move share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct OrderKey {
    /// The commit of the log. Given by ingest; 0 before that.
    pub sequence: u64,
    /// The change's place in the commit, from 0. Sources number their rows within a group.
    pub ordinal: u32,
}

/// For each row, the set of columns whose value the source did not send because it did not change: a third state beside value
/// and NULL. In `after` such a column is NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unchanged {
    words_per_row: usize,
    words: Vec<u64>,
}

impl Unchanged {
    /// An empty set for each of `rows` rows of `columns` columns.
    pub fn new(rows: usize, columns: usize) -> Self {
        let words_per_row = columns.div_ceil(64).max(1);
        Self { words_per_row, words: vec![0; rows * words_per_row] }
    }

    /// Marks a column of a row. Both must be in range.
    pub fn set(&mut self, row: usize, column: usize) {
        debug_assert!(column / 64 < self.words_per_row);
        let index = row * self.words_per_row + column / 64;
        if index >= self.words.len() {
            self.words.resize((row + 1) * self.words_per_row, 0);
        }
        self.words[index] |= 1 << (column % 64);
    }

    /// Makes the set cover `rows` rows; new rows have no unchanged column.
    pub fn resize(&mut self, rows: usize) {
        self.words.resize(rows * self.words_per_row, 0);
    }

    /// Whether the column of that row was not sent.
    pub fn contains(&self, row: usize, column: usize) -> bool {
        self.words.get(row * self.words_per_row + column / 64).is_some_and(|word| word & (1 << (column % 64)) != 0)
    }

    /// Whether any column of that row was not sent.
    pub fn any(&self, row: usize) -> bool {
        self.words.get(row * self.words_per_row..(row + 1) * self.words_per_row).is_some_and(|words| words.iter().any(|w| *w != 0))
    }

    fn slice(&self, offset: usize, len: usize) -> Option<Self> {
        let words = self.words.get(offset * self.words_per_row..(offset + len) * self.words_per_row)?.to_vec();
        words.iter().any(|w| *w != 0).then_some(Self { words_per_row: self.words_per_row, words })
    }
}

/// Changes of one table under one schema version, in commit order.
///
/// All vectors and arrays have one entry a row. `before` and `after` are structs of the schema's columns, in which a NULL struct means
/// "no such image"; `None` means that no row has one.
#[derive(Debug, Clone)]
pub struct ChangeBatch {
    /// The shape of the images.
    pub schema: Arc<TableSchema>,
    /// Who made the changes.
    pub info: Arc<SourceInfo>,
    /// What happened.
    pub ops: Vec<Op>,
    /// The place in the order of all changes, ascending.
    pub orders: Vec<OrderKey>,
    /// Commit time in the source database, microseconds since 1970 UTC.
    pub commit_ts_us: Vec<i64>,
    /// The per-row columns of the `source` block, as `info` lists them.
    pub source: StructArray,
    /// The old row.
    pub before: Option<StructArray>,
    /// The new row.
    pub after: Option<StructArray>,
    /// Columns of `after` that were not sent; `None` if all were.
    pub unchanged: Option<Unchanged>,
}

impl ChangeBatch {
    /// The number of rows.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// A part of the batch; the arrays are not copied.
    ///
    /// # Panics
    /// If `offset + len` is beyond the end.
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        Self {
            schema: Arc::clone(&self.schema),
            info: Arc::clone(&self.info),
            ops: self.ops[offset..offset + len].to_vec(),
            orders: self.orders[offset..offset + len].to_vec(),
            commit_ts_us: self.commit_ts_us[offset..offset + len].to_vec(),
            source: self.source.slice(offset, len),
            before: self.before.as_ref().map(|image| image.slice(offset, len)),
            after: self.after.as_ref().map(|image| image.slice(offset, len)),
            unchanged: self.unchanged.as_ref().and_then(|set| set.slice(offset, len)),
        }
    }

    /// The column that identifies the transaction of each row, if the source has one: 64-bit integers or text.
    pub fn transactions(&self) -> Option<&ArrayRef> {
        self.info.transaction.and_then(|index| self.source.columns().get(index))
    }

    /// Bytes held by the arrays.
    pub fn memory_bytes(&self) -> usize {
        let images = [&self.before, &self.after].into_iter().flatten().map(Array::get_array_memory_size).sum::<usize>();
        images + self.source.get_array_memory_size() + self.ops.len() * (1 + size_of::<OrderKey>() + 8)
    }
}

/// All changes after the previous group's position up to this one's, and the position.
#[derive(Debug)]
pub struct ChangeGroup {
    /// One batch for each table and schema version. Order keys' ordinals run from 0 over the whole group, in the order of the
    /// source, and interleave over the batches.
    pub batches: Vec<ChangeBatch>,
    /// Where to go on once this group is durable.
    pub position: SourcePosition,
    /// The group reaches the end that the source's log had when it was opened: what `--once` waits for. Stays true in later groups.
    pub reached_end: bool,
    /// The bytes that the group holds of the runtime's memory budget; given back on drop.
    pub reservation: Option<Reservation>,
}
