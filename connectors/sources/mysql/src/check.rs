//! What would keep the source from working, found before anything is read.

use connector_api::Finding;

use crate::{
    catalog::{self, CatalogTable, LogSettings},
    config::{Settings, SnapshotLock, SnapshotMode},
    dump,
    error::{MySqlError, number},
    position::{Position, Progress},
    resume::{self, Server},
    snapshot_plan::quote_table,
    wire::{Client, Flavor, quote_literal},
};

/// Looks at everything that [`resume::open`] needs. Creates nothing.
pub(crate) fn check(settings: &Settings, pipeline: &str, stored: Option<&Position>) -> Result<Vec<Finding>, MySqlError> {
    let mut client = match Client::connect(settings) {
        Ok(client) => client,
        Err(error) => return Ok(vec![finding(&error)]),
    };
    if let Err(error) = catalog::require_version(client.version()) {
        return Ok(vec![finding(&error)]);
    }
    let mut findings = Vec::new();
    let log = LogSettings::ask(&mut client)?;
    check_log(&log, client.flavor(), &mut findings);
    let user = client.query_one("ask who we are", "SELECT current_user()")?.text(0).to_owned();
    let user =
        user.rsplit_once('@').map_or(user.clone(), |(name, host)| format!("{}@{}", quote_literal(name), quote_literal(host)));
    let may_read_log = check_user(settings, pipeline, &mut client, &user, &mut findings)?;
    let selected = match resume::select(settings, &catalog::tables(&mut client)?) {
        Ok(selected) => selected,
        Err(error) => {
            findings.push(finding(&error));
            Vec::new()
        }
    };
    check_tables(settings, &mut client, &selected, &user, stored, &mut findings)?;
    if log.log_bin
        && may_read_log
        && let Some(stored) = stored
    {
        let verified = catalog::origin(&mut client).and_then(|origin| {
            let server = Server::ask(&mut client, &log)?;
            resume::verify(stored, &origin, &log, &server)
        });
        if let Err(error) = verified {
            findings.push(finding(&error));
        }
    }
    client.close();
    Ok(findings)
}

/// An error as a finding: what to do stands apart where it is known.
fn finding(error: &MySqlError) -> Finding {
    match error {
        MySqlError::Prerequisite { problem, remedy } => Finding::error(problem).remedy(remedy),
        MySqlError::Gap { problem, choices } => Finding::error(format!("cannot go on without a gap: {problem}")).remedy(choices),
        MySqlError::Connect { cause, .. } => {
            Finding::error(format!("{error}: {cause}")).remedy("correct `url`, or start the server")
        }
        _ => Finding::error(error.to_string()),
    }
}

fn check_log(log: &LogSettings, flavor: Flavor, findings: &mut Vec<Finding>) {
    // What was set by SET GLOBAL is forgotten at the next start, unless it also stands in a file.
    let set = |name: &str, value: &str| match flavor {
        Flavor::MySql => format!("SET PERSIST {name} = '{value}';"),
        Flavor::MariaDb => {
            format!("SET GLOBAL {name} = '{value}'; -- and `{name} = {value}` under [mariadb] in the server's settings")
        }
    };
    if !log.log_bin {
        findings.push(Finding::error("the server writes no binary log").remedy("start the server with `log_bin` under [mysqld]"));
    }
    if log.format != "ROW" {
        let problem = format!("binlog_format is `{}`: the log holds statements, not rows", log.format);
        findings.push(Finding::error(problem).remedy(set("binlog_format", "ROW")));
    }
    if log.row_metadata != "FULL" {
        let problem = format!(
            "binlog_row_metadata is `{}`: the log does not say what its columns are called, so a table stops the pipeline as soon as it is altered",
            log.row_metadata
        );
        findings.push(Finding::warning(problem).remedy(set("binlog_row_metadata", "FULL")));
    }
    if log.row_image != "FULL" {
        let problem = format!(
            "binlog_row_image is `{}`: columns that a statement does not touch are not in the log; they arrive as unchanged",
            log.row_image
        );
        findings.push(Finding::note(problem).remedy(set("binlog_row_image", "FULL")));
    }
    if !log.gtids {
        let problem = "gtid_mode is not ON: after a failover the pipeline cannot go on at another server";
        let remedy = "SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; SET PERSIST gtid_mode = ON_PERMISSIVE; \
                      SET PERSIST gtid_mode = ON; -- each once all replicas follow";
        findings.push(Finding::note(problem).remedy(remedy));
    }
    if log.checksum == "NONE" {
        findings.push(Finding::note("binlog_checksum is NONE: damage to the log on disk or on the way is not found"));
    }
}

