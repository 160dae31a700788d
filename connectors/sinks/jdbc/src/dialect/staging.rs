//! Rows on their way into a stage: the temporary table that a flush is loaded into before statements merge it. What they are is the same for
//! all databases that have stages; how their bytes look is not.
use connector_api::Rows;

use crate::{
    append::{Beside, place},
    cell::{Cell, Values},
    collapse::{Kind, Net},
    error::JdbcError,
    flush::{Images, Place, RowRef},
};

/// Why a value cannot be stored.
pub(crate) type Refused = &'static str;

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

/// An error of loading a stage, whose columns have numbers: it is to say which column of the table it was.
pub(crate) fn named<'a>(mut error: JdbcError, name: impl Fn(usize) -> Option<&'a String>) -> JdbcError {
    if let JdbcError::Server { cause, .. } = &mut error {
        let number = cause.column.as_ref().and_then(|column| column.strip_prefix('c')?.parse::<usize>().ok());
        if let Some(name) = number.and_then(name) {
            cause.column = Some(name.clone());
        }
    }
    error
}

/// What staged rows ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Staged {
    /// All rows are plain upserts: their columns are all that is staged.
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

/// The bytes of rows, in the form that a database takes. The fields of a row come one after the other.
pub(crate) trait RowEncoder: Send {
    /// Begins a row of that many fields.
    fn begin(&mut self, fields: usize);

    /// Ends a row.
    fn end(&mut self);

    fn null(&mut self);

    /// What to do with the row: see [`stage_kind`].
    fn kind(&mut self, kind: i16);

    /// The number of the row in the flush.
    fn number(&mut self, number: i32);

    /// Which columns were not sent: an entry for each.
    fn mask(&mut self, unsent: &[bool]);

    /// A value of the column of that index.
    fn value(&mut self, column: usize, cell: Cell<'_>) -> Result<(), Refused>;
}

/// Rows that are made while earlier ones are on their way to the server.
pub(crate) trait NextRow<E>: Send {
    /// Appends the next row; false after the last one.
    fn next_row(&mut self, rows: &mut E) -> Result<bool, JdbcError>;
}

/// Says where a value is that was refused.
pub(crate) fn refused(images: &Images<'_>, at: RowRef, column: usize, reason: Refused) -> JdbcError {
    let (partition, offset) = images.offset(at);
    let column = images.schema().columns().get(column).map(|column| column.name.clone()).unwrap_or_default();
    JdbcError::Unrepresentable { table: images.table().to_owned(), column, partition, offset, reason }
}

/// The row that a place is in.
pub(crate) fn row_of(place: Place, default: RowRef) -> RowRef {
    match place {
        Place::After(at) | Place::Before(at) => at,
        Place::Target => default,
    }
}

/// Writes what a flush comes to as rows for the stage, one at a time. A plain row is its columns; any other one is its kind, its number, its mask
/// (NULL if all columns were sent), the key that it had if it moved, and its columns.
#[derive(Debug)]
pub(crate) struct StageRows<'a> {
    images: &'a Images<'a>,
    net: &'a Net,
    plain: bool,
    unsent: Vec<bool>,
    number: usize,
}

impl<'a> StageRows<'a> {
    pub(crate) fn new(images: &'a Images<'a>, net: &'a Net, staged: Staged) -> Self {
        Self { images, net, plain: staged.plain, unsent: Vec::new(), number: 0 }
    }
}

impl<E: RowEncoder> NextRow<E> for StageRows<'_> {
    fn next_row(&mut self, rows: &mut E) -> Result<bool, JdbcError> {
        let (images, net) = (self.images, self.net);
        let Some(row) = net.rows.get(self.number) else { return Ok(false) };
        let (key, columns) = (images.schema().key(), images.schema().columns().len());
        if self.plain {
            rows.begin(columns);
        } else {
            rows.begin(3 + key.len() + columns);
            rows.kind(stage_kind(row.kind));
            rows.number(self.number as i32);
            if matches!(row.kind, Kind::Patch | Kind::Move) && net.lacks_columns(row) {
                self.unsent.clear();
                self.unsent.extend((0..columns).map(|index| net.place(row, index) == Place::Target));
                rows.mask(&self.unsent);
            } else {
                rows.null();
            }
            for &column in key {
                match row.origin {
                    Some(at) => rows
                        .value(column, images.cell(Place::Before(at), column))
                        .map_err(|reason| refused(images, at, column, reason))?,
                    None => rows.null(),
                }
            }
        }
        for index in 0..columns {
            if row.kind == Kind::Delete && !key.contains(&index) {
                rows.null();
                continue;
            }
            let place = net.place(row, index);
            rows.value(index, images.cell(place, index))
                .map_err(|reason| refused(images, row_of(place, row.last), index, reason))?;
        }
        rows.end();
        self.number += 1;
        Ok(true)
    }
}

/// Writes all changes as rows of an `append` table, one at a time.
#[derive(Debug)]
pub(crate) struct AppendRows<'a> {
    images: &'a Images<'a>,
    /// For each batch the number of its rows, and the columns beside them.
    parts: Vec<(usize, Vec<Values<'a>>)>,
    batch: usize,
    row: usize,
}

impl<'a> AppendRows<'a> {
    /// `beside` has an entry for each batch of the images.
    pub(crate) fn new(images: &'a Images<'a>, beside: &'a [Beside]) -> Result<Self, JdbcError> {
        let part = |(rows, beside): (&Rows, &'a Beside)| Ok((rows.batch.len(), beside.values(images.table())?));
        let parts = images.rows().zip(beside).map(part).collect::<Result<_, JdbcError>>()?;
        Ok(Self { images, parts, batch: 0, row: 0 })
    }
}

impl<E: RowEncoder> NextRow<E> for AppendRows<'_> {
    fn next_row(&mut self, rows: &mut E) -> Result<bool, JdbcError> {
        let images = self.images;
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
        rows.begin(own + values.len());
        for index in 0..own {
            rows.value(index, images.cell(place, index)).map_err(|reason| refused(images, at, index, reason))?;
        }
        for (index, values) in values.iter().enumerate() {
            rows.value(own + index, values.cell(self.row)).map_err(|reason| refused(images, at, own + index, reason))?;
        }
        rows.end();
        self.row += 1;
        Ok(true)
    }
}
