//! Beginning, logging in, and ending.

use std::time::{Duration, Instant};

use connector_api::{Op, Recovery};
use serde_json::{Value, json};
use test_servers::{Flavor, MySqlServer};

use crate::log_model::{Pipeline, connector, database, database_on, follow, pipeline_of, table_text};

fn never() -> Value {
    json!({ "snapshot": { "mode": "never" } })
}

#[tokio::test]
async fn a_shutdown_hands_over_what_was_read() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key)");
        let mut pipeline = pipeline_of(&database, &["t"], never());
        pipeline.drain().await;
        let mut running = pipeline.open(false).await.unwrap();
        database.exec("insert into t values (1), (2), (3)");
        follow(&mut pipeline, &mut running, "three rows", |pipeline| pipeline.changes.len() == 3).await;
        let begun = Instant::now();
        running.stop.send(true).unwrap();
        while let Some(group) = running.source.next().await.unwrap() {
            pipeline.commit(group);
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        drop(running);
        database.exec("insert into t values (4)");
        pipeline.drain().await;
        assert_eq!(pipeline.changes.len(), 4, "{flavor:?}");
    }
}

#[tokio::test]
async fn passwords_of_every_kind_and_tls_of_every_mode() {
    for flavor in Flavor::ALL {
        let server = MySqlServer::start(flavor, &[]);
        let database = database_on(&server);
        database.exec("create table t (id int primary key); insert into t values (1)");
        let methods: &[&str] = match flavor {
            Flavor::MySql => &["identified with caching_sha2_password by 'p w'", "identified with sha256_password by 'p w'"],
            Flavor::MariaDb => {
                database.exec("install soname 'auth_ed25519'");
                &["identified via mysql_native_password using password('p w')", "identified via ed25519 using password('p w')"]
            }
        };
        for (index, method) in methods.iter().enumerate() {
            let monitor = if flavor == Flavor::MySql { "replication client" } else { "binlog monitor" };
            database.exec(&format!(
                "create user u{index} {method}; grant replication slave, {monitor}, reload on *.* to u{index}; grant select on {}.* to u{index}",
                database.name()
            ));
            let settings = |mode: &str, password: &str, extra: Value| {
                let mut settings = json!({
                    "url": format!("mysql://localhost:{}/{}", server.port(), database.name()), "user": format!("u{index}"), "password": password,
                    "tables": ["t"], "ssl_mode": mode,
                });
                settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
                settings
            };
            for mode in ["disabled", "preferred", "required", "verify_ca", "verify_identity"] {
                let ca = json!({ "ssl_ca": server.ca() });
                let mut pipeline = Pipeline::new("tls", connector(&settings(mode, "p w", ca)).unwrap());
                pipeline.drain().await;
                assert_eq!(pipeline.changes.len(), 1, "{flavor:?} {method} {mode}");
                let findings = pipeline.connector.check("tls", pipeline.position.as_ref()).await.unwrap();
                assert!(findings.iter().all(|finding| finding.severity != connector_api::Severity::Error), "{findings:?}");
            }
            let mut wrong = Pipeline::new("tls", connector(&settings("preferred", "wrong", json!({}))).unwrap());
            let error = wrong.try_drain().await.unwrap_err();
            assert!(error.recovery() == Recovery::Stop && error.to_string().contains("did not let"), "{error}");
            assert!(!error.to_string().contains("p w"));
        }
        // A certificate of somebody else, and a server under another name.
        let other = tempfile::tempdir().unwrap();
        test_servers::make_certificate(other.path());
        let url = format!("mysql://127.0.0.1:{}/{}", server.port(), database.name());
        for (mode, ca, expected) in [
            ("verify_ca", other.path().join("ca.pem"), "TLS with the server"),
            ("verify_identity", server.ca(), "TLS with the server"),
        ] {
            let settings = json!({ "url": url, "user": "root", "tables": ["t"], "ssl_mode": mode, "ssl_ca": ca });
            let error = Pipeline::new("tls", connector(&settings).unwrap()).try_drain().await.unwrap_err().to_string();
            assert!(error.contains(expected), "{flavor:?} {mode}: {error}");
        }
    }
}

