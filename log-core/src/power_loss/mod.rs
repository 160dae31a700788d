//! Power is lost at every call that changes the disk, and what may be left of un-synced changes is left by chance: the log
//! has to open and to hold exactly what was committed (LOG-CRASH-05 and -06).
//!
//! [`workload`] uses a log in a directory in memory, while [`trace`] writes down every call that `durable_file` makes there.
//! For each prefix of these calls, [`disk`] makes directories that a disk could show after a power cut at that moment. The
//! real code opens each, and [`model`] compares what it finds with plain maps of what had been committed:
//!
//! - it opens without an error;
//! - each step that had returned is there as a whole: records at their offsets, positions, topics, schemas, offsets of groups;
//! - the step under way is there as a whole or not at all; one that is made of several (a pipeline's
//!   topics go before its position) up to one of them; nothing later is there;
//! - the log takes more of everything, and closed and opened once more it has all of that.
//!
//! [`crash_twice`] crashes again while that opening and a commit after it are under way, both after a power cut and after a
//! mere kill, which leaves all that the page cache had, but none of it more durable than it was. What a reader has seen after
//! the first crash has to survive the second.
//!
//! [`repairs`] damages a byte after a kill, and loses power while `log repair` mends that.
//!
//! # What the disk may do
//!
//! - A sync of a file makes its bytes and its length durable, not its name. A sync of a directory makes durable which names are
//!   in it and what they lead to, and nothing of what is inside those.
//! - Un-synced bytes: each block of 512 bytes is as it was at the last sync, or as it was after any write since, whatever
//!   becomes of other blocks. A block that never reached the disk reads as zeros. The length is, by itself, that of the last
//!   sync or that after any change since.
//! - Un-synced creations, renames and removals each happen or not, whatever becomes of others, before or after. A rename is one
//!   change: the file is there under one of its names. (ext4, XFS and btrfs keep more of an order than that.)
//! - A power cut in the midst of a write leaves any number of its first bytes.
//! - When a sync fails, what it should have written stays in the page cache and is not written by a later sync. Only bytes that
//!   are written once more are.
//! - Bytes that were synced never change.
//!
//! # More of it
//!
//! `make test` runs a fixed set of seeds. A failure prints its seed, the calls before it, and where the directory was kept.
//!
//! - `MAINSTEM_POWER_LOSS_SEED` (0): the first seed.
//! - `MAINSTEM_POWER_LOSS_SEEDS` (2): how many random outcomes each crash gets, besides that nothing and that everything
//!   un-synced survives.
//! - `MAINSTEM_POWER_LOSS_WORKLOADS` (1): how many random workloads are run.
//! - `MAINSTEM_POWER_LOSS_STEPS` (25): the length of random workloads.
//!
//! ```sh
//! MAINSTEM_POWER_LOSS_SEED=$RANDOM MAINSTEM_POWER_LOSS_SEEDS=5 MAINSTEM_POWER_LOSS_WORKLOADS=20 MAINSTEM_POWER_LOSS_STEPS=60 \
//!     cargo test -p log-core --release power_loss
//! ```

mod disk;
mod model;
mod repairs;
pub(crate) mod trace;
mod workload;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tempfile::TempDir;

use self::disk::{BLOCK, Disk, Fate, next_random};
use self::model::{Contents, Depth};
use self::trace::{Action, Call};
use self::workload::{Keeps, LOG_DIR, Recorded, Session, Step};
use crate::LogOptions;

/// Writes to a journal of up to so many bytes are torn at every byte, others at some.
const EVERY_BYTE_MAX: usize = 300;
/// Of so many torn writes, one has a random rest besides one of which everything survives.
const RANDOM_TORN_EVERY: usize = 8;
/// Of so many logs, one is used further and opened once more.
const GO_ON_EVERY: usize = 3;
/// Calls that a failure lists.
const CALLS_SHOWN: usize = 25;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn seeds() -> std::ops::Range<u64> {
    let first = setting("MAINSTEM_POWER_LOSS_SEED", 0);
    first..first + setting("MAINSTEM_POWER_LOSS_SEEDS", 2)
}

fn temp_dir() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

/// Runs `steps` on a new log.
fn record(options: &LogOptions, steps: Vec<Step>) -> Recorded {
    let root = temp_dir();
    let mut session = Session::start(&root.path().canonicalize().unwrap(), options);
    steps.into_iter().for_each(|step| session.step(step));
    session.finish_complete()
}

