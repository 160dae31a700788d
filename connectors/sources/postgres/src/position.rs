//! What a pipeline needs to go on after a restart, and its bytes.
//!
//! ```text
//! version 1 byte = 1
//! lsn                       8 bytes, big-endian
//! open transaction          1 byte: 0 none, 1 there; if there: final_lsn 8, xid 4, rows 8
//! system id, database, slot, publication   text: varint length, UTF-8
//! timeline                  varint
//! protocol, binary          1 byte each
//! tables                    varint count, then for each in order of OID:
//!   OID                     varint difference to the one before
//!   progress                1 byte: 0 pending, 1 restart, 2 copying, 3 done with LSN, 4 done,
//!                           5 left; 2 and 3: LSN 8 bytes
//!   schema, name            each: varint length shared with the one before, then the rest as text
//! ```
//!
//! A position is written at every commit of the log. All behind the open transaction changes seldom, so its bytes are kept.

use std::collections::BTreeMap;

use connector_api::{SourcePosition, TableName};
use source_tailing::codec::{Reader, put_after, put_number, put_text};

use crate::{error::PostgresError, lsn::Lsn};

const VERSION: u8 = 1;

/// How far a table's snapshot is. Where an LSN stands, the snapshot holds exactly the transactions that committed before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not begun, and nothing of the table is in the log.
    Pending,
    /// To be begun again, although rows of it are in the log.
    Restart,
    /// Begun: some of its rows may be in the log.
    Copying(Lsn),
    /// All rows are in the log. The LSN is there until the stream is past it.
    Done(Option<Lsn>),
    /// Not captured any more, though rows of it are in the log: if it comes back, they have to be voided.
    Left,
}

/// A table of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableState {
    pub name: TableName,
    pub progress: Progress,
}

/// A transaction of which some rows are in the log and some are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenTransaction {
    pub final_lsn: Lsn,
    pub xid: u32,
    /// Row changes that are done with, counted as the server sends them.
    pub rows: u64,
}

/// Which server and which objects on it a position belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Origin {
    pub system_id: String,
    pub timeline: u32,
    pub database: String,
    pub slot: String,
    pub publication: String,
    pub protocol: u8,
    pub binary: bool,
}

/// All that is needed to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    /// All transactions that committed before this are done with.
    pub lsn: Lsn,
    /// The next transaction, if a part of it is done with.
    pub open: Option<OpenTransaction>,
    origin: Origin,
    tables: BTreeMap<u32, TableState>,
    tail: Option<Vec<u8>>,
}

