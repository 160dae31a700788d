//! The shape of a target's table: reading it, and changing it so that it can hold rows of a schema. Each change commits by itself, so it is made such
//! that doing it again does nothing.
use connector_api::TableSchema;

use super::{
    connection::Connection,
    names::{literal, quote, quote_all},
    types::{Change, Flavor, MyType},
};
use crate::{error::JdbcError, table::TargetTable};

/// A column of the rows, and of the table.
#[derive(Debug, Clone)]
pub(crate) struct ShapeColumn {
    pub name: String,
    /// The type that rows have: what is staged.
    pub staged: MyType,
}

/// How rows of one schema fit into the table.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub columns: Vec<ShapeColumn>,
    /// Indices of the key columns.
    pub key: Vec<usize>,
    /// The table's other columns that can be written: those that the source has dropped, or somebody added here.
    pub others: Vec<String>,
    /// The types of the rows are those of the table, so that they may be loaded right into it.
    pub exact: bool,
    /// The table has unique keys beside the source's: `ON DUPLICATE KEY UPDATE` would take a row for another.
    pub more_unique: bool,
    /// The collation of staged texts.
    pub collation: &'static str,
}

impl Shape {
    pub(crate) fn staged(&self) -> Vec<MyType> {
        self.columns.iter().map(|column| column.staged.clone()).collect()
    }
}

#[derive(Debug)]
struct Existing {
    columns: Vec<ExistingColumn>,
    /// Unique keys: the name, and the columns; `None` for one that is over parts of columns or over expressions.
    unique: Vec<(String, Option<Vec<String>>)>,
}

#[derive(Debug)]
struct ExistingColumn {
    name: String,
    kind: MyType,
    collation: Option<String>,
    not_null: bool,
    writable: bool,
}

impl Existing {
    /// The server takes names of columns that differ in case only for the same.
    fn column(&self, name: &str) -> Option<&ExistingColumn> {
        self.columns.iter().find(|column| same_name(&column.name, name))
    }
}

fn same_name(a: &str, b: &str) -> bool {
    a == b || a.to_lowercase() == b.to_lowercase()
}

/// `table_schema = … AND table_name = …`
fn place(table: &TargetTable) -> String {
    let schema = table.schema.as_deref().unwrap_or_default();
    format!("table_schema = {} AND table_name = {}", literal(schema), literal(&table.name))
}

/// Whether the table is there.
pub(crate) async fn exists(connection: &mut Connection, table: &TargetTable) -> Result<bool, JdbcError> {
    let doing = format!("look for table {}", table.sql);
    let sql = format!("SELECT count(*) FROM information_schema.tables WHERE {}", place(table));
    let row = connection.row(&doing, &sql).await?;
    Ok(connection.value::<i64>(&doing, &row, 0)? > 0)
}

async fn read(connection: &mut Connection, table: &TargetTable) -> Result<Existing, JdbcError> {
    let doing = format!("read the columns of table {}", table.sql);
    let sql = format!(
        "SELECT column_name, column_type, collation_name, is_nullable, extra FROM information_schema.columns WHERE {} ORDER BY ordinal_position",
        place(table)
    );
    let mut columns = Vec::new();
    for row in connection.rows(&doing, &sql).await? {
        let text = |index| connection.value::<Option<String>>(&doing, &row, index);
        // Also `DEFAULT_GENERATED`, for a default that is an expression.
        let extra = text(4)?.unwrap_or_default().to_uppercase();
        columns.push(ExistingColumn {
            name: text(0)?.unwrap_or_default(),
            kind: MyType::parse(&text(1)?.unwrap_or_default()),
            collation: text(2)?,
            not_null: text(3)?.as_deref() == Some("NO"),
            writable: !["VIRTUAL GENERATED", "STORED GENERATED"].iter().any(|kind| extra.contains(kind)),
        });
    }
    let sql = format!(
        "SELECT index_name, column_name, sub_part FROM information_schema.statistics WHERE {} AND non_unique = 0 ORDER BY index_name, seq_in_index",
        place(table)
    );
    let mut unique: Vec<(String, Option<Vec<String>>)> = Vec::new();
    for row in connection.rows(&doing, &sql).await? {
        let name: String = connection.value(&doing, &row, 0)?;
        let column: Option<String> = connection.value(&doing, &row, 1)?;
        let is_whole = connection.value::<Option<i64>>(&doing, &row, 2)?.is_none();
        if unique.last().is_none_or(|(last, _)| *last != name) {
            unique.push((name, Some(Vec::new())));
        }
        if let Some((_, columns)) = unique.last_mut() {
            match (columns.as_mut(), column) {
                (Some(columns), Some(column)) if is_whole => columns.push(column),
                _ => *columns = None,
            }
        }
    }
    Ok(Existing { columns, unique })
}

