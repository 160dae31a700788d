//! The stream's messages into rows: which transaction is open, which rows are new, and what the position is after each of them.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::Arc,
};

use connector_api::{ChangeBatch, Op, SourceInfo, SourcePosition};
use source_tailing::GroupBuilder;
use tracing::{info, warn};

use crate::{
    catalog::{self, Types},
    config::Settings,
    decode::micros_since_1970,
    error::PostgresError,
    lsn::Lsn,
    pgoutput::{self, Message},
    position::{OpenTransaction, Position, Progress},
    relation::{Keys, Relation, Shape},
    rows::{Stamp, TableRows},
    wire::Client,
};

/// OIDs are small numbers without an adversary: one multiplication spreads them.
#[derive(Default)]
struct OidHasher(u64);

impl Hasher for OidHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, value: u32) {
        // The odd number nearest to 2^64 divided by the golden ratio.
        self.0 = (self.0.rotate_left(5) ^ u64::from(value)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(20);
    }
}

type ByOid<T> = HashMap<u32, T, BuildHasherDefault<OidHasher>>;

/// A table that the stream named.
struct Entry {
    relation: Relation,
    /// `None`: not a table of this pipeline.
    rows: Option<TableRows>,
    /// Transactions that committed before this are in the table's snapshot.
    snapshot: Lsn,
    touched: bool,
}

/// The transaction that is being received.
struct Transaction {
    final_lsn: Lsn,
    commit_ts_us: i64,
    xid: u32,
    /// Row changes so far, as the server sends them.
    rows: u64,
    /// As many of them were handed over before.
    skip: u64,
}

/// Whether the stream goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    Continue,
    /// A table has a type whose binary form is not known: the stream must be asked for text.
    NeedText,
}

/// What was learnt of the database before the stream.
pub(crate) struct Known {
    pub info: Arc<SourceInfo>,
    pub types: Types,
    pub keys: HashMap<u32, Keys>,
    pub side: Option<Client>,
}

/// See the module.
pub(crate) struct StreamState {
    settings: Arc<Settings>,
    info: Arc<SourceInfo>,
    types: Types,
    /// The tables' keys as they were when the source was opened.
    keys: HashMap<u32, Keys>,
    /// For questions to the catalog; connected when there is one.
    side: Option<Client>,
    entries: Vec<Entry>,
    by_oid: ByOid<usize>,
    last: (u32, usize),
    touched: Vec<usize>,
    transaction: Option<Transaction>,
    position: Position,
    /// The latest snapshot that the stream has not passed.
    snapshots_until: Option<Lsn>,
    /// The position moved since the last group.
    pub moved: bool,
    pub group: GroupBuilder,
}

impl StreamState {
    pub(crate) fn new(settings: Arc<Settings>, known: Known, position: Position) -> Self {
        let mut state = Self {
            settings,
            info: known.info,
            types: known.types,
            keys: known.keys,
            side: known.side,
            entries: Vec::new(),
            by_oid: ByOid::default(),
            last: (0, 0),
            touched: Vec::new(),
            transaction: None,
            position,
            snapshots_until: None,
            moved: false,
            group: GroupBuilder::default(),
        };
        state.snapshots_until = state.position.tables().values().filter_map(|table| snapshot_of(table.progress)).max();
        state
    }

    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    pub(crate) fn position_mut(&mut self) -> &mut Position {
        &mut self.position
    }

    /// How many tables have rows in the group.
    pub(crate) fn tables_in_group(&self) -> u32 {
        self.touched.len() as u32
    }

    /// Whether a transaction has begun and not ended.
    pub(crate) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// The stream begins anew at the position: what was received of the open transaction will come again.
    pub(crate) fn restart(&mut self) {
        self.note_open_transaction();
        self.transaction = None;
    }

    fn note_open_transaction(&mut self) {
        if let Some(tx) = &self.transaction
            && tx.rows > tx.skip
        {
            self.position.open = Some(OpenTransaction { final_lsn: tx.final_lsn, xid: tx.xid, rows: tx.rows });
        }
    }

    /// Everything collected, and the position behind it.
    pub(crate) fn take_group(&mut self) -> Result<(Vec<ChangeBatch>, SourcePosition), PostgresError> {
        let mut batches = std::mem::take(&mut self.group.batches);
        for index in std::mem::take(&mut self.touched) {
            let Some(entry) = self.entries.get_mut(index) else { continue };
            entry.touched = false;
            if let Some(rows) = entry.rows.as_mut().filter(|rows| !rows.is_empty()) {
                batches.push(rows.finish()?);
            }
        }
        self.note_open_transaction();
        self.moved = false;
        Ok((batches, self.position.encode()))
    }

