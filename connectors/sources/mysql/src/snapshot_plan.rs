//! What a snapshot has to read: connections that see one moment, the tables, and the ranges of keys to read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::Duration,
};

use connector_api::TableName;
use tracing::{debug, info};

use crate::{
    catalog::{self, CatalogTable},
    config::{Settings, SnapshotLock},
    decode::{Shape, TableDefinition},
    error::{MySqlError, number},
    place::Place,
    position::Point,
    reader::Reader,
    wire::{Client, Flavor, quote_identifier},
};

/// One read of a table takes up to this many bytes.
pub(crate) const READ_BUFFER_BYTES: usize = 256 << 10;
/// A range has about this many rows.
const RANGE_ROWS: u64 = 100_000;
/// How long a lock may have to wait for transactions and statements that are under way.
const LOCK_TIMEOUT: Duration = Duration::from_secs(70);
/// How often connections begin anew in the hope that nothing is committed meanwhile.
const ATTEMPTS_WITHOUT_LOCK: usize = 5;

/// A table to read.
pub(crate) struct Job {
    pub table: TableName,
    pub shape: Arc<Shape>,
    pub definition: TableDefinition,
    pub restart: bool,
    pub rows_estimated: u64,
    pub rows: AtomicU64,
    /// Ranges that were not handed over in whole yet.
    pub ranges_left: AtomicUsize,
}

impl Job {
    pub(crate) fn new(
        reader: &Reader,
        definition: TableDefinition,
        restart: bool,
        rows_estimated: u64,
    ) -> Result<Self, MySqlError> {
        let table = definition.name.clone();
        let shape = Shape::of_definition(&definition, &reader.known.charsets, reader.settings.decode)
            .map_err(|problem| MySqlError::Table { table: table.to_string(), problem: problem.to_string() })?;
        let (rows, ranges_left) = (AtomicU64::new(0), AtomicUsize::new(0));
        Ok(Self { table, shape: Arc::new(shape), definition, restart, rows_estimated, rows, ranges_left })
    }

    /// The statement that reads a part of the table.
    pub(crate) fn select(&self, condition: &str) -> String {
        let filter = if condition.is_empty() { String::new() } else { format!(" WHERE {condition}") };
        format!("SELECT {} FROM {}{filter}", self.shape.select_list(), quote_table(&self.table))
    }
}

/// A part of a table to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    pub job: usize,
    /// Empty for all of it.
    pub condition: String,
}

/// A table's name as SQL wants it.
pub(crate) fn quote_table(table: &TableName) -> String {
    format!("{}.{}", quote_identifier(&table.schema), quote_identifier(&table.name))
}

/// A connection that reads tables.
pub(crate) fn connect(settings: &Settings) -> Result<Client, MySqlError> {
    let mut client = Client::connect_with(settings, READ_BUFFER_BYTES)?;
    // Text as it is stored: both phases then decode the same bytes by the same tables.
    client
        .execute("set the session up", "SET character_set_results = NULL, SESSION transaction_isolation = 'REPEATABLE-READ'")
        .or_else(|error| match error.number() {
            // MariaDB before 11.1 knows the setting by its old name only.
            Some(number::UNKNOWN_SYSTEM_VARIABLE) => {
                client.execute("set the session up", "SET character_set_results = NULL, SESSION tx_isolation = 'REPEATABLE-READ'")
            }
            _ => Err(error),
        })?;
    Ok(client)
}

