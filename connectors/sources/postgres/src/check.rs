//! What would keep the source from working, found before anything is created.

use connector_api::Finding;

use crate::{
    catalog,
    config::{Settings, SnapshotMode},
    error::PostgresError,
    position::Position,
    resume,
    selection::Selection,
    slot::{self, quote_table},
    wire::{Client, quote_identifier, quote_literal},
};

/// Looks at everything that [`resume::open`] needs. Creates nothing.
pub(crate) fn check(settings: &Settings, pipeline: &str, stored: Option<&Position>) -> Result<Vec<Finding>, PostgresError> {
    let mut client = match Client::connect(settings) {
        Ok(client) => client,
        Err(error) => return Ok(vec![finding(&error)]),
    };
    if let Err(error) = resume::require_version(client.version()) {
        return Ok(vec![finding(&error)]);
    }
    let mut findings = Vec::new();
    let (slot_name, publication) = slot::names(settings, pipeline);
    let slot_found = slot::find(&mut client, &slot_name)?;
    check_server(&mut client, settings, slot_found.is_some(), &mut findings)?;
    check_role(&mut client, settings, &mut findings)?;
    let selection = Selection::new(&settings.tables, &catalog::tables(&mut client)?, &settings.user, settings.publication.create);
    check_publication(&mut client, settings, &publication, &selection, &mut findings)?;
    let roots = selection.tables.iter().any(|table| table.kind == b'p');
    if roots && client.version() < 130_000 {
        findings.push(
            Finding::error("partitioned tables can be published from PostgreSQL 13 on").remedy("name the partitions themselves"),
        );
    }
    findings.extend(selection.findings);
    check_slot(settings, &slot_name, slot_found, stored, &mut findings);
    client.close();
    Ok(findings)
}

