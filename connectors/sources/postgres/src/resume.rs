//! What happens before the first read: the server, the publication, the slot and the stored position are brought together, or it is said
//! why they cannot be.

use std::{collections::HashMap, time::Duration};

use connector_api::SourceContext;
use tracing::{info, warn};

use crate::{
    catalog::{self, CatalogTable, Types},
    config::{Settings, SnapshotMode},
    error::PostgresError,
    lsn::Lsn,
    position::{Origin, Position, Progress, TableState},
    reader::Reader,
    rows,
    selection::Selection,
    slot::{self, SlotInfo},
    stream::Known,
    wire::Client,
};

/// What can be done where the stream cannot go on.
pub(crate) const CHOICES: &str = "`mainstem resnapshot PIPELINE` reads all tables again and goes on from there; `mainstem drop PIPELINE` \
     removes the pipeline's topics, slot and publication, to begin anew";

/// The oldest server that is spoken to, 12.
pub(crate) const VERSION_MIN: u32 = 120_000;

/// What the server says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub system_id: String,
    pub timeline: u32,
    /// The end of its log.
    pub flushed: Lsn,
}

/// Everything that a [`Reader`] needs.
pub(crate) fn open(
    settings: std::sync::Arc<Settings>,
    context: SourceContext,
    stored: Option<Position>,
) -> Result<(Reader, Option<Lsn>), PostgresError> {
    let mut client = Client::connect(&settings)?;
    let version = client.version();
    require_version(version)?;
    require_wal_level(&mut client)?;
    let alters = settings.publication.create;
    let selection = Selection::new(&settings.tables, &catalog::tables(&mut client)?, &settings.user, alters);
    for finding in &selection.findings {
        if finding.severity == connector_api::Severity::Warning {
            warn!("{}", finding.message);
        }
    }
    let tables = selection.into_tables()?;
    let (slot_name, publication) = slot::names(&settings, &context.pipeline);
    let identity = identify(&settings)?;
    // The position is looked at before anything is changed at the server.
    let found = slot::find(&mut client, &slot_name)?;
    if let Some(stored) = &stored {
        verify(stored, &identity, &settings.database, &slot_name, found.as_ref())?;
    }
    publish(&mut client, &settings, &publication, &tables)?;

    let (mut position, first) = begin(&mut client, &settings, &slot_name, &identity, stored, found)?;
    let durable = (!first).then_some(position.lsn);
    track_tables(&mut position, &tables, settings.snapshot.mode);

    let oids = catalog::oid_list(tables.iter().map(|table| table.oid));
    let relations = catalog::relations(&mut client, &oids, &HashMap::new())?;
    let mut types = Types::default();
    let columns = || relations.values().flat_map(|(relation, _)| &relation.columns);
    types.learn(&mut client, columns().map(|column| (column.type_oid, column.typmod)))?;
    let all_binary = columns().all(|column| types.resolve(column.type_oid, column.typmod, &settings).has_binary());
    *position.origin_mut() = Origin {
        system_id: identity.system_id,
        timeline: identity.timeline,
        database: settings.database.clone(),
        slot: slot_name,
        publication,
        protocol: protocol(version),
        binary: settings.binary && version >= 140_000 && all_binary,
    };
    let keys = relations.into_iter().map(|(oid, (_, keys))| (oid, keys)).collect();
    let row = client.query_one("ask for a time-out", "SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'")?;
    let status_interval = match row.number::<u64>(0)? {
        0 => Duration::from_secs(10),
        timeout_ms => Duration::from_millis((timeout_ms / 3).max(20)),
    };
    // Asked last: what was written above belongs to what has to be read.
    let end = identify(&settings)?.flushed;
    let known = Known { info: rows::source_info(&settings.database), types, keys, side: Some(client) };
    let handover = std::sync::Arc::default();
    let reader = Reader { settings, context, handover, position, known, end, first, status_interval };
    Ok((reader, durable))
}

