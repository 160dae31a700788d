//! What another reader makes of the files: DuckDB folds them, by the queries of `docs/parquet-files.md` and by `tests/fold.py`. Needs
//! MAINSTEM_PYTHON, a Python with PyPI `duckdb`.
#[path = "fixture/all_types.rs"]
mod all_types;
mod fixture;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use connector_api::{
    BarrierKind, NextOffsets, Op, SinkInput, Target, TopicInfo,
    conformance::{Fixture, Table},
};
use fixture::*;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../..")
}

/// The lines that a Python script prints, each of them JSON.
fn python(script: &Path, arguments: &[&str]) -> Vec<serde_json::Value> {
    let python = std::env::var_os("MAINSTEM_PYTHON")
        .expect("these tests read the files with DuckDB: set MAINSTEM_PYTHON to a Python that has PyPI `duckdb`");
    let output = Command::new(python).arg(script).args(arguments).env("PYTHONDONTWRITEBYTECODE", "1").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}: {}", script.display(), text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn queries(folder: &Path) -> Vec<serde_json::Value> {
    let page = repository().join("docs/parquet-files.md");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run_queries.py");
    python(&script, &[page.to_str().unwrap(), "duckdb", folder.to_str().unwrap()])
}

fn fold(folder: &Path) -> Vec<serde_json::Value> {
    fold_topic(folder, "shop.public.note", &[])
}

fn fold_topic(folder: &Path, topic: &str, options: &[&str]) -> Vec<serde_json::Value> {
    let topic = folder.join(format!("topic={topic}"));
    python(&repository().join("tests/fold.py"), &[&[topic.to_str().unwrap()], options].concat())
}

/// What a database would hold after the changes: a second, plain account of the same.
#[derive(Default)]
struct Model(BTreeMap<i64, (Option<String>, Option<i128>)>);

/// Writes changes to partitions as the runtime does, and keeps the model.
struct Writer {
    opened: connector_api::OpenedSink,
    model: Model,
    next: [i64; 2],
    sequence: u64,
}

impl Writer {
    async fn new(folder: &Path) -> Self {
        let opened = open(folder, "w", &topic(1, 2), &NextOffsets::new()).await;
        Self { opened, model: Model::default(), next: [0, 0], sequence: 1 }
    }

    async fn put(&mut self, partition: i32, changes: &mut Changes) {
        let batch = changes.batch();
        let next = &mut self.next[partition as usize];
        let input = rows(partition, *next, batch.clone());
        *next += batch.len() as i64;
        self.opened.sink.write(input).await.unwrap();
    }

    fn changes(&mut self) -> Changes {
        self.sequence += 1;
        Changes::from_sequence(self.sequence)
    }

    async fn insert(&mut self, id: i64, body: Option<&str>) {
        let mut changes = self.changes();
        changes.insert(id, body.map_or(Cell::Null, text));
        self.put((id % 2) as i32, &mut changes).await;
        self.model.0.insert(id, (body.map(str::to_owned), Some(i128::from(id) * 100)));
    }

    /// `None` for a body that is not sent.
    async fn update(&mut self, id: i64, body: Option<Option<&str>>, price: i128) {
        let mut changes = self.changes();
        changes.update(id, body.map_or(Cell::Unchanged, |body| body.map_or(Cell::Null, text)), price);
        self.put((id % 2) as i32, &mut changes).await;
        let row = self.model.0.get_mut(&id).unwrap();
        row.1 = Some(price);
        if let Some(body) = body {
            row.0 = body.map(str::to_owned);
        }
    }

    async fn delete(&mut self, id: i64) {
        let mut changes = self.changes();
        changes.delete(id);
        self.put((id % 2) as i32, &mut changes).await;
        self.model.0.remove(&id);
    }

    /// A change of key; the body is not sent. The halves go to the partitions of their keys.
    async fn rekey(&mut self, from: i64, to: i64) {
        let batch = self.changes().rekey(from, to, Cell::Unchanged).batch();
        for (half, key) in [(0, from), (1, to)] {
            let partition = (key % 2) as usize;
            let input = rows(partition as i32, self.next[partition], batch.slice(half, 1));
            self.next[partition] += 1;
            self.opened.sink.write(input).await.unwrap();
        }
        let (body, _) = self.model.0.remove(&from).unwrap();
        self.model.0.insert(to, (body, Some(1)));
    }

    async fn barrier(&mut self, kind: BarrierKind) {
        self.sequence += 1;
        for partition in 0..2 {
            let SinkInput::Barrier(input) = barrier(kind, partition, self.next[partition as usize], self.sequence) else {
                panic!()
            };
            self.next[partition as usize] += 1;
            self.opened.sink.write(SinkInput::Barrier(input)).await.unwrap();
        }
        self.model.0.clear();
    }

