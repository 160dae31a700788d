//! Nothing is lost and nothing comes twice, wherever it was cut (`MY-POS-*`).

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use connector_api::{ConnectorError, Op, Recovery};
use serde_json::json;
use test_servers::{Flavor, MySqlServer, wait_until};

use crate::log_model::{Pipeline, database, database_on, follow, pipeline_of, table_text};

/// How a server counts transactions.
const MODES: [(Flavor, &[&str]); 3] = [
    (Flavor::MySql, &["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]),
    (Flavor::MySql, &["--gtid-mode=OFF", "--enforce-gtid-consistency=OFF"]),
    (Flavor::MariaDb, &[]),
];

fn never() -> serde_json::Value {
    json!({ "snapshot": { "mode": "never" } })
}

fn line(pipeline: &Pipeline, name: &str) -> String {
    let lines = pipeline.connector.describe(pipeline.position.as_ref().unwrap()).unwrap();
    lines.into_iter().find(|(found, _)| found == name).map(|(_, text)| text).unwrap_or_default()
}

#[tokio::test]
async fn my_pos_01_a_transaction_goes_on_at_any_row() {
    for (flavor, options) in MODES {
        let server = MySqlServer::start(flavor, options);
        let database = database_on(&server);
        database.exec("create table t (id int primary key, a varchar(60)); create table u (id int primary key)");
        let mut pipeline = pipeline_of(&database, &["t"], never());
        pipeline.drain().await;
        // One statement, many row events; `u` is not captured.
        let rows =
            "with recursive g (id) as (select 1 union all select id + 1 from g where id < 10000) select id, repeat('x', 50) from g";
        let insert = match flavor {
            Flavor::MySql => {
                format!("set session cte_max_recursion_depth = 20000; begin; insert into u values (1); insert into t {rows}")
            }
            Flavor::MariaDb => {
                format!("set session max_recursive_iterations = 20000; begin; insert into u values (1); insert into t {rows}")
            }
        };
        database.exec(&format!(
            "{insert}; insert into u values (2); update t set a = 'second' where id <= 3; commit; insert into t values (10001, 'after')"
        ));
        // A small budget makes groups that end within the transaction.
        pipeline.budget = 1 << 20;
        let start = pipeline.position.clone();
        let mut running = pipeline.open(true).await.unwrap();
        let mut cuts = Vec::new();
        while let Some(group) = running.source.next().await.unwrap() {
            cuts.push((
                group.position.clone(),
                pipeline.changes.len() + group.batches.iter().map(|batch| batch.len()).sum::<usize>(),
            ));
            let done = group.reached_end;
            pipeline.commit(group);
            if done {
                break;
            }
        }
        drop(running);
        assert_eq!(pipeline.changes.len(), 10_004, "{flavor:?} {options:?}");
        assert!(cuts.len() > 5, "{flavor:?}: {}", cuts.len());
        let expected: Vec<_> = pipeline.changes.iter().map(|change| (change.op, change.after.clone())).collect();
        for (position, rows) in cuts {
            let mut resumed = pipeline_of(&database, &["t"], never());
            resumed.position = Some(position);
            if rows > 0 && rows < 10_003 {
                assert!(line(&resumed, "open transaction").starts_with(&format!("{rows} rows")), "{rows}");
            }
            resumed.drain().await;
            let found: Vec<_> = resumed.changes.iter().map(|change| (change.op, change.after.clone())).collect();
            assert!(found == expected[rows..], "{flavor:?} {options:?} after {rows} rows: {} came", found.len());
        }
        assert_ne!(start, pipeline.position);
    }
}

#[tokio::test]
async fn my_pos_02_a_gtid_counts_only_after_its_commit() {
    for flavor in Flavor::ALL {
        // Its own: on one that others write to, GTIDs move by themselves.
        let server = MySqlServer::start(flavor, &[]);
        let database = database_on(&server);
        database.exec("create table t (id int primary key, a varchar(200))");
        let mut pipeline = pipeline_of(&database, &["t"], never());
        pipeline.drain().await;
        let before = line(&pipeline, "gtids");
        pipeline.budget = 1 << 20;
        let rows = (1..=3000).map(|id| format!("({id}, repeat('y', 150))")).collect::<Vec<_>>().join(", ");
        database.exec(&format!("insert into t values {rows}"));
        let mut running = pipeline.open(true).await.unwrap();
        while pipeline.changes.is_empty() {
            let group = running.source.next().await.unwrap().unwrap();
            pipeline.commit(group);
        }
        assert!(pipeline.changes.len() < 3000);
        assert_eq!(line(&pipeline, "gtids"), before);
        assert!(!line(&pipeline, "open transaction").is_empty());
        drop(running);
        pipeline.drain().await;
        assert_eq!(pipeline.changes.len(), 3000);
        assert!(line(&pipeline, "gtids") != before && line(&pipeline, "open transaction").is_empty());
    }
}

#[tokio::test]
async fn my_pos_03_holes_and_tags_are_asked_for_as_they_are() {
    let server = MySqlServer::start(Flavor::MySql, &["--gtid-mode=ON", "--enforce-gtid-consistency=ON"]);
    let database = database_on(&server);
    database.exec("create table t (id int primary key)");
    let mut pipeline = pipeline_of(&database, &["t"], never());
    pipeline.drain().await;
    let own = "f24e9302-e6e6-11f1-90d8-02fc00000002";
    let with_gtid = |gtid: &str, id: u32| {
        database.exec(&format!("set gtid_next = '{gtid}'; insert into t values ({id}); set gtid_next = automatic"));
    };
    // A foreign server's numbers, with a hole that is filled later, as after a failover; and a tag.
    with_gtid(&format!("{own}:1"), 1);
    with_gtid(&format!("{own}:3"), 3);
    // Tags are as of 8.3; before, other numbers take their place.
    let blue = if server.version() >= (8, 3) { format!("{own}:blue") } else { "f24e9302-e6e6-11f1-90d8-02fc00000003".to_owned() };
    with_gtid(&format!("{blue}:1"), 100);
    pipeline.drain().await;
    assert_eq!(pipeline.changes.len(), 3);
    assert!(line(&pipeline, "gtids").contains(&format!("{own}:1:3")), "{}", line(&pipeline, "gtids"));
    with_gtid(&format!("{own}:2"), 2);
    with_gtid(&format!("{blue}:2"), 101);
    pipeline.drain().await;
    let ids: Vec<String> = pipeline.changes.iter().map(|change| change.after.as_ref().unwrap()[0].clone()).collect();
    assert_eq!(ids, ["1", "3", "100", "2", "101"]);
    assert!(line(&pipeline, "gtids").contains(&format!("{own}:1-3,{blue}:1-2")), "{}", line(&pipeline, "gtids"));
}

/// MySQL renamed its statements in 8.2.
fn says_master(server: &MySqlServer) -> bool {
    server.flavor() == Flavor::MariaDb || server.version() < (8, 2)
}

async fn expect_gap(pipeline: &mut Pipeline, expected: &str) {
    let error = pipeline.try_drain().await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Stop, "{error}");
    let error = error.to_string();
    assert!(error.contains(expected) && error.contains("mainstem resnapshot"), "{expected}: {error}");
    let findings = pipeline.connector.check(&pipeline.name, pipeline.position.as_ref()).await.unwrap();
    assert!(findings.iter().any(|finding| finding.message.contains(expected)), "{findings:?}");
}

#[tokio::test]
async fn my_pos_04_purged_logs_stop_loudly() {
    for (flavor, options) in MODES {
        let server = MySqlServer::start(flavor, options);
        let database = database_on(&server);
        database.exec("create table t (id int primary key); insert into t values (1)");
        let mut pipeline = pipeline_of(&database, &["t"], json!({}));
        pipeline.drain().await;
        database.exec("insert into t values (2); flush binary logs; insert into t values (3); flush binary logs");
        let last = database.query(if says_master(&server) { "show master status" } else { "show binary log status" });
        let last = last.split('\t').next().unwrap().to_owned();
        // MariaDB keeps what is newer than its last checkpoint for a moment.
        wait_until("the logs are purged", || {
            database.exec(&format!("purge binary logs to '{last}'"));
            database.query("show binary logs").lines().count() == 1
        });
        if flavor == Flavor::MariaDb {
            let error = pipeline.try_drain().await.unwrap_err();
            assert_eq!(error.recovery(), Recovery::Stop, "{error}");
            assert!(error.to_string().contains("has no longer what comes"), "{error}");
        } else {
            expect_gap(&mut pipeline, "purged").await;
        }
        // The way out that the message names.
        pipeline.position = Some(pipeline.connector.resnapshot(pipeline.position.as_ref().unwrap(), &[]).unwrap());
        pipeline.drain().await;
        let table = format!("{}.t", database.name());
        assert_eq!(pipeline.count(&table, Op::SnapshotRestart), 1, "{flavor:?}");
        assert_eq!(pipeline.folded_text(&table), "1\n2\n3");
    }
}

#[tokio::test]
async fn my_pos_05_a_reset_log_or_another_server_is_refused() {
    for (flavor, options) in MODES {
        let server = MySqlServer::start(flavor, options);
        let database = database_on(&server);
        database.exec("create table t (id int primary key); insert into t values (1); flush binary logs; insert into t values (2)");
        let mut pipeline = pipeline_of(&database, &["t"], json!({}));
        pipeline.drain().await;
        // Another server, with a database of that name and a log file of that name.
        let other = MySqlServer::start(flavor, &[options, &["--server-id=77"]].concat());
        let other = other.create_database(database.name());
        other.exec("create table t (id int primary key); flush binary logs; insert into t values (2)");
        let mut elsewhere = pipeline_of(&other, &["t"], json!({}));
        elsewhere.position = pipeline.position.clone();
        let expected = if options.first() == Some(&"--gtid-mode=OFF") { "another server" } else { "lacks transactions" };
        if flavor == Flavor::MySql {
            expect_gap(&mut elsewhere, expected).await;
        }
        let reset = if says_master(&server) { "reset master" } else { "reset binary logs and gtids" };
        database.exec(&format!("{reset}; insert into t values (3)"));
        expect_gap(&mut pipeline, "reset").await;
    }
}

#[tokio::test]
async fn my_pos_08_files_and_table_numbers_may_change_at_any_time() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key, a int); create table u (a varchar(9), id int primary key)");
        let mut pipeline = pipeline_of(&database, &["t", "u"], never());
        pipeline.drain().await;
        let mut running = pipeline.open(false).await.unwrap();
        for round in 1..=10 {
            // `flush tables` gives tables new numbers; the files change in between.
            database.exec(&format!(
                "insert into t values ({round}, 0); flush tables; insert into u values ('u{round}', {round}); flush binary logs; \
                 insert into t values ({}, 1); update u set a = 'v' where id = {round}",
                round + 100
            ));
        }
        follow(&mut pipeline, &mut running, "all changes", |pipeline| pipeline.changes.len() >= 40).await;
        drop(running);
        database.exec("flush binary logs; insert into t values (999, 9)");
        pipeline.drain().await;
        let name = |table: &str| format!("{}.{table}", database.name());
        assert_eq!(pipeline.folded_text(&name("t")), table_text(&database, "t", &["id", "a"]), "{flavor:?}");
        assert_eq!(pipeline.folded_text(&name("u")), table_text(&database, "u", &["a", "id"]), "{flavor:?}");
        assert_eq!(pipeline.changes.len(), 41);
    }
}

