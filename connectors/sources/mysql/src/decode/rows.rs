//! Rows into Arrow builders.

use std::sync::Arc;

use arrow_schema::ArrowError;
use connector_api::{ChangeBatch, ChangeBatchBuilder, ColumnBuilder, ColumnType, Identity, Op, OrderKey, SourceInfo, TableName};

use super::{ValueProblem, append_binlog, append_text, json_diff, shape::Shape, value_type::ValueType};
use crate::event::{Bitmap, Bytes, RowsEvent, RowsOp};

/// The per-row columns of the `source` block, in this order: `gtid`, `server_id`, `file` and `pos` (where the row's event begins), `row` (which of the
/// event's rows it is, from 0), `thread` (the session's connection id).
pub(crate) fn source_info(connector: &str, database: &str) -> Arc<SourceInfo> {
    let columns = [
        ("gtid", ColumnType::Text),
        ("server_id", ColumnType::Int64),
        ("file", ColumnType::Text),
        ("pos", ColumnType::Int64),
        ("row", ColumnType::Int32),
        ("thread", ColumnType::Int64),
    ];
    SourceInfo::new(connector, database, columns.map(|(name, kind)| (name.to_owned(), kind)).to_vec(), Some(0))
}

/// What is noted of a change beside its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp<'a> {
    /// The place of the first row in its group; the others follow.
    pub ordinal: u32,
    /// Microseconds since 1970.
    pub commit_ts_us: i64,
    /// The transaction, as its server prints it. `None` in snapshots and where GTIDs are off.
    pub gtid: Option<&'a str>,
    /// The server that made the change. `None` in snapshots.
    pub server_id: Option<u32>,
    pub file: &'a str,
    pub position: u64,
    pub thread: Option<u32>,
}

/// Why rows cannot be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowsProblem {
    /// A value.
    #[error("table {table}, column `{column}`: {problem}")]
    Value { table: TableName, column: String, problem: ValueProblem },
    /// The bytes of a row end early, or a row has another number of columns.
    #[error("a row of {table} that does not add up: {problem}")]
    Row { table: TableName, problem: &'static str },
    /// Rows were not appended to every column: an error of ours.
    #[error("the rows of {table} do not make a batch")]
    Batch {
        table: TableName,
        #[source]
        cause: ArrowError,
    },
}

/// A column of a row in a rows event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Not in the image.
    Absent,
    Null,
    /// Bytes of the event's rows, from and to.
    Value(u32, u32),
    /// Differences to the old document.
    JsonDiff(u32, u32),
}

/// The rows of one table that are being collected.
#[derive(Debug)]
pub(crate) struct TableRows {
    shape: Arc<Shape>,
    identity: Identity,
    builder: ChangeBatchBuilder,
    /// Kept for their memory: the present row's columns, and what was decompressed.
    old: Vec<Slot>,
    new: Vec<Slot>,
    scratch: Vec<u8>,
    /// Numbers of the rows whose columns of the `source` block are still to be appended.
    numbers: Vec<i32>,
}

impl TableRows {
    /// No rows yet. The identity is that of [`identity_of`](Self::identity_of) of the first event; a snapshot takes what the stream will.
    pub(crate) fn new(shape: Arc<Shape>, identity: Identity, info: &Arc<SourceInfo>) -> Self {
        let builder = ChangeBatchBuilder::new(Arc::clone(shape.schema(identity)), Arc::clone(info));
        Self { shape, identity, builder, old: Vec::new(), new: Vec::new(), scratch: Vec::new(), numbers: Vec::new() }
    }

    /// How much the event's old images hold. `None` for inserts, which have none and go with either.
    pub(crate) fn identity_of(event: &RowsEvent<'_>) -> Option<Identity> {
        match event.op {
            RowsOp::Insert => None,
            _ if event.before.is_full() => Some(Identity::Full),
            _ => Some(Identity::Key),
        }
    }

    /// Whether the event's rows can be appended: what they hold of old rows is what this batch's schema says.
    pub(crate) fn fits(&self, event: &RowsEvent<'_>) -> bool {
        Self::identity_of(event).is_none_or(|identity| identity == self.identity)
    }

