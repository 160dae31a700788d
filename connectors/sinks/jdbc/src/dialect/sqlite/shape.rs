//! The shape of a table: reading it, and changing it so that it can hold rows of a schema. SQLite can add columns; for all else the table is
//! made anew beside the old one, filled from it and renamed. All of it happens in the flush's transaction.
use connector_api::{Column, TableSchema};
use rusqlite::Connection;

use super::value::Affinity;
use crate::{
    error::JdbcError,
    table::{TargetTable, quote, quote_all},
};

#[derive(Debug)]
pub(crate) struct Existing {
    columns: Vec<ExistingColumn>,
    /// Unique indices over plain columns, and the primary key.
    unique: Vec<Vec<String>>,
}

#[derive(Debug)]
struct ExistingColumn {
    name: String,
    declared: String,
    not_null: bool,
    default: Option<String>,
    /// The place in the primary key, from 1; 0 for the others.
    key: i64,
    /// 0 for plain columns; the others are generated.
    hidden: i64,
}

impl Existing {
    /// The columns that can be written.
    pub(crate) fn writable(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter(|column| column.hidden == 0).map(|column| column.name.as_str())
    }
}

pub(crate) fn exists(connection: &Connection, table: &TargetTable) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)", [&table.name], |row| {
        row.get(0)
    })
}

