//! Tables come, go, and change their shape while a pipeline reads them.

use mainstem_tests::{Scenario, run_command, wait_until};

#[test]
fn schema_changes_between_transactions() {
    let scenario = Scenario::new("schema_changes").setup(
        &["t"],
        "CREATE TABLE t (id int PRIMARY KEY, a int, b varchar(10), gone text); INSERT INTO t SELECT i, i, 'b', 'g' FROM generate_series(1, 50) i",
    );
    let run = scenario.run(&scenario.pipeline());
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    let steps = [
        "ALTER TABLE t ADD c timestamptz",
        "ALTER TABLE t DROP gone",
        "ALTER TABLE t ALTER a TYPE bigint",
        "ALTER TABLE t ALTER b TYPE text",
        "ALTER TABLE t RENAME b TO \"B two\"",
        "ALTER TABLE t ADD d numeric(6,2), ADD e int[]",
        "ALTER TABLE t ALTER d TYPE numeric(12,2)",
        "ALTER TABLE t ALTER a TYPE text",
        // The same name again, with another type.
        "ALTER TABLE t ADD gone int",
    ];
    for (i, step) in steps.iter().enumerate() {
        let before = format!("UPDATE t SET a = '{i}' WHERE id % 10 = {i}; DELETE FROM t WHERE id = {}", 40 + i);
        scenario.source.exec(&before);
        scenario.source.exec(step);
        // What a column had before it came, or was renamed, is only sent with the row's next change: change every row.
        scenario.source.exec(&format!("UPDATE t SET a = '{}1'; INSERT INTO t (id, a) VALUES (1000 + {i}, '7')", i + 1));
        if i % 3 == 2 {
            scenario.wait_until_drained(&mut mainstem);
            scenario.assert_equal();
        }
    }
    scenario.source.exec("UPDATE t SET a = '9999999999', c = now(), d = 1234567890.12, e = '{1,NULL}', gone = 5, \"B two\" = repeat('x', 100) WHERE id = 1");
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_equal();
    // A renamed column shows as a new one beside the old one; a dropped one stays.
    let columns = scenario.warehouse.query(
        "SELECT string_agg(column_name, ',' ORDER BY ordinal_position) FROM information_schema.columns WHERE table_name = 't'",
    );
    for name in ["b", "B two", "gone"] {
        assert!(columns.split(',').any(|column| column == name), "{name} is not in {columns}");
    }
}

#[test]
fn schema_changes_while_nobody_reads() {
    let scenario = Scenario::new("schema_offline")
        .setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t VALUES (1, 1, 'x'), (2, 2, 'y')");
    let run = scenario.run(&scenario.pipeline());
    run.once_succeeds();
    scenario.source.exec("INSERT INTO t VALUES (3, 3, 'old shape')");
    scenario.source.exec("ALTER TABLE t DROP a");
    scenario.source.exec("INSERT INTO t VALUES (4, 'second shape')");
    scenario.source.exec("ALTER TABLE t ADD a text; ALTER TABLE t ADD n int");
    scenario.source.exec("INSERT INTO t VALUES (5, 'third shape', 'a is text now', 5)");
    scenario.source.exec("BEGIN; INSERT INTO t (id) VALUES (6); ALTER TABLE t ADD later int; INSERT INTO t (id, later) VALUES (7, 7); ALTER TABLE t RENAME later TO latest; UPDATE t SET latest = 8; COMMIT");
    scenario.source.exec("UPDATE t SET a = 'all rows in the last shape', n = id");
    run.once_succeeds();
    scenario.assert_equal();
}

#[test]
fn names_are_quoted_everywhere() {
    let scenario = Scenario::new("hostile_names");
    let names = ["x\"; DROP TABLE y;--", "Mixed Case", "select", "dots.in.it", "ünï", "a'b"];
    let mut sql = "CREATE TABLE y (id int PRIMARY KEY); CREATE SCHEMA \"s.1\";".to_owned();
    for schema in ["public", "s.1"] {
        for name in names {
            let table = format!("\"{schema}\".\"{}\"", name.replace('"', "\"\""));
            sql += &format!(
                "CREATE TABLE {table} (\"the \"\"id\"\"\" int PRIMARY KEY, \"from\" text, \"_x\" int); INSERT INTO {table} VALUES (1, 'a', 1);"
            );
        }
    }
    scenario.source.exec(&sql);
    let pipeline = mainstem_tests::Pipeline::postgres(&scenario.name, &scenario.source.url(), &["*.*"])
        .files("lake", &scenario.lake())
        .upsert("warehouse", &scenario.warehouse.url());
    let run = scenario.run(&pipeline);
    run.once_succeeds();
    for schema in ["public", "s.1"] {
        for name in names {
            let table = format!("\"{schema}\".\"{}\"", name.replace('"', "\"\""));
            scenario.source.exec(&format!(
                "UPDATE {table} SET \"from\" = 'b'; INSERT INTO {table} VALUES (2, 'c', 2); DELETE FROM {table} WHERE \"_x\" = 1"
            ));
        }
    }
    run.once_succeeds();
    for schema in ["public", "s.1"] {
        for name in names {
            let shape = mainstem_tests::table(&scenario.source, schema, name);
            mainstem_tests::compare_warehouse(&shape, &scenario.source, &scenario.warehouse);
        }
    }
    let topics = run_command(["topics".as_ref(), "--json".as_ref(), "--data-dir".as_ref(), scenario.data_dir().as_os_str()]);
    assert_eq!(topics.code, Some(0), "{}", topics.stderr);
    assert_eq!(crate::paused_writer::parquet_rows(&scenario.lake()), 12 * 4);
}

