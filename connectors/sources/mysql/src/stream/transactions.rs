//! Transactions: where they begin and end, how much of them is done with, and those of `XA`, which are committed by a later one.

use std::{collections::BTreeMap, fmt::Write};

use connector_api::TableName;

use super::{Next, StreamState};
use crate::{
    error::MySqlError,
    event::{EventHeader, MariadbGtid, MysqlGtid},
    gtid_set::{Gtid, GtidSet},
    place::Place,
    position::{OpenTransaction, Prepared, Progress},
};

/// A transaction's number in its dialect. MySQL's tag stands beside it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Number {
    None,
    MySql { uuid: u128, number: u64 },
    MariaDb(MariadbGtid),
}

/// The transaction that is being received.
#[derive(Debug)]
pub(super) struct Transaction {
    /// Counts transactions of this run, from 1.
    pub count: u64,
    /// Where it begins, in the present file.
    pub begin: u64,
    pub number: Number,
    pub commit_ts_us: i64,
    pub thread: Option<u32>,
    /// A statement that begins a transaction of several events was there, so one that changes a definition does not end it.
    pub begun: bool,
    /// One event is all of it.
    pub standalone: bool,
    /// Its rows are not committed by its own end, but by a later transaction.
    pub prepares: bool,
    /// Rows of captured tables were in it.
    pub has_rows: bool,
    /// As many rows of each table were handed over before.
    pub skip: BTreeMap<TableName, u64>,
}

/// How far the rows of a prepared transaction are read again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replay {
    No,
    /// The transaction of that GTID is still to come; empty for the very next.
    Seeking(String),
    Rows,
    Over,
}

impl StreamState {
    pub(super) fn note_open_transaction(&mut self) {
        let Some(tx) = &self.transaction else { return };
        let mut rows = tx.skip.clone();
        for entry in self.tables.iter() {
            if let Some(done) = entry.done_of(tx.count) {
                rows.insert(entry.name.clone(), done);
            }
        }
        if !rows.is_empty() {
            self.position.open = Some(OpenTransaction { name: self.transaction_name(), rows });
        }
    }

    /// What tells the transaction from others: its GTID, or where it begins.
    pub(super) fn transaction_name(&self) -> String {
        match &self.transaction {
            Some(Transaction { number: Number::None, begin, .. }) => Place::new(self.place.file.as_str(), *begin).to_string(),
            _ => self.gtid.clone(),
        }
    }

    pub(super) fn begin_mysql(&mut self, header: &EventHeader, gtid: &MysqlGtid<'_>, named: bool) -> Result<(), MySqlError> {
        if self.is_replaying() {
            self.seek(|wanted| !named || wanted == gtid.to_string());
            return Ok(());
        }
        let by_gtid = self.position.done.gtids.is_some();
        if by_gtid && !named {
            return Err(self.error(
                "a transaction without a GTID, though the position counts by GTIDs; set gtid_mode to ON again and resnapshot",
            ));
        }
        let number = if named { Number::MySql { uuid: gtid.uuid, number: gtid.number } } else { Number::None };
        self.tag.clear();
        self.tag.push_str(gtid.tag);
        self.gtid.clear();
        if named {
            let _ = write!(self.gtid, "{gtid}");
        }
        let seconds = i64::from(header.timestamp) * 1_000_000;
        let commit_ts_us = i64::try_from(gtid.commit_ts_us).ok().filter(|time| *time > 0).unwrap_or(seconds);
        self.begin(number, commit_ts_us, false, false)
    }

