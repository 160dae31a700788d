//! Opening a large log after a kill, and a log of very many partitions.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    log::{
        cases::in_turns,
        tool::{self, Figures, output},
    },
    options::Options,
    report::{Report, Target},
};

/// What a recovery finds behind the last checkpoint: its name, and how much was committed in which portions. Both stop just short of what starts the next
/// checkpoint, so that a recovery never has more to do.
const TAILS: &[(&str, &str)] = &[
    ("62 MB of small commits, in the journal", "mb=62 commit_kib=256"),
    ("520 MB of large commits, in segments", "mb=520 commit_kib=4096"),
];

const PARTITIONS: u64 = 10_000;

/// Measures both.
pub fn measure(options: &Options, report: &mut Report) {
    large(options, report);
    many_partitions(options, report);
}

fn large(options: &Options, report: &mut Report) {
    report.log_section(
        "Log: open after a kill",
        &format!(
            "A log of {} GB, of 1 KB records in batches of 256 KiB, segments of 128 MiB. Each time a process goes on writing it and is killed with SIGKILL when as much was committed as can be \
             since the last checkpoint; what counts is the opening after that, which replays the journal or compares checksums of segments, until the log takes commits. *Cold*: the page \
             cache holds none of its files.",
            options.log_gb
        ),
    );
    let dir = tempfile::tempdir().expect("temporary folder");
    let log = dir.path().join("log");
    let needed = options.log_gb * 1_000_000_000 + 3_000_000_000;
    let free = free_bytes(dir.path());
    assert!(
        free > needed,
        "{} has {} GB free, and a log of {} GB needs {}: give --log-gb a smaller number, or TMPDIR another disk",
        dir.path().display(),
        free / 1_000_000_000,
        options.log_gb,
        needed / 1_000_000_000
    );
    tool::run("append", &log, &format!("mb={} commit_kib=4096", options.log_gb * 1000));
    let cases: Vec<_> = TAILS.iter().flat_map(|tail| [(tail, false), (tail, true)]).collect();
    let names = cases.iter().map(|((name, _), cold)| format!("{name}{}", if *cold { ", cold" } else { "" }));
    let names: Vec<String> = names.collect();
    let measured = in_turns(options, &names, |case| {
        let ((_, tail), cold) = cases[case];
        let end = kill_after_tail(&log, tail);
        if cold {
            files_below(&log).iter().for_each(|file| forget_cached(file));
        }
        let figures = tool::run("open", &log, "");
        assert_eq!(figures.get("end"), end, "the log ends where its last commit did");
        figures
    });
    let lines = measured.iter().map(|case| {
        let memory = case.highest(|figures| figures.get("peak_mib"));
        vec![case.name.clone(), case.shown(3, |figures| figures.get("seconds")), format!("{memory:.0}")]
    });
    report.grid(&["what came after the last checkpoint", "open s", "peak MiB"], lines);
    for (case, (_, cold)) in measured.iter().zip(&cases) {
        if !cold {
            let what = format!("Open of {} GB, {}", options.log_gb, case.name);
            report.target(&what, case.median(|figures| figures.get("seconds")), "s", &Target::AtMost(1.0));
        }
    }
}

fn many_partitions(options: &Options, report: &mut Report) {
    report.log_section(
        "Log: ten thousand partitions",
        "One pipeline. *New* makes all partitions, commits a record to each of them in one commit, then another one in a second commit, and reads one batch of each. *Open* finds them \
         made and does the same again. Files that are not in use are closed, so it needs no more descriptors than the process may have.",
    );
    let shapes = [(1, "a topic of 10,000"), (1000, "1,000 topics of 10")];
    let cases: Vec<_> = shapes.iter().flat_map(|shape| [(*shape, "New"), (*shape, "Open")]).collect();
    let names: Vec<String> = cases.iter().map(|((_, shape), what)| format!("{what}: {shape}")).collect();
    let mut dir: Option<tempfile::TempDir> = None;
    let measured = in_turns(options, &names, |case| {
        let ((topics, _), what) = cases[case];
        if what == "New" {
            dir = None;
        }
        let dir = dir.get_or_insert_with(|| tempfile::tempdir().expect("temporary folder"));
        tool::run("partitions", &dir.path().join("log"), &format!("count={PARTITIONS} topics={topics} bytes=100"))
    });
    let stages = ["open", "make", "first_commit", "second_commit", "read", "close"];
    let lines = measured.iter().map(|case| {
        let seconds = stages.iter().map(|stage| format!("{:.2}", case.median(|figures| figures.get(&format!("{stage}_seconds")))));
        let memory = ["open", "second_commit", "read"].map(|stage| case.median(|figures| figures.get(&format!("{stage}_mib"))));
        let peak = case.highest(|figures| figures.get("peak_mib"));
        let memory = memory.into_iter().chain([peak]).map(|mib| format!("{mib:.0}"));
        [case.name.clone()].into_iter().chain(seconds).chain(memory).collect()
    });
    report.grid(
        &[
            "case",
            "open s",
            "make s",
            "first commit s",
            "second s",
            "read s",
            "close s",
            "MiB when open",
            "after commits",
            "after reads",
            "peak",
        ],
        lines,
    );
    for case in &measured {
        let what = format!("{}: peak memory", case.name);
        report.target(&what, case.highest(|figures| figures.get("peak_mib")), "MiB", &Target::AtMost(200.0));
    }
}

/// Lets a process commit a tail and kills it; returns where the log then ends.
fn kill_after_tail(log: &Path, tail: &str) -> f64 {
    let mut child = tool::start("tail", log, tail);
    let output = child.stdout.take().expect("its output");
    let line = BufReader::new(output).lines().next().transpose().expect("its output").unwrap_or_default();
    child.kill().expect("kill it");
    child.wait().expect("wait for it");
    Figures::parse(&line).get("end")
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let paths = entries.map(|entry| entry.expect("an entry of a folder").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Writes a file back and drops it from the page cache, which dd can ask for without root.
fn forget_cached(file: &Path) {
    output(Command::new("dd").arg(format!("of={}", file.display())).args([
        "oflag=nocache",
        "conv=notrunc,fdatasync",
        "count=0",
        "status=none",
    ]));
}

fn free_bytes(dir: &Path) -> u64 {
    let text = output(Command::new("df").args(["--output=avail", "-B1"]).arg(dir));
    text.lines().last().and_then(|line| line.trim().parse().ok()).unwrap_or_else(|| panic!("df printed {text}"))
}
