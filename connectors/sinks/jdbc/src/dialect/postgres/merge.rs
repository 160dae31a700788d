//! The statements that merge staged rows into a table, and the rows as they are staged.
//!
//! The order in which they run makes moves safe, however they chain: what the table alone knows of moved rows is saved, then all keys that
//! go away or change hands are deleted, then rows are written.
use connector_api::Rows;

use super::{copy::CopyRows, shape::Shape};
use crate::{
    append::{Beside, place},
    cell::Values,
    collapse::{Kind, Net, NetRow},
    error::JdbcError,
    flush::{Images, Place, RowRef},
    table::{TargetTable, quote, quote_all},
};

/// The number that stands for what to do with a staged row.
pub(crate) const fn stage_kind(kind: Kind) -> i16 {
    match kind {
        Kind::Upsert => 0,
        Kind::Replace => 1,
        Kind::Patch => 2,
        Kind::Move => 3,
        Kind::Delete => 4,
    }
}

/// The temporary table that holds moved rows as they were. It ends with the transaction.
const MOVED: &str = "pg_temp.mainstem_moved";

/// The statements for one table, shape and stage.
#[derive(Debug)]
pub(crate) struct MergeSql {
    /// Takes the columns only: all rows are upserts.
    pub copy_plain: String,
    pub copy_full: String,
    pub upsert_plain: String,
    pub upsert: String,
    pub delete: String,
    /// Finds a staged row that needs a row which is not there.
    pub missing_patch: String,
    pub patch: Option<String>,
    pub save_moved: String,
    pub missing_moved: String,
    pub insert_moved: String,
    /// Adds all staged rows, for tables without a key.
    pub append: String,
}

/// A staged column as it is assigned.
fn staged(shape: &Shape, index: usize) -> String {
    match shape.columns.get(index).and_then(|column| column.cast.as_ref()) {
        Some(cast) => format!("s.c{index}::{cast}"),
        None => format!("s.c{index}"),
    }
}

/// `left.key = staged key`, for each key column. `old`: the key that a moved row had.
fn same_key(shape: &Shape, left: &str, old: bool) -> String {
    let one = |(number, &index): (usize, &usize)| {
        let column = shape.columns.get(index)?;
        let cast = column.cast.as_ref().map(|cast| format!("::{cast}")).unwrap_or_default();
        let right = if old { format!("s.o{number}{cast}") } else { format!("s.c{index}{cast}") };
        Some(format!("{left}.{} = {right}", quote(&column.name)))
    };
    shape.key.iter().enumerate().filter_map(one).collect::<Vec<_>>().join(" AND ")
}

/// What an insert does with a row that is there.
pub(crate) fn conflict(shape: &Shape) -> String {
    let name = |index: usize| shape.columns.get(index).map(|column| quote(&column.name)).unwrap_or_default();
    let key: Vec<String> = shape.key.iter().map(|&index| name(index)).collect();
    let rest = (0..shape.columns.len()).filter(|index| !shape.key.contains(index));
    let sets: Vec<String> = rest.map(|index| format!("{0} = EXCLUDED.{0}", name(index))).collect();
    let action = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) };
    format!("ON CONFLICT ({}) DO {action}", key.join(", "))
}

