use connector_api::TableName;

use crate::{
    error::JdbcError,
    table::{OFFSETS_TABLE, TargetTable},
};

/// The most characters of a name.
const NAME_CHARS_MAX: usize = 64;

/// Quotes an identifier: in backticks, with backticks inside doubled.
pub(crate) fn quote(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// Quotes a list of identifiers, separated by commas.
pub(crate) fn quote_all<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(quote).collect::<Vec<_>>().join(", ")
}

/// A text as a literal of SQL, for sessions in which a backslash escapes.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Fails for a name that the server would refuse, cut or change.
pub(crate) fn check(name: &str) -> Result<(), JdbcError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.chars().count() > NAME_CHARS_MAX {
        "MySQL's names have at most 64 characters"
    } else if name.contains('\0') || name.chars().any(|c| u32::from(c) > 0xFFFF) {
        "MySQL's names have no characters beyond U+FFFF, and no U+0000"
    } else if name.ends_with(' ') {
        "MySQL's names do not end with a space"
    } else {
        return Ok(());
    };
    Err(JdbcError::BadName { name: name.to_owned(), reason })
}

/// The names of a table in the database that all tables go to, or in one that is called like its schema at the source.
pub(crate) fn table(source: &TableName, database: Option<&str>) -> Result<TargetTable, JdbcError> {
    let database = database.unwrap_or(&source.schema);
    check(database)?;
    check(&source.name)?;
    Ok(TargetTable {
        schema: Some(database.to_owned()),
        name: source.name.clone(),
        sql: format!("{}.{}", quote(database), quote(&source.name)),
        offsets_sql: format!("{}.{OFFSETS_TABLE}", quote(database)),
        source: source.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_by_doubling() {
        assert_eq!(quote("x`; DROP TABLE y;--"), "`x``; DROP TABLE y;--`");
        assert_eq!(literal(r"it's \ this"), r"'it\'s \\ this'");
        let names = table(&TableName::new("s", "t"), None).unwrap();
        assert_eq!((names.sql.as_str(), names.offsets_sql.as_str()), ("`s`.`t`", "`s`.mainstem_offsets"));
        assert_eq!(table(&TableName::new("s", "t"), Some("dw")).unwrap().sql, "`dw`.`t`");
    }

    #[test]
    fn a_name_that_the_server_would_change_is_refused() {
        assert!(check(&"ü".repeat(64)).is_ok());
        for name in [&"ü".repeat(65), "", "🗝", "a\0", "a "] {
            assert!(check(name).is_err(), "{name:?}");
        }
    }
}
