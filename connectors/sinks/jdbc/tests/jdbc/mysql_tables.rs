//! Tables of MySQL and MariaDB: keys that have to stay two, and tables that somebody made by hand.
use std::sync::Arc;

use connector_api::{ColumnType as T, Recovery, TableSchema};

use crate::{
    database::Database,
    rows::{Change, V, delete, insert, moved, rows_from, schema_of, text, update},
};

const ID: (&str, T, &str) = ("id", T::Int32, "integer");

/// Writes the changes with a sink of its own, from that offset on.
async fn write(database: &Database, schema: &Arc<TableSchema>, first: i64, changes: &[Change]) -> Result<(), String> {
    let mut sink = database.open("", schema, 1).await.sink;
    sink.write(rows_from(schema, first, changes)).await.map_err(|error| error.to_string())?;
    let flushed = sink.flush().await;
    flushed.map(drop).map_err(|error| {
        assert_eq!(error.recovery(), Recovery::Stop, "{error}");
        error.to_string()
    })
}

#[tokio::test]
async fn keys_that_differ_in_case_accents_or_spaces_stay_apart() {
    let keys = ["a", "A", "a ", " a", "ä", "a\u{308}", "\u{e4} ", "ß", "ss", "", " ", "😀", "😁"];
    for database in Database::each_mysql().await {
        for settings in ["", "&allowLoadLocalInfile=false"] {
            let table = if settings.is_empty() { "files" } else { "statements" };
            let schema = schema_of(table, &[("k", T::Text, "text"), ("n", T::Int32, "integer")], 1);
            let url = format!("{{ url: '{}?sslMode=DISABLED{settings}' }}", database.url());
            let target = crate::database::connector(&url).connect(crate::database::context()).await.unwrap();
            let mut sink = target.open(&crate::database::topic(&schema, 1), &Default::default()).await.unwrap().sink;
            let mut offset = 0;
            // Each key twice: a batch for the stage, then few rows.
            let filler = (0..40).map(|number| insert(vec![text(&format!("filler {number}")), V::Int(-1)]));
            let many: Vec<Change> =
                keys.iter().enumerate().map(|(number, key)| insert(vec![text(key), V::Int(number as i64)])).chain(filler).collect();
            let few: Vec<Change> =
                keys.iter().enumerate().map(|(number, key)| update(vec![text(key), V::Int(100 + number as i64)])).collect();
            for changes in [many, few, vec![delete(vec![text("a "), V::Null])]] {
                sink.write(rows_from(&schema, offset, &changes)).await.unwrap();
                sink.flush().await.unwrap();
                offset += changes.len() as i64;
            }
            let found = database.query(&format!("SELECT k, n FROM {table} WHERE n >= 0 ORDER BY n")).await;
            let expected: Vec<Vec<Option<String>>> = keys
                .iter()
                .enumerate()
                .filter(|(_, key)| **key != "a ")
                .map(|(number, key)| vec![Some((*key).to_owned()), Some((100 + number).to_string())])
                .collect();
            assert_eq!(found, expected);
        }
    }
}

#[tokio::test]
async fn a_key_with_another_collation_stops_with_the_statement_that_mends_it() {
    for database in Database::each_mysql().await {
        database.run("CREATE TABLE t (k varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci PRIMARY KEY, n int)").await;
        let schema = schema_of("t", &[("k", T::Text, "text"), ("n", T::Int32, "integer")], 1);
        let changes = [insert(vec![text("a"), V::Int(1)]), insert(vec![text("A"), V::Int(2)])];
        let error = write(&database, &schema, 0, &changes).await.unwrap_err();
        assert!(error.contains("key column `k`") || error.contains("key column ``k``"), "{error}");
        let remedy = error.split("Change it: `").nth(1).and_then(|rest| rest.strip_suffix('`')).unwrap();
        database.run(remedy).await;
        write(&database, &schema, 0, &changes).await.unwrap();
        assert_eq!(database.lines("SELECT k, n FROM t ORDER BY n").await, ["a|1", "A|2"]);
        // A key that is too long for its column is refused with its place.
        let error = write(&database, &schema, 2, &[insert(vec![text(&"k".repeat(21)), V::Null])]).await.unwrap_err();
        assert!(error.contains("column `k`: the value at offset 2 of partition 0") && error.contains("longer than"), "{error}");
    }
}

