//! `mainstem log`, and the log's files in the hands of another reader.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use mainstem_tests::{Output, Random, Run, python, repository, run_command, wait_until};
use serde_json::{Value, json};

use crate::data_directory::{copy, ids};

/// `mainstem log COMMAND ARGUMENTS --data-dir DATA`.
fn log(data: &Path, arguments: &[&str]) -> Output {
    let data = ["--data-dir".to_owned(), data.display().to_string()];
    run_command(["log".to_owned()].into_iter().chain(arguments.iter().map(|&argument| argument.to_owned())).chain(data))
}

fn json_of(output: &Output) -> Value {
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", output.stdout, output.stderr))
}

/// Writes a pipeline of made-up rows; returns its file.
fn pipeline(dir: &Path, name: &str, settings: &str) -> PathBuf {
    let file = dir.join(format!("{name}.yaml"));
    fs::write(&file, format!("name: {name}\nsource:\n  generate: {{ {settings} }}\n")).expect("pipeline file");
    file
}

fn with_lake(file: &Path, lake: &Path) {
    let text = fs::read_to_string(file).expect("pipeline file");
    let sinks = format!("sinks:\n  lake:\n    files: {{ url: \"file://{}\", roll: {{ age: 1s }} }}\n", lake.display());
    fs::write(file, text + &sinks).expect("pipeline file");
}

/// The one topic that is not the log's own, with its segments.
fn topic(data: &Path) -> (String, Vec<PathBuf>) {
    let topics = json_of(&log(data, &["topics", "--json"]));
    let names = topics.as_array().expect("topics").iter().filter_map(|topic| topic["topic"].as_str());
    let name = names.into_iter().find(|name| !name.starts_with('_')).expect("a topic").to_owned();
    let described = json_of(&log(data, &["describe", &name, "--json"]));
    let mut segments = Vec::new();
    for partition in described["partitions"].as_array().expect("partitions") {
        for segment in partition["segments"].as_array().expect("segments") {
            let file =
                format!("topics/{name}/{}/{:020}.log", partition["partition"], segment["base_offset"].as_i64().expect("offset"));
            segments.push(data.join(file));
        }
    }
    (name, segments)
}

/// Records of a file as our code reads them: offset, time, key, value, headers.
fn our_records(file: &Path) -> (Vec<Value>, Vec<String>) {
    let output = run_command(["log", "dump", &file.display().to_string(), "--values=hex", "--json"]);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let (mut records, mut codecs) = (Vec::new(), Vec::new());
    for line in output.stdout.lines() {
        let batch: Value = serde_json::from_str(line).expect("JSON");
        codecs.push(batch["codec"].as_str().expect("codec").to_owned());
        assert_eq!(batch["crc_ok"], true);
        for record in batch["records"].as_array().expect("records") {
            let names = record["headers"].as_array().expect("headers").iter();
            let values = record["header_values"].as_array().expect("values").iter();
            let headers: Vec<Value> = names.zip(values).map(|(name, value)| json!([name, value])).collect();
            let (key, value) = (&record["key"], &record["value"]);
            records.push(json!({
                "offset": record["offset"], "timestamp_ms": record["timestamp_ms"], "key": key, "value": value, "headers": headers,
            }));
        }
    }
    (records, codecs)
}

