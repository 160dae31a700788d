//! The ten-column table, the backlogs of its changes, and a server tuned for measuring.

use std::thread;

use mainstem_tests::{Database, PgServer, PgVersion};

/// A server as a database of some size has it: syncs are on, and nothing runs in the background that a run could meet by chance.
pub fn server() -> PgServer {
    PgServer::with_settings(
        PgVersion::V15,
        &[
            ("shared_buffers", "1GB"),
            ("max_wal_size", "32GB"),
            ("fsync", "on"),
            ("autovacuum", "off"),
            ("checkpoint_timeout", "1h"),
            ("max_locks_per_transaction", "256"),
        ],
    )
}

/// Columns of the table, without its name.
pub const COLUMNS: &str =
    "(id bigint PRIMARY KEY, n integer, amount numeric(12,2), note text, code varchar(16), placed timestamptz, day date,
    paid boolean, items jsonb, ref uuid)";

/// A row for the number that the SQL expression `i` gives, of about 195 bytes in the table, from cheap functions of it.
pub fn row(i: &str) -> String {
    format!(
        "{i}, ({i}::bigint * 7919 % 1000003)::int, ({i}::bigint * 37 % 100000000) / 100.0, 'note ' || md5({i}::text), 'code' || {i} % 100000, \
         timestamptz '2026-01-01' + {i} * interval '1.000001 s', date '2020-01-01' + ({i} % 2000)::int, {i} % 3 = 0, \
         jsonb_build_object('sku', 'A' || {i} % 9973, 'qty', {i} % 7, 'gift', {i} % 5 = 0), md5({i}::text)::uuid"
    )
}

/// Rows of each large transaction.
const LARGE: u64 = 100_000;

/// A kind of backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Inserts, 100,000 rows a transaction.
    Large,
    /// Inserts, one row a transaction.
    Small,
    /// Updates of three of the columns, 100,000 rows a transaction.
    Updates,
    /// Inserts into a thousand tables in turn, row by row.
    ThousandTables,
}

/// A backlog behind a slot that is never moved; each run copies it.
pub struct Backlog {
    pub database: Database,
    pub rows: u64,
    /// Where the backlog ends.
    pub end: String,
}

impl Backlog {
    /// Makes one in a database of its own.
    pub fn make(server: &PgServer, kind: Kind, rows: u64) -> Self {
        let row_of_i = row("i");
        println!("   making a backlog of {rows} row events ({kind:?})");
        let database = server.create_database(&format!("{kind:?}").to_lowercase());
        match kind {
            Kind::ThousandTables => {
                for chunk in 0..20 {
                    let tables: String = (chunk * 50..chunk * 50 + 50).map(|i| format!("CREATE TABLE t_{i} {COLUMNS};")).collect();
                    database.exec(&tables);
                }
            }
            _ => database.exec(&format!("CREATE TABLE orders {COLUMNS}")),
        }
        if kind == Kind::Updates {
            database.exec(&format!("INSERT INTO orders SELECT {row_of_i} FROM generate_series(1, {rows}) i"));
        }
        database.exec("CREATE PUBLICATION bench FOR ALL TABLES");
        database.exec("SELECT pg_create_logical_replication_slot('base', 'pgoutput')");
        let parts = |step: u64| (0..rows).step_by(step as usize).map(move |from| (from + 1, (from + step).min(rows)));
        match kind {
            Kind::Large => {
                for (from, to) in parts(LARGE) {
                    database.exec(&format!("INSERT INTO orders SELECT {row_of_i} FROM generate_series({from}, {to}) i"));
                }
            }
            Kind::Updates => {
                for (from, to) in parts(LARGE) {
                    database.exec(&format!("UPDATE orders SET n = n + 1, amount = amount + 1, placed = placed + interval '1 s' WHERE id BETWEEN {from} AND {to}"));
                }
            }
            Kind::ThousandTables => {
                for (from, to) in parts(LARGE) {
                    database.exec(&format!(
                        "DO $do$ BEGIN FOR i IN {from}..{to} LOOP EXECUTE 'INSERT INTO t_' || i % 1000 || ' SELECT {}' USING i::bigint; END LOOP; END $do$",
                        row("$1").replace('\'', "''")
                    ));
                }
            }
            Kind::Small => {
                let half = rows / 2;
                let sessions: Vec<_> = [(1, half), (half + 1, rows)]
                    .into_iter()
                    .map(|(from, to)| {
                        let database = database.clone();
                        thread::spawn(move || {
                            database.exec(&format!(
                                "DO $$ BEGIN SET synchronous_commit = off; FOR i IN {from}..{to} LOOP INSERT INTO orders SELECT {}; COMMIT; END LOOP; END $$",
                                row("i")
                            ));
                        })
                    })
                    .collect();
                for session in sessions {
                    session.join().expect("session");
                }
            }
        }
        // What was written without waiting has to be on disk before a position past it is asked for.
        database.exec("CHECKPOINT");
        let end = database.query("SELECT pg_current_wal_flush_lsn()");
        Self { database, rows, end }
    }

    /// A slot of that name at the start of the backlog.
    pub fn copy_slot(&self, name: &str) {
        self.database.exec(&format!("SELECT pg_copy_logical_replication_slot('base', '{name}')"));
    }

    /// Drops a slot once nobody uses it.
    pub fn drop_slot(&self, name: &str) {
        mainstem_tests::wait_until("the slot is free", || {
            self.database.try_query(&format!("SELECT pg_drop_replication_slot('{name}')")).is_ok()
        });
    }
}

/// Leaves a start of `run`, which reads `database` to its end, nothing to read once more: a server decodes from a slot's `restart_lsn` on, which moves when a record of
/// the running transactions behind it is confirmed.
pub fn confirm_all(database: &Database, run: impl Fn()) {
    let end = database.query("SELECT pg_current_wal_lsn()");
    let confirmed =
        format!("SELECT bool_and(restart_lsn >= '{end}') FROM pg_replication_slots WHERE database = current_database()");
    for _ in 0..10 {
        // It writes such a record.
        database.exec("CHECKPOINT");
        run();
        if database.query(&confirmed) == "t" {
            return;
        }
    }
    panic!("the slots stay behind {end}");
}