/// Begins a transaction on each connection, so that all see the same moment, and says which that is. What `under_lock` asks is asked
/// while no definition changes.
pub(crate) fn same_moment<R>(
    reader: &Reader,
    clients: &mut Vec<Client>,
    tables: &[TableName],
    under_lock: impl Fn(&mut Client) -> Result<R, MySqlError>,
) -> Result<(Point, R), MySqlError> {
    let settings = &reader.settings;
    let lock = settings.snapshot.lock;
    if lock == SnapshotLock::Auto && clients.first().is_some_and(|client| client.flavor() == Flavor::MariaDb) {
        for _ in 0..ATTEMPTS_WITHOUT_LOCK {
            if let Some(found) = without_lock(clients, &under_lock)? {
                return Ok(found);
            }
        }
    }
    let mut locker = Client::connect(settings)?;
    let doing = "lock the tables for the snapshot";
    let global = match lock {
        SnapshotLock::Auto | SnapshotLock::Global => {
            match locker.query_within(doing, "FLUSH TABLES WITH READ LOCK", LOCK_TIMEOUT) {
                Ok(_) => true,
                Err(error) if lock == SnapshotLock::Auto && denied(&error) => {
                    info!("the user may not lock all tables for a moment; the captured ones are locked instead");
                    false
                }
                Err(error) => {
                    return Err(explain(
                        error,
                        "RELOAD is needed: GRANT RELOAD ON *.* TO the user; or set `snapshot: { lock: tables }`",
                    ));
                }
            }
        }
        SnapshotLock::Tables => false,
    };
    if !global {
        let list = tables.iter().map(|table| format!("{} READ", quote_table(table))).collect::<Vec<_>>().join(", ");
        let locked = locker.query_within(doing, &format!("LOCK TABLES {list}"), LOCK_TIMEOUT);
        if let Err(error) = locked {
            // MariaDB says of each transaction where in the log it is: one connection needs no lock.
            if denied(&error) && locker.flavor() == Flavor::MariaDb {
                info!("the user may not lock tables; they are read over one connection");
                for client in clients.drain(1..) {
                    client.close();
                }
                if let Some(found) = without_lock(clients, &under_lock)? {
                    return Ok(found);
                }
            }
            return Err(explain(
                error,
                "LOCK TABLES on the tables is needed: GRANT LOCK TABLES ON … TO the user; or RELOAD, which locks for a shorter time",
            ));
        }
    }
    for client in clients.iter_mut() {
        client.execute("begin the snapshot", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")?;
    }
    let mut side = Client::connect(settings)?;
    let point = catalog::log_end(&mut side, reader.log.gtids)?;
    let answer = under_lock(&mut side)?;
    side.close();
    locker.execute("unlock the tables", "UNLOCK TABLES")?;
    locker.close();
    debug!(place = %point.place, global, "all connections of the snapshot see the same moment");
    Ok((point, answer))
}

fn denied(error: &MySqlError) -> bool {
    matches!(
        error.number(),
        Some(number::SPECIFIC_ACCESS_DENIED | number::ACCESS_DENIED | number::DATABASE_ACCESS_DENIED | number::TABLE_ACCESS_DENIED)
    )
}

/// MariaDB says of a transaction with a consistent snapshot where in the log that is. If all connections say the same, they see the same.
fn without_lock<R>(
    clients: &mut [Client],
    under_lock: &impl Fn(&mut Client) -> Result<R, MySqlError>,
) -> Result<Option<(Point, R)>, MySqlError> {
    let mut places = Vec::with_capacity(clients.len());
    for client in clients.iter_mut() {
        client.execute("begin the snapshot", "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")?;
        let rows = client.query("ask where the snapshot is", "SHOW STATUS LIKE 'binlog\\_snapshot\\_%'")?;
        let value = |name: &str| rows.iter().find(|row| row.text(0).eq_ignore_ascii_case(name)).map(|row| row.text(1).to_owned());
        let (Some(file), Some(position)) = (value("binlog_snapshot_file"), value("binlog_snapshot_position")) else {
            return Ok(None);
        };
        let Ok(position) = position.parse() else { return Ok(None) };
        places.push(Place::new(file, position));
    }
    let Some(place) = places.first().filter(|place| places.iter().all(|other| other == *place)).cloned() else { return Ok(None) };
    let Some(client) = clients.first_mut() else { return Ok(None) };
    let gtids = Some(catalog::mariadb_gtids_before(client, &place)?);
    // Definitions are not part of the snapshot; a table that was altered since is refused when it is read.
    let answer = under_lock(client)?;
    Ok(Some((Point { place, gtids }, answer)))
}

/// An error of reading a table in our words.
pub(crate) fn explain(error: MySqlError, remedy: &str) -> MySqlError {
    match &error {
        MySqlError::Server { error: server, .. } if denied(&error) => MySqlError::prerequisite(server.message.clone(), remedy),
        // Between looking the tables up and reading them one was dropped, renamed or altered.
        MySqlError::Server { error: server, .. }
            if matches!(server.number, number::NO_SUCH_TABLE | number::UNKNOWN_COLUMN | number::TABLE_DEFINITION_CHANGED) =>
        {
            MySqlError::TableChanged { table: server.message.clone() }
        }
        _ => error,
    }
}

/// The ranges to read, those of the largest tables first.
pub(crate) fn ranges(client: &mut Client, jobs: &[Job], connections: usize) -> Result<Vec<Range>, MySqlError> {
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(jobs[*index].rows_estimated));
    let mut ranges = Vec::new();
    for job in order {
        let parts = (jobs[job].rows_estimated / RANGE_ROWS).min(connections as u64 * 64);
        let conditions = if parts > 1 && connections > 1 { conditions(client, &jobs[job], parts)? } else { Vec::new() };
        if conditions.is_empty() {
            ranges.push(Range { job, condition: String::new() });
        }
        ranges.extend(conditions.into_iter().map(|condition| Range { job, condition }));
    }
    Ok(ranges)
}

