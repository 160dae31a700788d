//! The sink on a folder: what files there are after each way to go on, to stop, and to be overtaken.
mod fixture;

use std::{collections::BTreeMap, fs};

use arrow_array::{Array, cast::AsArray, types::Int64Type};
use connector_api::{BarrierKind, NextOffsets, Op, Recovery, Severity, SinkInput};
use fixture::*;
use parquet::file::{
    reader::{FileReader, SerializedFileReader},
    statistics::Statistics,
};

fn next(pairs: &[(i32, i64)]) -> NextOffsets {
    pairs.iter().copied().collect()
}

#[tokio::test]
async fn a_range_becomes_one_file_that_says_where_to_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w1", &topic(1, 2), &next(&[])).await;
    assert_eq!(opened.next, next(&[]), "an empty folder knows nothing");
    let filled = opened.sink.write(rows(0, 100, inserts(0..3))).await.unwrap();
    assert_eq!(filled.rows, 3);
    assert!(filled.bytes > 0);
    opened.sink.write(rows(0, 103, inserts(3..5))).await.unwrap();
    assert!(!files(folder.path()).iter().any(|name| name.ends_with(".parquet")), "nothing is visible before the flush");
    let flushed = opened.sink.flush().await.unwrap();
    assert_eq!(flushed.next, next(&[(0, 105)]));
    assert_eq!(files(folder.path()), ["topic=shop.public.note/partition=0/00000000000000000100.parquet"]);
    assert_eq!(flushed.bytes, fs::metadata(file(folder.path(), 0, 100)).unwrap().len());
    assert_eq!(opened.sink.flush().await.unwrap().next, next(&[]), "a flush of nothing writes nothing");

    opened.sink.write(rows(0, 105, inserts(5..6))).await.unwrap();
    opened.sink.write(rows(1, 0, inserts(9..10))).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next, next(&[(0, 106), (1, 1)]));
    assert_eq!(ids(folder.path(), 0), [0, 1, 2, 3, 4, 5]);
    assert_eq!(ids(folder.path(), 1), [9]);

    let again = open(folder.path(), "w2", &topic(1, 2), &next(&[])).await;
    assert_eq!(again.next, next(&[(0, 106), (1, 1)]), "the files alone say where to go on");
    let again = open(folder.path(), "w2", &topic(1, 2), &next(&[(0, 106), (1, 40)])).await;
    assert_eq!(again.next, next(&[(0, 106), (1, 40)]), "files that went away count too");
}

#[tokio::test]
async fn the_footer_tells_what_the_file_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "host-7", &topic(1, 1), &next(&[])).await;
    opened.sink.write(rows(0, 0, inserts(0..2))).await.unwrap();
    opened.sink.flush().await.unwrap();
    let reader = SerializedFileReader::new(fs::File::open(file(folder.path(), 0, 0)).unwrap()).unwrap();
    let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap();
    let pairs: BTreeMap<_, _> = pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_deref().unwrap())).collect();
    let expected = [
        ("mainstem.topic", "shop.public.note"),
        ("mainstem.topic_id", "01010101-0101-0101-0101-010101010101"),
        ("mainstem.partition", "0"),
        ("mainstem.first_offset", "0"),
        ("mainstem.next_offset", "2"),
        ("mainstem.writer", "host-7"),
        ("mainstem.format_version", "1"),
    ];
    for (key, value) in expected {
        assert_eq!(pairs.get(key), Some(&value), "{key}");
    }
    let schema: serde_json::Value = serde_json::from_str(pairs["mainstem.schema"]).unwrap();
    assert_eq!(schema["key"], serde_json::json!(["id"]));
    assert_eq!(schema["columns"][2]["source_type"], "numeric(12,2)");
}