    /// The server is at `wal_end`, and everything before it was sent.
    pub(crate) fn keep_alive(&mut self, wal_end: Lsn) {
        // A transaction that is open here has its commit before `wal_end`, perhaps; none of it is done with.
        if self.transaction.is_none() && self.position.open.is_none() {
            self.advance(wal_end);
        }
    }

    fn advance(&mut self, lsn: Lsn) {
        if lsn > self.position.lsn {
            self.position.lsn = lsn;
            self.moved = true;
            if self.snapshots_until.is_some_and(|until| lsn >= until) {
                self.snapshots_until = None;
                self.position.forget_passed();
            }
        }
    }

    /// Takes one message of the plug-in that begins at `start` of the log.
    #[inline]
    pub(crate) fn handle(&mut self, start: Lsn, payload: &[u8]) -> Result<Flow, PostgresError> {
        match pgoutput::parse(payload)? {
            Message::Insert { oid, new } => {
                if let Some((rows, stamp)) = self.row(oid, start, payload.len())? {
                    rows.insert(&stamp, new)?;
                }
            }
            Message::Update { oid, old, new } => {
                if let Some((rows, stamp)) = self.row(oid, start, payload.len())? {
                    rows.update(&stamp, old, new)?;
                }
            }
            Message::Delete { oid, old } => {
                if let Some((rows, stamp)) = self.row(oid, start, payload.len())? {
                    rows.delete(&stamp, old)?;
                }
            }
            Message::Begin { final_lsn, commit_ts, xid } => self.begin(final_lsn, commit_ts, xid)?,
            Message::Commit { end_lsn } => self.commit(end_lsn)?,
            Message::Truncate { oids } => self.truncate(&oids, start, payload.len())?,
            Message::Relation(relation) => return self.relation(relation),
            Message::Other => {}
        }
        Ok(Flow::Continue)
    }

    fn begin(&mut self, final_lsn: Lsn, commit_ts: i64, xid: u32) -> Result<(), PostgresError> {
        if self.transaction.is_some() {
            return Err(PostgresError::protocol("a transaction within a transaction"));
        }
        let skip = match self.position.open {
            // The server was asked to begin behind this, and did not: it is done with.
            _ if final_lsn < self.position.lsn => u64::MAX,
            Some(open) if open.final_lsn == final_lsn && open.xid == xid => open.rows,
            Some(open) => {
                return Err(self.gap(format!(
                    "transaction {} (commit at {}) was received in part, and the server did not send it again, but transaction {xid} (commit at {final_lsn})",
                    open.xid, open.final_lsn
                )));
            }
            None => 0,
        };
        let commit_ts_us = micros_since_1970(commit_ts).map_err(|_| PostgresError::protocol("a commit time out of range"))?;
        self.transaction = Some(Transaction { final_lsn, commit_ts_us, xid, rows: 0, skip });
        Ok(())
    }

    fn commit(&mut self, end_lsn: Lsn) -> Result<(), PostgresError> {
        let tx = self.transaction.take().ok_or_else(|| PostgresError::protocol("a commit without a transaction"))?;
        if tx.skip == u64::MAX {
            return Ok(());
        }
        if tx.rows < tx.skip {
            let (xid, rows, skip) = (tx.xid, tx.rows, tx.skip);
            return Err(
                self.gap(format!("transaction {xid} was sent again with {rows} row changes, of which {skip} are in the log"))
            );
        }
        self.position.open = None;
        self.advance(end_lsn);
        Ok(())
    }

    fn gap(&self, problem: String) -> PostgresError {
        let choices = "`mainstem resnapshot` this pipeline, which reads all tables again".to_owned();
        PostgresError::Gap { problem, choices }
    }

    /// Counts a row change. Returns where to put it, if it is new and of a table of ours.
    #[inline]
    fn row(&mut self, oid: u32, lsn: Lsn, bytes: usize) -> Result<Option<(&mut TableRows, Stamp)>, PostgresError> {
        let Some(tx) = &mut self.transaction else { return Err(PostgresError::protocol("a row outside of a transaction")) };
        tx.rows += 1;
        if tx.rows <= tx.skip {
            return Ok(None);
        }
        if self.last.0 != oid {
            let index =
                self.by_oid.get(&oid).ok_or_else(|| PostgresError::protocol(format!("a row of an unknown table (OID {oid})")))?;
            self.last = (oid, *index);
        }
        let index = self.last.1;
        let Some(entry) = self.entries.get_mut(index) else { return Ok(None) };
        let Some(rows) = entry.rows.as_mut().filter(|_| tx.final_lsn >= entry.snapshot) else { return Ok(None) };
        if !entry.touched {
            entry.touched = true;
            self.touched.push(index);
        }
        let stamp = Stamp {
            ordinal: self.group.count(bytes),
            commit_ts_us: tx.commit_ts_us,
            xid: Some(tx.xid),
            lsn,
            commit_lsn: Some(tx.final_lsn),
        };
        Ok(Some((rows, stamp)))
    }

