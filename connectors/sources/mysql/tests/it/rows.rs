//! Every way in which rows stand in the log (`MY-ROW-*`, `MDB-*`).

use connector_api::{Op, Recovery};
use serde_json::json;
use test_servers::{Flavor, MySqlServer};

use crate::log_model::{NULL, Pipeline, UNCHANGED, database, database_on, pipeline_of, table_text};

fn never() -> serde_json::Value {
    json!({ "snapshot": { "mode": "never" } })
}

fn after(pipeline: &Pipeline, index: usize) -> Vec<String> {
    pipeline.changes[index].after.clone().unwrap_or_default()
}

async fn error_of(pipeline: &mut Pipeline) -> String {
    let error = pipeline.try_drain().await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Stop, "{error}");
    error.to_string()
}

#[tokio::test]
async fn my_row_01_columns_that_are_not_in_the_log_are_unchanged_not_null() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database
            .exec("create table t (id int primary key, a varchar(9), b text); insert into t values (1, 'a', 'b'), (2, 'c', 'd')");
        let mut pipeline = pipeline_of(&database, &["t"], json!({}));
        pipeline.drain().await;
        // Flipped in the middle of the run, in a session of its own.
        database.exec(
            "update t set a = 'full' where id = 1; set session binlog_row_image = MINIMAL; update t set a = 'min' where id = 1; \
             update t set id = 3 where id = 2; set session binlog_row_image = NOBLOB; update t set a = 'nob' where id = 1; \
             delete from t where id = 3; set session binlog_row_image = FULL; update t set b = null where id = 1",
        );
        pipeline.drain().await;
        assert_eq!(after(&pipeline, 3), ["1", "min", UNCHANGED], "{flavor:?}");
        assert_eq!((pipeline.changes[4].op, after(&pipeline, 4)), (Op::Move, vec!["3".into(), UNCHANGED.into(), UNCHANGED.into()]));
        assert_eq!(after(&pipeline, 5), ["1", "nob", UNCHANGED]);
        assert_eq!(after(&pipeline, 7), ["1", "nob", NULL]);
        let table = format!("{}.t", database.name());
        assert_eq!(pipeline.folded_text(&table), table_text(&database, "t", &["id", "a", "b"]), "{flavor:?}");
    }
}