#[tokio::test]
async fn check_names_what_is_missing_with_what_to_run() {
    for flavor in Flavor::ALL {
        let server = MySqlServer::start(flavor, &["--binlog-row-metadata=MINIMAL", "--binlog-row-image=MINIMAL"]);
        let database = database_on(&server);
        database.exec("create table t (id int primary key); create table m (id int) engine = MyISAM; create user poor");
        let check = async |settings: Value| {
            let findings = connector(&settings).unwrap().check("p", None).await.unwrap();
            findings
                .into_iter()
                .map(|finding| format!("{} => {}", finding.message, finding.remedy.unwrap_or_default()))
                .collect::<Vec<_>>()
                .join("\n")
        };
        let text = check(json!({ "url": database.url(), "user": "poor", "tables": ["t", "gone"] })).await;
        let monitor = if flavor == Flavor::MySql { "REPLICATION CLIENT" } else { "BINLOG MONITOR" };
        for expected in [
            "GRANT REPLICATION SLAVE ON *.*",
            &format!("GRANT {monitor} ON *.*"),
            "does not exist",
            "binlog_row_metadata",
            "binlog_row_image",
        ] {
            assert!(text.contains(expected), "{flavor:?}: no {expected} in:\n{text}");
        }
        let text = check(json!({ "url": database.url(), "user": "root", "tables": ["t", "m"] })).await;
        assert!(text.contains("has no transactions") && !text.contains("GRANT"), "{flavor:?}: {text}");
        let text = check(json!({ "url": "mysql://127.0.0.1:1/x", "user": "root", "tables": ["t"] })).await;
        assert!(text.contains("could not connect"), "{text}");
    }
}

#[tokio::test]
async fn my_snap_01_a_snapshot_under_load_has_no_gap_and_nothing_twice() {
    for flavor in Flavor::ALL {
        for lock in ["auto", "global", "tables"] {
            let database = database(flavor);
            database.exec("create table t (id int primary key auto_increment, a int); insert into t (a) values (0), (0), (0), (0), (0), (0), (0), (0)");
            let mut writer = database.session();
            let mut pipeline = pipeline_of(&database, &["t"], json!({ "snapshot": { "lock": lock, "connections": 4 } }));
            let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
            let stopped = std::sync::Arc::clone(&stop);
            let load = std::thread::spawn(move || {
                let mut round = 0;
                while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
                    round += 1;
                    writer
                        .exec(&format!("insert into t (a) values ({round}); update t set a = a + 1 where id = {}", round % 8 + 1));
                }
                round
            });
            for _ in 0..4 {
                pipeline.drain().await;
                pipeline.position = Some(pipeline.connector.resnapshot(pipeline.position.as_ref().unwrap(), &[]).unwrap());
            }
            pipeline.drain().await;
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(load.join().unwrap() > 10);
            pipeline.drain().await;
            let table = format!("{}.t", database.name());
            assert_eq!(pipeline.folded_text(&table), table_text(&database, "t", &["id", "a"]), "{flavor:?} {lock}");
            let restart = pipeline.changes.iter().rposition(|change| change.op == Op::SnapshotRestart).unwrap();
            let mut ids: Vec<&String> = pipeline.changes[restart..]
                .iter()
                .filter(|change| matches!(change.op, Op::Read | Op::Insert))
                .map(|change| &change.after.as_ref().unwrap()[0])
                .collect();
            let all = ids.len();
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), all, "{flavor:?} {lock}: rows that came twice");
        }
    }
}

