//! Every kind of mistake in a pipeline file is answered with its place and with what would be right. The answers are kept in
//! `snapshots/`; `INSTA_UPDATE=always` writes them anew.

use std::fs;

use mainstem_tests::run_command;

const MISTAKES: &[(&str, &str)] = &[
    ("empty", ""),
    ("not_yaml", "name: shop\nsource: [postgres\n"),
    ("tab", "name: shop\n\tsource: {}\n"),
    ("no_name", "source:\n  postgres: { url: postgres://localhost/shop, user: cdc, tables: [public.orders] }\n"),
    (
        "bad_name",
        "name: \"my shop!\"\nsource:\n  postgres: { url: postgres://localhost/shop, user: cdc, tables: [public.orders] }\n",
    ),
    (
        "name_twice",
        "name: shop\nname: shop2\nsource:\n  postgres: { url: postgres://localhost/shop, user: cdc, tables: [public.orders] }\n",
    ),
    ("no_source", "name: shop\nsinks:\n  lake:\n    files: { url: file:///tmp/lake }\n"),
    ("unknown_key", "name: shop\nsuorce:\n  postgres: { url: postgres://localhost/shop, user: cdc, tables: [public.orders] }\n"),
    (
        "unknown_source",
        "name: shop\nsource:\n  postgresql: { url: postgres://localhost/shop, user: cdc, tables: [public.orders] }\n",
    ),
    (
        "unknown_sink",
        "name: shop\nsource:\n  postgres: { url: postgres://localhost/shop, user: cdc, tables: [public.orders] }\nsinks:\n  lake:\n    flies: { url: file:///tmp/lake }\n",
    ),
    (
        "two_sources",
        "name: shop\nsource:\n  postgres: { url: postgres://localhost/shop, user: cdc, tables: [public.orders] }\n  generate: {}\n",
    ),
    ("no_url", "name: shop\nsource:\n  postgres:\n    user: cdc\n    tables: [public.orders]\n"),
    ("no_user", "name: shop\nsource:\n  postgres:\n    url: postgres://localhost/shop\n    tables: [public.orders]\n"),
    (
        "wrong_url",
        "name: shop\nsource:\n  postgres:\n    url: mysql://localhost/shop\n    user: cdc\n    tables: [public.orders]\n",
    ),
    (
        "no_database",
        "name: shop\nsource:\n  postgres:\n    url: postgres://localhost\n    user: cdc\n    tables: [public.orders]\n",
    ),
    ("no_tables", "name: shop\nsource:\n  postgres:\n    url: postgres://localhost/shop\n"),
    ("empty_tables", "name: shop\nsource:\n  postgres:\n    url: postgres://localhost/shop\n    user: cdc\n    tables: []\n"),
    (
        "half_a_table_name",
        "name: shop\nsource:\n  postgres:\n    url: postgres://localhost/shop\n    user: cdc\n    tables: [\"public.\"]\n",
    ),
    (
        "tables_not_a_list",
        "name: shop\nsource:\n  postgres:\n    url: postgres://localhost/shop\n    user: cdc\n    tables: public.orders\n",
    ),
    (
        "typo_in_source",
        "name: shop\nsource:\n  postgres:\n    url: postgres://localhost/shop\n    user: cdc\n    tabels: [public.orders]\n",
    ),
    (
        "bad_sslmode",
        "name: shop\nsource:\n  postgres:\n    url: postgres://localhost/shop\n    user: cdc\n    tables: [public.orders]\n    sslmode: maybe\n",
    ),
    (
        "bad_slot",
        "name: shop\nsource:\n  postgres:\n    url: postgres://localhost/shop\n    user: cdc\n    tables: [public.orders]\n    slot: { name: \"My Slot\" }\n",
    ),
    (
        "unset_variable",
        "name: shop\nsource:\n  postgres:\n    url: postgres://localhost/shop\n    user: cdc\n    tables: [public.orders]\n    password: ${NOT_SET_ANYWHERE}\n",
    ),
    ("bad_partitions", "name: shop\nsource: { generate: {} }\nlog:\n  partitions: 0\n"),
    ("partitions_not_a_number", "name: shop\nsource: { generate: {} }\nlog:\n  partitions: many\n"),
    ("bad_format", "name: shop\nsource: { generate: {} }\nlog:\n  format: protobuf\n"),
    ("bad_compression", "name: shop\nsource: { generate: {} }\nlog:\n  compression: brotli\n"),
    ("bad_cleanup", "name: shop\nsource: { generate: {} }\nlog:\n  cleanup: [delete, compress]\n"),
    ("no_cleanup", "name: shop\nsource: { generate: {} }\nlog:\n  cleanup: []\n"),
    ("compaction_without_memory", "name: shop\nsource: { generate: {} }\nlog:\n  compaction: { memory: 1KiB }\n"),
    ("compaction_bad_part", "name: shop\nsource: { generate: {} }\nlog:\n  compaction: { min_dirty_percent: 101 }\n"),
    ("bad_boolean", "name: shop\nsource: { generate: {} }\nlog:\n  tombstones: maybe\n"),
    ("sink_without_settings", "name: shop\nsource: { generate: {} }\nsinks:\n  lake:\n"),
    ("files_wrong_scheme", "name: shop\nsource: { generate: {} }\nsinks:\n  lake:\n    files: { url: ftp://somewhere/lake }\n"),
    ("files_relative_path", "name: shop\nsource: { generate: {} }\nsinks:\n  lake:\n    files: { url: lake/shop }\n"),
    (
        "files_bad_size",
        "name: shop\nsource: { generate: {} }\nsinks:\n  lake:\n    files:\n      url: file:///tmp/lake\n      roll: { bytes: 128 apples }\n",
    ),
    (
        "files_bad_age",
        "name: shop\nsource: { generate: {} }\nsinks:\n  lake:\n    files:\n      url: file:///tmp/lake\n      roll: { age: 5 }\n",
    ),
    (
        "files_bad_format",
        "name: shop\nsource: { generate: {} }\nsinks:\n  lake:\n    files: { url: file:///tmp/lake, format: orc }\n",
    ),
    (
        "jdbc_wrong_scheme",
        "name: shop\nsource: { generate: {} }\nsinks:\n  warehouse:\n    jdbc: { url: \"jdbc:oracle:thin:@host\" }\n",
    ),
    (
        "jdbc_bad_mode",
        "name: shop\nsource: { generate: {} }\nsinks:\n  warehouse:\n    jdbc:\n      url: jdbc:sqlite:/tmp/w.db\n      mode: merge\n",
    ),
    ("bad_sink_name", "name: shop\nsource: { generate: {} }\nsinks:\n  \"the lake!\":\n    files: { url: file:///tmp/lake }\n"),
    (
        "alias_bomb",
        "name: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: [*d, *d, *d, *d, *d, *d, *d, *d]\n",
    ),
];

