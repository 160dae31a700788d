//! The lock of those who make or change tables, or take them over. The statements that do so commit, so no transaction keeps others away.
use super::{connection::Connection, names::literal};
use crate::{error::JdbcError, table::TargetTable};

/// Seconds to wait for it.
const WAIT_SECS: u32 = 60;

/// Takes the lock of the table's database. It ends with the connection if it is not released.
pub(crate) async fn take(connection: &mut Connection, table: &TargetTable) -> Result<String, JdbcError> {
    // A lock's name has at most 64 characters, and is the server's, not the database's.
    let lock = format!("concat('mainstem ', left(sha2({}, 256), 40))", literal(table.schema.as_deref().unwrap_or_default()));
    let doing = format!("take the lock for making table {}", table.sql);
    let row = connection.row(&doing, &format!("SELECT get_lock({lock}, {WAIT_SECS})")).await?;
    if connection.value::<Option<i64>>(&doing, &row, 0)? == Some(1) {
        return Ok(lock);
    }
    let cause = Box::new(std::io::Error::new(std::io::ErrorKind::TimedOut, "another connection has held it for a minute"));
    Err(JdbcError::ConnectionLost { address: connection.address.clone(), doing, cause })
}

/// Releases the lock.
pub(crate) async fn release(connection: &mut Connection, lock: &str) -> Result<(), JdbcError> {
    connection.row("release a lock", &format!("SELECT release_lock({lock})")).await.map(drop)
}
