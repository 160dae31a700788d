//! The shape of a target's table: reading it, and changing it so that it can hold rows of a schema.
use connector_api::TableSchema;

use super::{
    connection::Connection,
    types::{Change, PgType},
};
use crate::{
    error::JdbcError,
    table::{TargetTable, check_length, quote, quote_all},
};

/// PostgreSQL cuts names that are longer, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 63;

/// A column of the rows, and of the table.
#[derive(Debug, Clone)]
pub(crate) struct ShapeColumn {
    pub name: String,
    /// The type that rows have: what is staged.
    pub staged: PgType,
    /// The cast that a staged value needs; see [`PgType::cast_from`].
    pub cast: Option<String>,
}

/// How rows of one schema fit into the table.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub columns: Vec<ShapeColumn>,
    /// Indices of the key columns.
    pub key: Vec<usize>,
    /// The table's other columns that can be written: those that the source has dropped, or somebody added here.
    pub others: Vec<String>,
}

#[derive(Debug)]
struct Existing {
    columns: Vec<ExistingColumn>,
    /// Unique indices over plain columns: the name, whether it is the primary key, the columns.
    unique: Vec<(String, bool, Vec<String>)>,
}

#[derive(Debug)]
struct ExistingColumn {
    name: String,
    kind: PgType,
    writable: bool,
}

/// Whether the table is there.
pub(crate) async fn exists(connection: &mut Connection, table: &TargetTable) -> Result<bool, JdbcError> {
    let doing = format!("look for table {}", table.sql);
    let statement = connection.prepare(&doing, "SELECT to_regclass($1) IS NOT NULL").await?;
    let row = connection.client.query_one(&statement, &[&table.sql]).await;
    row.and_then(|row| row.try_get(0)).map_err(|error| connection.failed(&doing, error))
}

const COLUMNS: &str = "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), a.attgenerated = '' AND a.attidentity <> 'a' \
     FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum";

const UNIQUE: &str = "SELECT c.relname::text, i.indisprimary, array_agg(a.attname::text ORDER BY k.number) \
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
     CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, number) \
     JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
     WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL \
       AND i.indexprs IS NULL AND k.number <= i.indnkeyatts \
     GROUP BY c.relname, i.indisprimary";

async fn read(connection: &mut Connection, table: &TargetTable) -> Result<Existing, JdbcError> {
    let doing = format!("read the columns of table {}", table.sql);
    let statement = connection.prepare(&doing, COLUMNS).await?;
    let rows = connection.client.query(&statement, &[&table.sql]).await.map_err(|error| connection.failed(&doing, error))?;
    let mut columns = Vec::with_capacity(rows.len());
    for row in rows {
        let read = || -> Result<_, tokio_postgres::Error> { Ok((row.try_get(0)?, row.try_get::<_, String>(1)?, row.try_get(2)?)) };
        let (name, kind, writable) = read().map_err(|error| connection.failed(&doing, error))?;
        columns.push(ExistingColumn { name, kind: PgType::parse(&kind), writable });
    }
    let statement = connection.prepare(&doing, UNIQUE).await?;
    let rows = connection.client.query(&statement, &[&table.sql]).await.map_err(|error| connection.failed(&doing, error))?;
    let unique = rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect::<Result<_, _>>();
    Ok(Existing { columns, unique: unique.map_err(|error| connection.failed(&doing, error))? })
}

