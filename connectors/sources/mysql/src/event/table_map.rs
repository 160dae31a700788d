use super::{Bytes, EventProblem};

const WHAT: &str = "a table map event";

/// Type codes of columns, as table maps have them.
pub(crate) mod column_type {
    pub(crate) const TINY: u8 = 1;
    pub(crate) const SHORT: u8 = 2;
    pub(crate) const LONG: u8 = 3;
    pub(crate) const FLOAT: u8 = 4;
    pub(crate) const DOUBLE: u8 = 5;
    pub(crate) const TIMESTAMP: u8 = 7;
    pub(crate) const LONGLONG: u8 = 8;
    pub(crate) const INT24: u8 = 9;
    pub(crate) const DATE: u8 = 10;
    pub(crate) const TIME: u8 = 11;
    pub(crate) const DATETIME: u8 = 12;
    pub(crate) const YEAR: u8 = 13;
    pub(crate) const VARCHAR: u8 = 15;
    pub(crate) const BIT: u8 = 16;
    pub(crate) const TIMESTAMP2: u8 = 17;
    pub(crate) const DATETIME2: u8 = 18;
    pub(crate) const TIME2: u8 = 19;
    /// MariaDB: `TEXT COMPRESSED`, `BLOB COMPRESSED`.
    pub(crate) const BLOB_COMPRESSED: u8 = 140;
    /// MariaDB: `VARCHAR COMPRESSED`, `VARBINARY COMPRESSED`.
    pub(crate) const VARCHAR_COMPRESSED: u8 = 141;
    pub(crate) const VECTOR: u8 = 242;
    pub(crate) const JSON: u8 = 245;
    pub(crate) const NEWDECIMAL: u8 = 246;
    pub(crate) const ENUM: u8 = 247;
    pub(crate) const SET: u8 = 248;
    pub(crate) const BLOB: u8 = 252;
    pub(crate) const VAR_STRING: u8 = 253;
    pub(crate) const STRING: u8 = 254;
    pub(crate) const GEOMETRY: u8 = 255;
}

/// What describes the rows that follow. Comes with every statement, so it is compared with the one before (equal [`definition`](Self::definition): equal
/// table) rather than taken apart each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TableMapEvent<'a> {
    /// Names the table in the rows events of this statement. The server gives a new one when it opens the table anew.
    pub table_id: u64,
    pub database: &'a str,
    pub table: &'a str,
    /// All of the event behind id and flags: equal bytes describe an equal table.
    pub definition: &'a [u8],
    /// Behind the names.
    columns: &'a [u8],
}

/// A table map taken apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TableMap {
    pub columns: Vec<TableMapColumn>,
    /// Whether the names came with it: `binlog_row_metadata=FULL`.
    pub has_names: bool,
    /// Whether signedness and character sets came with it: MySQL always, MariaDB not with `NO_LOG`.
    pub has_metadata: bool,
    /// The primary key's columns in its order, by index. `None` if the server did not say (its metadata are not full).
    pub key: Option<Vec<usize>>,
}

/// What a table map says of a column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TableMapColumn {
    /// See [`column_type`]: what stands in the rows. Enum and set are told from char.
    pub type_code: u8,
    /// The type's own metadata: length, precision and so on, as the event has it; for char, binary, enum and set with the type taken out.
    pub metadata: u16,
    pub nullable: bool,
    /// Of numbers. `None` if the server did not say.
    pub unsigned: Option<bool>,
    /// The collation's number, of character types, enum and set. 63 is binary. `None` if the server did not say.
    pub collation: Option<u32>,
    /// Full metadata only.
    pub name: Option<String>,
    /// Labels of enum and set, in the column's character set. Full metadata only.
    pub labels: Option<Vec<Vec<u8>>>,
    /// The kind of a geometry: 0 geometry, 1 point, 2 linestring, 3 polygon, 4 to 6 their multis, 7 collection.
    pub geometry: Option<u64>,
    /// Dimensions of a vector.
    pub dimensions: Option<u64>,
    /// False for `INVISIBLE`. Full metadata of MySQL only.
    pub visible: Option<bool>,
}

impl TableMapColumn {
    /// Whether the values have the form of dates and times before MySQL 5.6 and MariaDB 10.
    pub(crate) fn is_old_temporal(&self) -> bool {
        matches!(self.type_code, column_type::TIME | column_type::DATETIME | column_type::TIMESTAMP)
    }

    fn is_number(&self) -> bool {
        use column_type::{DOUBLE, FLOAT, INT24, LONG, LONGLONG, NEWDECIMAL, SHORT, TINY, YEAR};
        matches!(self.type_code, TINY | SHORT | INT24 | LONG | LONGLONG | NEWDECIMAL | FLOAT | DOUBLE | YEAR)
    }