impl MergeSql {
    pub(crate) fn new(table: &TargetTable, shape: &Shape, stage: &str) -> Self {
        let table = &table.sql;
        let count = shape.columns.len();
        let names: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
        let columns = quote_all(names.iter().copied());
        let numbers = (0..count).map(|index| format!("c{index}")).collect::<Vec<_>>().join(", ");
        let values = (0..count).map(|index| staged(shape, index)).collect::<Vec<_>>().join(", ");
        let conflict = conflict(shape);
        let old_key = (0..shape.key.len()).map(|number| format!("o{number}, ")).collect::<String>();
        let rest: Vec<usize> = (0..count).filter(|index| !shape.key.contains(index)).collect();
        let name = |index: usize| names.get(index).map(|name| quote(name)).unwrap_or_default();

        let upsert = |filter: &str| format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {stage} s{filter} {conflict}");
        let or_theirs = |index: usize, theirs: &str| {
            let staged = staged(shape, index);
            if shape.key.contains(&index) {
                staged
            } else {
                format!("CASE WHEN get_bit(s.m, {index}) = 1 THEN {theirs}.{} ELSE {staged} END", name(index))
            }
        };
        let sets: Vec<String> = rest.iter().map(|&index| format!("{} = {}", name(index), or_theirs(index, "t"))).collect();
        let (now, old) = (same_key(shape, "t", false), same_key(shape, "t", true));
        let moved_key = same_key(shape, "m", true);
        let others = shape.others.iter().map(|other| format!(", {}", quote(other))).collect::<String>();
        let their_others = shape.others.iter().map(|other| format!(", m.{}", quote(other))).collect::<String>();
        let moved_values: Vec<String> = (0..count).map(|index| or_theirs(index, "m")).collect();
        Self {
            copy_plain: format!("COPY {stage} ({numbers}) FROM STDIN (FORMAT binary)"),
            copy_full: format!("COPY {stage} (k, n, m, {old_key}{numbers}) FROM STDIN (FORMAT binary)"),
            upsert_plain: upsert(""),
            upsert: upsert(" WHERE s.k IN (0, 1)"),
            delete: format!("DELETE FROM {table} t USING {stage} s WHERE s.k IN (1, 3, 4) AND {now}"),
            missing_patch: format!(
                "SELECT s.n FROM {stage} s WHERE s.k = 2 AND NOT EXISTS (SELECT FROM {table} t WHERE {now}) LIMIT 1"
            ),
            patch: (!sets.is_empty())
                .then(|| format!("UPDATE {table} t SET {} FROM {stage} s WHERE s.k = 2 AND {now}", sets.join(", "))),
            // The table is new to each transaction and joined as a whole, which is where hashing is best.
            save_moved: format!(
                "CREATE TEMPORARY TABLE {MOVED} ON COMMIT DROP AS SELECT t.* FROM {stage} s JOIN {table} t ON {old} WHERE s.k = 3; \
                 SET LOCAL enable_hashjoin = on"
            ),
            missing_moved: format!(
                "SELECT s.n FROM {stage} s LEFT JOIN {MOVED} m ON {moved_key} \
                 WHERE s.k = 3 AND s.m IS NOT NULL AND m.{} IS NULL LIMIT 1",
                shape.key.first().map(|&index| name(index)).unwrap_or_default()
            ),
            insert_moved: format!(
                "INSERT INTO {table} ({columns}{others}) SELECT {}{their_others} FROM {stage} s LEFT JOIN {MOVED} m ON {moved_key} \
                 WHERE s.k = 3; SET LOCAL enable_hashjoin = off",
                moved_values.join(", ")
            ),
            append: format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {stage} s"),
        }
    }
}

/// Rows that are made while earlier ones are on their way to the server.
pub(crate) trait NextRow: Send {
    /// Appends the next row; false after the last one.
    fn next_row(&mut self, rows: &mut CopyRows) -> Result<bool, JdbcError>;
}

/// What staged rows ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Staged {
    /// All rows are plain upserts: see [`MergeSql::copy_plain`].
    pub plain: bool,
    pub deletes: bool,
    pub patches: bool,
    pub moves: bool,
    pub upserts: bool,
}

impl Staged {
    pub(crate) fn of(net: &Net) -> Self {
        let is = |kind: Kind| net.rows.iter().any(|row| row.kind == kind);
        Self {
            plain: net.rows.iter().all(|row| row.kind == Kind::Upsert),
            deletes: is(Kind::Delete) || is(Kind::Replace) || is(Kind::Move),
            patches: is(Kind::Patch),
            moves: is(Kind::Move),
            upserts: is(Kind::Upsert) || is(Kind::Replace),
        }
    }
}

/// Says where a value is that was refused.
pub(crate) fn refused(images: &Images<'_>, shape: &Shape, at: RowRef, column: usize, reason: &'static str) -> JdbcError {
    let (partition, offset) = images.offset(at);
    let column = shape.columns.get(column).map(|column| column.name.clone()).unwrap_or_default();
    JdbcError::Unrepresentable { table: images.table().to_owned(), column, partition, offset, reason }
}

/// The row that a place is in.
pub(crate) fn row_of(place: Place, default: RowRef) -> RowRef {
    match place {
        Place::After(at) | Place::Before(at) => at,
        Place::Target => default,
    }
}

