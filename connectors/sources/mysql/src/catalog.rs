//! What the server says of itself and of its tables.

use std::collections::BTreeMap;

use connector_api::TableName;

use crate::{
    decode::{Charsets, ColumnDefinition, TableDefinition},
    error::{MySqlError, number},
    gtid_set::GtidSet,
    place::Place,
    position::{Origin, Point},
    wire::{Client, Flavor, Version, quote_literal},
};

/// Schemas that are the server's own.
const OWN_SCHEMAS: [&str; 4] = ["information_schema", "performance_schema", "mysql", "sys"];

/// The oldest servers that are spoken to.
pub(crate) fn require_version(version: Version) -> Result<(), MySqlError> {
    let (oldest, text) = match version.flavor {
        Flavor::MySql => ((8, 0, 0), "MySQL 8.0"),
        Flavor::MariaDb => ((10, 5, 0), "MariaDB 10.5"),
    };
    if version.number >= oldest {
        return Ok(());
    }
    Err(MySqlError::prerequisite(format!("the server is {version}"), format!("{text} or later is needed")))
}

/// How the server writes its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogSettings {
    pub log_bin: bool,
    /// `ROW`, `MIXED` or `STATEMENT`.
    pub format: String,
    /// `FULL`, `MINIMAL`, `NOBLOB`; MariaDB's `FULL_NODUP` is as `MINIMAL` to us.
    pub row_image: String,
    /// `FULL`, `MINIMAL`, `NO_LOG`.
    pub row_metadata: String,
    /// MySQL: whether GTIDs are on, in all transactions. MariaDB has them always.
    pub gtids: bool,
    pub checksum: String,
}

impl LogSettings {
    pub(crate) fn ask(client: &mut Client) -> Result<Self, MySqlError> {
        let mut text = |name: &str| client.variable(name).map(|value| value.unwrap_or_default().to_ascii_uppercase());
        let log_bin = matches!(text("log_bin")?.as_str(), "1" | "ON");
        let (format, row_image) = (text("binlog_format")?, text("binlog_row_image")?);
        let (row_metadata, checksum) = (text("binlog_row_metadata")?, text("binlog_checksum")?);
        let gtid_mode = text("gtid_mode")?;
        let gtids = client.flavor() == Flavor::MariaDb || gtid_mode == "ON";
        // Servers that write rows only have no such setting any more.
        let format = if format.is_empty() { "ROW".to_owned() } else { format };
        Ok(Self { log_bin, format, row_image, row_metadata, gtids, checksum })
    }
}

/// Asks the server who it is.
pub(crate) fn origin(client: &mut Client) -> Result<Origin, MySqlError> {
    let flavor = client.flavor();
    let server_uuid = match flavor {
        Flavor::MySql => client.variable("server_uuid")?.unwrap_or_default(),
        Flavor::MariaDb => String::new(),
    };
    let server_id = client.variable("server_id")?.and_then(|id| id.parse().ok()).unwrap_or(0);
    Ok(Origin { flavor, server_uuid, server_id })
}

/// Where the server's log ends now.
pub(crate) fn log_end(client: &mut Client, gtids: bool) -> Result<Point, MySqlError> {
    let flavor = client.flavor();
    if gtids && flavor == Flavor::MariaDb {
        let written = client.variable("gtid_binlog_pos")?;
        let (place, _) = end_place(client)?;
        let gtids = mariadb_gtids(client, &place, written)?;
        return Ok(Point { place, gtids: Some(gtids) });
    }
    let (place, executed) = end_place(client)?;
    let gtids = if gtids { Some(gtid_set(flavor, &executed)?) } else { None };
    Ok(Point { place, gtids })
}

/// The place at which the server's log ends now and, of MySQL, the GTIDs before it.
fn end_place(client: &mut Client) -> Result<(Place, String), MySqlError> {
    let (flavor, number) = (client.version().flavor, client.version().number);
    let statement = match flavor {
        Flavor::MySql if number >= (8, 2, 0) => "SHOW BINARY LOG STATUS",
        Flavor::MySql => "SHOW MASTER STATUS",
        Flavor::MariaDb => "SHOW MASTER STATUS",
    };
    let rows = client.query("ask where the binary log ends", statement).map_err(|error| match error.number() {
        Some(number::SPECIFIC_ACCESS_DENIED) => {
            let privilege = if flavor == Flavor::MySql { "REPLICATION CLIENT" } else { "BINLOG MONITOR" };
            MySqlError::prerequisite(
                "the user may not ask where the binary log ends",
                format!("run: GRANT {privilege} ON *.* TO the user"),
            )
        }
        _ => error,
    })?;
    let Some(row) = rows.first() else {
        return Err(MySqlError::prerequisite("the server writes no binary log", "start it with --log-bin"));
    };
    Ok((Place::new(row.text(0), row.number(1)?), row.text(4).to_owned()))
}

