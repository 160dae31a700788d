//! SQLite: rows are written through prepared statements, on a thread that may wait.
mod shape;
mod value;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use connector_api::{Finding, NextOffsets, TableName};
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use self::writer::SqliteWriter;
use crate::{
    config::Mode,
    dialect::{Dialect, TableWriter},
    error::JdbcError,
    offsets::{COLUMNS, Found, Held, Owner, Stored, take_over},
    table::{TargetTable, without_schema},
};

/// How long to wait for another process that writes to the file, before the flush starts over.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// How many prepared statements are kept: a few for each of a thousand tables.
const STATEMENTS_MAX: usize = 4096;

/// What all tables of a target share: SQLite has one writer at a time.
#[derive(Debug)]
pub(crate) struct Shared {
    pub path: PathBuf,
    /// Waited for by tasks, not by threads: a thousand tables that wait for their turn block nothing. Whoever writes takes the guard along
    /// to the thread that does.
    pub connection: Arc<tokio::sync::Mutex<Connection>>,
}

/// A SQLite file as a target.
#[derive(Debug)]
pub(crate) struct Sqlite {
    path: PathBuf,
    mode: Mode,
    shared: Mutex<Option<Arc<Shared>>>,
}

impl Sqlite {
    pub(crate) fn new(path: PathBuf, mode: Mode) -> Self {
        Self { path, mode, shared: Mutex::new(None) }
    }

    /// The connection, made when it is first asked for. Blocks.
    fn shared(path: &Path, slot: &Mutex<Option<Arc<Shared>>>) -> Result<Arc<Shared>, JdbcError> {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = slot.as_ref() {
            return Ok(Arc::clone(shared));
        }
        let failed = |cause| JdbcError::Sqlite { path: path.to_owned(), doing: "open the database".into(), cause };
        let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE).map_err(failed)?;
        let shared = Arc::new(Shared { path: path.to_owned(), connection: Arc::new(tokio::sync::Mutex::new(connection)) });
        *slot = Some(Arc::clone(&shared));
        Ok(shared)
    }
}

/// Opens a file for writing. In WAL mode readers never wait for the writer. `synchronous = NORMAL` syncs at checkpoints only: after a power cut the
/// last transactions may be gone, but then their offset rows are gone with them and the rows are written again; a killed process loses nothing.
fn open(path: &Path, flags: OpenFlags) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32768")?;
    Ok(connection)
}

fn open_table(
    path: &Path,
    connection: &mut Connection,
    mode: Mode,
    table: &TargetTable,
    owner: &Owner,
    reported: &NextOffsets,
) -> Result<Held, JdbcError> {
    let failed = |doing: &str, cause| JdbcError::Sqlite { path: path.to_owned(), doing: doing.to_owned(), cause };
    let doing = format!("open table {}", table.sql);
    let opening = |cause| failed(&doing, cause);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(opening)?;
    let found = find(&transaction, table, owner).map_err(opening)?;
    let held = take_over(owner, table, &found, reported)?;
    store(&transaction, table, owner, &held).map_err(opening)?;
    if !found.table_exists && mode == Mode::Upsert {
        shape::ensure(&transaction, table, &owner.topic.schema, &failed)?;
    }
    transaction.commit().map_err(opening)?;
    Ok(held)
}

