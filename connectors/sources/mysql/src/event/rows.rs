use super::{Bytes, EventProblem, code, payload};

/// What a rows event does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowsOp {
    Insert,
    Update,
    Delete,
}

/// One bit a column, the lowest bit first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bitmap<'a> {
    bytes: &'a [u8],
    len: usize,
}

impl<'a> Bitmap<'a> {
    #[inline]
    fn take(bytes: &mut Bytes<'a>, len: usize) -> Result<Self, EventProblem> {
        Ok(Self { bytes: bytes.take(len.div_ceil(8))?, len })
    }

    /// Whether the bit is set; false beyond the end.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> bool {
        self.bytes.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 != 0)
    }

    /// How many bits are set.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        let whole = self.len / 8;
        let mask = (1u8 << (self.len % 8)).wrapping_sub(1);
        let tail = self.bytes.get(whole).map_or(0, |byte| (byte & mask).count_ones());
        self.bytes.iter().take(whole).map(|byte| byte.count_ones()).sum::<u32>() as usize + tail as usize
    }

    /// Whether all bits are set.
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.count() == self.len
    }
}

/// Changed rows of one table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowsEvent<'a> {
    /// Names the table map that describes the rows.
    pub table_id: u64,
    /// The statement ends with this event: table maps are void after it.
    pub ends_statement: bool,
    pub op: RowsOp,
    /// Each new image is preceded by its value options: JSON columns may be given as differences.
    pub partial: bool,
    /// Number of columns of the table.
    pub columns: usize,
    /// The columns that old images hold: of updates and deletes. Without a bit in inserts.
    pub before: Bitmap<'a>,
    /// The columns that new images hold: of inserts and updates. Without a bit in deletes.
    pub after: Bitmap<'a>,
    /// The rows, one behind the other; an update's old image stands before its new one.
    pub rows: &'a [u8],
}

impl<'a> RowsEvent<'a> {
    const WHAT: &'static str = "a rows event";

    /// The id that says that no table map is named: an event that only ends a statement.
    pub(crate) const NO_TABLE: u64 = 0x00FF_FFFF;

    #[inline]
    pub(super) fn parse(event_type: u8, body: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Self, EventProblem> {
        let (op, has_extra_data, compressed) = match event_type {
            code::WRITE_ROWS => (RowsOp::Insert, true, false),
            code::UPDATE_ROWS | code::PARTIAL_UPDATE_ROWS => (RowsOp::Update, true, false),
            code::DELETE_ROWS => (RowsOp::Delete, true, false),
            code::WRITE_ROWS_V1 => (RowsOp::Insert, false, false),
            code::UPDATE_ROWS_V1 => (RowsOp::Update, false, false),
            code::DELETE_ROWS_V1 => (RowsOp::Delete, false, false),
            code::WRITE_ROWS_COMPRESSED_V1 => (RowsOp::Insert, false, true),
            code::UPDATE_ROWS_COMPRESSED_V1 => (RowsOp::Update, false, true),
            code::DELETE_ROWS_COMPRESSED_V1 => (RowsOp::Delete, false, true),
            code::WRITE_ROWS_COMPRESSED => (RowsOp::Insert, true, true),
            code::UPDATE_ROWS_COMPRESSED => (RowsOp::Update, true, true),
            code::DELETE_ROWS_COMPRESSED => (RowsOp::Delete, true, true),
            other => return Err(EventProblem::Unknown(other)),
        };
        let mut bytes = Bytes::new(body, Self::WHAT);
        let table_id = bytes.u48()?;
        let flags = bytes.u16()?;
        if has_extra_data {
            // The length counts its own two bytes.
            let extra_len = usize::from(bytes.u16()?).checked_sub(2);
            bytes.take(extra_len.ok_or(EventProblem::CutOff(Self::WHAT))?)?;
        }
        let columns = bytes.packed_len()?;
        let none = Bitmap { bytes: &[], len: columns };
        let first = Bitmap::take(&mut bytes, columns)?;
        let (before, after) = match op {
            RowsOp::Insert => (none, first),
            RowsOp::Update => (first, Bitmap::take(&mut bytes, columns)?),
            RowsOp::Delete => (first, none),
        };
        let rows = if compressed {
            payload::decompress_mariadb(bytes.rest(), Self::WHAT, scratch)?;
            scratch
        } else {
            bytes.rest()
        };
        let partial = event_type == code::PARTIAL_UPDATE_ROWS;
        Ok(Self { table_id, ends_statement: flags & 1 != 0, op, partial, columns, before, after, rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_two_has_extra_data() {
        let v1 = [7, 0, 0, 0, 0, 0, 1, 0, 2, 0b11, 0xFC, 1, 2, 3];
        let mut scratch = Vec::new();
        let event = RowsEvent::parse(code::WRITE_ROWS_V1, &v1, &mut scratch).unwrap();
        assert_eq!((event.table_id, event.ends_statement, event.columns, event.rows), (7, true, 2, &[0xFC, 1, 2, 3][..]));
        assert!(event.after.is_full() && !event.before.get(0) && event.before.count() == 0);
        let v2 = [7, 0, 0, 0, 0, 0, 0, 0, 5, 0, 9, 9, 9, 2, 0b01, 0b10, 0xFF];
        let mut scratch = Vec::new();
        let event = RowsEvent::parse(code::UPDATE_ROWS, &v2, &mut scratch).unwrap();
        assert!(!event.ends_statement && event.before.get(0) && !event.before.get(1) && !event.after.get(0) && event.after.get(1));
        assert_eq!(event.rows, [0xFF]);
        for len in 0..v2.len() - 1 {
            assert!(RowsEvent::parse(code::UPDATE_ROWS, &v2[..len], &mut Vec::new()).is_err(), "{len}");
        }
        assert!(RowsEvent::parse(code::WRITE_ROWS, &[7, 0, 0, 0, 0, 0, 0, 0, 1, 0], &mut Vec::new()).is_err());
    }

    #[test]
    fn bits_beyond_the_last_column_do_not_count() {
        let bitmap = Bitmap { bytes: &[0xFF, 0b1111_1011], len: 11 };
        assert_eq!((bitmap.count(), bitmap.is_full(), bitmap.get(10), bitmap.get(99)), (10, false, false, false));
        assert!(Bitmap { bytes: &[0xFF], len: 8 }.is_full());
        assert!(Bitmap { bytes: &[], len: 0 }.is_full());
    }
}
