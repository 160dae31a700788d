//! Loading rows into a table in bulk: with `LOAD DATA LOCAL` from memory where the server allows it, else with `INSERT`s of many rows.
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    connection::Connection,
    direct::Inserts,
    rows::{Style, TextRows},
    types::MyType,
};
use crate::{dialect::staging::NextRow, error::JdbcError};

/// Rows are sent in pieces of this many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// Loads rows into columns (in brackets) of a table. They are made while the server takes in those before them.
pub(crate) async fn load<'a>(
    connection: &mut Connection,
    doing: &str,
    table: &str,
    columns: &str,
    types: &'a [MyType],
    from: &mut dyn NextRow<TextRows<'a>>,
) -> Result<(), JdbcError> {
    if !connection.local_infile {
        let mut inserts = Inserts::new(connection, table, columns, "", types);
        while let Some(statement) = inserts.next(from)? {
            if statement.len() >= connection.packet_bytes_max {
                return Err(connection.row_too_large(table, statement.len()));
            }
            connection.write(doing, statement).await?;
        }
        return Ok(());
    }
    let piece_bytes = PIECE_BYTES.min(connection.packet_bytes_max / 2);
    let flavor = connection.flavor;
    let (name, sender) = connection.offer();
    // Nothing is taken for characters on the way: the bytes are those of the columns.
    let sql = format!("LOAD DATA LOCAL INFILE '{name}' INTO TABLE {table} CHARACTER SET binary {columns}");
    let mut loaded = Box::pin(connection.write(doing, sql));
    let mut making = Box::pin(make(from, TextRows::new(Style::File, flavor, types), piece_bytes, sender));
    let (rows, taken) = tokio::select! {
        // The server refused before it had all rows: whatever else is to be said of them, that is why.
        taken = &mut loaded => (None, taken?),
        rows = &mut making => {
            // A value that cannot be sent: the future that sends is dropped, and with it the connection.
            let rows = rows?;
            (Some(rows), loaded.await?)
        }
    };
    // `LOCAL` passes over rows that it does not like.
    if rows != Some(taken) {
        return Err(JdbcError::BadBatch { table: table.to_owned(), what: "the server did not load all rows".into() });
    }
    Ok(())
}

/// Makes pieces of rows and says how many rows there were.
async fn make<'a>(
    from: &mut dyn NextRow<TextRows<'a>>,
    mut rows: TextRows<'a>,
    piece_bytes: usize,
    pieces: mpsc::Sender<Bytes>,
) -> Result<u64, JdbcError> {
    let mut more = true;
    while more {
        more = from.next_row(&mut rows)?;
        if !rows.bytes().is_empty() && (!more || rows.bytes().len() >= piece_bytes) {
            let mut piece = Bytes::from(rows.take());
            // A single row may be larger than a packet.
            while !piece.is_empty() {
                let next = piece.split_to(piece.len().min(2 * piece_bytes));
                if pieces.send(next).await.is_err() {
                    // The server wants no more; the statement's own answer says why.
                    return std::future::pending().await;
                }
            }
        }
    }
    Ok(rows.rows())
}
