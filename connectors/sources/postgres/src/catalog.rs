//! What the server's catalogs say of types and tables.

use std::collections::{BTreeMap, HashMap};

use connector_api::TableName;

use crate::{
    config::{ArrayForm, NumericForm, Settings},
    decode::ValueType,
    error::PostgresError,
    relation::{Keys, Relation, RelationColumn},
    wire::{Client, Row},
};

/// A row of `pg_type`.
#[derive(Debug, Clone)]
struct PgType {
    /// `b`ase, `d`omain, `e`num, …
    kind: u8,
    base: u32,
    base_typmod: i32,
    element: u32,
    /// The function that makes the binary form.
    send: String,
    /// The function that prints, ready to stand in SQL.
    output: String,
    name: String,
}

/// The types of a database, by their OID.
#[derive(Debug, Default)]
pub(crate) struct Types {
    types: HashMap<u32, PgType>,
    names: HashMap<(u32, i32), String>,
}

/// Domains over domains end: the server allows no circle, but a hostile one may claim one.
const DOMAIN_DEPTH_MAX: usize = 32;

impl Types {
    /// Makes sure that these types, with their modifiers, are known. Asks the server only for what is new.
    pub(crate) fn learn(&mut self, client: &mut Client, wanted: impl Iterator<Item = (u32, i32)>) -> Result<(), PostgresError> {
        let mut missing: Vec<_> = wanted.filter(|pair| !self.names.contains_key(pair)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        missing.sort_unstable();
        missing.dedup();
        if missing.iter().any(|(oid, _)| !self.types.contains_key(oid)) {
            self.load(client)?;
        }
        let values: Vec<_> = missing.iter().map(|(oid, typmod)| format!("({oid}::oid,{typmod})")).collect();
        let sql = format!("SELECT o, m, format_type(o, nullif(m, -1)) FROM (VALUES {}) AS v(o, m)", values.join(","));
        for row in client.query("read the names of types", &sql)? {
            let name = row.get(2).filter(|name| *name != "???");
            let name = name.map_or_else(|| format!("unknown type {}", row.text(0)), str::to_owned);
            self.names.insert((row.number(0)?, row.number(1)?), name);
        }
        Ok(())
    }

    fn load(&mut self, client: &mut Client) -> Result<(), PostgresError> {
        let sql = "SELECT oid, typtype, typbasetype, typtypmod, typelem, typsend::regproc::text, typoutput::regproc::text, \
                   format_type(oid, NULL) FROM pg_type";
        for row in client.query("read the types", sql)? {
            let pg_type = PgType {
                kind: row.text(1).bytes().next().unwrap_or(b'?'),
                base: row.number(2)?,
                base_typmod: row.number(3)?,
                element: row.number(4)?,
                send: row.text(5).to_owned(),
                output: row.text(6).to_owned(),
                name: row.text(7).to_owned(),
            };
            self.types.insert(row.number(0)?, pg_type);
        }
        Ok(())
    }

    /// The type as the server prints it, modifier included.
    pub(crate) fn name(&self, oid: u32, typmod: i32) -> &str {
        let plain = || self.types.get(&oid).map_or("unknown type", |pg_type| pg_type.name.as_str());
        self.names.get(&(oid, typmod)).map_or_else(plain, String::as_str)
    }

    /// An expression that gives the column in the form that [`resolve`](Self::resolve) decodes from binary.
    pub(crate) fn select_expression(&self, column: &RelationColumn, kind: &ValueType) -> String {
        let name = crate::wire::quote_identifier(&column.name);
        match self.types.get(&column.type_oid) {
            // A cast to text is not always what the server prints (it adds a netmask to an inet); the output function is.
            Some(pg_type) if !kind.has_binary() => format!("textin({}({name}))", pg_type.output),
            _ => name,
        }
    }

    /// How values of the type are decoded.
    pub(crate) fn resolve(&self, oid: u32, typmod: i32, settings: &Settings) -> ValueType {
        self.resolve_within(oid, typmod, settings, DOMAIN_DEPTH_MAX)
    }

    fn resolve_within(&self, oid: u32, typmod: i32, settings: &Settings, depth: usize) -> ValueType {
        let Some(depth) = depth.checked_sub(1) else { return ValueType::Printed };
        // The OIDs of the types that every server has are fixed (pg_type.dat).
        match oid {
            16 => return ValueType::Bool,
            17 => return ValueType::Bytea,
            18 => return ValueType::Char,
            20 => return ValueType::Int8,
            21 => return ValueType::Int2,
            23 => return ValueType::Int4,
            26 => return ValueType::Oid,
            // name, text, xml, bpchar, varchar
            19 | 25 | 142 | 1042 | 1043 => return ValueType::Text,
            114 => return ValueType::Json,
            700 => return ValueType::Float4,
            701 => return ValueType::Float8,
            1082 => return ValueType::Date,
            1083 => return ValueType::Time,
            1114 => return ValueType::Timestamp,
            1184 => return ValueType::TimestampTz,
            1186 => return ValueType::Interval,
            1700 => return numeric(typmod, settings.numeric),
            2950 => return ValueType::Uuid,
            3802 => return ValueType::Jsonb,
            _ => {}
        }
        let Some(pg_type) = self.types.get(&oid) else { return ValueType::Printed };
        match (pg_type.kind, pg_type.send.as_str()) {
            (b'e', _) => ValueType::Text,
            (b'd', _) => self.resolve_within(pg_type.base, pg_type.base_typmod, settings, depth),
            (_, "array_send") if settings.arrays == ArrayForm::List => {
                match self.resolve_within(pg_type.element, typmod, settings, depth) {
                    ValueType::Printed | ValueType::List(_) => ValueType::Printed,
                    item => ValueType::List(Box::new(item)),
                }
            }
            (_, send) if send == "citextsend" || send.ends_with(".citextsend") => ValueType::Text,
            _ => ValueType::Printed,
        }
    }
}

/// A `numeric`'s modifier is precision and scale in its halves, plus 4; since 15 the scale has 11 bits and a sign.
fn numeric(typmod: i32, form: NumericForm) -> ValueType {
    if typmod < 4 || form == NumericForm::Text {
        return ValueType::NumericText;
    }
    let modifier = typmod - 4;
    let precision = (modifier >> 16) & 0xFFFF;
    let scale = ((modifier & 0x7FF) ^ 0x400) - 0x400;
    match (u8::try_from(precision), u8::try_from(scale)) {
        (Ok(precision @ 1..=38), Ok(scale)) if scale <= precision => ValueType::Decimal { precision, scale },
        _ => ValueType::NumericText,
    }
}

/// A table as the catalog has it.
#[derive(Debug, Clone)]
pub(crate) struct CatalogTable {
    pub oid: u32,
    pub name: TableName,
    /// `r` table, `p` partitioned table, `v` view, `m` materialized view, `f` foreign table.
    pub kind: u8,
    pub unlogged: bool,
    pub is_partition: bool,
    /// `d`, `i`, `f`, `n`.
    pub identity: u8,
    pub has_primary_key: bool,
    pub may_select: bool,
    pub owned: bool,
}

/// All relations of user schemas that could stand under `tables:`, or be mistaken for one.
pub(crate) fn tables(client: &mut Client) -> Result<Vec<CatalogTable>, PostgresError> {
    let sql = "SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, c.relispartition, c.relreplident, \
               EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary), \
               has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT'), \
               pg_has_role(c.relowner, 'USAGE') \
               FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema') \
               AND n.nspname !~ '^pg_(toast|temp)' ORDER BY 2, 3";
    let letter = |row: &Row, column| row.text(column).bytes().next().unwrap_or(b'?');
    let table = |row: Row| {
        Ok(CatalogTable {
            oid: row.number(0)?,
            name: TableName::new(row.text(1), row.text(2)),
            kind: letter(&row, 3),
            unlogged: row.text(4) == "u",
            is_partition: row.is_true(5),
            identity: letter(&row, 6),
            has_primary_key: row.is_true(7),
            may_select: row.is_true(8),
            owned: row.is_true(9),
        })
    };
    client.query("read the tables", sql)?.into_iter().map(table).collect()
}

/// OIDs as a list for SQL; never empty.
pub(crate) fn oid_list(oids: impl IntoIterator<Item = u32>) -> String {
    let mut list = "0".to_owned();
    for oid in oids {
        list.push(',');
        list.push_str(&oid.to_string());
    }
    list
}

/// The key columns of tables, as they are now.
pub(crate) fn keys(client: &mut Client, oids: &str) -> Result<HashMap<u32, Keys>, PostgresError> {
    let sql = format!(
        "SELECT i.indrelid, i.indisprimary, i.indisreplident, a.attname FROM pg_index i \
         CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k(attnum, n) \
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indrelid IN ({oids}) AND (i.indisprimary OR i.indisreplident) AND k.n <= i.indnkeyatts \
         ORDER BY i.indexrelid, k.n"
    );
    let mut keys: HashMap<u32, Keys> = HashMap::new();
    for row in client.query("read the keys of tables", &sql)? {
        let entry = keys.entry(row.number(0)?).or_default();
        if row.is_true(1) {
            entry.primary.push(row.text(3).to_owned());
        }
        if row.is_true(2) {
            entry.identity_index.push(row.text(3).to_owned());
        }
    }
    Ok(keys)
}

/// The tables as the stream would describe them now, with their keys. `columns` limits a table's columns (a publication's column list).
pub(crate) fn relations(
    client: &mut Client,
    oids: &str,
    columns: &HashMap<u32, Vec<String>>,
) -> Result<BTreeMap<u32, (Relation, Keys)>, PostgresError> {
    let mut keys = keys(client, oids)?;
    let sql = format!(
        "SELECT c.oid, n.nspname, c.relname, c.relreplident FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.oid IN ({oids})"
    );
    let mut relations = BTreeMap::new();
    for row in client.query("read the tables", &sql)? {
        let oid = row.number(0)?;
        let identity = row.text(3).bytes().next().unwrap_or(b'd');
        let relation = Relation { oid, schema: row.text(1).into(), name: row.text(2).into(), identity, columns: Vec::new() };
        relations.insert(oid, (relation, keys.remove(&oid).unwrap_or_default()));
    }
    // Generated columns are not sent by the stream, so the snapshot leaves them out too.
    let sql = format!(
        "SELECT attrelid, attname, atttypid, atttypmod FROM pg_attribute \
         WHERE attrelid IN ({oids}) AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attrelid, attnum"
    );
    for row in client.query("read the columns of tables", &sql)? {
        let oid: u32 = row.number(0)?;
        let Some((relation, keys)) = relations.get_mut(&oid) else { continue };
        let name = row.text(1).to_owned();
        if columns.get(&oid).is_some_and(|listed| !listed.contains(&name)) {
            continue;
        }
        let key = match relation.identity {
            b'f' => true,
            b'd' => keys.primary.contains(&name),
            b'i' => keys.identity_index.contains(&name),
            _ => false,
        };
        relation.columns.push(RelationColumn { key, name, type_oid: row.number(2)?, typmod: row.number(3)? });
    }
    Ok(relations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numeric_modifier_holds_precision_and_scale() {
        let typmod = |precision: i32, scale: i32| ((precision << 16) | (scale & 0x7FF)) + 4;
        for (precision, scale, expected) in [
            (12, 2, ValueType::Decimal { precision: 12, scale: 2 }),
            (38, 38, ValueType::Decimal { precision: 38, scale: 38 }),
            (39, 0, ValueType::NumericText),
            (3, 5, ValueType::NumericText),
            (3, -2, ValueType::NumericText),
        ] {
            assert_eq!(numeric(typmod(precision, scale), NumericForm::Decimal), expected, "{precision},{scale}");
        }
        assert_eq!(numeric(-1, NumericForm::Decimal), ValueType::NumericText);
        assert_eq!(numeric(typmod(12, 2), NumericForm::Text), ValueType::NumericText);
    }
}
