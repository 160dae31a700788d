//! The log's events into rows: which transaction is open, which rows are new, and what the position is after each transaction.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use connector_api::{ChangeBatch, Identity, Op, SourceInfo, SourcePosition, TableName};
use source_tailing::GroupBuilder;
use tracing::{info, warn};

use crate::{
    catalog,
    config::Settings,
    decode::{Charsets, RowsProblem, Shape, Stamp, TableDefinition, TableRows},
    error::MySqlError,
    event::{
        DefinitionVerb, Event, EventHeader, EventProblem, MariadbGtid, MysqlGtid, QualifiedName, Query, RowsEvent, Statement,
        TableMap, TableMapEvent, classify,
    },
    gtid_set::{Gtid, GtidSet},
    place::Place,
    position::{OpenTransaction, Position, Prepared, Progress},
    tables::Tables,
    wire::Client,
};

/// What was learnt of the server before the stream.
pub(crate) struct Known {
    pub info: Arc<SourceInfo>,
    pub charsets: Charsets,
    /// The tables as they were when the source was opened.
    pub definitions: BTreeMap<TableName, TableDefinition>,
    pub side: Option<Client>,
}

/// A transaction's number in its dialect. MySQL's tag stands beside it.
#[derive(Debug, Clone, Copy)]
enum Number {
    None,
    MySql { uuid: [u8; 16], number: u64 },
    MariaDb(MariadbGtid),
}

/// The transaction that is being received.
#[derive(Debug)]
struct Transaction {
    /// Counts transactions of this run, from 1.
    count: u64,
    /// Where it begins, in the present file.
    begin: u64,
    number: Number,
    commit_ts_us: i64,
    thread: Option<u32>,
    /// A statement that begins a transaction of several events was there, so one that changes a definition does not end it.
    begun: bool,
    /// One event is all of it.
    standalone: bool,
    /// Its rows are not committed by its own end, but by a later transaction.
    prepares: bool,
    /// Rows of captured tables were in it.
    has_rows: bool,
    /// As many rows of each table were handed over before.
    skip: BTreeMap<TableName, u64>,
}

/// What the caller has to do after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    Continue,
    /// The rows of this transaction, which was prepared before, have to be handled now.
    Replay(Prepared),
}

/// How far the rows of a prepared transaction are read again.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Replay {
    No,
    /// The transaction of that GTID is still to come; empty for the very next.
    Seeking(String),
    Rows,
    Over,
}

/// See the module.
pub(crate) struct StreamState {
    settings: Arc<Settings>,
    known: Known,
    tables: Tables,
    touched: Vec<usize>,
    transaction: Option<Transaction>,
    transactions: u64,
    /// The transaction's GTID as text, and MySQL's tag: kept for their memory.
    gtid: String,
    tag: String,
    position: Position,
    /// Where the present event begins.
    place: Place,
    replay: Replay,
    scratch: Vec<u8>,
    /// Any table has a snapshot that the stream has not passed.
    has_points: bool,
    /// The position moved since the last group.
    pub moved: bool,
    pub group: GroupBuilder,
}

impl StreamState {
    pub(crate) fn new(settings: Arc<Settings>, known: Known, position: Position) -> Self {
        let has_points = !position.points().is_empty();
        Self {
            settings,
            known,
            tables: Tables::default(),
            touched: Vec::new(),
            transaction: None,
            transactions: 0,
            gtid: String::new(),
            tag: String::new(),
            place: position.done.place.clone(),
            position,
            replay: Replay::No,
            scratch: Vec::new(),
            has_points,
            moved: false,
            group: GroupBuilder::default(),
        }
    }

    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// How many tables have rows in the group.
    pub(crate) fn tables_in_group(&self) -> u32 {
        self.touched.len() as u32
    }

    /// Whether a transaction has begun and not ended.
    pub(crate) fn in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// The connection for questions.
    pub(crate) fn side(&mut self) -> &mut Option<Client> {
        &mut self.known.side
    }

    /// The present event for messages.
    pub(crate) fn at(&self) -> String {
        self.place.to_string()
    }