#[tokio::test]
async fn my_pos_09_two_pipelines_of_one_number_do_not_kick_each_other() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key)");
        let extra = json!({ "snapshot": { "mode": "never" }, "server_id": 4711 });
        let mut first = pipeline_of(&database, &["t"], extra.clone());
        first.drain().await;
        let mut running = first.open(false).await.unwrap();
        database.exec("insert into t values (1)");
        follow(&mut first, &mut running, "a row", |pipeline| pipeline.changes.len() == 1).await;
        let mut second = pipeline_of(&database, &["t"], extra);
        second.drain().await;
        let mut second_running = second.open(false).await.unwrap();
        database.exec("insert into t values (2)");
        follow(&mut second, &mut second_running, "a row", |pipeline| pipeline.changes.len() == 1).await;
        // The server cut the first: it says why, and does not come back to cut the second.
        let until = Instant::now() + Duration::from_secs(30);
        let error = loop {
            assert!(Instant::now() < until, "{flavor:?}: the first goes on");
            match tokio::time::timeout(Duration::from_secs(1), running.source.next()).await {
                Ok(Err(error)) => break error,
                Ok(Ok(Some(group))) => first.commit(group),
                _ => {}
            }
        };
        assert_eq!(error.recovery(), Recovery::Stop, "{flavor:?}: {error}");
        assert!(error.to_string().contains("server_id 4711"), "{error}");
    }
}