#[test]
fn every_mistake_is_answered_with_its_place() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut answers = String::new();
    let mut without_place = Vec::new();
    for (name, text) in MISTAKES {
        let file = dir.path().join("shop.yaml");
        fs::write(&file, text).expect("pipeline file");
        let output = run_command(["check".as_ref(), "--offline".as_ref(), file.as_os_str()]);
        assert_eq!(output.code, Some(2), "{name}: {}{}", output.stdout, output.stderr);
        let answer = output.stderr.replace(&dir.path().display().to_string(), "DIR");
        // FILE:LINE:COLUMN somewhere; an empty file has no place.
        let placed = answer.split("shop.yaml:").skip(1).any(|rest| {
            let mut parts = rest.split(|c: char| !c.is_ascii_digit());
            parts.next().is_some_and(|line| !line.is_empty()) && parts.next().is_some_and(|column| !column.is_empty())
        });
        if !placed && *name != "empty" {
            without_place.push(*name);
        }
        // The same mistake stops `run`, before it creates anything.
        let data = dir.path().join("data");
        let run = run_command(["run".as_ref(), file.as_os_str(), "--data-dir".as_ref(), data.as_os_str(), "--once".as_ref()]);
        assert_eq!(run.code, Some(2), "{name}: run: {}", run.stderr);
        assert!(!data.exists(), "{name}: run created the data directory");
        answers += &format!("=== {name}\n{}\n", answer.trim_end());
    }
    insta::with_settings!({ snapshot_path => concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots"), prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("pipeline_files", answers);
    });
    assert!(without_place.is_empty(), "no line and column for: {without_place:?}");
}

#[test]
fn two_pipelines_of_one_name_are_refused() {
    let dir = tempfile::tempdir().expect("temporary folder");
    for file in ["a.yaml", "b.yaml"] {
        fs::write(dir.path().join(file), "name: same\nsource: { generate: { rows: 1 } }\n").expect("pipeline file");
    }
    let output = run_command(["check".as_ref(), "--offline".as_ref(), dir.path().as_os_str()]);
    assert_eq!(output.code, Some(2), "{}", output.stderr);
    assert!(output.stderr.contains("a.yaml") && output.stderr.contains("b.yaml"), "{}", output.stderr);
}