/// An error as a finding: what to do stands apart where it is known.
fn finding(error: &PostgresError) -> Finding {
    match error {
        PostgresError::Prerequisite { problem, remedy } => Finding::error(problem).remedy(remedy),
        PostgresError::Gap { problem, choices } => Finding::error(format!("cannot go on without a gap: {problem}")).remedy(choices),
        PostgresError::Connect { cause, .. } => {
            Finding::error(format!("{error}: {cause}")).remedy("correct `url`, or start the server")
        }
        _ => {
            let cause = std::error::Error::source(error).filter(|_| !matches!(error, PostgresError::Server { .. }));
            Finding::error(cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
        }
    }
}

fn check_server(
    client: &mut Client,
    settings: &Settings,
    slot_exists: bool,
    findings: &mut Vec<Finding>,
) -> Result<(), PostgresError> {
    let sql = "SELECT current_setting('wal_level'), current_setting('max_replication_slots')::int, current_setting('max_wal_senders')::int, \
               (SELECT count(*) FROM pg_replication_slots), \
               (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender'), \
               coalesce(current_setting('max_slot_wal_keep_size', true), '-1'), current_setting('server_encoding')";
    let row = client.query_one("read the server's settings", sql)?;
    if row.text(0) != "logical" {
        let problem = format!("wal_level is `{}`, and logical replication needs `logical`", row.text(0));
        findings.push(Finding::error(problem).remedy("ALTER SYSTEM SET wal_level = 'logical'; -- then restart the server"));
    }
    // Beside the permanent slot, a snapshot needs one for a moment.
    let needed = i64::from(!slot_exists) + i64::from(settings.snapshot.mode == SnapshotMode::Initial);
    for (name, used, max) in [("max_replication_slots", 3, 1), ("max_wal_senders", 4, 2)] {
        let (used, max): (i64, i64) = (row.number(used)?, row.number(max)?);
        if used + needed.max(1) > max {
            let problem = format!("{name} is {max}, {used} are in use, and {} more are needed", needed.max(1));
            findings
                .push(Finding::error(problem).remedy(format!("ALTER SYSTEM SET {name} = {}; -- then restart the server", max + 4)));
        }
    }
    if !matches!(row.text(5), "-1" | "0") {
        let problem =
            format!("max_slot_wal_keep_size is {}: a pipeline that stands still for longer than that loses its place", row.text(5));
        findings.push(Finding::note(problem));
    }
    if row.text(6) == "SQL_ASCII" {
        findings.push(Finding::warning("the database's encoding is SQL_ASCII: text that is no UTF-8 would stop the pipeline"));
    }
    Ok(())
}

fn check_role(client: &mut Client, settings: &Settings, findings: &mut Vec<Finding>) -> Result<(), PostgresError> {
    let sql = "SELECT rolreplication OR rolsuper OR EXISTS (SELECT FROM pg_roles r WHERE r.rolname = 'rds_replication' \
               AND pg_has_role(r.oid, 'MEMBER')), has_database_privilege(current_database(), 'CREATE') FROM pg_roles WHERE rolname = current_user";
    let row = client.query_one("read the role", sql)?;
    let role = quote_identifier(&settings.user);
    if !row.is_true(0) {
        let remedy = format!("ALTER ROLE {role} REPLICATION;");
        findings.push(Finding::error(format!("role {role} may not replicate")).remedy(remedy));
    }
    if settings.publication.create && !row.is_true(1) {
        let remedy = format!("GRANT CREATE ON DATABASE {} TO {role};", quote_identifier(&settings.database));
        findings.push(Finding::error(format!("role {role} may not create a publication in this database")).remedy(remedy));
    }
    Ok(())
}

fn check_publication(
    client: &mut Client,
    settings: &Settings,
    publication: &str,
    selection: &Selection,
    findings: &mut Vec<Finding>,
) -> Result<(), PostgresError> {
    let exists = slot::publication_exists(client, publication)?;
    let name = quote_identifier(publication);
    let list: Vec<_> = selection.tables.iter().map(|table| quote_table(&table.name)).collect();
    if !settings.publication.create {
        if !exists {
            let remedy = format!("CREATE PUBLICATION {name} FOR TABLE {};", list.join(", "));
            findings.push(Finding::error(format!("publication {name} does not exist")).remedy(remedy));
            return Ok(());
        }
        let sql = format!("SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = {}", quote_literal(publication));
        let rows = client.query("read the publication", &sql)?;
        for table in &selection.tables {
            let published = rows.iter().any(|row| row.text(0) == table.name.schema && row.text(1) == table.name.name);
            if !published && table.kind != b'p' {
                let remedy = format!("ALTER PUBLICATION {name} ADD TABLE {};", quote_table(&table.name));
                findings.push(Finding::error(format!("publication {name} does not publish table {}", table.name)).remedy(remedy));
            }
        }
        return Ok(());
    }
    if slot::publication_is_own(client, publication)? == Some(false) {
        let remedy = "set `publication: { name: …, create: false }` to use it as it is, or give another name";
        findings.push(Finding::error(format!("publication {name} exists, and was not made by Mainstem")).remedy(remedy));
    }
    let role = quote_identifier(&settings.user);
    for table in selection.tables.iter().filter(|table| !table.owned) {
        let problem = format!("role {role} does not own table {}, so it cannot put it into a publication", table.name);
        let remedy = format!(
            "CREATE PUBLICATION {name} FOR TABLE {}; -- as the owner, with `publication: {{ create: false }}` in the file; or: ALTER TABLE {} OWNER TO {role};",
            list.join(", "),
            quote_table(&table.name)
        );
        findings.push(Finding::error(problem).remedy(remedy));
    }
    Ok(())
}

fn check_slot(
    settings: &Settings,
    slot_name: &str,
    found: Option<slot::SlotInfo>,
    stored: Option<&Position>,
    findings: &mut Vec<Finding>,
) {
    if let Some(stored) = stored {
        let verified = resume::identify(settings)
            .and_then(|identity| resume::verify(stored, &identity, &settings.database, slot_name, found.as_ref()));
        if let Err(error) = verified {
            findings.push(finding(&error));
        }
        return;
    }
    match found {
        None if !settings.slot.create => {
            let remedy = format!("SELECT pg_create_logical_replication_slot('{slot_name}', 'pgoutput');");
            findings.push(Finding::error(format!("replication slot `{slot_name}` does not exist")).remedy(remedy));
        }
        None => {}
        Some(info) => {
            if let Some(problem) = resume::unusable(&info, slot_name, &settings.database) {
                let remedy = format!("give another `slot.name`, or: SELECT pg_drop_replication_slot('{slot_name}');");
                findings.push(Finding::error(problem).remedy(remedy));
            } else if let Some(pid) = info.active_pid {
                findings.push(Finding::warning(format!("replication slot `{slot_name}` is in use by process {pid} of the server")));
            }
        }
    }
}