    async fn flush(&mut self) {
        self.opened.sink.flush().await.unwrap();
    }

    fn expected(&self) -> serde_json::Value {
        let price = |cents: i128| format!("{}.{:02}", cents / 100, cents % 100);
        self.model.0.iter().map(|(id, (body, cents))| serde_json::json!([id, body, cents.map(price)])).collect()
    }
}

#[tokio::test]
async fn the_files_fold_to_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::new(folder.path()).await;
    for id in 0..6 {
        writer.insert(id, Some("void")).await;
    }
    writer.rekey(4, 7).await;
    writer.barrier(BarrierKind::SnapshotRestart).await;
    writer.flush().await;
    for id in 0..20 {
        writer.insert(id, Some(&format!("note {id}"))).await;
    }
    writer.flush().await;
    writer.update(1, None, 5).await;
    writer.update(2, Some(None), 6).await;
    writer.update(2, None, 7).await;
    writer.flush().await;
    writer.update(2, None, 8).await;
    writer.delete(3).await;
    // A key that comes again begins anew: nothing of its first life is taken over.
    writer.insert(3, None).await;
    writer.update(3, None, 9).await;
    writer.delete(4).await;
    // Chains of changes of key, over partitions and files, there and back.
    writer.rekey(5, 100).await;
    writer.update(100, None, 10).await;
    writer.flush().await;
    writer.rekey(100, 201).await;
    writer.rekey(201, 5).await;
    writer.rekey(5, 202).await;
    writer.insert(5, Some("a new one")).await;
    writer.update(5, None, 11).await;
    writer.rekey(6, 4).await;
    writer.rekey(8, 300).await;
    writer.delete(300).await;
    writer.insert(8, None).await;
    writer.update(202, None, 12).await;
    writer.flush().await;
    let expected = writer.expected();
    let found = queries(folder.path());
    assert_eq!(found.len(), 3);
    assert_eq!(found[2], expected, "the whole query");
    assert_eq!(found[1][0][0], serde_json::json!(14), "rows with columns that were not sent");
    assert_eq!(serde_json::Value::from(fold(folder.path())), expected, "fold.py");
    // The simple one has the same keys.
    let keys = |rows: &serde_json::Value| rows.as_array().unwrap().iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(keys(&found[0]), keys(&expected));

    writer.barrier(BarrierKind::Truncate).await;
    writer.flush().await;
    assert_eq!(queries(folder.path())[2], serde_json::json!([]), "everything is void");
    writer.insert(1, Some("after")).await;
    writer.flush().await;
    let expected = writer.expected();
    let found = queries(folder.path());
    assert_eq!((&found[0], &found[2]), (&expected, &expected));
    assert_eq!(serde_json::Value::from(fold(folder.path())), expected);
}

#[tokio::test]
async fn random_histories_fold_to_the_table() {
    for seed in 1..=4u64 {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path()).await;
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below) as i64
        };
        for step in 0..300 {
            let id = random(12);
            let other = random(12);
            let has = writer.model.0.contains_key(&id);
            match random(40) {
                0 if step > 100 => writer.barrier(BarrierKind::Truncate).await,
                1..=4 => writer.flush().await,
                5..=12 if has => writer.delete(id).await,
                13..=20 if has && !writer.model.0.contains_key(&other) => writer.rekey(id, other).await,
                21..=24 if has => writer.update(id, Some(None), step).await,
                25..=28 if has => writer.update(id, Some(Some(&format!("step {step}"))), step).await,
                _ if has => writer.update(id, None, step).await,
                _ => writer.insert(id, Some(&format!("born {step}"))).await,
            }
        }
        writer.flush().await;
        let expected = writer.expected();
        assert_eq!(queries(folder.path())[2], expected, "seed {seed}");
        assert_eq!(serde_json::Value::from(fold(folder.path())), expected, "seed {seed}");
    }
}

#[tokio::test]
async fn a_folder_without_files_folds_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(fold(folder.path()), [serde_json::Value::Null; 0]);
    let mut changes = Changes::from_sequence(1);
    let mut opened = open(folder.path(), "w", &topic(1, 1), &NextOffsets::new()).await;
    opened
        .sink
        .write(rows(0, 0, changes.push(Op::Delete, Some([Cell::Int(1), Cell::Null, Cell::Null]), None).batch()))
        .await
        .unwrap();
    opened.sink.flush().await.unwrap();
    assert_eq!(fold(folder.path()), [serde_json::Value::Null; 0]);
}