pub(crate) fn require_version(version: u32) -> Result<(), PostgresError> {
    if version >= VERSION_MIN {
        return Ok(());
    }
    Err(PostgresError::prerequisite(format!("the server is PostgreSQL {}", version / 10_000), "12 or later is needed"))
}

fn require_wal_level(client: &mut Client) -> Result<(), PostgresError> {
    let row = client.query_one("ask for wal_level", "SHOW wal_level")?;
    if row.text(0) == "logical" {
        return Ok(());
    }
    Err(PostgresError::prerequisite(
        format!("wal_level is `{}`, and logical replication needs `logical`", row.text(0)),
        "run: ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
    ))
}

/// The highest protocol version that the server speaks.
fn protocol(version: u32) -> u8 {
    match version {
        160_000.. => 4,
        150_000.. => 3,
        140_000.. => 2,
        _ => 1,
    }
}

/// Asks the server who it is.
pub(crate) fn identify(settings: &Settings) -> Result<Identity, PostgresError> {
    let mut client = Client::connect_replication(settings, 16 << 10)?;
    let row = client.query_one("identify the server", "IDENTIFY_SYSTEM")?;
    client.close();
    let flushed = row.text(2).parse().map_err(|()| PostgresError::protocol("an end of the log that is no LSN"))?;
    Ok(Identity { system_id: row.text(0).to_owned(), timeline: row.number(1)?, flushed })
}

/// Nothing of the log has to be gone on from: every table will be read anew.
fn is_fresh(position: &Position) -> bool {
    position.tables().values().all(|table| !matches!(table.progress, Progress::Done(_)))
}

/// Checks that the stream can go on at the stored position without a gap.
pub(crate) fn verify(
    stored: &Position,
    identity: &Identity,
    database: &str,
    slot_name: &str,
    found: Option<&SlotInfo>,
) -> Result<(), PostgresError> {
    if is_fresh(stored) {
        return Ok(());
    }
    let gap = |problem: String| Err(PostgresError::Gap { problem, choices: CHOICES.to_owned() });
    let origin = stored.origin();
    if origin.system_id != identity.system_id {
        return gap(format!(
            "this is another server (system identifier {}, and the log was filled from {})",
            identity.system_id, origin.system_id
        ));
    }
    if origin.timeline != identity.timeline {
        return gap(format!(
            "the server is on timeline {} and the log was filled from timeline {}: it was promoted or restored, and may lack what we have, \
             or have what we lack",
            identity.timeline, origin.timeline
        ));
    }
    if origin.database != database {
        return gap(format!("the log was filled from database `{}`, and the file says `{database}`", origin.database));
    }
    if origin.slot != slot_name {
        return gap(format!("the log was filled through slot `{}`, and the slot is `{slot_name}` now", origin.slot));
    }
    let Some(found) = found else {
        return gap(format!("replication slot `{slot_name}` is gone, and with it the changes since {}", stored.lsn));
    };
    if let Some(problem) = unusable(found, slot_name, database) {
        return gap(problem);
    }
    match found.confirmed {
        Some(confirmed) if confirmed > stored.lsn => gap(format!(
            "replication slot `{slot_name}` stands at {confirmed}, and the log ends at {}: the slot was made anew or advanced by somebody, \
             or the log is an old copy",
            stored.lsn
        )),
        _ => Ok(()),
    }
}

/// Why a slot that is there cannot be used.
pub(crate) fn unusable(found: &SlotInfo, slot_name: &str, database: &str) -> Option<String> {
    if found.plugin != "pgoutput" {
        return Some(format!("replication slot `{slot_name}` is of the plug-in `{}`, not `pgoutput`", found.plugin));
    }
    if found.database != database {
        return Some(format!("replication slot `{slot_name}` belongs to database `{}`", found.database));
    }
    found.lost.then(|| {
        format!(
            "the server invalidated replication slot `{slot_name}`: it needed more of the log than max_slot_wal_keep_size (or an idle time-out) allows"
        )
    })
}

