use connector_api::Finding;

use super::{
    connection::Connection,
    names::{literal, quote},
};
use crate::{config::MySqlSettings, error::JdbcError};

/// What the login needs on the database that the tables go to.
const NEEDED: [&str; 7] = ["SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "CREATE TEMPORARY TABLES"];

/// What the login may not do that the sink needs, and what would make it slower than it could be.
pub(crate) async fn check(connection: &mut Connection, settings: &MySqlSettings) -> Result<Vec<Finding>, JdbcError> {
    let doing = "ask for the login's rights";
    let address = connection.address.clone();
    let mut findings = Vec::new();
    let row = connection.row(doing, "SELECT CURRENT_USER(), @@read_only").await?;
    let (user, read_only): (String, String) = (connection.value(doing, &row, 0)?, connection.value(doing, &row, 1)?);
    if read_only != "0" && !read_only.eq_ignore_ascii_case("off") {
        findings.push(Finding::error(format!("{address} is read-only: it is a replica, or `read_only` is on")));
    }
    if !connection.local_infile && settings.address.local_infile {
        findings.push(
            Finding::warning(format!(
                "{address} does not allow `LOAD DATA LOCAL`: rows are written with `INSERT`s, which is slower"
            ))
            .remedy("SET GLOBAL local_infile = ON;"),
        );
    }
    let mut grants = Vec::new();
    for row in connection.rows(doing, "SHOW GRANTS").await? {
        grants.push(connection.value::<String>(doing, &row, 0)?);
    }
    let missing = missing(&grants, settings.database.as_deref());
    if !missing.is_empty() {
        let place = settings.database.as_deref().map_or("*.*".to_owned(), |database| format!("{}.*", quote(database)));
        // The name is that of the grant: user and host, each in quotes.
        let (name, host) = user.rsplit_once('@').unwrap_or((&user, "%"));
        let account = format!("{}@{}", literal(name), literal(host));
        let message = format!("{account} may not {} on {place} of {address}", missing.join(", "));
        // What a role may do is not said; it may be enough.
        let by_role = grants.iter().any(|grant| !grant.contains(" ON "));
        let finding = if by_role || settings.database.is_none() { Finding::warning(message) } else { Finding::error(message) };
        findings.push(finding.remedy(format!("GRANT {} ON {place} TO {account};", missing.join(", "))));
    }
    Ok(findings)
}

/// The rights that none of the grants (as `SHOW GRANTS` prints them) gives on the database.
fn missing(grants: &[String], database: Option<&str>) -> Vec<&'static str> {
    let gives = |grant: &String, right: &str| {
        let Some((rights, place)) = grant.strip_prefix("GRANT ").and_then(|grant| grant.split_once(" ON ")) else { return false };
        let applies = place.starts_with("*.* ") || database.is_some_and(|database| is_on(place, database));
        applies && (rights.starts_with("ALL PRIVILEGES") || rights.split(", ").any(|given| given == right))
    };
    NEEDED.into_iter().filter(|right| !grants.iter().any(|grant| gives(grant, right))).collect()
}

/// Whether a grant's place, which may hold the wildcards `%` and `_`, is that database as a whole.
fn is_on(place: &str, database: &str) -> bool {
    let Some((pattern, _)) = place.strip_prefix('`').and_then(|rest| rest.split_once("`.* TO ")) else { return false };
    let pattern: Vec<char> = pattern.replace("``", "`").chars().collect();
    let name: Vec<char> = database.chars().collect();
    matches(&pattern, &name)
}

fn matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['%', rest @ ..], _) => (0..=name.len()).any(|at| matches(rest, name.get(at..).unwrap_or_default())),
        (['\\', literal @ ('%' | '_' | '\\'), rest @ ..], [first, name @ ..]) => literal == first && matches(rest, name),
        (['_', rest @ ..], [_, name @ ..]) => matches(rest, name),
        ([literal, rest @ ..], [first, name @ ..]) => literal == first && matches(rest, name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read() {
        let missing = |grants: &[&str]| missing(&grants.iter().map(|&grant| grant.to_owned()).collect::<Vec<_>>(), Some("dw_1"));
        assert_eq!(missing(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`%` WITH GRANT OPTION"]), [""; 0]);
        assert_eq!(missing(&["GRANT USAGE ON *.* TO `u`@`%`", r"GRANT ALL PRIVILEGES ON `dw\_1`.* TO `u`@`%`"]), [""; 0]);
        assert_eq!(missing(&["GRANT ALL PRIVILEGES ON `dw%`.* TO `u`@`%`"]), [""; 0]);
        assert_eq!(missing(&["GRANT ALL PRIVILEGES ON `dw%2`.* TO `u`@`%`"]), NEEDED);
        assert_eq!(
            missing(&[
                "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON `dw_1`.* TO `u`@`%`",
                "GRANT ALTER ON `dw_1`.`t` TO `u`@`%`"
            ]),
            ["ALTER", "CREATE TEMPORARY TABLES"]
        );
    }
}
