//! Changes arrive as they were made.

use connector_api::Op;
use serde_json::json;
use test_servers::Flavor;

use crate::log_model::{database, pipeline_of, table_text};

#[tokio::test]
async fn inserts_updates_deletes_and_moves_arrive_in_order() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key, a varchar(20)); insert into t values (1, 'old')");
        let mut pipeline = pipeline_of(&database, &["t"], json!({ "snapshot": { "mode": "never" } }));
        pipeline.drain().await;
        assert!(pipeline.changes.is_empty(), "{flavor:?}");
        database.exec(
            "begin; insert into t values (2, 'two'), (3, null); update t set a = 'zwei' where id = 2; commit; \
             update t set id = 30 where id = 3; delete from t where id = 1",
        );
        pipeline.drain().await;
        let ops: Vec<Op> = pipeline.changes.iter().map(|change| change.op).collect();
        assert_eq!(ops, [Op::Insert, Op::Insert, Op::Update, Op::Move, Op::Delete], "{flavor:?}");
        let transactions: Vec<_> = pipeline.changes.iter().map(|change| change.transaction.clone()).collect();
        assert!(transactions.iter().all(Option::is_some));
        assert_eq!(transactions[0], transactions[2]);
        assert_ne!(transactions[2], transactions[3]);
        let table = format!("{}.t", database.name());
        assert_eq!(pipeline.folded_text(&table), table_text(&database, "t", &["id", "a"]), "{flavor:?}");
    }
}