/// Writes what a flush comes to as rows for the stage, one at a time.
#[derive(Debug)]
pub(crate) struct StageRows<'a> {
    images: &'a Images<'a>,
    net: &'a Net,
    shape: &'a Shape,
    plain: bool,
    mask: Vec<u8>,
    number: usize,
}

impl<'a> StageRows<'a> {
    pub(crate) fn new(images: &'a Images<'a>, net: &'a Net, shape: &'a Shape, staged: Staged) -> Self {
        Self { images, net, shape, plain: staged.plain, mask: vec![0; shape.columns.len().div_ceil(8)], number: 0 }
    }
}

impl NextRow for StageRows<'_> {
    fn next_row(&mut self, rows: &mut CopyRows) -> Result<bool, JdbcError> {
        let (images, net, shape) = (self.images, self.net, self.shape);
        let Some(row) = net.rows.get(self.number) else { return Ok(false) };
        if self.plain {
            rows.begin(shape.columns.len());
        } else {
            rows.begin(3 + shape.key.len() + shape.columns.len());
            rows.int2(stage_kind(row.kind));
            rows.int4(self.number as i32);
            write_mask(rows, &mut self.mask, net, row);
            for &column in &shape.key {
                let Some(kind) = shape.columns.get(column).map(|column| &column.staged) else { continue };
                match row.origin {
                    Some(at) => rows
                        .value(kind, images.cell(Place::Before(at), column))
                        .map_err(|reason| refused(images, shape, at, column, reason))?,
                    None => rows.null(),
                }
            }
        }
        for (index, column) in shape.columns.iter().enumerate() {
            if row.kind == Kind::Delete && !shape.key.contains(&index) {
                rows.null();
                continue;
            }
            let place = net.place(row, index);
            rows.value(&column.staged, images.cell(place, index))
                .map_err(|reason| refused(images, shape, row_of(place, row.last), index, reason))?;
        }
        self.number += 1;
        Ok(true)
    }
}

fn write_mask(rows: &mut CopyRows, mask: &mut [u8], net: &Net, row: &NetRow) {
    if !matches!(row.kind, Kind::Patch | Kind::Move) || !net.lacks_columns(row) {
        return rows.null();
    }
    mask.fill(0);
    for (byte, bits) in mask.iter_mut().enumerate() {
        for bit in 0..8 {
            // Beyond the last column every place is the target's: those bits are never read.
            *bits |= u8::from(net.place(row, byte * 8 + bit) == Place::Target) << bit;
        }
    }
    rows.bytea(mask);
}

/// Writes all changes as rows of an `append` table, one at a time.
#[derive(Debug)]
pub(crate) struct AppendRows<'a> {
    images: &'a Images<'a>,
    shape: &'a Shape,
    /// For each batch the number of its rows, and the columns beside them.
    parts: Vec<(usize, Vec<Values<'a>>)>,
    batch: usize,
    row: usize,
}

impl<'a> AppendRows<'a> {
    /// `beside` has an entry for each batch of the images.
    pub(crate) fn new(images: &'a Images<'a>, beside: &'a [Beside], shape: &'a Shape) -> Result<Self, JdbcError> {
        let part = |(rows, beside): (&Rows, &'a Beside)| Ok((rows.batch.len(), beside.values(images.table())?));
        let parts = images.rows().zip(beside).map(part).collect::<Result<_, JdbcError>>()?;
        Ok(Self { images, shape, parts, batch: 0, row: 0 })
    }
}

impl NextRow for AppendRows<'_> {
    fn next_row(&mut self, rows: &mut CopyRows) -> Result<bool, JdbcError> {
        let (images, shape) = (self.images, self.shape);
        let own = images.schema().columns().len();
        let values = loop {
            match self.parts.get(self.batch) {
                None => return Ok(false),
                Some((len, values)) if self.row < *len => break values,
                Some(_) => (self.batch, self.row) = (self.batch + 1, 0),
            }
        };
        let at = RowRef { batch: self.batch as u32, row: self.row as u32 };
        let place = place(images, at);
        rows.begin(shape.columns.len());
        for (index, column) in shape.columns.iter().enumerate() {
            let cell = match index.checked_sub(own).and_then(|index| values.get(index)) {
                Some(values) => values.cell(self.row),
                None => images.cell(place, index),
            };
            rows.value(&column.staged, cell).map_err(|reason| refused(images, shape, at, index, reason))?;
        }
        self.row += 1;
        Ok(true)
    }
}