fn find(connection: &Connection, table: &TargetTable, owner: &Owner) -> rusqlite::Result<Found> {
    connection.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {} (pipeline TEXT NOT NULL, sink TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, \
         topic_id TEXT NOT NULL, target_table TEXT NOT NULL, next_offset INTEGER NOT NULL, epoch INTEGER NOT NULL, \
         PRIMARY KEY (pipeline, sink, topic, partition)) WITHOUT ROWID",
        table.offsets_sql
    ))?;
    let mut statement = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM {} WHERE (pipeline = ?1 AND sink = ?2 AND topic = ?3) OR target_table = ?4",
        table.offsets_sql
    ))?;
    let offsets = statement
        .query_map((&owner.pipeline, &owner.sink, &owner.topic.name, &table.sql), |row| {
            Ok(Stored {
                pipeline: row.get(0)?,
                sink: row.get(1)?,
                topic: row.get(2)?,
                partition: row.get(3)?,
                topic_id: row.get(4)?,
                next: row.get(6)?,
                epoch: row.get(7)?,
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let table_exists = shape::exists(connection, table)?;
    let has_rows = || connection.query_row(&format!("SELECT EXISTS (SELECT 1 FROM {})", table.sql), [], |row| row.get(0));
    let table_has_rows = if table_exists { has_rows()? } else { false };
    Ok(Found { offsets, table_exists, table_has_rows })
}

fn store(connection: &Connection, table: &TargetTable, owner: &Owner, held: &Held) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!(
        "INSERT INTO {} ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (pipeline, sink, topic, partition) \
         DO UPDATE SET epoch = excluded.epoch, target_table = excluded.target_table",
        table.offsets_sql
    ))?;
    let topic_id = owner.topic.id.to_string();
    for (partition, next) in &held.next {
        statement.execute((&owner.pipeline, &owner.sink, &owner.topic.name, partition, &topic_id, &table.sql, next, held.epoch))?;
    }
    Ok(())
}

#[async_trait]
impl Dialect for Sqlite {
    async fn connect(&self) -> Result<(), JdbcError> {
        let path = self.path.clone();
        let shared = tokio::task::spawn_blocking({
            let path = path.clone();
            move || Self::shared(&path, &Mutex::new(None))
        });
        let shared = shared.await.map_err(|_| JdbcError::Interrupted { path })??;
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = Some(shared);
        Ok(())
    }

    fn table(&self, source: &TableName) -> Result<TargetTable, JdbcError> {
        Ok(without_schema(source))
    }

    async fn open(
        &self,
        table: TargetTable,
        owner: Owner,
        reported: &NextOffsets,
    ) -> Result<(Box<dyn TableWriter>, Held), JdbcError> {
        let shared = Self::shared(&self.path, &self.shared)?;
        let (mode, reported) = (self.mode, reported.clone());
        let mut connection = Arc::clone(&shared.connection).lock_owned().await;
        let held = tokio::task::spawn_blocking({
            let (path, table, owner) = (self.path.clone(), table.clone(), owner.clone());
            move || open_table(&path, &mut connection, mode, &table, &owner, &reported)
        });
        let held = held.await.map_err(|_| JdbcError::Interrupted { path: self.path.clone() })??;
        Ok((Box::new(SqliteWriter::new(shared, table, owner, mode)), held))
    }

    async fn check(&self) -> Result<Vec<Finding>, JdbcError> {
        let path = self.path.clone();
        let checked = tokio::task::spawn_blocking(move || check(&path)).await;
        checked.map_err(|_| JdbcError::Interrupted { path: self.path.clone() })
    }
}

/// Says whether the file can be written, or made if it is missing.
fn check(path: &Path) -> Vec<Finding> {
    let shown = path.display();
    if !path.exists() {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let probe = folder.join(format!(".mainstem-check-{}", std::process::id()));
        return match std::fs::File::create_new(&probe).and_then(|_| std::fs::remove_file(&probe)) {
            Ok(()) => vec![Finding::note(format!("{shown} will be created"))],
            Err(error) => {
                vec![Finding::error(format!("{shown} cannot be created: {error}")).remedy(format!("mkdir -p {}", folder.display()))]
            }
        };
    }
    let probe = || -> rusqlite::Result<()> {
        let mut connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(Duration::from_secs(1))?;
        // Reads the file's header, and takes the lock that a flush takes.
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        connection.transaction_with_behavior(TransactionBehavior::Immediate)?.rollback()
    };
    match probe() {
        Ok(()) => Vec::new(),
        Err(error) => vec![Finding::error(format!("{shown} cannot be written: {error}"))],
    }
}