pub(crate) fn read(connection: &Connection, table: &TargetTable) -> rusqlite::Result<Existing> {
    let mut statement =
        connection.prepare("SELECT name, type, \"notnull\", dflt_value, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let columns = statement
        .query_map([&table.name], |row| {
            Ok(ExistingColumn {
                name: row.get(0)?,
                declared: row.get(1)?,
                not_null: row.get(2)?,
                default: row.get(3)?,
                key: row.get(4)?,
                hidden: row.get(5)?,
            })
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut unique: Vec<Vec<String>> = Vec::new();
    let primary = columns.iter().filter(|column| column.key > 0).map(|column| column.name.clone()).collect::<Vec<_>>();
    if !primary.is_empty() {
        unique.push(primary);
    }
    let mut indices = connection.prepare("SELECT name FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0")?;
    let names = indices.query_map([&table.name], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    for name in names {
        let mut info = connection.prepare("SELECT name FROM pragma_index_info(?1) ORDER BY seqno")?;
        let columns =
            info.query_map([&name], |row| row.get::<_, Option<String>>(0))?.collect::<rusqlite::Result<Option<Vec<_>>>>()?;
        unique.extend(columns);
    }
    Ok(Existing { columns, unique })
}

/// Makes or changes the table so that it holds rows of that schema, and reads it. Doing it again does nothing.
pub(crate) fn ensure(
    connection: &Connection,
    table: &TargetTable,
    schema: &TableSchema,
    failed: &dyn Fn(&str, rusqlite::Error) -> JdbcError,
) -> Result<Existing, JdbcError> {
    let doing = format!("change table {}", table.sql);
    let failed = |error| failed(&doing, error);
    if !exists(connection, table).map_err(failed)? {
        connection.execute_batch(&create(table, schema)).map_err(failed)?;
    }
    let existing = read(connection, table).map_err(failed)?;
    let wanted = wanted_columns(table, schema, &existing)?;
    if wanted.rebuild {
        tracing::info!(table = %table.sql, "making the target's table anew, with other types or another key");
        rebuild(connection, table, schema, &existing, &wanted).map_err(failed)?;
    } else {
        for column in &wanted.added {
            tracing::info!(table = %table.sql, column = %column.name, "adding a column to the target's table");
            let sql = format!("ALTER TABLE {} ADD COLUMN {}", table.sql, declaration(column));
            connection.execute_batch(&sql).map_err(failed)?;
        }
    }
    read(connection, table).map_err(failed)
}

fn declaration(column: &Column) -> String {
    format!("{} {}", quote(&column.name), Affinity::of(&column.kind).sql())
}

fn key_names(schema: &TableSchema) -> Vec<&str> {
    schema.key().iter().filter_map(|&index| schema.columns().get(index)).map(|column| column.name.as_str()).collect()
}

fn primary_key(schema: &TableSchema) -> Option<String> {
    // A single INTEGER key becomes the rowid itself: one tree instead of two.
    (!schema.key().is_empty()).then(|| format!("PRIMARY KEY ({})", quote_all(key_names(schema).into_iter())))
}

fn create(table: &TargetTable, schema: &TableSchema) -> String {
    let parts: Vec<String> = schema.columns().iter().map(declaration).chain(primary_key(schema)).collect();
    format!("CREATE TABLE {} ({})", table.sql, parts.join(", "))
}

struct Wanted<'a> {
    added: Vec<&'a Column>,
    /// Columns whose values become text.
    to_text: Vec<&'a str>,
    rebuild: bool,
}

fn wanted_columns<'a>(table: &TargetTable, schema: &'a TableSchema, existing: &Existing) -> Result<Wanted<'a>, JdbcError> {
    let mut wanted = Wanted { added: Vec::new(), to_text: Vec::new(), rebuild: false };
    for column in schema.columns() {
        let Some(has) = existing.columns.iter().find(|existing| existing.name == column.name) else {
            wanted.added.push(column);
            continue;
        };
        match (Affinity::parse(&has.declared), Affinity::of(&column.kind)) {
            // A column without affinity, or with text's, keeps the values as they are bound; INTEGER keeps reals that are not whole, and
            // those that are, as equal numbers.
            (Some(Affinity::Text | Affinity::Blob), _) => {}
            (Some(Affinity::Integer | Affinity::Real), Affinity::Integer | Affinity::Real) => {}
            (Some(Affinity::Integer | Affinity::Real), Affinity::Blob)
            | (None, Affinity::Blob | Affinity::Integer | Affinity::Real) => {}
            // A number's affinity would make `007` a 7.
            (Some(Affinity::Integer | Affinity::Real) | None, Affinity::Text) => {
                wanted.to_text.push(&column.name);
                wanted.rebuild = true;
            }
        }
        if has.hidden != 0 {
            return Err(JdbcError::TypeChange {
                table: table.sql.clone(),
                column: column.name.clone(),
                existing: "generated".into(),
                wanted: Affinity::of(&column.kind).sql().into(),
            });
        }
    }
    let key = key_names(schema);
    let covers = |columns: &Vec<String>| columns.len() == key.len() && columns.iter().all(|column| key.contains(&column.as_str()));
    // A column that has left the key must be free to be NULL, but SQLite's keys (but for a single INTEGER) are that anyway.
    wanted.rebuild |= !key.is_empty() && !existing.unique.iter().any(covers);
    Ok(wanted)
}

/// Makes the table anew with all its columns and the schema's key, and the indices and triggers that somebody made on it.
fn rebuild(
    connection: &Connection,
    table: &TargetTable,
    schema: &TableSchema,
    existing: &Existing,
    wanted: &Wanted<'_>,
) -> rusqlite::Result<()> {
    let beside = quote(&format!("{} (mainstem rebuild)", table.name));
    let mut parts = Vec::new();
    let mut names = Vec::new();
    let mut values = Vec::new();
    for column in existing.columns.iter().filter(|column| column.hidden == 0) {
        let name = quote(&column.name);
        let to_text = wanted.to_text.contains(&column.name.as_str());
        let declared = if to_text { "TEXT" } else { column.declared.as_str() };
        let not_null = if column.not_null && column.key == 0 { " NOT NULL" } else { "" };
        let default = column.default.as_ref().map(|default| format!(" DEFAULT ({default})")).unwrap_or_default();
        parts.push(format!("{name} {declared}{not_null}{default}"));
        values.push(if to_text { format!("CAST({name} AS TEXT)") } else { name.clone() });
        names.push(name);
    }
    parts.extend(wanted.added.iter().map(|column| declaration(column)));
    parts.extend(primary_key(schema));
    let mut sql = format!(
        "CREATE TABLE {beside} ({}); INSERT INTO {beside} ({names}) SELECT {} FROM {table}; DROP TABLE {table};",
        parts.join(", "),
        values.join(", "),
        names = names.join(", "),
        table = table.sql
    );
    sql.push_str(&format!("ALTER TABLE {beside} RENAME TO {};", table.sql));
    let mut statement =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE tbl_name = ?1 AND type <> 'table' AND sql IS NOT NULL")?;
    let made = statement.query_map([&table.name], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    for statement in made {
        sql.push_str(&statement);
        sql.push(';');
    }
    connection.execute_batch(&sql)
}
