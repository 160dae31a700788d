//! Are source, warehouse and files equal? Every column of every row, as text in one form: dates as days, timestamps as microseconds since 1970.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, Result};
use rusqlite::types::ValueRef;
use tokio_postgres::Client;

use super::fold::{Row, fold};

/// A table of the shop: its name, and its columns with the SQL that gives each one's text at the source. The first is the key.
pub(super) struct DemoTable {
    name: &'static str,
    columns: &'static [(&'static str, Form)],
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Text,
    Bool,
    Days,
    Micros,
}

/// The shop's tables.
pub(super) const TABLES: &[DemoTable] = &[
    DemoTable {
        name: "customers",
        columns: &[
            ("id", Form::Text),
            ("name", Form::Text),
            ("email", Form::Text),
            ("city", Form::Text),
            ("since", Form::Days),
            ("active", Form::Bool),
        ],
    },
    DemoTable {
        name: "orders",
        columns: &[
            ("id", Form::Text),
            ("customer_id", Form::Text),
            ("placed", Form::Micros),
            ("status", Form::Text),
            ("total", Form::Text),
            ("items", Form::Text),
        ],
    },
];

/// What was found in the three places.
pub(super) struct Comparison {
    table: &'static str,
    columns: Vec<&'static str>,
    source: HashMap<String, Row>,
    warehouse: HashMap<String, Row>,
    files: HashMap<String, Row>,
}

impl Comparison {
    /// Reads a table in all three places.
    pub async fn make(table: &'static DemoTable, client: &Client, dir: &Path) -> Result<Self> {
        let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
        let source = at_source(table, client).await.with_context(|| format!("cannot read {} at the source", table.name))?;
        let warehouse = in_warehouse(table, &dir.join("warehouse.db"))
            .with_context(|| format!("cannot read {} in the warehouse", table.name))?;
        let lake = dir.join("lake").join(format!("topic=demo.public.{}", table.name));
        let files = fold(&lake, &columns).with_context(|| format!("cannot fold the files of {}", table.name))?;
        Ok(Self { table: table.name, columns, source, warehouse, files })
    }

    /// The first difference, in words for people; `None` when all is equal.
    pub fn difference(&self) -> Option<String> {
        for (place, rows) in [("the warehouse", &self.warehouse), ("the Parquet files", &self.files)] {
            for (key, row) in &self.source {
                let Some(found) = rows.get(key) else {
                    return Some(format!("{} {key} is not in {place}", self.table));
                };
                if let Some(index) = (0..row.len()).find(|&i| row[i] != found[i]) {
                    return Some(format!("{} {key}, column {}, is another in {place}", self.table, self.columns[index]));
                }
            }
            if let Some(key) = rows.keys().find(|key| !self.source.contains_key(*key)) {
                return Some(format!("{} {key} is in {place}, but not at the source", self.table));
            }
        }
        None
    }
}

/// The table that the demo ends with.
pub(super) fn table(comparisons: &[Comparison]) -> String {
    let mut text = format!("  {:<12} {:>10} {:>12} {:>22} {:>8}\n", "", "at source", "in SQLite", "folded from Parquet", "equal");
    for found in comparisons {
        let equal = if found.difference().is_none() { "yes" } else { "NO" };
        text += &format!(
            "  {:<12} {:>10} {:>12} {:>22} {:>8}\n",
            found.table,
            found.source.len(),
            found.warehouse.len(),
            found.files.len(),
            equal
        );
    }
    text
}

async fn at_source(table: &DemoTable, client: &Client) -> Result<HashMap<String, Row>> {
    let columns: Vec<String> = table
        .columns
        .iter()
        .map(|(name, form)| match form {
            Form::Text => format!("{name}::text"),
            Form::Bool => format!("CASE WHEN {name} THEN 'true' ELSE 'false' END"),
            Form::Days => format!("({name} - date '1970-01-01')::text"),
            Form::Micros => format!("((extract(epoch FROM {name})::numeric * 1000000)::bigint)::text"),
        })
        .collect();
    let rows = client.query(&format!("SELECT {} FROM {}", columns.join(", "), table.name), &[]).await?;
    rows.iter()
        .map(|row| {
            let row: Row = (0..row.len()).map(|i| row.try_get(i)).collect::<Result<_, _>>()?;
            keyed(row)
        })
        .collect()
}

