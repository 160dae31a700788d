//! Parquet on a real S3 server, and in front of it one that lies, refuses, and is busy.

use mainstem_tests::{Answer, Pipeline, S3Front, Scenario, Weed, compare_parquet, table, wait_until};

const INTERNAL_ERROR: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InternalError</Code><Message>We encountered an internal error. Please try again.</Message></Error>";
const NO_SUCH_BUCKET: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>";
const SLOW_DOWN: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";

fn with_lake(pipeline: Pipeline, bucket: &str, port: u16, roll: &str) -> Pipeline {
    pipeline.sink("lake", &format!("files: {{ url: \"s3://{bucket}/changes\", roll: {{ {roll} }}, {} }}", Weed::settings(port)))
}

/// Fails unless the bucket's objects fold to the source's rows.
fn assert_bucket_equal(scenario: &Scenario, weed: &Weed, bucket: &str) {
    let dir = tempfile::tempdir().expect("temporary folder");
    weed.download(bucket, dir.path());
    compare_parquet(&table(&scenario.source, "public", "t"), &scenario.source, &dir.path().join("changes"), &scenario.topic("t"));
}

fn scenario(name: &str, weed: &Weed) -> (Scenario, String) {
    let bucket = name.replace('_', "-");
    weed.create_bucket(&bucket);
    let sql = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 1000) i";
    (Scenario::new(name).setup(&["t"], sql), bucket)
}

#[test]
fn parquet_on_s3_with_kills() {
    let weed = Weed::shared();
    let (scenario, bucket) = scenario("s3_kills", weed);
    let run = scenario.run(&with_lake(scenario.bare_pipeline(), &bucket, weed.port(), "age: 1s"));
    for round in 1..=4 {
        let mut mainstem = run.start();
        scenario.source.exec(&format!("INSERT INTO t SELECT i, 'x' FROM generate_series({round}000 + 1, {round}000 + 300) i; UPDATE t SET v = 'u{round}' WHERE id % 10 = {round}"));
        scenario.wait_until_in_log(&mut mainstem);
        mainstem.kill();
    }
    run.once_succeeds();
    assert_bucket_equal(&scenario, weed, &bucket);
    let objects = weed.objects(&bucket);
    // A kill may come before the object that tries the store out is removed.
    let files: Vec<_> = objects.iter().filter(|name| !name.starts_with("changes/.mainstem-probe-")).collect();
    assert!(files.iter().all(|name| name.starts_with("changes/topic=s3_kills.public.t/partition=0/")), "{objects:?}");
}

/// An upload in parts whose completion is answered `200 OK` with an error in the body; then one that was done although the answer said no.
#[test]
fn sink_s3_03_an_error_in_a_200_is_an_error() {
    let weed = Weed::shared();
    let (scenario, bucket) = scenario("sink_s3_03", weed);
    let mut completions = 0;
    let front = S3Front::to(weed.port(), move |line| {
        if !(line.starts_with("POST ") && line.contains("uploadId=")) {
            return Answer::Forward;
        }
        completions += 1;
        match completions {
            1 | 2 => Answer::Instead("200 OK".into(), INTERNAL_ERROR.into()),
            3 => Answer::ForwardThen("200 OK".into(), INTERNAL_ERROR.into()),
            _ => Answer::Forward,
        }
    });
    let run = scenario.run(&with_lake(scenario.bare_pipeline(), &bucket, front.port(), "bytes: 256MiB, age: 2s")).allow("");
    run.once_succeeds();
    // Text that no codec makes small: the file has to go up in parts.
    scenario.source.exec(
        "INSERT INTO t SELECT i, string_agg(md5(i::text || j::text), '') FROM generate_series(5000, 5400) i, generate_series(1, 2400) j GROUP BY i",
    );
    let mut mainstem = run.start();
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    let completions = front.requests().iter().filter(|line| line.starts_with("POST ") && line.contains("uploadId=")).count();
    assert!(completions >= 3, "the file did not go up in parts, or the errors were taken for success: {:?}", front.requests());
    assert_bucket_equal(&scenario, weed, &bucket);
}

