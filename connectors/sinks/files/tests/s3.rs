//! The sink on a real S3 server.
mod fixture;
#[path = "fixture/seaweedfs.rs"]
mod seaweedfs;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use arrow_array::{RecordBatch, cast::AsArray, types::Int64Type};
use aws_sdk_s3::primitives::ByteStream;
use connector_api::{ChangeBatch, NextOffsets, OpenedSink, Recovery, Severity, Target};
use fixture::*;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use seaweedfs::{SeaweedFs, server};
use test_servers::Weed;
use uuid::{NoContext, Timestamp, Uuid};

async fn target(bucket: &str, prefix: &str, writer: &str) -> Arc<dyn Target> {
    connect(&server().settings(bucket, prefix, Weed::ACCESS_KEY, Weed::SECRET_KEY, ""), writer).await.unwrap()
}

async fn open(bucket: &str, writer: &str, reported: &[(i32, i64)]) -> OpenedSink {
    let reported = reported.iter().copied().collect();
    target(bucket, "base", writer).await.open(&topic(1, 1), &reported).await.unwrap()
}

fn key(first: i64) -> String {
    format!("base/topic=shop.public.note/partition=0/{first:020}.parquet")
}

async fn keys(server: &SeaweedFs, bucket: &str) -> Vec<String> {
    let listed = server.client().list_objects_v2().bucket(bucket).send().await.unwrap();
    listed.contents().iter().map(|object| object.key().unwrap().to_owned()).collect()
}

async fn uploads(server: &SeaweedFs, bucket: &str) -> Vec<String> {
    let listed = server.client().list_multipart_uploads().bucket(bucket).send().await.unwrap();
    let mut keys: Vec<_> = listed.uploads().iter().map(|upload| upload.key().unwrap().to_owned()).collect();
    keys.sort();
    keys
}

async fn read_object(server: &SeaweedFs, bucket: &str, key: &str) -> RecordBatch {
    let object = server.client().get_object().bucket(bucket).key(key).send().await.unwrap();
    let bytes = object.body.collect().await.unwrap().into_bytes();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().with_batch_size(1 << 20).build().unwrap();
    let batches: Vec<_> = reader.map(Result::unwrap).collect();
    arrow_select::concat::concat_batches(&batches[0].schema(), &batches).unwrap()
}

fn ids_of(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// Twenty megabytes that do not compress.
fn large(ids: std::ops::Range<i64>) -> ChangeBatch {
    let mut changes = Changes::from_sequence(1);
    let mut noise = 88_172_645_463_325_252u64;
    let letters = 20_000_000 / (ids.end - ids.start);
    for id in ids {
        let body: String = (0..letters)
            .map(|_| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                char::from(33 + (noise % 94) as u8)
            })
            .collect();
        changes.insert(id, text(&body));
    }
    changes.batch()
}

#[tokio::test]
async fn small_and_large_files_are_written_and_gone_on_from() {
    let server = server();
    let bucket = server.bucket().await;
    let mut opened = open(&bucket, "w", &[]).await;
    assert_eq!(opened.next, NextOffsets::new());
    opened.sink.write(rows(0, 0, inserts(0..5))).await.unwrap();
    assert_eq!(keys(server, &bucket).await, [""; 0], "nothing is visible before the flush");
    assert_eq!(opened.sink.flush().await.unwrap().next[&0], 5);
    opened.sink.write(rows(0, 5, large(5..500))).await.unwrap();
    opened.sink.write(rows(0, 500, large(500..600))).await.unwrap();
    assert_eq!(uploads(server, &bucket).await, [key(5)], "parts go up while the file is written");
    let flushed = opened.sink.flush().await.unwrap();
    assert_eq!(flushed.next[&0], 600);
    assert!(flushed.bytes > 30_000_000, "{}", flushed.bytes);
    assert_eq!(keys(server, &bucket).await, [key(0), key(5)]);
    assert_eq!(uploads(server, &bucket).await, [""; 0]);
    assert_eq!(ids_of(&read_object(server, &bucket, &key(0)).await), (0..5).collect::<Vec<_>>());
    assert_eq!(ids_of(&read_object(server, &bucket, &key(5)).await), (5..600).collect::<Vec<_>>());

    let head = server.client().head_object().bucket(&bucket).key(key(0)).send().await.unwrap();
    let metadata = head.metadata().unwrap();
    assert_eq!(metadata["mainstem-topic-id"], "01010101-0101-0101-0101-010101010101");
    assert_eq!((&metadata["mainstem-first-offset"][..], &metadata["mainstem-next-offset"][..]), ("0", "5"));

    assert_eq!(open(&bucket, "w", &[]).await.next[&0], 600, "the bucket alone says where to go on");
    assert_eq!(open(&bucket, "w", &[(0, 5)]).await.next[&0], 600, "the report of the last file was lost");
    assert_eq!(open(&bucket, "w", &[(0, 600)]).await.next[&0], 600);
    for key in keys(server, &bucket).await {
        server.client().delete_object().bucket(&bucket).key(key).send().await.unwrap();
    }
    assert_eq!(open(&bucket, "w", &[(0, 600)]).await.next[&0], 600, "files were moved away");
}