#[tokio::test]
async fn my_row_02_partial_updates_of_documents_arrive_whole() {
    let database = database(Flavor::MySql);
    database.exec(r#"create table t (id int primary key, j json); insert into t values (1, '{"a": 1, "b": [1, 2, 3], "long": "xxxxxxxxxxxxxxxxxxxx"}')"#);
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    database.exec(
        "set session binlog_row_value_options = PARTIAL_JSON; update t set j = json_set(j, '$.a', 2); \
         update t set j = json_remove(j, '$.b[0]'); update t set j = json_replace(j, '$.b[0]', 'x', '$.a', 9); \
         update t set j = json_set(j, '$.n', json_object('k', 1))",
    );
    pipeline.drain().await;
    let table = format!("{}.t", database.name());
    assert_eq!(pipeline.changes.len(), 5);
    assert_eq!(pipeline.folded_text(&table), table_text(&database, "t", &["id", "j"]));
}

#[tokio::test]
async fn my_row_03_statements_instead_of_rows_stop_loudly() {
    for flavor in Flavor::ALL {
        for format in ["STATEMENT", "MIXED"] {
            let database = database(flavor);
            database.exec("create table t (id int primary key); create table other (id int primary key)");
            let mut pipeline = pipeline_of(&database, &["t"], never());
            pipeline.drain().await;
            // Of other tables, statements are no harm.
            database.exec(&format!("set session binlog_format = {format}; insert into other values (1)"));
            pipeline.drain().await;
            database.exec(&format!("set session binlog_format = {format}; insert into t values (1)"));
            let error = error_of(&mut pipeline).await;
            assert!(error.contains("binlog_format") && error.contains(&format!("{}.t", database.name())), "{error}");
        }
    }
}

#[tokio::test]
async fn my_row_04_compressed_transactions_go_on_at_any_row() {
    let database = database(Flavor::MySql);
    database.exec("create table t (id int primary key, a varchar(100))");
    let mut pipeline = pipeline_of(&database, &["t"], never());
    pipeline.drain().await;
    let rows = (1..=20_000).map(|id| format!("({id}, 'row {id}')")).collect::<Vec<_>>().join(", ");
    database.exec(&format!(
        "set session binlog_transaction_compression = ON; insert into t values {rows}; update t set a = 'u' where id = 5"
    ));
    pipeline.budget = 1 << 20;
    let mut running = pipeline.open(true).await.unwrap();
    let mut cuts = Vec::new();
    while let Some(group) = running.source.next().await.unwrap() {
        let (position, done) = (group.position.clone(), group.reached_end);
        pipeline.commit(group);
        cuts.push((position, pipeline.changes.len()));
        if done {
            break;
        }
    }
    drop(running);
    assert_eq!(pipeline.changes.len(), 20_001);
    let inside = cuts.iter().filter(|(_, rows)| (1..20_000).contains(rows)).count();
    assert!(inside > 2, "{inside} groups end within the transaction");
    for (position, rows) in cuts {
        let mut resumed = pipeline_of(&database, &["t"], never());
        resumed.position = Some(position);
        resumed.drain().await;
        assert_eq!(resumed.changes.len(), 20_001 - rows);
        assert!(resumed.changes.first().is_none_or(|change| change.after == pipeline.changes[rows].after));
    }
}

#[tokio::test]
async fn my_row_05_prepared_transactions_arrive_when_they_are_committed() {
    for flavor in Flavor::ALL {
        // Its own: a pipeline of another test may begin while one of these is prepared, and has to stop when it is committed.
        let server = MySqlServer::start(flavor, &[]);
        let database = database_on(&server);
        database.exec("create table t (id int primary key, a varchar(9)); insert into t values (0, 'zero')");
        let mut pipeline = pipeline_of(&database, &["t"], json!({}));
        pipeline.drain().await;
        let name = database.name().to_owned();
        database.exec(&format!(
            "xa start '{name}a'; insert into t values (1, 'a'); update t set a = 'xa' where id = 0; xa end '{name}a'; xa prepare '{name}a'"
        ));
        database.exec(&format!("xa start '{name}b'; insert into t values (2, 'b'); xa end '{name}b'; xa prepare '{name}b'"));
        database.exec("insert into t values (3, 'c'); flush binary logs");
        pipeline.drain().await;
        assert_eq!(pipeline.changes.len(), 2, "{flavor:?}: prepared rows are not committed");
        // After a restart of ours, and in another file.
        database.exec(&format!(
            "xa rollback '{name}b'; insert into t values (4, 'd'); xa commit '{name}a'; insert into t values (5, 'e')"
        ));
        pipeline.drain().await;
        let ops: Vec<(Op, String)> = pipeline.changes[2..].iter().map(|c| (c.op, c.after.as_ref().unwrap()[0].clone())).collect();
        let expected = [(Op::Insert, "4"), (Op::Insert, "1"), (Op::Update, "0"), (Op::Insert, "5")];
        assert_eq!(ops, expected.map(|(op, id)| (op, id.to_owned())), "{flavor:?}");
        // In one phase, and one without rows.
        database.exec(&format!(
            "xa start '{name}c'; insert into t values (6, 'f'); xa end '{name}c'; xa commit '{name}c' one phase; \
             xa start '{name}d'; xa end '{name}d'; xa prepare '{name}d'; xa commit '{name}d'"
        ));
        pipeline.drain().await;
        let table = format!("{name}.t");
        assert_eq!(pipeline.folded_text(&table), table_text(&database, "t", &["id", "a"]), "{flavor:?}");
        assert_eq!(pipeline.changes.len(), 7);
    }
}

#[tokio::test]
async fn my_row_06_tables_without_transactions_and_savepoints_keep_the_position_moving() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table m (id int primary key, a int) engine = MyISAM; create table t (id int primary key)");
        let mut pipeline = pipeline_of(&database, &["m", "t"], never());
        pipeline.drain().await;
        database.exec(
            "insert into m values (1, 1), (2, 2); update m set a = 3 where id = 1; begin; insert into t values (1); savepoint s; \
             insert into t values (2); rollback to savepoint s; release savepoint s; insert into t values (3); commit; \
             begin; insert into t values (4); rollback; delete from m where id = 2; create table last_event (id int)",
        );
        pipeline.drain().await;
        let name = |table: &str| format!("{}.{table}", database.name());
        assert_eq!(pipeline.folded_text(&name("m")), "1|3", "{flavor:?}");
        assert_eq!(pipeline.folded_text(&name("t")), "1\n3", "{flavor:?}");
    }
}