#[tokio::test]
async fn my_snap_02_without_the_right_to_lock_all_tables() {
    for flavor in Flavor::ALL {
        let server = MySqlServer::start(flavor, &[]);
        let database = database_on(&server);
        let monitor = if flavor == Flavor::MySql { "replication client" } else { "binlog monitor" };
        database.exec(&format!(
            "create table t (id int primary key); insert into t values (1), (2); create table m (id int) engine = MyISAM; insert into m values (1); \
             create user some; grant replication slave, {monitor} on *.* to some; grant select on {0}.* to some; \
             create user more; grant replication slave, {monitor} on *.* to more; grant select, lock tables on {0}.* to more",
            database.name()
        ));
        let as_user = |user: &str, tables: &[&str]| pipeline_of(&database, tables, json!({ "user": user }));
        let mut more = as_user("more", &["t", "m"]);
        more.drain().await;
        assert_eq!(more.changes.len(), 3, "{flavor:?}");
        let mut some = as_user("some", &["t"]);
        match flavor {
            Flavor::MySql => {
                let error = some.try_drain().await.unwrap_err();
                assert!(error.recovery() == Recovery::Stop && error.to_string().contains("LOCK TABLES"), "{error}");
            }
            Flavor::MariaDb => {
                some.drain().await;
                assert_eq!(some.changes.len(), 2);
            }
        }
        let error = as_user("some", &["m"]).try_drain().await.unwrap_err();
        assert!(error.recovery() == Recovery::Stop && error.to_string().contains("LOCK TABLES"), "{error}");
    }
}

#[tokio::test]
async fn a_snapshot_that_was_cut_is_voided_and_begins_again() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec(
            "create table t (id int primary key, a varchar(100)); insert into t values (1, repeat('a', 90)), (2, repeat('b', 90))",
        );
        for _ in 0..13 {
            database.exec("insert into t select id + (select max(id) from t), a from t");
        }
        let mut pipeline = pipeline_of(&database, &["t"], json!({}));
        pipeline.budget = 1 << 20;
        let mut running = pipeline.open(true).await.unwrap();
        let table = format!("{}.t", database.name());
        follow(&mut pipeline, &mut running, "some rows", |pipeline| !pipeline.changes.is_empty()).await;
        assert!(pipeline.count(&table, Op::Read) < 16_384);
        drop(running);
        database.exec("delete from t where id = 1; insert into t values (100000, 'later')");
        pipeline.drain().await;
        assert_eq!(pipeline.count(&table, Op::SnapshotRestart), 1, "{flavor:?}");
        assert_eq!(pipeline.folded_text(&table), table_text(&database, "t", &["id", "a"]), "{flavor:?}");
    }
}

#[tokio::test]
async fn tables_come_go_and_come_back() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key); insert into t values (1); create table u (id int primary key); insert into u values (1)");
        let mut pipeline = pipeline_of(&database, &["t"], json!({}));
        pipeline.drain().await;
        database.exec("insert into t values (2); insert into u values (2)");
        // A table is added: its snapshot is of now, and the other's changes from before are not lost.
        pipeline.connector = pipeline_of(&database, &["t", "u"], json!({})).connector;
        pipeline.drain().await;
        let name = |table: &str| format!("{}.{table}", database.name());
        assert_eq!(
            (pipeline.folded_text(&name("t")), pipeline.folded_text(&name("u"))),
            ("1\n2".into(), "1\n2".into()),
            "{flavor:?}"
        );
        pipeline.connector = pipeline_of(&database, &["t"], json!({})).connector;
        pipeline.drain().await;
        database.exec("insert into u values (3); insert into t values (3)");
        pipeline.drain().await;
        pipeline.connector = pipeline_of(&database, &["t", "u"], json!({})).connector;
        pipeline.drain().await;
        assert_eq!(pipeline.count(&name("u"), Op::SnapshotRestart), 1);
        assert_eq!(pipeline.folded_text(&name("u")), "1\n2\n3", "{flavor:?}");
    }
}
