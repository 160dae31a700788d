//! Row changes into Arrow builders.

use std::sync::Arc;

use connector_api::{ChangeBatch, ChangeBatchBuilder, ColumnBuilder, ColumnType, Op, OrderKey, SourceInfo};

use crate::{
    decode::{ValueProblem, ValueType, append_binary, append_text},
    error::PostgresError,
    lsn::Lsn,
    pgoutput::{Field, OldTuple, Tuple},
    relation::Shape,
};

/// The per-row columns of the `source` block, in this order: `txId`, `lsn` (where the change stands), `commit_lsn` (where its
/// transaction's commit record begins).
pub(crate) fn source_info(database: &str) -> Arc<SourceInfo> {
    let columns = ["txId", "lsn", "commit_lsn"].map(|name| (name.to_owned(), ColumnType::Int64));
    SourceInfo::new("postgresql", database, columns.to_vec(), Some(0))
}

/// What is noted of a change beside its row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    /// The change's place in its group.
    pub ordinal: u32,
    /// Microseconds since 1970.
    pub commit_ts_us: i64,
    /// `None` for rows of a snapshot.
    pub xid: Option<u32>,
    pub lsn: Lsn,
    /// `None` for rows of a snapshot.
    pub commit_lsn: Option<Lsn>,
}

/// The rows of one table that are being collected.
#[derive(Debug)]
pub(crate) struct TableRows {
    shape: Shape,
    builder: ChangeBatchBuilder,
    /// Columns of the present row that were not sent; kept for its memory.
    unchanged: Vec<usize>,
}