    /// Notes where an event begins. It may be elsewhere than where the one before it ended: a server passes over what is not asked for.
    #[inline]
    pub(crate) fn reached(&mut self, header: &EventHeader) {
        if !header.is_artificial() && header.next_position != 0 {
            self.place.advance(header.next_position.wrapping_sub(header.event_size));
        }
    }

    /// Notes where the next event begins: `next_position` of its header.
    #[inline]
    pub(crate) fn passed(&mut self, header: &EventHeader) {
        if !header.is_artificial() {
            self.place.advance(header.next_position);
        }
    }

    fn note_open_transaction(&mut self) {
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
    fn transaction_name(&self) -> String {
        match &self.transaction {
            Some(Transaction { number: Number::None, begin, .. }) => Place::new(self.place.file.as_str(), *begin).to_string(),
            _ => self.gtid.clone(),
        }
    }

    /// Everything collected, and the position behind it.
    pub(crate) fn take_group(&mut self) -> Result<(Vec<ChangeBatch>, SourcePosition), MySqlError> {
        let mut batches = std::mem::take(&mut self.group.batches);
        for index in std::mem::take(&mut self.touched) {
            let Some(entry) = self.tables.get(index) else { continue };
            entry.touched = false;
            if let Some(rows) = entry.rows.as_mut().filter(|rows| !rows.is_empty()) {
                batches.push(rows.finish().map_err(rows_error)?);
            }
        }
        self.note_open_transaction();
        self.moved = false;
        Ok((batches, self.position.encode()))
    }

    /// Takes one event, without its checksum.
    #[inline]
    pub(crate) fn handle(&mut self, header: &EventHeader, body: &[u8]) -> Result<Next, MySqlError> {
        /// Parts of LOAD DATA in statement format: the statement itself comes with the last.
        const LOAD_DATA_PARTS: [u8; 3] = [9, 11, 17];
        const EXECUTE_LOAD_DATA: u8 = 18;
        match header.event_type {
            part if LOAD_DATA_PARTS.contains(&part) => return Ok(Next::Continue),
            EXECUTE_LOAD_DATA => {
                self.statement_with_rows(body, None)?;
                return Ok(Next::Continue);
            }
            _ => {}
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let handled = match Event::parse(header, body, &mut scratch) {
            Ok(event) => self.take(header, event, body.len()),
            Err(problem) => Err(self.event_error(problem)),
        };
        self.scratch = scratch;
        handled
    }

    #[inline]
    fn take(&mut self, header: &EventHeader, event: Event<'_>, bytes: usize) -> Result<Next, MySqlError> {
        match event {
            Event::Rows(event) => self.rows(header, &event, bytes)?,
            Event::TableMap(event) => self.table_map(&event)?,
            Event::Query(query) => return self.query(&query),
            Event::Xid(_) => self.commit()?,
            Event::MysqlGtid(gtid) => self.begin_mysql(header, &gtid, true)?,
            Event::AnonymousGtid(gtid) => self.begin_mysql(header, &gtid, false)?,
            Event::MariadbGtid(gtid) => self.begin_mariadb(header, gtid)?,
            Event::XaPrepare { one_phase, xid } => return self.xa_prepare(one_phase, &xid.to_string()),
            Event::Heartbeat { file, position } => self.heartbeat(file, position),
            Event::Rotate { file, position } => self.rotate(header, file, position),
            Event::FormatDescription(_) => self.tables.forget_ids(),
            Event::Incident { incident } => {
                return Err(MySqlError::gap(format!(
                    "the server noted at {} that its log lacks changes (incident {incident}); `mysqlbinlog` shows what it says of it",
                    self.place
                )));
            }
            Event::MariadbGtidList(_) | Event::PreviousGtids(_) | Event::RowsQuery(_) | Event::StartEncryption => {}
            Event::Stop | Event::Other(_) => {}
            Event::TransactionPayload(_) | Event::RowsFragment(_) => {
                return Err(MySqlError::protocol("a compressed or divided event within another"));
            }
        }
        Ok(Next::Continue)
    }

    fn rotate(&mut self, header: &EventHeader, file: &str, position: u64) {
        // The first event of a connection, and the one after the end of a file, say where the server reads on. Numbers of tables hold
        // within a file.
        self.tables.forget_ids();
        if self.place.file != file || header.is_artificial() {
            self.place = Place::new(file, position);
        }
        self.idle();
    }

    fn heartbeat(&mut self, file: &str, position: Option<u64>) {
        if self.place.file == file
            && let Some(position) = position.filter(|position| *position > self.place.position)
        {
            self.place.position = position;
        }
        self.idle();
    }

    /// Between transactions: everything before the present place is done with.
    fn idle(&mut self) {
        if self.transaction.is_none() && self.position.open.is_none() && self.position.done.place != self.place {
            self.position.done.place.clone_from(&self.place);
            self.moved = true;
        }
    }

    fn begin_mysql(&mut self, header: &EventHeader, gtid: &MysqlGtid<'_>, named: bool) -> Result<(), MySqlError> {
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

    fn begin_mariadb(&mut self, header: &EventHeader, gtid: MariadbGtid) -> Result<(), MySqlError> {
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

    fn begin(&mut self, number: Number, commit_ts_us: i64, standalone: bool, prepares: bool) -> Result<(), MySqlError> {
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
    fn gtid_of<'a>(tx: &Transaction, tag: &'a str) -> Option<Gtid<'a>> {
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
            let entry = self.tables.iter().find(|entry| entry.name == *table);
            let captured = entry.is_none_or(|entry| entry.captured);
            let seen = entry.and_then(|entry| entry.done_of(tx.count)).unwrap_or(0);
            let passed = entry.is_some_and(|entry| entry.passed);
            if captured && !passed && seen < *rows {
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

    fn forget_passed_points(&mut self) {
        self.has_points = self.position.forget_passed();
        let states = self.position.tables();
        for entry in self.tables.iter_mut() {
            entry.point = states.get(&entry.name).and_then(|state| state.progress.point());
        }
    }

    fn query(&mut self, query: &Query<'_>) -> Result<Next, MySqlError> {
        let statement = classify(query.text);
        if self.is_replaying() {
            return Ok(Next::Continue);
        }
        if let Some(tx) = &mut self.transaction {
            tx.thread = Some(query.thread_id);
        }
        match statement {
            Statement::Begin => self.begun(false)?,
            Statement::XaStart => self.begun(true)?,
            Statement::Commit => self.commit()?,
            Statement::Rollback => {
                if self.transaction.as_ref().is_some_and(|tx| tx.has_rows) {
                    return Err(self.error(
                        "the log holds a transaction of captured tables that was rolled back, because it also changed tables without \
                         transactions: which of its rows are void, the log does not say",
                    ));
                }
                self.commit()?;
            }
            Statement::RollbackToSavepoint => {
                if self.transaction.as_ref().is_some_and(|tx| tx.has_rows) {
                    return Err(self.error(
                        "the log holds a part of a transaction of captured tables that was rolled back to a savepoint: which of its rows \
                         are void, the log does not say",
                    ));
                }
            }
            Statement::Savepoint | Statement::XaEnd | Statement::XaPrepare => {}
            Statement::XaCommit => return self.xa_commit(&xid_of(query.text)),
            Statement::XaRollback => {
                let xid = xid_of(query.text);
                self.position.prepared_mut().retain(|prepared| prepared.xid != xid);
                self.commit()?;
            }
            Statement::Truncate(name) => {
                self.barrier(&table_name(name, query.database))?;
                self.end_of_statement()?;
            }
            Statement::Definition { verb, tables } => {
                let tables = tables.into_iter().map(|name| table_name(name, query.database)).collect::<Vec<_>>();
                self.definition(verb, &tables)?;
                self.end_of_statement()?;
            }
            Statement::Rows => {
                self.statement_with_rows(query.text, Some(query.database))?;
                self.end_of_statement()?;
            }
            Statement::Other => self.end_of_statement()?,
        }
        Ok(Next::Continue)
    }

    fn begun(&mut self, xa: bool) -> Result<(), MySqlError> {
        if self.transaction.is_none() {
            return Err(self.error("a transaction without its beginning"));
        }
        if let Some(tx) = self.transaction.as_mut() {
            tx.begun = true;
            tx.prepares |= xa;
        }
        Ok(())
    }

    /// A statement outside of a transaction of several events is one of its own.
    fn end_of_statement(&mut self) -> Result<(), MySqlError> {
        match &self.transaction {
            Some(tx) if !tx.begun || tx.standalone => self.commit(),
            _ => Ok(()),
        }
    }

    /// Ends a transaction whose rows an `XA COMMIT` commits; in one phase, that is now.
    fn xa_prepare(&mut self, one_phase: bool, xid: &str) -> Result<Next, MySqlError> {
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

    fn xa_commit(&mut self, xid: &str) -> Result<Next, MySqlError> {
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

    fn is_replaying(&self) -> bool {
        self.replay != Replay::No
    }

    /// A transaction begins among the events that are read again: whether it is the one.
    fn seek(&mut self, is_it: impl FnOnce(&str) -> bool) {
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

    /// A statement that changes rows, written as it is instead of the rows.
    /// `database` is the one that was in use, where that is known.
    fn statement_with_rows(&self, text: &[u8], database: Option<&str>) -> Result<(), MySqlError> {
        let text = String::from_utf8_lossy(text).to_lowercase();
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let names = |table: &str| match table.chars().all(is_word) {
            true => text.split(|c| !is_word(c)).any(|word| word == table),
            false => text.contains(table),
        };
        let captured = self.position.tables().iter().filter(|(_, state)| state.progress != Progress::Left);
        for (table, _) in captured {
            let in_database = database.is_none_or(|database| database == table.schema) || names(&table.schema.to_lowercase());
            if in_database && names(&table.name.to_lowercase()) {
                return Err(MySqlError::Stream {
                    place: self.at(),
                    problem: format!(
                        "the log holds a statement that names table {table} instead of the rows it changed: set binlog_format to ROW for all \
                         sessions, and resnapshot the table"
                    ),
                });
            }
        }
        Ok(())
    }

    fn definition(&mut self, verb: DefinitionVerb, tables: &[TableName]) -> Result<(), MySqlError> {
        for table in tables {
            let Some(state) = self.position.tables().get(table).filter(|state| state.progress != Progress::Left) else { continue };
            let (minimal, point) = (state.definition.is_some(), state.progress.point());
            if self.in_snapshot(point) {
                continue;
            }
            match verb {
                DefinitionVerb::Drop => {
                    warn!(table = %table, place = %self.place, "the table was dropped; what the log holds of it is voided");
                    self.barrier(table)?;
                }
                DefinitionVerb::Rename => {
                    info!(table = %table, place = %self.place, "a table was renamed; tables are captured by their name");
                }
                DefinitionVerb::Alter | DefinitionVerb::Create => {}
            }
            if minimal {
                let index = self.tables.by_name(table, || (true, point));
                if let Some(entry) = self.tables.get(index) {
                    entry.altered = true;
                    entry.described.clear();
                }
            }
        }
        Ok(())
    }

    /// Whether the transaction is in the snapshot that was taken as of that point.
    fn in_snapshot(&self, point: Option<u32>) -> bool {
        let Some(tx) = &self.transaction else { return false };
        let point = point.and_then(|point| self.position.point(point));
        point.is_some_and(|point| point.contains((&self.place.file, tx.begin), Self::gtid_of(tx, &self.tag).as_ref()))
    }

    /// All rows of a table are gone.
    fn barrier(&mut self, table: &TableName) -> Result<(), MySqlError> {
        let Some(state) = self.position.tables().get(table).filter(|state| state.progress != Progress::Left) else { return Ok(()) };
        let point = state.progress.point();
        if self.in_snapshot(point) {
            return Ok(());
        }
        let index = self.tables.by_name(table, || (true, point));
        // A table of which the log said nothing yet has the shape that the catalog says.
        let described = self.tables.get(index).is_some_and(|entry| entry.shape.is_ok());
        if !described {
            let shape = self.shape_of_definition(table);
            if let (Ok(shape), Some(entry)) = (shape, self.tables.get(index)) {
                entry.shape = Ok(shape);
            }
        }
        let Some(tx) = &self.transaction else { return Ok(()) };
        let Some(entry) = self.tables.get(index) else { return Ok(()) };
        let Ok(shape) = &entry.shape else {
            warn!(%table, "the table was emptied before the log described it; there is nothing of it to void");
            return Ok(());
        };
        let rows = entry.rows.get_or_insert_with(|| TableRows::new(Arc::clone(shape), Identity::Full, &self.known.info));
        let stamp = Stamp {
            ordinal: self.group.count(0),
            commit_ts_us: tx.commit_ts_us,
            gtid: Some(self.gtid.as_str()).filter(|gtid| !gtid.is_empty()),
            server_id: None,
            file: &self.place.file,
            position: self.place.position,
            thread: tx.thread,
        };
        rows.barrier(Op::Truncate, &stamp);
        if !entry.touched {
            entry.touched = true;
            self.touched.push(index);
        }
        Ok(())
    }

    fn shape_of_definition(&mut self, table: &TableName) -> Result<Arc<Shape>, MySqlError> {
        let stored = self.position.tables().get(table).and_then(|state| state.definition.clone());
        let definition = match stored {
            Some(definition) => Some(definition.as_ref().clone()),
            None => self.known.definitions.get(table).cloned(),
        };
        let definition = definition.ok_or_else(|| self.error("no definition of the table is known"))?;
        let shape = Shape::of_definition(&definition, &self.known.charsets, self.settings.decode);
        shape.map(Arc::new).map_err(|problem| MySqlError::Table { table: table.to_string(), problem: problem.to_string() })
    }

    fn table_map(&mut self, event: &TableMapEvent<'_>) -> Result<(), MySqlError> {
        if let Some((_, entry)) = self.tables.by_id(event.table_id)
            && entry.described == event.definition
        {
            return Ok(());
        }
        let name = TableName::new(event.database, event.table);
        let states = self.position.tables();
        let state = states.get(&name).filter(|state| state.progress != Progress::Left);
        let index = self.tables.by_name(&name, || (state.is_some(), state.and_then(|state| state.progress.point())));
        self.tables.name_id(event.table_id, index);
        let Some(entry) = self.tables.get(index) else { return Ok(()) };
        if entry.described == event.definition {
            return Ok(());
        }
        let first = entry.described.is_empty();
        let altered = entry.altered;
        entry.described = event.definition.to_vec();
        if !entry.captured {
            if first && self.settings.tables.iter().any(|pattern| pattern.matches(&name)) {
                warn!(table = %name, "a table that the file asks for appeared; it will be read from its beginning at the next start");
            }
            return Ok(());
        }
        let map = event.describe().map_err(|problem| self.event_error(problem))?;
        let shape = if altered && !map.has_names {
            Err("its definition was changed, and with `binlog_row_metadata` MINIMAL the log does not say how: SET GLOBAL binlog_row_metadata = \
                 FULL, and resnapshot the table"
                .to_owned())
        } else {
            self.shape(&name, &map)?
        };
        let Some(entry) = self.tables.get(index) else { return Ok(()) };
        if let Some(rows) = &mut entry.rows {
            let same = shape.as_ref().is_ok_and(|shape| rows.shape() == shape);
            if !same && !rows.is_empty() {
                self.group.batches.push(rows.finish().map_err(rows_error)?);
            }
            if !same {
                entry.rows = None;
            }
        }
        entry.shape = shape;
        Ok(())
    }

    /// How the rows of a captured table are read. The inner error waits until there is such a row.
    fn shape(&mut self, name: &TableName, map: &TableMap) -> Result<Result<Arc<Shape>, String>, MySqlError> {
        let stored = self.position.tables().get(name).and_then(|state| state.definition.clone());
        let definition = if map.has_names {
            let fits = |definition: &TableDefinition| definition.describes(map);
            if !self.known.definitions.get(name).is_some_and(fits) {
                let asked = self.with_side(|client| catalog::definitions(client, std::slice::from_ref(name)))?;
                self.known.definitions.extend(asked);
            }
            // The log says itself what its rows are. What the catalog adds is only believed where it speaks of the same columns.
            self.known.definitions.get(name).filter(|definition| fits(definition))
        } else {
            stored.as_deref()
        };
        let shape = Shape::new(name, map, definition, &self.known.charsets, self.settings.decode);
        Ok(shape.map(Arc::new).map_err(|problem| problem.to_string()))
    }

    fn rows(&mut self, header: &EventHeader, event: &RowsEvent<'_>, bytes: usize) -> Result<(), MySqlError> {
        // Of what is read again, only one transaction counts.
        if event.table_id == RowsEvent::NO_TABLE || matches!(self.replay, Replay::Seeking(_) | Replay::Over) {
            return Ok(());
        }
        let Some(tx) = &mut self.transaction else { return Err(self.error("rows outside of a transaction")) };
        let Some((index, entry)) = self.tables.by_id(event.table_id) else {
            return Err(self.error("rows of a table that the log did not describe"));
        };
        if !entry.captured {
            return Ok(());
        }
        tx.has_rows = true;
        if tx.prepares {
            return Ok(());
        }
        if entry.enters(tx.count) {
            entry.skip = tx.skip.get(&entry.name).copied().unwrap_or(0);
            let point = entry.point.and_then(|point| self.position.point(point));
            let gtid = Self::gtid_of(tx, &self.tag);
            entry.passed = point.is_some_and(|point| point.contains((&self.place.file, tx.begin), gtid.as_ref()));
        }
        if entry.passed {
            return Ok(());
        }
        let shape = match &entry.shape {
            Ok(shape) => shape,
            Err(problem) => {
                return Err(MySqlError::Table { table: entry.name.to_string(), problem: problem.clone() });
            }
        };
        if let Some(rows) = &mut entry.rows
            && !rows.fits(event)
        {
            if !rows.is_empty() {
                self.group.batches.push(rows.finish().map_err(rows_error)?);
            }
            entry.rows = None;
        }
        let rows = entry.rows.get_or_insert_with(|| {
            let identity = TableRows::identity_of(event).unwrap_or(Identity::Full);
            TableRows::new(Arc::clone(shape), identity, &self.known.info)
        });
        let stamp = Stamp {
            ordinal: self.group.rows,
            commit_ts_us: tx.commit_ts_us,
            gtid: Some(self.gtid.as_str()).filter(|gtid| !gtid.is_empty()),
            server_id: Some(header.server_id),
            file: &self.place.file,
            position: self.place.position,
            thread: tx.thread,
        };
        let skip = entry.skip.saturating_sub(entry.seen);
        let appended = rows.append(&stamp, event, skip).map_err(rows_error)?;
        entry.seen += u64::from(appended.seen);
        if appended.appended > 0 {
            self.group.count_rows(appended.appended, bytes);
            if !entry.touched {
                entry.touched = true;
                self.touched.push(index);
            }
        }
        Ok(())
    }

    /// Asks the server over a connection of its own. One that broke meanwhile is made anew, once.
    pub(crate) fn with_side<R>(&mut self, ask: impl Fn(&mut Client) -> Result<R, MySqlError>) -> Result<R, MySqlError> {
        if let Some(client) = &mut self.known.side {
            match ask(client) {
                Err(error) if error.is_connection() => self.known.side = None,
                answered => return answered,
            }
        }
        let client = self.known.side.insert(Client::connect(&self.settings)?);
        ask(client)
    }

    #[cold]
    fn error(&self, problem: &str) -> MySqlError {
        MySqlError::Stream { place: self.at(), problem: problem.to_owned() }
    }

    #[cold]
    pub(crate) fn event_error(&self, problem: EventProblem) -> MySqlError {
        MySqlError::Event { place: self.at(), problem }
    }
}

fn table_name(name: QualifiedName, database: &str) -> TableName {
    TableName::new(name.database.unwrap_or_else(|| database.to_owned()), name.table)
}

/// The XID at the end of `XA COMMIT …` as the log writes it: `X'6162',X'',1`.
fn xid_of(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    text.split_whitespace().nth(2).unwrap_or_default().to_owned()
}

#[cold]
pub(crate) fn rows_error(problem: RowsProblem) -> MySqlError {
    match problem {
        RowsProblem::Batch { table, cause } => MySqlError::Batch { table: table.to_string(), cause },
        RowsProblem::Value { table, column, problem } => {
            MySqlError::Table { table: table.to_string(), problem: format!("column `{column}`: {problem}") }
        }
        RowsProblem::Row { table, problem } => MySqlError::Table { table: table.to_string(), problem: problem.to_owned() },
    }
}