#[tokio::test]
async fn my_pos_10_an_idle_server_is_heard_and_a_dead_one_noticed() {
    for flavor in Flavor::ALL {
        let server = MySqlServer::start(flavor, &[]);
        let database = database_on(&server);
        database.exec("create table t (id int primary key); create table noise (id int primary key, a text)");
        let mut pipeline = pipeline_of(&database, &["t"], never());
        pipeline.drain().await;
        let mut running = pipeline.open(false).await.unwrap();
        // What is not captured moves the position all the same.
        let before = line(&pipeline, "place");
        database.exec("insert into noise values (1, 'a'), (2, 'b')");
        let moved = |pipeline: &Pipeline| line(pipeline, "place") != before;
        follow(&mut pipeline, &mut running, "a position without rows", moved).await;
        assert!(pipeline.changes.is_empty());
        server.kill();
        let error = loop {
            match running.source.next().await {
                Err(error) => break error,
                Ok(group) => pipeline.commit(group.unwrap()),
            }
        };
        assert_eq!(error.recovery(), Recovery::Retry, "{error}");
        server.start_again();
        database.exec("insert into t values (1)");
        pipeline.drain().await;
        assert_eq!(pipeline.changes.len(), 1, "{flavor:?}");
    }
}

#[tokio::test]
async fn random_cuts_under_load_lose_and_repeat_nothing() {
    for (flavor, options) in MODES {
        let server = MySqlServer::start(flavor, options);
        let database = database_on(&server);
        database.exec(
            "create table t (id bigint primary key auto_increment, a varchar(40)); create table c (id int primary key, n int); \
             insert into c values (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)",
        );
        // Each client runs its own script of a few hundred transactions.
        let mut clients = Vec::new();
        for client in 0..3u64 {
            let mut script = String::new();
            let mut seed = client * 77 + 1;
            for round in 0..300u64 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (k, r) = (seed >> 40 & 3, seed >> 33 & 1023);
                script += &format!("begin; insert into t (a) values ('a{r}'); update c set n = n + 1 where id = {};", k + 1);
                let many = (0..r % 40).map(|n| format!("('b{n}')")).collect::<Vec<_>>().join(", ");
                if !many.is_empty() {
                    script += &format!("insert into t (a) values {many};");
                }
                script += &format!(
                    "delete from t where id = {}; {}; do sleep(0.005);\n",
                    r + round,
                    if r % 7 == 0 { "rollback" } else { "commit" }
                );
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), script).unwrap();
            let input = std::fs::File::open(file.path()).unwrap();
            // Deadlocks between the clients are no harm.
            let child = database.client().arg("--force").stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            clients.push((child, file));
        }
        let mut pipeline = pipeline_of(&database, &["t", "c"], json!({}));
        pipeline.budget = 1 << 20;
        let (mut seed, mut cuts) = (7u64, 0);
        while clients.iter_mut().any(|(client, _)| client.try_wait().unwrap().is_none()) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            // A busy server keeps connections for a while after they were cut, and then takes no more for a moment.
            let tried_again = |error: ConnectorError| assert_eq!(error.recovery(), Recovery::Retry, "{flavor:?}: {error}");
            let mut running = match pipeline.open(false).await {
                Ok(running) => running,
                Err(error) => {
                    tried_again(error);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            for _ in 0..(seed >> 33) % 12 {
                match tokio::time::timeout(Duration::from_millis(300), running.source.next()).await {
                    Ok(Ok(group)) => pipeline.commit(group.unwrap()),
                    Ok(Err(error)) => {
                        tried_again(error);
                        break;
                    }
                    Err(_elapsed) => break,
                }
            }
            // Dropped in the middle: what was read and not committed is forgotten.
            drop(running);
            cuts += 1;
        }
        wait_until("the server has closed what was cut", || {
            database.try_query("select count(*) < 20 from information_schema.processlist").is_ok_and(|few| few == "1")
        });
        pipeline.drain().await;
        assert!(cuts > 5, "{cuts}");
        let name = |table: &str| format!("{}.{table}", database.name());
        assert_eq!(pipeline.folded_text(&name("t")), table_text(&database, "t", &["id", "a"]), "{flavor:?} {options:?}");
        assert_eq!(pipeline.folded_text(&name("c")), table_text(&database, "c", &["id", "n"]), "{flavor:?} {options:?}");
        // Each id is inserted (or read) once since the snapshot that counts: the sequence never gives one twice.
        let restart = |change: &crate::log_model::Change| change.op == Op::SnapshotRestart && change.table() == name("t");
        let from = pipeline.changes.iter().rposition(restart).unwrap_or(0);
        let made = |change: &&crate::log_model::Change| change.table() == name("t") && matches!(change.op, Op::Insert | Op::Read);
        let mut ids: Vec<&String> =
            pipeline.changes[from..].iter().filter(made).map(|change| &change.after.as_ref().unwrap()[0]).collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "rows that came twice");
    }
}
