use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use test_servers::identifier;

use crate::{Database, python, repository};

/// A table of the source: what has to be equal everywhere.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Names and types of its columns; a domain is given as what it is based on.
    pub columns: Vec<(String, String)>,
    /// Columns of its primary key; empty without one.
    pub key: Vec<String>,
}

impl Table {
    /// `schema.table`, quoted.
    pub fn quoted(&self) -> String {
        format!("{}.{}", identifier(&self.schema), identifier(&self.name))
    }

    fn rows(&self, database: &Database) -> String {
        let columns: Vec<String> = self.columns.iter().map(|(name, _)| identifier(name)).collect();
        database.query(&format!("COPY (SELECT {} FROM {}) TO STDOUT", columns.join(", "), self.quoted()))
    }
}

/// What the source's catalog says of `schema.table`.
#[track_caller]
pub fn table(source: &Database, schema: &str, name: &str) -> Table {
    let text = source.query(&format!(
        "SELECT a.attname, (WITH RECURSIVE chain AS (
             SELECT t.oid, t.typtype, t.typbasetype FROM pg_type t WHERE t.oid = a.atttypid
             UNION ALL SELECT t.oid, t.typtype, t.typbasetype FROM chain c JOIN pg_type t ON t.oid = c.typbasetype WHERE c.typtype = 'd')
           SELECT format_type(oid, NULL) FROM chain WHERE typtype <> 'd'), coalesce(array_position(i.indkey::int2[], a.attnum), -1)
         FROM pg_attribute a LEFT JOIN pg_index i ON i.indrelid = a.attrelid AND i.indisprimary
         WHERE a.attrelid = '{}.{}'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
        identifier(schema).replace('\'', "''"),
        identifier(name).replace('\'', "''")
    ));
    let mut columns = Vec::new();
    let mut key = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('|').collect();
        let [name, kind, place] = fields[..] else { panic!("unexpected answer of the catalog: {line}") };
        columns.push((name.to_owned(), kind.to_owned()));
        if let Some(place) = place.parse::<i64>().ok().filter(|place| *place >= 0) {
            key.push((place, name.to_owned()));
        }
    }
    key.sort();
    let key = key.into_iter().map(|(_, name)| name).collect();
    Table { schema: schema.to_owned(), name: name.to_owned(), columns, key }
}

/// Fails unless the table in the warehouse, a PostgreSQL, has the source's rows: the text of every column of every row.
#[track_caller]
pub fn compare_warehouse(table: &Table, source: &Database, warehouse: &Database) {
    let (want, got) = (table.rows(source), table.rows(warehouse));
    if want == got {
        return;
    }
    let mut want: Vec<&str> = want.lines().collect();
    let mut got: Vec<&str> = got.lines().collect();
    want.sort_unstable();
    got.sort_unstable();
    if want != got {
        let missing = want.iter().find(|row| got.binary_search(row).is_err());
        let extra = got.iter().find(|row| want.binary_search(row).is_err());
        panic!(
            "{}.{}: source has {} rows, warehouse has {}; first row that is only in the source: {missing:.600?}; only in the warehouse: {extra:.600?}",
            table.schema,
            table.name,
            want.len(),
            got.len()
        );
    }
}

/// Fails unless the Parquet files of `topic` under `dir`, folded by key, give the source's rows, value by value.
#[track_caller]
pub fn compare_parquet(table: &Table, source: &Database, dir: &Path, topic: &str) {
    compare_by_script(table, source, &json!({ "parquet": dir.join(format!("topic={topic}")) }));
}

/// The same, and the documented query has to give them too. Its reader knows only dates of the years 1 to 9999.
#[track_caller]
pub fn compare_parquet_folds(table: &Table, source: &Database, dir: &Path, topic: &str) {
    compare_by_script(table, source, &json!({ "parquet": dir.join(format!("topic={topic}")), "documented": true }));
}

/// The same for a source that is no PostgreSQL: `rows` is what PostgreSQL's `COPY` would print of the table.
#[track_caller]
pub fn compare_parquet_with_rows(table: &Table, rows: &str, dir: &Path, topic: &str) {
    compare_rows_by_script(table, rows, &json!({ "parquet": dir.join(format!("topic={topic}")), "documented": true }));
}

/// Fails unless the SQLite file's table has the source's rows, value by value.
#[track_caller]
pub fn compare_sqlite(table: &Table, source: &Database, file: &Path) {
    let name = if table.schema == "public" { table.name.clone() } else { format!("{}.{}", table.schema, table.name) };
    compare_by_script(table, source, &json!({ "sqlite": file, "table": name }));
}

#[track_caller]
fn compare_by_script(table: &Table, source: &Database, target: &Value) {
    compare_rows_by_script(table, &table.rows(source), target);
}

#[track_caller]
fn compare_rows_by_script(table: &Table, rows: &str, target: &Value) {
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("source.copy");
    fs::write(&file, rows).expect("rows of the source");
    let task = json!({ "columns": table.columns, "key": table.key, "source": file, "target": target });
    let mut child = Command::new(python())
        .arg(repository().join("tests/compare.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}: run scripts/venv.sh", python().display()));
    child.stdin.take().expect("stdin").write_all(task.to_string().as_bytes()).expect("write to compare.py");
    let output = child.wait_with_output().expect("compare.py");
    assert!(
        output.status.success(),
        "{}.{} against {target}: {}{}",
        table.schema,
        table.name,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
