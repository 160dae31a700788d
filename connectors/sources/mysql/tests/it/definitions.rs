//! Definitions that change (`MY-DDL-*`).

use connector_api::{Op, Recovery};
use serde_json::json;
use test_servers::{Flavor, MySqlServer};

use crate::log_model::{Pipeline, database, database_on, follow, pipeline_of, table_text};

fn never() -> serde_json::Value {
    json!({ "snapshot": { "mode": "never" } })
}

fn columns(pipeline: &Pipeline, index: usize) -> Vec<String> {
    pipeline.changes[index].schema.columns().iter().map(|column| column.name.clone()).collect()
}

#[tokio::test]
async fn my_ddl_01_statements_that_nobody_parses_are_no_harm() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key)");
        let mut pipeline = pipeline_of(&database, &["t"], never());
        pipeline.drain().await;
        database.exec(
            "insert into t values (1); alter table t add a int default (1 + 1), add check (a > 0), comment 'insert into t'; insert into t values (2, 5); \
             create procedure p() insert into t values (77, 1); create view v as select * from t; create user if not exists u1@localhost; \
             grant select on t to u1@localhost; create event e on schedule every 1 year starts now() + interval 1 year do delete from t; drop event e; drop view v; \
             drop user u1@localhost; analyze table t; insert into t values (3, 6)",
        );
        pipeline.drain().await;
        assert_eq!(pipeline.changes.len(), 3, "{flavor:?}");
        assert_eq!((columns(&pipeline, 0), columns(&pipeline, 1)), (vec!["id".to_owned()], vec!["id".to_owned(), "a".to_owned()]));
    }
}

#[tokio::test]
async fn my_ddl_04_online_changes_by_a_shadow_table_and_a_rename() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key, a int); insert into t values (1, 1), (2, 2)");
        let mut pipeline = pipeline_of(&database, &["t"], json!({}));
        pipeline.drain().await;
        let mut running = pipeline.open(false).await.unwrap();
        // As gh-ost does it: a shadow table is filled, then both are renamed in one step. Then as pt-osc: by triggers.
        database.exec(
            "create table _t_gho like t; alter table _t_gho add b varchar(9) default 'new'; insert into _t_gho (id, a) select id, a from t; \
             update t set a = 3 where id = 1; update _t_gho set a = 3 where id = 1; rename table t to _t_del, _t_gho to t; \
             insert into t values (3, 3, 'x'); drop table _t_del; \
             create table _t_new like t; alter table _t_new drop column a; \
             create trigger ins after insert on t for each row replace into _t_new (id, b) values (new.id, new.b); insert into t values (4, 4, 'y'); \
             insert ignore into _t_new select id, b from t; rename table t to _t_old, _t_new to t; drop table _t_old; \
             insert into t values (5, 'z'); create table _t_gho (id int); drop table _t_gho; update t set b = 'end' where id = 1",
        );
        follow(&mut pipeline, &mut running, "the last change", |pipeline| {
            pipeline.changes.last().is_some_and(|change| change.after.as_ref().is_some_and(|row| row.contains(&"end".to_owned())))
        })
        .await;
        assert!(pipeline.changes.iter().all(|change| change.table() == format!("{}.t", database.name())), "{flavor:?}");
        let ids: Vec<String> = pipeline.folded(&format!("{}.t", database.name())).into_keys().map(|key| key[0].clone()).collect();
        assert_eq!(ids.join("\n"), table_text(&database, "t", &["id"]), "{flavor:?}");
        assert_eq!(columns(&pipeline, pipeline.changes.len() - 1), ["id", "b"]);
    }
}

#[tokio::test]
async fn my_ddl_05_a_column_that_takes_anothers_place_has_its_own_name() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key, a int, b int)");
        let mut pipeline = pipeline_of(&database, &["t"], never());
        pipeline.drain().await;
        // All of it is in the log before we read any of it.
        database.exec(
            "insert into t values (1, 10, 20); alter table t drop a, add c int; insert into t values (2, 30, 40); \
             alter table t modify c int first; insert into t values (50, 3, 60); alter table t change b B int; insert into t values (70, 4, 80)",
        );
        pipeline.drain().await;
        let names = |index| columns(&pipeline, index).join(",");
        assert_eq!([names(0), names(1), names(2), names(3)], ["id,a,b", "id,b,c", "c,id,b", "c,id,B"], "{flavor:?}");
        assert_eq!(pipeline.changes[2].after.as_ref().unwrap().join(","), "50,3,60");
    }
}

#[tokio::test]
async fn my_ddl_05_without_full_metadata_what_cannot_be_proved_is_refused() {
    for flavor in Flavor::ALL {
        let server = MySqlServer::start(flavor, &["--binlog-row-metadata=MINIMAL"]);
        let database = database_on(&server);
        database.exec(
            "create table t (id int primary key, a int unsigned, e enum('x', 'y')); insert into t values (1, 4294967295, 'y')",
        );
        let mut pipeline = pipeline_of(&database, &["t"], json!({}));
        pipeline.drain().await;
        database.exec("insert into t values (2, 4294967294, 'x')");
        pipeline.drain().await;
        assert_eq!(pipeline.folded_text(&format!("{}.t", database.name())), "1|4294967295|y\n2|4294967294|x", "{flavor:?}");
        // Same number and types of columns, other names.
        database.exec("alter table t drop a, drop e, add f int unsigned, add g enum('x', 'y'); insert into t values (3, 7, 'x')");
        let error = pipeline.try_drain().await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Stop);
        let error = error.to_string();
        assert!(error.contains("binlog_row_metadata") && error.contains(&format!("{}.t", database.name())), "{error}");
        let findings = pipeline.connector.check(&pipeline.name, pipeline.position.as_ref()).await.unwrap();
        assert!(findings.iter().any(|finding| finding.message.contains("binlog_row_metadata")), "{findings:?}");
        // What the message says helps.
        database.exec("set global binlog_row_metadata = FULL");
        pipeline.position = Some(pipeline.connector.resnapshot(pipeline.position.as_ref().unwrap(), &[]).unwrap());
        pipeline.drain().await;
        database.exec("insert into t values (4, 8, 'y')");
        pipeline.drain().await;
        assert_eq!(
            pipeline.folded_text(&format!("{}.t", database.name())),
            table_text(&database, "t", &["id", "f", "g"]),
            "{flavor:?}"
        );
    }
}

