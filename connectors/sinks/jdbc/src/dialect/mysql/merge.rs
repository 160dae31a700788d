//! The statements that merge staged rows into a table.
//!
//! The order in which they run makes moves safe, however they chain: what the table alone knows of moved rows is saved, then all keys that
//! go away or change hands are deleted, then rows are written. The stage is always read front to back (`STRAIGHT_JOIN`), and the table by its key. A
//! temporary table stands only once in each statement: MySQL cannot open it twice.
use super::{
    names::{quote, quote_all},
    shape::Shape,
};
use crate::table::TargetTable;

/// The statements for one table, shape and stage.
#[derive(Debug)]
pub(crate) struct MergeSql {
    /// The columns of the stage that plain rows have, and those that the others have.
    pub plain_columns: String,
    pub full_columns: String,
    /// Gives the table all staged upserts: one statement, or two where `ON DUPLICATE KEY UPDATE` might take one row for another.
    pub upsert_plain: Vec<String>,
    pub upsert: Vec<String>,
    pub delete: String,
    /// Finds a staged row that needs a row which is not there.
    pub missing_patch: String,
    pub patch: Option<String>,
    /// Makes the temporary table that holds moved rows as they were, before the transaction; and drops it.
    pub make_moved: String,
    pub drop_moved: String,
    pub save_moved: String,
    pub missing_moved: String,
    pub insert_moved: String,
    /// Adds all staged rows, for tables without a key.
    pub append: String,
}

/// `left.key = staged key`, for each key column. `old`: the key that a moved row had.
fn same_key(shape: &Shape, left: &str, old: bool) -> String {
    let one = |(number, &index): (usize, &usize)| {
        let column = shape.columns.get(index)?;
        let right = if old { format!("s.o{number}") } else { format!("s.c{index}") };
        Some(format!("{left}.{} = {right}", quote(&column.name)))
    };
    shape.key.iter().enumerate().filter_map(one).collect::<Vec<_>>().join(" AND ")
}

/// What an insert does with a row that is there: each column but the key's takes its new value, which `new` names.
pub(crate) fn on_duplicate(table: &TargetTable, shape: &Shape, new: impl Fn(usize) -> String) -> String {
    let column = |index: usize| {
        let name = shape.columns.get(index).map(|column| quote(&column.name)).unwrap_or_default();
        format!("{}.{name}", table.sql)
    };
    let rest = (0..shape.columns.len()).filter(|index| !shape.key.contains(index));
    let mut sets: Vec<String> = rest.map(|index| format!("{} = {}", column(index), new(index))).collect();
    if sets.is_empty() {
        // A table of keys alone: the row is left as it is.
        sets.extend(shape.key.first().map(|&index| format!("{0} = {0}", column(index))));
    }
    format!("ON DUPLICATE KEY UPDATE {}", sets.join(", "))
}

