use connector_api::{Finding, Severity, TableName};

use source_tailing::TablePattern;

use crate::{catalog::CatalogTable, error::PostgresError, slot::quote_table};

/// The tables that the patterns of a file stand for, and what is wrong with them.
pub(crate) struct Selection {
    pub tables: Vec<CatalogTable>,
    pub findings: Vec<Finding>,
}

impl Selection {
    /// Matches patterns with the catalog. With `alters`, the publication is made to publish these tables, so that the server would refuse
    /// updates and deletes of tables that have no replica identity.
    pub(crate) fn new(patterns: &[TablePattern], catalog: &[CatalogTable], role: &str, alters: bool) -> Self {
        let mut selection = Self { tables: Vec::new(), findings: Vec::new() };
        for pattern in patterns {
            match pattern.exact() {
                Some(name) => selection.exact(&name, catalog),
                None => selection.wildcard(pattern, catalog),
            }
        }
        selection.tables.sort_by_key(|table| table.oid);
        selection.tables.dedup_by_key(|table| table.oid);
        for table in &selection.tables {
            let quoted = quote_table(&table.name);
            if !table.may_select {
                let role = crate::wire::quote_identifier(role);
                let schema = crate::wire::quote_identifier(&table.name.schema);
                let remedy = format!("GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {quoted} TO {role};");
                selection.findings.push(Finding::error(format!("role {role} may not read table {}", table.name)).remedy(remedy));
            }
            let lacks_identity = table.identity == b'n' || (table.identity == b'd' && !table.has_primary_key);
            if lacks_identity && alters {
                let problem = format!(
                    "table {} has no replica identity: once it is published, the server refuses every UPDATE and DELETE on it",
                    table.name
                );
                let remedy = format!("ALTER TABLE {quoted} REPLICA IDENTITY FULL; -- or give it a primary key");
                selection.findings.push(Finding::error(problem).remedy(remedy));
            }
        }
        if selection.tables.is_empty() && selection.findings.is_empty() {
            selection.findings.push(Finding::error("no table matches `tables`").remedy("name tables that exist"));
        }
        selection
    }

    fn exact(&mut self, name: &TableName, catalog: &[CatalogTable]) {
        let Some(table) = catalog.iter().find(|table| table.name == *name) else {
            let near = near_names(name, catalog);
            let hint = if near.is_empty() {
                "correct its name in `tables`".to_owned()
            } else {
                format!("did you mean {}?", near.join(", "))
            };
            self.findings.push(Finding::error(format!("table {name} does not exist, or the role may not see it")).remedy(hint));
            return;
        };
        let problem = match (table.kind, table.unlogged) {
            (b'r' | b'p', false) => {
                self.tables.push(table.clone());
                return;
            }
            (_, true) => "an unlogged table: its changes are in no log",
            (b'v', _) => "a view",
            (b'm', _) => "a materialized view",
            _ => "a foreign table",
        };
        let remedy = match table.unlogged {
            true => format!("ALTER TABLE {} SET LOGGED;", quote_table(name)),
            false => "name the tables behind it".to_owned(),
        };
        self.findings.push(Finding::error(format!("{name} is {problem}; it cannot be captured")).remedy(remedy));
    }

    fn wildcard(&mut self, pattern: &TablePattern, catalog: &[CatalogTable]) {
        let mut any = false;
        for table in catalog.iter().filter(|table| matches!(table.kind, b'r' | b'p') && pattern.matches(&table.name)) {
            // A partition's rows come under its root.
            if table.is_partition {
                continue;
            }
            any = true;
            if table.unlogged {
                let warning = Finding::warning(format!(
                    "table {} is unlogged, so its changes cannot be captured; it is left out",
                    table.name
                ));
                self.findings.push(warning.remedy(format!("ALTER TABLE {} SET LOGGED;", quote_table(&table.name))));
            } else {
                self.tables.push(table.clone());
            }
        }
        if !any {
            self.findings.push(Finding::warning(format!("no table matches `{pattern}`")));
        }
    }

    /// The first error, as one.
    pub(crate) fn into_tables(self) -> Result<Vec<CatalogTable>, PostgresError> {
        let first = self.findings.into_iter().find(|finding| finding.severity == Severity::Error);
        match first {
            Some(finding) => Err(PostgresError::prerequisite(finding.message, finding.remedy.unwrap_or_default())),
            None => Ok(self.tables),
        }
    }
}

/// Tables whose name is the same in another schema, or differs by a letter or two.
fn near_names(name: &TableName, catalog: &[CatalogTable]) -> Vec<String> {
    let mut near: Vec<_> = catalog
        .iter()
        .map(|table| {
            let schema = usize::from(table.name.schema != name.schema);
            (distance(&table.name.name.to_lowercase(), &name.name.to_lowercase()) + schema, table.name.to_string())
        })
        .filter(|(distance, _)| *distance <= 2)
        .collect();
    near.sort();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Letters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(oid: u32, schema: &str, name: &str) -> CatalogTable {
        CatalogTable {
            oid,
            name: TableName::new(schema, name),
            kind: b'r',
            unlogged: false,
            is_partition: false,
            identity: b'd',
            has_primary_key: true,
            may_select: true,
            owned: true,
        }
    }

    #[test]
    fn what_cannot_be_captured_is_found() {
        let catalog = [
            table(1, "public", "orders"),
            CatalogTable { kind: b'v', ..table(2, "public", "v") },
            CatalogTable { unlogged: true, ..table(3, "public", "u") },
            CatalogTable { has_primary_key: false, ..table(4, "public", "keyless") },
            CatalogTable { is_partition: true, ..table(5, "public", "part") },
        ];
        let select = |patterns: &[&str]| {
            let patterns: Vec<TablePattern> =
                patterns.iter().map(|text| TablePattern::parse(text, crate::config::NAMING).unwrap()).collect();
            Selection::new(&patterns, &catalog, "cdc", true)
        };
        let all = select(&["public.*"]);
        assert_eq!(all.tables.iter().map(|table| table.oid).collect::<Vec<_>>(), [1, 4]);
        for (pattern, expected) in [
            ("ordrs", "did you mean public.orders?"),
            ("v", "name the tables behind it"),
            ("u", "SET LOGGED"),
            ("keyless", "ALTER TABLE \"public\".\"keyless\" REPLICA IDENTITY FULL"),
            ("nothing.*", "name tables"),
        ] {
            let remedies: Vec<_> = select(&[pattern]).findings.into_iter().filter_map(|finding| finding.remedy).collect();
            let found = remedies.iter().any(|remedy| remedy.contains(expected));
            assert!(found || (pattern == "nothing.*" && select(&[pattern]).tables.is_empty()), "{pattern}: {remedies:?}");
        }
        assert!(select(&["orders"]).into_tables().is_ok());
        assert!(select(&["ordrs"]).into_tables().is_err());
    }
}
