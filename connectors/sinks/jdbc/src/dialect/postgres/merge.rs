//! The statements that merge staged rows into a table.
//!
//! The order in which they run makes moves safe, however they chain: what the table alone knows of moved rows is saved, then all keys that
//! go away or change hands are deleted, then rows are written.
use super::shape::Shape;
use crate::table::{TargetTable, quote, quote_all};

/// The temporary table that holds moved rows as they were. It ends with the transaction.
const MOVED: &str = "pg_temp.mainstem_moved";

/// The statements for one table, shape and stage.
#[derive(Debug)]
pub(crate) struct MergeSql {
    /// Takes the columns only: all rows are upserts.
    pub copy_plain: String,
    pub copy_full: String,
    pub upsert_plain: String,
    pub upsert: String,
    pub delete: String,
    /// Finds a staged row that needs a row which is not there.
    pub missing_patch: String,
    pub patch: Option<String>,
    pub save_moved: String,
    pub missing_moved: String,
    pub insert_moved: String,
    /// Adds all staged rows, for tables without a key.
    pub append: String,
}

/// A staged column as it is assigned.
fn staged(shape: &Shape, index: usize) -> String {
    match shape.columns.get(index).and_then(|column| column.cast.as_ref()) {
        Some(cast) => format!("s.c{index}::{cast}"),
        None => format!("s.c{index}"),
    }
}

/// `left.key = staged key`, for each key column. `old`: the key that a moved row had.
fn same_key(shape: &Shape, left: &str, old: bool) -> String {
    let one = |(number, &index): (usize, &usize)| {
        let column = shape.columns.get(index)?;
        let cast = column.cast.as_ref().map(|cast| format!("::{cast}")).unwrap_or_default();
        let right = if old { format!("s.o{number}{cast}") } else { format!("s.c{index}{cast}") };
        Some(format!("{left}.{} = {right}", quote(&column.name)))
    };
    shape.key.iter().enumerate().filter_map(one).collect::<Vec<_>>().join(" AND ")
}

/// What an insert does with a row that is there.
pub(crate) fn conflict(shape: &Shape) -> String {
    let name = |index: usize| shape.columns.get(index).map(|column| quote(&column.name)).unwrap_or_default();
    let key: Vec<String> = shape.key.iter().map(|&index| name(index)).collect();
    let rest = (0..shape.columns.len()).filter(|index| !shape.key.contains(index));
    let sets: Vec<String> = rest.map(|index| format!("{0} = EXCLUDED.{0}", name(index))).collect();
    let action = if sets.is_empty() { "NOTHING".to_owned() } else { format!("UPDATE SET {}", sets.join(", ")) };
    format!("ON CONFLICT ({}) DO {action}", key.join(", "))
}

impl MergeSql {
    pub(crate) fn new(table: &TargetTable, shape: &Shape, stage: &str) -> Self {
        let table = &table.sql;
        let count = shape.columns.len();
        let names: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
        let columns = quote_all(names.iter().copied());
        let numbers = (0..count).map(|index| format!("c{index}")).collect::<Vec<_>>().join(", ");
        let values = (0..count).map(|index| staged(shape, index)).collect::<Vec<_>>().join(", ");
        let conflict = conflict(shape);
        let old_key = (0..shape.key.len()).map(|number| format!("o{number}, ")).collect::<String>();
        let rest: Vec<usize> = (0..count).filter(|index| !shape.key.contains(index)).collect();
        let name = |index: usize| names.get(index).map(|name| quote(name)).unwrap_or_default();

        let upsert = |filter: &str| format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {stage} s{filter} {conflict}");
        let or_theirs = |index: usize, theirs: &str| {
            let staged = staged(shape, index);
            if shape.key.contains(&index) {
                staged
            } else {
                format!("CASE WHEN get_bit(s.m, {index}) = 1 THEN {theirs}.{} ELSE {staged} END", name(index))
            }
        };
        let sets: Vec<String> = rest.iter().map(|&index| format!("{} = {}", name(index), or_theirs(index, "t"))).collect();
        let (now, old) = (same_key(shape, "t", false), same_key(shape, "t", true));
        let moved_key = same_key(shape, "m", true);
        let others = shape.others.iter().map(|other| format!(", {}", quote(other))).collect::<String>();
        let their_others = shape.others.iter().map(|other| format!(", m.{}", quote(other))).collect::<String>();
        let moved_values: Vec<String> = (0..count).map(|index| or_theirs(index, "m")).collect();
        Self {
            copy_plain: format!("COPY {stage} ({numbers}) FROM STDIN (FORMAT binary)"),
            copy_full: format!("COPY {stage} (k, n, m, {old_key}{numbers}) FROM STDIN (FORMAT binary)"),
            upsert_plain: upsert(""),
            upsert: upsert(" WHERE s.k IN (0, 1)"),
            delete: format!("DELETE FROM {table} t USING {stage} s WHERE s.k IN (1, 3, 4) AND {now}"),
            missing_patch: format!(
                "SELECT s.n FROM {stage} s WHERE s.k = 2 AND NOT EXISTS (SELECT FROM {table} t WHERE {now}) LIMIT 1"
            ),
            patch: (!sets.is_empty())
                .then(|| format!("UPDATE {table} t SET {} FROM {stage} s WHERE s.k = 2 AND {now}", sets.join(", "))),
            // The table is new to each transaction and joined as a whole, which is where hashing is best.
            save_moved: format!(
                "CREATE TEMPORARY TABLE {MOVED} ON COMMIT DROP AS SELECT t.* FROM {stage} s JOIN {table} t ON {old} WHERE s.k = 3; \
                 SET LOCAL enable_hashjoin = on"
            ),
            missing_moved: format!(
                "SELECT s.n FROM {stage} s LEFT JOIN {MOVED} m ON {moved_key} \
                 WHERE s.k = 3 AND s.m IS NOT NULL AND m.{} IS NULL LIMIT 1",
                shape.key.first().map(|&index| name(index)).unwrap_or_default()
            ),
            insert_moved: format!(
                "INSERT INTO {table} ({columns}{others}) SELECT {}{their_others} FROM {stage} s LEFT JOIN {MOVED} m ON {moved_key} \
                 WHERE s.k = 3; SET LOCAL enable_hashjoin = off",
                moved_values.join(", ")
            ),
            append: format!("INSERT INTO {table} ({columns}) SELECT {values} FROM {stage} s"),
        }
    }
}