#[test]
fn sink_s3_04_a_busy_server_is_waited_for_and_harms_nobody_else() {
    let weed = Weed::shared();
    let (scenario, bucket) = scenario("sink_s3_04", weed);
    let start = std::time::Instant::now();
    let front = S3Front::to(weed.port(), move |_| {
        let busy = (3..18).contains(&start.elapsed().as_secs());
        if busy { Answer::Instead("503 Slow Down".into(), SLOW_DOWN.into()) } else { Answer::Forward }
    });
    let pipeline =
        with_lake(scenario.bare_pipeline(), &bucket, front.port(), "age: 1s").upsert("warehouse", &scenario.warehouse.url());
    let run = scenario.run(&pipeline).allow("lake").allow("unfinished multipart uploads");
    let mut mainstem = run.start();
    wait_until("the first rows are written", || start.elapsed().as_secs() >= 4);
    scenario.source.exec("UPDATE t SET v = 'while busy' WHERE id < 100");
    // The other sink goes on, and so does the slot.
    scenario.wait_until_in_log(&mut mainstem);
    wait_until("the warehouse has it", || {
        scenario.warehouse.try_query("SELECT count(*) FROM t WHERE v = 'while busy'") == Ok("99".into())
    });
    scenario.wait_until_drained(&mut mainstem);
    mainstem.stop();
    assert!(start.elapsed().as_secs() >= 18 || front.requests().len() > 3);
    scenario.assert_warehouse_equal();
    assert_bucket_equal(&scenario, weed, &bucket);
}

#[test]
fn a_refused_key_stops_the_sink_and_names_the_bucket() {
    let weed = Weed::shared();
    let (scenario, bucket) = scenario("s3_refused", weed);
    let lake = |access_key: &str, secret: &str| {
        format!(
            "files: {{ url: \"s3://{bucket}/changes\", roll: {{ age: 1s }}, s3: {{ endpoint: \"http://127.0.0.1:{}\", region: us-east-1, path_style: true, access_key_id: {access_key}, secret_access_key: {secret} }} }}",
            weed.port()
        )
    };
    for (access_key, secret) in [(Weed::ACCESS_KEY, "not-the-secret"), ("read-only", Weed::SECRET_KEY)] {
        let run = scenario.run(&scenario.bare_pipeline().sink("lake", &lake(access_key, secret)));
        let mut mainstem = run.allow("").once();
        let log = mainstem.log();
        assert_eq!(mainstem.exit().and_then(|status| status.code()), Some(1), "{log}");
        assert!(log.contains(&bucket), "the error does not name the bucket:\n{log}");
        assert!(!log.contains(secret), "the secret is in the log:\n{log}");
        assert!(weed.objects(&bucket).is_empty());
    }
    // With the right key nothing is lost.
    scenario.run(&with_lake(scenario.bare_pipeline(), &bucket, weed.port(), "age: 1s")).once_succeeds();
    assert_bucket_equal(&scenario, weed, &bucket);
}

#[test]
fn a_missing_bucket_is_said_so() {
    // SeaweedFS makes a bucket when it is written to; S3 does not.
    let front = S3Front::to(Weed::shared().port(), |_| Answer::Instead("404 Not Found".into(), NO_SUCH_BUCKET.into()));
    let scenario = Scenario::new("s3_no_bucket").setup(&["t"], "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)");
    let run = scenario.run(&with_lake(scenario.bare_pipeline(), "there-is-no-such-bucket", front.port(), "age: 1s"));
    let mut mainstem = run.allow("").once();
    let log = mainstem.log();
    assert_eq!(mainstem.exit().and_then(|status| status.code()), Some(1), "{log}");
    assert!(log.contains("there-is-no-such-bucket"), "{log}");
}
