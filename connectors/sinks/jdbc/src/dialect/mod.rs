//! What a database has to offer to be a target.
use async_trait::async_trait;
use connector_api::{Finding, NextOffsets, TableName};

use crate::{
    error::JdbcError,
    flush::Flush,
    offsets::{Held, Owner},
    table::TargetTable,
};

pub(crate) mod mysql;
mod pool;
pub(crate) mod postgres;
pub(crate) mod sqlite;
mod staging;

/// A database that tables are kept in.
#[async_trait]
pub(crate) trait Dialect: Send + Sync {
    /// Makes a first connection, so that a wrong address or password is told at once.
    async fn connect(&self) -> Result<(), JdbcError>;

    /// The table that a source's table is written to.
    fn table(&self, source: &TableName) -> Result<TargetTable, JdbcError>;

    /// Opens a table for writing, in one transaction: makes what is missing (schema, offset rows, the table), decides by
    /// [`take_over`](crate::offsets::take_over) whether it may be written, and raises the epoch. Sinks opened at the same time wait for each other.
    async fn open(
        &self,
        table: TargetTable,
        owner: Owner,
        reported: &NextOffsets,
    ) -> Result<(Box<dyn TableWriter>, Held), JdbcError>;

    /// Says what would keep the sink from working. Leaves nothing behind.
    async fn check(&self) -> Result<Vec<Finding>, JdbcError>;
}

/// Writes one table.
#[async_trait]
pub(crate) trait TableWriter: Send {
    /// Does all of a flush in one transaction: locks the offset rows and compares them, gives the table the shape of the rows, empties it if
    /// asked to, writes the rows, and moves the offset rows. After an error nothing of it was done, or, if the connection was lost
    /// while it committed, all of it: opening again tells. A future that is dropped leaves no more behind than an error.
    async fn apply(&mut self, flush: Flush) -> Result<(), JdbcError>;
}
