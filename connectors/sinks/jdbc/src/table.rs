use connector_api::TableName;

use crate::error::JdbcError;

/// A table of the target: its name there, and the texts that name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetTable {
    /// The schema, for databases that have schemas.
    pub schema: Option<String>,
    /// The table's name in its schema.
    pub name: String,
    /// The table, quoted for SQL and for messages.
    pub sql: String,
    /// The table of offset rows beside it, quoted.
    pub offsets_sql: String,
    /// The source's table, for messages.
    pub source: TableName,
}

/// The name of the table of offset rows.
pub(crate) const OFFSETS_TABLE: &str = "mainstem_offsets";

/// Quotes an identifier as standard SQL does: in double quotes, with quotes inside doubled.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a list of identifiers, separated by commas.
pub(crate) fn quote_all<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(quote).collect::<Vec<_>>().join(", ")
}

/// The names in a database with schemas. A name longer than `limit` bytes is an error: the server would cut it, and two tables could
/// become one.
pub(crate) fn with_schema(source: &TableName, schema: Option<&str>, limit: usize) -> Result<TargetTable, JdbcError> {
    let schema = schema.unwrap_or(&source.schema);
    check_length(schema, limit)?;
    check_length(&source.name, limit)?;
    Ok(TargetTable {
        schema: Some(schema.to_owned()),
        name: source.name.clone(),
        sql: format!("{}.{}", quote(schema), quote(&source.name)),
        offsets_sql: format!("{}.{OFFSETS_TABLE}", quote(schema)),
        source: source.clone(),
    })
}

/// The names in a database without schemas: tables of the schema `public` keep their name, those of others are `schema.table`.
pub(crate) fn without_schema(source: &TableName) -> TargetTable {
    let name = if source.schema == "public" || source.schema.is_empty() { source.name.clone() } else { source.to_string() };
    TargetTable { schema: None, sql: quote(&name), offsets_sql: OFFSETS_TABLE.to_owned(), name, source: source.clone() }
}

/// Fails for a name that has more than `limit` bytes.
pub(crate) fn check_length(name: &str, limit: usize) -> Result<(), JdbcError> {
    if name.len() > limit {
        return Err(JdbcError::NameTooLong { name: name.to_owned(), bytes: name.len(), limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_by_doubling() {
        assert_eq!(quote(r#"x"; DROP TABLE y;--"#), r#""x""; DROP TABLE y;--""#);
        let table = with_schema(&TableName::new("a\"b", "t"), None, 63).unwrap();
        assert_eq!((table.sql.as_str(), table.offsets_sql.as_str()), (r#""a""b"."t""#, r#""a""b".mainstem_offsets"#));
        assert_eq!(with_schema(&TableName::new("s", "t"), Some("other"), 63).unwrap().sql, r#""other"."t""#);
    }

    #[test]
    fn a_name_that_would_be_cut_is_refused() {
        assert!(with_schema(&TableName::new("s", "x".repeat(64)), None, 63).is_err());
        assert!(with_schema(&TableName::new("s", "x".repeat(63)), None, 63).is_ok());
    }

    #[test]
    fn schemas_become_a_prefix_where_there_are_none() {
        assert_eq!(without_schema(&TableName::new("public", "t")).name, "t");
        assert_eq!(without_schema(&TableName::new("sales", "t")).name, "sales.t");
    }
}