/// Whether the user may do what is needed. Returns whether the log may be read.
fn check_user(
    settings: &Settings,
    pipeline: &str,
    client: &mut Client,
    user: &str,
    findings: &mut Vec<Finding>,
) -> Result<bool, MySqlError> {
    let mut may_read_log = true;
    if let Err(error) = catalog::log_files(client) {
        match error.number() {
            Some(number::SPECIFIC_ACCESS_DENIED | number::ACCESS_DENIED) => {
                let privilege = if client.flavor() == Flavor::MySql { "REPLICATION CLIENT" } else { "BINLOG MONITOR" };
                let remedy = format!("GRANT {privilege} ON *.* TO {user};");
                findings.push(Finding::error("the user may not ask where the binary log ends").remedy(remedy));
                may_read_log = false;
            }
            // There is no log.
            Some(1381) => may_read_log = false,
            _ => return Err(error),
        }
    }
    let mut replica = Client::connect(settings)?;
    match dump::register(&mut replica, dump::server_id(settings, pipeline)) {
        Ok(()) => {}
        Err(error) if matches!(error.number(), Some(number::SPECIFIC_ACCESS_DENIED | number::ACCESS_DENIED)) => {
            let remedy = format!("GRANT REPLICATION SLAVE ON *.* TO {user};");
            findings.push(Finding::error("the user may not read the binary log").remedy(remedy));
        }
        Err(error) => return Err(error),
    }
    replica.close();
    Ok(may_read_log)
}

fn check_tables(
    settings: &Settings,
    client: &mut Client,
    tables: &[CatalogTable],
    user: &str,
    stored: Option<&Position>,
    findings: &mut Vec<Finding>,
) -> Result<(), MySqlError> {
    for table in tables {
        let quoted = quote_table(&table.name);
        if let Err(error) = client.query("look at a table", &format!("SELECT 1 FROM {quoted} LIMIT 0")) {
            let problem = match &error {
                MySqlError::Server { error, .. } => error.to_string(),
                _ => return Err(error),
            };
            findings.push(Finding::error(problem).remedy(format!("GRANT SELECT ON {quoted} TO {user};")));
        }
    }
    let unread = |table: &&CatalogTable| {
        let state = stored.and_then(|stored| stored.tables().get(&table.name));
        state.map_or(settings.snapshot.mode == SnapshotMode::Initial, |state| !matches!(state.progress, Progress::Done(_)))
    };
    for table in tables.iter().filter(|table| !table.transactional).filter(unread) {
        let problem = format!(
            "table {} has the engine {}, which has no transactions: it is locked against writers while it is read",
            table.name, table.engine
        );
        let remedy = format!("ALTER TABLE {} ENGINE = InnoDB;", quote_table(&table.name));
        findings.push(Finding::warning(problem).remedy(remedy));
    }
    let lower = |table: &CatalogTable| (table.name.schema.to_lowercase(), table.name.name.to_lowercase());
    for pair in tables.windows(2).filter(|pair| lower(&pair[0]) == lower(&pair[1])) {
        findings.push(Finding::note(format!(
            "tables {} and {} differ by case only: they have topics of their own, but a target that does not tell case apart would mix them",
            pair[0].name, pair[1].name
        )));
    }
    if tables.iter().any(|table| unread(&table)) && settings.snapshot.lock != SnapshotLock::Tables {
        check_lock(settings, client, user, findings)?;
    }
    Ok(())
}

/// Whether all tables can be locked for the moment in which a snapshot begins.
fn check_lock(settings: &Settings, client: &mut Client, user: &str, findings: &mut Vec<Finding>) -> Result<(), MySqlError> {
    let rows = client.query("read the user's grants", "SHOW GRANTS")?;
    let has = |words: &[&str]| rows.iter().any(|row| words.iter().any(|word| row.text(0).contains(word)));
    // What a role gives is not listed; then this is only a note that was not needed.
    if has(&["ALL PRIVILEGES ON *.*", "RELOAD", "FLUSH_TABLES"]) {
        return Ok(());
    }
    let problem = "the user may not lock all tables for the moment in which a snapshot begins";
    let remedy = format!("GRANT RELOAD ON *.* TO {user};");
    findings.push(match (settings.snapshot.lock, client.flavor()) {
        (SnapshotLock::Global, _) => Finding::error(problem).remedy(remedy),
        (_, Flavor::MySql) => {
            Finding::note(format!("{problem}; the captured tables are locked instead (LOCK TABLES)")).remedy(remedy)
        }
        (_, Flavor::MariaDb) => {
            Finding::note(format!("{problem}; it is done without a lock, or over one connection")).remedy(remedy)
        }
    });
    Ok(())
}
