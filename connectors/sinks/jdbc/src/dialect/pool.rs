use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::error::JdbcError;

/// A server that connections can be made to.
#[async_trait]
pub(crate) trait Server: fmt::Debug + Send + Sync {
    type Connection: fmt::Debug + Send;

    /// Makes a connection, with its session set up.
    async fn connect(&self) -> Result<Self::Connection, JdbcError>;

    /// Whether the connection is still there, as far as this side knows.
    fn is_open(connection: &Self::Connection) -> bool;

    /// Whether the connection is worth keeping: one on which much was made is replaced by a fresh one.
    fn is_worth_keeping(connection: &Self::Connection) -> bool;
}

/// The connections that all tables of a target share.
#[derive(Debug)]
pub(crate) struct Pool<S: Server> {
    server: S,
    permits: Semaphore,
    idle: Mutex<Vec<S::Connection>>,
}

/// A connection on loan. It goes back by [`release`](Self::release); dropped otherwise (after an error, or when a future was dropped in the
/// middle of a transaction) it is closed, and the server rolls back.
#[derive(Debug)]
pub(crate) struct Lease<'a, S: Server> {
    pub connection: S::Connection,
    pool: &'a Pool<S>,
    _permit: Option<SemaphorePermit<'a>>,
}

impl<S: Server> Lease<'_, S> {
    /// Gives the connection back, with no transaction open on it.
    pub(crate) fn release(self) {
        let Self { connection, pool, _permit } = self;
        if S::is_worth_keeping(&connection) {
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

impl<S: Server> Pool<S> {
    /// A pool of at most that many connections; none is made yet.
    pub(crate) fn new(server: S, connections: usize) -> Self {
        Self { server, permits: Semaphore::new(connections), idle: Mutex::default() }
    }

    pub(crate) fn server(&self) -> &S {
        &self.server
    }

    /// Closes the connections that wait, because one to the same server was lost.
    pub(crate) fn forget_idle(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Waits for a connection.
    pub(crate) async fn lease(&self) -> Result<Lease<'_, S>, JdbcError> {
        // The semaphore is never closed.
        let permit = self.permits.acquire().await.ok();
        let idle = {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.retain(S::is_open);
            idle.pop()
        };
        let connection = match idle {
            Some(connection) => connection,
            None => self.server.connect().await?,
        };
        Ok(Lease { connection, pool: self, _permit: permit })
    }
}
