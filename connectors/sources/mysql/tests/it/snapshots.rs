//! Tables that are there already.

use connector_api::Op;
use serde_json::json;
use test_servers::Flavor;

use crate::log_model::{database, pipeline_of, table_text};

#[tokio::test]
async fn tables_are_read_and_followed() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec(
            "create table t (id int primary key, a varchar(20)); insert into t values (1, 'one'), (2, null); \
             create table nokey (a int); insert into nokey values (1), (1); \
             create table my (id int primary key) engine = MyISAM; insert into my values (7)",
        );
        let mut pipeline = pipeline_of(&database, &["*"], json!({}));
        pipeline.drain().await;
        let name = |table: &str| format!("{}.{table}", database.name());
        assert_eq!(pipeline.count(&name("t"), Op::Read), 2, "{flavor:?}");
        assert_eq!(pipeline.count(&name("nokey"), Op::Read), 2);
        assert_eq!(pipeline.count(&name("my"), Op::Read), 1);
        database
            .exec("insert into t values (3, 'x'); delete from my; insert into nokey values (2); update t set a = 'y' where id = 1");
        pipeline.drain().await;
        assert_eq!(pipeline.folded_text(&name("t")), table_text(&database, "t", &["id", "a"]), "{flavor:?}");
        assert_eq!(pipeline.folded_text(&name("my")), "");
        assert_eq!(pipeline.count(&name("nokey"), Op::Insert), 1);
        assert_eq!(pipeline.changes.len(), 5 + 4, "{flavor:?}");
    }
}

#[tokio::test]
async fn a_large_table_is_read_in_parts() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec(
            "create table big (id bigint primary key, a varchar(40)); insert into big values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')",
        );
        for _ in 0..16 {
            database.exec("insert into big select id + (select max(id) from big), a from big");
        }
        database.exec("analyze table big");
        let mut pipeline = pipeline_of(&database, &["big"], json!({ "snapshot": { "connections": 3 } }));
        pipeline.budget = 4 << 20;
        pipeline.drain().await;
        let table = format!("{}.big", database.name());
        assert_eq!(pipeline.count(&table, Op::Read), 262_144, "{flavor:?}");
        assert_eq!(pipeline.folded(&table).len(), 262_144, "{flavor:?}");
        assert!(pipeline.groups > 10, "{}", pipeline.groups);
        let progress = pipeline.status.snapshots();
        assert!(progress[&table].done && progress[&table].rows == 262_144, "{progress:?}");
    }
}