    fn is_text_in(&self, dialect: Dialect) -> bool {
        use column_type::{BLOB, BLOB_COMPRESSED, GEOMETRY, STRING, VAR_STRING, VARCHAR, VARCHAR_COMPRESSED, VECTOR};
        match self.type_code {
            STRING | VAR_STRING | VARCHAR | BLOB | BLOB_COMPRESSED | VARCHAR_COMPRESSED => true,
            VECTOR => dialect == Dialect::Mysql,
            GEOMETRY => dialect == Dialect::Mariadb,
            _ => false,
        }
    }

    fn has_labels(&self) -> bool {
        matches!(self.type_code, column_type::ENUM | column_type::SET)
    }
}

/// The dialects differ in which types they list among those with a character set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Mysql,
    Mariadb,
}

impl<'a> TableMapEvent<'a> {
    #[inline]
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, EventProblem> {
        let mut bytes = Bytes::new(body, WHAT);
        let table_id = bytes.u48()?;
        let _flags = bytes.u16()?;
        let definition = bytes.rest();
        let database = name(&mut bytes)?;
        let table = name(&mut bytes)?;
        Ok(Self { table_id, database, table, definition, columns: bytes.rest() })
    }

    /// Takes the description apart.
    pub(crate) fn describe(&self) -> Result<TableMap, EventProblem> {
        let mut bytes = Bytes::new(self.columns, WHAT);
        let count = bytes.packed_len()?;
        let types = bytes.take(count)?;
        let mut metadata = Bytes::new(bytes.packed_bytes()?, WHAT);
        let nullable = bytes.take(count.div_ceil(8))?;
        let mut columns = Vec::with_capacity(count);
        for (index, type_code) in types.iter().enumerate() {
            let (type_code, metadata) = type_and_metadata(*type_code, &mut metadata)?;
            let nullable = nullable.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 != 0);
            columns.push(TableMapColumn { type_code, metadata, nullable, ..TableMapColumn::default() });
        }
        if !metadata.is_empty() {
            return Err(malformed("more metadata than its columns have"));
        }
        let mut map = TableMap { columns, ..TableMap::default() };
        while !bytes.is_empty() {
            let field = bytes.u8()?;
            let value = bytes.packed_bytes()?;
            map.add(field, Bytes::new(value, WHAT))?;
        }
        if map.has_names && map.key.is_none() {
            map.key = Some(Vec::new());
        }
        Ok(map)
    }
}

