//! Commit latency: a thousand small commits a second beside a bare `write` and `fdatasync` of the same bytes at the same rate.

use crate::{
    log::{
        cases::in_turns,
        tool::{self, Figures},
    },
    options::Options,
    report::{Report, Target},
};

const COMMITS: u64 = 10_000;
const PARTITIONS: &[u64] = &[1, 200];

/// Measures it.
pub fn measure(options: &Options, report: &mut Report) {
    report.log_section(
        "Log: commit latency",
        &format!(
            "{COMMITS} commits, 1,000 a second, of one record for each of 1 or 200 partitions, 50 to 150 bytes. The reference writes the bytes of the same batches to a file that grows, with \
             one `write`, and calls `fdatasync`, at the same rate in the same folder. Times are those of the calls; *since due* counts from when a call was due by the rate, so it also \
             has what a call waited for slower ones before it. Checkpoints, which run beside the commits, are in it: one for about every 64 MiB of journal."
        ),
    );
    let dir = tempfile::tempdir().expect("temporary folder");
    let names = PARTITIONS.iter().flat_map(|partitions| {
        let what = if *partitions == 1 { "1 partition".to_owned() } else { format!("{partitions} partitions") };
        [format!("write and fdatasync: bytes of {what}"), format!("Mainstem's log: {what}")]
    });
    let names: Vec<String> = names.collect();
    let cases = in_turns(options, &names, |case| {
        let (what, log) = if case % 2 == 0 { ("bare", dir.path().join("bare")) } else { ("latency", dir.path().join("log")) };
        let figures = tool::run(what, &log, &format!("partitions={} rate=1000 commits={COMMITS} bytes=100", PARTITIONS[case / 2]));
        tool::remove(&log);
        figures
    });
    let ratio = |case: usize, name: &str| {
        let of = |figures: &Figures| figures.get(name);
        cases[case].median(of) / cases[case - case % 2].median(of)
    };
    let lines = cases.iter().enumerate().map(|(number, case)| {
        let ms = |name: &'static str| case.shown(2, move |figures| figures.get(name) / 1e3);
        let bytes = cases[number - number % 2].median(|figures| figures.get("commit_bytes"));
        let ratio = if number % 2 == 1 { format!("{:.2}", ratio(number, "p99_us")) } else { String::new() };
        let cpu = case.median(|figures| figures.get("cpu_seconds") / COMMITS as f64 * 1e6);
        vec![
            case.name.clone(),
            format!("{bytes:.0}"),
            ms("p50_us"),
            ms("p99_us"),
            ratio,
            ms("p999_us"),
            ms("due_p99_us"),
            format!("{cpu:.0}"),
        ]
    });
    report.grid(
        &["case", "bytes a commit", "p50 ms", "p99 ms", "ratio of p99", "p99.9 ms", "p99 since due ms", "CPU µs a commit"],
        lines,
    );
    for (number, name) in names.iter().enumerate().filter(|(number, _)| number % 2 == 1) {
        report.target(&format!("{name}: p99"), ratio(number, "p99_us"), "× write and fdatasync", &Target::AtMost(2.0));
    }
    report.note(
        "What a commit gives 200 partitions stands in the journal and waits in memory until there is more of it for their segments; readers find it there when the call returns.",
    );
}
