//! The sink against an S3 that fails by script.
#[path = "fixture/fake_s3.rs"]
mod fake_s3;
mod fixture;

use std::sync::Arc;

use connector_api::{ConnectorError, NextOffsets, OpenedSink, Recovery, Severity, Target};
use fake_s3::{Ask, FakeS3, Fault};
use fixture::*;

const FIRST: &str = "base/topic=shop.public.note/partition=0/00000000000000000000.parquet";

async fn target(server: &FakeS3) -> Arc<dyn Target> {
    connect(&server.settings(""), "w").await.unwrap()
}

async fn open(server: &FakeS3) -> OpenedSink {
    target(server).await.open(&topic(1, 1), &NextOffsets::new()).await.unwrap()
}

/// Notes of random letters: twenty megabytes that do not compress, so three parts.
fn large(from: i64) -> connector_api::ChangeBatch {
    let mut changes = Changes::from_sequence(1);
    let mut noise = 88_172_645_463_325_252u64;
    for id in from..from + 400 {
        let body: String = (0..52_000)
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

/// Writes offsets 0..10 (or 0..400 of a large file) and flushes.
async fn write(opened: &mut OpenedSink, is_large: bool) -> Result<i64, ConnectorError> {
    let batch = if is_large { large(0) } else { inserts(0..10) };
    opened.sink.write(rows(0, 0, batch)).await?;
    Ok(opened.sink.flush().await?.next[&0])
}

#[tokio::test]
async fn the_store_is_left_as_it_was_found() {
    let server = FakeS3::start().await;
    let findings = connector(&server.settings("")).unwrap().check(context("w")).await.unwrap();
    assert_eq!(findings, []);
    target(&server).await;
    assert_eq!(server.keys(), [""; 0]);
}

#[tokio::test]
async fn small_files_are_one_request_and_large_ones_parts() {
    let server = FakeS3::start().await;
    let mut opened = open(&server).await;
    let (begun, put) = (server.count(Ask::Begin), server.count(Ask::Put));
    assert_eq!(write(&mut opened, false).await.unwrap(), 10);
    assert_eq!((server.count(Ask::Begin) - begun, server.count(Ask::Put) - put), (0, 1));
    opened.sink.write(rows(0, 10, large(10))).await.unwrap();
    assert_eq!(opened.sink.flush().await.unwrap().next[&0], 410);
    assert_eq!((server.count(Ask::Begin) - begun, server.count(Ask::Put) - put), (1, 1));
    assert_eq!(open(&server).await.next[&0], 410, "the footer of the large one is found by its end");
}

#[tokio::test]
async fn an_error_in_the_body_of_a_200_is_an_error() {
    let server = FakeS3::start().await;
    let mut opened = open(&server).await;
    // One such answer is tried again and is not taken for the end.
    server.fail(Ask::Complete, 1, Fault::Answer(200, "InternalError"));
    assert_eq!(write(&mut opened, true).await.unwrap(), 400);
    assert_eq!(server.keys(), [FIRST]);
}

#[tokio::test]
async fn an_error_in_the_body_of_a_200_that_stays_is_reported() {
    let server = FakeS3::start().await;
    let mut opened = open(&server).await;
    server.fail(Ask::Complete, 50, Fault::Answer(200, "InternalError"));
    let error = write(&mut opened, true).await.unwrap_err();
    assert_eq!(error.recovery(), Recovery::Retry, "{error}");
    assert!(error.to_string().contains("InternalError") && error.to_string().contains(FIRST), "{error}");
    assert_eq!(server.keys(), [""; 0]);
    server.state.lock().unwrap().faults.clear();
    // From the start, as the supervisor does; what was left unfinished is given up.
    let mut opened = open(&server).await;
    assert!(server.count(Ask::Abort) >= 1);
    assert!(opened.next.is_empty());
    assert_eq!(write(&mut opened, true).await.unwrap(), 400);
}

#[tokio::test]
async fn throttling_and_conflicts_are_waited_out() {
    let server = FakeS3::start().await;
    let mut opened = open(&server).await;
    server.fail(Ask::Put, 2, Fault::Answer(503, "SlowDown"));
    server.fail(Ask::Put, 2, Fault::Answer(409, "ConditionalRequestConflict"));
    assert_eq!(write(&mut opened, false).await.unwrap(), 10);
    assert_eq!(server.keys(), [FIRST]);
}

#[tokio::test]
async fn a_lost_answer_is_no_second_writer() {
    for (ask, is_large) in [(Ask::Put, false), (Ask::Complete, true)] {
        let server = FakeS3::start().await;
        let mut opened = open(&server).await;
        server.fail(ask, 1, Fault::CutAfter);
        let next = write(&mut opened, is_large).await.unwrap();
        assert_eq!(next, if is_large { 400 } else { 10 }, "our own file is the winner");
        assert_eq!(server.keys(), [FIRST]);
    }
}

#[tokio::test]
async fn a_large_file_does_not_replace_another_writers() {
    let server = FakeS3::start().await;
    let mut asleep = open(&server).await;
    asleep.sink.write(rows(0, 0, large(0))).await.unwrap();
    let mut awake = open(&server).await;
    assert_eq!(write(&mut awake, false).await.unwrap(), 10);
    let bytes = server.state.lock().unwrap().objects[FIRST].clone();
    // Its upload was given up by the other's start, so at first it only learns that.
    let flushed = asleep.sink.flush().await;
    match flushed {
        Ok(flushed) => assert_eq!(flushed.next[&0], 10),
        Err(error) => assert_eq!(error.recovery(), Recovery::Retry, "{error}"),
    }
    let mut again = open(&server).await;
    assert_eq!(again.next[&0], 10);
    again.sink.write(rows(0, 10, inserts(10..12))).await.unwrap();
    again.sink.flush().await.unwrap();
    assert_eq!(server.state.lock().unwrap().objects[FIRST], bytes);
    assert_eq!(server.keys().len(), 2);
}

#[tokio::test]
async fn two_large_files_of_one_name_make_one() {
    let server = FakeS3::start().await;
    let (mut one, mut other) = (open(&server).await, open(&server).await);
    one.sink.write(rows(0, 0, large(0))).await.unwrap();
    other.sink.write(rows(0, 0, large(0))).await.unwrap();
    other.sink.write(rows(0, 400, large(400))).await.unwrap();
    assert_eq!(one.sink.flush().await.unwrap().next[&0], 400);
    assert_eq!(other.sink.flush().await.unwrap().next[&0], 400, "the winner's end, not ours");
    assert_eq!(server.keys(), [FIRST]);
    assert!(server.count(Ask::Abort) >= 1, "the loser's parts are given up");
}

#[tokio::test]
async fn refusals_stop_and_say_what_to_do() {
    let cases = [
        (Ask::Put, 403, "AccessDenied", "grant these credentials s3:PutObject"),
        (Ask::Put, 403, "InvalidAccessKeyId", "check the access key"),
        (Ask::Put, 404, "NoSuchBucket", "create the bucket"),
        (Ask::Put, 400, "AuthorizationHeaderMalformed", "s3.region"),
        (Ask::List, 403, "AccessDenied", "grant these credentials s3:ListBucket"),
        (Ask::Get, 403, "AccessDenied", "grant these credentials s3:GetObject"),
        (Ask::Put, 501, "NotImplemented", "this store does not do"),
    ];
    for (ask, status, code, advice) in cases {
        let server = FakeS3::start().await;
        server.fail(ask, 50, Fault::Answer(status, code));
        let error = connect(&server.settings(""), "w").await.err().unwrap();
        assert_eq!(error.recovery(), Recovery::Stop, "{error}");
        let message = error.to_string();
        assert!(message.contains(advice) && message.contains("s3://lake/base") && message.contains(code), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
        let findings = connector(&server.settings("")).unwrap().check(context("w")).await.unwrap();
        assert!(
            findings.iter().any(|finding| finding.severity == Severity::Error && finding.message.contains(advice)),
            "{findings:?}"
        );
    }
}

#[tokio::test]
async fn what_mends_itself_is_tried_again() {
    for (status, code) in [(500, "InternalError"), (403, "RequestTimeTooSkewed"), (400, "ExpiredToken")] {
        let server = FakeS3::start().await;
        let mut opened = open(&server).await;
        server.fail(Ask::Put, 50, Fault::Answer(status, code));
        let error = write(&mut opened, false).await.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Retry, "{error}");
        assert!(error.to_string().contains(code), "{error}");
    }
    let server = FakeS3::start().await;
    let settings = server.settings("");
    drop(server);
    let error = connect(&settings, "w").await.err().unwrap();
    assert_eq!(error.recovery(), Recovery::Retry, "nobody listens: {error}");
    assert!(error.to_string().contains("no answer"), "{error}");
}

#[tokio::test]
async fn a_store_without_conditions_wants_to_be_asked_for() {
    for ask in [Ask::Put, Ask::Complete] {
        let server = FakeS3::start().await;
        server.state.lock().unwrap().unconditional.push(ask);
        let error = connect(&server.settings(""), "w").await.err().unwrap();
        assert_eq!(error.recovery(), Recovery::Stop);
        assert!(error.to_string().contains("`single_writer: true`"), "{error}");
        assert_eq!(server.keys(), [""; 0], "the probe is removed all the same");
        let target = connect(&server.settings("single_writer: true,"), "w").await.unwrap();
        let mut opened = target.open(&topic(1, 1), &NextOffsets::new()).await.unwrap();
        assert_eq!(write(&mut opened, ask == Ask::Complete).await.unwrap(), if ask == Ask::Complete { 400 } else { 10 });
    }
}

#[tokio::test]
async fn an_object_of_another_origin_stops_the_sink() {
    let server = FakeS3::start().await;
    for bytes in [&b""[..], b"not Parquet at all"] {
        server.state.lock().unwrap().objects.insert(FIRST.into(), bytes.to_vec());
        let opened = target(&server).await.open(&topic(1, 1), &NextOffsets::new()).await;
        let error = opened.unwrap_err();
        assert_eq!(error.recovery(), Recovery::Stop);
        assert!(error.to_string().contains(FIRST), "{error}");
    }
}