fn in_warehouse(table: &DemoTable, file: &Path) -> Result<HashMap<String, Row>> {
    let connection = rusqlite::Connection::open_with_flags(file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let columns: Vec<&str> = table.columns.iter().map(|(name, _)| *name).collect();
    let mut statement = connection.prepare(&format!("SELECT {} FROM {}", columns.join(", "), table.name))?;
    let mut rows = statement.query([])?;
    let mut found = HashMap::new();
    while let Some(row) = rows.next()? {
        let mut values = Row::new();
        for (i, (_, form)) in table.columns.iter().enumerate() {
            values.push(match (row.get_ref(i)?, form) {
                (ValueRef::Null, _) => None,
                (ValueRef::Integer(number), Form::Bool) => Some((number != 0).to_string()),
                (ValueRef::Integer(number), _) => Some(number.to_string()),
                (ValueRef::Text(text), Form::Days) => Some(days(std::str::from_utf8(text)?)?.to_string()),
                (ValueRef::Text(text), Form::Micros) => Some(micros(std::str::from_utf8(text)?)?.to_string()),
                (ValueRef::Text(text), _) => Some(std::str::from_utf8(text)?.to_owned()),
                (other, _) => anyhow::bail!("column {} holds {}", columns[i], other.data_type()),
            });
        }
        let (key, values) = keyed(values)?;
        found.insert(key, values);
    }
    Ok(found)
}

fn keyed(row: Row) -> Result<(String, Row)> {
    Ok((row.first().cloned().flatten().context("a row without a key")?, row))
}

/// `2026-11-22` in days since 1970.
fn days(text: &str) -> Result<i64> {
    let mut parts = text.splitn(3, '-').map(str::parse::<i64>);
    let (Some(Ok(year)), Some(Ok(month)), Some(Ok(day))) = (parts.next(), parts.next(), parts.next()) else {
        anyhow::bail!("a date of another form: {text}");
    };
    // Years begin in March, so that the leap day is the last one.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    Ok(year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// `2026-11-22 23:59:59.5+00:00` in microseconds since 1970.
fn micros(text: &str) -> Result<i64> {
    let other = || format!("a timestamp of another form: {text}");
    let (date, rest) = text.split_once([' ', 'T']).with_context(other)?;
    let time = rest.strip_suffix("+00:00").or_else(|| rest.strip_suffix('Z')).with_context(other)?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut parts = time.splitn(3, ':').map(str::parse::<i64>);
    let (Some(Ok(hours)), Some(Ok(minutes)), Some(Ok(seconds))) = (parts.next(), parts.next(), parts.next()) else {
        anyhow::bail!(other());
    };
    let fraction: i64 = format!("{fraction:0<6}").parse().with_context(other)?;
    Ok(((days(date)? * 24 + hours) * 60 + minutes) * 60_000_000 + seconds * 1_000_000 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_timestamps_of_sqlite() {
        assert_eq!(days("1970-01-01").ok(), Some(0));
        assert_eq!(days("2000-02-29").ok(), Some(11_016));
        assert_eq!(days("2016-11-04").ok(), Some(17_109));
        assert_eq!(micros("2016-11-04 13:51:30.123456+00:00").ok(), Some(1_478_267_490_123_456));
        assert_eq!(micros("1969-12-31 23:59:59.5+00:00").ok(), Some(-500_000));
        assert!(days("today").is_err() && micros("2016-11-04").is_err());
    }

    #[test]
    fn a_difference_is_found_wherever_it_is() {
        let rows = |value: &str| HashMap::from([("1".to_owned(), vec![Some("1".to_owned()), Some(value.to_owned())])]);
        let make = |warehouse, files| Comparison { table: "t", columns: vec!["id", "v"], source: rows("a"), warehouse, files };
        assert_eq!(make(rows("a"), rows("a")).difference(), None);
        assert!(make(rows("b"), rows("a")).difference().is_some_and(|text| text.contains("column v")));
        assert!(make(rows("a"), HashMap::new()).difference().is_some_and(|text| text.contains("not in the Parquet files")));
    }
}