fn publish(client: &mut Client, settings: &Settings, publication: &str, tables: &[CatalogTable]) -> Result<(), PostgresError> {
    let roots = tables.iter().any(|table| table.kind == b'p');
    if roots && client.version() < 130_000 {
        return Err(PostgresError::prerequisite(
            "partitioned tables can be published from PostgreSQL 13 on",
            "name the partitions themselves",
        ));
    }
    if settings.publication.create {
        let names: Vec<_> = tables.iter().map(|table| table.name.clone()).collect();
        return slot::ensure_publication(client, publication, &names, roots);
    }
    if slot::publication_exists(client, publication)? {
        return Ok(());
    }
    Err(PostgresError::prerequisite(
        format!("publication `{publication}` does not exist"),
        format!(
            "run: CREATE PUBLICATION {} FOR TABLE …; or set `publication.create: true`",
            crate::wire::quote_identifier(publication)
        ),
    ))
}

/// The position to begin at, and whether it is new, so that the log has to hold it before anything else.
fn begin(
    client: &mut Client,
    settings: &Settings,
    slot_name: &str,
    identity: &Identity,
    stored: Option<Position>,
    found: Option<SlotInfo>,
) -> Result<(Position, bool), PostgresError> {
    let stored = match stored {
        Some(stored) if !is_fresh(&stored) => {
            slot::wait_until_free(client, slot_name, settings.slot_patience)?;
            return Ok((stored, false));
        }
        stored => stored,
    };
    // Every table will be read: where the stream begins does not matter, as long as it is before that.
    let mut found = found;
    if let Some(info) = &found {
        if info.lost && settings.slot.create && info.plugin == "pgoutput" && info.database == settings.database {
            slot::drop_slot(client, slot_name, settings.slot_patience)?;
            found = None;
        } else if let Some(problem) = unusable(info, slot_name, &settings.database) {
            let remedy = format!("give another `slot.name`, or run: SELECT pg_drop_replication_slot('{slot_name}')");
            return Err(PostgresError::prerequisite(problem, remedy));
        }
    }
    let lsn = match found {
        Some(info) => {
            slot::wait_until_free(client, slot_name, settings.slot_patience)?;
            info.confirmed.ok_or_else(|| {
                let remedy = format!("end the transactions it waits for, or run: SELECT pg_drop_replication_slot('{slot_name}')");
                PostgresError::prerequisite(format!("replication slot `{slot_name}` was never finished"), remedy)
            })?
        }
        None if settings.slot.create => slot::create(settings, slot_name)?,
        None => {
            return Err(PostgresError::prerequisite(
                format!("replication slot `{slot_name}` does not exist"),
                format!("run: SELECT pg_create_logical_replication_slot('{slot_name}', 'pgoutput'); or set `slot.create: true`"),
            ));
        }
    };
    let Some(mut position) = stored else { return Ok((Position::new(lsn, Origin::default()), true)) };
    // An attempt that was cut goes on through its own slot: the log knows that slot already.
    let origin = position.origin();
    let same = origin.system_id == identity.system_id && origin.timeline == identity.timeline && origin.slot == slot_name;
    if !same || lsn > position.lsn {
        position.lsn = lsn;
        position.open = None;
        return Ok((position, true));
    }
    Ok((position, false))
}

/// Brings the position's tables in line with those of the file.
fn track_tables(position: &mut Position, tables: &[CatalogTable], mode: SnapshotMode) {
    let new = match mode {
        SnapshotMode::Initial => Progress::Pending,
        SnapshotMode::Never => Progress::Done(None),
    };
    let before = position.tables().clone();
    let states = position.tables_mut();
    for (oid, old) in &before {
        if old.progress != Progress::Left && !tables.iter().any(|table| table.oid == *oid) {
            info!(table = %old.name, "the table is not captured any more");
            if old.progress == Progress::Pending {
                states.remove(oid);
            } else if let Some(state) = states.get_mut(oid) {
                state.progress = Progress::Left;
            }
        }
    }
    for table in tables {
        let name = table.name.clone();
        if let Some(state) = states.get_mut(&table.oid) {
            if state.name != name {
                info!(from = %state.name, to = %name, "a table was renamed");
                state.name = name;
            }
            if state.progress == Progress::Left {
                info!(table = %state.name, "the table is captured again; it is read from its beginning");
                state.progress = Progress::Restart;
            }
            continue;
        }
        // Its topic may hold rows of a table of the same name that was dropped.
        let namesakes: Vec<u32> = states.iter().filter(|(_, state)| state.name == name).map(|(oid, _)| *oid).collect();
        let progress = if namesakes.is_empty() { new } else { Progress::Restart };
        for oid in namesakes {
            warn!(table = %name, "the table was dropped and made anew; it is read from its beginning");
            states.remove(&oid);
        }
        states.insert(table.oid, TableState { name, progress });
    }
}