#[test]
fn a_table_added_to_the_file_is_snapshotted_and_a_removed_one_is_said_so() {
    let scenario = Scenario::new("table_added").setup(
        &["a"],
        "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, 'a' FROM generate_series(1, 100) i;
         CREATE TABLE b (id int PRIMARY KEY, v text); INSERT INTO b SELECT i, 'b' FROM generate_series(1, 5000) i",
    );
    scenario.run(&scenario.pipeline()).once_succeeds();
    scenario.source.exec("UPDATE a SET v = 'later' WHERE id = 1; UPDATE b SET v = 'before it was added' WHERE id = 1");
    let scenario = scenario.setup(&["b"], "DELETE FROM b WHERE id = 2");
    let run = scenario.run(&scenario.pipeline());
    let mut mainstem = run.start();
    scenario.source.exec("UPDATE b SET v = 'while it is copied' WHERE id = 3");
    scenario.wait_until_drained(&mut mainstem);
    scenario.source.exec("INSERT INTO b VALUES (6000, 'streamed')");
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    scenario.assert_equal();
    // Without `a` again.
    let only_b = mainstem_tests::Pipeline::postgres(&scenario.name, &scenario.source.url(), &["public.b"])
        .files("lake", &scenario.lake())
        .upsert("warehouse", &scenario.warehouse.url());
    let mut without = scenario.run(&only_b).allow("public.a").once();
    assert_eq!(without.exit().and_then(|status| status.code()), Some(0), "{}", without.log());
    assert!(without.has_logged("public.a"), "nothing is said of the removed table:\n{}", without.log());
}

#[test]
fn resnapshot_brings_a_table_that_was_spoilt_back() {
    let scenario = Scenario::new("resnapshot").setup(
        &["a", "b"],
        "CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, 'a' FROM generate_series(1, 100) i;
         CREATE TABLE b (id int PRIMARY KEY, v text); INSERT INTO b SELECT i, 'b' FROM generate_series(1, 100) i",
    );
    let run = scenario.run(&scenario.pipeline());
    run.once_succeeds();
    scenario.warehouse.exec("UPDATE a SET v = 'spoilt' WHERE id % 2 = 0; DELETE FROM a WHERE id > 90");
    scenario.source.exec("UPDATE a SET v = 'new' WHERE id = 3; DELETE FROM a WHERE id = 4; UPDATE b SET v = 'new' WHERE id = 3");
    let (file, data) = (scenario.dir().join("resnapshot.yaml"), scenario.data_dir());
    let arguments = ["resnapshot".as_ref(), "--data-dir".as_ref(), data.as_os_str(), file.as_os_str(), "public.a".as_ref()];
    let output = run_command(arguments);
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    run.once_succeeds();
    scenario.assert_equal();
    let unknown =
        run_command(["resnapshot".as_ref(), "--data-dir".as_ref(), data.as_os_str(), file.as_os_str(), "public.nonsense".as_ref()]);
    assert_ne!(unknown.code, Some(0));
    assert!(unknown.stderr.contains("public.nonsense"), "{}", unknown.stderr);
}

#[test]
fn drop_leaves_no_slot_no_publication_and_no_topic() {
    let scenario = Scenario::new("dropped").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let run = scenario.run(&scenario.pipeline());
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    assert_eq!(scenario.source.slots(), "dropped");
    let (file, data) = (scenario.dir().join("dropped.yaml"), scenario.data_dir());
    let arguments = ["drop".as_ref(), "--data-dir".as_ref(), data.as_os_str(), file.as_os_str()];
    let refused = run_command(arguments);
    assert_ne!(refused.code, Some(0), "dropped a pipeline that runs: {}{}", refused.stdout, refused.stderr);
    mainstem.stop();
    wait_until("the server noticed", || {
        scenario.source.query("SELECT count(*) FROM pg_replication_slots WHERE active AND database = current_database()") == "0"
    });
    let output = run_command(arguments);
    assert_eq!(output.code, Some(0), "{}{}", output.stdout, output.stderr);
    assert_eq!(scenario.source.slots(), "");
    assert_eq!(scenario.source.query("SELECT count(*) FROM pg_publication"), "0");
    let topics = run_command(["topics".as_ref(), "--data-dir".as_ref(), data.as_os_str()]);
    assert!(!topics.stdout.contains("dropped.public.t"), "{}", topics.stdout);
    // The targets keep what they have.
    scenario.assert_equal();
}