    pub(crate) fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// The rows so far.
    pub(crate) fn finish(&mut self) -> Result<ChangeBatch, RowsProblem> {
        self.builder.finish().map_err(|cause| RowsProblem::Batch { table: self.shape.table().clone(), cause })
    }

    #[inline]
    fn begin(&mut self, op: Op, stamp: &Stamp<'_>, row: u32, ordinal: u32) {
        self.builder.begin(op, OrderKey { sequence: 0, ordinal }, stamp.commit_ts_us);
        self.numbers.push(row as i32);
    }

    /// Says of all rows since the last call where they came from: they share the stamp but for their ordinals.
    pub(crate) fn stamp(&mut self, stamp: &Stamp<'_>) {
        let rows = self.numbers.len();
        if rows == 0 {
            return;
        }
        if let [
            ColumnBuilder::Text(gtid),
            ColumnBuilder::Int64(server_id),
            ColumnBuilder::Text(file),
            ColumnBuilder::Int64(position),
            ColumnBuilder::Int32(number),
            ColumnBuilder::Int64(thread),
        ] = self.builder.sources(rows)
        {
            match stamp.gtid {
                Some(text) => gtid.append_value_n(text, rows),
                None => gtid.append_nulls(rows),
            }
            for (column, value) in [(server_id, stamp.server_id), (thread, stamp.thread)] {
                match value {
                    Some(value) => column.append_value_n(value.into(), rows),
                    None => column.append_nulls(rows),
                }
            }
            file.append_value_n(stamp.file, rows);
            position.append_value_n(stamp.position as i64, rows);
            number.append_slice(&self.numbers);
        }
        self.numbers.clear();
    }

    /// A change of the whole table.
    pub(crate) fn barrier(&mut self, op: Op, stamp: &Stamp<'_>) {
        self.begin(op, stamp, 0, stamp.ordinal);
        self.builder.before().absent();
        self.builder.after().absent();
        self.stamp(stamp);
    }

    /// The rows of an event, but for the first `skip`, which were taken before. Their ordinals follow on the
    /// stamp's.
    pub(crate) fn append(&mut self, stamp: &Stamp<'_>, event: &RowsEvent<'_>, skip: u64) -> Result<Appended, RowsProblem> {
        if event.columns != self.shape.plan.len() + self.shape.hidden.len() {
            return Err(self.row_error("another number of columns than its table has"));
        }
        let all = event.rows;
        let mut rest = all;
        let mut row = 0u32;
        let mut appended = 0u32;
        while !rest.is_empty() {
            let before_row = rest;
            let ordinal = stamp.ordinal.wrapping_add(appended);
            if u64::from(row) < skip {
                self.pass_over(event, all, &mut rest)?;
            } else {
                let is_appended = match event.op {
                    RowsOp::Insert if self.shape.row_end.is_none() => self.insert(stamp, row, ordinal, event, &mut rest)?,
                    RowsOp::Insert => self.insert_version(stamp, row, ordinal, event, &mut rest)?,
                    RowsOp::Update => self.update(stamp, row, ordinal, event, &mut rest)?,
                    RowsOp::Delete => self.delete(stamp, row, ordinal, event, &mut rest)?,
                };
                appended += u32::from(is_appended);
            }
            // Rows of a table without columns take no bytes: there is no telling how many.
            if rest.len() == before_row.len() {
                return Err(self.row_error("a row without bytes"));
            }
            row += 1;
        }
        self.stamp(stamp);
        Ok(Appended { seen: row, appended })
    }

    fn pass_over(&mut self, event: &RowsEvent<'_>, all: &[u8], rest: &mut &[u8]) -> Result<(), RowsProblem> {
        if event.op != RowsOp::Insert {
            self.walk(Image::Old, event.before, false, all, rest)?;
        }
        if event.op != RowsOp::Delete {
            self.walk(Image::New, event.after, event.partial, all, rest)?;
        }
        Ok(())
    }