#[cfg(test)]
mod tests {
    use connector_api::TableName;

    use super::*;

    fn stored() -> Position {
        let origin = Origin { system_id: "7".into(), timeline: 1, database: "shop".into(), slot: "s".into(), ..Origin::default() };
        let mut position = Position::new(Lsn(100), origin);
        position.tables_mut().insert(1, TableState { name: TableName::new("public", "t"), progress: Progress::Done(None) });
        position
    }

    fn slot(confirmed: u64) -> SlotInfo {
        let (plugin, database) = ("pgoutput".to_owned(), "shop".to_owned());
        SlotInfo { plugin, database, active_pid: None, confirmed: Some(Lsn(confirmed)), lost: false }
    }

    #[test]
    fn every_gap_is_found() {
        let identity = Identity { system_id: "7".into(), timeline: 1, flushed: Lsn(0) };
        let check = |identity: &Identity, database: &str, name: &str, slot: Option<SlotInfo>| {
            verify(&stored(), identity, database, name, slot.as_ref()).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(check(&identity, "shop", "s", Some(slot(100))), "");
        for (found, expected) in [
            (check(&Identity { system_id: "8".into(), ..identity.clone() }, "shop", "s", Some(slot(1))), "another server"),
            (check(&Identity { timeline: 2, ..identity.clone() }, "shop", "s", Some(slot(1))), "timeline 2"),
            (check(&identity, "other", "s", Some(slot(1))), "database `shop`"),
            (check(&identity, "shop", "x", Some(slot(1))), "slot `s`"),
            (check(&identity, "shop", "s", None), "is gone"),
            (check(&identity, "shop", "s", Some(slot(101))), "stands at 0/65"),
            (check(&identity, "shop", "s", Some(SlotInfo { lost: true, ..slot(1) })), "invalidated"),
            (check(&identity, "shop", "s", Some(SlotInfo { plugin: "wal2json".into(), ..slot(1) })), "wal2json"),
        ] {
            assert!(found.contains(expected) && found.contains("resnapshot"), "{expected}: {found}");
        }
        let mut fresh = stored();
        fresh.tables_mut().values_mut().for_each(|table| table.progress = Progress::Restart);
        assert!(verify(&fresh, &identity, "other", "x", None).is_ok());
    }

    #[test]
    fn tables_come_go_and_come_back() {
        let table = |oid, name: &str| CatalogTable {
            oid,
            name: TableName::new("public", name),
            kind: b'r',
            unlogged: false,
            is_partition: false,
            identity: b'd',
            has_primary_key: true,
            may_select: true,
            owned: true,
        };
        let mut position = stored();
        let progress = |position: &Position, oid: u32| position.tables().get(&oid).map(|table| table.progress);
        track_tables(&mut position, &[table(2, "new")], SnapshotMode::Initial);
        assert_eq!((progress(&position, 1), progress(&position, 2)), (Some(Progress::Left), Some(Progress::Pending)));
        track_tables(&mut position, &[table(1, "renamed"), table(3, "new")], SnapshotMode::Initial);
        assert_eq!((progress(&position, 1), progress(&position, 2)), (Some(Progress::Restart), None));
        assert_eq!(progress(&position, 3), Some(Progress::Pending));
        track_tables(&mut position, &[table(4, "renamed")], SnapshotMode::Never);
        assert_eq!((progress(&position, 1), progress(&position, 4)), (None, Some(Progress::Restart)));
    }
}