#[tokio::test]
async fn rows_tell_what_happened() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[])).await;
    let mut changes = Changes::from_sequence(5);
    changes.read(1, text("one")).insert(2, text("two")).update(1, Cell::Unchanged, 7).delete(2).rekey(1, 3, Cell::Unchanged);
    opened.sink.write(rows(0, 0, changes.batch())).await.unwrap();
    opened.sink.write(barrier(BarrierKind::Truncate, 0, 6, 11)).await.unwrap();
    opened.sink.write(barrier(BarrierKind::SnapshotRestart, 0, 7, 12)).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next, next(&[(0, 8)]));
    let batch = read(&file(folder.path(), 0, 0));
    let names: Vec<_> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "body", "price", "_op", "_order", "_commit_ts", "_tx", "_unchanged", "_old_key"]);
    let column = |name: &str| batch.column_by_name(name).unwrap();
    let ops: Vec<_> = column("_op").as_string::<i32>().iter().flatten().collect();
    assert_eq!(ops, ["r", "c", "u", "d", "d", "u", "t", "s"]);
    let ids: Vec<_> = column("id").as_primitive::<Int64Type>().iter().collect();
    assert_eq!(ids, [Some(1), Some(2), Some(1), Some(2), Some(1), Some(3), None, None]);
    let sequences: Vec<_> = column("_order").as_struct().column(0).as_primitive::<Int64Type>().values().to_vec();
    assert_eq!(sequences, [5, 6, 7, 8, 9, 9, 11, 12], "both halves of a move share an order key");
    let unchanged = column("_unchanged").as_list::<i32>();
    let with_unchanged: Vec<_> = (0..8).filter(|row| unchanged.is_valid(*row)).collect();
    assert_eq!(with_unchanged, [2, 5]);
    assert_eq!(unchanged.value(2).as_string::<i32>().value(0), "body");
    let old_key = column("_old_key").as_struct();
    let old: Vec<_> = (0..8).filter(|row| old_key.is_valid(*row)).collect();
    assert_eq!(old, [4, 5]);
    assert_eq!(old_key.column(0).as_primitive::<Int64Type>().value(5), 1);
    let tx: Vec<_> = column("_tx").as_primitive::<Int64Type>().iter().flatten().collect();
    assert_eq!(tx, [705, 706, 707, 708, 709, 709, 711, 712]);
}

#[tokio::test]
async fn of_two_writers_one_wins_and_the_other_goes_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut asleep = open(folder.path(), "asleep", &topic(1, 1), &next(&[(0, 100)])).await;
    asleep.sink.write(rows(0, 100, inserts(100..150))).await.unwrap();
    // A second writer on a copy of the log takes over, and writes longer and further files.
    let mut awake = open(folder.path(), "awake", &topic(1, 1), &next(&[(0, 100)])).await;
    assert_eq!(awake.next, next(&[(0, 100)]));
    awake.sink.write(rows(0, 100, inserts(100..130))).await.unwrap();
    assert_eq!(awake.sink.flush().await.unwrap().next, next(&[(0, 130)]));
    let written = fs::read(file(folder.path(), 0, 100)).unwrap();

    // The first one wakes: its unfinished file was removed, and what it would have written is there in part.
    assert_eq!(asleep.sink.flush().await.unwrap().next, next(&[(0, 130)]), "the winner's end, in the middle of what was discarded");
    assert_eq!(fs::read(file(folder.path(), 0, 100)).unwrap(), written, "the winner's file is as it was");
    asleep.sink.write(rows(0, 130, inserts(130..150))).await.unwrap();
    assert_eq!(asleep.sink.flush().await.unwrap().next, next(&[(0, 150)]));
    // And the other way round.
    awake.sink.write(rows(0, 130, inserts(130..131))).await.unwrap();
    assert_eq!(awake.sink.flush().await.unwrap().next, next(&[(0, 150)]));
    assert_eq!(ids(folder.path(), 0), (100..150).collect::<Vec<_>>(), "each row once");
    assert!(files(folder.path()).iter().all(|name| name.ends_with(".parquet")));
}