    #[inline]
    fn insert(
        &mut self,
        stamp: &Stamp<'_>,
        row: u32,
        ordinal: u32,
        event: &RowsEvent<'_>,
        rest: &mut &[u8],
    ) -> Result<bool, RowsProblem> {
        self.begin(Op::Insert, stamp, row, ordinal);
        self.builder.before().absent();
        let whole = event.after.is_full();
        let nulls = null_bits(event.after, rest).ok_or_else(|| self.row_error("it is cut off"))?;
        let columns = self.builder.after().present();
        let mut present = 0;
        for (index, (planned, column)) in self.shape.plan.iter().zip(columns).enumerate() {
            if !whole && !event.after.get(index) {
                column.append_null();
                continue;
            }
            let is_null = bit(nulls, present);
            present += 1;
            if is_null {
                column.append_null();
                continue;
            }
            let data = planned.layout.take(rest).ok_or_else(|| value_error(&self.shape, index, ValueProblem::Length))?;
            append_binlog(&planned.value, data, column, &mut self.scratch)
                .map_err(|problem| value_error(&self.shape, index, problem))?;
        }
        for (index, layout) in self.shape.hidden.iter().enumerate() {
            if event.after.get(self.shape.plan.len() + index) {
                let is_null = bit(nulls, present);
                present += 1;
                if !is_null {
                    layout.take(rest).ok_or_else(|| value_error(&self.shape, self.shape.plan.len(), ValueProblem::Length))?;
                }
            }
        }
        if !whole {
            // The server left out what the statement did not name: its default, which the log does not say.
            for index in 0..self.shape.plan.len() {
                if !event.after.get(index) {
                    self.builder.mark_unchanged(index);
                }
            }
        }
        Ok(true)
    }

    /// An insert into a table with system versioning: of a row, or of an old version of one, which is no change of the table's rows.
    fn insert_version(
        &mut self,
        stamp: &Stamp<'_>,
        row: u32,
        ordinal: u32,
        event: &RowsEvent<'_>,
        rest: &mut &[u8],
    ) -> Result<bool, RowsProblem> {
        let all = event.rows;
        self.walk(Image::New, event.after, false, all, rest)?;
        self.old.clear();
        self.old.resize(self.new.len(), Slot::Absent);
        if !self.is_current(all) {
            return Ok(false);
        }
        self.begin(Op::Insert, stamp, row, ordinal);
        self.builder.before().absent();
        self.new_image(all)?;
        Ok(true)
    }

    /// Whether the walked row is the present version, not an old one. What is not in the new image did not change.
    fn is_current(&self, all: &[u8]) -> bool {
        let Some(index) = self.shape.row_end else { return true };
        match self.new.get(index).filter(|slot| **slot != Slot::Absent).or(self.old.get(index)) {
            Some(Slot::Value(begin, end)) => is_end_of_time(bytes_of(all, *begin, *end)),
            _ => true,
        }
    }

    fn delete(
        &mut self,
        stamp: &Stamp<'_>,
        row: u32,
        ordinal: u32,
        event: &RowsEvent<'_>,
        rest: &mut &[u8],
    ) -> Result<bool, RowsProblem> {
        let all = event.rows;
        self.walk(Image::Old, event.before, false, all, rest)?;
        self.new.clear();
        if !self.is_current(all) {
            return Ok(false);
        }
        self.begin(Op::Delete, stamp, row, ordinal);
        self.builder.after().absent();
        self.old_image(all)?;
        Ok(true)
    }

    fn update(
        &mut self,
        stamp: &Stamp<'_>,
        row: u32,
        ordinal: u32,
        event: &RowsEvent<'_>,
        rest: &mut &[u8],
    ) -> Result<bool, RowsProblem> {
        let all = event.rows;
        self.walk(Image::Old, event.before, false, all, rest)?;
        self.walk(Image::New, event.after, event.partial, all, rest)?;
        if !self.is_current(all) {
            // With system versioning a row ends where it is deleted.
            self.new.clear();
            if !self.is_current(all) {
                return Ok(false);
            }
            self.begin(Op::Delete, stamp, row, ordinal);
            self.builder.after().absent();
            self.old_image(all)?;
            return Ok(true);
        }
        let moved = self.key_differs(all);
        self.begin(if moved { Op::Move } else { Op::Update }, stamp, row, ordinal);
        if moved || self.identity == Identity::Full {
            self.old_image(all)?;
        } else {
            self.builder.before().absent();
        }
        self.new_image(all)?;
        Ok(true)
    }