impl MergeSql {
    pub(crate) fn new(table: &TargetTable, shape: &Shape, stage: &str) -> Self {
        let target = &table.sql;
        let count = shape.columns.len();
        let names: Vec<&str> = shape.columns.iter().map(|column| column.name.as_str()).collect();
        let name = |index: usize| names.get(index).map(|name| quote(name)).unwrap_or_default();
        let columns = quote_all(names.iter().copied());
        let numbers = (0..count).map(|index| format!("c{index}")).collect::<Vec<_>>().join(", ");
        let values = (0..count).map(|index| format!("s.c{index}")).collect::<Vec<_>>().join(", ");
        let old_key = (0..shape.key.len()).map(|number| format!("o{number}, ")).collect::<String>();
        let rest: Vec<usize> = (0..count).filter(|index| !shape.key.contains(index)).collect();
        let (now, old) = (same_key(shape, "t", false), same_key(shape, "t", true));
        let moved_key = same_key(shape, "m", true);
        let key = quote_all(shape.key.iter().filter_map(|&index| names.get(index).copied()));
        let first_key = shape.key.first().map(|&index| name(index)).unwrap_or_default();
        let moved = format!("{}.mainstem_moved", quote(table.schema.as_deref().unwrap_or_default()));

        let upsert = |filter: &str| {
            if !shape.more_unique {
                let on_duplicate = on_duplicate(table, shape, |index| format!("s.c{index}"));
                return vec![format!("INSERT INTO {target} ({columns}) SELECT {values} FROM {stage} s{filter} {on_duplicate}")];
            }
            let sets: Vec<String> = rest.iter().map(|&index| format!("t.{} = s.c{index}", name(index))).collect();
            let update = format!("UPDATE {stage} s STRAIGHT_JOIN {target} t ON {now} SET {}{filter}", sets.join(", "));
            let and = if filter.is_empty() { " WHERE" } else { " AND" };
            let insert = format!(
                "INSERT INTO {target} ({columns}) SELECT {values} FROM {stage} s LEFT JOIN {target} t ON {now}{filter}{and} t.{first_key} IS NULL"
            );
            if sets.is_empty() { vec![insert] } else { vec![update, insert] }
        };
        let or_theirs = |index: usize, theirs: &str| {
            if shape.key.contains(&index) {
                format!("s.c{index}")
            } else {
                // A table made by hand may have texts of another collation, and the two do not mix by themselves.
                let is_text = shape.columns.get(index).is_some_and(|column| column.staged.is_text());
                let collate = if is_text { format!(" COLLATE {}", shape.collation) } else { String::new() };
                format!(
                    "CASE WHEN substring(s.m, {}, 1) = '1' THEN {theirs}.{} ELSE s.c{index}{collate} END",
                    index + 1,
                    name(index)
                )
            }
        };
        let patches: Vec<String> = rest.iter().map(|&index| format!("t.{} = {}", name(index), or_theirs(index, "t"))).collect();
        let moved_values: Vec<String> = (0..count).map(|index| or_theirs(index, "m")).collect();
        let others = shape.others.iter().map(|other| format!(", {}", quote(other))).collect::<String>();
        let their = |alias: &str| shape.others.iter().map(|other| format!(", {alias}.{}", quote(other))).collect::<String>();
        let all_of_t = (0..count).map(|index| format!("t.{}", name(index))).collect::<Vec<_>>().join(", ");
        Self {
            plain_columns: format!("({numbers})"),
            full_columns: format!("(k, n, m, {old_key}{numbers})"),
            upsert_plain: upsert(""),
            upsert: upsert(" WHERE s.k IN (0, 1)"),
            // An alias to delete from is looked for in the session's database, and it has none.
            delete: format!(
                "DELETE {target} FROM {stage} s STRAIGHT_JOIN {target} ON {} WHERE s.k IN (1, 3, 4)",
                same_key(shape, target, false)
            ),
            missing_patch: format!(
                "SELECT s.n FROM {stage} s LEFT JOIN {target} t ON {now} WHERE s.k = 2 AND t.{first_key} IS NULL LIMIT 1"
            ),
            patch: (!patches.is_empty())
                .then(|| format!("UPDATE {stage} s STRAIGHT_JOIN {target} t ON {now} SET {} WHERE s.k = 2", patches.join(", "))),
            // Not `LIKE` the table: that would copy partitions and indices that a temporary table cannot have.
            make_moved: format!(
                "DROP TEMPORARY TABLE IF EXISTS {moved}; \
                 CREATE TEMPORARY TABLE {moved} (PRIMARY KEY ({key})) ENGINE=InnoDB SELECT {columns}{others} FROM {target} LIMIT 0"
            ),
            drop_moved: format!("DROP TEMPORARY TABLE {moved}"),
            save_moved: format!(
                "INSERT INTO {moved} ({columns}{others}) SELECT {all_of_t}{} FROM {stage} s STRAIGHT_JOIN {target} t ON {old} WHERE s.k = 3",
                their("t")
            ),
            missing_moved: format!(
                "SELECT s.n FROM {stage} s LEFT JOIN {moved} m ON {moved_key} WHERE s.k = 3 AND s.m IS NOT NULL AND m.{first_key} IS NULL LIMIT 1"
            ),
            insert_moved: format!(
                "INSERT INTO {target} ({columns}{others}) SELECT {}{} FROM {stage} s LEFT JOIN {moved} m ON {moved_key} WHERE s.k = 3",
                moved_values.join(", "),
                their("m")
            ),
            append: format!("INSERT INTO {target} ({columns}) SELECT {values} FROM {stage} s ORDER BY s.n"),
        }
    }
}
