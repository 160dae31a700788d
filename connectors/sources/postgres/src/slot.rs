//! The replication slot and the publication: their names, what the server says of them, making and dropping them.

use std::time::{Duration, Instant};

use connector_api::TableName;
use tracing::{info, warn};

use crate::{
    config::Settings,
    error::{PostgresError, sqlstate},
    lsn::Lsn,
    wire::{Client, Row, quote_identifier, quote_literal},
};

/// The longest name of a slot.
const NAME_BYTES_MAX: usize = 63;

/// A name of `[a-z0-9_]{1,63}` for a pipeline, one to one: `_` is doubled, any other byte becomes `_` and two hexadecimal digits. What
/// gets too long ends in `_h` and a 64-bit hash, which no escape looks like.
pub(crate) fn name_of_pipeline(pipeline: &str) -> String {
    let mut name = String::with_capacity(pipeline.len());
    for byte in pipeline.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => name.push(char::from(byte)),
            b'_' => name.push_str("__"),
            other => name.push_str(&format!("_{other:02x}")),
        }
    }
    if name.len() > NAME_BYTES_MAX {
        // FNV-1a.
        let hash =
            pipeline.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
        name.truncate(NAME_BYTES_MAX - 18);
        name.push_str(&format!("_h{hash:016x}"));
    }
    name
}

/// The slot's and the publication's name.
pub(crate) fn names(settings: &Settings, pipeline: &str) -> (String, String) {
    let slot = settings.slot.name.clone().unwrap_or_else(|| name_of_pipeline(pipeline));
    let publication = settings.publication.name.clone().unwrap_or_else(|| slot.clone());
    (slot, publication)
}

/// A slot as the server has it.
#[derive(Debug, Clone)]
pub(crate) struct SlotInfo {
    pub plugin: String,
    pub database: String,
    pub active_pid: Option<String>,
    /// `None` while the slot is still being made.
    pub confirmed: Option<Lsn>,
    /// Its part of the log is gone.
    pub lost: bool,
}

/// Looks a slot up.
pub(crate) fn find(client: &mut Client, slot: &str) -> Result<Option<SlotInfo>, PostgresError> {
    let status = if client.version() >= 130_000 { "wal_status" } else { "NULL" };
    let sql = format!(
        "SELECT coalesce(plugin, ''), coalesce(database, ''), active_pid, confirmed_flush_lsn, {status} = 'lost' \
         FROM pg_replication_slots WHERE slot_name = {}",
        quote_literal(slot)
    );
    let info = |row: Row| SlotInfo {
        plugin: row.text(0).to_owned(),
        database: row.text(1).to_owned(),
        active_pid: row.get(2).map(str::to_owned),
        confirmed: row.text(3).parse().ok(),
        lost: row.is_true(4),
    };
    Ok(client.query("look the replication slot up", &sql)?.into_iter().next().map(info))
}

/// Bytes of the log that the server keeps for the slot.
pub(crate) fn retained_bytes(client: &mut Client, slot: &str) -> Result<Option<u64>, PostgresError> {
    let sql = format!(
        "SELECT pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, \
         restart_lsn)::bigint FROM pg_replication_slots WHERE slot_name = {}",
        quote_literal(slot)
    );
    let rows = client.query_within("ask how much log is kept", &sql, Some(Duration::from_secs(5)))?;
    Ok(rows.first().and_then(|row| row.text(0).parse().ok()))
}

/// Makes the permanent slot. Returns its consistent point: it sends all transactions that commit from there on.
pub(crate) fn create(settings: &Settings, slot: &str) -> Result<Lsn, PostgresError> {
    let mut client = Client::connect_replication(settings, 32 << 10)?;
    let command = format!("CREATE_REPLICATION_SLOT {} LOGICAL pgoutput NOEXPORT_SNAPSHOT", quote_identifier(slot));
    let row = create_slot(settings, &mut client, &command)?;
    client.close();
    info!(slot, consistent_point = row.text(1), "created the replication slot");
    row.text(1).parse().map_err(|()| PostgresError::protocol("a consistent point that is no LSN"))
}

/// Runs `CREATE_REPLICATION_SLOT`, which waits for all transactions that are running, and says so if that takes long.
pub(crate) fn create_slot(settings: &Settings, client: &mut Client, command: &str) -> Result<Row, PostgresError> {
    let doing = "create a replication slot";
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let rows = std::thread::scope(|scope| {
        scope.spawn(move || {
            // The sender is dropped when the answer is there.
            while waiting.recv_timeout(Duration::from_secs(15)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                let blockers = blocking_transactions(settings).unwrap_or_default();
                warn!(transactions = %blockers, "the server makes the replication slot once the transactions that are running have ended");
            }
        });
        let rows = client.query_within(doing, command, None);
        drop(done);
        rows
    });
    match rows {
        Ok(rows) => rows.into_iter().next().ok_or_else(|| PostgresError::protocol("no row for a slot that was made")),
        Err(error) => Err(explain_creation(error)),
    }
}

fn explain_creation(error: PostgresError) -> PostgresError {
    let PostgresError::Server { error: server, .. } = &error else { return error };
    let remedy = match server.code.as_str() {
        sqlstate::PREREQUISITE_STATE => "run: ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
        sqlstate::CONFIGURATION_LIMIT => "drop a slot that nobody needs, or raise max_replication_slots and restart the server",
        sqlstate::INSUFFICIENT_PRIVILEGE => "give the role the attribute REPLICATION: ALTER ROLE … REPLICATION",
        _ => return error,
    };
    PostgresError::prerequisite(server.message.clone(), remedy)
}