    /// Notes where the columns of the row at the front of `rest` stand, and takes it off.
    fn walk(&mut self, image: Image, columns: Bitmap<'_>, partial: bool, all: &[u8], rest: &mut &[u8]) -> Result<(), RowsProblem> {
        let cut_off = |shape: &Shape| RowsProblem::Row { table: shape.table().clone(), problem: "it is cut off" };
        let diffs = if partial { self.partial_columns(rest).ok_or_else(|| cut_off(&self.shape))? } else { &[] };
        let nulls = null_bits(columns, rest).ok_or_else(|| cut_off(&self.shape))?;
        let slots = match image {
            Image::Old => &mut self.old,
            Image::New => &mut self.new,
        };
        slots.clear();
        let (mut present, mut documents) = (0, 0);
        let planned = self.shape.plan.iter().map(|planned| (planned.layout, matches!(planned.value, ValueType::Json)));
        let hidden = self.shape.hidden.iter().map(|layout| (*layout, false));
        for (index, (layout, is_document)) in planned.chain(hidden).enumerate() {
            // Bits stand for all documents of the table, whether or not they are in the image.
            let is_diff = is_document && bit(diffs, documents);
            documents += usize::from(is_document);
            if !columns.get(index) {
                slots.push(Slot::Absent);
                continue;
            }
            let is_null = bit(nulls, present);
            present += 1;
            if is_null {
                slots.push(Slot::Null);
                continue;
            }
            let data = layout.take(rest).ok_or_else(|| value_error(&self.shape, index, ValueProblem::Length))?;
            let end = (all.len() - rest.len()) as u32;
            let begin = end - data.len() as u32;
            slots.push(if is_diff { Slot::JsonDiff(begin, end) } else { Slot::Value(begin, end) });
        }
        Ok(())
    }

    /// Value options: bit 0 says that a bit for each document column follows, set where differences stand.
    fn partial_columns<'a>(&self, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
        let mut bytes = Bytes::new(rest, "a row");
        let options = bytes.packed().ok()?;
        let documents = self.shape.plan.iter().filter(|planned| matches!(planned.value, ValueType::Json)).count();
        let diffs = if options & 1 != 0 { bytes.take(documents.div_ceil(8)).ok()? } else { &[] };
        *rest = bytes.rest();
        Some(diffs)
    }

    /// Values are compared as they were sent: both images come from one event, in one form.
    fn key_differs(&self, all: &[u8]) -> bool {
        let columns = self.old.iter().zip(&self.new).zip(&self.shape.is_key);
        columns.filter(|(_, is_key)| **is_key).any(|((old, new), _)| match (old, new) {
            (Slot::Absent, _) | (_, Slot::Absent) => false,
            (Slot::Value(a, b), Slot::Value(c, d)) => bytes_of(all, *a, *b) != bytes_of(all, *c, *d),
            (old, new) => old != new,
        })
    }

    fn old_image(&mut self, all: &[u8]) -> Result<(), RowsProblem> {
        let columns = self.builder.before().present();
        let key_only = self.identity != Identity::Full;
        for (index, ((planned, column), slot)) in self.shape.plan.iter().zip(columns).zip(&self.old).enumerate() {
            match slot {
                Slot::Value(begin, end) if !key_only || self.shape.is_key[index] => {
                    append_binlog(&planned.value, bytes_of(all, *begin, *end), column, &mut self.scratch)
                        .map_err(|problem| value_error(&self.shape, index, problem))?;
                }
                _ => column.append_null(),
            }
        }
        Ok(())
    }

    fn new_image(&mut self, all: &[u8]) -> Result<(), RowsProblem> {
        let columns = self.builder.after().present();
        let mut any_unchanged = false;
        let slots = self.old.iter().zip(&mut self.new);
        for (index, ((planned, column), (old, new))) in self.shape.plan.iter().zip(columns).zip(slots).enumerate() {
            // What is not in the new image did not change.
            if *new == Slot::Absent {
                *new = *old;
            }
            match (*new, *old) {
                (Slot::Value(begin, end), _) => append_binlog(&planned.value, bytes_of(all, begin, end), column, &mut self.scratch),
                (Slot::JsonDiff(begin, end), Slot::Value(old_begin, old_end)) => {
                    append_patched(bytes_of(all, old_begin, old_end), bytes_of(all, begin, end), column)
                }
                (Slot::JsonDiff(..), _) => Err(ValueProblem::JsonBase),
                (Slot::Null, _) => {
                    column.append_null();
                    Ok(())
                }
                (Slot::Absent, _) => {
                    any_unchanged = true;
                    column.append_null();
                    Ok(())
                }
            }
            .map_err(|problem| value_error(&self.shape, index, problem))?;
        }
        if any_unchanged {
            for (index, slot) in self.new.iter().take(self.shape.plan.len()).enumerate() {
                if *slot == Slot::Absent {
                    self.builder.mark_unchanged(index);
                }
            }
        }
        Ok(())
    }

    /// A row of a snapshot: the payload of a text protocol packet, for each column its length-encoded bytes or 0xFB for NULL. After some rows
    /// [`stamp`](Self::stamp) must follow.
    #[inline]
    pub(crate) fn read(&mut self, stamp: &Stamp<'_>, packet: &[u8]) -> Result<(), RowsProblem> {
        self.begin(Op::Read, stamp, 0, stamp.ordinal);
        self.builder.before().absent();
        let columns = self.builder.after().present();
        let mut bytes = Bytes::new(packet, "a row");
        for (index, (planned, column)) in self.shape.plan.iter().zip(columns).enumerate() {
            if let [0xFB, ..] = bytes.rest() {
                column.append_null();
                bytes.take(1).map_err(|_| value_error(&self.shape, index, ValueProblem::Length))?;
                continue;
            }
            let data = bytes.packed_bytes().map_err(|_| value_error(&self.shape, index, ValueProblem::Length))?;
            append_text(&planned.value, data, column).map_err(|problem| value_error(&self.shape, index, problem))?;
        }
        if bytes.is_empty() { Ok(()) } else { Err(self.row_error("more columns than were asked for")) }
    }

    #[cold]
    fn row_error(&self, problem: &'static str) -> RowsProblem {
        RowsProblem::Row { table: self.shape.table().clone(), problem }
    }
}

