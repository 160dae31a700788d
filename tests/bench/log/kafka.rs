//! `make bench-peers`: the log beside a Kafka broker with its own performance tools, and Kafka's own reader over our segments.

use std::path::Path;

use crate::{
    log::{
        broker::{Broker, tool as kafka},
        cases::in_turns,
        tool::{self, Figures, output},
    },
    options::Options,
    process::memory_mib,
    report::{Report, Target},
};

const RECORD_BYTES: u64 = 1000;
const BATCH_BYTES: u64 = 256 << 10;

/// Measures both.
pub fn measure(options: &Options, report: &mut Report) {
    beside_the_broker(options, report);
    segments_read_by_kafka(report, options);
}

fn beside_the_broker(options: &Options, report: &mut Report) {
    let records = options.log_mb * 1_000_000 / RECORD_BYTES;
    report.log_section(
        "Log: beside Kafka",
        &format!(
            "{records} records of {RECORD_BYTES} bytes without a key, the same ones on both sides, in batches of 256 KiB, not compressed, one partition. Kafka 4.1 is one broker (KRaft, heap of \
             1 GB) with `ProducerPerformance` (`acks=all`) and `ConsumerPerformance`, over loopback; *a flush for each batch* is `flush.messages=1`. Ours makes batches of records, commits \
             and syncs each; or, as the runtime does, a second thread commits and syncs together what was made during the last commit, at most 16 batches (*group*). It reads whole batches or every record of them, with one thread in the process: that there is no server between is what an \
             embedded log is for. Reads come from the page cache."
        ),
    );
    let dir = tempfile::tempdir().expect("temporary folder");
    let payloads = dir.path().join("payloads.txt");
    tool::run("payloads", dir.path(), &format!("file={} bytes={RECORD_BYTES} keys=no", payloads.display()));
    let broker = Broker::start();
    let names = [
        "Kafka: append, a flush for each batch",
        "Kafka: append, no flush",
        "Mainstem's log: append, a sync for each batch",
        "Mainstem's log: append, a sync for each group",
        "Kafka: read",
        "Mainstem's log: read to records",
        "Mainstem's log: read to batches",
    ];
    let (flushed, unflushed, log) = ("flushed", "unflushed", dir.path().join("log"));
    let measured = in_turns(options, &names.map(str::to_owned), |case| match case {
        0 => {
            broker.create_topic(flushed, &["flush.messages=1"]);
            let figures = produce(&broker, flushed, records, &payloads);
            broker.delete_topic(flushed);
            figures
        }
        1 => {
            broker.create_topic(unflushed, &[]);
            produce(&broker, unflushed, records, &payloads)
        }
        2 | 3 => {
            tool::remove(&log);
            let batch_kib = BATCH_BYTES >> 10;
            let group = if case == 3 { 16 } else { 0 };
            let records = format!("mb={} bytes={RECORD_BYTES} keys=no build=yes group={group}", options.log_mb);
            let settings = format!("{records} batch_kib={batch_kib} commit_kib={batch_kib}");
            with_rate(tool::run("append", &log, &settings), "committed_bytes", "seconds")
        }
        4 => {
            let figures = consume(&broker, unflushed, records);
            broker.delete_topic(unflushed);
            figures
        }
        5 => read(&log, "records"),
        _ => read(&log, "batches"),
    });
    let rate = |figures: &Figures| figures.get("bytes_a_second") / 1e6;
    let ratio = |case: usize, reference: usize| measured[case].median(rate) / measured[reference].median(rate);
    let references = [None, None, Some(0), Some(0), None, Some(4), Some(4)];
    let lines = measured.iter().zip(references).enumerate().map(|(number, (case, reference))| {
        vec![
            case.name.clone(),
            case.shown(0, rate),
            reference.map_or_else(String::new, |reference| format!("{:.1}", ratio(number, reference))),
        ]
    });
    report.grid(&["case", "MB/s", "ratio"], lines);
    report.target("Append with a sync for each group", ratio(3, 0), "× Kafka with a flush for each batch", &Target::AtLeast(5.0));
    report.target("Read to records", ratio(5, 4), "× Kafka", &Target::AtLeast(10.0));
    report.note(&format!(
        "The broker's peak memory is {:.0} MiB, that of our process at most {:.0} MiB.",
        memory_mib(broker.pid(), "VmHWM"),
        [2, 3, 5, 6].map(|case: usize| measured[case].highest(|figures| figures.get("peak_mib"))).into_iter().fold(0.0, f64::max)
    ));
}