impl TableRows {
    pub(crate) fn new(shape: Shape, info: &Arc<SourceInfo>) -> Self {
        let builder = ChangeBatchBuilder::new(Arc::clone(&shape.schema), Arc::clone(info));
        Self { shape, builder, unchanged: Vec::new() }
    }

    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.builder.is_empty()
    }

    /// The rows so far.
    pub(crate) fn finish(&mut self) -> Result<ChangeBatch, PostgresError> {
        self.builder.finish().map_err(|cause| PostgresError::Batch { table: self.shape.schema.table().to_string(), cause })
    }

    #[inline]
    fn begin(&mut self, op: Op, stamp: &Stamp) {
        self.builder.begin(op, OrderKey { sequence: 0, ordinal: stamp.ordinal }, stamp.commit_ts_us);
        if let [ColumnBuilder::Int64(xid), ColumnBuilder::Int64(lsn), ColumnBuilder::Int64(commit_lsn)] = self.builder.source() {
            xid.append_option(stamp.xid.map(i64::from));
            lsn.append_value(stamp.lsn.0 as i64);
            commit_lsn.append_option(stamp.commit_lsn.map(|lsn| lsn.0 as i64));
        }
    }

    /// A change of the whole table.
    pub(crate) fn barrier(&mut self, op: Op, stamp: &Stamp) {
        self.begin(op, stamp);
        self.builder.before().absent();
        self.builder.after().absent();
    }

    #[inline]
    pub(crate) fn insert(&mut self, stamp: &Stamp, new: Tuple<'_>) -> Result<(), PostgresError> {
        self.begin(Op::Insert, stamp);
        self.builder.before().absent();
        self.new_image(new, None)
    }

    pub(crate) fn delete(&mut self, stamp: &Stamp, old: OldTuple<'_>) -> Result<(), PostgresError> {
        self.begin(Op::Delete, stamp);
        self.old_image(old.tuple)?;
        self.builder.after().absent();
        Ok(())
    }

    pub(crate) fn update(&mut self, stamp: &Stamp, old: Option<OldTuple<'_>>, new: Tuple<'_>) -> Result<(), PostgresError> {
        let moved = match old {
            Some(old) => self.key_differs(old.tuple, new)?,
            None => false,
        };
        self.begin(if moved { Op::Move } else { Op::Update }, stamp);
        match old {
            Some(old) if moved || old.whole => self.old_image(old.tuple)?,
            // An old key may be sent although it did not change: when it is stored out of line.
            _ => self.builder.before().absent(),
        }
        self.new_image(new, old)
    }

    /// Values are compared as they were sent: both images come from the same message, in the same form.
    fn key_differs(&self, old: Tuple<'_>, new: Tuple<'_>) -> Result<bool, PostgresError> {
        let (mut old, mut new) = (old.fields(), new.fields());
        for is_key in &self.shape.key {
            let (old, new) = (old.next()?, new.next()?);
            if *is_key && new != Some(Field::Unchanged) && old != new {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn old_image(&mut self, old: Tuple<'_>) -> Result<(), PostgresError> {
        check_count(&self.shape, old)?;
        let columns = self.builder.before().present();
        let mut fields = old.fields();
        for (index, (kind, column)) in self.shape.plan.iter().zip(columns).enumerate() {
            let Some(field) = fields.next()? else { break };
            append(kind, field, column).map_err(|problem| value_error(&self.shape, index, problem))?;
        }
        Ok(())
    }

    #[inline]
    fn new_image(&mut self, new: Tuple<'_>, old: Option<OldTuple<'_>>) -> Result<(), PostgresError> {
        check_count(&self.shape, new)?;
        let columns = self.builder.after().present();
        let mut fields = new.fields();
        let mut old_fields = old.map(|old| old.tuple.fields());
        for (index, (kind, column)) in self.shape.plan.iter().zip(columns).enumerate() {
            let Some(mut field) = fields.next()? else { break };
            let old_field = match &mut old_fields {
                Some(fields) => fields.next()?,
                None => None,
            };
            if field == Field::Unchanged {
                // Of an old key only the key's columns were sent: a NULL elsewhere says nothing.
                let sent = old.is_some_and(|old| old.whole || self.shape.relation.columns[index].key);
                field = old_field.filter(|_| sent).unwrap_or(field);
                if field == Field::Unchanged {
                    self.unchanged.push(index);
                }
            }
            append(kind, field, column).map_err(|problem| value_error(&self.shape, index, problem))?;
        }
        for index in self.unchanged.drain(..) {
            self.builder.mark_unchanged(index);
        }
        Ok(())
    }

    /// A row of `COPY … (FORMAT binary)`: for each column its length (-1 for NULL) and bytes. Returns the bytes behind it.
    #[inline]
    pub(crate) fn copied<'a>(&mut self, stamp: &Stamp, mut bytes: &'a [u8]) -> Result<&'a [u8], PostgresError> {
        self.begin(Op::Read, stamp);
        self.builder.before().absent();
        let columns = self.builder.after().present();
        for (index, (kind, column)) in self.shape.plan.iter().zip(columns).enumerate() {
            let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(cut_off)?;
            let len = i32::from_be_bytes(*len);
            if len == -1 {
                column.append_null();
                bytes = rest;
                continue;
            }
            let (value, rest) = usize::try_from(len).ok().and_then(|len| rest.split_at_checked(len)).ok_or_else(cut_off)?;
            append_binary(kind, value, column).map_err(|problem| value_error(&self.shape, index, problem))?;
            bytes = rest;
        }
        Ok(bytes)
    }
}

#[cold]
fn cut_off() -> PostgresError {
    PostgresError::protocol("a copied row that does not add up")
}

fn check_count(shape: &Shape, tuple: Tuple<'_>) -> Result<(), PostgresError> {
    if tuple.columns() == shape.plan.len() {
        return Ok(());
    }
    let (table, expected, found) = (shape.schema.table(), shape.plan.len(), tuple.columns());
    Err(PostgresError::protocol(format!("a row of {table} with {found} columns instead of {expected}")))
}

#[cold]
fn value_error(shape: &Shape, index: usize, problem: ValueProblem) -> PostgresError {
    let column = shape.schema.columns().get(index).map(|column| column.name.clone()).unwrap_or_default();
    PostgresError::Value { table: shape.schema.table().to_string(), column, problem: problem.to_string() }
}