/// How much of what can happen is tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Crashes between calls and within writes, with the extremes and all seeds.
    Full,
    /// Crashes between calls, with nothing and one random choice surviving.
    Brief,
}

/// A call that the disk is made to forget.
type Forgets<'a> = &'a dyn Fn(&Call) -> bool;

/// What went wrong, and the directory that it went wrong in.
struct Failure {
    message: String,
    dir: Option<TempDir>,
}

/// Ends the test, keeping the directory.
fn fail(workload: &str, failure: Failure) -> ! {
    let kept = failure.dir.map(|dir| format!("\nthe directory is kept: {}", dir.keep().display()));
    panic!("{workload}: {}{}", failure.message, kept.unwrap_or_default());
}

/// Crashes once at every call; returns how many different disks were opened.
fn crash_everywhere(recorded: &Recorded, mut disk: Disk, effort: Effort, forgets: Forgets<'_>) -> Result<usize, Failure> {
    let mut opened = HashSet::new();
    for calls in 0..=recorded.calls.len() {
        let next = recorded.calls.get(calls);
        let mut crash = |disk: &Disk, fate: Fate, torn: Option<usize>| {
            let stage = recorded.history.stage(calls, torn.is_some());
            let left = disk.after_crash(fate);
            if !opened.insert((left.fingerprint(), stage)) {
                return Ok(());
            }
            let (allowed, step) = recorded.history.allowed(stage);
            let go_on = effort == Effort::Full && opened.len().is_multiple_of(GO_ON_EVERY);
            let depth = if go_on { Depth::GoOn } else { Depth::Read };
            open_after(left, &recorded.options, &allowed, depth).map_err(|(problem, dir)| {
                let place = torn.map_or_else(|| "before".to_owned(), |bytes| format!("after {bytes} bytes of"));
                let message = format!(
                    "power lost during {step}, {place} call {calls} of {}, {fate:?}: {problem}\n{}",
                    recorded.calls.len(),
                    describe(&recorded.calls, calls)
                );
                Failure { message, dir: Some(dir) }
            })
        };
        crash(&disk, Fate::NothingSurvives, None)?;
        if effort == Effort::Full {
            crash(&disk, Fate::EverythingSurvives, None)?;
        }
        let seeds = seeds().take(if effort == Effort::Full { usize::MAX } else { 1 });
        for seed in seeds.clone() {
            crash(&disk, Fate::Random(mix(seed, calls, 0)), None)?;
        }
        let Some(next) = next else { break };
        if let Action::Write { position, bytes, .. } = &next.action
            && effort == Effort::Full
        {
            let seed = seeds.clone().next().unwrap_or_default();
            for (nth, torn) in cuts(&next.path, *position as usize, bytes.len()).into_iter().enumerate() {
                let mut disk = disk.clone();
                disk.apply(next, Some(torn));
                crash(&disk, Fate::EverythingSurvives, Some(torn))?;
                if nth % RANDOM_TORN_EVERY == calls % RANDOM_TORN_EVERY {
                    crash(&disk, Fate::Random(mix(seed, calls, torn)), Some(torn))?;
                }
            }
        }
        if !forgets(next) {
            disk.apply(next, None);
        }
    }
    Ok(opened.len())
}

fn mix(seed: u64, calls: usize, torn: usize) -> u64 {
    let mut state = seed ^ (calls as u64) << 20 ^ (torn as u64) << 40;
    next_random(&mut state)
}

/// Where a write is torn.
fn cuts(path: &Path, position: usize, len: usize) -> Vec<usize> {
    let journal = path.extension().is_some_and(|extension| extension == "journal");
    if journal && len <= EVERY_BYTE_MAX {
        return (1..len).collect();
    }
    let block = BLOCK - position % BLOCK;
    let mut cuts = vec![block, len / 2];
    if journal {
        cuts.extend([1, 36, block - 1, block + 1, block + BLOCK, len.saturating_sub(17), len.saturating_sub(16), len - 1]);
    }
    cuts.retain(|cut| (1..len).contains(cut));
    cuts.sort_unstable();
    cuts.dedup();
    cuts
}

