//! Nothing is lost and nothing comes twice, wherever it was cut.

use connector_api::{Op, SourcePosition};
use serde_json::json;

use crate::{
    cli_server::Database,
    log_model::{Pipeline, pipeline_of},
};

/// Offset and length of the number of rows of the open transaction in a position's bytes.
const OPEN_FLAG: usize = 9;
const OPEN_ROWS: std::ops::Range<usize> = 22..30;

#[tokio::test]
async fn a_transaction_goes_on_at_any_row() {
    let database = Database::new();
    database.sql("create table t (id int primary key, a text); create table u (id int primary key)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    // One COPY: the server writes many rows into one record of its log, which all have one LSN. `u` is not captured.
    database.sql(
        "begin; insert into u values (1); create temp table s as select g id, repeat('x', 40) a from generate_series(1, 10000) g; \
         insert into t select * from s; insert into u values (2); commit; insert into t values (10001, 'after');",
    );
    // A small budget makes groups that end within the transaction.
    pipeline.budget = 1 << 20;
    let mut running = pipeline.open(true).await.unwrap();
    let mut inside = None;
    while let Some(group) = running.source.next().await.unwrap() {
        if group.position.as_bytes()[OPEN_FLAG] == 1 {
            inside.get_or_insert(group.position.clone());
        }
        let done = group.reached_end;
        pipeline.commit(group);
        if done {
            break;
        }
    }
    drop(running);
    assert_eq!(pipeline.count("public.t", Op::Insert), 10_001);
    assert!(pipeline.groups > 5, "{}", pipeline.groups);
    let inside = inside.expect("a group that ends inside of the transaction");
    let samples = [1, 2, 3, 63, 64, 65, 127, 128, 129, 1000, 4095, 5000, 5001, 9998, 9999, 10_000];
    for rows in samples {
        let mut bytes = inside.as_bytes().to_vec();
        bytes[OPEN_ROWS].copy_from_slice(&u64::to_be_bytes(rows));
        let mut resumed = pipeline_of(&database, &["t"], json!({}));
        resumed.position = Some(SourcePosition::new(bytes));
        resumed.drain_unconfirmed().await;
        let ids: Vec<String> = resumed.changes.iter().map(|change| change.after.as_ref().unwrap()[0].clone()).collect();
        let expected: Vec<String> = (rows + 1..=10_001).map(|id| id.to_string()).collect();
        assert_eq!(ids, expected, "after {rows} rows");
    }
    // A position that claims more rows than the transaction has is not believed.
    let mut bytes = inside.as_bytes().to_vec();
    bytes[OPEN_ROWS].copy_from_slice(&u64::to_be_bytes(20_000));
    let mut wrong = pipeline_of(&database, &["t"], json!({}));
    wrong.position = Some(SourcePosition::new(bytes));
    assert!(wrong.try_drain().await.unwrap_err().to_string().contains("without a gap"));
}

#[tokio::test]
async fn random_cuts_under_load_lose_and_repeat_nothing() {
    let database = Database::new();
    database.sql(
        "create table t (id bigserial primary key, a text); create table c (id int primary key, n int); \
         insert into c select g, 0 from generate_series(1, 20) g",
    );
    let script = tempfile::NamedTempFile::new().unwrap();
    let statements = "\\set k random(1, 20)\n\\set r random(1, 1000)\nbegin;\ninsert into t (a) values ('a' || :r);\nupdate c set n = n + 1 where id = :k;\n\
                      insert into t (a) select 'b' from generate_series(1, :r % 40);\ndelete from t where id = :r;\ncommit;\n";
    std::fs::write(script.path(), statements).unwrap();
    let mut load = database
        .server
        .tool("pgbench")
        .args(["-n", "-c", "4", "-T", "12", "-f"])
        .arg(script.path())
        .arg(&database.name)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut pipeline = pipeline_of(&database, &["t", "c"], json!({}));
    pipeline.budget = 1 << 20;
    let mut seed = 7u64;
    let mut cuts = 0;
    while load.try_wait().unwrap().is_none() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut running = pipeline.open(false).await.unwrap();
        for round in 0..(seed >> 33) % 12 {
            let next = tokio::time::timeout(std::time::Duration::from_millis(400), running.source.next()).await;
            let Ok(group) = next else { break };
            let Some(group) = group.unwrap() else { break };
            pipeline.commit(group);
            if !(seed >> 20).is_multiple_of(3) || round.is_multiple_of(2) {
                running.source.confirm(pipeline.position.as_ref().unwrap());
            }
        }
        // Dropped in the middle: what was read and not committed is forgotten.
        drop(running);
        cuts += 1;
    }
    pipeline.drain().await;
    assert!(cuts > 5, "{cuts}");
    assert_eq!(
        pipeline.folded_text("public.t"),
        database.sql("select id || '|' || a from t order by (id || '|' || a) collate \"C\"")
    );
    assert_eq!(
        pipeline.folded_text("public.c"),
        database.sql("select id || '|' || n from c order by (id || '|' || n) collate \"C\"")
    );
    // Each id is inserted (or read) once: the sequence never gives one twice.
    let mut ids: Vec<&String> = Vec::new();
    let restart =
        pipeline.changes.iter().rposition(|change| change.op == Op::SnapshotRestart && change.table() == "public.t").unwrap_or(0);
    for change in &pipeline.changes[restart..] {
        if change.table() == "public.t" && matches!(change.op, Op::Insert | Op::Read) {
            ids.push(&change.after.as_ref().unwrap()[0]);
        }
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "rows that came twice");
}