    fn truncate(&mut self, oids: &[u32], lsn: Lsn, bytes: usize) -> Result<(), PostgresError> {
        // One message is one row change of the server, whatever the number of tables.
        let before = self.transaction.as_ref().map_or(0, |tx| tx.rows);
        for oid in oids {
            if let Some(tx) = &mut self.transaction {
                tx.rows = before;
            }
            if let Some((rows, stamp)) = self.row(*oid, lsn, bytes)? {
                rows.barrier(Op::Truncate, &stamp);
            }
        }
        Ok(())
    }

    fn relation(&mut self, relation: Relation) -> Result<Flow, PostgresError> {
        let oid = relation.oid;
        self.last = (0, 0);
        let known = self.by_oid.get(&oid).copied();
        let state = self.position.tables().get(&oid).filter(|table| table.progress != Progress::Left).cloned();
        let Some(state) = state else {
            if known.is_none() {
                let table = relation.table();
                if self.settings.tables.iter().any(|pattern| pattern.matches(&table)) {
                    warn!(table = %table, "a table that the file asks for appeared; it will be read from its beginning at the next start");
                }
                self.by_oid.insert(oid, self.entries.len());
                self.entries.push(Entry { relation, rows: None, snapshot: Lsn(u64::MAX), touched: false });
            }
            return Ok(Flow::Continue);
        };
        // The order of the key's columns stands in the catalog only. What was read of it when the source was opened holds until the
        // relation comes again: then the table was altered.
        let keys = match self.keys.remove(&oid) {
            Some(keys) if keys.agree_with(&relation) => keys,
            _ => self.with_side(|client, _, _| Ok(catalog::keys(client, &oid.to_string())?.remove(&oid).unwrap_or_default()))?,
        };
        let shape = self.shape(relation, &keys)?;
        if self.position.origin().binary && shape.plan.iter().any(|kind| !kind.has_binary()) {
            return Ok(Flow::NeedText);
        }
        let table = shape.relation.table();
        if state.name != table {
            info!(from = %state.name, to = %table, "a table was renamed; its changes go on under the new name");
            if let Some(entry) = self.position.tables_mut().get_mut(&oid) {
                entry.name = table;
            }
        }
        let snapshot = snapshot_of(state.progress).unwrap_or_default();
        let Some(index) = known else {
            self.by_oid.insert(oid, self.entries.len());
            let relation = shape.relation.clone();
            let rows = Some(TableRows::new(shape, &self.info));
            self.entries.push(Entry { relation, rows, snapshot, touched: false });
            return Ok(Flow::Continue);
        };
        let Some(entry) = self.entries.get_mut(index) else { return Ok(Flow::Continue) };
        entry.relation = shape.relation.clone();
        if let Some(rows) = &mut entry.rows {
            if rows.shape().schema == shape.schema && rows.shape().plan == shape.plan && rows.shape().relation == shape.relation {
                return Ok(Flow::Continue);
            }
            if !rows.is_empty() {
                self.group.batches.push(rows.finish()?);
            }
        }
        entry.rows = Some(TableRows::new(shape, &self.info));
        entry.snapshot = snapshot;
        Ok(Flow::Continue)
    }

    fn shape(&mut self, relation: Relation, keys: &Keys) -> Result<Shape, PostgresError> {
        self.with_side(|client, types, settings| Shape::new(relation.clone(), keys, types, settings, client))
    }

    /// Asks the catalog over a connection of its own. One that broke meanwhile is made anew, once.
    fn with_side<R>(
        &mut self,
        ask: impl Fn(&mut Client, &mut Types, &Settings) -> Result<R, PostgresError>,
    ) -> Result<R, PostgresError> {
        if let Some(client) = &mut self.side {
            match ask(client, &mut self.types, &self.settings) {
                Err(PostgresError::ConnectionLost { .. } | PostgresError::NoAnswer { .. }) => self.side = None,
                Err(error) if error.code().is_some_and(|code| code.starts_with("57")) => self.side = None,
                answered => return answered,
            }
        }
        let client = self.side.insert(Client::connect(&self.settings)?);
        ask(client, &mut self.types, &self.settings)
    }

