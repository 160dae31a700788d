//! Read of a log that is in the page cache, with one thread.

use crate::{
    log::{
        cases::in_turns,
        tool::{self, Figures},
    },
    options::Options,
    report::{Report, Target},
};

/// KiB of a batch.
const BATCHES: &[u64] = &[256, 16];

/// Measures it.
pub fn measure(options: &Options, report: &mut Report) {
    report.log_section(
        "Log: read",
        &format!(
            "{} MB of 1 KB records, not compressed, from the page cache with one thread, 1 MiB asked for at a time. *To batches* is what a reader is handed: whole record batches, their \
             checksums and the chain of their offsets verified. *To records* also walks over all records, with their keys and values. *Just opened*: the log knows nothing yet of where \
             batches stand in a segment.",
            options.log_mb
        ),
    );
    let dir = tempfile::tempdir().expect("temporary folder");
    let log = |kib: u64| dir.path().join(format!("log-{kib}"));
    for &kib in BATCHES {
        tool::run("append", &log(kib), &format!("mb={} batch_kib={kib} commit_kib=4096", options.log_mb));
    }
    let cases: Vec<(u64, &str)> = BATCHES.iter().flat_map(|&kib| [(kib, "batches"), (kib, "records")]).collect();
    let names: Vec<String> = cases.iter().map(|(kib, what)| format!("Batches of {kib} KiB, to {what}")).collect();
    let measured = in_turns(options, &names, |case| {
        let (kib, what) = cases[case];
        tool::run("read", &log(kib), &format!("what={what} passes=3"))
    });
    let rate = |name: &'static str| move |figures: &Figures| figures.get("batch_bytes") / figures.get(name) / 1e9;
    let lines = measured.iter().map(|case| {
        let peak = case.highest(|figures| figures.get("peak_mib"));
        vec![case.name.clone(), case.shown(2, rate("first_seconds")), case.shown(2, rate("seconds")), format!("{peak:.0}")]
    });
    report.grid(&["case", "GB/s just opened", "GB/s again", "peak MiB"], lines);
    for (case, _) in measured.iter().zip(&cases).filter(|(_, (_, what))| *what == "batches") {
        report.target(
            &format!("{}, just opened", case.name),
            case.median(rate("first_seconds")),
            "GB/s a core",
            &Target::AtLeast(2.0),
        );
    }
}
