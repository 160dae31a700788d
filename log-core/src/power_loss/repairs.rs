//! A process is killed, a byte of a segment or of the journal is damaged, and power is lost while that is repaired: at every call, after which the repair is made once more,
//! and right behind it.

use std::collections::HashSet;
use std::path::Path;

use super::disk::{Disk, Fate};
use super::model::{self, Contents, Depth};
use super::trace::{Action, Trace};
use super::workload::{LOG_DIR, Recorded, Step};
use super::{
    Failure, Forgets, LARGE, compacting_options, compacting_steps, describe, dir_synced, fail, failing_steps, file_synced,
    large_options, mix, nothing, record, seeds, small_options, small_steps, temp_dir, unsynced_large_steps, unsynced_steps,
    without_tails,
};
use crate::inspect::{Damage, Remedy, Repair};
use crate::{LogOptions, PartitionId};

/// Of so many moments of a workload, the process is killed at one, and whenever a sync has just failed.
const KILLED_EVERY: usize = 4;
/// Damages that are tried at each.
const DAMAGES: usize = 2;

/// No more steps follow each other of which only one writes to the journal.
const STEPS_AN_ENTRY: usize = 3;

/// What was tried.
#[derive(Debug, Default)]
struct Tried {
    /// Repairs that had something to do.
    repairs: usize,
    /// Of these, those that lost records.
    cut_out: usize,
    /// Disks that a power cut left of one.
    disks: usize,
}

/// `forgets` is about the calls of repairs.
fn crash_in_repair(recorded: &Recorded, forgets: Forgets<'_>) -> Result<Tried, Failure> {
    let mut tried = Tried::default();
    let mut disk = Disk::new();
    let mut known = HashSet::new();
    let mut sync_failed = false;
    for (calls, next) in recorded.calls.iter().enumerate() {
        if calls % KILLED_EVERY == 0 || sync_failed {
            for damage in 0..DAMAGES {
                let mut left = disk.clone();
                let Some(damaged) = damage_file(&mut left, calls + damage, mix(seeds().start, calls, 2 + damage)) else {
                    continue;
                };
                if !known.insert((left.fingerprint(), left.after_crash(Fate::NothingSurvives).fingerprint())) {
                    continue;
                }
                let stage = recorded.history.stage(calls, false);
                let (mut allowed, step) = recorded.history.allowed(stage);
                if damaged.partition.is_none() {
                    // The journal's last entry looks torn with a damaged byte, so it may be dropped. Not every step writes one.
                    for before in 1..=stage.0.min(STEPS_AN_ENTRY) {
                        allowed.extend(recorded.history.allowed((stage.0 - before, false)).0);
                    }
                }
                repair_and_crash(left, &damaged, &allowed, &recorded.options, forgets, &mut tried).map_err(|failure| Failure {
                    message: format!(
                        "killed during {step}, before call {calls}, damaged {} (seed {}), then {}\nbefore that:\n{}",
                        damaged.description,
                        seeds().start,
                        failure.message,
                        describe(&recorded.calls, calls)
                    ),
                    ..failure
                })?;
            }
        }
        disk.apply(next, None);
        sync_failed = matches!(next.action, Action::SyncFailed { .. });
    }
    Ok(tried)
}

struct Damaged {
    description: String,
    /// Topic and partition of a segment.
    partition: Option<(String, PartitionId)>,
}

/// Changes a byte of some segment, or of the journal of `p`; nothing if there is none. With the next `number` it is another one.
fn damage_file(disk: &mut Disk, number: usize, random: u64) -> Option<Damaged> {
    let (topics, journal) = (Path::new(LOG_DIR).join("topics"), Path::new(LOG_DIR).join("journals/p"));
    let of_user = |path: &Path| !path.strip_prefix(&topics).is_ok_and(|name| name.to_string_lossy().starts_with('_'));
    let is = |path: &Path, extension: &str| path.extension().is_some_and(|found| found == extension);
    let files = disk.files_below(&topics).into_iter().filter(|(path, _)| is(path, "log") && of_user(path));
    let files = files.chain(disk.files_below(&journal).into_iter().filter(|(path, _)| is(path, "journal")));
    let files: Vec<_> = files.filter(|(_, len)| *len > 0).collect();
    let (path, len) = files.get(number % files.len().max(1))?;
    let position = random as usize % len;
    disk.damage(path, position);
    let partition = path.strip_prefix(&topics).ok().map(|path| {
        let names: Vec<_> = path.iter().map(|name| name.to_str().unwrap()).collect();
        (names[0].to_owned(), names[1].parse().unwrap())
    });
    Some(Damaged { description: format!("byte {position} of {len} in {}", path.display()), partition })
}