#[tokio::test]
async fn my_row_08_an_incident_stops_loudly_and_checksums_may_change() {
    for flavor in Flavor::ALL {
        let server = MySqlServer::start(flavor, &[]);
        let database = database_on(&server);
        database.exec("create table t (id int primary key)");
        let mut pipeline = pipeline_of(&database, &["t"], never());
        pipeline.drain().await;
        let mut running = pipeline.open(false).await.unwrap();
        database.exec(
            "insert into t values (1); set global binlog_checksum = NONE; insert into t values (2); set global binlog_checksum = CRC32; \
             insert into t values (3)",
        );
        crate::log_model::follow(&mut pipeline, &mut running, "rows of three files", |pipeline| pipeline.changes.len() == 3).await;
        drop(running);
        // Begun in a file with one algorithm, while the server has the other.
        database.exec("set global binlog_checksum = NONE; insert into t values (4)");
        pipeline.drain().await;
        assert_eq!(pipeline.changes.len(), 4, "{flavor:?}");
    }
}

#[tokio::test]
async fn my_row_11_statements_over_several_tables_and_keys() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec(
            "create table a (id int primary key, n int); create table b (id int primary key, n int); create table log (id int); \
             create trigger tr after insert on a for each row replace into b values (new.id, -1); insert into a values (100, 0); \
             create table dup (x int, y int); create table parent (id int primary key); \
             create table child (id int primary key, p int, foreign key (p) references parent (id) on delete restrict)",
        );
        let mut pipeline = pipeline_of(&database, &["a", "b", "dup"], json!({}));
        pipeline.drain().await;
        database.exec(
            "insert into a values (1, 1), (2, 2); update a join b on a.id = b.id set a.n = 7, b.n = 8; replace into a values (2, 20); \
             insert into a values (1, 5) on duplicate key update n = 50; update a set id = id + 1000 where id = 1; \
             insert into dup values (1, 1), (1, 1), (2, 2); delete from dup limit 1; update dup set y = 9 where x = 1",
        );
        pipeline.drain().await;
        let name = |table: &str| format!("{}.{table}", database.name());
        for table in ["a", "b"] {
            assert_eq!(pipeline.folded_text(&name(table)), table_text(&database, table, &["id", "n"]), "{flavor:?} {table}");
        }
        assert_eq!(pipeline.count(&name("a"), Op::Move), 1);
        // Without a key, rows are the same as their values.
        let of_dup: Vec<Op> =
            pipeline.changes.iter().filter(|change| change.table() == name("dup")).map(|change| change.op).collect();
        assert_eq!(of_dup, [Op::Insert, Op::Insert, Op::Insert, Op::Delete, Op::Update], "{flavor:?}");
    }
}

#[tokio::test]
async fn my_row_12_names_of_any_kind_are_told_apart() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec(
            "create table `Case` (id int primary key); create table `case` (id int primary key); \
             create table `we``ird $[1] \"q\" a.b` (`a b` int primary key, `c``d` int)",
        );
        let tables = ["Case", "case", "`we``ird $[1] \"q\" a.b`"];
        database.exec(
            "insert into `Case` values (1); insert into `case` values (2); insert into `we``ird $[1] \"q\" a.b` values (3, 4)",
        );
        let mut pipeline = pipeline_of(&database, &tables, json!({}));
        pipeline.drain().await;
        database
            .exec("insert into `Case` values (10); insert into `case` values (20); update `we``ird $[1] \"q\" a.b` set `c``d` = 5");
        pipeline.drain().await;
        let name = |table: &str| format!("{}.{table}", database.name());
        assert_eq!(pipeline.folded_text(&name("Case")), "1\n10", "{flavor:?}");
        assert_eq!(pipeline.folded_text(&name("case")), "2\n20");
        assert_eq!(pipeline.folded_text(&name("we`ird $[1] \"q\" a.b")), "3|5");
    }
}