fn produce(broker: &Broker, topic: &str, records: u64, payloads: &Path) -> Figures {
    let text = output(
        kafka("org.apache.kafka.tools.ProducerPerformance")
            .args(["--topic", topic, "--throughput", "-1", "--num-records", &records.to_string(), "--payload-file"])
            .arg(payloads)
            .args(["--producer-props", "acks=all", "linger.ms=10"])
            .arg(format!("batch.size={BATCH_BYTES}"))
            .arg(format!("bootstrap.servers={}", broker.address())),
    );
    // The last line is of all records: `500000 records sent, 65000.0 records/sec (62.00 MB/sec), …`.
    let last = text.lines().rfind(|line| line.contains(" records sent, ")).unwrap_or_default();
    let all = last.starts_with(&format!("{records} "));
    let rate = last.split(", ").nth(1).and_then(|part| part.split(' ').next()?.parse::<f64>().ok()).filter(|_| all);
    let rate = rate.unwrap_or_else(|| panic!("ProducerPerformance printed {text}"));
    Figures::default().with("bytes_a_second", rate * RECORD_BYTES as f64)
}

fn consume(broker: &Broker, topic: &str, records: u64) -> Figures {
    let text = output(
        kafka("org.apache.kafka.tools.ConsumerPerformance")
            .args(["--bootstrap-server", &broker.address(), "--topic", topic, "--messages", &records.to_string()])
            .args(["--hide-header", "--timeout", "60000"]),
    );
    // The last fields are records, records a second, ms of joining the group, ms of fetching, and MB and records a second of fetching: joining is left out.
    let fields: Vec<f64> =
        text.lines().last().unwrap_or_default().split(',').filter_map(|field| field.trim().parse().ok()).collect();
    match fields[..] {
        [.., found, _, _, _, _, rate] if found >= records as f64 => {
            Figures::default().with("bytes_a_second", rate * RECORD_BYTES as f64)
        }
        _ => panic!("ConsumerPerformance printed {text}"),
    }
}

fn read(log: &Path, what: &str) -> Figures {
    with_rate(tool::run("read", log, &format!("what={what} passes=1")), "batch_bytes", "first_seconds")
}

fn with_rate(figures: Figures, bytes: &str, seconds: &str) -> Figures {
    let rate = figures.get(bytes) / figures.get(seconds);
    figures.with("bytes_a_second", rate)
}

fn segments_read_by_kafka(report: &mut Report, options: &Options) {
    let mb = (options.log_mb / 20).clamp(1, 50);
    report.log_section(
        "Log: segments read by Kafka",
        &format!(
            "`kafka.tools.DumpLogSegments --deep-iteration` over the segments of {mb} MB of records for each codec. It checks each batch's checksum and decodes each record; both must be as \
             many as were written."
        ),
    );
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut lines = Vec::new();
    let mut valid_share = Vec::new();
    for codec in ["none", "lz4", "zstd"] {
        let log = dir.path().join(codec);
        let written = tool::run("append", &log, &format!("mb={mb} codec={codec} batch_kib=64 commit_kib=256 bytes=300 build=yes"));
        let (batches, valid, records) = dump(&log.join("topics/writer-0/0"));
        let all = batches as f64 == written.get("batches") && records as f64 == written.get("records");
        lines.push(vec![
            codec.to_owned(),
            format!("{:.0}", written.get("batches")),
            valid.to_string(),
            format!("{:.0}", written.get("records")),
            records.to_string(),
        ]);
        valid_share.push((codec, if all { valid as f64 / batches as f64 * 100.0 } else { 0.0 }));
    }
    report.grid(&["codec", "batches written", "found valid", "records written", "found"], lines.into_iter());
    for (codec, share) in valid_share {
        report.target(&format!("Batches that Kafka finds valid, {codec}"), share, "%", &Target::AtLeast(100.0));
    }
}

/// Batches, those of them that are valid, and records, in all segments of a partition.
fn dump(partition: &Path) -> (u64, u64, u64) {
    let entries = std::fs::read_dir(partition).unwrap_or_else(|error| panic!("{}: {error}", partition.display()));
    let (mut batches, mut valid, mut records) = (0, 0, 0);
    for segment in entries.map(|entry| entry.expect("an entry of a folder").path()) {
        let text = output(kafka("kafka.tools.DumpLogSegments").args(["--deep-iteration", "--files"]).arg(&segment));
        for line in text.lines() {
            batches += u64::from(line.starts_with("baseOffset: "));
            valid += u64::from(line.starts_with("baseOffset: ") && line.ends_with("isvalid: true"));
            records += u64::from(line.starts_with("| offset: "));
        }
    }
    (batches, valid, records)
}