#[tokio::test]
async fn many_writers_at_once_write_each_row_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for writer in 0..8 {
        all.push((writer, open(folder.path(), &format!("w{writer}"), &topic(1, 1), &next(&[(0, 0)])).await));
    }
    // All are open before the first begins a file: opening removes what others have begun.
    let mut writers = tokio::task::JoinSet::new();
    for (writer, mut opened) in all {
        writers.spawn(async move {
            let mut at = 0;
            let mut seen = vec![];
            while at < 200 {
                let until = (at + 3 + writer).min(200);
                opened.sink.write(rows(0, at, inserts(at..until))).await.unwrap();
                at = opened.sink.flush().await.unwrap().next[&0];
                seen.push(at);
            }
            assert!(seen.is_sorted() && at == 200, "{seen:?}");
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
    assert_eq!(ids(folder.path(), 0), (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn input_that_comes_again_is_not_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[])).await;
    opened.sink.write(rows(0, 0, inserts(0..10))).await.unwrap();
    opened.sink.write(rows(0, 5, inserts(5..12))).await.unwrap();
    opened.sink.flush().await.unwrap();
    opened.sink.write(rows(0, 0, inserts(0..10))).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next, next(&[]), "nothing new");
    opened.sink.write(rows(0, 8, inserts(8..14))).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next, next(&[(0, 14)]));
    assert_eq!(ids(folder.path(), 0), (0..14).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_range_without_rows_is_written_down_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[(0, 10)])).await;
    let SinkInput::Rows(mut range) = rows(0, 10, inserts(0..1)) else { panic!() };
    range.batch = range.batch.slice(0, 0);
    range.offsets.clear();
    range.next_offset = 25;
    opened.sink.write(SinkInput::Rows(range)).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next, next(&[(0, 25)]));
    opened.sink.write(rows(0, 25, inserts(25..26))).await.unwrap();
    opened.sink.flush().await.unwrap();
    assert_eq!(open(folder.path(), "w", &topic(1, 1), &next(&[])).await.next, next(&[(0, 26)]));
}

#[tokio::test]
async fn a_crash_at_any_step_leaves_one_file_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let partition = folder.path().join("topic=shop.public.note/partition=0");
    let unfinished = partition.join(".tmp-00000000000000000000-6e1fd6b0-3fd0-4f4c-9d35-0d4a8b6f1a11");
    // Before the name was given: half a file under a hidden name. Names that are not ours stay.
    fs::create_dir_all(&partition).unwrap();
    fs::write(&unfinished, "PAR1 and then the power went").unwrap();
    fs::write(partition.join(".tmp-of-somebody-else"), "").unwrap();
    fs::write(partition.join("compacted.parquet"), "").unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[])).await;
    assert_eq!(opened.next, next(&[]));
    opened.sink.write(rows(0, 0, inserts(0..5))).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next, next(&[(0, 5)]));
    // After the name was given and before the hidden one was removed.
    fs::hard_link(file(folder.path(), 0, 0), &unfinished).unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[])).await;
    assert_eq!(opened.next, next(&[(0, 5)]), "the report was lost, the file was not");
    // Dropped in the middle of a file, as on an error.
    opened.sink.write(rows(0, 5, inserts(5..9))).await.unwrap();
    drop(opened);
    fs::remove_file(partition.join("compacted.parquet")).unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[])).await;
    opened.sink.write(rows(0, 5, inserts(5..7))).await.unwrap();
    opened.sink.flush().await.unwrap();
    assert_eq!(ids(folder.path(), 0), (0..7).collect::<Vec<_>>());
    let names = files(folder.path());
    assert_eq!(names.len(), 3, "two files and somebody else's: {names:?}");
}