/// Conditions that divide a table by the first column of its key: one of integers by value, any other by what stands at equal distances in
/// the index. None where there is no key.
fn conditions(client: &mut Client, job: &Job, parts: u64) -> Result<Vec<String>, MySqlError> {
    let Some(key) = job.definition.key.first() else { return Ok(Vec::new()) };
    let Some(column) = job.definition.column(key) else { return Ok(Vec::new()) };
    const INTEGERS: [&str; 5] = ["tinyint", "smallint", "mediumint", "int", "bigint"];
    if !INTEGERS.iter().any(|name| column.column_type.starts_with(name)) {
        return Ok(Vec::new());
    }
    let name = quote_identifier(key);
    let sql = format!("SELECT min({name}), max({name}) FROM {}", quote_table(&job.table));
    let row = client.query_one("read the range of a key", &sql).map_err(|error| explain(error, READ_REMEDY))?;
    let (Ok(least), Ok(most)) = (row.number::<i128>(0), row.number::<i128>(1)) else { return Ok(Vec::new()) };
    Ok(by_value(&name, least, most, parts))
}

/// What to do when a table may not be read.
pub(crate) const READ_REMEDY: &str = "SELECT on the table is needed: GRANT SELECT ON … TO the user";

/// Ranges of equal width from `least` to `most`; the outer ones have no end, for rows that the estimate does not know.
fn by_value(name: &str, least: i128, most: i128, parts: u64) -> Vec<String> {
    let step = ((most - least) / i128::from(parts.max(1))).max(1);
    let bounds: Vec<i128> = (1..i128::from(parts)).map(|part| least + part * step).take_while(|bound| *bound <= most).collect();
    let Some(last) = bounds.last() else { return Vec::new() };
    let mut conditions = vec![format!("{name} < {}", bounds[0])];
    conditions.extend(bounds.windows(2).map(|pair| format!("{name} >= {} AND {name} < {}", pair[0], pair[1])));
    conditions.push(format!("{name} >= {last}"));
    conditions
}

/// The estimate of a table's rows.
pub(crate) fn estimate(catalog: &[CatalogTable], table: &TableName) -> u64 {
    catalog.iter().find(|found| found.name == *table).map_or(0, |found| found.rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_all_keys_once() {
        for (least, most, parts) in
            [(1, 1000, 7), (-5, 5, 3), (0, 0, 4), (1, 2, 9), (0, u64::MAX.into(), 5), (i64::MIN.into(), i64::MAX.into(), 2)]
        {
            let conditions = by_value("k", least, most, parts);
            let holds = |condition: &str, key: i128| {
                condition.split(" AND ").all(|part| match part.split_once(" >= ") {
                    Some((_, bound)) => key >= bound.parse::<i128>().unwrap(),
                    None => key < part.split_once(" < ").unwrap().1.parse::<i128>().unwrap(),
                })
            };
            for key in [least - 1, least, least + 1, (least + most) / 2, most - 1, most, most + 1] {
                let hits = conditions.iter().filter(|condition| holds(condition, key)).count();
                assert!(conditions.is_empty() || hits == 1, "{key} is in {hits} of {conditions:?}");
            }
        }
    }
}