#[tokio::test]
async fn the_slot_follows_what_was_confirmed_and_no_more() {
    let database = Database::new();
    database.sql("create table t (id int primary key)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    let confirmed = format!("select confirmed_flush_lsn from pg_replication_slots where slot_name = '{}'", database.name);
    let mut running = pipeline.open(false).await.unwrap();
    // The last status of the drain may reach the server after it, so what is compared is where the log stood before the rows.
    let before = database.sql("select pg_current_wal_lsn()");
    database.sql("insert into t select generate_series(1, 100)");
    while pipeline.changes.is_empty() {
        let group = running.source.next().await.unwrap().unwrap();
        pipeline.commit(group);
    }
    // The server asks for an answer within half of its time-out: then we have told it where we are.
    let now = database.sql("select clock_timestamp()");
    let told = format!("select bool_or(reply_time > '{now}') from pg_stat_replication where pid = {}", database.sender());
    database.wait_for(&told, "t");
    let lsn = |text: &str| {
        let (high, low) = text.split_once('/').unwrap();
        (u64::from_str_radix(high, 16).unwrap() << 32) | u64::from_str_radix(low, 16).unwrap()
    };
    assert!(lsn(&database.sql(&confirmed)) <= lsn(&before), "confirmed what no log holds");
    running.source.confirm(pipeline.position.as_ref().unwrap());
    let moved = format!("select confirmed_flush_lsn > '{before}' from pg_replication_slots where slot_name = '{}'", database.name);
    database.wait_for(&moved, "t");
}

#[tokio::test]
async fn an_idle_table_lets_the_slot_advance() {
    let database = Database::new();
    database.sql("create table t (id int primary key); create table noise (id int)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    let mut running = pipeline.open(false).await.unwrap();
    database.sql("insert into noise select generate_series(1, 50000)");
    let lsn = database.sql("select pg_current_wal_lsn()");
    let reached = format!("select confirmed_flush_lsn >= '{lsn}' from pg_replication_slots where slot_name = '{}'", database.name);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while database.sql(&reached) != "t" {
        assert!(std::time::Instant::now() < until, "the slot stands still");
        let next = tokio::time::timeout(std::time::Duration::from_millis(200), running.source.next()).await;
        if let Ok(group) = next {
            pipeline.commit(group.unwrap().unwrap());
            running.source.confirm(pipeline.position.as_ref().unwrap());
        }
    }
    assert!(pipeline.changes.is_empty());
    assert!(pipeline.groups < 60, "{} groups without rows", pipeline.groups);
}

#[tokio::test]
async fn a_slot_that_is_not_ours_any_more_stops_loudly() {
    let database = Database::new();
    database.sql("create table t (id int primary key); insert into t values (1)");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    let slot = database.name.clone();
    let expect = async |pipeline: &mut Pipeline, expected: &str| {
        let error = pipeline.try_drain().await.unwrap_err();
        assert_eq!(error.recovery(), connector_api::Recovery::Stop);
        let error = error.to_string();
        assert!(error.contains(expected) && error.contains("mainstem resnapshot"), "{error}");
        let findings = pipeline.connector.check(&pipeline.name, pipeline.position.as_ref()).await.unwrap();
        assert!(findings.iter().any(|finding| finding.message.contains(expected)), "{findings:?}");
    };
    database.sql(&format!("select pg_drop_replication_slot('{slot}'); insert into t values (2)"));
    expect(&mut pipeline, "is gone").await;
    database.sql(&format!("select pg_create_logical_replication_slot('{slot}', 'pgoutput')"));
    expect(&mut pipeline, "stands at").await;
    database.sql(&format!(
        "select pg_drop_replication_slot('{slot}'); select pg_create_logical_replication_slot('{slot}', 'test_decoding')"
    ));
    expect(&mut pipeline, "test_decoding").await;
    database.sql(&format!("select pg_drop_replication_slot('{slot}')"));
    // The way out that the message names.
    pipeline.position = Some(pipeline.connector.resnapshot(pipeline.position.as_ref().unwrap(), &[]).unwrap());
    pipeline.drain().await;
    assert_eq!(pipeline.count("public.t", Op::SnapshotRestart), 1);
    assert_eq!(pipeline.folded_text("public.t"), "1\n2");
    assert!(SourcePosition::new(vec![9]) != *pipeline.position.as_ref().unwrap());
    pipeline.position = Some(SourcePosition::new(vec![9]));
    assert!(pipeline.try_drain().await.unwrap_err().to_string().contains("cannot be read"));
}
