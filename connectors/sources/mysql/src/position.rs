//! What a pipeline needs to go on after a restart, and its bytes.
//!
//! ```text
//! version       1 byte = 1
//! flavor        1 byte: 0 MySQL, 1 MariaDB
//! place         text (file), number: where the first transaction that is not done with begins
//! GTIDs         1 byte: 0 none (GTIDs are off), 1 a set: what is done with
//! open          1 byte: 0 none, 1 there; if there: text (the transaction's GTID or place), number of tables, for
//!               each: database, table, rows that are done with
//! server        text (UUID; empty for MariaDB), number (server_id)
//! prepared      number, then for each: text (XID), text (GTID), place: transactions of `XA PREPARE` that were not ended
//! requested     number, then for each: database, table, text (condition), number of key columns, the key after which to go on, as text:
//!               tables that are read while the stream goes on
//! points        number, then for each: number (its name), place, GTIDs as above: as of when tables were read
//! tables        number, then for each in order: database, table (each shares its beginning with the one before),
//!               progress: 1 byte: 0 pending, 1 restart, 2 copying, 3 done, a point each, 4 done, 5 left;
//!               text: the definition as JSON, empty where the log describes the table itself
//! ```
//!
//! Numbers and text are those of `source_tailing::codec`. A position is written at every commit of the log. All behind the open transaction
//! changes seldom, so its bytes are kept.

use std::{collections::BTreeMap, sync::Arc};

use connector_api::{SourcePosition, TableName};
use source_tailing::codec::{Reader, put_after, put_number, put_text};

use crate::{
    decode::TableDefinition,
    error::MySqlError,
    gtid_set::{Gtid, GtidSet},
    place::{self, Place},
    wire::Flavor,
};

const VERSION: u8 = 1;

/// How far a table's snapshot is. A number names the [`Point`] as of which the table is read: it holds exactly the transactions in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not begun, and nothing of the table is in the log.
    Pending,
    /// To be begun again, although rows of it are in the log.
    Restart,
    /// Begun: some of its rows may be in the log.
    Copying(u32),
    /// All rows are in the log. The point is there until the stream is past it.
    Done(Option<u32>),
    /// Not captured any more, though rows of it are in the log: if it comes back, they have to be voided.
    Left,
}

impl Progress {
    /// The point as of which the table was read, while that matters.
    pub(crate) fn point(self) -> Option<u32> {
        match self {
            Self::Copying(point) => Some(point),
            Self::Done(point) => point,
            Self::Pending | Self::Restart | Self::Left => None,
        }
    }
}

/// A table of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableState {
    pub progress: Progress,
    /// The definition that explains the log's rows, where they do not do that themselves (`binlog_row_metadata=MINIMAL`).
    pub definition: Option<Arc<TableDefinition>>,
}

/// A transaction of which some rows are in the log and some are not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct OpenTransaction {
    /// Its GTID, or where GTIDs are off the place where it begins.
    pub name: String,
    /// Rows that are done with, counted for each table as the server sends them. Servers may pack rows differently into events, and tables
    /// may be interleaved otherwise, but the order of a table's rows within a transaction is the same everywhere.
    pub rows: BTreeMap<TableName, u64>,
}

/// A moment of the database: which transactions are in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Point {
    /// Transactions that begin before are in it. Means nothing on another server.
    pub place: Place,
    /// The same as a set; `None` where GTIDs are off.
    pub gtids: Option<GtidSet>,
}

impl Point {
    /// Whether a transaction that begins at that place, a file and a position in it, is in it.
    pub(crate) fn contains(&self, place: (&str, u64), gtid: Option<&Gtid<'_>>) -> bool {
        match (&self.gtids, gtid) {
            (Some(set), Some(gtid)) => set.contains(gtid),
            _ => place::order(place, (&self.place.file, self.place.position)).is_lt(),
        }
    }

    /// Whether everything in this point is in the other.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        match (&self.gtids, &other.gtids) {
            (Some(set), Some(other)) => set.is_within(other),
            _ => self.place.order(&other.place).is_le(),
        }
    }
}

/// Which server a position belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    pub flavor: Flavor,
    /// Empty for MariaDB, which has none.
    pub server_uuid: String,
    pub server_id: u32,
}