fn blocking_transactions(settings: &Settings) -> Result<String, PostgresError> {
    let mut client = Client::connect(settings)?;
    let sql = "SELECT coalesce(string_agg(format('pid %s (%s, since %s)', pid, usename, date_trunc('second', xact_start)), ', '), 'unknown') \
               FROM (SELECT * FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start LIMIT 5) AS t";
    let row = client.query_one("ask for running transactions", sql)?;
    client.close();
    Ok(row.text(0).to_owned())
}

/// Waits until nobody uses the slot: after a crash of ours, the server takes a moment to see that we are gone.
pub(crate) fn wait_until_free(client: &mut Client, slot: &str, patience: Duration) -> Result<(), PostgresError> {
    let until = Instant::now() + patience;
    loop {
        match find(client, slot)?.and_then(|info| info.active_pid) {
            None => return Ok(()),
            Some(pid) if Instant::now() >= until => return Err(PostgresError::SlotActive { slot: slot.to_owned(), pid }),
            Some(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Drops the slot. False if there is none.
pub(crate) fn drop_slot(client: &mut Client, slot: &str, patience: Duration) -> Result<bool, PostgresError> {
    wait_until_free(client, slot, patience)?;
    let sql =
        format!("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = {}", quote_literal(slot));
    Ok(!client.query("drop the replication slot", &sql)?.is_empty())
}

/// A table in SQL.
pub(crate) fn quote_table(table: &TableName) -> String {
    format!("{}.{}", quote_identifier(&table.schema), quote_identifier(&table.name))
}

/// Whether the publication exists.
pub(crate) fn publication_exists(client: &mut Client, publication: &str) -> Result<bool, PostgresError> {
    let sql = format!("SELECT 1 FROM pg_publication WHERE pubname = {}", quote_literal(publication));
    Ok(!client.query("look the publication up", &sql)?.is_empty())
}

/// What a publication's comment says if it was made here: others are never altered or dropped.
const OWN: &str = "made by mainstem";

/// Whether the publication was made here; `None` if there is none.
pub(crate) fn publication_is_own(client: &mut Client, publication: &str) -> Result<Option<bool>, PostgresError> {
    let sql = format!(
        "SELECT coalesce(obj_description(oid, 'pg_publication'), '') FROM pg_publication WHERE pubname = {}",
        quote_literal(publication)
    );
    Ok(client.query("look the publication up", &sql)?.first().map(|row| row.text(0) == OWN))
}

/// Makes the publication, or alters it, so that it has exactly these tables. `roots`: some of them are partitioned.
pub(crate) fn ensure_publication(
    client: &mut Client,
    publication: &str,
    tables: &[TableName],
    roots: bool,
) -> Result<(), PostgresError> {
    let name = quote_identifier(publication);
    let list = |tables: &[&TableName]| tables.iter().map(|table| quote_table(table)).collect::<Vec<_>>().join(", ");
    let explain = |error: PostgresError| match &error {
        PostgresError::Server { error: server, .. } if server.code == sqlstate::INSUFFICIENT_PRIVILEGE => {
            PostgresError::prerequisite(
                format!("{}, which is needed to make the publication", server.message),
                "make the role owner of the tables and GRANT CREATE ON DATABASE, or have an owner make the publication and set `publication: { name: …, create: false }`",
            )
        }
        _ => error,
    };
    match publication_is_own(client, publication)? {
        Some(true) => {}
        Some(false) => {
            return Err(PostgresError::prerequisite(
                format!("publication `{publication}` exists, and was not made by Mainstem"),
                "set `publication: { name: …, create: false }` to use it as it is, or give another name",
            ));
        }
        None => {
            let options = if roots { " WITH (publish_via_partition_root = true)" } else { "" };
            let tables: Vec<_> = tables.iter().collect();
            // Statements that are sent together are one transaction.
            let sql = format!(
                "CREATE PUBLICATION {name} FOR TABLE {}{options}; COMMENT ON PUBLICATION {name} IS {}",
                list(&tables),
                quote_literal(OWN)
            );
            client.query("create the publication", &sql).map_err(explain)?;
            info!(publication, tables = tables.len(), "created the publication");
            return Ok(());
        }
    }
    let sql = format!(
        "SELECT n.nspname, c.relname FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid \
         JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = {}",
        quote_literal(publication)
    );
    let rows = client.query("read the publication", &sql)?;
    let present: Vec<TableName> = rows.iter().map(|row| TableName::new(row.text(0), row.text(1))).collect();
    let missing: Vec<_> = tables.iter().filter(|table| !present.contains(table)).collect();
    let surplus: Vec<_> = present.iter().filter(|table| !tables.contains(table)).collect();
    for (verb, changed) in [("ADD", missing), ("DROP", surplus)] {
        if !changed.is_empty() {
            let sql = format!("ALTER PUBLICATION {name} {verb} TABLE {}", list(&changed));
            client.query("alter the publication", &sql).map_err(explain)?;
            info!(publication, verb, tables = changed.len(), "altered the publication");
        }
    }
    if roots {
        let sql = format!("ALTER PUBLICATION {name} SET (publish_via_partition_root = true)");
        client.query("alter the publication", &sql).map_err(explain)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_names_are_one_to_one() {
        let pipelines =
            ["shop", "Shop", "s-hop", "s_hop", "s_2dhop", "s__hop", "ü", &"x".repeat(80), &"x".repeat(81), &"-".repeat(40)];
        let names: Vec<_> = pipelines.iter().map(|name| name_of_pipeline(name)).collect();
        assert_eq!(names[..5], ["shop", "_53hop", "s_2dhop", "s__hop", "s__2dhop"]);
        for (index, name) in names.iter().enumerate() {
            assert!((1..=63).contains(&name.len()) && !names[..index].contains(name), "{name}");
        }
    }
}