#[tokio::test]
async fn my_ddl_06_metadata_that_become_minimal_are_noticed_at_once() {
    for flavor in Flavor::ALL {
        let server = MySqlServer::start(flavor, &[]);
        let database = database_on(&server);
        database.exec("create table t (id int primary key, a int); insert into t values (1, 1)");
        let mut pipeline = pipeline_of(&database, &["t"], json!({}));
        pipeline.drain().await;
        database.exec("set global binlog_row_metadata = MINIMAL; insert into t values (2, 2)");
        let error = pipeline.try_drain().await.unwrap_err().to_string();
        assert!(error.contains("binlog_row_metadata"), "{flavor:?}: {error}");
    }
}

#[tokio::test]
async fn my_ddl_07_a_change_that_is_not_in_the_log_shows_in_its_rows() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key)");
        let mut pipeline = pipeline_of(&database, &["t"], never());
        pipeline.drain().await;
        database.exec("insert into t values (1); set sql_log_bin = 0; alter table t add a varchar(9); set sql_log_bin = 1; insert into t values (2, 'two')");
        pipeline.drain().await;
        assert_eq!((columns(&pipeline, 0).len(), columns(&pipeline, 1).len()), (1, 2), "{flavor:?}");
    }
}

#[tokio::test]
async fn my_ddl_08_renames_drops_and_conversions() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec(
            "create table a (id int primary key, v varchar(9)) charset latin1; create table c (id int primary key, w int); \
             insert into a values (1, 'one'); insert into c values (9, 9)",
        );
        let mut pipeline = pipeline_of(&database, &["a"], json!({}));
        pipeline.drain().await;
        let name = format!("{}.a", database.name());
        database.exec(
            "insert into a values (2, 'caf\u{e9}'); alter table a convert to character set utf8mb4; insert into a values (3, '\u{1F600}'); \
             alter database default character set latin1; insert into a values (4, 'x')",
        );
        pipeline.drain().await;
        assert_eq!(pipeline.folded_text(&name), "1|one\n2|caf\u{e9}\n3|\u{1F600}\n4|x", "{flavor:?}");
        // `a` is another table from here on.
        database.exec("rename table a to b, c to a; insert into a values (5, 5); insert into b values (6, 'no')");
        pipeline.drain().await;
        let last = pipeline.changes.last().unwrap();
        assert_eq!(
            (last.after.clone().unwrap(), columns(&pipeline, pipeline.changes.len() - 1)),
            (vec!["5".into(), "5".into()], vec!["id".into(), "w".into()])
        );
        // Dropped and made anew: what was there is void.
        database.exec("drop table a; create table a (id int primary key, z int); insert into a values (7, 70)");
        pipeline.drain().await;
        assert_eq!(pipeline.count(&name, Op::Truncate), 1, "{flavor:?}");
        assert_eq!(pipeline.folded_text(&name), "7|70");
        database.exec(
            "truncate table a; create table like_a like a; create table copied as select * from a; insert into a values (8, 80)",
        );
        pipeline.drain().await;
        assert_eq!(pipeline.folded_text(&name), "8|80", "{flavor:?}");
    }
}

#[tokio::test]
async fn my_ddl_10_columns_that_are_added_live_are_as_after_a_restart() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key)");
        let mut pipeline = pipeline_of(&database, &["t"], never());
        pipeline.drain().await;
        let mut running = pipeline.open(false).await.unwrap();
        database.exec(
            "insert into t values (1); alter table t add e enum('a', 'b'), add s set('x', 'y'), add u int unsigned, add b boolean, add f binary(4), \
             add j json, add l text character set latin1; insert into t values (2, 'b', 'x,y', 4294967295, true, 'ab', '{\"k\": 1}', 'caf\u{e9}')",
        );
        follow(&mut pipeline, &mut running, "both rows", |pipeline| pipeline.changes.len() == 2).await;
        drop(running);
        database.exec("insert into t select 3, e, s, u, b, f, j, l from t where id = 2");
        pipeline.drain().await;
        let (live, restarted) = (&pipeline.changes[1], &pipeline.changes[2]);
        assert_eq!(live.schema, restarted.schema, "{flavor:?}");
        assert_eq!(live.after.as_ref().unwrap()[1..], restarted.after.as_ref().unwrap()[1..], "{flavor:?}");
        assert_eq!(live.after.as_ref().unwrap()[1..6].join(" "), "b x,y 4294967295 1 61620000");
        // The snapshot gives the same.
        let mut anew = pipeline_of(&database, &["t"], json!({}));
        anew.drain().await;
        let read = anew.changes.iter().find(|change| change.after.as_ref().unwrap()[0] == "2").unwrap();
        assert_eq!((&read.schema, &read.after), (&live.schema, &live.after), "{flavor:?}");
    }
}