/// Opens what a crash left.
fn open_after(mut left: Disk, options: &LogOptions, allowed: &[&Contents], depth: Depth) -> Result<(), (String, TempDir)> {
    let root = temp_dir();
    left.materialise(root.path());
    let checked = catch_unwind(AssertUnwindSafe(|| model::check(&root.path().join(LOG_DIR), options, allowed, depth)));
    match checked.unwrap_or_else(|_| Err("it panicked".to_owned())) {
        Ok(()) => Ok(()),
        Err(problem) => {
            // As the crash left it, not as the opening did.
            drop(root);
            let root = temp_dir();
            left.materialise(root.path());
            Err((problem, root))
        }
    }
}

fn describe(calls: &[Call], at: usize) -> String {
    let first = at.saturating_sub(CALLS_SHOWN);
    let shown = calls.iter().enumerate().skip(first).take(at + 1 - first);
    let lines = shown.map(|(number, call)| format!("{} {number:4} {call}\n", if number == at { ">" } else { " " }));
    lines.collect()
}

/// Crashes at every call, opens the log, and crashes again at every call of that and of a commit. `forgets` is about the calls
/// after the first crash. `size` is that of each record of the commit.
fn crash_twice(recorded: &Recorded, size: usize, forgets: Forgets<'_>) -> Result<usize, Failure> {
    let mut disk = Disk::new();
    let mut opened = 0;
    let mut known = HashSet::new();
    for calls in 0..=recorded.calls.len() {
        let stage = recorded.history.stage(calls, false);
        let seed = mix(seeds().start, calls, 1);
        let first = [
            ("killed", disk.clone()),
            // What only a commit that did not happen wrote stays on the disk, whatever becomes of what is written over it.
            ("killed and all written back", disk.after_crash(Fate::EverythingSurvives)),
            ("power lost", disk.after_crash(Fate::Random(seed))),
        ];
        for (kind, mut left) in first {
            let durable = left.after_crash(Fate::NothingSurvives).fingerprint();
            if !known.insert((left.fingerprint(), durable, stage)) {
                continue;
            }
            let (allowed, step) = recorded.history.allowed(stage);
            let context = |failure: Failure| Failure {
                message: format!(
                    "{kind} during {step}, before call {calls} (seed {seed}), then {}\nbefore the first crash:\n{}",
                    failure.message,
                    describe(&recorded.calls, calls)
                ),
                ..failure
            };
            let root = temp_dir();
            left.materialise(root.path());
            let allowed = allowed.into_iter().cloned().collect();
            let mut session = Session::resume(&root.path().canonicalize().unwrap(), &recorded.options, allowed);
            let result = session.open_after_crash().and_then(|()| session.commit_everywhere("p", size));
            result.map_err(|message| context(Failure { message, dir: None }))?;
            let second = session.finish();
            opened += crash_everywhere(&second, left, Effort::Brief, forgets).map_err(context)?;
        }
        if let Some(next) = recorded.calls.get(calls) {
            disk.apply(next, None);
        }
    }
    Ok(opened)
}

fn nothing(_: &Call) -> bool {
    false
}

fn file_synced(call: &Call, end: &str) -> bool {
    matches!(call.action, Action::Sync { .. }) && call.path.to_str().unwrap().ends_with(end)
}

fn dir_synced(call: &Call, end: &str) -> bool {
    matches!(call.action, Action::SyncDir) && call.path.to_str().unwrap().ends_with(end)
}

fn check_once(workload: &str, recorded: &Recorded) {
    let opened = crash_everywhere(recorded, Disk::new(), Effort::Full, &nothing).unwrap_or_else(|failure| fail(workload, failure));
    println!("{workload}: {opened} disks of {} calls", recorded.calls.len());
    assert!(opened > recorded.calls.len() / 2, "{workload}: only {opened} disks of {} calls", recorded.calls.len());
}

/// A few commits fill a segment and a journal file.
fn small_options() -> LogOptions {
    LogOptions { segment_bytes: 1500, journal_bytes: 1400, ..LogOptions::default() }
}

/// Where nothing waits in memory for its segment.
fn without_tails(options: LogOptions) -> LogOptions {
    LogOptions { tail_bytes: 0, ..options }
}

/// Where some does.
fn short_tails(options: LogOptions) -> LogOptions {
    LogOptions { tail_bytes: 500, ..options }
}

