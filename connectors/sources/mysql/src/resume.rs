//! What happens before the first read: the server and the stored position are brought together, or it is said why they cannot be.

use std::{collections::BTreeMap, sync::Arc};

use connector_api::{SourceContext, TableName};
use tracing::{info, warn};

use crate::{
    catalog::{self, CatalogTable, LogSettings},
    config::{Settings, SnapshotMode},
    decode::{self, TableDefinition},
    dump,
    error::MySqlError,
    gtid_set::GtidSet,
    place,
    position::{Origin, Point, Position, Progress, TableState},
    reader::Reader,
    stream::Known,
    wire::{Client, Flavor},
};

/// Everything that a [`Reader`] needs.
pub(crate) fn open(settings: Arc<Settings>, context: SourceContext, stored: Option<Position>) -> Result<Reader, MySqlError> {
    let mut client = Client::connect(&settings)?;
    catalog::require_version(client.version())?;
    let log = LogSettings::ask(&mut client)?;
    require_log(&log)?;
    let tables = select(&settings, &catalog::tables(&mut client)?)?;
    let origin = catalog::origin(&mut client)?;
    let server = Server::ask(&mut client, &log)?;
    if let Some(stored) = &stored {
        verify(stored, &origin, &log, &server)?;
    }
    let names: Vec<TableName> = tables.iter().map(|table| table.name.clone()).collect();
    let definitions = catalog::definitions(&mut client, &names)?;
    let (mut position, announce) = match stored {
        Some(mut stored) if !stored.is_fresh() => {
            adopt(&mut stored, &origin);
            (stored, false)
        }
        // Every table will be read: the stream begins at the end that the log has now, or at the snapshot.
        stored => {
            let mut position = Position::new(server.end.clone(), origin.clone());
            if let Some(mut stored) = stored {
                position.tables_mut().append(stored.tables_mut());
            }
            (position, true)
        }
    };
    *position.origin_mut() = origin.clone();
    let described = log.row_metadata == "FULL";
    track_tables(&mut position, &tables, settings.snapshot.mode, |name| {
        definitions.get(name).filter(|_| !described).map(|definition| Arc::new(definition.clone()))
    });
    let connector = match origin.flavor {
        Flavor::MySql => "mysql",
        Flavor::MariaDb => "mariadb",
    };
    let known = Known {
        info: decode::source_info(connector, ""),
        charsets: catalog::charsets(&mut client)?,
        definitions,
        // Asked now and then while the stream runs.
        side: Some(client),
    };
    let server_id = dump::server_id(&settings, &context.pipeline);
    Ok(Reader { settings, context, handover: Arc::default(), position, known, log, end: server.end, server_id, announce })
}

pub(crate) fn require_log(log: &LogSettings) -> Result<(), MySqlError> {
    if !log.log_bin {
        return Err(MySqlError::prerequisite("the server writes no binary log", "start it with --log-bin"));
    }
    if log.format != "ROW" {
        return Err(MySqlError::prerequisite(
            format!("binlog_format is `{}`: the log holds statements, not rows", log.format),
            "run: SET GLOBAL binlog_format = 'ROW'; and have all sessions connect anew",
        ));
    }
    Ok(())
}

/// The tables that the patterns stand for.
pub(crate) fn select(settings: &Settings, catalog: &[CatalogTable]) -> Result<Vec<CatalogTable>, MySqlError> {
    let mut selected = Vec::new();
    for pattern in &settings.tables {
        let found: Vec<&CatalogTable> = catalog.iter().filter(|table| pattern.matches(&table.name)).collect();
        if found.is_empty()
            && let Some(name) = pattern.exact()
        {
            return Err(MySqlError::prerequisite(
                format!("table {name} does not exist, is a view, or the user may not see it"),
                format!("correct `tables`, or run: GRANT SELECT ON {}.{} TO the user", quoted(&name.schema), quoted(&name.name)),
            ));
        }
        if found.is_empty() {
            warn!(%pattern, "no table matches the pattern");
        }
        for table in found {
            if !selected.contains(table) {
                selected.push(table.clone());
            }
        }
    }
    if selected.is_empty() {
        return Err(MySqlError::prerequisite("no table matches `tables`", "correct `tables`, or GRANT SELECT on the tables"));
    }
    selected.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(selected)
}

fn quoted(name: &str) -> String {
    crate::wire::quote_identifier(name)
}

/// What the server has of its log.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub end: Point,
    /// MySQL: what is not in the log any more.
    pub purged: Option<GtidSet>,
    /// The files that are there, and their sizes.
    pub files: Vec<(String, u64)>,
}

impl Server {
    pub(crate) fn ask(client: &mut Client, log: &LogSettings) -> Result<Self, MySqlError> {
        let files = catalog::log_files(client)?;
        let purged = match (client.flavor(), log.gtids) {
            (Flavor::MySql, true) => {
                let text = client.variable("gtid_purged")?.unwrap_or_default();
                Some(catalog::gtid_set(Flavor::MySql, &text)?)
            }
            _ => None,
        };
        // Asked last: what was written above belongs to what has to be read.
        Ok(Self { end: catalog::log_end(client, log.gtids)?, purged, files })
    }
}

