//! What the server said, without anything that could be a row's value.
use crate::error::ServerError;

/// Numbers of errors whose messages quote values, or a piece of a statement that may hold some.
const QUOTES_VALUES: &[u16] = &[
    1062, 1064, 1149, 1169, 1264, 1265, 1292, 1300, 1366, 1367, 1406, 1411, 1416, 1425, 1441, 1525, 1586, 1690, 1859, 3140, 3141,
    3143, 3144, 3156, 3751, 3752, 3854, 3903, 4025,
];

/// What stands between the last `before` and the `after` that follows it, without quotes.
fn between(message: &str, before: &str, after: &str) -> Option<String> {
    let rest = message.get(message.rfind(before)? + before.len()..)?;
    let name = rest.get(..rest.find(after).unwrap_or(rest.len()))?;
    // `db`.`table`.`column` in some messages of MariaDB: the last one is the column.
    let name = name.trim_matches(['\'', '`']).rsplit("`.`").next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// An error or warning of the server. Values come before the names of columns and keys in its messages, so names are looked for at the end.
pub(crate) fn refusal(number: u16, state: &str, message: &str) -> ServerError {
    let column = match number {
        1048 | 1264 | 1265 | 1292 | 1366 | 1406 => between(message, "olumn ", " at row"),
        1364 => between(message, "Field ", " doesn't"),
        _ => None,
    };
    let column = column.map(|column| column.trim_end_matches(" cannot be null").trim_matches(['\'', '`']).to_owned());
    let constraint = match number {
        1062 | 1586 => between(message, " for key ", "\n"),
        _ => None,
    };
    let shown = match number {
        1062 | 1169 | 1586 => "a unique key would hold a value twice",
        1064 | 1149 => "the server does not understand a statement",
        1411 | 1525 | 3140 | 3141 | 3156 => "a value is malformed",
        4025 => "a CHECK constraint does not hold",
        number if QUOTES_VALUES.contains(&number) || state.starts_with("22") => "",
        _ => message,
    };
    ServerError { code: state.to_owned(), number: Some(number), message: shown.to_owned(), table: None, column, constraint }
}

/// Whether a warning says that a value was not stored as it was given: cut, rounded, put to the edge of a range, made NULL or zero.
pub(crate) fn says_that_a_value_changed(number: u16) -> bool {
    matches!(
        number,
        1048 | 1062
            | 1261
            | 1262
            | 1263
            | 1264
            | 1265
            | 1292
            | 1300
            | 1364
            | 1366
            | 1367
            | 1406
            | 1411
            | 1416
            | 1441
            | 1452
            | 1525
            | 1690
    ) || (3140..=3160).contains(&number)
        || number == 4025
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_found_and_values_are_not_shown() {
        for (number, state, message, column, constraint) in [
            (1406, "22001", "Data too long for column 'short' at row 1", Some("short"), None),
            (1366, "HY000", "Incorrect integer value: 'hunter2 for column 'x' at row' for column 'n' at row 7", Some("n"), None),
            (1366, "22007", "Incorrect integer value: 'hunter2' for column `db`.`t`.`n` at row 7", Some("n"), None),
            (1062, "23000", "Duplicate entry 'hunter2' for key 't.u'", None, Some("t.u")),
            (1048, "23000", "Column 'c' cannot be null", Some("c"), None),
            (1064, "42000", "You have an error in your SQL syntax; near 'hunter2' at line 1", None, None),
        ] {
            let refusal = refusal(number, state, message);
            assert_eq!((refusal.column.as_deref(), refusal.constraint.as_deref()), (column, constraint), "{message}");
            let shown = refusal.to_string();
            assert!(!shown.contains("hunter2") && shown.contains(&number.to_string()), "{shown}");
        }
        let denied = refusal(1142, "42000", "INSERT command denied to user 'u'@'h' for table 't'");
        assert_eq!(denied.to_string(), "INSERT command denied to user 'u'@'h' for table 't' (error 1142, SQLSTATE 42000)");
    }
}