/// Records that kafka-python read from a file, or wrote to one.
fn kafka_python(arguments: &[&str]) -> Vec<Value> {
    let script = repository().join("tests/servers/kafka_batches.py");
    let output = Command::new(python()).arg(script).args(arguments).output().expect("python");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn another_reader_reads_our_segments_of_every_codec() {
    for codec in ["none", "lz4", "zstd"] {
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = pipeline(dir.path(), codec, "rows: 3000, columns: 5, keys: 1000");
        let settings = format!("log: {{ format: json, compression: {codec}, partitions: 2, tombstones: true }}\n");
        fs::write(&file, fs::read_to_string(&file).expect("file") + &settings).expect("file");
        let data = dir.path().join("data");
        Run::new(&data).file(&file).once_succeeds();
        let (_, segments) = topic(&data);
        assert!(segments.len() >= 2);
        let mut rows = 0;
        for segment in &segments {
            let theirs = kafka_python(&["read", &segment.display().to_string()]);
            let (ours, codecs) = our_records(segment);
            assert!(codecs.iter().any(|found| found == codec), "{codec}: {codecs:?}");
            assert_eq!(ours, theirs, "{codec}");
            rows += ours.len();
        }
        assert!(rows >= 3000, "{codec}: {rows} records");
    }
}

#[test]
fn batches_of_another_writer_are_read_whatever_their_codec() {
    let dir = tempfile::tempdir().expect("temporary folder");
    for codec in ["none", "gzip", "snappy", "snappy-raw", "lz4", "zstd"] {
        let file = dir.path().join(codec);
        let theirs = kafka_python(&["write", codec, &file.display().to_string()]);
        assert_eq!(theirs.len(), 2004);
        let (ours, codecs) = our_records(&file);
        assert_eq!(ours, theirs, "{codec}");
        // A single record is not worth compressing.
        assert!(codecs[1..].iter().all(|found| codec.starts_with(found.as_str())), "{codec}: {codecs:?}");
    }
}

#[test]
fn a_log_is_described_and_verified_beside_a_run_and_changed_only_after_it() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let data = dir.path().join("data");
    let file = pipeline(dir.path(), "beside", "rows_per_second: 2000, columns: 3");
    with_lake(&file, &dir.path().join("lake"));
    let mainstem = Run::new(&data).file(&file).start();
    wait_until("rows are in the target", || mainstem.sink("beside", "lake")["rows"].as_u64() > Some(0));
    let (name, _) = topic(&data);
    let described = || json_of(&log(&data, &["describe", &name, "--json"]));
    wait_until("the log knows how far the sink is", || described()["partitions"][0]["groups"] != json!([]));
    let partition = &described()["partitions"][0];
    let group = &partition["groups"][0];
    assert_eq!(group["group"], "beside/lake");
    let (next, end) = (group["next_offset"].as_i64(), partition["end_offset"].as_i64());
    assert_eq!(group["lag_records"].as_i64(), end.zip(next).map(|(end, next)| end - next), "{group}");
    let segment = &partition["segments"][0];
    assert!(segment["bytes"].as_u64() > Some(0) && segment["first_timestamp_ms"].as_i64() <= segment["last_timestamp_ms"].as_i64());
    let text = log(&data, &["describe", &name]).stdout;
    assert!(text.contains("group beside/lake: needs offset") && text.contains("segment 00000000000000000000: "), "{text}");
    let groups = json_of(&log(&data, &["groups", "beside/lake", "--json"]));
    let groups = groups.as_array().expect("groups");
    assert!(
        groups.iter().any(|group| group["topic"] == *name && group["partition"] == 0 && group["lag_bytes"].is_u64()),
        "{groups:?}"
    );
    assert!(log(&data, &["groups"]).stdout.contains("beside/lake"));
    assert_eq!(log(&data, &["groups", "nonsense"]).code, Some(2));
    assert_eq!(log(&data, &["topics", "--json"]).code, run_command(["topics", "--data-dir", &data.display().to_string()]).code);

    for _ in 0..5 {
        let verified = log(&data, &["verify"]);
        assert_eq!(verified.code, Some(0), "{}{}", verified.stdout, verified.stderr);
        assert!(verified.stdout.contains("nothing is damaged") && verified.stdout.contains("/s)"), "{}", verified.stdout);
    }
    assert_eq!(log(&data, &["verify", "nonsense"]).code, Some(2));
    assert_eq!(log(&data, &["describe", "nonsense"]).code, Some(2));
    for refused in [&["repair", "--yes"][..], &["delete-topic", &name]] {
        let output = log(&data, refused);
        assert_eq!(output.code, Some(1), "{refused:?}");
        assert!(output.stderr.contains(&format!("process {}", mainstem.pid())), "{refused:?}: {}", output.stderr);
    }
    mainstem.stop();

    let nothing = log(&data, &["repair"]);
    assert_eq!(nothing.code, Some(0), "{}{}", nothing.stdout, nothing.stderr);
    assert_eq!(log(&data, &["delete-topic", "_schemas"]).code, Some(2));
    let deleted = log(&data, &["delete-topic", &name]);
    assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
    assert!(
        deleted.stdout.contains("removing 1 partitions with") && deleted.stdout.contains("`beside/lake`"),
        "{}",
        deleted.stdout
    );
    assert!(!log(&data, &["topics"]).stdout.contains(&name));
    assert_eq!(log(&data, &["verify"]).code, Some(0));
    let elsewhere = dir.path().join("nowhere");
    assert_eq!(log(&elsewhere, &["repair"]).code, Some(1));
    assert!(!elsewhere.exists(), "a command made a log");
}