#[inline]
fn append(kind: &ValueType, field: Field<'_>, column: &mut ColumnBuilder) -> Result<(), ValueProblem> {
    match field {
        Field::Binary(data) => append_binary(kind, data, column),
        Field::Text(data) => append_text(kind, data, column),
        Field::Null | Field::Unchanged => {
            column.append_null();
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use connector_api::{Column, Identity, TableName, TableSchema};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        pgoutput::{Message, parse},
        relation::{Relation, RelationColumn},
    };

    fn table() -> TableRows {
        let plan = vec![ValueType::Int4, ValueType::Text];
        let names = ["id", "a"];
        let column =
            |(name, kind): (&str, &ValueType)| Column { name: name.into(), kind: kind.column_type(), source_type: String::new() };
        let columns = names.into_iter().zip(&plan).map(column).collect();
        let schema = Arc::new(TableSchema::new(TableName::new("public", "t"), columns, vec![0], Identity::Key));
        let column = |(index, name): (usize, &str)| RelationColumn { key: index == 0, name: name.into(), type_oid: 0, typmod: -1 };
        let columns = names.into_iter().enumerate().map(column).collect();
        let relation = Relation { oid: 7, schema: "public".into(), name: "t".into(), identity: b'd', columns };
        TableRows::new(Shape { relation, schema, plan, key: vec![true, false] }, &source_info("d"))
    }

    const STAMP: Stamp = Stamp { ordinal: 0, commit_ts_us: 0, xid: Some(1), lsn: Lsn(1), commit_lsn: None };

    fn insert(table: &mut TableRows, message: &[u8]) -> Result<(), PostgresError> {
        match parse(message)? {
            Message::Insert { new, .. } => table.insert(&STAMP, new),
            Message::Update { old, new, .. } => table.update(&STAMP, old, new),
            Message::Delete { old, .. } => table.delete(&STAMP, old),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_row_of_another_shape_is_an_error() {
        let good = b"I\0\0\0\x07N\0\x02b\0\0\0\x04\0\0\0\x05n";
        let mut rows = table();
        insert(&mut rows, good).unwrap();
        assert_eq!(rows.finish().unwrap().len(), 1);
        for (message, expected) in [
            (&b"I\0\0\0\x07N\0\x01n"[..], "1 columns instead of 2"),
            (b"I\0\0\0\x07N\xFF\xFFnnn", "65535 columns instead of 2"),
            (b"I\0\0\0\x07N\0\x02b\0\0\0\x03\0\0\0n", "column `id`"),
            (b"I\0\0\0\x07N\0\x02nt\0\0\0\x01\xFF", "column `a`"),
            (b"D\0\0\0\x07K\0\x03nnn", "3 columns instead of 2"),
        ] {
            let error = insert(&mut table(), message).unwrap_err().to_string();
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }

    #[test]
    fn an_old_key_that_did_not_change_is_no_move() {
        let id = b"b\0\0\0\x04\0\0\0\x05";
        let mut rows = table();
        insert(&mut rows, &[b"U\0\0\0\x07K\0\x02".as_slice(), id, b"nN\0\x02", id, b"u"].concat()).unwrap();
        insert(&mut rows, &[b"U\0\0\0\x07K\0\x02".as_slice(), id, b"nN\0\x02uu"].concat()).unwrap();
        let batch = rows.finish().unwrap();
        assert_eq!(batch.ops, [Op::Update, Op::Update]);
        assert!(batch.before.is_none());
        let unchanged = batch.unchanged.unwrap();
        // The key's value is known from the old tuple; the other's is not.
        assert!(unchanged.contains(0, 1) && unchanged.contains(1, 1) && !unchanged.contains(1, 0));
    }

    proptest! {
        #[test]
        fn no_copied_row_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = table().copied(&STAMP, &bytes);
        }
    }
}
