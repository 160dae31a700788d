//! Tables that are read while the stream goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use connector_api::{Op, SnapshotRequest};
use serde_json::json;
use test_servers::Flavor;

use crate::log_model::{Pipeline, database, follow, pipeline_of, table_text};

fn ask(pipeline: &Pipeline, table: &str, condition: Option<&str>) {
    pipeline.snapshots.push(SnapshotRequest { table: table.to_owned(), condition: condition.map(str::to_owned) });
}

fn is_read(pipeline: &Pipeline, table: &str) -> bool {
    pipeline.status.snapshots().get(table).is_some_and(|progress| progress.done)
}

#[tokio::test]
async fn a_table_is_read_under_load_and_no_row_comes_behind_a_newer_one() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int, part varchar(20), a int, primary key (part, id)); insert into t values (1, 'p1', 0), (2, 'p2', 0)");
        for round in 0..14 {
            database.exec(&format!("insert into t select id + {}, concat('p', id % 50), 0 from t", 2 << round));
        }
        // The rows that are there already are in no log: only the request brings them.
        let mut pipeline = pipeline_of(&database, &["t"], json!({ "snapshot": { "mode": "never" } }));
        pipeline.drain().await;
        assert!(pipeline.changes.is_empty());
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, mut writer) = (Arc::clone(&stop), database.session());
        let load = std::thread::spawn(move || {
            let mut round = 1;
            while !stopped.load(Ordering::Relaxed) {
                round += 1;
                let id = round * 7919 % 32_768;
                writer.exec(&format!(
                    "update t set a = a + 1 where id between {id} and {0}; delete from t where id = {1}; insert into t values ({2}, 'new', {round}); \
                     update t set part = 'moved' where id = {0}",
                    id + 20,
                    id + 500,
                    round + 100_000
                ));
            }
        });
        let table = format!("{}.t", database.name());
        let mut running = pipeline.open(false).await.unwrap();
        ask(&pipeline, &table, None);
        follow(&mut pipeline, &mut running, "some chunks", |pipeline| pipeline.count(&table, Op::Read) > 5_000).await;
        // In the middle of it: the position knows how far it came.
        drop(running);
        let mut running = pipeline.open(false).await.unwrap();
        follow(&mut pipeline, &mut running, "the whole table", |pipeline| is_read(pipeline, &table)).await;
        stop.store(true, Ordering::Relaxed);
        load.join().unwrap();
        drop(running);
        pipeline.drain().await;
        assert_eq!(pipeline.folded_text(&table), table_text(&database, "t", &["id", "part", "a"]), "{flavor:?}");
        assert_eq!(pipeline.count(&table, Op::SnapshotRestart), 0);
        assert!(pipeline.count(&table, Op::Read) > 20_000, "{}", pipeline.count(&table, Op::Read));
    }
}

#[tokio::test]
async fn a_condition_reads_a_part_and_a_wrong_one_stops_nothing() {
    for flavor in Flavor::ALL {
        let database = database(flavor);
        database.exec("create table t (id int primary key, a varchar(9)); insert into t values (1, 'x'), (2, 'y'), (3, 'x'); create table nokey (a int)");
        let mut pipeline = pipeline_of(&database, &["t", "nokey"], json!({ "snapshot": { "mode": "never" } }));
        pipeline.drain().await;
        let name = |table: &str| format!("{}.{table}", database.name());
        let mut running = pipeline.open(false).await.unwrap();
        for (table, condition) in
            [("t", Some("no such column = 1")), ("nokey", None), ("gone", None), ("t", Some("a = 'x' or id = 99"))]
        {
            ask(&pipeline, &name(table), condition);
        }
        follow(&mut pipeline, &mut running, "two rows", |pipeline| pipeline.changes.len() == 2 && is_read(pipeline, &name("t")))
            .await;
        assert_eq!(pipeline.folded_text(&name("t")), "1|x\n3|x", "{flavor:?}");
        assert!(pipeline.status.values()["snapshot_failed"].contains("nokey"), "{:?}", pipeline.status.values());
        database.exec("insert into t values (4, 'z')");
        follow(&mut pipeline, &mut running, "the stream", |pipeline| pipeline.changes.len() == 3).await;
        tokio::time::timeout(Duration::from_millis(500), running.source.next()).await.ok();
        assert_eq!(pipeline.changes.len(), 3);
    }
}
