//! The log's events into rows: which transaction is open, which rows are new, and what the position is after each transaction.
mod statements;
mod transactions;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use connector_api::{ChangeBatch, Identity, SourceInfo, SourcePosition, TableName};
use source_tailing::GroupBuilder;
use tracing::warn;

use self::transactions::{Replay, Transaction};
use crate::{
    catalog,
    config::Settings,
    decode::{Charsets, RowsProblem, Shape, Stamp, TableDefinition, TableRows},
    error::MySqlError,
    event::{Event, EventHeader, EventProblem, Fragments, RowsEvent, TableMap, TableMapEvent},
    place::Place,
    position::{Position, Prepared, Progress, Requested},
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

/// What the caller has to do after an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    Continue,
    /// The rows of this transaction, which was prepared before, have to be handled now.
    Replay(Prepared),
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
    /// Pieces of a rows event that comes divided.
    fragments: Fragments,
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
            fragments: Fragments::default(),
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

    /// The server's character sets.
    pub(crate) fn with_charsets<R>(&self, ask: impl FnOnce(&Charsets) -> R) -> R {
        ask(&self.known.charsets)
    }

    /// Notes a table that is to be read while the stream goes on.
    pub(crate) fn request(&mut self, requested: Requested) {
        self.position.requested_mut().push(requested);
        self.moved = true;
    }

    /// The present request goes on behind that key.
    pub(crate) fn continue_request(&mut self, after: Vec<String>) {
        if let Some(requested) = self.position.requested_mut().first_mut() {
            requested.after = after;
        }
        self.moved = true;
    }

    /// The present request is done with.
    pub(crate) fn finish_request(&mut self) {
        if !self.position.requested().is_empty() {
            self.position.requested_mut().remove(0);
        }
        self.moved = true;
    }

    /// Closes the batch of a table, so that what follows comes behind it.
    pub(crate) fn flush(&mut self, table: &TableName) -> Result<(), MySqlError> {
        for entry in self.tables.iter_mut().filter(|entry| entry.name == *table) {
            if let Some(rows) = entry.rows.as_mut().filter(|rows| !rows.is_empty()) {
                self.group.batches.push(rows.finish().map_err(rows_error)?);
            }
        }
        Ok(())
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
        if self.fragments.is_open() && !matches!(event, Event::RowsFragment(_) | Event::Heartbeat { .. }) {
            return Err(MySqlError::protocol("a divided rows event whose last pieces are missing"));
        }
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
            Event::RowsFragment(fragment) => {
                let whole = self.fragments.push(&fragment).map_err(|problem| self.event_error(problem))?;
                if let Some(whole) = whole {
                    let (header, body) = EventHeader::parse(&whole).map_err(|problem| self.event_error(problem))?;
                    return self.handle(&header, body);
                }
            }
            Event::TransactionPayload(_) => return Err(MySqlError::protocol("a compressed transaction within another")),
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
        let map = event.describe(self.known.charsets.is_mariadb()).map_err(|problem| self.event_error(problem))?;
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