impl Position {
    pub(crate) fn new(lsn: Lsn, origin: Origin) -> Self {
        Self { lsn, open: None, origin, tables: BTreeMap::new(), tail: None }
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(crate) fn origin_mut(&mut self) -> &mut Origin {
        self.tail = None;
        &mut self.origin
    }

    /// The tables by OID.
    pub(crate) fn tables(&self) -> &BTreeMap<u32, TableState> {
        &self.tables
    }

    pub(crate) fn tables_mut(&mut self) -> &mut BTreeMap<u32, TableState> {
        self.tail = None;
        &mut self.tables
    }

    /// Whether every table has been read.
    pub(crate) fn all_read(&self) -> bool {
        self.tables.values().all(|table| matches!(table.progress, Progress::Done(_) | Progress::Left))
    }

    /// Forgets LSNs of snapshots that the stream has passed.
    pub(crate) fn forget_passed(&mut self) {
        let lsn = self.lsn;
        let passed = |table: &TableState| matches!(table.progress, Progress::Done(Some(snapshot)) if snapshot <= lsn);
        if self.tables.values().any(passed) {
            self.tables_mut().values_mut().filter(|table| passed(table)).for_each(|table| table.progress = Progress::Done(None));
        }
    }

    /// Where transactions before all snapshots need not be sent at all, the stream may begin at the earliest snapshot.
    pub(crate) fn skip_to_snapshots(&mut self) {
        let snapshot = |table: &TableState| match table.progress {
            Progress::Done(Some(lsn)) => Some(lsn),
            _ => None,
        };
        let captured = self.tables.values().filter(|table| table.progress != Progress::Left);
        let earliest = captured.map(snapshot).min().flatten();
        if let Some(lsn) = earliest.filter(|lsn| *lsn > self.lsn) {
            self.lsn = lsn;
            self.open = self.open.filter(|open| open.final_lsn >= lsn);
        }
        self.forget_passed();
    }

    pub(crate) fn encode(&mut self) -> SourcePosition {
        let tail = self.tail.take().unwrap_or_else(|| encode_tail(&self.origin, &self.tables));
        let mut bytes = Vec::with_capacity(32 + tail.len());
        bytes.push(VERSION);
        bytes.extend(self.lsn.0.to_be_bytes());
        bytes.push(u8::from(self.open.is_some()));
        if let Some(open) = self.open {
            bytes.extend(open.final_lsn.0.to_be_bytes());
            bytes.extend(open.xid.to_be_bytes());
            bytes.extend(open.rows.to_be_bytes());
        }
        bytes.extend(&tail);
        self.tail = Some(tail);
        SourcePosition::new(bytes)
    }

    pub(crate) fn decode(position: &SourcePosition) -> Result<Self, PostgresError> {
        let unreadable = |problem: &str| PostgresError::Position { problem: problem.to_owned() };
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

/// The LSN of a position, without reading the rest.
pub(crate) fn lsn_of(position: &SourcePosition) -> Option<Lsn> {
    let mut reader = Reader::new(position.as_bytes());
    (reader.byte()? == VERSION).then_some(())?;
    reader.u64().map(Lsn)
}

fn encode_tail(origin: &Origin, tables: &BTreeMap<u32, TableState>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + tables.len() * 12);
    for text in [&origin.system_id, &origin.database, &origin.slot, &origin.publication] {
        put_text(&mut out, text);
    }
    put_number(&mut out, u64::from(origin.timeline));
    out.push(origin.protocol);
    out.push(u8::from(origin.binary));
    put_number(&mut out, tables.len() as u64);
    let mut previous = (0, &TableName::new("", ""));
    for (oid, table) in tables {
        put_number(&mut out, u64::from(oid - previous.0));
        let (tag, lsn) = match table.progress {
            Progress::Pending => (0, None),
            Progress::Restart => (1, None),
            Progress::Copying(lsn) => (2, Some(lsn)),
            Progress::Done(Some(lsn)) => (3, Some(lsn)),
            Progress::Done(None) => (4, None),
            Progress::Left => (5, None),
        };
        out.push(tag);
        out.extend(lsn.into_iter().flat_map(|lsn| lsn.0.to_be_bytes()));
        put_after(&mut out, &previous.1.schema, &table.name.schema);
        put_after(&mut out, &previous.1.name, &table.name.name);
        previous = (*oid, &table.name);
    }
    out
}

fn read_position(reader: &mut Reader<'_>) -> Option<Position> {
    let text = |reader: &mut Reader<'_>| reader.text().map(str::to_owned);
    let lsn = Lsn(reader.u64()?);
    let open = match reader.byte()? {
        0 => None,
        1 => {
            let final_lsn = Lsn(reader.u64()?);
            Some(OpenTransaction { final_lsn, xid: u32::from_be_bytes(reader.array()?), rows: reader.u64()? })
        }
        _ => return None,
    };
    let (system_id, database, slot, publication) = (text(reader)?, text(reader)?, text(reader)?, text(reader)?);
    let timeline = u32::try_from(reader.number()?).ok()?;
    let (protocol, binary) = (reader.byte()?, reader.byte()? == 1);
    let mut position = Position::new(lsn, Origin { system_id, timeline, database, slot, publication, protocol, binary });
    position.open = open;
    let (mut oid, mut name) = (0u32, TableName::new("", ""));
    for _ in 0..reader.number()? {
        oid = oid.checked_add(u32::try_from(reader.number()?).ok()?)?;
        let progress = match reader.byte()? {
            0 => Progress::Pending,
            1 => Progress::Restart,
            2 => Progress::Copying(Lsn(reader.u64()?)),
            3 => Progress::Done(Some(Lsn(reader.u64()?))),
            4 => Progress::Done(None),
            5 => Progress::Left,
            _ => return None,
        };
        name = TableName { schema: reader.after(&name.schema)?, name: reader.after(&name.name)? };
        position.tables.insert(oid, TableState { name: name.clone(), progress });
    }
    Some(position)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_progress() -> impl Strategy<Value = Progress> {
        prop_oneof![
            Just(Progress::Pending),
            Just(Progress::Restart),
            any::<u64>().prop_map(|lsn| Progress::Copying(Lsn(lsn))),
            Just(Progress::Left),
            any::<Option<u64>>().prop_map(|lsn| Progress::Done(lsn.map(Lsn))),
        ]
    }

    fn any_position() -> impl Strategy<Value = Position> {
        let open = proptest::option::of((any::<u64>(), any::<u32>(), any::<u64>()));
        let tables = proptest::collection::btree_map(any::<u32>(), ("[a-c\"é]{0,4}", "[a-cé日]{0,6}", any_progress()), 0..8);
        (any::<u64>(), open, "\\PC{0,8}", tables).prop_map(|(lsn, open, text, tables)| {
            let origin = Origin { system_id: "7".into(), timeline: 3, slot: text, protocol: 3, binary: true, ..Origin::default() };
            let mut position = Position::new(Lsn(lsn), origin);
            position.open = open.map(|(final_lsn, xid, rows)| OpenTransaction { final_lsn: Lsn(final_lsn), xid, rows });
            let state = |(schema, name, progress): (String, String, _)| TableState { name: TableName { schema, name }, progress };
            position.tables = tables.into_iter().map(|(oid, table)| (oid, state(table))).collect();
            position
        })
    }

    #[test]
    fn a_thousand_tables_stay_small() {
        let mut position = Position::new(Lsn(1), Origin::default());
        for index in 0..1000 {
            let name = TableName::new("public", format!("table_{index:04}"));
            position.tables_mut().insert(16_384 + index * 7, TableState { name, progress: Progress::Done(None) });
        }
        let bytes = position.encode().as_bytes().len();
        assert!(bytes < 10_000, "{bytes}");
    }

    #[test]
    fn the_stream_begins_at_the_earliest_snapshot_of_all_tables() {
        let mut position = Position::new(Lsn(10), Origin::default());
        let table = |progress| TableState { name: TableName::new("s", "t"), progress };
        position.tables_mut().insert(1, table(Progress::Done(Some(Lsn(30)))));
        position.tables_mut().insert(2, table(Progress::Done(Some(Lsn(20)))));
        let mut with_old = position.clone();
        position.skip_to_snapshots();
        assert_eq!(position.lsn, Lsn(20));
        assert_eq!(position.tables()[&1].progress, Progress::Done(Some(Lsn(30))));
        assert_eq!(position.tables()[&2].progress, Progress::Done(None));
        with_old.tables_mut().insert(3, table(Progress::Done(None)));
        with_old.skip_to_snapshots();
        assert_eq!(with_old.lsn, Lsn(10));
    }

    proptest! {
        #[test]
        fn positions_survive_their_bytes(position in any_position()) {
            let encoded = position.clone().encode();
            let mut decoded = Position::decode(&encoded).unwrap();
            prop_assert_eq!(lsn_of(&encoded), Some(position.lsn));
            prop_assert_eq!(decoded.encode(), encoded);
            decoded.tail = None;
            prop_assert_eq!(decoded, position);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Position::decode(&SourcePosition::new([&[1], bytes.as_slice()].concat()));
            let _ = Position::decode(&SourcePosition::new(bytes));
        }
    }
}
