//! Every kind of change of a row and of a table.

use connector_api::{Identity, Op};
use serde_json::json;

use crate::{
    cli_server::Database,
    log_model::{Change, NULL, UNCHANGED, pipeline_of, with},
};

/// Runs statements behind an empty snapshot and returns the changes.
async fn changes(setup: &str, tables: &[&str], statements: &str) -> Vec<Change> {
    let mut all = Vec::new();
    for binary in [true, false] {
        let database = Database::new();
        database.sql(setup);
        let mut pipeline = pipeline_of(&database, tables, json!({ "binary": binary }));
        pipeline.drain().await;
        pipeline.changes.clear();
        database.sql(statements);
        pipeline.drain().await;
        all.push(pipeline.changes);
    }
    let described = |changes: &[Change]| changes.iter().map(summary).collect::<Vec<_>>();
    assert_eq!(described(&all[0]), described(&all[1]), "binary and text");
    all.swap_remove(0)
}

fn summary(change: &Change) -> String {
    let image = |image: &Option<Vec<String>>| image.as_ref().map_or("-".to_owned(), |image| image.join(","));
    let shorten = |text: String| if text.len() > 80 { format!("{}…", text.chars().take(20).collect::<String>()) } else { text };
    format!("{} {:?} {} > {}", change.table(), change.op, shorten(image(&change.before)), shorten(image(&change.after)))
}

fn summaries(changes: &[Change]) -> Vec<String> {
    changes.iter().map(summary).collect()
}

const BIG: &str = "(select string_agg(md5(i::text), '') from generate_series(1, 300) i)";

#[tokio::test]
async fn inserts_updates_moves_deletes_truncates() {
    let found = changes(
        "create table t (id int primary key, a text); create table u (id int primary key)",
        &["public.*"],
        "insert into t values (1, 'x'); update t set a = 'y' where id = 1; update t set id = 2 where id = 1; delete from t where id = 2; \
         begin; insert into t values (3, 'z'); insert into u values (1); truncate t, u; insert into t values (4, null); commit;",
    )
    .await;
    let mut expected = vec![
        "public.t Insert - > 1,x".to_owned(),
        "public.t Update - > 1,y".to_owned(),
        format!("public.t Move 1,{NULL} > 2,y"),
        format!("public.t Delete 2,{NULL} > -"),
        "public.t Insert - > 3,z".to_owned(),
        "public.u Insert - > 1".to_owned(),
        "public.t Truncate - > -".to_owned(),
        "public.u Truncate - > -".to_owned(),
        format!("public.t Insert - > 4,{NULL}"),
    ];
    let mut found_sorted = summaries(&found);
    // The order of the tables within one TRUNCATE is the server's.
    found_sorted[6..8].sort();
    expected[6..8].sort();
    assert_eq!(found_sorted, expected);
    assert!(found.iter().all(|change| change.transaction.is_some()));
    assert_eq!(found[4].transaction, found[8].transaction);
    assert_ne!(found[0].transaction, found[1].transaction);
}

#[tokio::test]
async fn an_unchanged_large_value_is_neither_null_nor_sent() {
    let found = changes(
        "create table t (id int primary key, big text, small int); alter table t alter big set storage external",
        &["t"],
        &format!(
            "insert into t values (1, {BIG}, 1); update t set small = 2; update t set id = 2; update t set big = null; \
             update t set big = {BIG}; update t set big = big || 'x', small = 3;"
        ),
    )
    .await;
    assert_eq!(summary(&found[1]), format!("public.t Update - > 1,{UNCHANGED},2"));
    assert_eq!(summary(&found[2]), format!("public.t Move 1,{NULL},{NULL} > 2,{UNCHANGED},2"));
    assert_eq!(summary(&found[3]), format!("public.t Update - > 2,{NULL},2"));
    assert!(found[5].after.as_ref().unwrap()[1].ends_with('x'));
}

#[tokio::test]
async fn a_full_identity_gives_whole_old_rows() {
    let found = changes(
        "create table t (id int primary key, big text, n int); alter table t alter big set storage external; \
         alter table t replica identity full; create table k (a int, b text); alter table k replica identity full",
        &["public.*"],
        &format!(
            "insert into t values (1, {BIG}, null); update t set n = 1; update t set id = 2; delete from t; \
             insert into k values (1, null); update k set b = 'x'; delete from k;"
        ),
    )
    .await;
    assert_eq!(found[0].schema.identity(), Identity::Full);
    assert_eq!(found[0].schema.key(), [0]);
    let big = found[0].after.as_ref().unwrap()[1].clone();
    // The old tuple has the value that the new one lacks.
    for change in &found[1..3] {
        assert_eq!(change.after.as_ref().unwrap()[1], big);
        assert_eq!(change.before.as_ref().unwrap()[1], big);
    }
    assert_eq!((found[1].op, found[2].op, found[3].op), (Op::Update, Op::Move, Op::Delete));
    assert_eq!(found[1].before.as_ref().unwrap()[2], NULL);
    assert!(found[4].schema.key().is_empty());
    assert_eq!(summaries(&found[4..])[1..], [format!("public.k Update 1,{NULL} > 1,x"), "public.k Delete 1,x > -".to_owned()]);
}

