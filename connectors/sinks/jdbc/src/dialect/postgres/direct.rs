//! Few rows are written one by one with parameters: it saves the way through the stage, whose price does not depend on the number of rows.
//! All statements are sent before the first answer is waited for.
use std::ops::Range;

use bytes::BytesMut;
use futures_util::future;
use tokio_postgres::{
    Statement,
    types::{IsNull, ToSql, Type, to_sql_checked},
};

use super::{connection::Connection, copy::write_field, merge::conflict, shape::Shape};
use crate::{
    collapse::{Kind, Net, NetRow},
    dialect::staging::{refused, row_of},
    error::JdbcError,
    flush::Images,
    table::{TargetTable, quote, quote_all},
};

/// More rows than this are staged.
const ROWS_MAX: usize = 32;

/// A parameter that is already in the server's binary form.
#[derive(Debug)]
struct Encoded<'a>(Option<&'a [u8]>);

impl ToSql for Encoded<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(bytes) = self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(bytes);
        Ok(IsNull::No)
    }

    // The statement casts each parameter to the type that it was encoded for.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// Whether a flush comes to few enough rows, all of a kind that needs no look at the table.
pub(crate) fn suits(net: &Net) -> bool {
    let simple = |row: &NetRow| matches!(row.kind, Kind::Upsert | Kind::Replace | Kind::Delete);
    net.rows.len() <= ROWS_MAX && net.rows.iter().all(simple)
}

/// A parameter with its type, and the cast that its column needs.
fn parameter(shape: &Shape, index: usize, number: usize) -> String {
    let Some(column) = shape.columns.get(index) else { return String::new() };
    let cast = column.cast.as_ref().map(|cast| format!("::{cast}")).unwrap_or_default();
    format!("${number}::{}{cast}", column.staged.sql())
}

fn upsert_sql(table: &TargetTable, shape: &Shape) -> String {
    let columns = quote_all(shape.columns.iter().map(|column| column.name.as_str()));
    let values: Vec<String> = (0..shape.columns.len()).map(|index| parameter(shape, index, index + 1)).collect();
    format!("INSERT INTO {} ({columns}) VALUES ({}) {}", table.sql, values.join(", "), conflict(shape))
}

fn delete_sql(table: &TargetTable, shape: &Shape) -> String {
    let one = |(number, &index): (usize, &usize)| {
        let name = shape.columns.get(index).map(|column| quote(&column.name)).unwrap_or_default();
        format!("{name} = {}", parameter(shape, index, number + 1))
    };
    let key: Vec<String> = shape.key.iter().enumerate().map(one).collect();
    format!("DELETE FROM {} WHERE {}", table.sql, key.join(" AND "))
}

/// A statement with its parameters, as places in the buffer of all.
type Call = (Statement, Vec<Option<Range<usize>>>);

/// Writes the rows.
pub(crate) async fn write(
    connection: &mut Connection,
    table: &TargetTable,
    images: &Images<'_>,
    net: &Net,
    shape: &Shape,
) -> Result<(), JdbcError> {
    let doing = format!("merge rows into table {}", table.sql);
    let mut buffer = Vec::new();
    let mut calls: Vec<Call> = Vec::with_capacity(net.rows.len() + 1);
    let all: Vec<usize> = (0..shape.columns.len()).collect();
    for (kinds, sql, columns) in [
        ([Kind::Delete, Kind::Replace], delete_sql(table, shape), &shape.key),
        ([Kind::Upsert, Kind::Replace], upsert_sql(table, shape), &all),
    ] {
        for row in net.rows.iter().filter(|row| kinds.contains(&row.kind)) {
            let statement = connection.prepare(&doing, &sql).await?;
            calls.push((statement, encode(&mut buffer, images, net, row, shape, columns)?));
        }
    }
    let client = &connection.client;
    let sent = calls.iter().map(|(statement, parameters)| {
        let value = |place: &Option<Range<usize>>| Encoded(place.clone().and_then(|place| buffer.get(place)));
        client.execute_raw(statement, parameters.iter().map(value).collect::<Vec<_>>())
    });
    // The first error in order is the cause; what follows it says only that the transaction is over.
    let answers = future::join_all(sent).await;
    answers.into_iter().find_map(Result::err).map_or(Ok(()), |error| Err(connection.failed(&doing, error)))
}

fn encode(
    buffer: &mut Vec<u8>,
    images: &Images<'_>,
    net: &Net,
    row: &NetRow,
    shape: &Shape,
    columns: &[usize],
) -> Result<Vec<Option<Range<usize>>>, JdbcError> {
    let mut parameters = Vec::with_capacity(columns.len());
    for &index in columns {
        let Some(column) = shape.columns.get(index) else { continue };
        let place = net.place(row, index);
        let start = buffer.len();
        let is_null = write_field(buffer, &column.staged, images.cell(place, index))
            .map_err(|reason| refused(images, row_of(place, row.last), index, reason))?;
        // A field begins with its length, which a parameter has elsewhere.
        parameters.push((!is_null).then(|| start + 4..buffer.len()));
    }
    Ok(parameters)
}