/// What stands in MariaDB's log before a place that a transaction or the log's end has given.
pub(crate) fn mariadb_gtids_before(client: &mut Client, place: &Place) -> Result<GtidSet, MySqlError> {
    let written = client.variable("gtid_binlog_pos")?;
    let (end, _) = end_place(client)?;
    mariadb_gtids(client, place, written.filter(|_| end == *place))
}

/// `written` is `gtid_binlog_pos` from before the place was the log's end. If it still is the same, nothing was committed in between, so it
/// belongs to the place. Otherwise the server has to read the file from its start, which takes a third of a second for a GB.
fn mariadb_gtids(client: &mut Client, place: &Place, written: Option<String>) -> Result<GtidSet, MySqlError> {
    let now = client.variable("gtid_binlog_pos")?;
    if let Some(written) = written
        && now.as_ref() == Some(&written)
    {
        return gtid_set(Flavor::MariaDb, &written);
    }
    let sql = format!("SELECT BINLOG_GTID_POS({}, {})", quote_literal(&place.file), place.position);
    let known = client.query_one("ask for the GTIDs of a place", &sql)?;
    gtid_set(Flavor::MariaDb, known.get(0).or(now.as_deref()).unwrap_or_default())
}

/// Reads a set of GTIDs that the server printed.
pub(crate) fn gtid_set(flavor: Flavor, text: &str) -> Result<GtidSet, MySqlError> {
    GtidSet::parse(flavor, text).ok_or_else(|| MySqlError::protocol("a set of GTIDs that is none"))
}

/// The files of the log that are there, and their sizes.
pub(crate) fn log_files(client: &mut Client) -> Result<Vec<(String, u64)>, MySqlError> {
    client
        .query("list the binary logs", "SHOW BINARY LOGS")?
        .iter()
        .map(|row| Ok((row.text(0).to_owned(), row.number(1)?)))
        .collect()
}

/// A table of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CatalogTable {
    pub name: TableName,
    pub engine: String,
    /// Reads of the engine's tables are consistent within a transaction.
    pub transactional: bool,
    /// An estimate.
    pub rows: u64,
    pub bytes: u64,
}

/// All tables that the user sees, but for the server's own.
pub(crate) fn tables(client: &mut Client) -> Result<Vec<CatalogTable>, MySqlError> {
    let own = OWN_SCHEMAS.map(quote_literal).join(", ");
    // Compared as bytes: the catalog's own collation does not tell `A` from `a`.
    let sql = format!(
        "SELECT t.TABLE_SCHEMA, t.TABLE_NAME, t.ENGINE, e.TRANSACTIONS, coalesce(t.TABLE_ROWS, 0), coalesce(t.DATA_LENGTH, 0) \
         FROM information_schema.TABLES t LEFT JOIN information_schema.ENGINES e ON e.ENGINE = t.ENGINE \
         WHERE t.TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND t.TABLE_SCHEMA NOT IN ({own})"
    );
    let rows = client.query("list the tables", &sql)?;
    rows.iter()
        .map(|row| {
            Ok(CatalogTable {
                name: TableName::new(row.text(0), row.text(1)),
                engine: row.text(2).to_owned(),
                transactional: row.is_true(3),
                rows: row.number(4)?,
                bytes: row.number(5)?,
            })
        })
        .collect()
}

