//! Who may write a table, and what happens to a writer that is late, lost or locked out: SINK-DB-01, SINK-DB-05, SINK-DB-08.
use std::sync::Arc;

use connector_api::{BarrierKind, NextOffsets, Recovery, Severity, TableName, TableSchema, TopicId};

use crate::{
    database::{Database, connector, context, quoted, topic, try_connector},
    rows::{V, barrier, insert, rows_from, schema_of, simple, text},
};

fn row(id: i64) -> crate::rows::Change {
    insert(vec![V::Int(id), text("a"), text("b")])
}

fn next(offset: i64) -> NextOffsets {
    NextOffsets::from([(0, offset)])
}

#[tokio::test]
async fn an_older_writer_notices_a_newer_one() {
    for database in Database::each().await {
        let schema = simple("t");
        let mut first = database.open("", &schema, 2).await;
        assert_eq!(first.next, NextOffsets::new(), "nothing was written yet");
        first.sink.write(rows_from(&schema, 0, &[row(1)])).await.unwrap();
        first.sink.flush().await.unwrap();
        let mut second = database.open("", &schema, 2).await;
        assert_eq!(second.next, next(1));
        // The newer one has written nothing yet: its epoch tells. Then it writes.
        for id in [2, 3] {
            first.sink.write(rows_from(&schema, 1, &[row(id)])).await.unwrap();
            let error = first.sink.flush().await.unwrap_err();
            assert_eq!(error.recovery(), Recovery::Stop);
            let message = error.to_string();
            assert!(message.contains("another writer took over table") && message.contains(&quoted(&database, "t")), "{message}");
            if id == 2 {
                second.sink.write(rows_from(&schema, 1, &[row(4)])).await.unwrap();
                second.sink.flush().await.unwrap();
            }
        }
        // The offsets alone tell too, if somebody changes them by hand.
        database.run(&format!("UPDATE {} SET next_offset = next_offset - 1 WHERE \"partition\" = 0", database.offsets())).await;
        second.sink.write(rows_from(&schema, 2, &[row(5)])).await.unwrap();
        assert_eq!(second.sink.flush().await.unwrap_err().recovery(), Recovery::Stop);
        assert_eq!(database.lines("SELECT id FROM t ORDER BY id").await, ["1", "4"]);
    }
}

#[tokio::test]
async fn another_topic_and_lost_state_stop_with_the_choices() {
    for database in Database::each().await {
        let schema = simple("t");
        let offsets = database.offsets();
        let stops = async |topic: &connector_api::TopicInfo, reported: NextOffsets, says: &str| {
            let error = database.try_open(topic, &reported).await.unwrap_err();
            assert_eq!(error.recovery(), Recovery::Stop);
            assert!(error.to_string().contains(says), "{error}");
        };
        let ours = topic(&schema, 1);
        let mut sink = database.open("", &schema, 1).await.sink;
        sink.write(rows_from(&schema, 0, &[row(1)])).await.unwrap();
        sink.flush().await.unwrap();

        let mut recreated = ours.clone();
        recreated.id = TopicId([8; 16]);
        stops(&recreated, next(1), "with id 07070707-0707-0707-0707-070707070707, but the log's topic has id 08080808").await;
        let mut other = ours.clone();
        other.name = "shop.other".into();
        stops(
            &other,
            NextOffsets::new(),
            "is written by topic `shop.public.t` through sink `warehouse` of pipeline `shop` already",
        )
        .await;

        database.run(&format!("CREATE TABLE kept AS SELECT * FROM {offsets}; DELETE FROM {offsets}")).await;
        stops(&ours, next(1), "its rows are of unknown origin").await;
        database.run("DELETE FROM t").await;
        stops(&ours, next(1), "the log says that it was filled once").await;
        database.run(&format!("INSERT INTO {offsets} SELECT * FROM kept; DROP TABLE t")).await;
        stops(&ours, next(1), "is gone").await;
        // Both gone: a load from the beginning.
        database.run(&format!("DELETE FROM {offsets}")).await;
        let mut opened = database.try_open(&ours, &next(1)).await.unwrap();
        assert_eq!(opened.next, NextOffsets::new());
        opened.sink.write(rows_from(&schema, 0, &[row(1)])).await.unwrap();
        opened.sink.flush().await.unwrap();
        assert_eq!(database.lines("SELECT id FROM t").await, ["1"]);
    }
}