    pub(super) fn begin_mariadb(&mut self, header: &EventHeader, gtid: MariadbGtid) -> Result<(), MySqlError> {
        if self.is_replaying() {
            self.seek(|wanted| wanted == gtid.to_string());
            return Ok(());
        }
        self.gtid.clear();
        let _ = write!(self.gtid, "{gtid}");
        let commit_ts_us = i64::from(header.timestamp) * 1_000_000;
        self.begin(Number::MariaDb(gtid), commit_ts_us, gtid.standalone, gtid.prepared_xa)?;
        if let Some(tx) = &mut self.transaction {
            // Here the GTID stands for BEGIN.
            tx.begun = !gtid.standalone && !gtid.completed_xa;
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, number: Number, commit_ts_us: i64, standalone: bool, prepares: bool) -> Result<(), MySqlError> {
        if self.transaction.is_some() {
            return Err(self.error("a transaction within a transaction"));
        }
        self.transactions += 1;
        let begin = self.place.position;
        self.transaction = Some(Transaction {
            count: self.transactions,
            begin,
            number,
            commit_ts_us,
            thread: None,
            begun: false,
            standalone,
            prepares,
            has_rows: false,
            skip: BTreeMap::new(),
        });
        // In a log without GTIDs it begins exactly here.
        if self.position.done.gtids.is_none() && self.position.open.is_none() {
            self.position.done.place.clone_from(&self.place);
        }
        if let Some(open) = &self.position.open {
            let name = self.transaction_name();
            if open.name != name {
                return Err(MySqlError::gap(format!(
                    "transaction {} was received in part, and the server did not send it again, but {name}",
                    open.name
                )));
            }
            if let Some(tx) = &mut self.transaction {
                tx.skip.clone_from(&open.rows);
            }
        }
        Ok(())
    }

    /// The present transaction's identifier.
    pub(super) fn gtid_of<'a>(tx: &Transaction, tag: &'a str) -> Option<Gtid<'a>> {
        match tx.number {
            Number::None => None,
            Number::MySql { uuid, number } => Some(Gtid::MySql(MysqlGtid { uuid, tag, number, ..MysqlGtid::default() })),
            Number::MariaDb(gtid) => Some(Gtid::MariaDb(gtid)),
        }
    }

    /// Ends the transaction: only now it counts as done with.
    pub(crate) fn commit(&mut self) -> Result<(), MySqlError> {
        // What ends a prepared transaction does not end the one that commits it.
        if self.is_replaying() {
            return Ok(());
        }
        let Some(tx) = self.transaction.take() else { return Err(self.error("a commit without a transaction")) };
        for (table, rows) in &tx.skip {
            let state = self.position.tables().get(table).filter(|state| state.progress != Progress::Left);
            let point = state.and_then(|state| state.progress.point()).and_then(|point| self.position.point(point));
            let gtid = Self::gtid_of(&tx, &self.tag);
            let in_snapshot = point.is_some_and(|point| point.contains((&self.place.file, tx.begin), gtid.as_ref()));
            let seen = self.tables.iter().find(|entry| entry.name == *table).map_or(0, |entry| entry.seen_of(tx.count));
            if state.is_some() && !in_snapshot && seen < *rows {
                return Err(MySqlError::gap(format!(
                    "a transaction was sent again with {seen} rows of table {table}, of which {rows} are in the log ({})",
                    self.place
                )));
            }
        }
        match (&mut self.position.done.gtids, tx.number) {
            (Some(GtidSet::MySql(set)), Number::MySql { uuid, number }) => {
                set.insert(&MysqlGtid { uuid, tag: &self.tag, number, ..MysqlGtid::default() });
            }
            (Some(GtidSet::MariaDb(set)), Number::MariaDb(gtid)) => {
                set.0.insert(gtid.domain, (gtid.server_id, gtid.sequence));
            }
            (Some(_), _) => return Err(self.error("a transaction without a GTID")),
            (None, _) => {}
        }
        self.position.open = None;
        self.moved = true;
        if self.has_points {
            self.forget_passed_points();
        }
        Ok(())
    }

    /// Called once an event that ended a transaction lies behind: the place is then that of the next one.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if self.transaction.is_none() && self.moved {
            self.position.done.place.clone_from(&self.place);
        }
    }

    pub(super) fn forget_passed_points(&mut self) {
        self.has_points = self.position.forget_passed();
        let states = self.position.tables();
        for entry in self.tables.iter_mut() {
            entry.point = states.get(&entry.name).and_then(|state| state.progress.point());
        }
    }

    /// Ends a transaction whose rows an `XA COMMIT` commits; in one phase, that is now.
    pub(super) fn xa_prepare(&mut self, one_phase: bool, xid: &str) -> Result<Next, MySqlError> {
        if self.is_replaying() {
            if self.replay == Replay::Rows {
                self.replay = Replay::Over;
            }
            return Ok(Next::Continue);
        }
        let Some(tx) = &mut self.transaction else { return Err(self.error("the end of a transaction without its beginning")) };
        let place = Place::new(self.place.file.as_str(), tx.begin);
        let prepared = Prepared { xid: xid.to_ascii_lowercase(), gtid: self.gtid.clone(), place };
        if one_phase {
            tx.prepares = false;
            return Ok(Next::Replay(prepared));
        }
        let all = self.position.prepared_mut();
        all.retain(|old| old.xid != prepared.xid);
        all.push(prepared);
        self.commit()?;
        Ok(Next::Continue)
    }

    pub(super) fn xa_commit(&mut self, xid: &str) -> Result<Next, MySqlError> {
        let found = self.position.prepared().iter().find(|prepared| prepared.xid == xid).cloned();
        let Some(prepared) = found else {
            return Err(MySqlError::gap(format!(
                "at {} the transaction {xid} of XA is committed, which was prepared before this pipeline began",
                self.place
            )));
        };
        Ok(Next::Replay(prepared))
    }

    /// Events that follow are read again for the rows of a prepared transaction, until [`replay_is_over`](Self::replay_is_over). Returns the
    /// present place.
    pub(crate) fn begin_replay(&mut self, prepared: &Prepared) -> Place {
        self.replay = Replay::Seeking(prepared.gtid.clone());
        self.tables.forget_ids();
        std::mem::replace(&mut self.place, prepared.place.clone())
    }

    pub(super) fn is_replaying(&self) -> bool {
        self.replay != Replay::No
    }

    /// A transaction begins among the events that are read again: whether it is the one.
    pub(super) fn seek(&mut self, is_it: impl FnOnce(&str) -> bool) {
        if let Replay::Seeking(wanted) = &self.replay
            && (wanted.is_empty() || is_it(wanted))
        {
            self.replay = Replay::Rows;
        }
    }

    /// Whether all rows of the prepared transaction were handled.
    pub(crate) fn replay_is_over(&self) -> bool {
        self.replay == Replay::Over
    }

    /// Ends the transaction that commits the prepared one, which stands at `place`.
    pub(crate) fn end_replay(&mut self, prepared: &Prepared, place: Place) -> Result<(), MySqlError> {
        self.replay = Replay::No;
        self.tables.forget_ids();
        self.place = place;
        self.position.prepared_mut().retain(|old| old.xid != prepared.xid);
        self.commit()
    }

    /// Whether the transaction is in the snapshot that was taken as of that point.
    pub(super) fn in_snapshot(&self, point: Option<u32>) -> bool {
        let Some(tx) = &self.transaction else { return false };
        let point = point.and_then(|point| self.position.point(point));
        point.is_some_and(|point| point.contains((&self.place.file, tx.begin), Self::gtid_of(tx, &self.tag).as_ref()))
    }
}
