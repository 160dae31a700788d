//! Append: batches that are made already, committed and synced, beside `fio` writing and syncing the same sizes.

use std::{fs, path::Path, process::Command};

use serde_json::Value;

use crate::{
    log::{
        cases::in_turns,
        tool::{self, Figures, output},
    },
    options::Options,
    report::{Report, Target},
};

const BATCH_KIB: u64 = 256;
/// Writers, and KiB from sync to sync.
const SETTINGS: &[(u64, u64)] = &[(1, 256), (8, 256), (1, 4096), (8, 4096)];

/// Measures it.
pub fn measure(options: &Options, report: &mut Report) {
    report.log_section(
        "Log: append",
        &format!(
            "{} MB of 1 KB records in batches of 256 KiB, not compressed, a commit for each batch or for each 16 of them. A commit is synced when it returns. A writer is a \
             thread with a pipeline of its own, as it is in Mainstem: pipelines share no journal. The reference is `fio`, sequential writes of 256 KiB to one new file a writer, \
             `fdatasync` after each or after each 16, in the same folder; its files are not allocated beforehand, as the log's are not. Batches are made before the clock starts and copied \
             for each commit. Our time ends when the log is closed: all bytes are in their segments then, and synced there. That includes the journal, which holds small commits a second \
             time.",
            options.log_mb
        ),
    );
    let dir = tempfile::tempdir().expect("temporary folder");
    let every = |kib: u64| if kib < 1024 { format!("{kib} KiB") } else { format!("{} MiB", kib / 1024) };
    let names = SETTINGS.iter().flat_map(|&(writers, kib)| {
        let setting = format!("{writers} writer{}, a sync every {}", if writers == 1 { "" } else { "s" }, every(kib));
        [format!("fio: {setting}"), format!("Mainstem's log: {setting}")]
    });
    let names: Vec<String> = names.collect();
    let cases = in_turns(options, &names, |case| {
        let (writers, kib) = SETTINGS[case / 2];
        let figures = if case % 2 == 0 {
            fio(dir.path(), options.log_mb, writers, kib)
        } else {
            ours(dir.path(), options.log_mb, writers, kib)
        };
        tool::remove(&dir.path().join("log"));
        figures
    });
    let rate = |figures: &Figures| figures.get("committed_bytes") / figures.get("seconds") / 1e6;
    let ratio = |case: usize| cases[case].median(rate) / cases[case - case % 2].median(rate);
    let lines = cases.iter().enumerate().map(|(number, case)| {
        let ours = number % 2 == 1;
        vec![
            case.name.clone(),
            case.shown(0, rate),
            if ours { format!("{:.2}", ratio(number)) } else { String::new() },
            format!("{:.0}", case.median(|figures| figures.get("commits") / figures.get("seconds"))),
            format!("{:.2}", case.median(|figures| figures.get("run_cpu_seconds") / figures.get("committed_bytes") * 1e9)),
            if ours { format!("{:.0}", case.highest(|figures| figures.get("peak_mib"))) } else { String::new() },
        ]
    });
    report.grid(&["case", "MB/s", "ratio", "syncs/s", "CPU s per GB", "peak MiB"], lines);
    for (number, name) in names.iter().enumerate().filter(|(number, _)| number % 2 == 1) {
        report.target(name, ratio(number), "× fio", &Target::AtLeast(0.8));
    }
    report.note("A commit of ours syncs two files at the same time, its segment and its pipeline's journal, where a write of `fio` syncs one.");
    report.note("The peak holds 64 batches made beforehand for each writer, 16 MiB, and each pipeline's buffers.");
}

fn ours(dir: &Path, mb: u64, writers: u64, kib: u64) -> Figures {
    tool::run("append", &dir.join("log"), &format!("writers={writers} mb={mb} batch_kib={BATCH_KIB} commit_kib={kib}"))
}

fn fio(dir: &Path, mb: u64, writers: u64, kib: u64) -> Figures {
    let files = dir.join("log");
    fs::create_dir_all(&files).expect("folder for fio");
    let text = output(
        Command::new("fio")
            .args([
                "--name=sequential",
                "--rw=write",
                "--ioengine=psync",
                "--fallocate=none",
                "--group_reporting",
                "--output-format=json",
            ])
            .arg(format!("--directory={}", files.display()))
            .arg(format!("--bs={BATCH_KIB}KiB"))
            .arg(format!("--fdatasync={}", kib / BATCH_KIB))
            .arg(format!("--numjobs={writers}"))
            .arg(format!("--size={}", mb * 1_000_000 / writers)),
    );
    let found: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("fio: {error}: {text}"));
    let job = &found["jobs"][0];
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("fio printed {text}"));
    // Milliseconds of the job, and of them the share that its threads were running.
    let seconds = number(&job["write"]["runtime"]) / 1e3;
    let cpu_share = (number(&job["usr_cpu"]) + number(&job["sys_cpu"])) / 100.0;
    Figures::default()
        .with("seconds", seconds)
        .with("committed_bytes", number(&job["write"]["io_bytes"]))
        .with("commits", number(&job["write"]["io_bytes"]) / (kib << 10) as f64)
        .with("run_cpu_seconds", cpu_share * number(&job["job_runtime"]) / 1e3)
}
