use std::sync::Arc;

use arrow_array::{Array, StructArray};
use connector_api::{Identity, NextOffsets, Offset, Rows, TableSchema};

use crate::{
    cell::{Cell, Values},
    error::JdbcError,
    offsets::Held,
};

/// All that one transaction is to do to a table: nothing of it without the rest.
#[derive(Debug)]
pub(crate) struct Flush {
    /// Empty the table first.
    pub truncate: bool,
    /// The rows, after that; all of one schema.
    pub rows: Vec<Rows>,
    /// The offset rows as this writer left them: anything else means that another one took over.
    pub held: Held,
    /// What the offset rows move to. Partitions that are missing stay.
    pub next: NextOffsets,
}

impl Flush {
    /// The shape of the rows, if there are any.
    pub(crate) fn schema(&self) -> Option<&Arc<TableSchema>> {
        self.rows.first().map(|rows| &rows.batch.schema)
    }
}

/// One row of a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowRef {
    pub batch: u32,
    pub row: u32,
}

/// Where a column's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the new image of a row.
    After(RowRef),
    /// In the old image of a row.
    Before(RowRef),
    /// In the table, and nowhere else.
    Target,
}

/// The images of one batch, ready to be read by row and column.
#[derive(Debug)]
struct BatchImages<'a> {
    rows: &'a Rows,
    before: Option<Image<'a>>,
    after: Option<Image<'a>>,
}

#[derive(Debug)]
struct Image<'a> {
    whole: &'a StructArray,
    columns: Vec<Values<'a>>,
}

/// The images of all rows of a flush.
#[derive(Debug)]
pub(crate) struct Images<'a> {
    table: &'a str,
    schema: &'a TableSchema,
    batches: Vec<BatchImages<'a>>,
}

impl<'a> Images<'a> {
    /// Checks that the arrays have the schema's types. `table` is for messages.
    pub(crate) fn new(table: &'a str, schema: &'a TableSchema, rows: &'a [Rows]) -> Result<Self, JdbcError> {
        let bad = |what: &str| JdbcError::BadBatch { table: table.to_owned(), what: what.to_owned() };
        let mut batches = Vec::with_capacity(rows.len());
        for rows in rows {
            let batch = &rows.batch;
            if *batch.schema != *schema {
                return Err(bad("two schemas in one flush"));
            }
            if rows.offsets.len() != batch.len() || batch.orders.len() != batch.len() || batch.commit_ts_us.len() != batch.len() {
                return Err(bad("lists of different length"));
            }
            let image = |image: &'a Option<StructArray>| -> Result<Option<Image<'a>>, JdbcError> {
                let Some(whole) = image else { return Ok(None) };
                if whole.len() != batch.len() || whole.num_columns() != schema.columns().len() {
                    return Err(bad("an image with another number of rows or columns"));
                }
                let columns = schema.columns().iter().zip(whole.columns()).map(|(column, array)| {
                    Values::new(&column.kind, array.as_ref())
                        .ok_or_else(|| bad(&format!("column `{}` is no {:?}", column.name, column.kind)))
                });
                Ok(Some(Image { whole, columns: columns.collect::<Result<_, _>>()? }))
            };
            batches.push(BatchImages { rows, before: image(&batch.before)?, after: image(&batch.after)? });
        }
        Ok(Self { table, schema, batches })
    }

    pub(crate) fn schema(&self) -> &'a TableSchema {
        self.schema
    }

    pub(crate) fn table(&self) -> &'a str {
        self.table
    }

    /// The batches' rows.
    pub(crate) fn rows(&self) -> impl ExactSizeIterator<Item = &'a Rows> {
        self.batches.iter().map(|batch| batch.rows)
    }

    /// The value at a place; NULL for one that is in the table only, or out of range.
    #[inline]
    pub(crate) fn cell(&self, place: Place, column: usize) -> Cell<'_> {
        let (image, at) = match place {
            Place::After(at) => (self.batches.get(at.batch as usize).and_then(|batch| batch.after.as_ref()), at),
            Place::Before(at) => (self.batches.get(at.batch as usize).and_then(|batch| batch.before.as_ref()), at),
            Place::Target => return Cell::Null,
        };
        image.and_then(|image| image.columns.get(column)).map_or(Cell::Null, |values| values.cell(at.row as usize))
    }

    /// Whether the row has a new image.
    pub(crate) fn has_after(&self, at: RowRef) -> bool {
        self.batches
            .get(at.batch as usize)
            .and_then(|batch| batch.after.as_ref())
            .is_some_and(|i| i.whole.is_valid(at.row as usize))
    }

    /// Whether the row has an old image.
    pub(crate) fn has_before(&self, at: RowRef) -> bool {
        self.batches
            .get(at.batch as usize)
            .and_then(|batch| batch.before.as_ref())
            .is_some_and(|i| i.whole.is_valid(at.row as usize))
    }

    /// Whether columns of the row's new image were not sent.
    #[inline]
    pub(crate) fn is_partial(&self, at: RowRef) -> bool {
        let set = self.batches.get(at.batch as usize).and_then(|batch| batch.rows.batch.unchanged.as_ref());
        set.is_some_and(|set| set.any(at.row as usize))
    }

    /// Where the new value of a column is, as far as its own row knows: the old image has what the new one lacks if it is a whole one, or if
    /// the column belongs to the key.
    #[inline]
    pub(crate) fn place(&self, at: RowRef, column: usize) -> Place {
        let set = self.batches.get(at.batch as usize).and_then(|batch| batch.rows.batch.unchanged.as_ref());
        if !set.is_some_and(|set| set.contains(at.row as usize, column)) {
            return Place::After(at);
        }
        let known = self.schema.identity() == Identity::Full || self.schema.key().contains(&column);
        if known && self.has_before(at) { Place::Before(at) } else { Place::Target }
    }

    /// The offset of a row and its partition, for messages.
    pub(crate) fn offset(&self, at: RowRef) -> (connector_api::PartitionId, Offset) {
        let rows = self.batches.get(at.batch as usize).map(|batch| batch.rows);
        rows.map_or((-1, -1), |rows| (rows.partition, rows.offsets.get(at.row as usize).copied().unwrap_or(-1)))
    }
}