#[tokio::test]
async fn of_two_writers_one_wins_and_the_other_goes_on_from_there() {
    let server = server();
    for (asleep_is_large, awake_is_large) in [(false, false), (true, false), (false, true), (true, true)] {
        let bucket = server.bucket().await;
        let batch = |is_large: bool, from: i64, until: i64| if is_large { large(from..until) } else { inserts(from..until) };
        let mut asleep = open(&bucket, "asleep", &[]).await;
        // Opened before the other begins a file, because opening gives up what others have begun.
        let mut awake = open(&bucket, "awake", &[]).await;
        asleep.sink.write(rows(0, 0, batch(asleep_is_large, 0, 300))).await.unwrap();
        awake.sink.write(rows(0, 0, batch(awake_is_large, 0, 200))).await.unwrap();
        assert_eq!(awake.sink.flush().await.unwrap().next[&0], 200);
        assert_eq!(asleep.sink.flush().await.unwrap().next[&0], 200, "the winner's end");
        assert_eq!(ids_of(&read_object(server, &bucket, &key(0)).await), (0..200).collect::<Vec<_>>());
        assert_eq!(uploads(server, &bucket).await, [""; 0], "the loser's parts are given up");
        asleep.sink.write(rows(0, 200, inserts(200..300))).await.unwrap();
        assert_eq!(asleep.sink.flush().await.unwrap().next[&0], 300);
        assert_eq!(keys(server, &bucket).await, [key(0), key(200)]);
    }
}

#[tokio::test]
async fn what_a_killed_writer_left_is_given_up() {
    let server = server();
    let bucket = server.bucket().await;
    let client = server.client();
    let mut killed = open(&bucket, "killed", &[]).await;
    killed.sink.write(rows(0, 0, large(0..100))).await.unwrap();
    killed.sink.write(rows(0, 100, large(100..200))).await.unwrap();
    drop(killed);
    let elsewhere = "base/topic=shop.public.note/partition=0/compaction.parquet";
    client.create_multipart_upload().bucket(&bucket).key(elsewhere).send().await.unwrap();
    assert_eq!(uploads(server, &bucket).await, [key(0), elsewhere.to_owned()]);
    let mut opened = open(&bucket, "w", &[]).await;
    assert_eq!(uploads(server, &bucket).await, [elsewhere], "only our own");
    opened.sink.write(rows(0, 0, inserts(0..1))).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next[&0], 1);
}

#[tokio::test]
async fn probes_of_killed_starts_are_removed_and_those_of_others_stay() {
    let server = server();
    let bucket = server.bucket().await;
    let client = server.client();
    let probe = |hours: u64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let made = Timestamp::from_unix(NoContext, now - hours * 3600, 0);
        format!("base/.mainstem-probe-{}", Uuid::new_v7(made))
    };
    let (old, now) = (probe(2), probe(0));
    for key in [&old, &now] {
        client.put_object().bucket(&bucket).key(key).body(ByteStream::from_static(b"probe")).send().await.unwrap();
        client.create_multipart_upload().bucket(&bucket).key(key).send().await.unwrap();
    }
    target(&bucket, "base", "w").await;
    assert_eq!(keys(server, &bucket).await.join(" "), now);
    assert_eq!(uploads(server, &bucket).await, [now]);
}

