//! What the targets begin with: what the log itself writes, in small.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use log_core::{
    Codec, CommitSet, Compression, Deletion, EncodedBatch, Log, LogOptions, PipelineLog, RecordBatch, RecordBatchBuilder, Schema,
    Topic, fuzzing,
};

use crate::data_dir::{CHANGE, SEAL_JOURNALS, SEAL_PIECES, SEAL_SEGMENTS, SEAL_TRAILERS, compaction, encode, options};

type Files = BTreeMap<String, Vec<u8>>;

const TIMESTAMP_MS: i64 = 1_700_000_000_000;
/// A seed with longer files would only be slow.
const FILE_BYTES_MAX: usize = 4 << 10;

/// Writes the seeds of a target into `folder`, a file each.
pub fn write(target: &str, folder: &Path) {
    let seeds = match target {
        "batch" => batches(),
        "codec" => codecs(),
        "journal" => journals(),
        "offsets" => offsets(),
        "schemas" => schemas(),
        "segment" => segments(),
        _ => data_dirs(),
    };
    fs::create_dir_all(folder).expect("a folder for seeds");
    for (number, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{number:03}")), seed).expect("a seed");
    }
}

/// A few records of each kind: with and without key, value and headers.
fn builder(compression: Compression) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new(compression, TIMESTAMP_MS);
    let append = |builder: &mut RecordBatchBuilder, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, &[u8])]| {
        builder.append(key, value, headers).expect("a small record");
    };
    append(&mut builder, Some(b"a"), Some(&[7; 40]), &[]);
    append(&mut builder, None, Some(b"barrier"), &[("op", b"truncate")]);
    append(&mut builder, Some(b"b"), Some(b"part of a row"), &[("partial", b"1")]);
    append(&mut builder, Some(b"b"), Some(b"part of a row"), &[("move", b"out"), ("partial", b"1")]);
    append(&mut builder, Some(b"a"), None, &[]);
    builder
}

/// A batch, and the same with each codec.
fn batches() -> Vec<Vec<u8>> {
    let plain = RecordBatch::parse(Bytes::copy_from_slice(builder(Compression::None).finish().bytes())).expect("a batch");
    let records = plain.records().expect("records");
    let mut batches = vec![plain.bytes().to_vec()];
    for (codec, stored) in compressed(records.buffer()) {
        batches.push(fuzzing::with_records(&plain, codec, &stored));
    }
    batches
}

fn codecs() -> Vec<Vec<u8>> {
    let long: Vec<u8> = (0..2000u32).map(|number| (number / 9 % 251) as u8).collect();
    let mut seeds = Vec::new();
    for content in [&b"content content content"[..], &long] {
        for (codec, stored) in compressed(content) {
            let attribute =
                [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd].iter().position(|known| *known == codec);
            seeds.push([&[attribute.unwrap_or_default() as u8], stored.as_slice()].concat());
        }
    }
    seeds
}

fn compressed(content: &[u8]) -> Vec<(Codec, Vec<u8>)> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(content).expect("memory takes all");
    let snappy = snap::raw::Encoder::new().compress_vec(content).expect("a small block");
    let framed = [&b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01"[..], &(snappy.len() as i32).to_be_bytes(), &snappy].concat();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(content).expect("memory takes all");
    let mut streamed = zstd::Encoder::new(Vec::new(), 1).expect("an encoder");
    streamed.write_all(content).expect("memory takes all");
    vec![
        (Codec::Gzip, gzip.finish().expect("memory takes all")),
        (Codec::Snappy, snappy),
        (Codec::Snappy, framed),
        (Codec::Lz4, lz4.finish().expect("memory takes all")),
        // With its size in the header and without.
        (Codec::Zstd, zstd::bulk::compress(content, 1).expect("a small frame")),
        (Codec::Zstd, streamed.finish().expect("memory takes all")),
    ]
}

fn journals() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for files in logs() {
        for (_, journal) in files.iter().filter(|(name, _)| name.ends_with(".journal")) {
            for flags in [0, 7] {
                seeds.push([&[flags], journal.as_slice()].concat());
            }
        }
    }
    seeds
}

fn segments() -> Vec<Vec<u8>> {
    let mut all = batches();
    let mut chain = Vec::new();
    let mut base_offset = 0;
    for batch in &all {
        let mut batch = batch.clone();
        batch[..8].copy_from_slice(&i64::to_be_bytes(base_offset));
        chain.extend_from_slice(&batch);
        base_offset += 5;
    }
    all.push(chain);
    let seed = |bytes: &Vec<u8>| {
        let batches = if bytes.len() > 1000 { 7 } else { 1 };
        [&[0, 5 * batches, 1], bytes.as_slice()].concat()
    };
    all.iter().map(seed).collect()
}