#[tokio::test]
async fn duckdb_reads_every_type() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &NextOffsets::new()).await;
    opened.sink.write(rows(0, 0, all_types::batch())).await.unwrap();
    opened.sink.flush().await.unwrap();
    // The second row was deleted, which its values are there to see by: the fold leaves the first and the third.
    let found = fold_topic(folder.path(), "shop.public.note", &["--text"]);
    let nulls = vec![serde_json::Value::Null; all_types::all_types().len() - 1];
    assert_eq!(found[1].as_array().unwrap()[1..], nulls);
    let expected = [
        ("id", "0"),
        ("bool", "true"),
        ("i16", "-32768"),
        ("i32", "-2147483648"),
        ("f32", "-0.0"),
        ("f64", "5e-324"),
        ("dec9", "-0.01"),
        ("dec18", "-1"),
        ("dec38", "-.00000000000000000000000000000000000001"),
        // DuckDB has no decimals of more than 38 digits: it makes doubles of them, not even the nearest.
        ("dec65", "-9.999999999999999e-31"),
        ("dec76", "-1.0"),
        ("text", ""),
        ("json", ""),
        ("bytes", ""),
        ("date", "-infinity"),
        ("time", "00:00:00"),
        ("ts", "-infinity"),
        ("tstz", "-infinity"),
        ("duration", "-3020399999999"),
        ("interval", "{'months': -1, 'days': 15, 'micros': -86399999999}"),
        ("uuid", "00000000-0000-0000-0000-000000000000"),
        ("ints", "[]"),
        ("uuids", "[]"),
        ("dates", "[]"),
        ("jsons", "[]"),
        ("_ORDER", "-2147483648"),
        ("_order_", "-2147483648"),
    ];
    for ((name, expected), found) in expected.into_iter().zip(found[0].as_array().unwrap()) {
        assert_eq!(found, expected, "{name}");
    }
    let deleted = python(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/values.py"),
        &[
            file(folder.path(), 0, 0).to_str().unwrap(),
            "_op = 'd'",
            "i16, f32, f64, dec9, dec65, json, bytes, date, time, ts, tstz, to_microseconds(duration), uuid, ints, uuids, dates",
        ],
    );
    let expected = serde_json::json!([
        "32767",
        "nan",
        "-inf",
        "1234567.89",
        "1e+35",
        "{\"a\": \"Ж \\u0041\", \"b\": 1.50}",
        "\\x00\\xFF",
        "infinity",
        "24:00:00",
        "infinity",
        "infinity",
        "838:59:59.999999",
        "01010101-0101-0101-0101-010101010101",
        "[-2147483648, NULL, 2147483647]",
        "[00000000-0000-0000-0000-000000000000, NULL, 01010101-0101-0101-0101-010101010101]",
        "[-infinity, NULL, infinity]"
    ]);
    assert_eq!(deleted, [expected]);
}

/// What DuckDB has no type for: another reader sees every digit, and that a duration is one.
#[tokio::test]
async fn pyarrow_reads_wide_decimals_and_durations() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &NextOffsets::new()).await;
    opened.sink.write(rows(0, 0, all_types::batch())).await.unwrap();
    opened.sink.flush().await.unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/arrow_values.py");
    let found = python(&script, &[file(folder.path(), 0, 0).to_str().unwrap(), "dec65", "dec76", "duration"]);
    let nines = "9".repeat(65);
    let expected = [
        serde_json::json!(["decimal256(65, 30)", "-1E-30", format!("{}.{}", &nines[..35], &nines[..30]), null]),
        serde_json::json!(["decimal256(76, 0)", "-1", nines, null]),
        serde_json::json!(["duration[us]", "-3020399999999", "3020399999999", null]),
    ];
    assert_eq!(found, expected);
}

/// Files on disk, folded by DuckDB.
struct OnDisk(tempfile::TempDir);

#[async_trait::async_trait]
impl Fixture for OnDisk {
    async fn connect(&self) -> Arc<dyn Target> {
        connect(&format!("{{ url: 'file://{}' }}", self.0.path().display()), "w").await.unwrap()
    }

    async fn table(&self, topic: &TopicInfo) -> Table {
        let rows = fold_topic(self.0.path(), &topic.name, &[]);
        let extra = topic.schema.columns().iter().position(|column| column.name == "extra");
        let row = |row: serde_json::Value| {
            let extra = extra.and_then(|extra| row[extra].as_i64());
            (row[0].as_i64().unwrap(), (row[1].as_str().map(str::to_owned), extra))
        };
        rows.into_iter().map(row).collect()
    }
}

#[tokio::test]
async fn the_sink_keeps_what_every_sink_promises() {
    connector_api::conformance::run(&OnDisk(tempfile::tempdir().unwrap())).await;
}
