use connector_api::Finding;

use super::connection::Connection;
use crate::{
    config::PostgresSettings,
    error::JdbcError,
    table::{OFFSETS_TABLE, quote},
};

/// What the server says of the login. `$1` is the schema that all tables go to, or NULL.
const RIGHTS: &str = "SELECT current_user::text, current_database()::text, has_database_privilege(current_database(), 'CREATE'), \
     has_database_privilege(current_database(), 'TEMPORARY'), \
     pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean, \
     to_regnamespace(quote_ident($1)) IS NOT NULL, \
     coalesce(has_schema_privilege(to_regnamespace(quote_ident($1)), 'USAGE') \
     AND has_schema_privilege(to_regnamespace(quote_ident($1)), 'CREATE'), false)";

/// Says what the login may not do that the sink needs.
pub(crate) async fn check(connection: &mut Connection, settings: &PostgresSettings) -> Result<Vec<Finding>, JdbcError> {
    let doing = "ask for the login's rights";
    let row = connection.client.query_one(RIGHTS, &[&settings.schema]).await.map_err(|error| connection.failed(doing, error))?;
    let name = |index: usize| row.try_get::<_, String>(index).map_err(|error| connection.failed(doing, error));
    let may = |index: usize| row.try_get::<_, bool>(index).map_err(|error| connection.failed(doing, error));
    let (user, database) = (quote(&name(0)?), quote(&name(1)?));
    let (may_create, may_stage, read_only, has_schema, may_use) = (may(2)?, may(3)?, may(4)?, may(5)?, may(6)?);
    let address = settings.address();
    let mut findings = Vec::new();
    if read_only {
        findings.push(Finding::error(format!("{address} is read-only: it is a standby, or `default_transaction_read_only` is on")));
    }
    if !may_stage {
        findings.push(
            Finding::error(format!("{user} may not make temporary tables in {address}, through which rows are merged"))
                .remedy(format!("GRANT TEMPORARY ON DATABASE {database} TO {user};")),
        );
    }
    match &settings.schema {
        Some(schema) if !has_schema && !may_create => findings.push(
            Finding::error(format!("schema {} is missing in {address}, and {user} may not create it", quote(schema)))
                .remedy(format!("CREATE SCHEMA {} AUTHORIZATION {user};", quote(schema))),
        ),
        Some(schema) if has_schema && !may_use => findings.push(
            Finding::error(format!("{user} may not create tables in schema {} of {address}", quote(schema)))
                .remedy(format!("GRANT USAGE, CREATE ON SCHEMA {} TO {user};", quote(schema))),
        ),
        None if !may_create => findings.push(
            Finding::warning(format!("{user} may not create schemas in {address}: the schemas of all tables have to be there"))
                .remedy(format!("GRANT CREATE ON DATABASE {database} TO {user};")),
        ),
        _ => {}
    }
    // Who may not use a schema may not even ask what is in it.
    if has_schema && may_use {
        findings.extend(check_offsets(connection, settings, &user).await?);
    }
    Ok(findings)
}

/// An offset table that is there already must be one that can be used.
async fn check_offsets(connection: &mut Connection, settings: &PostgresSettings, user: &str) -> Result<Option<Finding>, JdbcError> {
    let Some(schema) = &settings.schema else { return Ok(None) };
    let doing = "ask for the rights on the offset rows";
    let table = format!("{}.{OFFSETS_TABLE}", quote(schema));
    let sql = "SELECT coalesce(bool_and(has_table_privilege(to_regclass($1), p)), true) \
         FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS p WHERE to_regclass($1) IS NOT NULL";
    let row = connection.client.query_one(sql, &[&table]).await;
    let may: bool = row.and_then(|row| row.try_get(0)).map_err(|error| connection.failed(doing, error))?;
    Ok((!may).then(|| {
        Finding::error(format!("{user} may not read and write {table} of {}", settings.address()))
            .remedy(format!("GRANT SELECT, INSERT, UPDATE ON {table} TO {user};"))
    }))
}