#[tokio::test]
async fn files_of_another_topic_of_that_name_stop_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[])).await;
    opened.sink.write(rows(0, 0, inserts(0..5))).await.unwrap();
    opened.sink.flush().await.unwrap();
    let error = try_open(folder.path(), "w", &topic(2, 1), &next(&[])).await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Stop);
    let message = error.to_string();
    for part in ["00000000000000000000.parquet", "01010101-", "02020202-", "another `url`", "resnapshot"] {
        assert!(message.contains(part), "{message}");
    }
    // The same, met only when the file is to be created.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut opened = open(elsewhere.path(), "w", &topic(2, 1), &next(&[])).await;
    opened.sink.write(rows(0, 0, inserts(0..1))).await.unwrap();
    fs::copy(file(folder.path(), 0, 0), file(elsewhere.path(), 0, 0)).unwrap();
    let error = opened.sink.flush().await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Stop);
    assert!(error.to_string().contains("another topic"), "{error}");
}

#[tokio::test]
async fn damaged_files_stop_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[])).await;
    opened.sink.write(rows(0, 0, inserts(0..5))).await.unwrap();
    opened.sink.flush().await.unwrap();
    let path = file(folder.path(), 0, 0);
    let good = fs::read(&path).unwrap();
    for damaged in [&b""[..], b"PAR1PAR1", &good[..good.len() - 1], &good[good.len() / 2..good.len() - 9]] {
        fs::write(&path, damaged).unwrap();
        let error = try_open(folder.path(), "w", &topic(1, 1), &next(&[])).await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Stop);
        assert!(error.to_string().contains("00000000000000000000.parquet"), "{error}");
    }
    // A whole file that stands under another's name.
    fs::write(&path, &good).unwrap();
    fs::rename(&path, file(folder.path(), 0, 3)).unwrap();
    let error = try_open(folder.path(), "w", &topic(1, 1), &next(&[])).await.unwrap_err();
    assert!(error.to_string().contains("from offset 0"), "{error}");
}

#[tokio::test]
async fn a_schema_may_not_change_within_a_file() {
    use connector_api::{Column, ColumnType, Identity, TableName, TableSchema};
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[])).await;
    opened.sink.write(rows(0, 0, inserts(0..5))).await.unwrap();
    let mut other = Changes::from_sequence(9).barrier(Op::Insert).batch();
    let column = Column { name: "id".into(), kind: ColumnType::Int64, source_type: "int8".into() };
    other.schema = TableSchema::new(TableName::new("public", "note"), vec![column], vec![0], Identity::Key).into();
    let error = opened.sink.write(rows(0, 5, other.clone())).await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Stop);
    // After a flush it may.
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[])).await;
    opened.sink.write(rows(0, 0, inserts(0..5))).await.unwrap();
    opened.sink.flush().await.unwrap();
    opened.sink.write(rows(0, 5, other)).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next, next(&[(0, 6)]));
    assert_eq!(read(&file(folder.path(), 0, 5)).num_columns(), 1 + 6);
}

#[tokio::test]
async fn row_groups_are_bounded_and_floats_have_no_statistics() {
    use connector_api::{ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Identity, OrderKey, TableName, TableSchema};
    let column = |name: &str, kind| Column { name: name.into(), kind, source_type: String::new() };
    let floats = ColumnType::List(Box::new(ColumnType::Float64));
    let columns = vec![
        column("id", ColumnType::Int64),
        column("x", ColumnType::Float64),
        column("xs", floats),
        column("noise", ColumnType::Bytes),
    ];
    let schema = TableSchema::new(TableName::new("public", "note"), columns, vec![0], Identity::Key);
    let mut builder = ChangeBatchBuilder::new(schema.into(), source_info());
    let mut noise = 1u64;
    for id in 0..40_000i64 {
        builder.begin(Op::Insert, OrderKey { sequence: 1, ordinal: id as u32 }, 0);
        builder.before().absent();
        let [ColumnBuilder::Int64(ids), ColumnBuilder::Float64(x), ColumnBuilder::List(xs), ColumnBuilder::Bytes(bytes)] =
            builder.after().present()
        else {
            panic!("four columns")
        };
        ids.append_value(id);
        x.append_value(if id == 7 { f64::NAN } else { id as f64 });
        let ColumnBuilder::Float64(items) = xs.items() else { panic!("a list of floats") };
        items.append_value(f64::NAN);
        xs.close().unwrap();
        let random: Vec<u8> = (0..128)
            .flat_map(|_| {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                noise.rotate_left(17).to_le_bytes()
            })
            .collect();
        bytes.append_value(random);
        let [ColumnBuilder::Int64(tx)] = builder.source() else { panic!("one source column") };
        tx.append_null();
    }
    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(folder.path(), "w", &topic(1, 1), &next(&[])).await;
    opened.sink.write(rows(0, 0, builder.finish().unwrap())).await.unwrap();
    opened.sink.flush().await.unwrap();
    let reader = SerializedFileReader::new(fs::File::open(file(folder.path(), 0, 0)).unwrap()).unwrap();
    let groups = reader.metadata().row_groups();
    assert!(groups.len() >= 3, "{} row groups of 40 MB", groups.len());
    assert!(groups.iter().all(|group| group.total_byte_size() < 20 << 20));
    for chunk in groups.iter().flat_map(|group| group.columns()) {
        let path = chunk.column_path().string();
        match path.as_str() {
            "x" | "xs.list.element" => assert!(chunk.statistics().is_none(), "{path}"),
            "id" => assert!(matches!(chunk.statistics(), Some(Statistics::Int64(s)) if s.min_opt().is_some())),
            _ => {}
        }
    }
}

