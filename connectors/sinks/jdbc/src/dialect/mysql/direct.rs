//! Rows that are written by statements of their own, with their values in them: few rows, because it saves the way through the stage, whose price does not
//! depend on their number; and all rows where the server does not take files.
use super::{
    connection::Connection,
    merge::on_duplicate,
    names::{quote, quote_all},
    rows::{Style, TextRows},
    shape::Shape,
    types::{Flavor, MyType},
};
use crate::{
    collapse::{Kind, Net, NetRow},
    dialect::staging::{NextRow, RowEncoder, refused, row_of},
    error::JdbcError,
    flush::Images,
    table::TargetTable,
};

/// More rows than this are staged.
const ROWS_MAX: usize = 32;
/// A statement is sent once it has this many bytes, or a quarter of what the server takes.
const STATEMENT_BYTES: usize = 1 << 20;
/// A `DELETE` is sent sooner: a condition of thousands of parts is planned slowly.
const CONDITION_BYTES: usize = 64 << 10;

/// Whether a flush can go this way: all rows are of a kind that needs no look at the table, and they are few, or the other way is closed.
pub(crate) fn suits(connection: &Connection, net: &Net, shape: &Shape) -> bool {
    let simple = |row: &NetRow| matches!(row.kind, Kind::Upsert | Kind::Replace | Kind::Delete);
    (net.rows.len() <= ROWS_MAX || !connection.local_infile) && !shape.more_unique && net.rows.iter().all(simple)
}

fn statement_bytes(connection: &Connection) -> usize {
    STATEMENT_BYTES.min(connection.packet_bytes_max / 4)
}

/// The statements that write the rows; `None` if the server would not take one of them, because a row is too large for it, and files are another way.
pub(crate) fn statements(
    connection: &Connection,
    table: &TargetTable,
    images: &Images<'_>,
    net: &Net,
    shape: &Shape,
) -> Result<Option<Vec<Vec<u8>>>, JdbcError> {
    let types = shape.staged();
    let mut statements = Vec::new();
    delete(&mut statements, connection, table, images, net, shape, &types)?;
    let name = |index: usize| shape.columns.get(index).map(|column| quote(&column.name)).unwrap_or_default();
    let end = match connection.flavor {
        Flavor::MySql => format!(" AS new {}", on_duplicate(table, shape, |index| format!("new.{}", name(index)))),
        Flavor::MariaDb => format!(" {}", on_duplicate(table, shape, |index| format!("VALUE({})", name(index)))),
    };
    let mut rows = Inserts::new(connection, &table.sql, &column_list(shape), &end, &types);
    let mut from = Upserts { images, net, number: 0 };
    while let Some(statement) = rows.next(&mut from)? {
        statements.push(statement);
    }
    let too_large = |statement: &Vec<u8>| statement.len() >= connection.packet_bytes_max;
    match statements.iter().find(|statement| too_large(statement)) {
        Some(_) if connection.local_infile => Ok(None),
        Some(statement) => Err(connection.row_too_large(&table.sql, statement.len())),
        None => Ok(Some(statements)),
    }
}

/// The table's columns, in brackets.
pub(crate) fn column_list(shape: &Shape) -> String {
    format!("({})", quote_all(shape.columns.iter().map(|column| column.name.as_str())))
}

/// `INSERT`s of many rows: as many with each statement as it should have bytes.
pub(crate) struct Inserts<'a> {
    begin: String,
    end: String,
    limit: usize,
    rows: TextRows<'a>,
}

impl<'a> Inserts<'a> {
    /// `end` follows the values.
    pub(crate) fn new(connection: &Connection, table: &str, columns: &str, end: &str, types: &'a [MyType]) -> Self {
        let begin = format!("INSERT INTO {table} {columns} VALUES ");
        let rows = TextRows::new(Style::Literal, connection.flavor, types);
        Self { begin, end: end.to_owned(), limit: statement_bytes(connection), rows }
    }

    /// The next statement; `None` when there are no more rows.
    pub(crate) fn next(&mut self, from: &mut dyn NextRow<TextRows<'a>>) -> Result<Option<Vec<u8>>, JdbcError> {
        self.rows.sql(&self.begin);
        let before = self.rows.rows();
        while self.rows.bytes().len() < self.limit && from.next_row(&mut self.rows)? {}
        self.rows.sql(&self.end);
        let statement = self.rows.take();
        Ok((self.rows.rows() > before).then_some(statement))
    }
}

/// The new values of upserts, one row at a time.
struct Upserts<'a> {
    images: &'a Images<'a>,
    net: &'a Net,
    number: usize,
}

impl<E: RowEncoder> NextRow<E> for Upserts<'_> {
    fn next_row(&mut self, rows: &mut E) -> Result<bool, JdbcError> {
        let row = loop {
            let Some(row) = self.net.rows.get(self.number) else { return Ok(false) };
            self.number += 1;
            if matches!(row.kind, Kind::Upsert | Kind::Replace) {
                break row;
            }
        };
        let columns = self.images.schema().columns().len();
        rows.begin(columns);
        for index in 0..columns {
            let place = self.net.place(row, index);
            let written = rows.value(index, self.images.cell(place, index));
            written.map_err(|reason| refused(self.images, row_of(place, row.last), index, reason))?;
        }
        rows.end();
        Ok(true)
    }
}

/// The statements that delete the rows whose keys go away or are used again.
fn delete(
    statements: &mut Vec<Vec<u8>>,
    connection: &Connection,
    table: &TargetTable,
    images: &Images<'_>,
    net: &Net,
    shape: &Shape,
    types: &[MyType],
) -> Result<(), JdbcError> {
    let limit = statement_bytes(connection).min(CONDITION_BYTES);
    let key: Vec<(usize, String)> =
        shape.key.iter().filter_map(|&index| Some((index, quote(&shape.columns.get(index)?.name)))).collect();
    let begin = format!("DELETE FROM {} WHERE ", table.sql);
    let mut rows = TextRows::new(Style::Literal, connection.flavor, types);
    for row in net.rows.iter().filter(|row| matches!(row.kind, Kind::Delete | Kind::Replace)) {
        rows.sql(if rows.bytes().is_empty() { &begin } else { " OR " });
        for (number, (index, name)) in key.iter().enumerate() {
            rows.sql(if number == 0 { "(" } else { " AND " });
            rows.sql(name);
            rows.sql(" = ");
            let place = net.place(row, *index);
            rows.value(*index, images.cell(place, *index))
                .map_err(|reason| refused(images, row_of(place, row.last), *index, reason))?;
        }
        rows.sql(")");
        if rows.bytes().len() >= limit {
            statements.push(rows.take());
        }
    }
    if !rows.bytes().is_empty() {
        statements.push(rows.take());
    }
    Ok(())
}