#[tokio::test]
async fn a_table_without_a_key_needs_append() {
    for database in Database::each().await {
        let schema = schema_of("t", &[("a", connector_api::ColumnType::Int32, "integer")], 0);
        let error = database.try_open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Stop);
        let message = error.to_string();
        assert!(message.contains("ALTER TABLE public.t REPLICA IDENTITY") && message.contains("mode: append"), "{message}");
        database.open("mode: append", &schema, 1).await;
    }
}

#[tokio::test]
async fn a_barrier_takes_effect_with_its_offsets_of_all_partitions() {
    for database in Database::each().await {
        let schema = simple("t");
        let mut sink = database.open("", &schema, 3).await.sink;
        sink.write(rows_from(&schema, 0, &[row(1)])).await.unwrap();
        let all = NextOffsets::from([(0, 2), (1, 1), (2, 1)]);
        sink.write(barrier(&schema, BarrierKind::Truncate, 1, all.clone())).await.unwrap();
        assert_eq!(sink.flush().await.unwrap().next, all);
        assert_eq!(database.open("", &schema, 3).await.next, all);
        assert_eq!(database.lines("SELECT count(*) FROM t").await, ["0"]);
    }
}

#[tokio::test]
async fn a_lost_connection_is_tried_again_and_nothing_is_lost() {
    let database = Database::postgres().await;
    let schema = simple("t");
    let target = database.target("").await;
    let mut sink = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap().sink;
    sink.write(rows_from(&schema, 0, &[row(1)])).await.unwrap();
    sink.flush().await.unwrap();
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'mainstem' AND datname = current_database()";
    // Lost while it waits for a lock in the middle of a flush.
    database.run("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    sink.write(rows_from(&schema, 1, &[row(2)])).await.unwrap();
    let flushing = tokio::spawn(async move { sink.flush().await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while database.lines(waiting).await != ["1"] {
        tokio::task::yield_now().await;
    }
    database.lines(kill).await;
    database.run("COMMIT").await;
    let error = flushing.await.unwrap().unwrap_err();
    assert_eq!(error.recovery(), Recovery::Retry, "{error}");
    let mut opened = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap();
    assert_eq!(opened.next, next(1));
    opened.sink.write(rows_from(&schema, 1, &[row(2)])).await.unwrap();
    opened.sink.flush().await.unwrap();
    assert_eq!(database.lines("SELECT id FROM t ORDER BY id").await, ["1", "2"]);
}

#[tokio::test]
async fn a_dropped_flush_leaves_nothing_behind() {
    let database = Database::postgres().await;
    let schema = simple("t");
    let target = database.target("connections: 1").await;
    let mut sink = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap().sink;
    database.run("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await;
    sink.write(rows_from(&schema, 0, &[row(1)])).await.unwrap();
    let flushing = tokio::spawn(async move { sink.flush().await });
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    while database.lines(waiting).await != ["1"] {
        tokio::task::yield_now().await;
    }
    flushing.abort();
    assert!(flushing.await.unwrap_err().is_cancelled());
    database.run("COMMIT").await;
    let mut opened = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap();
    assert_eq!(opened.next, NextOffsets::new());
    opened.sink.write(rows_from(&schema, 0, &[row(1)])).await.unwrap();
    opened.sink.flush().await.unwrap();
    assert_eq!(database.lines("SELECT id FROM t").await, ["1"]);
}

#[tokio::test]
async fn many_tables_open_and_flush_at_once() {
    for database in Database::each().await {
        let target = database.target("").await;
        let tables: Vec<_> = (0..40)
            .map(|number| {
                let target = Arc::clone(&target);
                tokio::spawn(async move {
                    let schema = Arc::new(TableSchema::new(
                        TableName::new("Some Schema", format!("t{number}")),
                        simple("x").columns().to_vec(),
                        vec![0],
                        connector_api::Identity::Key,
                    ));
                    let mut sink = target.open(&topic(&schema, 1), &NextOffsets::new()).await.unwrap().sink;
                    for offset in 0..5 {
                        sink.write(rows_from(&schema, offset, &[row(offset)])).await.unwrap();
                        sink.flush().await.unwrap();
                    }
                })
            })
            .collect();
        for table in tables {
            table.await.unwrap();
        }
        let (offsets, t39) = match database.kind() {
            "postgres" => ("\"Some Schema\".mainstem_offsets", "\"Some Schema\".t39"),
            "sqlite" => ("mainstem_offsets", "\"Some Schema.t39\""),
            _ => ("mainstem_offsets", "t39"),
        };
        assert_eq!(database.lines(&format!("SELECT count(*), sum(next_offset) FROM {offsets}")).await, ["40|200"]);
        assert_eq!(database.lines(&format!("SELECT count(*) FROM {t39}")).await, ["5"]);
    }
}

#[tokio::test]
async fn two_topics_cannot_share_a_table() {
    let database = Database::postgres().await;
    let target = database.target("schema: dw").await;
    let schema = |namespace: &str| {
        let columns = simple("t").columns().to_vec();
        Arc::new(TableSchema::new(TableName::new(namespace, "t"), columns, vec![0], connector_api::Identity::Key))
    };
    target.open(&topic(&schema("a"), 1), &NextOffsets::new()).await.unwrap();
    let error = target.open(&topic(&schema("b"), 1), &NextOffsets::new()).await.unwrap_err();
    assert!(error.to_string().contains("a table has one writer"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_reached_says_whether_to_try_again() {
    let Database::Postgres { server, .. } = Database::postgres().await else { return };
    let socket = server.socket_dir().display();
    for (url, recovery, says) in [
        ("postgres://127.0.0.1:1/x".to_owned(), Recovery::Retry, "127.0.0.1:1/x"),
        (format!("postgres://postgres@127.0.0.1:{}/nowhere", server.port()), Recovery::Stop, "nowhere"),
        (format!("postgres://nobody@127.0.0.1:{}/postgres", server.port()), Recovery::Stop, "nobody"),
        ("sqlite:/no/such/folder/x.db".to_owned(), Recovery::Stop, "/no/such/folder/x.db"),
    ] {
        let error = connector(&format!("{{ url: '{url}' }}")).connect(context()).await.err().unwrap();
        assert_eq!(error.recovery(), recovery, "{error}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let by_socket = connector(&format!("{{ url: 'postgres:///postgres?host={socket}&port={}&user=postgres' }}", server.port()));
    by_socket.connect(context()).await.unwrap();
    let error = try_connector("{ url: 'mssql://x' }").err().unwrap();
    assert!(error.starts_with("p.yaml:1:8: ") && error.contains("`mssql` is no database"), "{error}");
}

#[tokio::test]
async fn check_names_the_grant() {
    let database = Database::postgres().await;
    let Database::Postgres { name, server, .. } = &database else { return };
    let role = format!("{name}_loader");
    database.run(&format!("CREATE ROLE {role} LOGIN; REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC; CREATE SCHEMA closed")).await;
    let findings = async |settings: &str| {
        let url = format!("postgres://{role}@127.0.0.1:{}/{name}", server.port());
        let found = connector(&format!("{{ url: '{url}', {settings} }}")).check(context()).await.unwrap();
        found.into_iter().map(|finding| (finding.severity, finding.remedy.unwrap_or_default())).collect::<Vec<_>>()
    };
    let temporary = (Severity::Error, format!("GRANT TEMPORARY ON DATABASE \"{name}\" TO \"{role}\";"));
    assert_eq!(
        findings("schema: closed").await,
        [temporary.clone(), (Severity::Error, format!("GRANT USAGE, CREATE ON SCHEMA \"closed\" TO \"{role}\";"))]
    );
    assert_eq!(
        findings("schema: missing").await,
        [temporary.clone(), (Severity::Error, format!("CREATE SCHEMA \"missing\" AUTHORIZATION \"{role}\";"))]
    );
    // The remedies work.
    database
        .run(&format!("{} CREATE SCHEMA missing AUTHORIZATION {role}; GRANT USAGE, CREATE ON SCHEMA closed TO {role}", temporary.1))
        .await;
    assert_eq!(findings("schema: closed").await, []);
    assert_eq!(findings("schema: missing").await, []);
    assert!(database.connector("").check(context()).await.unwrap().is_empty());

    let sqlite = Database::sqlite();
    assert_eq!(sqlite.connector("").check(context()).await.unwrap()[0].severity, Severity::Note);
    assert!(!sqlite.path().exists());
    std::fs::write(sqlite.path(), "this is no database, it is a text file").unwrap();
    assert_eq!(sqlite.connector("").check(context()).await.unwrap()[0].severity, Severity::Error);
}