/// The definitions of tables as they are now. A table that is not there is left out.
pub(crate) fn definitions(client: &mut Client, tables: &[TableName]) -> Result<BTreeMap<TableName, TableDefinition>, MySqlError> {
    let mut found: BTreeMap<TableName, TableDefinition> = BTreeMap::new();
    // In parts: a statement has a limit, and one schema at a time is what the catalog answers quickly.
    for part in tables.chunks(200) {
        let names = part.iter().map(|table| format!("({}, {})", quote_literal(&table.schema), quote_literal(&table.name)));
        let names = names.collect::<Vec<_>>().join(", ");
        let sql = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, CHARACTER_SET_NAME, GENERATION_EXPRESSION = 'ROW END' \
             FROM information_schema.COLUMNS WHERE (TABLE_SCHEMA, TABLE_NAME) IN ({names}) ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"
        );
        for row in client.query("read the columns of tables", &sql)? {
            let name = TableName::new(row.text(0), row.text(1));
            if !part.contains(&name) {
                continue;
            }
            let column = ColumnDefinition {
                name: row.text(2).to_owned(),
                column_type: row.text(3).to_owned(),
                charset: row.get(4).map(str::to_owned),
                row_end: row.is_true(5),
            };
            let empty = || TableDefinition { name: name.clone(), columns: Vec::new(), key: Vec::new() };
            found.entry(name.clone()).or_insert_with(empty).columns.push(column);
        }
        let sql = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME FROM information_schema.STATISTICS \
             WHERE INDEX_NAME = 'PRIMARY' AND (TABLE_SCHEMA, TABLE_NAME) IN ({names}) ORDER BY TABLE_SCHEMA, TABLE_NAME, SEQ_IN_INDEX"
        );
        for row in client.query("read the keys of tables", &sql)? {
            if let Some(table) = found.get_mut(&TableName::new(row.text(0), row.text(1))) {
                table.key.push(row.text(2).to_owned());
            }
        }
    }
    Ok(found)
}

/// The server's character sets.
pub(crate) fn charsets(client: &mut Client) -> Result<Charsets, MySqlError> {
    let version = client.version();
    let mariadb = version.flavor == Flavor::MariaDb;
    let sql = if mariadb && version.number >= (10, 10, 0) { Charsets::MARIADB_QUERY } else { Charsets::MYSQL_QUERY };
    let rows = client.query("read the character sets", sql)?;
    let collations = rows
        .iter()
        .map(|row| Ok((row.number(0)?, row.text(1).to_owned(), row.number(2)?)))
        .collect::<Result<Vec<_>, MySqlError>>()?;
    let mut charsets = Charsets::new(collations, mariadb);
    if let Some(sql) = charsets.tables_query() {
        let (names, row) = client.query_named("read the character sets", &sql)?;
        for (index, name) in names.iter().enumerate() {
            if !charsets.load(name, row.text(index).as_bytes()) {
                return Err(MySqlError::protocol(format!(
                    "the character set {name} with another number of characters than it has"
                )));
            }
        }
    }
    Ok(charsets)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, Ordering},
        thread,
        time::Duration,
    };

    use test_servers::MySqlServer;

    use super::*;
    use crate::config::{MySqlSourceConfig, Settings};

    #[test]
    fn gtids_of_mariadbs_place_are_those_that_its_file_says() {
        let server = MySqlServer::shared(test_servers::Flavor::MariaDb);
        let database = server.create_database("gtids_of_a_place");
        database.exec("CREATE TABLE t (id bigint PRIMARY KEY AUTO_INCREMENT)");
        let config =
            serde_json::json!({ "url": format!("mysql://root@127.0.0.1:{}/gtids_of_a_place", server.port()), "tables": ["t"] });
        let config: MySqlSourceConfig = serde_json::from_value(config).unwrap();
        let settings = Settings::new(config).unwrap_or_else(|(field, problem)| panic!("{field}: {problem}"));
        let stop = AtomicBool::new(false);
        let mut places = std::collections::BTreeSet::new();
        thread::scope(|scope| {
            for pause in [Duration::ZERO, Duration::from_millis(20)] {
                let (database, stop) = (&database, &stop);
                scope.spawn(move || {
                    let mut session = database.session();
                    while !stop.load(Ordering::Relaxed) {
                        session.exec("INSERT INTO t VALUES (NULL), (NULL)");
                        thread::sleep(pause);
                    }
                });
            }
            let mut client = Client::connect(&settings).unwrap();
            for round in 0..400 {
                // Pauses let both kinds of places come up.
                thread::sleep(Duration::from_micros(round % 20 * 100));
                let point = if round % 2 == 0 {
                    log_end(&mut client, true).unwrap()
                } else {
                    let (place, _) = end_place(&mut client).unwrap();
                    let gtids = mariadb_gtids_before(&mut client, &place).unwrap();
                    Point { place, gtids: Some(gtids) }
                };
                let sql = format!("SELECT BINLOG_GTID_POS('{}', {})", point.place.file, point.place.position);
                let told = client.query_one("compare", &sql).unwrap();
                assert_eq!(point.gtids, Some(gtid_set(Flavor::MariaDb, told.text(0)).unwrap()), "{sql}");
                places.insert(point.place.position);
            }
            stop.store(true, Ordering::Relaxed);
            client.close();
        });
        assert!(places.len() > 100, "the log stood still");
    }
}