/// Commits, rolls and checkpoints, topics that come and go, schemas and offsets, closing and opening.
fn small_steps() -> Vec<Step> {
    vec![
        Step::Open,
        Step::CreateTopics("p", vec![("a", 2), ("b", 1)]),
        Step::Commit("p", vec![("a", 0, 1, 40), ("a", 1, 1, 30), ("b", 0, 2, 20)]),
        Step::Commit("p", vec![("a", 0, 3, 300)]),
        Step::Register("s", "one"),
        Step::Commit("p", vec![("a", 1, 1, 20), ("b", 0, 1, 500)]),
        Step::Commit("p", vec![("a", 0, 1, 600), ("b", 0, 1, 700)]),
        Step::Report("g", "a", 0, 2),
        Step::CreateTopics(
            "q",
            vec![("c", 1), ("d", 1), ("e", 2), ("f", 1), ("g", 1), ("h", 1), ("i", 1), ("j", 1), ("k", 1), ("l", 1)],
        ),
        Step::Commit("q", vec![("d", 0, 2, 50)]),
        Step::Commit("p", vec![("a", 0, 1, 1300), ("b", 0, 1, 10)]),
        Step::DeleteTopic("b"),
        Step::CreateTopics("p", vec![("b", 1)]),
        Step::Commit("p", vec![("b", 0, 1, 60)]),
        Step::Close,
        Step::Open,
        Step::Register("t", "one"),
        Step::Register("s", "two"),
        Step::Commit("p", vec![("a", 1, 1, 1200), ("b", 0, 1, 1100)]),
        Step::Trim("a", 0, Keeps::LastSegment),
        Step::Trim("a", 1, Keeps::Nothing),
        Step::DeletePipeline("q"),
        Step::Commit("p", vec![("a", 0, 1, 80), ("a", 1, 1, 90)]),
        Step::Commit("p", vec![]),
    ]
}

#[test]
fn small_commits() {
    check_once("small commits", &record(&small_options(), small_steps()));
    check_once("small commits, soon in their segments", &record(&short_tails(small_options()), small_steps()));
    check_once("small commits, at once in their segments", &record(&without_tails(small_options()), small_steps()));
}

/// Commits whose larger pieces are written to their segments first.
fn large_steps() -> Vec<Step> {
    vec![
        Step::Open,
        Step::CreateTopics("p", vec![("a", 2)]),
        Step::Commit("p", vec![("a", 0, 1, 60), ("a", 1, 1, 50)]),
        Step::Commit("p", vec![("a", 0, 2, 450_000), ("a", 1, 1, 200_000)]),
        Step::Commit("p", vec![("a", 0, 1, 70)]),
        // In a new segment.
        Step::Commit("p", vec![("a", 0, 1, 1_050_000), ("a", 1, 1, 40)]),
        Step::Commit("p", vec![("a", 0, 1, 30), ("a", 1, 1, 30)]),
    ]
}

fn large_options() -> LogOptions {
    LogOptions { segment_bytes: 1_500_000, journal_bytes: 1 << 20, ..LogOptions::default() }
}

#[test]
fn large_commits() {
    check_once("large commits", &record(&large_options(), large_steps()));
}

/// Writes and syncs that fail, and what is done about them.
fn failing_steps() -> Vec<Step> {
    vec![
        Step::Open,
        Step::CreateTopics("p", vec![("a", 2)]),
        Step::Commit("p", vec![("a", 0, 1, 60), ("a", 1, 1, 50)]),
        Step::FailedCommit("p", vec![("a", 0, 1, 300), ("a", 1, 1, 40)], "sync", ".journal"),
        Step::Commit("p", vec![("a", 0, 1, 70)]),
        Step::FailedCommit("p", vec![("a", 0, 1, 80)], "write", "topics"),
        Step::Commit("p", vec![("a", 1, 1, 900)]),
        Step::FailedCheckpoint("p", vec![("a", 0, 1, 600), ("a", 1, 1, 700)], ".log"),
        Step::CreateTopics("p", vec![("b", 1)]),
        Step::Commit("p", vec![("a", 0, 1, 90), ("a", 1, 1, 30), ("b", 0, 1, 1500)]),
        Step::FailedDelete("b"),
        Step::Commit("p", vec![("a", 0, 1, 30)]),
        Step::Close,
    ]
}

