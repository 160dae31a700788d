//! Statements in the log: what they begin, end, empty or redefine.

use std::sync::Arc;

use connector_api::{Identity, Op, TableName};
use tracing::{info, warn};

use super::{Next, StreamState};
use crate::{
    decode::{Stamp, TableRows},
    error::MySqlError,
    event::{DefinitionVerb, QualifiedName, Query, Statement, classify},
    position::Progress,
};

impl StreamState {
    pub(super) fn query(&mut self, query: &Query<'_>) -> Result<Next, MySqlError> {
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

    pub(super) fn begun(&mut self, xa: bool) -> Result<(), MySqlError> {
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
    pub(super) fn end_of_statement(&mut self) -> Result<(), MySqlError> {
        match &self.transaction {
            Some(tx) if !tx.begun || tx.standalone => self.commit(),
            _ => Ok(()),
        }
    }

    /// A statement that changes rows, written as it is instead of the rows.
    /// `database` is the one that was in use, where that is known.
    pub(super) fn statement_with_rows(&self, text: &[u8], database: Option<&str>) -> Result<(), MySqlError> {
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

    pub(super) fn definition(&mut self, verb: DefinitionVerb, tables: &[TableName]) -> Result<(), MySqlError> {
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

    /// All rows of a table are gone.
    pub(super) fn barrier(&mut self, table: &TableName) -> Result<(), MySqlError> {
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
}

fn table_name(name: QualifiedName, database: &str) -> TableName {
    TableName::new(name.database.unwrap_or_else(|| database.to_owned()), name.table)
}

/// The XID at the end of `XA COMMIT …` as the log writes it: `X'6162',X'',1`.
fn xid_of(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text).to_ascii_lowercase();
    text.split_whitespace().nth(2).unwrap_or_default().to_owned()
}
