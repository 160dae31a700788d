//! Tables that are read in whole, while others write to them, and while things break.

use connector_api::{Op, Recovery};
use serde_json::json;

use crate::{cli_server::Database, log_model::pipeline_of};

const SORTED: &str = "select id || '|' || a from t order by (id || '|' || a) collate \"C\"";

#[tokio::test]
async fn writers_at_the_boundary_are_in_the_snapshot_or_in_the_stream() {
    let database = Database::new();
    database.sql(
        "create table t (id bigserial primary key, a text); insert into t (a) select 'x' from generate_series(1, 30000); \
         create table account (id int primary key, n int); insert into account select g, 100 from generate_series(1, 50) g",
    );
    let script = tempfile::NamedTempFile::new().unwrap();
    let statements = "\\set a random(1, 50)\n\\set b random(1, 50)\n\\set r random(1, 30000)\nbegin;\n\
                      update account set n = n - 1 where id = least(:a, :b);\nupdate account set n = n + 1 where id = greatest(:a, :b);\n\
                      insert into t (a) values ('new' || :r);\nupdate t set a = a || 'u' where id = :r;\ndelete from t where id = :r + 7;\ncommit;\n";
    std::fs::write(script.path(), statements).unwrap();
    let mut load = database
        .server
        .tool("pgbench")
        .args(["-n", "-c", "8", "-T", "6", "-f"])
        .arg(script.path())
        .arg(&database.name)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    database.wait_for("select max(id) > 30100 from t", "t");
    let mut pipeline = pipeline_of(&database, &["t", "account"], json!({ "snapshot": { "connections": 4 } }));
    pipeline.drain().await;
    // All connections saw one moment: what moved between accounts is in one of them.
    let read = pipeline.changes.iter().filter(|change| change.op == Op::Read && change.table() == "public.account");
    assert_eq!(read.map(|change| change.after.as_ref().unwrap()[1].parse::<i64>().unwrap()).sum::<i64>(), 5000);
    load.wait().unwrap();
    pipeline.drain().await;
    assert_eq!(pipeline.folded_text("public.t"), database.sql(SORTED));
    let reads = pipeline.count("public.t", Op::Read);
    assert!(reads >= 30_000, "{reads}");
    let progress = pipeline.status.snapshots()["public.t"];
    assert!(progress.done && progress.rows == reads as u64, "{progress:?}");
    // Inserted once, whether read or streamed.
    let mut ids: Vec<&String> = pipeline
        .changes
        .iter()
        .filter(|change| change.table() == "public.t" && matches!(change.op, Op::Read | Op::Insert))
        .map(|change| &change.after.as_ref().unwrap()[0])
        .collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[tokio::test]
async fn an_attempt_that_was_cut_is_voided() {
    let database = Database::new();
    database.sql(
        "create table small (id int primary key, a text); insert into small values (1, 'x'); \
         create table t (id int primary key, a text); insert into t select g, repeat('x', 300) from generate_series(1, 40000) g",
    );
    let mut pipeline = pipeline_of(&database, &["t", "small"], json!({}));
    pipeline.budget = 2 << 20;
    let mut running = pipeline.open(false).await.unwrap();
    while pipeline.count("public.t", Op::Read) < 5_000 {
        let group = running.source.next().await.unwrap().unwrap();
        pipeline.commit(group);
        running.source.confirm(pipeline.position.as_ref().unwrap());
    }
    drop(running);
    database.sql("delete from t where id <= 10; insert into t values (50000, 'late')");
    // Cut by the server this time: retried, and no old snapshot is asked for again.
    let mut running = pipeline.open(false).await.unwrap();
    while pipeline.count("public.t", Op::SnapshotRestart) < 1 {
        let group = running.source.next().await.unwrap().unwrap();
        pipeline.commit(group);
    }
    database
        .sql("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'COPY%'");
    let error = loop {
        match running.source.next().await {
            Ok(Some(group)) => pipeline.commit(group),
            Ok(None) => panic!("an end without an error"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.recovery(), Recovery::Retry, "{error}");
    drop(running);
    pipeline.drain().await;
    assert_eq!(pipeline.count("public.t", Op::SnapshotRestart), 2);
    assert_eq!(pipeline.folded("public.t").len(), 39_991);
    assert_eq!(pipeline.folded_text("public.t"), database.sql(SORTED));
    assert_eq!(pipeline.folded_text("public.small"), "1|x");
    assert_eq!(database.sql("select count(*) from pg_replication_slots where temporary and database = current_database()"), "0");
}

#[tokio::test]
async fn a_slot_that_was_made_before_a_crash_is_taken_up() {
    let database = Database::new();
    database.sql("create table t (id int primary key, a text); insert into t values (1, 'x')");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    // Opened, and cut before the log has anything.
    drop(pipeline.open(false).await.unwrap());
    database.sql("insert into t values (2, 'y')");
    pipeline.drain().await;
    assert_eq!(pipeline.count("public.t", Op::Read), 2);
    assert_eq!(pipeline.count("public.t", Op::Insert), 0);
    // The data directory was deleted: everything is read again, through the same slot.
    let mut anew = pipeline_of(&database, &["t"], json!({}));
    anew.drain().await;
    assert_eq!(anew.folded_text("public.t"), "1|x\n2|y");
}

#[tokio::test]
async fn tables_come_and_go_and_are_read_again_on_demand() {
    let database = Database::new();
    database.sql("create table t (id int primary key, a text); create table u (id int primary key, a text); insert into t values (1, 'x'); insert into u values (1, 'u')");
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    database.sql("insert into u values (2, 'u'); insert into t values (2, 'y')");
    let both = pipeline_of(&database, &["t", "u"], json!({}));
    pipeline.connector = both.connector;
    pipeline.drain().await;
    database.sql("insert into u values (3, 'u'); insert into t values (3, 'z')");
    pipeline.drain().await;
    assert_eq!((pipeline.count("public.u", Op::Read), pipeline.count("public.u", Op::Insert)), (2, 1));
    assert_eq!((pipeline.count("public.t", Op::Read), pipeline.count("public.t", Op::Insert)), (1, 2));

    let position = pipeline.position.clone().unwrap();
    assert!(pipeline.connector.resnapshot(&position, &["public.nothing".into()]).is_err());
    pipeline.position = Some(pipeline.connector.resnapshot(&position, &["public.t".into()]).unwrap());
    database.sql("update t set a = 'new'");
    pipeline.drain().await;
    assert_eq!((pipeline.count("public.t", Op::SnapshotRestart), pipeline.count("public.u", Op::SnapshotRestart)), (1, 0));
    assert_eq!(pipeline.folded_text("public.t"), "1|new\n2|new\n3|new");

    pipeline.connector = pipeline_of(&database, &["t"], json!({})).connector;
    pipeline.drain().await;
    database.sql(
        "delete from u where id = 1; drop table t; create table t (id int primary key, a text); insert into t values (9, 'nine')",
    );
    pipeline.connector = pipeline_of(&database, &["public.*"], json!({})).connector;
    pipeline.drain().await;
    // What is in the log of both is void: of one, changes were missed; the other is another table.
    assert_eq!(pipeline.folded_text("public.u"), "2|u\n3|u");
    assert_eq!(pipeline.folded_text("public.t"), "9|nine");
}

#[tokio::test]
async fn only_changes_are_read_when_the_file_says_so() {
    let database = Database::new();
    database.sql("create table t (id int primary key, a text); insert into t values (1, 'x')");
    let mut pipeline = pipeline_of(&database, &["t"], json!({ "snapshot": { "mode": "never" } }));
    pipeline.drain().await;
    database.sql("insert into t values (2, 'y')");
    pipeline.drain().await;
    assert_eq!(pipeline.folded_text("public.t"), "2|y");
}

#[tokio::test]
async fn a_given_publication_decides_what_is_read() {
    let database = Database::new();
    // Lists of columns and conditions are as of 15.
    let is_filtered = database.server.version() >= 15;
    let filter = if is_filtered { "(id, a) where (id > 0)" } else { "" };
    database.sql(&format!(
        "create table t (id int primary key, a text, secret text); create table other (id int primary key); \
         insert into t values (1, 'x', 's'), (-1, 'n', 's'); create publication given for table t {filter}, other"
    ));
    let extra = json!({ "publication": { "name": "given", "create": false } });
    let mut pipeline = pipeline_of(&database, &["t"], extra);
    pipeline.drain().await;
    database.sql("insert into t values (2, 'y', 's'), (-2, 'n', 's'); insert into other values (1)");
    pipeline.drain().await;
    let expected = if is_filtered { "1|x\n2|y" } else { "-1|n|s\n-2|n|s\n1|x|s\n2|y|s" };
    assert_eq!(pipeline.folded_text("public.t"), expected);
    assert_eq!(pipeline.changes.len(), expected.lines().count());
    assert_eq!(pipeline.connector.drop_state(&pipeline.name).await.unwrap().len(), 1, "the publication stays");
    // One that somebody else made is not altered, whatever its name.
    let mut other = pipeline_of(&database, &["t"], json!({ "publication": { "name": "given" } }));
    let error = other.try_drain().await.unwrap_err().to_string();
    assert!(error.contains("not made by Mainstem") && error.contains("create: false"), "{error}");
    assert_eq!(database.sql("select count(*) from pg_publication_tables"), "2");
}

#[tokio::test]
async fn many_tables_interleave_in_one_group() {
    let database = Database::new();
    database.sql(
        "do $$ begin for i in 1..200 loop execute format('create table t%s (id int primary key, a text)', i); \
         execute format('insert into t%s values (0, ''x'')', i); end loop; end $$;",
    );
    let mut pipeline = pipeline_of(&database, &["public.*"], json!({}));
    pipeline.drain().await;
    assert_eq!(pipeline.changes.len(), 200);
    let before = pipeline.groups;
    database.sql(
        "do $$ begin for k in 1..20 loop for i in 1..200 loop execute format('insert into t%s values (%s, ''x'')', i, k); end loop; end loop; end $$;",
    );
    pipeline.drain().await;
    assert_eq!(pipeline.changes.len(), 4200);
    assert!(pipeline.groups - before < 200, "{} groups", pipeline.groups - before);
    let order: Vec<String> =
        pipeline.changes[200..].iter().map(|change| format!("{}.{}", change.after.as_ref().unwrap()[0], change.table())).collect();
    let expected: Vec<String> = (1..=20).flat_map(|k| (1..=200).map(move |i| format!("{k}.public.t{i}"))).collect();
    assert_eq!(order, expected);
}