#[tokio::test]
async fn keys_have_the_order_of_their_index() {
    let found = changes(
        "create table p (a int, b int, c int, primary key (c, a)); \
         create table i (a int not null, b int not null, c int primary key); create unique index i_ba on i (b, a); \
         alter table i replica identity using index i_ba;",
        &["public.*"],
        "insert into p values (1, 2, 3); insert into i values (1, 2, 3); update i set a = 5; update i set c = 9; delete from i;",
    )
    .await;
    assert_eq!((found[0].schema.key(), found[1].schema.key()), (&[2, 0][..], &[1, 0][..]));
    assert_eq!(
        summaries(&found[2..]),
        [
            format!("public.i Move 1,2,{NULL} > 5,2,3"),
            "public.i Update - > 5,2,9".to_owned(),
            format!("public.i Delete 5,2,{NULL} > -")
        ]
    );
}

#[tokio::test]
async fn rows_come_under_the_shape_that_they_were_written_in() {
    let found = changes(
        "create table t (id int primary key, a text)",
        &["t"],
        "insert into t values (1, 'x'); begin; insert into t values (2, 'x'); alter table t add column b int default 7; \
         insert into t values (3, 'x', 1); alter table t drop column a; insert into t values (4, 2); \
         alter table t rename column b to c; insert into t values (5, 3); commit; \
         alter table t alter c type text using c::text; insert into t values (6, 'six'); update t set c = 'one' where id = 1;",
    )
    .await;
    let shapes: Vec<String> = found
        .iter()
        .map(|change| {
            let columns = change.schema.columns().iter().map(|column| format!("{} {}", column.name, column.source_type));
            format!("{}: {}", columns.collect::<Vec<_>>().join(", "), change.after.as_ref().unwrap().join("|"))
        })
        .collect();
    assert_eq!(
        shapes,
        [
            "id integer, a text: 1|x",
            "id integer, a text: 2|x",
            "id integer, a text, b integer: 3|x|1",
            "id integer, b integer: 4|2",
            "id integer, c integer: 5|3",
            "id integer, c text: 6|six",
            "id integer, c text: 1|one",
        ]
    );
}

#[tokio::test]
async fn queued_rows_keep_the_shape_they_had() {
    let database = Database::new();
    database.sql("create table t (id int primary key, a text); create table other (id int primary key)");
    let mut pipeline = pipeline_of(&database, &["t", "other"], json!({}));
    pipeline.drain().await;
    database.sql(
        "insert into t values (1, 'x'); alter table t drop column a; insert into other values (1); alter table other add column n int; \
         insert into t values (2); alter table t rename to t2; insert into t2 values (3); insert into other values (2, 2);",
    );
    // The name under which the table is asked for is gone: the stored position still says what it was.
    let mut settled = pipeline_of(&database, &["t2", "other"], json!({}));
    settled.position = pipeline.position.clone();
    settled.drain().await;
    let found: Vec<String> = summaries(&settled.changes);
    assert_eq!(
        found,
        [
            "public.t Insert - > 1,x",
            "public.other Insert - > 1",
            "public.t Insert - > 2",
            "public.t2 Insert - > 3",
            "public.other Insert - > 2,2"
        ]
    );
}

#[tokio::test]
async fn unusual_names_are_quoted_everywhere() {
    let database = Database::new();
    database.sql(
        r#"create schema "S.1 ""x"""; create table "S.1 ""x"""."T' \ü*" ("1 id" int primary key, "q""'" text, "ID" int, "id" int);
           insert into "S.1 ""x"""."T' \ü*" values (1, 'a', 2, 3);"#,
    );
    let settings = json!({
        "url": database.url(), "tables": ["\"S.1 \"\"x\"\"\".\"T' \\ü*\""],
        "slot": { "name": format!("1_{}", database.name) }, "publication": { "name": "p \"1\", o'clock" },
    });
    let mut pipeline = with(&database.name, settings);
    pipeline.drain().await;
    database.sql(r#"insert into "S.1 ""x"""."T' \ü*" values (2, 'b', 5, 6);"#);
    pipeline.drain().await;
    assert_eq!(summaries(&pipeline.changes), ["S.1 \"x\".T' \\ü* Read - > 1,a,2,3", "S.1 \"x\".T' \\ü* Insert - > 2,b,5,6"]);
    assert_eq!(pipeline.connector.drop_state(&pipeline.name).await.unwrap().len(), 2);
}

#[tokio::test]
async fn partitions_and_generated_columns() {
    let found = {
        let database = Database::new();
        database.sql(
            "create table t (id int, k int, twice int generated always as (k * 2) stored, primary key (id, k)) partition by range (k); \
             create table t1 partition of t for values from (0) to (10); create table t2 (k int not null, id int not null, twice int generated always as (k * 2) stored); \
             alter table t attach partition t2 for values from (10) to (20); insert into t values (1, 1), (2, 11);",
        );
        let mut pipeline = pipeline_of(&database, &["public.*"], json!({}));
        if database.server.version() < 13 {
            let error = pipeline.try_drain().await.unwrap_err().to_string();
            return assert!(error.contains("name the partitions themselves"), "{error}");
        }
        pipeline.drain().await;
        database.sql("insert into t values (3, 2), (4, 12); update t set k = 13 where id = 3; truncate t;");
        pipeline.drain().await;
        let mut found = summaries(&pipeline.changes);
        found[..2].sort();
        found
    };
    assert_eq!(
        found,
        [
            "public.t Read - > 1,1",
            "public.t Read - > 2,11",
            "public.t Insert - > 3,2",
            "public.t Insert - > 4,12",
            // The server itself makes two changes of a row that goes to another partition.
            "public.t Delete 3,2 > -",
            "public.t Insert - > 3,13",
            "public.t Truncate - > -"
        ]
    );
}