/// Makes or changes the table so that it holds rows of that schema, in the transaction that is open. Doing it again does nothing.
pub(crate) async fn ensure(connection: &mut Connection, table: &TargetTable, schema: &TableSchema) -> Result<Shape, JdbcError> {
    for column in schema.columns() {
        check_length(&column.name, NAME_BYTES_MAX)?;
    }
    if !exists(connection, table).await? {
        connection.run(&format!("create table {}", table.sql), &create(table, schema)).await?;
    }
    let existing = read(connection, table).await?;
    for (doing, sql) in changes(table, schema, &existing)? {
        tracing::info!(table = %table.sql, change = %doing, "changing the target's table");
        connection.run(&format!("change table {}: {doing}", table.sql), &sql).await?;
    }
    let now = read(connection, table).await?;
    let mut columns = Vec::with_capacity(schema.columns().len());
    for column in schema.columns() {
        let staged = PgType::of(column);
        let has = now.columns.iter().find(|existing| existing.name == column.name);
        let cast = has.and_then(|existing| existing.kind.cast_from(&staged));
        columns.push(ShapeColumn { name: column.name.clone(), staged, cast });
    }
    let other = |existing: &&ExistingColumn| existing.writable && schema.index_of(&existing.name).is_none();
    let others = now.columns.iter().filter(other).map(|existing| existing.name.clone()).collect();
    Ok(Shape { columns, key: schema.key().to_vec(), others })
}

fn key_names(schema: &TableSchema) -> Vec<&str> {
    schema.key().iter().filter_map(|&index| schema.columns().get(index)).map(|column| column.name.as_str()).collect()
}

fn create(table: &TargetTable, schema: &TableSchema) -> String {
    let mut parts: Vec<String> =
        schema.columns().iter().map(|column| format!("{} {}", quote(&column.name), PgType::of(column).sql())).collect();
    if !schema.key().is_empty() {
        parts.push(format!("PRIMARY KEY ({})", quote_all(key_names(schema).into_iter())));
    }
    format!("CREATE TABLE {} ({})", table.sql, parts.join(", "))
}

/// The statements that give the table what it lacks, each with its description.
fn changes(table: &TargetTable, schema: &TableSchema, existing: &Existing) -> Result<Vec<(String, String)>, JdbcError> {
    let mut changes = Vec::new();
    for column in schema.columns() {
        let (name, wanted) = (quote(&column.name), PgType::of(column));
        let Some(has) = existing.columns.iter().find(|existing| existing.name == column.name) else {
            changes.push((format!("add column {name}"), format!("ALTER TABLE {} ADD COLUMN {name} {}", table.sql, wanted.sql())));
            continue;
        };
        match has.kind.change_to(&wanted) {
            Change::None => {}
            Change::Widen(wide) => {
                let sql = wide.sql();
                changes.push((
                    format!("widen column {name} from {} to {sql}", has.kind.sql()),
                    format!("ALTER TABLE {} ALTER COLUMN {name} TYPE {sql} USING {name}::{sql}", table.sql),
                ));
            }
            Change::Impossible => {
                return Err(JdbcError::TypeChange {
                    table: table.sql.clone(),
                    column: column.name.clone(),
                    existing: has.kind.sql(),
                    wanted: wanted.sql(),
                });
            }
        }
    }
    changes.extend(key_change(table, schema, existing));
    Ok(changes)
}

/// What gives the table a unique index over the key: merging needs one.
fn key_change(table: &TargetTable, schema: &TableSchema, existing: &Existing) -> Option<(String, String)> {
    let key = key_names(schema);
    let covers = |columns: &[String]| columns.len() == key.len() && columns.iter().all(|column| key.contains(&column.as_str()));
    if key.is_empty() || existing.unique.iter().any(|(_, _, columns)| covers(columns)) {
        return None;
    }
    let mut parts = Vec::new();
    if let Some((name, _, columns)) = existing.unique.iter().find(|(_, primary, _)| *primary) {
        parts.push(format!("DROP CONSTRAINT {}", quote(name)));
        // A column that has left the key may be NULL, or be dropped by the source.
        let left = columns.iter().filter(|column| !key.contains(&column.as_str()));
        parts.extend(left.map(|column| format!("ALTER COLUMN {} DROP NOT NULL", quote(column))));
    }
    let columns = quote_all(key.iter().copied());
    parts.push(format!("ADD PRIMARY KEY ({columns})"));
    Some((format!("make {columns} the primary key"), format!("ALTER TABLE {} {}", table.sql, parts.join(", "))))
}