#[tokio::test]
async fn files_of_another_topic_of_that_name_stop_the_sink() {
    let bucket = server().bucket().await;
    let mut opened = open(&bucket, "w", &[]).await;
    opened.sink.write(rows(0, 0, inserts(0..5))).await.unwrap();
    opened.sink.flush().await.unwrap();
    let error = target(&bucket, "base", "w").await.open(&topic(2, 1), &NextOffsets::new()).await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Stop);
    let message = error.to_string();
    assert!(message.contains(&key(0)) && message.contains("01010101-") && message.contains("another `url`"), "{message}");
}

#[tokio::test]
async fn prefixes_may_hold_any_letter() {
    let server = server();
    let bucket = server.bucket().await;
    for prefix in ["", "a b+c=é%20/d", &"x".repeat(700)] {
        let target = target(&bucket, prefix, "w").await;
        let mut opened = target.open(&topic(1, 1), &NextOffsets::new()).await.unwrap();
        opened.sink.write(rows(0, 0, inserts(0..2))).await.unwrap();
        opened.sink.flush().await.unwrap();
        let again = target.open(&topic(1, 1), &NextOffsets::new()).await.unwrap();
        assert_eq!(again.next[&0], 2, "{prefix}");
    }
}

#[tokio::test]
async fn many_files_are_listed_page_by_page() {
    let server = server();
    let bucket = server.bucket().await;
    let mut opened = open(&bucket, "w", &[]).await;
    opened.sink.write(rows(0, 0, inserts(0..1))).await.unwrap();
    opened.sink.flush().await.unwrap();
    // Whatever their content: only the last one is read.
    let client = server.client();
    for first in 1..1100 {
        client.put_object().bucket(&bucket).key(key(first)).body(b"x".to_vec().into()).send().await.unwrap();
    }
    let object = client.get_object().bucket(&bucket).key(key(0)).send().await.unwrap().body.collect().await.unwrap();
    client.put_object().bucket(&bucket).key(key(1100)).body(object.into_bytes().into()).send().await.unwrap();
    let error = target(&bucket, "base", "w").await.open(&topic(1, 1), &NextOffsets::new()).await.unwrap_err();
    assert!(error.to_string().contains(&key(1100)) && error.to_string().contains("from offset 0"), "the last one: {error}");
}

#[tokio::test]
async fn checksums_can_be_sent() {
    let server = server();
    let bucket = server.bucket().await;
    let settings =
        server.settings(&bucket, "base", Weed::ACCESS_KEY, Weed::SECRET_KEY, "checksum: supported, region: eu-central-1");
    let target = connect(&settings, "w").await.unwrap();
    let mut opened = target.open(&topic(1, 1), &NextOffsets::new()).await.unwrap();
    opened.sink.write(rows(0, 0, inserts(0..5))).await.unwrap();
    opened.sink.flush().await.unwrap();
    opened.sink.write(rows(0, 5, large(5..100))).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next[&0], 100);
    assert_eq!(read_object(server, &bucket, &key(5)).await.num_rows(), 95);
}

#[tokio::test]
async fn wrong_credentials_and_missing_rights_are_said() {
    let server = server();
    let bucket = server.bucket().await;
    let cases = [
        (Weed::READ_ONLY_KEY, Weed::SECRET_KEY, "grant these credentials s3:PutObject"),
        ("nobody", "hunter2", "check the access key"),
    ];
    for (access_key_id, secret, advice) in cases {
        let settings = server.settings(&bucket, "base", access_key_id, secret, "");
        let findings = connector(&settings).unwrap().check(context("w")).await.unwrap();
        let found = findings.iter().find(|finding| finding.severity == Severity::Error).unwrap();
        assert!(found.message.contains(advice) && !found.message.contains(secret), "{found:?}");
        let error = connect(&settings, "w").await.err().unwrap();
        assert_eq!(error.recovery(), Recovery::Stop, "{error}");
    }
    let good = server.settings(&bucket, "base", Weed::ACCESS_KEY, Weed::SECRET_KEY, "");
    assert_eq!(connector(&good).unwrap().check(context("w")).await.unwrap(), []);
    assert_eq!(keys(server, &bucket).await, [""; 0], "the check leaves nothing");
}