/// A transaction that was prepared by `XA PREPARE`, and neither committed nor rolled back so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prepared {
    /// As statements write it.
    pub xid: String,
    /// Its GTID; empty where GTIDs are off.
    pub gtid: String,
    /// Where it begins, or a place before that in the same file.
    pub place: Place,
}

/// A table, or a part of it, that is read while the stream goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Requested {
    pub table: TableName,
    /// Which rows; empty for all.
    pub condition: String,
    /// The last key that was read, as SQL writes its values; empty at the beginning.
    pub after: Vec<String>,
}

/// All that is needed to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// What is done with.
    pub done: Point,
    /// The next transaction, if a part of it is done with.
    pub open: Option<OpenTransaction>,
    origin: Origin,
    prepared: Vec<Prepared>,
    requested: Vec<Requested>,
    points: BTreeMap<u32, Point>,
    tables: BTreeMap<TableName, TableState>,
    tail: Option<Vec<u8>>,
}

impl Position {
    pub(crate) fn new(done: Point, origin: Origin) -> Self {
        let (prepared, requested, points, tables) = (Vec::new(), Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { done, open: None, origin, prepared, requested, points, tables, tail: None }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn origin_mut(&mut self) -> &mut Origin {
        self.tail = None;
        &mut self.origin
    }

    pub(crate) fn prepared(&self) -> &[Prepared] {
        &self.prepared
    }

    pub(crate) fn prepared_mut(&mut self) -> &mut Vec<Prepared> {
        self.tail = None;
        &mut self.prepared
    }

    /// Tables to read while the stream goes on, the present one first.
    pub(crate) fn requested(&self) -> &[Requested] {
        &self.requested
    }

    pub(crate) fn requested_mut(&mut self) -> &mut Vec<Requested> {
        self.tail = None;
        &mut self.requested
    }

    pub(crate) fn tables(&self) -> &BTreeMap<TableName, TableState> {
        &self.tables
    }

    pub(crate) fn tables_mut(&mut self) -> &mut BTreeMap<TableName, TableState> {
        self.tail = None;
        &mut self.tables
    }

    /// The point of that name.
    pub(crate) fn point(&self, name: u32) -> Option<&Point> {
        self.points.get(&name)
    }

    pub(crate) fn points(&self) -> &BTreeMap<u32, Point> {
        &self.points
    }

    /// Adds a point and returns its name.
    pub(crate) fn add_point(&mut self, point: Point) -> u32 {
        self.tail = None;
        if let Some((name, _)) = self.points.iter().find(|(_, old)| **old == point) {
            return *name;
        }
        let name = self.points.last_key_value().map_or(0, |(last, _)| last + 1);
        self.points.insert(name, point);
        name
    }

    /// Whether every table has been read.
    pub(crate) fn all_read(&self) -> bool {
        self.tables.values().all(|table| matches!(table.progress, Progress::Done(_) | Progress::Left))
    }

    /// Nothing of the log has to be gone on from: every table will be read anew.
    pub(crate) fn is_fresh(&self) -> bool {
        self.tables.values().all(|table| !matches!(table.progress, Progress::Done(_)))
    }

    /// Forgets points that the stream has passed, and those that no table has. Returns whether any is left.
    pub(crate) fn forget_passed(&mut self) -> bool {
        if self.points.is_empty() {
            return false;
        }
        let passed: Vec<u32> = self.points.iter().filter(|(_, point)| point.is_within(&self.done)).map(|(name, _)| *name).collect();
        let is_passed = |table: &TableState| matches!(table.progress, Progress::Done(Some(point)) if passed.contains(&point));
        if self.tables.values().any(is_passed) {
            self.tables_mut().values_mut().filter(|table| is_passed(table)).for_each(|table| table.progress = Progress::Done(None));
        }
        let used: Vec<u32> = self.tables.values().filter_map(|table| table.progress.point()).collect();
        if self.points.keys().any(|name| !used.contains(name)) {
            self.tail = None;
            self.points.retain(|name, _| used.contains(name));
        }
        !self.points.is_empty()
    }

    /// Where transactions before all snapshots need not be sent at all, the stream may begin at the earliest snapshot. Returns whether
    /// the position moved.
    pub(crate) fn skip_to_snapshots(&mut self) -> bool {
        let captured = || self.tables.values().filter(|table| table.progress != Progress::Left);
        let points: Option<Vec<&Point>> =
            captured().map(|table| table.progress.point().and_then(|name| self.points.get(&name))).collect();
        let points = points.unwrap_or_default();
        let earliest = points.iter().find(|point| points.iter().all(|other| point.is_within(other)));
        let earliest = earliest.filter(|point| self.done.is_within(point)).map(|point| Point::clone(point));
        let moved = earliest.as_ref().is_some_and(|point| *point != self.done);
        if let Some(point) = earliest {
            // A transaction that was received in part before the snapshot is in the snapshot.
            self.open = None;
            self.done = point;
        }
        self.forget_passed();
        moved
    }

    pub(crate) fn encode(&mut self) -> SourcePosition {
        let tail = self.tail.take().unwrap_or_else(|| self.encode_tail());
        let mut bytes = Vec::with_capacity(96 + tail.len());
        bytes.extend([VERSION, flavor_code(self.origin.flavor)]);
        put_point(&mut bytes, &self.done);
        bytes.push(u8::from(self.open.is_some()));
        if let Some(open) = &self.open {
            put_text(&mut bytes, &open.name);
            put_number(&mut bytes, open.rows.len() as u64);
            for (table, rows) in &open.rows {
                put_text(&mut bytes, &table.schema);
                put_text(&mut bytes, &table.name);
                put_number(&mut bytes, *rows);
            }
        }
        bytes.extend(&tail);
        self.tail = Some(tail);
        SourcePosition::new(bytes)
    }

    fn encode_tail(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.tables.len() * 12);
        put_text(&mut out, &self.origin.server_uuid);
        put_number(&mut out, u64::from(self.origin.server_id));
        put_number(&mut out, self.prepared.len() as u64);
        for prepared in &self.prepared {
            put_text(&mut out, &prepared.xid);
            put_text(&mut out, &prepared.gtid);
            put_place(&mut out, &prepared.place);
        }
        put_number(&mut out, self.requested.len() as u64);
        for requested in &self.requested {
            for text in [&requested.table.schema, &requested.table.name, &requested.condition] {
                put_text(&mut out, text);
            }
            put_number(&mut out, requested.after.len() as u64);
            requested.after.iter().for_each(|text| put_text(&mut out, text));
        }
        put_number(&mut out, self.points.len() as u64);
        for (name, point) in &self.points {
            put_number(&mut out, u64::from(*name));
            put_point(&mut out, point);
        }
        put_number(&mut out, self.tables.len() as u64);
        let mut previous = &TableName::new("", "");
        for (name, table) in &self.tables {
            put_after(&mut out, &previous.schema, &name.schema);
            put_after(&mut out, &previous.name, &name.name);
            let (tag, point) = match table.progress {
                Progress::Pending => (0, None),
                Progress::Restart => (1, None),
                Progress::Copying(point) => (2, Some(point)),
                Progress::Done(Some(point)) => (3, Some(point)),
                Progress::Done(None) => (4, None),
                Progress::Left => (5, None),
            };
            out.push(tag);
            point.into_iter().for_each(|point| put_number(&mut out, u64::from(point)));
            let definition = table.definition.as_ref().and_then(|definition| serde_json::to_string(definition.as_ref()).ok());
            put_text(&mut out, &definition.unwrap_or_default());
            previous = name;
        }
        out
    }

    pub(crate) fn decode(position: &SourcePosition) -> Result<Self, MySqlError> {
        let unreadable = |problem: &str| MySqlError::Position { problem: problem.to_owned() };
        let mut reader = Reader::new(position.as_bytes());
        match reader.byte() {
            Some(VERSION) => {}
            Some(other) => return Err(unreadable(&format!("its version is {other}, this program reads version {VERSION}"))),
            None => return Err(unreadable("it is empty")),
        }
        let decoded = read_position(&mut reader).ok_or_else(|| unreadable("its bytes end too early or make no sense"))?;
        if reader.is_empty() { Ok(decoded) } else { Err(unreadable("it goes on behind its end")) }
    }
}

fn flavor_code(flavor: Flavor) -> u8 {
    match flavor {
        Flavor::MySql => 0,
        Flavor::MariaDb => 1,
    }
}

fn put_place(out: &mut Vec<u8>, place: &Place) {
    put_text(out, &place.file);
    put_number(out, place.position);
}

fn put_point(out: &mut Vec<u8>, point: &Point) {
    put_place(out, &point.place);
    out.push(u8::from(point.gtids.is_some()));
    if let Some(gtids) = &point.gtids {
        gtids.encode(out);
    }
}

fn read_place(reader: &mut Reader<'_>) -> Option<Place> {
    Some(Place { file: reader.text()?.to_owned(), position: reader.number()? })
}

fn read_point(reader: &mut Reader<'_>, flavor: Flavor) -> Option<Point> {
    let place = read_place(reader)?;
    let gtids = match reader.byte()? {
        0 => None,
        1 => Some(GtidSet::decode(flavor, reader)?),
        _ => return None,
    };
    Some(Point { place, gtids })
}

fn read_position(reader: &mut Reader<'_>) -> Option<Position> {
    let small = |reader: &mut Reader<'_>| reader.number().and_then(|number| u32::try_from(number).ok());
    let flavor = match reader.byte()? {
        0 => Flavor::MySql,
        1 => Flavor::MariaDb,
        _ => return None,
    };
    let done = read_point(reader, flavor)?;
    let open = match reader.byte()? {
        0 => None,
        1 => {
            let mut open = OpenTransaction { name: reader.text()?.to_owned(), ..OpenTransaction::default() };
            for _ in 0..reader.number()? {
                let table = TableName::new(reader.text()?, reader.text()?);
                open.rows.insert(table, reader.number()?);
            }
            Some(open)
        }
        _ => return None,
    };
    let origin = Origin { flavor, server_uuid: reader.text()?.to_owned(), server_id: small(reader)? };
    let mut position = Position::new(done, origin);
    position.open = open;
    for _ in 0..reader.number()? {
        position.prepared.push(Prepared {
            xid: reader.text()?.to_owned(),
            gtid: reader.text()?.to_owned(),
            place: read_place(reader)?,
        });
    }
    for _ in 0..reader.number()? {
        let table = TableName::new(reader.text()?, reader.text()?);
        let mut requested = Requested { table, condition: reader.text()?.to_owned(), after: Vec::new() };
        for _ in 0..reader.number()? {
            requested.after.push(reader.text()?.to_owned());
        }
        position.requested.push(requested);
    }
    for _ in 0..reader.number()? {
        let name = small(reader)?;
        position.points.insert(name, read_point(reader, flavor)?);
    }
    let mut name = TableName::new("", "");
    for _ in 0..reader.number()? {
        name = TableName { schema: reader.after(&name.schema)?, name: reader.after(&name.name)? };
        let progress = match reader.byte()? {
            0 => Progress::Pending,
            1 => Progress::Restart,
            2 => Progress::Copying(small(reader)?),
            3 => Progress::Done(Some(small(reader)?)),
            4 => Progress::Done(None),
            5 => Progress::Left,
            _ => return None,
        };
        // A table that points nowhere would take what its snapshot holds a second time.
        if progress.point().is_some_and(|point| !position.points.contains_key(&point)) {
            return None;
        }
        let definition = match reader.text()? {
            "" => None,
            json => Some(Arc::new(serde_json::from_str(json).ok()?)),
        };
        position.tables.insert(name.clone(), TableState { progress, definition });
    }
    Some(position)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::decode::ColumnDefinition;

    fn any_place() -> impl Strategy<Value = Place> {
        ("bin\\.[0-9]{1,7}", any::<u64>()).prop_map(|(file, position)| Place { file, position })
    }

    fn any_point(flavor: Flavor) -> impl Strategy<Value = Point> {
        let gtids = match flavor {
            Flavor::MySql => "(e24e9302-e6e6-11f1-90d8-02fc00000001:1-9:15)?",
            Flavor::MariaDb => "(0-1-9,5-2-7)?",
        };
        (any_place(), gtids).prop_map(move |(place, text)| {
            let gtids = GtidSet::parse(flavor, &text).filter(|_| !text.is_empty());
            Point { place, gtids }
        })
    }

    fn any_position() -> impl Strategy<Value = Position> {
        prop_oneof![Just(Flavor::MySql), Just(Flavor::MariaDb)].prop_flat_map(|flavor| {
            let rows = proptest::collection::btree_map(("[a-c]{1,3}", "[a-cé日]{1,4}"), any::<u64>(), 0..3);
            let open = proptest::option::of(("\\PC{0,8}", rows));
            let tables = proptest::collection::btree_map(("[a-c\"é]{0,4}", "[a-cé日]{0,6}"), (0u8..6, any::<bool>()), 0..8);
            let prepared = proptest::collection::vec(("\\PC{0,8}", any_place()), 0..3);
            (any_point(flavor), any_point(flavor), open, prepared, tables).prop_map(move |(done, point, open, prepared, tables)| {
                let origin = Origin { flavor, server_uuid: "u".into(), server_id: 7 };
                let mut position = Position::new(done, origin);
                let table = |((schema, name), rows)| (TableName { schema, name }, rows);
                position.open = open.map(|(name, rows)| OpenTransaction { name, rows: rows.into_iter().map(table).collect() });
                position.prepared_mut().extend(prepared.into_iter().map(|(xid, place)| Prepared {
                    gtid: format!("{xid}:1"),
                    xid,
                    place,
                }));
                let table = TableName::new("a", "b");
                let after = vec!["'1'".to_owned(), "'x'".to_owned()];
                position.requested_mut().push(Requested { table, condition: "a > 1".to_owned(), after });
                let point = position.add_point(point);
                for ((schema, name), (tag, described)) in tables {
                    let table = TableName { schema, name };
                    let progress = match tag {
                        0 => Progress::Pending,
                        1 => Progress::Restart,
                        2 => Progress::Copying(point),
                        3 => Progress::Done(Some(point)),
                        4 => Progress::Done(None),
                        _ => Progress::Left,
                    };
                    let column = ColumnDefinition { name: "a".into(), column_type: "int".into(), charset: None, row_end: false };
                    let definition = TableDefinition { name: table.clone(), columns: vec![column], key: vec!["a".into()] };
                    let definition = described.then(|| Arc::new(definition));
                    position.tables_mut().insert(table, TableState { progress, definition });
                }
                position
            })
        })
    }

    #[test]
    fn a_thousand_tables_stay_small() {
        let mut position = Position::new(Point::default(), Origin::default());
        for index in 0..1000 {
            let name = TableName::new("shop", format!("table_{index:04}"));
            position.tables_mut().insert(name, TableState { progress: Progress::Done(None), definition: None });
        }
        let bytes = position.encode().as_bytes().len();
        assert!(bytes < 10_000, "{bytes}");
    }

    #[test]
    fn the_stream_begins_at_the_earliest_snapshot_of_all_tables() {
        let at = |position| Point { place: Place::new("bin.000001", position), gtids: None };
        let mut position = Position::new(at(10), Origin::default());
        let (early, late) = (position.add_point(at(20)), position.add_point(at(30)));
        let add = |position: &mut Position, name: &str, progress| {
            position.tables_mut().insert(TableName::new("s", name), TableState { progress, definition: None });
        };
        add(&mut position, "a", Progress::Done(Some(late)));
        add(&mut position, "b", Progress::Done(Some(early)));
        let mut with_old = position.clone();
        assert!(position.skip_to_snapshots());
        assert_eq!(position.done, at(20));
        let progress = |name: &str| position.tables()[&TableName::new("s", name)].progress;
        assert_eq!((progress("a"), progress("b")), (Progress::Done(Some(late)), Progress::Done(None)));
        assert_eq!(position.points().len(), 1);
        add(&mut with_old, "c", Progress::Done(None));
        assert!(!with_old.skip_to_snapshots());
        assert_eq!(with_old.done, at(10));
    }

    proptest! {
        #[test]
        fn positions_survive_their_bytes(position in any_position()) {
            let encoded = position.clone().encode();
            let mut decoded = Position::decode(&encoded).unwrap();
            prop_assert_eq!(decoded.encode(), encoded);
            decoded.tail = None;
            prop_assert_eq!(decoded, position);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Position::decode(&SourcePosition::new([&[1, 0], bytes.as_slice()].concat()));
            let _ = Position::decode(&SourcePosition::new([&[1, 1], bytes.as_slice()].concat()));
            let _ = Position::decode(&SourcePosition::new(bytes));
        }
    }
}