#[test]
fn failed_writes() {
    check_once("failed writes", &record(&without_tails(small_options()), failing_steps()));
}

/// Commits that are synced together, and everything that has to sync them first.
fn unsynced_steps() -> Vec<Step> {
    vec![
        Step::Open,
        Step::CreateTopics("p", vec![("a", 2)]),
        Step::Append("p", vec![("a", 0, 1, 40), ("a", 1, 1, 30)]),
        Step::Append("p", vec![("a", 0, 1, 700)]),
        Step::Append("p", vec![("a", 1, 2, 20)]),
        Step::Sync("p"),
        Step::Append("p", vec![("a", 0, 1, 600), ("a", 1, 1, 50)]),
        Step::Commit("p", vec![("a", 0, 1, 20)]),
        Step::Append("p", vec![("a", 1, 1, 600)]),
        Step::CreateTopics("p", vec![("b", 1)]),
        Step::Append("p", vec![("b", 0, 1, 60)]),
        Step::Append("p", vec![("a", 0, 1, 900), ("b", 0, 1, 40)]),
        Step::FailedCommit("p", vec![("a", 0, 1, 80)], "sync", ".journal"),
        Step::Append("p", vec![("a", 1, 1, 70)]),
        Step::Append("p", vec![("a", 0, 1, 30)]),
        Step::FailedCommit("p", vec![("a", 0, 1, 80)], "write", ".journal"),
        Step::Append("p", vec![("a", 1, 1, 1300)]),
        Step::Trim("a", 1, Keeps::LastSegment),
        Step::Append("p", vec![("a", 0, 1, 1300)]),
        Step::Append("p", vec![("a", 0, 1, 30)]),
        Step::Compact("a"),
        Step::Append("p", vec![("b", 0, 1, 30)]),
        Step::DeleteTopic("b"),
        Step::Append("p", vec![("a", 0, 1, 50)]),
        Step::Append("p", vec![("a", 1, 1, 60)]),
        Step::Close,
        Step::Open,
        Step::Append("p", vec![("a", 0, 1, 70)]),
        Step::Append("p", vec![("a", 1, 1, 80)]),
    ]
}

/// Of larger pieces, which stand in segments alone.
fn unsynced_large_steps() -> Vec<Step> {
    vec![
        Step::Open,
        Step::CreateTopics("p", vec![("a", 2)]),
        Step::Append("p", vec![("a", 0, 1, 60), ("a", 1, 1, LARGE)]),
        Step::Append("p", vec![("a", 0, 1, LARGE)]),
        Step::Append("p", vec![("a", 0, 1, LARGE), ("a", 1, 1, LARGE)]),
        Step::Sync("p"),
        Step::Append("p", vec![("a", 0, 1, LARGE)]),
        Step::Append("p", vec![("a", 1, 1, 50)]),
        Step::Append("p", vec![("a", 0, 1, LARGE)]),
    ]
}

#[test]
fn unsynced_commits() {
    check_once("un-synced commits", &record(&small_options(), unsynced_steps()));
    check_once("un-synced commits, soon in their segments", &record(&short_tails(small_options()), unsynced_steps()));
    let rolling = LogOptions { segment_bytes: 2 * LARGE as u64, ..large_options() };
    check_once("un-synced large commits", &record(&rolling, unsynced_large_steps()));
}

#[test]
fn crashes_in_recovery_of_unsynced_commits() {
    twice("crashes in recovery of un-synced commits", unsynced_steps().into_iter().take(9).collect());
    let steps = unsynced_large_steps().into_iter().take(5).collect();
    twice_with("crashes in recovery of un-synced large commits", &record(&large_options(), steps), LARGE);
    let append = |size| Step::Append("p", vec![("a", 0, 1, size)]);
    let failing = Step::FailedCommit("p", vec![("a", 0, 1, 80)], "sync", ".journal");
    let steps = vec![Step::Open, Step::CreateTopics("p", vec![("a", 1)]), append(300), append(100), append(50), failing];
    twice("crashes in recovery of un-synced commits after a failed sync", steps);
}

