//! MySQL and MariaDB from end to end: as a source of a warehouse and of Parquet files, and as a target, killed at random moments.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use mainstem_tests::{
    Database, Flavor, MINUTE, Mainstem, MySqlDatabase, MySqlServer, PgServer, Pipeline, Random, Run, Scenario, Table,
    compare_parquet_with_rows, wait_until_for,
};
use tempfile::TempDir;

const TABLES: &str =
    "CREATE TABLE accounts (id int PRIMARY KEY, balance decimal(12,2) NOT NULL, note mediumtext, changed datetime(6));
    INSERT INTO accounts WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 500)
        SELECT i, 100, repeat(sha2(i, 256), 30), '2026-01-01 00:00:00.5' FROM n;
    CREATE TABLE moves (id bigint AUTO_INCREMENT PRIMARY KEY, writer int, n int, amount decimal(12,2));
    CREATE TABLE sessions (id int, device varchar(40), seen datetime(6), PRIMARY KEY (device, id));
    CREATE TABLE marks (id int PRIMARY KEY);";

type Columns = &'static [(&'static str, &'static str)];

/// The columns of a table, with the types that PostgreSQL would give them, and its key.
const SHAPES: [(&str, Columns, &[&str]); 3] = [
    (
        "accounts",
        &[("id", "integer"), ("balance", "numeric"), ("note", "text"), ("changed", "timestamp without time zone")],
        &["id"],
    ),
    ("moves", &[("id", "bigint"), ("writer", "integer"), ("n", "integer"), ("amount", "numeric")], &["id"]),
    ("sessions", &[("id", "integer"), ("device", "text"), ("seen", "timestamp without time zone")], &["device", "id"]),
];

/// A MySQL or MariaDB with some tables, and folders for what is made of them.
struct Sync {
    name: String,
    source: MySqlDatabase,
    dir: TempDir,
}

impl Sync {
    fn new(flavor: Flavor, name: &str) -> Self {
        let source = MySqlServer::shared(flavor).create_database(name);
        source.exec(TABLES);
        let dir = tempfile::Builder::new().prefix("mainstem-test-").tempdir().expect("temporary folder");
        Self { name: name.to_owned(), source, dir }
    }

    fn pipeline(&self) -> Pipeline {
        let pattern = format!("{}.*", self.name);
        Pipeline::mysql(&self.name, &self.source.url(), &[&pattern]).files("lake", &self.lake())
    }

    fn lake(&self) -> PathBuf {
        self.dir.path().join("lake")
    }

    fn run(&self, pipeline: &Pipeline) -> Run {
        Run::new(&self.dir.path().join("data")).file(pipeline.write(self.dir.path()))
    }

    /// Waits until a row that is written now was taken by every sink, and so everything before it.
    fn wait_until_drained(&self, mainstem: &mut Mainstem) {
        let before = mainstem.pipeline(&self.name)["records"].as_u64();
        self.source.exec("INSERT INTO marks SELECT coalesce(max(id), 0) + 1 FROM marks");
        let data = self.dir.path().join("data");
        let topic = format!("{0}.{0}.marks", self.name);
        let mark = self.source.query("SELECT max(id) FROM marks");
        wait_until_for(3 * MINUTE, &format!("the mark is in the log (records before it: {before:?})"), || {
            assert!(!mainstem.has_ended(), "mainstem ended:\n{}", mainstem.log());
            let output = mainstem_tests::run_command(["read".as_ref(), topic.as_ref(), "--data-dir".as_ref(), data.as_os_str()]);
            output.stdout.contains(&format!("\"after\":{{\"id\":{mark}}}"))
        });
        wait_until_for(3 * MINUTE, "the sinks have taken everything", || {
            assert!(!mainstem.has_ended(), "mainstem ended:\n{}", mainstem.log());
            let status = mainstem.pipeline(&self.name);
            let sinks = status["sinks"].as_array().cloned().unwrap_or_default();
            status["state"] == "running" && !sinks.is_empty() && sinks.iter().all(|sink| sink["lag_records"] == 0)
        });
    }

