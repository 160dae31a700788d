//! Asking the server for its log.

use crate::{
    config::Settings,
    error::{MySqlError, ServerError, number},
    gtid_set::GtidSet,
    place::Place,
    position::Point,
    wire::{Client, Flavor, quote_literal},
};

const COM_BINLOG_DUMP: u8 = 0x12;
const COM_BINLOG_DUMP_GTID: u8 = 0x1E;
/// The set of GTIDs is what counts, not the file.
const THROUGH_GTID: u16 = 4;
/// The server says that it is there when it has been silent for so long, in nanoseconds.
const HEARTBEAT_NANOS: u64 = 5_000_000_000;
/// With `--once` a position is waited for: the server says sooner that it has nothing more.
const HEARTBEAT_ONCE_NANOS: u64 = 100_000_000;

/// Asks for everything behind `from`. Answers are messages of the connection: see [`event`].
pub(crate) fn start(client: &mut Client, server_id: u32, from: &Point, once: bool) -> Result<(), MySqlError> {
    let doing = "prepare the connection for the binary log";
    let nanos = if once { HEARTBEAT_ONCE_NANOS } else { HEARTBEAT_NANOS };
    // Both names of a setting, the older and the newer, whichever the server knows: unknown ones are only variables.
    client.execute(
        doing,
        &format!(
            "SET @master_heartbeat_period = {nanos}, @source_heartbeat_period = {nanos}, @master_binlog_checksum = @@global.binlog_checksum, \
             @source_binlog_checksum = @@global.binlog_checksum"
        ),
    )?;
    match (client.flavor(), &from.gtids) {
        (Flavor::MySql, Some(GtidSet::MySql(set))) => {
            let data = set.dump_form();
            let mut body = Vec::with_capacity(22 + data.len());
            body.extend(THROUGH_GTID.to_le_bytes());
            body.extend(server_id.to_le_bytes());
            // No file: the server finds the first that holds what is not in the set.
            body.extend(0u32.to_le_bytes());
            body.extend(4u64.to_le_bytes());
            body.extend((data.len() as u32).to_le_bytes());
            body.extend(data);
            client.connection().command(COM_BINLOG_DUMP_GTID, &body)
        }
        (Flavor::MariaDb, Some(set)) => {
            // 4 is GTIDs and all events of before them; the server would else rewrite or leave out what an old replica does not know.
            let state = quote_literal(&set.to_string());
            client.execute(
                doing,
                &format!("SET @mariadb_slave_capability = 4, @slave_connect_state = {state}, @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0"),
            )?;
            by_place(client, server_id, &Place::new("", 4))
        }
        (Flavor::MariaDb, None) => {
            client.execute(doing, "SET @mariadb_slave_capability = 4")?;
            by_place(client, server_id, &from.place)
        }
        (Flavor::MySql, _) => by_place(client, server_id, &from.place),
    }
}

fn by_place(client: &mut Client, server_id: u32, place: &Place) -> Result<(), MySqlError> {
    let position = u32::try_from(place.position).map_err(|_| {
        MySqlError::gap(format!(
            "the transaction to go on with begins at {place}, and a server without GTIDs can only be asked for places up to 4 GiB; turn GTIDs on"
        ))
    })?;
    let mut body = Vec::with_capacity(10 + place.file.len());
    body.extend(position.to_le_bytes());
    body.extend(0u16.to_le_bytes());
    body.extend(server_id.to_le_bytes());
    body.extend(place.file.as_bytes());
    client.connection().command(COM_BINLOG_DUMP, &body)
}

/// Registers as a replica: the server then says whether the user may read the log. It forgets us when the connection ends.
pub(crate) fn register(client: &mut Client, server_id: u32) -> Result<(), MySqlError> {
    const COM_REGISTER_SLAVE: u8 = 0x15;
    let mut body = server_id.to_le_bytes().to_vec();
    // Host, user and password to show, none; port, rank, and the server's own id, 0.
    body.extend([0; 3 + 2 + 4 + 4]);
    client.command("register as a replica", COM_REGISTER_SLAVE, &body)
}

/// What the server says instead of an event, in our words.
pub(crate) fn explain(error: ServerError, settings: &Settings, server_id: u32, from: &Point) -> MySqlError {
    let message = &error.message;
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match error.number {
        number::SAME_SERVER_ID => MySqlError::ServerIdTaken { server_id, message: message.clone() },
        number::BINLOG_FATAL
            if says(&["same server_uuid/server_id", "same server_id", "A slave with the same", "A replica with the same"]) =>
        {
            MySqlError::ServerIdTaken { server_id, message: message.clone() }
        }
        number::BINLOG_FATAL
            if says(&[
                "purged",
                "Could not find first log",
                "could not find GTID state",
                "not in the master's binlog",
                "diverge",
            ]) =>
        {
            let wanted = match &from.gtids {
                Some(set) => format!("behind the GTIDs {set}"),
                None => format!("from {} on", from.place),
            };
            MySqlError::gap(format!(
                "the server has no longer what comes {wanted} ({message}); let it keep its binary logs for longer than a pipeline may stand still \
                 (binlog_expire_logs_seconds)"
            ))
        }
        number::BINLOG_FATAL => MySqlError::gap(format!("the server cannot send its log: {message}")),
        number::SPECIFIC_ACCESS_DENIED | number::ACCESS_DENIED => MySqlError::prerequisite(
            message.clone(),
            format!("run: GRANT REPLICATION SLAVE ON *.* TO {}", quote_literal(&settings.user)),
        ),
        _ => MySqlError::Server { doing: "read the binary log".to_owned(), error },
    }
}

/// The number by which the server knows us: the one that is set, or one that is made of the pipeline's name and of this machine's. It
/// stays the same, so that a connection which the server has not yet seen break is replaced by ours.
pub(crate) fn server_id(settings: &Settings, pipeline: &str) -> u32 {
    settings.server_id.unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        // FNV-1a: any hash that does not change between builds.
        let hash = [pipeline.as_bytes(), &[0], host.trim().as_bytes()]
            .concat()
            .iter()
            .fold(0x811C_9DC5u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
        1_000_000_000 + hash % 3_000_000_000
    })
}
