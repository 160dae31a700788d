//! The messages of the output plug-in `pgoutput`, protocol version 1 (2 to 4 differ only in messages that are asked for by options that
//! we do not set): <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>. All integers are big-endian.

use crate::{
    error::PostgresError,
    lsn::Lsn,
    relation::{Relation, RelationColumn},
};

/// A message; tuples stay where they are.
#[derive(Debug)]
pub(crate) enum Message<'a> {
    Begin {
        /// Where the transaction's commit record begins: transactions arrive in this order.
        final_lsn: Lsn,
        /// Microseconds since 2000.
        commit_ts: i64,
        xid: u32,
    },
    Commit {
        /// Where the commit record ends: all transactions after this one have a greater `final_lsn`.
        end_lsn: Lsn,
    },
    Relation(Relation),
    Insert {
        oid: u32,
        new: Tuple<'a>,
    },
    Update {
        oid: u32,
        old: Option<OldTuple<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        oid: u32,
        old: OldTuple<'a>,
    },
    Truncate {
        oids: Vec<u32>,
    },
    /// Types, origins and messages of applications.
    Other,
}

/// The old version of a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OldTuple<'a> {
    /// All columns were sent, not only the replica identity's.
    pub whole: bool,
    pub tuple: Tuple<'a>,
}

/// A row's columns in their bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tuple<'a> {
    count: u16,
    bytes: &'a [u8],
}

/// A column's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field<'a> {
    Null,
    /// Stored out of line and not changed: the server did not send it.
    Unchanged,
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

#[cold]
fn malformed() -> PostgresError {
    PostgresError::protocol("a message of pgoutput that does not add up")
}

/// Takes big-endian values off the front of some bytes.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    fn take<const N: usize>(&mut self) -> Result<[u8; N], PostgresError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or_else(malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    #[inline]
    fn u8(&mut self) -> Result<u8, PostgresError> {
        Ok(self.take::<1>()?[0])
    }

    #[inline]
    fn u16(&mut self) -> Result<u16, PostgresError> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    #[inline]
    fn u32(&mut self) -> Result<u32, PostgresError> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    #[inline]
    fn u64(&mut self) -> Result<u64, PostgresError> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    fn text(&mut self) -> Result<String, PostgresError> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(malformed)?;
        let text = std::str::from_utf8(&self.0[..end]).map_err(|_| malformed())?;
        self.0 = &self.0[end + 1..];
        Ok(text.to_owned())
    }

    /// The tuple that begins here and ends with the message.
    #[inline]
    fn last_tuple(&mut self) -> Result<Tuple<'a>, PostgresError> {
        Ok(Tuple { count: self.u16()?, bytes: self.0 })
    }

    /// The tuple that begins here; goes on behind it.
    fn tuple(&mut self) -> Result<Tuple<'a>, PostgresError> {
        let tuple = self.last_tuple()?;
        let mut fields = tuple.fields();
        while fields.next()?.is_some() {}
        self.0 = fields.bytes;
        Ok(tuple)
    }
}

impl<'a> Tuple<'a> {
    /// How many columns there are, as the tuple says.
    pub(crate) fn columns(&self) -> usize {
        usize::from(self.count)
    }

    #[inline]
    pub(crate) fn fields(&self) -> Fields<'a> {
        Fields { left: self.count, bytes: self.bytes }
    }
}

/// Walks the columns of a tuple.
pub(crate) struct Fields<'a> {
    left: u16,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The next column; `None` behind the last.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Field<'a>>, PostgresError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let (kind, rest) = self.bytes.split_first().ok_or_else(malformed)?;
        self.bytes = rest;
        if !matches!(kind, b'b' | b't') {
            return match kind {
                b'n' => Ok(Some(Field::Null)),
                b'u' => Ok(Some(Field::Unchanged)),
                _ => Err(malformed()),
            };
        }
        let (len, rest) = self.bytes.split_first_chunk::<4>().ok_or_else(malformed)?;
        let (value, rest) = rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or_else(malformed)?;
        self.bytes = rest;
        Ok(Some(if *kind == b'b' { Field::Binary(value) } else { Field::Text(value) }))
    }
}