#[tokio::test]
async fn mdb_02_domains_are_followed_each_for_itself() {
    let server = MySqlServer::start(Flavor::MariaDb, &["--gtid-strict-mode=ON"]);
    let database = database_on(&server);
    database.exec("create table t (id int primary key)");
    let mut pipeline = pipeline_of(&database, &["t"], never());
    pipeline.drain().await;
    for round in 1..=3 {
        database.exec(&format!(
            "set gtid_domain_id = 5; insert into t values ({round}); set gtid_domain_id = 9; insert into t values ({})",
            round + 10
        ));
        pipeline.drain().await;
        assert_eq!(pipeline.changes.len(), round * 2);
    }
    let lines = pipeline.connector.describe(pipeline.position.as_ref().unwrap()).unwrap();
    let gtids = &lines.iter().find(|(name, _)| name == "gtids").unwrap().1;
    assert!(gtids.contains("5-") && gtids.contains("9-") && gtids.contains("0-"), "{gtids}");
}

#[tokio::test]
async fn mdb_03_compressed_and_annotated_events_are_read() {
    let server = MySqlServer::start(
        Flavor::MariaDb,
        &["--log-bin-compress=ON", "--log-bin-compress-min-len=10", "--binlog-annotate-row-events=ON"],
    );
    let database = database_on(&server);
    database.exec("create table t (id int primary key, a varchar(200))");
    let mut pipeline = pipeline_of(&database, &["t"], never());
    pipeline.drain().await;
    let rows = (1..=2000).map(|id| format!("({id}, repeat('z', 150))")).collect::<Vec<_>>().join(", ");
    database.exec(&format!("insert into t values {rows}; update t set a = repeat('u', 100) where id < 50; delete from t where id > 1990; flush binary logs; insert into t values (9999, 'end')"));
    pipeline.drain().await;
    let table = format!("{}.t", database.name());
    assert_eq!(pipeline.folded_text(&table), table_text(&database, "t", &["id", "a"]));
}

#[tokio::test]
async fn mdb_05_compressed_columns_system_versioning_and_own_types() {
    let database = database(Flavor::MariaDb);
    // The types of its own came one by one; before, they are text.
    let has_types = MySqlServer::shared(Flavor::MariaDb).version() >= (10, 10);
    let (uuid, inet4) = if has_types { ("uuid", "inet4") } else { ("varchar(36)", "varchar(15)") };
    database.exec(&format!(
        "create table t (id int primary key, c text compressed, u {uuid}, i4 {inet4}, i6 inet6) with system versioning; create sequence s; \
         insert into t values (1, repeat('c', 300), '00112233-4455-6677-8899-aabbccddeeff', '1.2.3.4', '::ffff:1.2.3.4')"
    ));
    let mut pipeline = pipeline_of(&database, &["t"], json!({}));
    pipeline.drain().await;
    database.exec(
        "insert into t select 2, c, u, i4, i6 from t; set system_versioning_alter_history = KEEP; \
         alter table t add d varchar(500) compressed; update t set d = repeat('d', 400)",
    );
    pipeline.drain().await;
    let rows = pipeline.folded(&format!("{}.t", database.name()));
    // Old versions of rows are no rows of the table.
    assert_eq!(rows.len(), 2, "{rows:?}");
    for row in rows.values() {
        assert_eq!(
            (row[1].len(), row[2].as_str(), row[3].as_str(), row[4].as_str()),
            (
                300,
                if has_types { "00112233445566778899aabbccddeeff" } else { "00112233-4455-6677-8899-aabbccddeeff" },
                "1.2.3.4",
                "::ffff:1.2.3.4"
            )
        );
    }
}