#[tokio::test]
async fn long_keys_share_the_index() {
    for database in Database::each_mysql().await {
        let schema = schema_of("t", &[ID, ("a", T::Text, "text"), ("b", T::Bytes, "bytea"), ("v", T::Text, "text")], 3);
        let (a, b) = ("ä".repeat(300), vec![7; 1000]);
        let row = |a: &str, v: &str| vec![V::Int(1), text(a), V::Bytes(b.clone()), text(v)];
        write(&database, &schema, 0, &[insert(row(&a, "x")), insert(row("short", "y"))]).await.unwrap();
        write(&database, &schema, 2, &[moved(row("short", ""), row("shorter", "z")), update(row(&a, "w"))]).await.unwrap();
        assert_eq!(database.lines("SELECT char_length(a), v FROM t ORDER BY v").await, ["300|w", "7|z"]);
        let error = write(&database, &schema, 4, &[insert(row(&"x".repeat(400), "x"))]).await.unwrap_err();
        assert!(error.contains("column `a`") && error.contains("longer than"), "{error}");
        // Once it has left the key, a text may be of any length; and a text that joins the key gets a length.
        let columns = [ID, ("a", T::Text, "text"), ("b", T::Bytes, "bytea"), ("v", T::Text, "text")];
        let other = Arc::new(TableSchema::new(
            schema.table().clone(),
            schema_of("t", &columns, 1).columns().to_vec(),
            vec![0, 3],
            schema.identity(),
        ));
        write(&database, &other, 4, &[insert(vec![V::Int(1), text(&"x".repeat(4000)), V::Null, text("new")])]).await.unwrap();
        assert_eq!(database.lines("SELECT char_length(a), v FROM t ORDER BY v").await, ["4000|new", "300|w", "7|z"]);
    }
}

#[tokio::test]
async fn a_table_made_by_hand_is_used_as_it_is() {
    for database in Database::each_mysql().await {
        database
            .run(
                "CREATE TABLE t (mine varchar(10) NOT NULL DEFAULT 'kept', ID bigint NOT NULL AUTO_INCREMENT, short varchar(3), state enum('new', 'old'), \
                 flag bit(1), doc json, at timestamp(6) NULL, tiny tinyint unsigned, twice bigint GENERATED ALWAYS AS (tiny * 2) STORED, \
                 made timestamp DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP, UNIQUE KEY u (id)) DEFAULT CHARSET=latin1 \
                 PARTITION BY HASH (id) PARTITIONS 3",
            )
            .await;
        let columns = [
            ID,
            ("short", T::Text, "text"),
            ("state", T::Text, "mood"),
            ("flag", T::Bool, "boolean"),
            ("doc", T::Json, "json"),
            ("at", T::TimestampTz, "timestamptz"),
            ("tiny", T::Int32, "integer"),
        ];
        let schema = schema_of("t", &columns, 1);
        let row = |id: i64, short: &str, state: &str, tiny: i64| {
            let at = V::Int(1_478_267_490_123_456);
            vec![V::Int(id), text(short), text(state), V::Bool(true), text("{\"b\": [1, null]}"), at, V::Int(tiny)]
        };
        // Zero is a key like others, though the column counts by itself.
        write(&database, &schema, 0, &[insert(row(0, "abc", "new", 255)), insert(row(1, "", "old", 0))]).await.unwrap();
        let mut many: Vec<Change> = (2..50).map(|id| insert(row(id, "x", "old", 1))).collect();
        many.push(moved(row(1, "", "", 0), row(100, "m", "new", 7)));
        write(&database, &schema, 2, &many).await.unwrap();
        let sql = "SELECT id, short, state, flag + 0, json_extract(doc, '$.b[0]'), at, tiny, mine, twice FROM t WHERE id IN (0, 1, 100) ORDER BY id";
        let at = "2016-11-04 13:51:30.123456";
        assert_eq!(
            database.lines(sql).await,
            [format!("0|abc|new|1|1|{at}|255|kept|510"), format!("100|m|new|1|1|{at}|7|kept|14")]
        );
        // What does not fit is refused, not cut, and the message does not tell the value. Few rows and many go different ways.
        for (short, state, tiny, says) in [
            ("abcd", "new", 1, "short"),
            // The server itself would only mention that spaces were cut off.
            ("abc ", "new", 1, "short"),
            ("ж", "new", 1, "short"),
            ("a", "hunter2", 1, "state"),
            ("a", "new", 256, "tiny"),
            ("a", "new", -1, "tiny"),
        ] {
            for count in [1, 40] {
                let rows: Vec<Change> = (0..count).map(|id| insert(row(1000 + id, short, state, tiny))).collect();
                let error = write(&database, &schema, 51, &rows).await.unwrap_err();
                assert!(error.contains(says) && error.contains("`t`") && !error.contains("hunter2"), "{error}");
                assert_eq!(database.lines("SELECT count(*) FROM t WHERE id >= 1000").await, ["0"], "{error}");
            }
        }
    }
}

