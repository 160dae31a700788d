//! Beginning, going on, and ending.

use std::time::{Duration, Instant};

use connector_api::{Op, Recovery};
use serde_json::json;

use crate::{
    cli_server::{Database, server},
    log_model::pipeline_of,
};

#[tokio::test]
async fn a_shutdown_hands_over_and_confirms_what_was_read() {
    let database = Database::new();
    database.sql("create table t (id int primary key)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    let mut running = pipeline.open(false).await.unwrap();
    database.sql("insert into t select generate_series(1, 10)");
    while pipeline.changes.len() < 10 {
        let group = running.source.next().await.unwrap().unwrap();
        pipeline.commit(group);
    }
    let begun = Instant::now();
    running.stop.send(true).unwrap();
    while let Some(group) = running.source.next().await.unwrap() {
        pipeline.commit(group);
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    let position = pipeline.position.clone().unwrap();
    running.source.confirm(&position);
    let lines = pipeline.connector.describe(&position).unwrap();
    let lsn = &lines.iter().find(|(name, _)| name == "lsn").unwrap().1;
    database.wait_for(
        &format!(
            "select confirmed_flush_lsn = '{lsn}' and not active from pg_replication_slots where slot_name = '{}'",
            database.name
        ),
        "t",
    );
}

#[tokio::test]
async fn a_second_reader_of_the_slot_is_refused_and_the_first_goes_on() {
    let database = Database::new();
    database.sql("create table t (id int primary key)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    let mut running = pipeline.open(false).await.unwrap();
    database.wait_for(&format!("select active from pg_replication_slots where slot_name = '{}'", database.name), "t");
    let mut second = pipeline_of(&database, &["t"], json!({}));
    second.position = pipeline.position.clone();
    let error = second.try_drain().await.unwrap_err();
    assert!(error.recovery() == Recovery::Retry && error.to_string().contains("in use"), "{error}");
    database.sql("insert into t values (1)");
    while pipeline.changes.is_empty() {
        let group = running.source.next().await.unwrap().unwrap();
        pipeline.commit(group);
    }
}

#[tokio::test]
async fn a_full_budget_stops_reading_and_the_server_hears_of_us_all_the_same() {
    let database = Database::new();
    database.sql("create table t (id int primary key, a text)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    pipeline.budget = 1 << 20;
    let mut running = pipeline.open(false).await.unwrap();
    database.sql("insert into t select g, repeat('x', 100) from generate_series(1, 60000) g");
    // Longer than the server waits for a sign of life (5 s).
    let now = database.sql("select clock_timestamp()");
    let told = format!(
        "select bool_or(reply_time > timestamptz '{now}' + interval '6 s') from pg_stat_replication where pid = {}",
        database.sender()
    );
    database.wait_for(&told, "t");
    let senders = format!("select count(*) from pg_replication_slots where slot_name = '{}' and active", database.name);
    assert_eq!(database.sql(&senders), "1");
    while pipeline.changes.len() < 60_000 {
        let group = running.source.next().await.unwrap().unwrap();
        assert!(group.batches.iter().map(|batch| batch.memory_bytes()).sum::<usize>() < 2 << 20);
        pipeline.commit(group);
    }
    assert_eq!(pipeline.count("public.t", Op::Insert), 60_000);
}

#[tokio::test]
async fn changes_arrive_at_once_and_groups_are_few_under_load() {
    let database = Database::new();
    database.sql("create table t (id int primary key, a text)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    let mut running = pipeline.open(false).await.unwrap();
    database.sql("insert into t values (0, 'x')");
    let begun = Instant::now();
    while pipeline.changes.is_empty() {
        let group = running.source.next().await.unwrap().unwrap();
        pipeline.commit(group);
    }
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    let groups = pipeline.groups;
    database.sql("insert into t select g, 'x' from generate_series(1, 100000) g");
    while pipeline.changes.len() <= 100_000 {
        let group = running.source.next().await.unwrap().unwrap();
        pipeline.commit(group);
    }
    assert!(pipeline.groups - groups < 1000, "{} groups", pipeline.groups - groups);
}

#[tokio::test]
async fn a_server_that_restarts_is_gone_on_with() {
    let server = server(&[]);
    let database = Database::on(server);
    database.sql("create table t (id int primary key)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    let mut running = pipeline.open(false).await.unwrap();
    database.sql("insert into t values (1)");
    while pipeline.changes.is_empty() {
        let group = running.source.next().await.unwrap().unwrap();
        pipeline.commit(group);
    }
    // The walsender is ended as in a fast shutdown.
    database.sql("select pg_terminate_backend(active_pid) from pg_replication_slots where active");
    let error = loop {
        match running.source.next().await {
            Ok(Some(group)) => pipeline.commit(group),
            Ok(None) => panic!("an end without an error"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.recovery(), Recovery::Retry, "{error}");
    drop(running);
    database.sql("insert into t values (2)");
    pipeline.drain().await;
    assert_eq!(pipeline.folded_text("public.t"), "1\n2");
    assert_eq!(pipeline.changes.len(), 2);
}

#[tokio::test]
async fn a_server_without_logical_wal_is_refused_before_anything_is_made() {
    let server = server(&[("wal_level", "replica")]);
    let database = Database::on(server);
    database.sql("create table t (id int primary key)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    let error = pipeline.try_drain().await.unwrap_err();
    assert!(error.recovery() == Recovery::Stop && error.to_string().contains("ALTER SYSTEM SET wal_level = 'logical'"), "{error}");
    assert_eq!(database.sql("select count(*) from pg_publication"), "0");
    let findings = pipeline.connector.check(&pipeline.name, None).await.unwrap();
    assert!(findings.iter().any(|finding| finding.message.contains("wal_level")), "{findings:?}");
}

#[tokio::test]
async fn dropping_leaves_nothing() {
    let database = Database::new();
    database.sql("create table t (id int primary key)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    assert!(pipeline.connector.retained_bytes(&pipeline.name).await.unwrap().is_some());
    let dropped = pipeline.connector.drop_state(&pipeline.name).await.unwrap();
    assert_eq!(dropped.len(), 2, "{dropped:?}");
    assert!(pipeline.connector.drop_state(&pipeline.name).await.unwrap().is_empty());
    assert_eq!(pipeline.connector.retained_bytes(&pipeline.name).await.unwrap(), None);
    let left = "select (select count(*) from pg_publication) + (select count(*) from pg_replication_slots where database = current_database())";
    assert_eq!(database.sql(left), "0");
}
