//! What a record takes at rest, and what the codecs cost.

use crate::{
    log::{
        cases::in_turns,
        tool::{self, Figures},
    },
    options::Options,
    report::{Report, Target},
};

const MB: u64 = 200;
const CODECS: &[&str] = &["none", "lz4", "zstd"];
/// Bytes of key and value.
const RECORDS: &[u64] = &[1000, 100];

/// Measures it.
pub fn measure(options: &Options, report: &mut Report) {
    report.log_section(
        "Log: size at rest",
        &format!(
            "{MB} MB of keys and values, in batches of 256 KiB before compression, each record with a key of 8 bytes and a value of text: numbers, words, and a quarter or so of \
             hexadecimal digits. Size is what all files of the data directory take on the disk after the log was closed, per byte of keys and values. *Build* makes batches of records: \
             framing, compression and checksum. *Read* is reading them from the page cache, decompressed, to records. One thread, MB of keys and values a second."
        ),
    );
    let cases: Vec<(u64, &str)> = RECORDS.iter().flat_map(|&bytes| CODECS.iter().map(move |&codec| (bytes, codec))).collect();
    let names: Vec<String> = cases.iter().map(|(bytes, codec)| format!("Records of {bytes} bytes, {codec}")).collect();
    let dir = tempfile::tempdir().expect("temporary folder");
    let measured = in_turns(options, &names, |case| {
        let (bytes, codec) = cases[case];
        let log = dir.path().join("log");
        let figures = tool::run("kept", &log, &format!("bytes={bytes} codec={codec} mb={MB}"));
        let kept = tool::disk_bytes(&log) as f64;
        tool::remove(&log);
        figures.with("disk_bytes", kept)
    });
    let size = |figures: &Figures| figures.get("disk_bytes") / figures.get("payload_bytes");
    let rate = |name: &'static str| move |figures: &Figures| figures.get("payload_bytes") / figures.get(name) / 1e6;
    let lines = measured.iter().map(|case| {
        let record = case.median(|figures| figures.get("disk_bytes") / figures.get("records"));
        vec![
            case.name.clone(),
            format!("{:.3}", case.median(size)),
            format!("{record:.1}"),
            case.shown(0, rate("build_seconds")),
            case.shown(0, rate("read_seconds")),
        ]
    });
    report.grid(&["case", "size at rest", "bytes a record", "build MB/s", "read MB/s"], lines);
    for (case, _) in measured.iter().zip(&cases).filter(|(_, (_, codec))| *codec == "none") {
        report.target(&case.name, case.median(size), "× keys and values", &Target::AtMost(1.15));
    }
}