impl TableMap {
    /// One field of the optional metadata. Fields that are not known say nothing that is needed.
    fn add(&mut self, field: u8, mut value: Bytes<'_>) -> Result<(), EventProblem> {
        match field {
            1 => {
                self.has_metadata = true;
                // One bit a number, the highest bit first.
                let bits = value.rest();
                for (index, column) in self.columns.iter_mut().filter(|column| column.is_number()).enumerate() {
                    let byte = bits.get(index / 8).ok_or(EventProblem::CutOff(WHAT))?;
                    column.unsigned = Some(byte >> (7 - index % 8) & 1 != 0);
                }
            }
            2 => self.default_charset(value, TextColumns::Text)?,
            3 => self.column_charsets(value, TextColumns::Text)?,
            4 => {
                self.has_names = true;
                for column in &mut self.columns {
                    column.name = Some(value.packed_text()?.to_owned());
                }
                must_end(&value)?;
            }
            5 => self.labels(value, column_type::SET)?,
            6 => self.labels(value, column_type::ENUM)?,
            7 => {
                for column in self.columns.iter_mut().filter(|column| column.type_code == column_type::GEOMETRY) {
                    column.geometry = Some(value.packed()?);
                }
            }
            8 | 9 => {
                let mut key = Vec::new();
                while !value.is_empty() {
                    let index = value.packed_len()?;
                    if index >= self.columns.len() {
                        return Err(malformed("a key column beyond the last column"));
                    }
                    key.push(index);
                    if field == 9 {
                        // Characters of the prefix that is indexed.
                        value.packed()?;
                    }
                }
                self.key = Some(key);
            }
            10 => self.default_charset(value, TextColumns::Labelled)?,
            11 => self.column_charsets(value, TextColumns::Labelled)?,
            12 => {
                let bits = value.rest();
                for (index, column) in self.columns.iter_mut().enumerate() {
                    column.visible = bits.get(index / 8).map(|byte| byte >> (7 - index % 8) & 1 != 0);
                }
            }
            13 => {
                for column in self.columns.iter_mut().filter(|column| column.type_code == column_type::VECTOR) {
                    column.dimensions = Some(value.packed()?);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A default, then pairs of (which of these columns, its collation) for those that differ.
    fn default_charset(&mut self, mut value: Bytes<'_>, which: TextColumns) -> Result<(), EventProblem> {
        self.has_metadata = true;
        let default = collation(&mut value)?;
        let mut pairs = Vec::new();
        while !value.is_empty() {
            pairs.push((value.packed_len()?, collation(&mut value)?));
        }
        // Indices count only these columns, so the dialect shows only where an index goes too far; MySQL has no compressed columns, and
        // MariaDB no vectors and no JSON of this kind.
        let mut columns = self.text_columns(which, self.dialect());
        columns.iter_mut().for_each(|column| column.collation = Some(default));
        for (index, collation) in pairs {
            columns.get_mut(index).ok_or(malformed("a character set of a column that is not there"))?.collation = Some(collation);
        }
        Ok(())
    }

    /// One collation for each of these columns.
    fn column_charsets(&mut self, mut value: Bytes<'_>, which: TextColumns) -> Result<(), EventProblem> {
        self.has_metadata = true;
        let mut collations = Vec::new();
        while !value.is_empty() {
            collations.push(collation(&mut value)?);
        }
        let fits = |map: &mut Self, dialect| map.text_columns(which, dialect).len() == collations.len();
        let dialect = if fits(self, Dialect::Mysql) { Dialect::Mysql } else { Dialect::Mariadb };
        let columns = self.text_columns(which, dialect);
        if columns.len() != collations.len() {
            return Err(malformed("another number of character sets than of columns that have one"));
        }
        for (column, collation) in columns.into_iter().zip(collations) {
            column.collation = Some(collation);
        }
        Ok(())
    }

    /// Where a list of pairs leaves it open, a type that only one dialect has tells.
    fn dialect(&self) -> Dialect {
        use column_type::{BLOB_COMPRESSED, VARCHAR_COMPRESSED};
        let mariadb = |column: &TableMapColumn| matches!(column.type_code, BLOB_COMPRESSED | VARCHAR_COMPRESSED);
        if self.columns.iter().any(mariadb) { Dialect::Mariadb } else { Dialect::Mysql }
    }

    fn text_columns(&mut self, which: TextColumns, dialect: Dialect) -> Vec<&mut TableMapColumn> {
        let wanted = |column: &&mut TableMapColumn| match which {
            TextColumns::Text => column.is_text_in(dialect),
            TextColumns::Labelled => column.has_labels(),
        };
        self.columns.iter_mut().filter(wanted).collect()
    }

    /// For each column of the type a count and so many labels.
    fn labels(&mut self, mut value: Bytes<'_>, type_code: u8) -> Result<(), EventProblem> {
        for column in self.columns.iter_mut().filter(|column| column.type_code == type_code) {
            let count = value.packed_len()?;
            if count > value.rest().len() {
                return Err(EventProblem::CutOff(WHAT));
            }
            let labels = (0..count).map(|_| value.packed_bytes().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
            column.labels = Some(labels);
        }
        must_end(&value)
    }
}

/// Which columns a list of character sets is about.
#[derive(Debug, Clone, Copy)]
enum TextColumns {
    Text,
    Labelled,
}

fn malformed(problem: &'static str) -> EventProblem {
    EventProblem::Malformed { event: WHAT, problem }
}

fn must_end(value: &Bytes<'_>) -> Result<(), EventProblem> {
    if value.is_empty() { Ok(()) } else { Err(malformed("metadata for more columns than there are")) }
}

fn collation(value: &mut Bytes<'_>) -> Result<u32, EventProblem> {
    u32::try_from(value.packed()?).map_err(|_| malformed("a collation number that is none"))
}

/// A length of one byte, the name, a zero byte.
#[inline]
fn name<'a>(bytes: &mut Bytes<'a>) -> Result<&'a str, EventProblem> {
    let len = bytes.u8()?;
    let name = bytes.take(len.into())?;
    bytes.take(1)?;
    bytes.utf8(name)
}

/// Types have two, one or no byte of metadata. Char, binary, enum and set share a code, and their real type stands in the first byte; a char of
/// 256 bytes and more has the upper two bits of its length there too, inverted.
fn type_and_metadata(type_code: u8, metadata: &mut Bytes<'_>) -> Result<(u8, u16), EventProblem> {
    use column_type::*;
    Ok(match type_code {
        STRING | ENUM | SET => {
            let (real, len) = (metadata.u8()?, metadata.u8()?);
            match real {
                ENUM | SET => (real, len.into()),
                _ => (STRING, (u16::from(real & 0x30) ^ 0x30) << 4 | u16::from(len)),
            }
        }
        // The first byte is the precision and the second the scale, so the little-endian number has the scale on top.
        VARCHAR | VAR_STRING | VARCHAR_COMPRESSED | BIT | NEWDECIMAL => (type_code, metadata.u16()?),
        FLOAT | DOUBLE | BLOB | GEOMETRY | JSON | VECTOR | BLOB_COMPRESSED | TIMESTAMP2 | DATETIME2 | TIME2 => {
            (type_code, metadata.u8()?.into())
        }
        TINY | SHORT | LONG | LONGLONG | INT24 | TIMESTAMP | DATE | TIME | DATETIME | YEAR => (type_code, 0),
        _ => return Err(malformed("a column of an unknown type; the server is probably newer than this program")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// As MySQL 9.7 wrote it, of a table with a column of almost every type.
    #[test]
    fn a_table_map_of_mysql() {
        let body = hex(concat!(
            "7a000000000001000164000161000e0d03020ffcfefef5ff10f604f2fc100a0002f701f801040403000a02040402fe3f0101d8030608fcff003f3f",
            "0701000d01030420017901750173017601740165027374016a01670162016401660376656302626c0b04fcff0008050502017801e906050201610162",
            "0801000c02fffc"
        ));
        let event = TableMapEvent::parse(&body).unwrap();
        assert_eq!((event.table_id, event.database, event.table), (0x7A, "d", "a"));
        let map = event.describe().unwrap();
        let names: Vec<_> = map.columns.iter().map(|column| column.name.as_deref().unwrap()).collect();
        assert_eq!(names, ["y", "u", "s", "v", "t", "e", "st", "j", "g", "b", "d", "f", "vec", "bl"]);
        assert_eq!(map.key, Some(vec![0]));
        let column = |name| map.columns.iter().find(|column| column.name.as_deref() == Some(name)).unwrap();
        assert_eq!((column("u").unsigned, column("s").unsigned, column("f").unsigned), (Some(true), Some(false), Some(true)));
        assert_eq!((column("v").collation, column("t").collation, column("bl").collation), (Some(8), Some(255), Some(63)));
        assert_eq!((column("e").type_code, column("e").metadata), (column_type::ENUM, 1));
        assert_eq!(column("st").labels, Some(vec![b"x".to_vec(), vec![0xE9]]));
        assert_eq!((column("st").collation, column("e").collation), (Some(8), Some(255)));
        assert_eq!((column("vec").dimensions, column("g").geometry), (Some(3), Some(0)));
        assert!(map.columns.iter().all(|column| column.visible == Some(true)));
        assert!(!column("y").nullable && column("u").nullable);
        for len in 0..body.len() {
            // What is cut off may look complete: metadata are optional. It must never panic.
            let _ = TableMapEvent::parse(&body[..len]).and_then(|event| event.describe());
        }
    }

    /// As MariaDB 10.11 wrote it.
    #[test]
    fn a_table_map_of_mariadb() {
        let body = hex(concat!(
            "1200000000000100016400016100130d03020ffcfefefcff10f604fcfefefe8d8c12190a0002f701f801040403000a020402fe10fe04fe102d010203",
            "feff070101d8030a08082e3f3f3f3f3f0808070100042d017901750173017601740165027374016a016701620164016602626c027575026934026936",
            "01630263740264740a0108050502017801e906050201610162080100"
        ));
        let map = TableMapEvent::parse(&body).unwrap().describe().unwrap();
        let column = |name| map.columns.iter().find(|column| column.name.as_deref() == Some(name)).unwrap();
        assert_eq!((column("j").collation, column("bl").collation, column("ct").collation), (Some(0x2E), Some(63), Some(8)));
        assert_eq!((column("uu").type_code, column("uu").metadata), (column_type::STRING, 16));
        assert_eq!((column("c").type_code, column("c").metadata), (column_type::VARCHAR_COMPRESSED, 301));
        assert_eq!((column("dt").type_code, column("dt").metadata), (column_type::DATETIME2, 3));
        assert_eq!((column("e").collation, column("st").collation), (Some(8), Some(8)));
    }

    #[test]
    fn long_chars_hide_their_length() {
        let mut metadata = Bytes::new(&[0xEE, 0xFC, 0xFE, 0x0A], WHAT);
        assert_eq!(type_and_metadata(column_type::STRING, &mut metadata), Ok((column_type::STRING, 0x1FC)));
        assert_eq!(type_and_metadata(column_type::STRING, &mut metadata), Ok((column_type::STRING, 10)));
    }
}
