//! What happens to a writer of MySQL or MariaDB that is late, lost, locked out or sent away: SINK-DB-01, SINK-DB-05, SINK-DB-08.
use std::sync::Arc;

use connector_api::{ColumnType as T, NextOffsets, Recovery, Target};
use test_servers::{Flavor, MySqlServer};

use crate::{
    database::{Database, context, topic},
    rows::{Change, V, delete, insert, moved, rows_from, schema_of, simple, text, update},
};

fn row(id: i64, a: &str) -> Vec<V> {
    vec![V::Int(id), text(a), V::Null]
}

fn next(offset: i64) -> NextOffsets {
    NextOffsets::from([(0, offset)])
}

/// Rows of every kind, many enough to be staged: 40 of them stay. Then another shape.
pub async fn write_all_kinds(target: &dyn Target, table: &str) {
    let schema = simple(table);
    let mut sink = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap().sink;
    let start: Vec<Change> = (0..50).map(|id| insert(row(id, "a"))).collect();
    sink.write(rows_from(&schema, 0, &start)).await.unwrap();
    sink.flush().await.unwrap();
    let changes: Vec<Change> = (0..50)
        .map(|id| match id % 5 {
            0 => delete(row(id, "")),
            1 => moved(row(id, ""), vec![V::Int(id + 100), V::Unchanged, text("moved")]),
            2 => update(vec![V::Int(id), V::Unchanged, text("patched")]),
            _ => update(row(id, "b")),
        })
        .collect();
    sink.write(rows_from(&schema, 50, &changes)).await.unwrap();
    sink.flush().await.unwrap();
    let columns = [("id", T::Int64, "bigint"), ("a", T::Text, "text"), ("b", T::Text, "text"), ("c", T::Bool, "boolean")];
    let wider = schema_of(table, &columns, 1);
    sink.write(rows_from(&wider, 100, &[update(vec![V::Int(3), text("c"), V::Null, V::Bool(true)])])).await.unwrap();
    sink.flush().await.unwrap();
}