fn repair_and_crash(
    mut left: Disk,
    damaged: &Damaged,
    allowed: &[&Contents],
    options: &LogOptions,
    forgets: Forgets<'_>,
    tried: &mut Tried,
) -> Result<(), Failure> {
    let failed = |message: String| Failure { message, dir: None };
    let root = temp_dir();
    left.materialise(root.path());
    let trace = Trace::start(root.path());
    let damages = repair(root.path()).map_err(failed)?;
    let calls = trace.finish();
    drop(root);
    if damages.is_empty() || damages.iter().any(|damage| !damage.remedy.mends()) {
        return Ok(());
    }
    tried.repairs += 1;
    let mut allowed: Vec<Contents> = allowed.iter().map(|contents| (*contents).clone()).collect();
    if damages.iter().any(|damage| damage.remedy == Remedy::CutOut) {
        tried.cut_out += 1;
        // Nobody else had what the journal lost.
        let Some((topic, partition)) = &damaged.partition else { return Ok(()) };
        for topic in allowed.iter_mut().filter_map(|contents| contents.topics.get_mut(topic)) {
            topic.partitions.get_mut(*partition as usize).into_iter().for_each(|records| records.may_lack_any());
        }
    }
    let allowed: Vec<&Contents> = allowed.iter().collect();
    let mut opened = HashSet::new();
    for done in 0..=calls.len() {
        for fate in [Fate::NothingSurvives, Fate::Random(mix(seeds().start, done, 3))] {
            let is_whole = done == calls.len();
            // What only the journal held durably is lost with its copy there until the repair has ended.
            if damaged.partition.is_none() && !is_whole {
                continue;
            }
            let mut after = left.after_crash(fate);
            if !opened.insert((after.fingerprint(), is_whole)) {
                continue;
            }
            tried.disks += 1;
            let root = temp_dir();
            after.materialise(root.path());
            let again = if is_whole { Ok(Vec::new()) } else { repair(root.path()) };
            let depth = if is_whole { Depth::GoOn } else { Depth::Read };
            let checked = again.and_then(|_| model::check(&root.path().join(LOG_DIR), options, &allowed, depth));
            checked.map_err(|problem| Failure {
                message: format!("power lost before call {done} of a repair, {fate:?}: {problem}\n{}", describe(&calls, done)),
                dir: Some(root),
            })?;
        }
        if let Some(next) = calls.get(done).filter(|next| !forgets(next)) {
            left.apply(next, None);
        }
    }
    Ok(())
}

/// What was damaged.
fn repair(root: &Path) -> Result<Vec<Damage>, String> {
    let repair = Repair::plan(&root.join(LOG_DIR), &mut |_, _| {}).map_err(|error| format!("no repair: {}", error.in_full()))?;
    let damages = repair.verification().damages.clone();
    repair.apply().map_err(|error| format!("the repair failed: {}", error.in_full()))?;
    Ok(damages)
}

fn check(workload: &str, recorded: &Recorded) -> Tried {
    let tried = crash_in_repair(recorded, &nothing).unwrap_or_else(|failure| fail(workload, failure));
    println!("{workload}: {tried:?}");
    assert!(tried.repairs > 10, "{workload}: only {tried:?}");
    tried
}

#[test]
fn repairs_after_small_commits() {
    for options in [small_options(), without_tails(small_options())] {
        let tried = check("repairs after small commits", &record(&options, small_steps()));
        assert!((1..tried.repairs).contains(&tried.cut_out), "either nothing or everything was lost: {tried:?}");
    }
}

#[test]
fn repairs_after_failed_writes() {
    check("repairs after failed writes", &record(&without_tails(small_options()), failing_steps()));
    let large = |size| Step::Commit("p", vec![("a", 0, 1, size), ("a", 1, 1, 40)]);
    let failing = |path_part| Step::FailedCommit("p", vec![("a", 0, 1, LARGE)], "sync", path_part);
    let steps =
        vec![Step::Open, Step::CreateTopics("p", vec![("a", 2)]), large(LARGE), failing("topics"), large(60), failing(".journal")];
    check("repairs after failed writes of large commits", &record(&without_tails(large_options()), steps));
}

#[test]
fn repairs_after_unsynced_commits() {
    check("repairs after un-synced commits", &record(&without_tails(small_options()), unsynced_steps()));
    let rolling = LogOptions { segment_bytes: 2 * LARGE as u64, ..large_options() };
    check("repairs after un-synced large commits", &record(&rolling, unsynced_large_steps()));
}

#[test]
fn repairs_after_compactions() {
    check("repairs after compactions", &record(&compacting_options(), compacting_steps()));
}

/// As [`super::a_missing_sync_is_noticed`], of the syncs of repairs.
#[test]
fn a_missing_sync_of_a_repair_is_noticed() {
    let noticed = |recorded: &Recorded, what: &str, forgets: Forgets<'_>| {
        assert!(crash_in_repair(recorded, forgets).is_err(), "nobody noticed that {what} was not synced by a repair");
    };
    let small = record(&without_tails(small_options()), small_steps());
    noticed(&small, "a segment", &|call| file_synced(call, ".log"));
    noticed(&small, "a replaced segment", &|call| file_synced(call, ".log.swap"));
    noticed(&small, "a journal before it gets its name", &|call| file_synced(call, ".journal.new"));
    noticed(&small, "the directory of a journal", &|call| dir_synced(call, "journals/p"));
    noticed(&small, "the directory of segments", &|call| dir_synced(call, "a/0") || dir_synced(call, "a/1"));
}