    /// The rows of a table as PostgreSQL's `COPY` prints them: without the zeros at the end of a fraction of a second.
    fn rows(&self, table: &str, columns: &[(&str, &'static str)]) -> String {
        let short = |(name, kind): &(&str, &'static str)| match *kind {
            "timestamp without time zone" => (format!("trim(trailing '.' from trim(trailing '0' from {name}))"), *kind),
            _ => ((*name).to_owned(), *kind),
        };
        let columns: Vec<_> = columns.iter().map(short).collect();
        let columns: Vec<_> = columns.iter().map(|(name, kind)| (name.as_str(), *kind)).collect();
        rows_of(&self.source, &format!("{}.{table}", self.name), &columns)
    }

    fn assert_lake_equal(&self) {
        for (name, columns, key) in SHAPES {
            let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
            let table = Table {
                schema: self.name.clone(),
                name: name.to_owned(),
                columns: columns.iter().map(|(name, kind)| ((*name).to_owned(), (*kind).to_owned())).collect(),
                key: owned(key),
            };
            compare_parquet_with_rows(&table, &self.rows(name, columns), &self.lake(), &format!("{0}.{0}.{name}", self.name));
        }
    }
}

fn rows_of(database: &MySqlDatabase, table: &str, columns: &[(&str, &str)]) -> String {
    let columns: Vec<String> = columns.iter().map(|(name, _)| format!("coalesce({name}, 'NULL')")).collect();
    let lines = database.query(&format!("SELECT concat_ws('\t', {}) FROM {table}", columns.join(", ")));
    // The client escapes the tabs that were put between the columns, and prints a fraction with all its digits.
    lines.replace("\\t", "\t").replace("NULL", "\\N")
}

/// Rows of both sides in the same text, sorted: numbers and texts as they are, times with six digits.
fn assert_equal_in_postgres(source: &MySqlDatabase, schema: &str, warehouse: &Database) {
    for (name, columns, _) in SHAPES {
        let text = |(column, kind): &(&str, &str)| match *kind {
            "timestamp without time zone" => format!("to_char({column}, 'YYYY-MM-DD HH24:MI:SS.US')"),
            _ => format!("{column}::text"),
        };
        let expressions: Vec<String> = columns.iter().map(|column| format!("coalesce({}, '\\N')", text(column))).collect();
        let got = warehouse.query(&format!("SELECT concat_ws(E'\\t', {}) FROM \"{schema}\".{name}", expressions.join(", ")));
        assert_same_rows(name, &rows_of(source, &format!("{schema}.{name}"), columns), &got);
    }
}

fn assert_same_rows(table: &str, want: &str, got: &str) {
    let sorted = |text: &str| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let (want, got) = (sorted(want), sorted(got));
    let missing = want.iter().find(|row| got.binary_search(row).is_err());
    let extra = got.iter().find(|row| want.binary_search(row).is_err());
    assert!(
        want == got,
        "{table}: {} rows at the source, {} in the target; only at the source: {missing:.300?}; only in the target: {extra:.300?}",
        want.len(),
        got.len()
    );
}

/// One client: transfers, inserts, deletes, changes of key, rolled-back work, now and then a truncate.
fn work(database: &MySqlDatabase, writer: u64, seed: u64, stop: &AtomicBool) {
    let mut random = Random::from_seed(seed);
    let mut session = database.session();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let (a, b) = (1 + random.below(500), 1 + random.below(500));
        let amount = 1 + random.below(999);
        let body = match random.below(10) {
            0..=4 => format!(
                "UPDATE accounts SET balance = balance - {amount} / 100.0, changed = now(6) WHERE id = {a};
                 UPDATE accounts SET balance = balance + {amount} / 100.0 WHERE id = {b}"
            ),
            5 => format!("UPDATE accounts SET note = repeat(sha2('{n}', 256), {amount}) WHERE id = {a}"),
            6 => format!("INSERT IGNORE INTO sessions VALUES ({a}, 'phone {writer}', now(6)), ({a} + 1, 'phone {writer}', NULL)"),
            7 => format!(
                "UPDATE sessions SET id = -id - {n} * 1000 WHERE device = 'phone {writer}' AND id > 0 AND id % 7 = {}",
                amount % 7
            ),
            8 => format!("DELETE FROM sessions WHERE device = 'phone {writer}' AND id % 5 = {}", amount % 5),
            _ => format!("SAVEPOINT s; UPDATE accounts SET balance = -1 WHERE id = {a}; ROLLBACK TO s"),
        };
        // Truncating ends the transaction before it, and is one by itself.
        let truncate = if writer == 1 && n % 150 == 0 { "TRUNCATE sessions;" } else { "" };
        session.exec(&format!(
            "{truncate} DO GET_LOCK('load', 60); BEGIN; INSERT INTO moves (writer, n, amount) VALUES ({writer}, {n}, {amount}); {body}; COMMIT; \
             DO RELEASE_LOCK('load')"
        ));
    }
}

fn killed_at_random(flavor: Flavor, name: &str) {
    let sync = Sync::new(flavor, name);
    let warehouse = PgServer::shared().create_database(&format!("{name}_dw"));
    let copy = MySqlServer::shared(flavor).create_database(&format!("{name}_copy"));
    let mut random = Random::new(name);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (1..=2)
        .map(|writer| {
            let (database, stop, seed) = (sync.source.clone(), Arc::clone(&stop), random.bits());
            thread::spawn(move || work(&database, writer, seed, &stop))
        })
        .collect();
    let pipeline = sync
        .pipeline()
        .upsert("warehouse", &warehouse.url())
        .sink("copy", &format!("jdbc: {{ url: \"{}\", user: root, schema: {}, mode: upsert }}", copy.url(), copy.name()))
        .log("partitions: 2");
    let run = sync.run(&pipeline).allow("");
    for round in 0..15 {
        let mainstem = run.clone().start();
        thread::sleep(Duration::from_millis(if round % 5 == 0 { 2500 } else { random.below(700) }));
        mainstem.kill();
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("client");
    }
    let mut mainstem = run.start();
    sync.wait_until_drained(&mut mainstem);
    mainstem.stop();
    assert_equal_in_postgres(&sync.source, &sync.name, &warehouse);
    for (name, columns, _) in SHAPES {
        assert_same_rows(
            name,
            &rows_of(&sync.source, &format!("{}.{name}", sync.name), columns),
            &rows_of(&copy, &format!("{}.{name}", copy.name()), columns),
        );
    }
    sync.assert_lake_equal();
}

#[test]
fn mysql_into_warehouses_and_files_with_kills() {
    killed_at_random(Flavor::MySql, "my_kills");
}

#[test]
fn mariadb_into_warehouses_and_files_with_kills() {
    killed_at_random(Flavor::MariaDb, "maria_kills");
}

/// One large transaction, and `--once`, which ends when everything up to the server's present end was drained.
fn once(flavor: Flavor, name: &str) {
    let sync = Sync::new(flavor, name);
    let run = sync.run(&sync.pipeline());
    run.once_succeeds();
    sync.source.exec(
        "SET SESSION cte_max_recursion_depth = 1000000; INSERT INTO moves (writer, n, amount) \
         WITH RECURSIVE n AS (SELECT 1 i UNION ALL SELECT i + 1 FROM n WHERE i < 100000) SELECT 1, i, i / 100 FROM n",
    );
    run.once_succeeds();
    sync.assert_lake_equal();
}

#[test]
fn mysql_is_drained_once() {
    once(Flavor::MySql, "my_once");
}

/// Rows that the target has lost come back when they are asked for, while clients go on writing.
fn read_on_demand(flavor: Flavor, name: &str) {
    let sync = Sync::new(flavor, name);
    let warehouse = PgServer::shared().create_database(&format!("{name}_dw"));
    let pipeline = sync.pipeline().upsert("warehouse", &warehouse.url());
    let run = sync.run(&pipeline);
    let mut mainstem = run.start();
    sync.wait_until_drained(&mut mainstem);
    warehouse.exec(&format!("DELETE FROM \"{name}\".accounts WHERE id <= 300"));
    let stop = Arc::new(AtomicBool::new(false));
    let client = {
        let (database, stop, seed) = (sync.source.clone(), Arc::clone(&stop), Random::new(name).bits());
        thread::spawn(move || work(&database, 1, seed, &stop))
    };
    let data = sync.dir.path().join("data");
    let snapshot = |arguments: &[&str]| {
        let all = [&["snapshot", name], arguments, &["--data-dir", data.to_str().expect("path")]].concat();
        mainstem_tests::run_command(all)
    };
    let refused = snapshot(&[&format!("{name}.nothing")]);
    assert!(refused.code != Some(0) && refused.stderr.contains("is not captured"), "{refused:?}");
    let table = format!("{name}.accounts");
    let first = snapshot(&[&table, "--where", "id <= 200"]);
    assert_eq!(first.code, Some(0), "{first:?}");
    let rows = |id: u32| warehouse.number(&format!("SELECT count(*) FROM \"{name}\".accounts WHERE id <= {id}"));
    wait_until_for(MINUTE, "the rows asked for are there again", || rows(200) == 200);
    let second = snapshot(&[&table]);
    assert_eq!(second.code, Some(0), "{second:?}");
    wait_until_for(MINUTE, "all rows are there again", || rows(300) == 300);
    stop.store(true, Ordering::Relaxed);
    client.join().expect("client");
    sync.wait_until_drained(&mut mainstem);
    mainstem.stop();
    assert_equal_in_postgres(&sync.source, name, &warehouse);
    sync.assert_lake_equal();
}

#[test]
fn mysql_tables_are_read_on_demand() {
    read_on_demand(Flavor::MySql, "my_demand");
}

#[test]
fn mariadb_tables_are_read_on_demand() {
    read_on_demand(Flavor::MariaDb, "maria_demand");
}

#[test]
fn postgresql_into_mysql_and_mariadb_with_kills() {
    let scenario = Scenario::new("pg_into_mysql").setup(
        &["t"],
        "CREATE TABLE t (id int PRIMARY KEY, v text, amount numeric(20,4), at timestamp, flag boolean);
         INSERT INTO t SELECT i, 'row ' || i, i / 7.0, timestamp '2026-01-01' + i * interval '1.5 s', i % 2 = 0 FROM generate_series(1, 20000) i",
    );
    let targets = [Flavor::MySql, Flavor::MariaDb].map(|flavor| MySqlServer::shared(flavor).create_database("pg_into_mysql"));
    let mut pipeline = scenario.bare_pipeline();
    for (i, target) in targets.iter().enumerate() {
        let sink = format!("jdbc: {{ url: \"{}\", user: root, schema: pg_into_mysql, mode: upsert }}", target.url());
        pipeline = pipeline.sink(&format!("target_{i}"), &sink);
    }
    let run = scenario.run(&pipeline).allow("");
    let mut random = Random::new("postgresql_into_mysql_and_mariadb_with_kills");
    for round in 0..8 {
        let mainstem = run.clone().start();
        scenario.source.exec(&format!(
            "INSERT INTO t SELECT i, 'new', i, now(), NULL FROM generate_series({round} * 1000 + 20001, {round} * 1000 + 21000) i;
             UPDATE t SET v = 'changed {round}' WHERE id % 11 = {round}; UPDATE t SET id = -id WHERE id % 101 = {round} AND id > 0; DELETE FROM t WHERE id % 97 = {round}"
        ));
        thread::sleep(Duration::from_millis(random.below(900)));
        mainstem.kill();
    }
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    let want = scenario.source.query(
        "SELECT concat_ws(E'\\t', id, v, amount, to_char(at, 'YYYY-MM-DD HH24:MI:SS.US'), coalesce(flag::int::text, '\\N')) FROM t",
    );
    for target in &targets {
        let got = rows_of(
            target,
            "pg_into_mysql.t",
            &[("id", ""), ("v", ""), ("amount", ""), ("date_format(at, '%Y-%m-%d %H:%i:%s.%f')", ""), ("flag", "")],
        );
        assert_same_rows("t", &want, &got);
    }
}