/// Waits until that many sessions of ours wait for a lock on a table.
async fn wait_for_waiters(database: &Database, waiters: &str) {
    let Database::MySql { name, .. } = database else { return };
    // Other tests wait for locks of their own, in other databases.
    let sql = format!(
        "SELECT count(*) FROM information_schema.processlist WHERE state LIKE '%metadata lock%' AND info LIKE '%{name}%' AND id <> connection_id()"
    );
    while database.lines(&sql).await != [waiters] {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lost_connection_is_tried_again_and_nothing_is_lost() {
    for database in Database::each_mysql().await {
        let Database::MySql { name, .. } = &database else { return };
        let schema = simple("t");
        let target = database.target("").await;
        let mut sink = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap().sink;
        sink.write(rows_from(&schema, 0, &[insert(row(1, "a"))])).await.unwrap();
        sink.flush().await.unwrap();
        // Lost while it waits for a lock in the middle of a flush.
        database.run("LOCK TABLES t WRITE").await;
        sink.write(rows_from(&schema, 1, &[insert(row(2, "a"))])).await.unwrap();
        let flushing = tokio::spawn(async move { sink.flush().await });
        wait_for_waiters(&database, "1").await;
        let waiting = format!(
            "SELECT id FROM information_schema.processlist WHERE state LIKE '%metadata lock%' AND info LIKE '%{name}%' AND id <> connection_id()"
        );
        let id = database.lines(&waiting).await.remove(0);
        database.run(&format!("KILL {id}")).await;
        let error = flushing.await.unwrap().unwrap_err();
        assert_eq!(error.recovery(), Recovery::Retry, "{error}");
        database.run("UNLOCK TABLES").await;
        let mut opened = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap();
        assert_eq!(opened.next, next(1));
        opened.sink.write(rows_from(&schema, 1, &[insert(row(2, "a"))])).await.unwrap();
        opened.sink.flush().await.unwrap();
        assert_eq!(database.lines("SELECT id FROM t ORDER BY id").await, ["1", "2"]);
    }
}

#[tokio::test]
async fn a_dropped_flush_leaves_nothing_behind() {
    for database in Database::each_mysql().await {
        let schema = simple("t");
        let target = database.target("connections: 1").await;
        let mut sink = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap().sink;
        database.run("LOCK TABLES t WRITE").await;
        // Enough rows for a stage.
        let rows: Vec<_> = (0..50).map(|id| insert(row(id, "a"))).collect();
        sink.write(rows_from(&schema, 0, &rows)).await.unwrap();
        let flushing = tokio::spawn(async move { sink.flush().await });
        wait_for_waiters(&database, "1").await;
        flushing.abort();
        assert!(flushing.await.unwrap_err().is_cancelled());
        database.run("UNLOCK TABLES").await;
        let mut opened = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap();
        assert_eq!(opened.next, NextOffsets::new());
        opened.sink.write(rows_from(&schema, 0, &rows)).await.unwrap();
        opened.sink.flush().await.unwrap();
        assert_eq!(database.lines("SELECT count(*) FROM t").await, ["50"]);
    }
}

/// `ALTER TABLE` commits, so the transaction of a flush cannot guard it: the offset rows are looked at first.
#[tokio::test]
async fn an_older_writer_does_not_change_the_tables_shape() {
    for database in Database::each_mysql().await {
        let schema = simple("t");
        let mut older = database.open("", &schema, 1).await.sink;
        older.write(rows_from(&schema, 0, &[insert(row(1, "a"))])).await.unwrap();
        older.flush().await.unwrap();
        database.open("", &schema, 1).await;
        let wider = schema_of("t", &[("id", T::Int32, "integer"), ("new", T::Text, "text")], 1);
        older.write(rows_from(&wider, 1, &[insert(vec![V::Int(2), text("x")])])).await.unwrap();
        let error = older.flush().await.unwrap_err();
        assert!(error.recovery() == Recovery::Stop && error.to_string().contains("another writer took over"), "{error}");
        let columns = "SELECT count(*) FROM information_schema.columns WHERE table_schema = database() AND table_name = 't'";
        assert_eq!(database.lines(columns).await, ["3"]);
    }
}

/// Shapes are given before the transaction. If it fails then, the next one finds them, and nothing is lost or there twice.
#[tokio::test]
async fn a_flush_that_fails_after_the_shape_is_written_again() {
    for database in Database::each_mysql().await {
        let first = simple("t");
        let second = schema_of("t", &[("id", T::Int64, "bigint"), ("a", T::Text, "text"), ("n", T::Int32, "integer")], 1);
        let mut sink = database.open("", &first, 1).await.sink;
        sink.write(rows_from(&first, 0, &[insert(row(1, "a"))])).await.unwrap();
        sink.flush().await.unwrap();
        let change = [update(vec![V::Int(7), V::Unchanged, V::Int(1)])];
        sink.write(rows_from(&second, 1, &change)).await.unwrap();
        let error = sink.flush().await.unwrap_err();
        assert!(error.to_string().contains("updates a row that is not in the table"), "{error}");
        let mut opened = database.open("", &first, 1).await;
        assert_eq!(opened.next, next(1));
        database.run("INSERT INTO t (id, a) VALUES (7, 'seven')").await;
        opened.sink.write(rows_from(&second, 1, &change)).await.unwrap();
        opened.sink.flush().await.unwrap();
        assert_eq!(database.lines("SELECT id, a, n FROM t ORDER BY id").await, ["1|a|-", "7|seven|1"]);
    }
}

#[tokio::test]
async fn a_read_only_server_is_waited_for() {
    for flavor in Flavor::ALL {
        let server = tokio::task::spawn_blocking(move || MySqlServer::start(flavor, &[])).await.unwrap();
        server.exec("CREATE DATABASE d; CREATE USER loader@'%'; GRANT ALL ON d.* TO loader@'%'");
        let url = format!("{{ url: 'mysql://loader@127.0.0.1:{}/d' }}", server.port());
        let target = crate::database::connector(&url).connect(context()).await.unwrap();
        let schema = simple("t");
        let mut sink = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap().sink;
        server.exec("SET GLOBAL read_only = ON");
        sink.write(rows_from(&schema, 0, &[insert(row(1, "a"))])).await.unwrap();
        let error = sink.flush().await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Retry, "{error}");
        assert!(crate::database::connector(&url).check(context()).await.unwrap()[0].message.contains("read-only"));
        // The same after a restart, with connections that are gone.
        server.restart();
        let mut sink = target.open(&topic(&schema, 1), &NextOffsets::new()).await;
        if let Err(error) = &sink {
            assert_eq!(error.recovery(), Recovery::Retry, "{error}");
            sink = target.open(&topic(&schema, 1), &NextOffsets::new()).await;
        }
        let mut sink = sink.unwrap().sink;
        sink.write(rows_from(&schema, 0, &[insert(row(1, "a"))])).await.unwrap();
        sink.flush().await.unwrap();
        assert_eq!(server.query("SELECT count(*) FROM d.t").trim(), "1");
    }
}

/// Large values through every way into a table, on a server that takes only small statements, with files and without.
#[tokio::test]
async fn values_larger_than_a_statement() {
    for flavor in Flavor::ALL {
        let server = tokio::task::spawn_blocking(move || MySqlServer::start(flavor, &["--max-allowed-packet=2M"])).await.unwrap();
        server.exec("CREATE DATABASE d");
        let large = "x\\".repeat(3 << 20);
        let rows = |id: i64| insert(vec![V::Int(id), text(&large), V::Null]);
        for (settings, table) in [("", "files"), ("&allowLoadLocalInfile=false", "statements")] {
            let url = format!("{{ url: 'mysql://root@127.0.0.1:{}/d?sslMode=DISABLED{settings}' }}", server.port());
            let target = crate::database::connector(&url).connect(context()).await.unwrap();
            let schema = simple(table);
            let mut sink = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap().sink;
            sink.write(rows_from(&schema, 0, &[rows(1), rows(2)])).await.unwrap();
            let flushed = sink.flush().await;
            if table == "files" {
                flushed.unwrap();
                let found = server.query("SELECT count(*), min(length(a)), max(length(a)) FROM d.files");

                assert!(found.trim() == "2\t6291456\t6291456", "{found}");
            } else {
                let error = flushed.unwrap_err();
                assert_eq!(error.recovery(), Recovery::Stop);
                assert!(error.to_string().contains("SET GLOBAL max_allowed_packet = 16777216"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn many_writers_of_one_server_do_not_lock_each_other_out() {
    for database in Database::each_mysql().await {
        let target = database.target("connections: 8").await;
        let tables: Vec<_> = (0..8)
            .map(|number| {
                let target = Arc::clone(&target);
                tokio::spawn(async move { write_all_kinds(target.as_ref(), &format!("t{number}")).await })
            })
            .collect();
        for table in tables {
            table.await.unwrap();
        }
        let all = (0..8).map(|number| format!("SELECT count(*) FROM t{number}")).collect::<Vec<_>>().join(" UNION ALL ");
        assert_eq!(database.lines(&all).await, ["40"; 8]);
        let rows = database.lines("SELECT id, a, b, c FROM t0 WHERE id IN (2, 3, 4, 101) ORDER BY id").await;
        assert_eq!(rows, ["2|a|patched|-", "3|c|-|1", "4|b|-|-", "101|a|moved|-"]);
    }
}