/// Makes or changes the table so that it holds rows of that schema. Commits.
pub(crate) async fn ensure(connection: &mut Connection, table: &TargetTable, schema: &TableSchema) -> Result<Shape, JdbcError> {
    for column in schema.columns() {
        super::names::check(&column.name)?;
    }
    let (types, flavor) = (MyType::of_schema(schema), connection.flavor);
    if !exists(connection, table).await? {
        connection.run(&format!("create table {}", table.sql), create(table, schema, &types, flavor)).await?;
    }
    let existing = read(connection, table).await?;
    for (doing, sql) in changes(table, schema, &types, &existing, flavor)? {
        tracing::info!(table = %table.sql, change = %doing, "changing the target's table");
        connection.write(&format!("change table {}: {doing}", table.sql), sql).await?;
    }
    let now = read(connection, table).await?;
    let mut columns = Vec::with_capacity(types.len());
    let mut exact = true;
    for (index, (column, wanted)) in schema.columns().iter().zip(&types).enumerate() {
        let in_key = schema.key().contains(&index);
        let Some(has) = now.column(&column.name) else { continue };
        if in_key {
            check_collation(table, has, wanted, flavor)?;
        }
        let staged = has.kind.staged(wanted, in_key);
        exact &= has.kind == staged;
        columns.push(ShapeColumn { name: column.name.clone(), staged });
    }
    let other = |existing: &&ExistingColumn| {
        existing.writable && !schema.columns().iter().any(|column| same_name(&column.name, &existing.name))
    };
    let others = now.columns.iter().filter(other).map(|existing| existing.name.clone()).collect();
    let key = key_names(schema);
    let more_unique = now.unique.iter().any(|(_, columns)| !columns.as_ref().is_some_and(|columns| covers(columns, &key)));
    Ok(Shape { columns, key: schema.key().to_vec(), others, exact, more_unique, collation: flavor.collation() })
}

/// Keys that are two at the source have to be two here.
fn check_collation(table: &TargetTable, column: &ExistingColumn, wanted: &MyType, flavor: Flavor) -> Result<(), JdbcError> {
    let Some(collation) = &column.collation else { return Ok(()) };
    // UUIDs and numbers have one spelling only.
    let is_text = matches!(wanted, MyType::VarChar(_));
    let is_exact = collation == "binary" || collation.ends_with("_nopad_bin") || collation.ends_with("_0900_bin");
    if !is_text || is_exact {
        return Ok(());
    }
    Err(JdbcError::KeyCollation {
        table: table.sql.clone(),
        column: quote(&column.name),
        collation: collation.clone(),
        wanted: format!("{} CHARACTER SET utf8mb4 COLLATE {}", column.kind.name(), flavor.collation()),
    })
}

fn key_names(schema: &TableSchema) -> Vec<&str> {
    schema.key().iter().filter_map(|&index| schema.columns().get(index)).map(|column| column.name.as_str()).collect()
}

fn covers(columns: &[String], key: &[&str]) -> bool {
    columns.len() == key.len() && columns.iter().all(|column| key.iter().any(|key| same_name(key, column)))
}

fn create(table: &TargetTable, schema: &TableSchema, types: &[MyType], flavor: Flavor) -> String {
    let mut parts: Vec<String> = Vec::with_capacity(types.len() + 1);
    for (index, (column, kind)) in schema.columns().iter().zip(types).enumerate() {
        let null = if schema.key().contains(&index) { "NOT NULL" } else { "NULL" };
        parts.push(format!("{} {} {null}", quote(&column.name), kind.sql(flavor)));
    }
    if !schema.key().is_empty() {
        parts.push(format!("PRIMARY KEY ({})", quote_all(key_names(schema).into_iter())));
    }
    // Somebody else may have made it in between: then it is read as it is.
    format!(
        "CREATE TABLE IF NOT EXISTS {} ({}) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {}",
        table.sql,
        parts.join(", "),
        flavor.collation()
    )
}