/// As the targets `offsets` and `schemas` read them.
fn encode_records(records: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<u8> {
    let lines = records.iter().flat_map(|(key, value)| [key.as_slice(), value.as_deref().unwrap_or_default()]);
    lines.collect::<Vec<_>>().join(&b'\n')
}

fn offsets() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let log = Log::open(dir.path(), LogOptions::default()).expect("a new log");
    fill_offsets(&log);
    let topic = log.topic("_offsets").expect("an internal topic");
    let mut records = Vec::new();
    for batch in topic.read(0, 0, 1 << 20).expect("what was written") {
        for record in batch.records().expect("records").iter().flatten() {
            records.push((record.key.unwrap_or_default().to_vec(), record.value.map(<[u8]>::to_vec)));
        }
    }
    vec![encode_records(&records[..1]), encode_records(&records)]
}

fn fill_offsets(log: &Log) {
    let topic = log.create_topic("t", 2, "p").expect("a topic");
    for next_offset in [1, 2] {
        for group in ["lake", "warehouse"] {
            log.offsets().report(group, topic.id(), next_offset as i32 - 1, next_offset);
        }
        log.offsets().flush().expect("offsets");
    }
    log.offsets().remove_group("lake");
    log.offsets().flush().expect("offsets");
}

fn schemas() -> Vec<Vec<u8>> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let log = Log::open(dir.path(), LogOptions::default()).expect("a new log");
    fill_schemas(&log);
    let records = log.schemas().export().expect("what was written");
    let foreign: [(&str, Option<&str>); 4] = [
        (r#"{"keytype":"NOOP","magic":0}"#, Some(r#"{"lastId":7}"#)),
        (r#"{"keytype":"CLEAR_SUBJECT","subject":null,"magic":0}"#, Some(r#"{"subject":null}"#)),
        (
            r#"{"keytype":"SCHEMA","subject":"a-value","version":3,"magic":1}"#,
            Some(concat!(
                r#"{"subject":"a-value","version":3,"id":9,"md5":"x","schemaType":"JSON","metadata":{"a":[1]},"ruleSet":{},"#,
                r#""references":[{"name":"n","subject":"b-value","version":-1}],"schema":"{}","deleted":true}"#
            )),
        ),
        (r#"{"keytype":"MODE","subject":null,"magic":0}"#, Some(r#"{"mode":"READWRITE"}"#)),
    ];
    let bytes = |text: &str| text.as_bytes().to_vec();
    let foreign: Vec<_> = foreign.iter().map(|(key, value)| (bytes(key), value.map(bytes))).collect();
    let mut seeds: Vec<_> = records.iter().chain(&foreign).map(|record| encode_records(std::slice::from_ref(record))).collect();
    seeds.extend([encode_records(&records), encode_records(&[records, foreign].concat())]);
    seeds
}

fn fill_schemas(log: &Log) {
    let schemas = log.schemas();
    for (subject, text) in [("a-value", r#""int""#), ("b-value", r#""long""#), ("a-value", r#""string""#)] {
        schemas.register(subject, &Schema::avro(text), &|_| Ok(())).expect("a schema");
    }
    schemas.set_compatibility(None, Some("BACKWARD")).expect("a level");
    schemas.delete_version("a-value", 1, Deletion::Soft).expect("a deletion");
    schemas.delete_version("a-value", 1, Deletion::Permanent).expect("a deletion");
    schemas.delete_subject("b-value", Deletion::Soft).expect("a deletion");
}

/// The data directories, with each set of flags that means something.
fn data_dirs() -> Vec<Vec<u8>> {
    let seals = [0, SEAL_JOURNALS | SEAL_PIECES | SEAL_TRAILERS | SEAL_SEGMENTS, SEAL_JOURNALS];
    let mut seeds = Vec::new();
    for files in logs() {
        for flags in seals {
            seeds.extend([encode(flags, &files), encode(flags | CHANGE, &files)]);
        }
    }
    seeds
}

/// The files of logs in each state that a start can find.
fn logs() -> Vec<Files> {
    let mut logs = Vec::new();
    // Killed with commits in the journal, and after a clean stop.
    let with_commits = |log: &Log| {
        let pipeline = log.pipeline("p").expect("a pipeline");
        let topics = [log.create_topic("a", 1, "p").expect("a topic"), log.create_topic("b", 2, "p").expect("a topic")];
        for number in 0..3 {
            commit(&pipeline, &topics[0], 0, one(b"a", number));
            commit(&pipeline, &topics[1], number % 2, one(b"b", number));
        }
    };
    let killed = make(options(), false, with_commits);
    logs.push(make(options(), true, with_commits));
    // As if the commits were too large for the journal, and with contents that wait for their names.
    logs.push(change_journals(&killed, |bytes| fuzzing::journal_without_inline(bytes).expect("a journal")));
    let closed = make(LogOptions { segment_bytes: 150, ..options() }, true, with_commits);
    let mut swapped = change_journals(&closed, |bytes| fuzzing::journal_with_swaps(bytes).expect("a journal"));
    let waiting: Files =
        swapped.iter().filter(|(name, _)| name.ends_with("0000.log")).map(|(n, c)| (format!("{n}.swap"), c.clone())).collect();
    swapped.extend(waiting);
    logs.push(swapped);
    let mut cut = killed.clone();
    cut.values_mut().for_each(|content| content.truncate(content.len() * 4 / 5));
    cut.insert("log.json".to_owned(), killed.get("log.json").cloned().unwrap_or_default());
    logs.extend([killed, cut]);
    // Bytes that only the journal has, and commits that were not synced.
    logs.push(make(LogOptions { tail_bytes: 1 << 20, ..options() }, false, |log| {
        with_commits(log);
        let topic = log.topic("a").expect("a topic");
        let pipeline = log.pipeline("p").expect("a pipeline");
        for number in 0..3 {
            let batches = vec![(topic.clone(), 0, one(b"a", number))];
            pipeline.append(CommitSet { batches, position: Bytes::from_static(b"appended") }).expect("a commit");
        }
    }));
    // Deleted topics, in the journal alone.
    logs.push(make(options(), false, |log| {
        with_commits(log);
        log.delete_topic("a").expect("a topic");
    }));
    logs.push(make(LogOptions { segment_bytes: 200, ..options() }, true, |log| {
        let topic = log.create_topic("c", 1, "p").expect("a topic");
        let pipeline = log.pipeline("p").expect("a pipeline");
        for _ in 0..4 {
            commit(&pipeline, &topic, 0, builder(Compression::Lz4).finish());
        }
        for number in 0..3 {
            commit(&pipeline, &topic, 0, one(b"a", number));
        }
        log.compact(&topic, &compaction(), &[], &AtomicBool::new(false)).expect("a compaction");
        commit(&pipeline, &topic, 0, builder(Compression::None).finish());
    }));
    // The internal topics.
    for close in [false, true] {
        logs.push(make(options(), close, fill_offsets));
        logs.push(make(options(), close, fill_schemas));
    }
    logs
}

fn one(key: &[u8], number: i32) -> EncodedBatch {
    let mut builder = RecordBatchBuilder::new(Compression::None, TIMESTAMP_MS);
    builder.append(Some(key), Some(&number.to_be_bytes()), &[]).expect("a small record");
    builder.finish()
}

fn commit(pipeline: &PipelineLog, topic: &Topic, partition: i32, batch: EncodedBatch) {
    let batches = vec![(topic.clone(), partition, batch)];
    pipeline.commit(CommitSet { batches, position: Bytes::from_static(b"position") }).expect("a commit");
}

/// The files of a log that `fill` filled, when it is closed or, if not, as a kill leaves them.
fn make(options: LogOptions, close: bool, fill: impl FnOnce(&Log)) -> Files {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let log = Log::open(dir.path(), options).expect("a new log");
    fill(&log);
    if close {
        log.close().expect("a clean stop");
    }
    let mut files = Files::new();
    collect(dir.path(), &PathBuf::new(), &mut files);
    files
}

fn collect(root: &Path, below: &Path, files: &mut Files) {
    for entry in fs::read_dir(root.join(below)).expect("a folder") {
        let name = below.join(entry.expect("a file").file_name());
        let path = root.join(&name);
        if path.is_dir() {
            collect(root, &name, files);
        } else if name != Path::new("lock") {
            let content = fs::read(path).expect("a file");
            assert!(content.len() <= FILE_BYTES_MAX, "{} has {} bytes", name.display(), content.len());
            files.insert(name.to_string_lossy().into_owned(), content);
        }
    }
}

fn change_journals(files: &Files, change: impl Fn(&[u8]) -> Vec<u8>) -> Files {
    let changed = files.iter().map(|(name, content)| {
        let content = if name.ends_with(".journal") { change(content) } else { content.clone() };
        (name.clone(), content)
    });
    changed.collect()
}