#[tokio::test]
async fn another_unique_key_does_not_catch_rows() {
    for database in Database::each_mysql().await {
        database.run("CREATE TABLE t (id int PRIMARY KEY, email varchar(100), n int, UNIQUE KEY (email))").await;
        let schema = schema_of("t", &[ID, ("email", T::Text, "text"), ("n", T::Int32, "integer")], 1);
        let row = |id: i64, email: &str, n: i64| vec![V::Int(id), text(email), V::Int(n)];
        write(&database, &schema, 0, &[insert(row(1, "a", 1)), insert(row(2, "b", 2))]).await.unwrap();
        write(
            &database,
            &schema,
            2,
            &[delete(row(1, "", 0)), insert(row(3, "a", 3)), update(row(2, "c", 4)), insert(row(4, "d", 5))],
        )
        .await
        .unwrap();
        assert_eq!(database.lines("SELECT id, email, n FROM t ORDER BY id").await, ["2|c|4", "3|a|3", "4|d|5"]);
        // Row 4 is not overwritten by row 5, which `ON DUPLICATE KEY UPDATE` would do.
        let error = write(&database, &schema, 6, &[insert(row(5, "d", 6))]).await.unwrap_err();
        assert!(error.contains("a unique key would hold a value twice (error 1062"), "{error}");
        assert_eq!(database.lines("SELECT id, email, n FROM t ORDER BY id").await, ["2|c|4", "3|a|3", "4|d|5"]);
    }
}

#[tokio::test]
async fn a_change_that_would_touch_values_stops() {
    for database in Database::each_mysql().await {
        let schema = |kind: T| schema_of("t", &[ID, ("a", kind, "")], 1);
        write(&database, &schema(T::Bytes), 0, &[insert(vec![V::Int(1), V::Bytes(vec![0, 255])])]).await.unwrap();
        let error = write(&database, &schema(T::Text), 1, &[insert(vec![V::Int(2), text("x")])]).await.unwrap_err();
        assert!(error.contains("column `a` of table `") && error.contains("has type longblob"), "{error}");
        assert_eq!(database.lines("SELECT count(*) FROM t").await, ["1"]);
    }
}

#[tokio::test]
async fn tables_go_to_the_database_of_their_schema_if_the_url_names_none() {
    for database in Database::each_mysql().await {
        let Database::MySql { server, name, .. } = &database else { return };
        let url = format!("{{ url: 'mysql://root@127.0.0.1:{}' }}", server.port());
        let target = crate::database::connector(&url).connect(crate::database::context()).await.unwrap();
        let columns = schema_of("t", &[ID], 1).columns().to_vec();
        let own = format!("{name} own `db`");
        let schema = TableSchema::new(connector_api::TableName::new(&own, "t"), columns, vec![0], connector_api::Identity::Key);
        let schema = Arc::new(schema);
        let mut sink = target.open(&crate::database::topic(&schema, 1), &Default::default()).await.unwrap().sink;
        sink.write(rows_from(&schema, 0, &[insert(vec![V::Int(1)])])).await.unwrap();
        sink.flush().await.unwrap();
        let quoted = format!("\"{own}\"");
        assert_eq!(database.lines(&format!("SELECT id FROM {quoted}.t")).await, ["1"]);
        assert_eq!(database.lines(&format!("SELECT next_offset FROM {quoted}.mainstem_offsets")).await, ["1"]);
        database.run(&format!("DROP DATABASE {quoted}")).await;
    }
}