/// The statements that give the table what it lacks, each with its description.
fn changes(
    table: &TargetTable,
    schema: &TableSchema,
    types: &[MyType],
    existing: &Existing,
    flavor: Flavor,
) -> Result<Vec<(String, String)>, JdbcError> {
    let mut changes = Vec::new();
    for (column, wanted) in schema.columns().iter().zip(types) {
        let name = quote(&column.name);
        let Some(has) = existing.column(&column.name) else {
            // One that belongs to the key becomes NOT NULL with it.
            let sql = format!("ALTER TABLE {} ADD COLUMN {name} {} NULL", table.sql, wanted.sql(flavor));
            changes.push((format!("add column {name}"), sql));
            continue;
        };
        match has.kind.change_to(wanted) {
            Change::None => {}
            Change::Widen(wide) => {
                let null = if has.not_null { "NOT NULL" } else { "NULL" };
                changes.push((
                    format!("widen column {name} from {} to {}", has.kind.name(), wide.name()),
                    format!("ALTER TABLE {} MODIFY COLUMN {name} {} {null}", table.sql, wide.sql(flavor)),
                ));
            }
            Change::Impossible => {
                return Err(JdbcError::TypeChange {
                    table: table.sql.clone(),
                    column: column.name.clone(),
                    existing: has.kind.name(),
                    wanted: wanted.name(),
                });
            }
        }
    }
    changes.extend(key_change(table, schema, types, existing, flavor));
    Ok(changes)
}

/// What gives the table a unique key over the source's key: merging needs one.
fn key_change(
    table: &TargetTable,
    schema: &TableSchema,
    types: &[MyType],
    existing: &Existing,
    flavor: Flavor,
) -> Option<(String, String)> {
    let key = key_names(schema);
    if key.is_empty() || existing.unique.iter().any(|(_, columns)| columns.as_ref().is_some_and(|columns| covers(columns, &key))) {
        return None;
    }
    let mut parts = Vec::new();
    if let Some((_, columns)) = existing.unique.iter().find(|(name, _)| name == "PRIMARY") {
        parts.push("DROP PRIMARY KEY".to_owned());
        // A column that has left the key may be NULL, be dropped by the source, and be longer than an index allows.
        for column in columns.iter().flatten().filter(|column| !key.iter().any(|key| same_name(key, column))) {
            let Some(has) = existing.column(column) else { continue };
            let wanted =
                schema.columns().iter().zip(types).find(|(source, _)| same_name(&source.name, column)).map(|(_, kind)| kind);
            let kind = match (&has.kind, wanted) {
                (MyType::VarChar(_), Some(MyType::LongText)) => &MyType::LongText,
                (MyType::VarBinary(_), Some(MyType::LongBlob)) => &MyType::LongBlob,
                (kind, _) => kind,
            };
            parts.push(format!("MODIFY COLUMN {} {} NULL", quote(column), kind.sql(flavor)));
        }
    }
    for (index, (column, wanted)) in schema.columns().iter().zip(types).enumerate() {
        let Some(has) = existing.column(&column.name).filter(|_| schema.key().contains(&index)) else { continue };
        // Texts have a length only while they are part of a key, and share what there is for the key.
        let kind = match (&has.kind, wanted) {
            (MyType::LongText | MyType::VarChar(_), MyType::VarChar(_))
            | (MyType::LongBlob | MyType::VarBinary(_), MyType::VarBinary(_)) => wanted,
            (kind, _) => kind,
        };
        parts.push(format!("MODIFY COLUMN {} {} NOT NULL", quote(&column.name), kind.sql(flavor)));
    }
    let columns = quote_all(key.iter().copied());
    parts.push(format!("ADD PRIMARY KEY ({columns})"));
    Some((format!("make {columns} the primary key"), format!("ALTER TABLE {} {}", table.sql, parts.join(", "))))
}