#[test]
fn random_workloads() {
    let first = seeds().start;
    for seed in first..first + setting("MAINSTEM_POWER_LOSS_WORKLOADS", 1) {
        let tail_bytes = [1000, 0, 8 << 20][seed as usize % 3];
        let options = LogOptions { segment_bytes: 3000, journal_bytes: 2500, tail_bytes, ..LogOptions::default() };
        let root = temp_dir();
        let mut session = Session::start(&root.path().canonicalize().unwrap(), &options);
        let mut random = seed;
        for _ in 0..setting("MAINSTEM_POWER_LOSS_STEPS", 25) {
            let step = session.random_step(&mut random);
            session.step(step);
        }
        check_once(&format!("random workload of seed {seed}"), &session.finish_complete());
    }
}

/// Segments that lose records, are cut where the memory ends, and become one; between commits, closing and opening.
fn compacting_steps() -> Vec<Step> {
    let commit = |size| Step::Commit("p", vec![("a", 0, 2, size), ("a", 1, 1, 40)]);
    vec![
        Step::Open,
        Step::CreateTopics("p", vec![("a", 2)]),
        commit(300),
        commit(500),
        commit(40),
        commit(350),
        Step::Compact("a"),
        commit(600),
        Step::FailedCommit("p", vec![("a", 0, 1, 300)], "sync", ".journal"),
        Step::Compact("a"),
        Step::Compact("a"),
        Step::Close,
        Step::Open,
        commit(400),
        commit(500),
        Step::Compact("a"),
        Step::Trim("a", 0, Keeps::LastSegment),
        commit(30),
    ]
}

fn compacting_options() -> LogOptions {
    LogOptions { segment_bytes: 1300, ..small_options() }
}

#[test]
fn compactions() {
    check_once("compactions", &record(&compacting_options(), compacting_steps()));
    check_once("compactions, soon in their segments", &record(&short_tails(compacting_options()), compacting_steps()));
    // What waits in memory for a segment that a compaction replaces must not go to the new one.
    let later = LogOptions { tail_bytes: 4000, journal_bytes: 1 << 20, open_files_max: 1, ..compacting_options() };
    check_once("compactions, later in their segments", &record(&later, compacting_steps()));
}

/// The least that replaces a segment, merges some, and cuts one.
#[test]
fn crashes_in_recovery_after_compactions() {
    let commit = |size| Step::Commit("p", vec![("a", 0, 3, size)]);
    let steps = vec![
        Step::Open,
        Step::CreateTopics("p", vec![("a", 1)]),
        commit(200),
        commit(250),
        commit(200),
        Step::Compact("a"),
        commit(230),
        Step::Compact("a"),
    ];
    twice("crashes in recovery after compactions", steps);
}

fn twice(workload: &str, steps: Vec<Step>) {
    twice_with(workload, &record(&small_options(), steps), SMALL);
}

fn twice_with(workload: &str, recorded: &Recorded, size: usize) {
    let opened = crash_twice(recorded, size, &nothing).unwrap_or_else(|failure| fail(workload, failure));
    println!("{workload}: {opened} disks of {} calls", recorded.calls.len());
    assert!(opened > recorded.calls.len(), "{workload}: only {opened} disks of {} calls", recorded.calls.len());
}

const SMALL: usize = 40;
/// Goes to its segment at once.
const LARGE: usize = 140_000;

/// Commits whose bytes are synced together with their journal entries.
fn brief_large_steps() -> Vec<Step> {
    vec![
        Step::Open,
        Step::CreateTopics("p", vec![("a", 1)]),
        Step::Commit("p", vec![("a", 0, 1, 60)]),
        Step::Commit("p", vec![("a", 0, 1, LARGE)]),
        Step::Commit("p", vec![("a", 0, 1, LARGE)]),
    ]
}

/// The least that has topics, a roll, a checkpoint, and everything of the log's own.
fn brief_steps() -> Vec<Step> {
    vec![
        Step::Open,
        Step::CreateTopics("p", vec![("a", 2)]),
        Step::Commit("p", vec![("a", 0, 1, 40), ("a", 1, 1, 900)]),
        Step::Register("s", "one"),
        Step::Commit("p", vec![("a", 0, 1, 50), ("a", 1, 1, 800)]),
        Step::Commit("p", vec![("a", 0, 1, 60)]),
        Step::CreateTopics("p", vec![("b", 1)]),
        // With a checkpoint, after which the journal does not have it.
        Step::Commit("p", vec![("b", 0, 1, 1500)]),
        Step::DeleteTopic("b"),
        Step::Trim("a", 1, Keeps::Nothing),
        Step::Commit("p", vec![("a", 1, 1, 30)]),
    ]
}