/// Checks that the stream can go on at the stored position without a gap.
pub(crate) fn verify(stored: &Position, origin: &Origin, log: &LogSettings, server: &Server) -> Result<(), MySqlError> {
    if stored.is_fresh() {
        return Ok(());
    }
    let was = stored.origin();
    let gap = |problem: String| Err(MySqlError::gap(problem));
    if was.flavor != origin.flavor {
        return gap(format!("the log was filled from {}, and this server is {}", was.flavor, origin.flavor));
    }
    let same = was.server_uuid == origin.server_uuid && (origin.flavor == Flavor::MySql || was.server_id == origin.server_id);
    let place = &stored.done.place;
    if same {
        verify_place(place, server)?;
    }
    let Some(done) = &stored.done.gtids else {
        if !same {
            return gap(format!(
                "this is another server ({} {}), and without GTIDs a place in one server's log ({place}) means nothing on another",
                origin.server_uuid, origin.server_id
            ));
        }
        return Ok(());
    };
    if !log.gtids {
        return gap("the position counts by GTIDs, and this server's gtid_mode is not ON".to_owned());
    }
    let executed = server.end.gtids.as_ref();
    if !executed.is_some_and(|executed| done.is_within(executed)) {
        let missing = match (done, executed) {
            (GtidSet::MySql(done), Some(GtidSet::MySql(executed))) => done.without(executed).to_string(),
            _ => format!("{done} (it has {})", executed.map(ToString::to_string).unwrap_or_default()),
        };
        return gap(format!(
            "this server lacks transactions that are in the log: {missing}. Its log was reset (RESET MASTER, RESET BINARY LOGS), it was restored \
             from a backup, or it is another server"
        ));
    }
    if let Some(GtidSet::MySql(purged)) = &server.purged
        && let GtidSet::MySql(done) = done
    {
        let lost = purged.without(done).to_string();
        if !lost.is_empty() {
            return gap(format!(
                "the server has purged binary logs with transactions that are not in the log: {lost}. Let it keep them for longer than a pipeline \
                 may stand still (binlog_expire_logs_seconds)"
            ));
        }
    }
    if !same {
        info!(was = %was.server_uuid, now = %origin.server_uuid, "another server with the same transactions; going on there");
    }
    Ok(())
}

/// A place of this very server must lie within the log that it has: else the log is not the one that the place was in.
fn verify_place(place: &place::Place, server: &Server) -> Result<(), MySqlError> {
    if place.file.is_empty() {
        return Ok(());
    }
    let (first, last) = (server.files.first(), server.files.last());
    match server.files.iter().find(|(file, _)| *file == place.file) {
        Some((_, bytes)) if place.position > *bytes => Err(MySqlError::gap(format!(
            "the server's log does not reach {place}: {} has {bytes} bytes; the log was reset, or the server restored from a backup",
            place.file
        ))),
        Some(_) => Ok(()),
        None if last.is_some_and(|(file, _)| place::order((&place.file, 0), (file, 0)).is_gt()) => Err(MySqlError::gap(format!(
            "the server's log ends before {place}: it was reset (RESET MASTER, RESET BINARY LOGS), or the server restored from a backup"
        ))),
        // With GTIDs the file itself does not matter: whether what follows is there, the sets say.
        None if server.end.gtids.is_some() => Ok(()),
        None => Err(MySqlError::gap(format!(
            "the server has purged the binary log {}, in which to go on; its first is {}. Let it keep them for longer than a pipeline may stand \
             still (binlog_expire_logs_seconds)",
            place.file,
            first.map(|(file, _)| file.as_str()).unwrap_or("none")
        ))),
    }
}

/// Another server's places mean nothing here.
fn adopt(stored: &mut Position, origin: &Origin) {
    let was = stored.origin();
    if was.server_uuid != origin.server_uuid || was.server_id != origin.server_id {
        stored.done.place = place::Place::default();
    }
}

/// Brings the position's tables in line with those of the file.
fn track_tables(
    position: &mut Position,
    tables: &[CatalogTable],
    mode: SnapshotMode,
    definition: impl Fn(&TableName) -> Option<Arc<TableDefinition>>,
) {
    let new = match mode {
        SnapshotMode::Initial => Progress::Pending,
        SnapshotMode::Never => Progress::Done(None),
    };
    let before: BTreeMap<TableName, TableState> = position.tables().clone();
    let states = position.tables_mut();
    for (name, old) in &before {
        if old.progress != Progress::Left && !tables.iter().any(|table| table.name == *name) {
            info!(table = %name, "the table is not captured any more");
            if old.progress == Progress::Pending {
                states.remove(name);
            } else if let Some(state) = states.get_mut(name) {
                state.progress = Progress::Left;
            }
        }
    }
    for table in tables {
        let name = &table.name;
        match states.get_mut(name) {
            Some(state) if state.progress == Progress::Left => {
                info!(table = %name, "the table is captured again; it is read from its beginning");
                *state = TableState { progress: Progress::Restart, definition: definition(name) };
            }
            Some(_) => {}
            None => {
                states.insert(name.clone(), TableState { progress: new, definition: definition(name) });
            }
        }
    }
    position.forget_passed();
}