#[tokio::test]
async fn check_says_what_is_wrong_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let url = |path: &std::path::Path| format!("{{ url: 'file://{}' }}", path.display());
    let findings = connector(&url(&folder.path().join("not/there/yet"))).unwrap().check(context("w")).await.unwrap();
    assert_eq!(findings, []);
    assert_eq!(files(folder.path()), [""; 0]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    let error = connect(&url(&in_the_way), "w").await.err().unwrap();
    assert!(error.to_string().contains("file"), "{error}");
    let single = format!("{{ url: 'file://{}', single_writer: true }}", folder.path().display());
    let findings = connector(&single).unwrap().check(context("w")).await.unwrap();
    assert!(findings.iter().any(|finding| finding.severity == Severity::Note && finding.message.contains("second process")));
    // Without hard links: the same, but for the second writer.
    let target = connect(&single, "w").await.unwrap();
    let mut opened = target.open(&topic(1, 1), &next(&[])).await.unwrap();
    opened.sink.write(rows(0, 0, inserts(0..5))).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next, next(&[(0, 5)]));
    assert_eq!(ids(folder.path(), 0), (0..5).collect::<Vec<_>>());
}

#[test]
fn wrong_settings_are_said_with_their_place() {
    let message = |settings: &str| connector(settings).err().unwrap();
    let cases = [
        ("{ url: 'file:///x', roll: { bytes: 128 } }", "no size"),
        ("{ url: 'file:///x', roll: { byte: 1MiB } }", "byte"),
        ("{ url: 'file:///x', format: orc }", "orc"),
        ("{ url: 'file:///x', compression: gzip }", "`zstd`, `zstd(LEVEL)`, `snappy` or `none`"),
        ("{ url: 'ftp://x' }", "ftp://"),
        ("{ url: 'file:///x', s3: {} }", "no S3 behind"),
        ("{ url: 's3://b', s3: { endpoint: 'localhost:9000' } }", "https://host:port"),
        ("{ url: 's3://b', s3: { endpoint: 'http://me:hunter2@localhost:9000' } }", "access_key_id"),
        ("{ url: 's3://b', s3: { secret_access_key: hunter2 } }", "`access_key_id` is missing"),
        ("{ url: 's3://b', roll: { bytes: 1TiB } }", "64GiB"),
        ("{ roll: { bytes: 1MiB } }", "url"),
    ];
    for (settings, part) in cases {
        let message = message(settings);
        assert!(message.starts_with("test.yaml:1:") && message.contains(part), "{settings}: {message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    let policy = connector("{ url: 's3://b', roll: { bytes: 1MiB, rows: 7, age: 10s } }").unwrap().policy();
    assert_eq!((policy.bytes, policy.rows, policy.age.as_secs()), (1 << 20, 7, 10));
}