/// A flipped bit in an old segment: found by a reader and by `verify`, with file and offsets; not mended in silence; after `repair`
/// everything else reaches the target, and the sink says what it lacks.
#[test]
fn log_crash_03_a_repair_gives_up_one_batch_and_says_so() {
    const ROWS: i64 = 600;
    let dir = tempfile::tempdir().expect("temporary folder");
    let (data, lake) = (dir.path().join("data"), dir.path().join("lake"));
    let file = pipeline(dir.path(), "damaged", &format!("rows: {ROWS}, rows_per_second: 1000, columns: 3"));
    Run::new(&data).file(&file).once_succeeds();
    with_lake(&file, &lake);
    let (name, segments) = topic(&data);
    let segment = segments.first().expect("a segment");
    let dumped = log(&data, &["dump", &segment.display().to_string(), "--json"]);
    let batches: Vec<Value> = dumped.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(batches.len() > 2, "{batches:?}");
    let mut random = Random::new("log_crash_03_repair");
    // Not the first, which holds the marker that the rows begin.
    let batch = &batches[1 + random.below(batches.len() as u64 - 2) as usize];
    let number = |field: &str| batch[field].as_u64().expect("number");
    let (position, size, first, last) = (number("position"), number("bytes"), number("base_offset"), number("last_offset"));
    let at = position + 61 + random.below(size - 61);
    let damaged = dir.path().join("damaged");
    copy(&data, &damaged);
    let inside = damaged.join(segment.strip_prefix(&data).expect("inside"));
    let mut bytes = fs::read(&inside).expect("segment");
    bytes[at as usize] ^= 1 << random.below(8);
    fs::write(&inside, &bytes).expect("segment");

    let mut run = Run::new(&damaged).file(&file).allow("").once();
    assert_ne!(run.exit().and_then(|status| status.code()), Some(0), "the damage was passed on:\n{}", run.log());
    assert!(run.log().contains(&inside.display().to_string()), "the error does not name the file:\n{}", run.log());
    assert!(run.log().contains(&format!("offsets {first} to {last}")), "the error does not name the offsets:\n{}", run.log());

    let verified = log(&damaged, &["verify", "--json"]);
    assert_eq!(verified.code, Some(1));
    let found = &json_of(&verified)["damages"];
    assert_eq!(found.as_array().map(Vec::len), Some(1), "{found}");
    let expected = json!([inside.display().to_string(), position, position + size, first, last + 1, "cut_out", name]);
    let fields = ["file", "first_byte", "end_byte", "first_offset", "end_offset", "remedy", "topic"];
    assert_eq!(Value::from(fields.map(|field| found[0][field].clone()).to_vec()), expected);
    let dumped = log(&damaged, &["dump", &segment.strip_prefix(&data).expect("inside").display().to_string(), "--records"]);
    assert_eq!(dumped.code, Some(1));
    assert!(dumped.stdout.contains("WRONG") && dumped.stdout.contains("key"), "{}", dumped.stdout);

    let plan = log(&damaged, &["repair"]);
    assert_eq!(plan.code, Some(1), "{}", plan.stderr);
    assert!(
        plan.stdout.contains("RECORDS ARE LOST") && plan.stdout.contains("nothing was changed; --yes does it"),
        "{}",
        plan.stdout
    );
    assert!(plan.stdout.contains(&format!("offsets {first} to {last}, ")), "{}", plan.stdout);
    assert_eq!(fs::read(&inside).expect("segment"), bytes, "something was changed without --yes");
    let repaired = log(&damaged, &["repair", "--yes"]);
    assert_eq!(repaired.code, Some(0), "{}{}", repaired.stdout, repaired.stderr);
    assert!(repaired.stdout.contains("repaired 1 of 1"), "{}", repaired.stdout);
    let verified = log(&damaged, &["verify"]);
    assert_eq!(verified.code, Some(0), "{}", verified.stdout);
    assert!(verified.stdout.contains(&format!("{} offsets were given up", last + 1 - first)), "{}", verified.stdout);

    let _ = fs::remove_dir_all(&lake);
    let mut run = Run::new(&damaged).file(&file).allow("passing over changes that damage took").once();
    assert_eq!(run.exit().and_then(|status| status.code()), Some(0), "{}", run.log());
    run.check_log();
    assert!(run.has_logged("passing over changes that damage took"), "{}", run.log());
    let left = ids(&lake);
    let whole_lake = dir.path().join("whole");
    with_lake(&pipeline(dir.path(), "damaged", &format!("rows: {ROWS}, rows_per_second: 1000, columns: 3")), &whole_lake);
    Run::new(&data).file(&file).once_succeeds();
    let whole = ids(&whole_lake);
    assert_eq!(whole.len() as i64, ROWS);
    assert_eq!(left.len() as u64, whole.len() as u64 - (last + 1 - first));
    assert!(left.iter().all(|id| whole.binary_search(id).is_ok()));
    // Other readers of the format read it too.
    let theirs = kafka_python(&["read", &inside.display().to_string()]);
    assert_eq!(our_records(&inside).0, theirs);
}