    /// Bytes of its log that the server keeps for the slot; `None` if it cannot be asked.
    pub(crate) fn retained_bytes(&mut self) -> Option<u64> {
        let slot = self.position.origin().slot.clone();
        self.with_side(|client, _, _| crate::slot::retained_bytes(client, &slot)).ok().flatten()
    }
}

fn snapshot_of(progress: Progress) -> Option<Lsn> {
    match progress {
        Progress::Done(lsn) => lsn,
        Progress::Copying(lsn) => Some(lsn),
        Progress::Pending | Progress::Restart | Progress::Left => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{config::PostgresSourceConfig, position::Origin, rows::source_info};

    fn state() -> StreamState {
        let config = serde_json::json!({ "url": "postgres://u@127.0.0.1:1/d", "tables": ["*.*"] });
        let config: PostgresSourceConfig = serde_json::from_value(config).unwrap();
        let known = Known { info: source_info("d"), types: Types::default(), keys: HashMap::new(), side: None };
        let settings = Settings::new(config).unwrap_or_else(|(field, problem)| panic!("{field}: {problem}"));
        StreamState::new(Arc::new(settings), known, Position::new(Lsn(100), Origin::default()))
    }

    fn begin(final_lsn: u64, xid: u32) -> Vec<u8> {
        [&b"B"[..], &final_lsn.to_be_bytes(), &0u64.to_be_bytes(), &xid.to_be_bytes()].concat()
    }

    fn commit(end_lsn: u64) -> Vec<u8> {
        [&b"C\0"[..], &0u64.to_be_bytes(), &end_lsn.to_be_bytes(), &0u64.to_be_bytes()].concat()
    }

    const INSERT: &[u8] = b"I\0\0\0\x07N\0\0";
    /// A relation that is not captured, because the position does not know it.
    const RELATION: &[u8] = b"R\0\0\0\x07public\0t\0d\0\0";

    fn problem(messages: &[&[u8]]) -> String {
        let mut state = state();
        let failed = messages.iter().find_map(|message| state.handle(Lsn(0), message).err());
        failed.map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn what_no_server_sends_is_an_error() {
        let (begin, commit) = (begin(200, 7), commit(210));
        assert_eq!(problem(&[&begin, RELATION, INSERT, &commit]), "");
        for (messages, expected) in [
            (vec![&begin[..], INSERT], "unknown table"),
            (vec![RELATION, INSERT], "outside of a transaction"),
            (vec![&begin, &begin], "within a transaction"),
            (vec![&commit], "without a transaction"),
            (vec![&begin, b"T\xFF\xFF\xFF\xFF\0"], "does not add up"),
            (vec![&begin, b"?"], "message `?`"),
        ] {
            let found = problem(&messages);
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }

    #[test]
    fn a_transaction_that_was_received_in_part_has_to_come_again() {
        let open = OpenTransaction { final_lsn: Lsn(200), xid: 7, rows: 2 };
        let resumed = || {
            let mut state = state();
            state.position_mut().open = Some(open);
            state
        };
        let mut state = resumed();
        // What was committed before is passed over, keep-alives do not move the position, and too few rows are a gap.
        state.handle(Lsn(0), &begin(90, 3)).unwrap();
        state.handle(Lsn(0), &commit(95)).unwrap();
        state.keep_alive(Lsn(150));
        assert_eq!((state.position().lsn, state.position().open), (Lsn(100), Some(open)));
        for message in [&begin(200, 7), RELATION, INSERT] {
            state.handle(Lsn(0), message).unwrap();
        }
        assert!(state.handle(Lsn(0), &commit(210)).unwrap_err().to_string().contains("without a gap"));

        let mut state = resumed();
        for message in [&begin(200, 7), RELATION, INSERT, INSERT, INSERT, &commit(210)] {
            state.handle(Lsn(0), message).unwrap();
        }
        assert_eq!((state.position().lsn, state.position().open), (Lsn(210), None));
        for (lsn, xid) in [(200, 8), (201, 7)] {
            assert!(resumed().handle(Lsn(0), &begin(lsn, xid)).is_err(), "{lsn} {xid}");
        }
    }

    proptest! {
        #[test]
        fn no_stream_panics(messages in proptest::collection::vec((proptest::sample::select(b"BCRIUDTYOM".to_vec()), proptest::collection::vec(any::<u8>(), 0..40)), 0..12)) {
            let mut state = state();
            let _ = state.handle(Lsn(0), &begin(200, 7));
            let _ = state.handle(Lsn(0), RELATION);
            for (tag, bytes) in messages {
                if state.handle(Lsn(0), &[&[tag][..], &bytes].concat()).is_err() {
                    break;
                }
            }
            let _ = state.take_group();
        }
    }
}