/// Whether a row's end, as tables with system versioning have it, is that of a row that is there still: the last microsecond of the type, which MariaDB
/// 11.5 moved from 2038 to 2106.
fn is_end_of_time(end: &[u8]) -> bool {
    const LAST_MICROSECOND: [u8; 3] = [0x0F, 0x42, 0x3F];
    match end.split_first_chunk::<4>() {
        Some(([0x7F | 0xFF, 0xFF, 0xFF, 0xFF], fraction)) => fraction == LAST_MICROSECOND,
        _ => false,
    }
}

/// What became of an event's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// Rows of the event.
    pub seen: u32,
    /// Of these, rows that were not taken before.
    pub appended: u32,
}

/// Which image of a row.
#[derive(Debug, Clone, Copy)]
enum Image {
    Old,
    New,
}

fn append_patched(old: &[u8], diffs: &[u8], column: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    let ColumnBuilder::Text(out) = column else { return Err(ValueProblem::Mismatch) };
    json_diff::print_patched(old, diffs, out)?;
    out.append_value("");
    Ok(())
}

/// A bit for each column of the image: whether it is NULL.
#[inline]
fn null_bits<'a>(columns: Bitmap<'_>, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (nulls, behind) = rest.split_at_checked(columns.count().div_ceil(8))?;
    *rest = behind;
    Some(nulls)
}

#[inline]
fn bit(bits: &[u8], index: usize) -> bool {
    bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 != 0)
}

/// The bytes of a slot. Slots are made of lengths that were checked.
#[inline]
fn bytes_of(all: &[u8], begin: u32, end: u32) -> &[u8] {
    all.get(begin as usize..end as usize).unwrap_or_default()
}

#[cold]
fn value_error(shape: &Shape, index: usize, problem: ValueProblem) -> RowsProblem {
    let columns = shape.schema(Identity::Full).columns();
    let column = columns.get(index).map(|column| column.name.clone()).unwrap_or_default();
    RowsProblem::Value { table: shape.table().clone(), column, problem }
}