/// Reads one message.
#[inline]
pub(crate) fn parse(bytes: &[u8]) -> Result<Message<'_>, PostgresError> {
    let mut cursor = Cursor(bytes);
    Ok(match cursor.u8()? {
        b'I' => {
            let oid = cursor.u32()?;
            expect(cursor.u8()?, b'N')?;
            Message::Insert { oid, new: cursor.last_tuple()? }
        }
        b'U' => {
            let oid = cursor.u32()?;
            let kind = cursor.u8()?;
            let old = match kind {
                b'N' => None,
                b'K' | b'O' => {
                    let old = OldTuple { whole: kind == b'O', tuple: cursor.tuple()? };
                    expect(cursor.u8()?, b'N')?;
                    Some(old)
                }
                _ => return Err(malformed()),
            };
            Message::Update { oid, old, new: cursor.last_tuple()? }
        }
        b'D' => {
            let oid = cursor.u32()?;
            let kind = cursor.u8()?;
            if !matches!(kind, b'K' | b'O') {
                return Err(malformed());
            }
            Message::Delete { oid, old: OldTuple { whole: kind == b'O', tuple: cursor.last_tuple()? } }
        }
        b'B' => {
            let final_lsn = Lsn(cursor.u64()?);
            Message::Begin { final_lsn, commit_ts: cursor.u64()? as i64, xid: cursor.u32()? }
        }
        b'C' => {
            let _flags = cursor.u8()?;
            let _final_lsn = cursor.u64()?;
            Message::Commit { end_lsn: Lsn(cursor.u64()?) }
        }
        b'R' => Message::Relation(relation(&mut cursor)?),
        b'T' => {
            let count = cursor.u32()?;
            let _options = cursor.u8()?;
            if count as usize > cursor.0.len() / 4 {
                return Err(malformed());
            }
            Message::Truncate { oids: (0..count).map(|_| cursor.u32()).collect::<Result<_, _>>()? }
        }
        b'Y' | b'O' | b'M' => Message::Other,
        other => return Err(PostgresError::protocol(format!("message `{}` of pgoutput", other.escape_ascii()))),
    })
}

#[inline]
fn expect(found: u8, expected: u8) -> Result<(), PostgresError> {
    if found == expected { Ok(()) } else { Err(malformed()) }
}

fn relation(cursor: &mut Cursor<'_>) -> Result<Relation, PostgresError> {
    let oid = cursor.u32()?;
    let schema = cursor.text()?;
    let name = cursor.text()?;
    let identity = cursor.u8()?;
    let count = cursor.u16()?;
    let columns = (0..count).map(|_| {
        let key = cursor.u8()? & 1 != 0;
        Ok(RelationColumn { key, name: cursor.text()?, type_oid: cursor.u32()?, typmod: cursor.u32()? as i32 })
    });
    let columns = columns.collect::<Result<_, PostgresError>>()?;
    // The system schema travels as an empty name.
    let schema = if schema.is_empty() { "pg_catalog".to_owned() } else { schema };
    Ok(Relation { oid, schema, name, identity, columns })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn walk(message: &Message<'_>) -> Result<usize, PostgresError> {
        let count = |tuple: &Tuple<'_>| {
            let mut fields = tuple.fields();
            let mut count = 0;
            while fields.next()?.is_some() {
                count += 1;
            }
            Ok::<usize, PostgresError>(count)
        };
        match message {
            Message::Insert { new, .. } => count(new),
            Message::Update { old, new, .. } => {
                let old = old.map_or(Ok(0), |old| count(&old.tuple))?;
                Ok(old + count(new)?)
            }
            Message::Delete { old, .. } => count(&old.tuple),
            _ => Ok(0),
        }
    }

    #[test]
    fn an_update_with_an_old_key_has_two_tuples() {
        let bytes = b"U\0\0\0\x07K\0\x02b\0\0\0\x01ann\0\x02b\0\0\0\x01bu".to_vec();
        let bytes = [&bytes[..14], b"nN", &[0, 2], b"b\0\0\0\x01bu"].concat();
        let message = parse(&bytes).unwrap();
        let Message::Update { oid: 7, old: Some(old), new } = &message else { panic!("{message:?}") };
        assert!(!old.whole);
        assert_eq!(old.tuple.fields().next().unwrap(), Some(Field::Binary(b"a")));
        let mut fields = new.fields();
        assert_eq!(fields.next().unwrap(), Some(Field::Binary(b"b")));
        assert_eq!(fields.next().unwrap(), Some(Field::Unchanged));
        assert_eq!(fields.next().unwrap(), None);
        assert_eq!(walk(&message).unwrap(), 4);
    }

    #[test]
    fn relations_name_their_columns() {
        let bytes = b"R\0\0\0\x09public\0t\0d\0\x01\x01id\0\0\0\0\x17\xFF\xFF\xFF\xFF";
        let Message::Relation(relation) = parse(bytes).unwrap() else { panic!() };
        assert_eq!((relation.oid, relation.name.as_str(), relation.identity), (9, "t", b'd'));
        let column = RelationColumn { key: true, name: "id".to_owned(), type_oid: 23, typmod: -1 };
        assert_eq!(relation.columns, [column]);
    }

    proptest! {
        #[test]
        fn no_message_panics(tag in proptest::sample::select(b"BCRIUDTYOMSEcAx".to_vec()), bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [&[tag][..], &bytes].concat();
            if let Ok(message) = parse(&bytes) {
                let _ = walk(&message);
            }
        }

        #[test]
        fn no_tuple_panics(kind in proptest::sample::select(b"NKO".to_vec()), count: u16, bytes in proptest::collection::vec(proptest::sample::select(b"nutb\0\x01\x02N".to_vec()), 0..64)) {
            for tag in *b"IUD" {
                let bytes = [&[tag, 0, 0, 0, 1, kind][..], &count.to_be_bytes(), &bytes].concat();
                if let Ok(message) = parse(&bytes) {
                    let _ = walk(&message);
                }
            }
        }
    }
}