#[test]
fn crashes_in_recovery() {
    twice("crashes in recovery", brief_steps());
}

#[test]
fn crashes_in_recovery_of_large_commits() {
    twice_with("crashes in recovery of large commits", &record(&large_options(), brief_large_steps()), LARGE);
    let rolling = LogOptions { segment_bytes: LARGE as u64, ..large_options() };
    twice_with("crashes in recovery of large commits to new segments", &record(&rolling, brief_large_steps()), LARGE);
}

#[test]
fn crashes_in_recovery_after_failed_writes() {
    twice_with("crashes in recovery after failed writes", &record(&without_tails(small_options()), failing_steps()), SMALL);
}

/// A disk that forgets one kind of sync loses something, and that is found: so each of these syncs is needed, and the
/// comparison sees what it should.
#[test]
fn a_missing_sync_is_noticed() {
    let noticed = |recorded: &Recorded, what: &str, forgets: Forgets<'_>| {
        assert!(recorded.calls.iter().any(forgets), "{what} is never synced");
        let failure = crash_everywhere(recorded, Disk::new(), Effort::Full, forgets).err();
        assert!(failure.is_some(), "nobody noticed that {what} was not synced");
    };
    let small = record(&small_options(), small_steps());
    noticed(&small, "a journal", &|call| file_synced(call, ".journal"));
    noticed(&small, "a journal before it gets its name", &|call| file_synced(call, ".journal.new"));
    noticed(&small, "the directory of a journal", &|call| dir_synced(call, "journals/p"));
    noticed(&small, "the directory of journals", &|call| dir_synced(call, "journals"));
    noticed(&small, "the directory of topics", &|call| dir_synced(call, "topics"));
    noticed(&small, "the directory of a topic", &|call| dir_synced(call, "topics/a"));
    noticed(&small, "a segment before a checkpoint", &|call| file_synced(call, ".log"));
    noticed(&small, "the directory of segments before a checkpoint", &|call| dir_synced(call, "a/0") || dir_synced(call, "a/1"));
    noticed(&small, "the marker file", &|call| file_synced(call, "log.json.new"));
    noticed(&small, "the data directory", &|call| dir_synced(call, "data/log"));
    noticed(&small, "the directory above", &|call| dir_synced(call, "data"));
    let large = record(&large_options(), large_steps());
    noticed(&large, "a segment with its journal entry", &|call| file_synced(call, ".log"));
    noticed(&large, "the directory of a segment with its journal entry", &|call| dir_synced(call, "a/0"));
    let unsynced = record(&small_options(), unsynced_steps());
    noticed(&unsynced, "a journal with several commits", &|call| file_synced(call, ".journal"));
    let unsynced = record(&large_options(), unsynced_large_steps());
    noticed(&unsynced, "a segment with several commits", &|call| file_synced(call, ".log"));
    let compacting = record(&compacting_options(), compacting_steps());
    noticed(&compacting, "a compacted segment", &|call| file_synced(call, ".log.swap"));
    noticed(&compacting, "the directory of compacted segments", &|call| dir_synced(call, "a/0"));
    let failing = record(&without_tails(small_options()), failing_steps());
    noticed(&failing, "a segment's new content", &|call| file_synced(call, ".log.swap"));

    let noticed = |recorded: &Recorded, size: usize, what: &str, forgets: Forgets<'_>| {
        assert!(crash_twice(recorded, size, forgets).is_err(), "nobody noticed that {what} was not synced by recovery");
    };
    let brief = record(&small_options(), brief_steps());
    noticed(&brief, SMALL, "a journal", &|call| file_synced(call, ".journal"));
    noticed(&brief, SMALL, "the directory of a journal", &|call| dir_synced(call, "journals/p"));
    noticed(&brief, SMALL, "the directory of journals", &|call| dir_synced(call, "journals"));
    noticed(&brief, SMALL, "the data directory", &|call| dir_synced(call, "data/log"));
    noticed(&brief, SMALL, "the directory above", &|call| dir_synced(call, "data"));
    let large = record(&large_options(), brief_large_steps());
    noticed(&large, LARGE, "a segment", &|call| file_synced(call, ".log"));
    noticed(&large, LARGE, "the directory of a segment", &|call| dir_synced(call, "a/0"));
}
