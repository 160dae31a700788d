use std::sync::Arc;

use connector_api::{Column, Identity, TableName, TableSchema};

use crate::{catalog::Types, config::Settings, decode::ValueType, error::PostgresError, wire::Client};

/// A table's shape as the stream describes it. The snapshot makes the same from the catalog, so that both have one schema version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation {
    pub oid: u32,
    pub schema: String,
    pub name: String,
    /// `d`efault, `i`ndex, `f`ull or `n`othing.
    pub identity: u8,
    pub columns: Vec<RelationColumn>,
}

/// A column of a [`Relation`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RelationColumn {
    /// Part of the replica identity.
    pub key: bool,
    pub name: String,
    pub type_oid: u32,
    pub typmod: i32,
}

/// What the catalog says of a table's keys: names of columns in the order of the index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Keys {
    pub primary: Vec<String>,
    pub identity_index: Vec<String>,
}

/// A relation with all that is needed to decode its rows.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub relation: Relation,
    pub schema: Arc<TableSchema>,
    /// How to decode each column.
    pub plan: Vec<ValueType>,
    /// Whether each column is part of the key by which a change of key is told.
    pub key: Vec<bool>,
}

impl Keys {
    /// Whether the relation flags exactly these columns.
    pub(crate) fn agree_with(&self, relation: &Relation) -> bool {
        let expected = match relation.identity {
            b'd' => &self.primary,
            b'i' => &self.identity_index,
            // A whole row as identity flags all columns, and none flags none: the key is the catalog's word alone.
            _ => return self.primary.iter().all(|name| relation.columns.iter().any(|column| column.name == *name)),
        };
        let flagged = relation.columns.iter().filter(|column| column.key);
        flagged.clone().count() == expected.len() && flagged.clone().all(|column| expected.contains(&column.name))
    }
}

impl Relation {
    pub(crate) fn table(&self) -> TableName {
        TableName::new(self.schema.as_str(), self.name.as_str())
    }
}

impl Shape {
    /// Looks the relation's types up.
    pub(crate) fn new(
        relation: Relation,
        keys: &Keys,
        types: &mut Types,
        settings: &Settings,
        client: &mut Client,
    ) -> Result<Self, PostgresError> {
        types.learn(client, relation.columns.iter().map(|column| (column.type_oid, column.typmod)))?;
        let plan: Vec<_> = relation.columns.iter().map(|c| types.resolve(c.type_oid, c.typmod, settings)).collect();
        let column = |(column, kind): (&RelationColumn, &ValueType)| Column {
            name: column.name.clone(),
            kind: kind.column_type(),
            source_type: types.name(column.type_oid, column.typmod).to_owned(),
        };
        let columns = relation.columns.iter().zip(&plan).map(column).collect();
        let (identity, key_columns) = key_of(&relation, keys);
        let mut key = vec![false; relation.columns.len()];
        for index in &key_columns {
            key[*index] = true;
        }
        let schema = Arc::new(TableSchema::new(relation.table(), columns, key_columns, identity));
        Ok(Self { relation, schema, plan, key })
    }
}

/// The identity, and the indices of the key's columns in the key's order.
fn key_of(relation: &Relation, keys: &Keys) -> (Identity, Vec<usize>) {
    let position = |name: &String| relation.columns.iter().position(|column| column.name == *name);
    // Old rows may wait in the stream from before the key was changed: a name that is gone makes the catalog's word worthless.
    let primary = || keys.primary.iter().map(position).collect::<Option<Vec<_>>>().unwrap_or_default();
    match relation.identity {
        b'f' => (Identity::Full, primary()),
        b'n' => (Identity::Nothing, primary()),
        identity => {
            let flagged: Vec<usize> = (0..relation.columns.len()).filter(|index| relation.columns[*index].key).collect();
            if flagged.is_empty() {
                return (Identity::Nothing, flagged);
            }
            let order = if identity == b'i' { &keys.identity_index } else { &keys.primary };
            let ordered: Vec<usize> = order.iter().filter_map(position).collect();
            let same_set = ordered.len() == flagged.len() && flagged.iter().all(|index| ordered.contains(index));
            (Identity::Key, if same_set { ordered } else { flagged })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation(identity: u8, columns: &[(&str, bool)]) -> Relation {
        let column = |(name, key): &(&str, bool)| RelationColumn { key: *key, name: (*name).to_owned(), type_oid: 23, typmod: -1 };
        Relation { oid: 1, schema: "public".into(), name: "t".into(), identity, columns: columns.iter().map(column).collect() }
    }

    #[test]
    fn the_key_follows_the_index_where_the_catalog_agrees() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let keys = Keys { primary: names(&["b", "a"]), identity_index: names(&["c"]) };
        for (identity, columns, expected) in [
            (b'd', &[("a", true), ("b", true), ("c", false)][..], (Identity::Key, vec![1, 0])),
            (b'd', &[("a", true), ("b", false)], (Identity::Key, vec![0])),
            (b'd', &[("a", false)], (Identity::Nothing, vec![])),
            (b'i', &[("a", false), ("c", true)], (Identity::Key, vec![1])),
            (b'f', &[("a", true), ("b", true), ("c", true)], (Identity::Full, vec![1, 0])),
            (b'f', &[("a", true), ("c", true)], (Identity::Full, vec![])),
            (b'n', &[("a", false), ("b", false)], (Identity::Nothing, vec![1, 0])),
        ] {
            assert_eq!(key_of(&relation(identity, columns), &keys), expected, "{columns:?}");
        }
    }
}
