//! A process is killed, a byte of a segment is damaged, and power is lost while that is repaired: at every call, after which the repair is made once more,
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
                let Some(damaged) = damage_segment(&mut left, calls + damage, mix(seeds().start, calls, 2 + damage)) else {
                    continue;
                };
                if !known.insert((left.fingerprint(), left.after_crash(Fate::NothingSurvives).fingerprint())) {
                    continue;
                }
                let (allowed, step) = recorded.history.allowed(recorded.history.stage(calls, false));
                repair_and_crash(left, &damaged, &allowed, &recorded.options, forgets, &mut tried).map_err(|failure| Failure {
                    message: format!(
                        "killed during {step}, before call {calls}, damaged {} (seed {}), then {}\nbefore that:\n{}",
                        damaged.0,
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

/// Description, topic and partition.
type Damaged = (String, String, PartitionId);

/// Changes a byte of some segment; nothing if there is none. With the next `number` it is another one.
fn damage_segment(disk: &mut Disk, number: usize, random: u64) -> Option<Damaged> {
    let segment = |path: &Path| path.extension().is_some_and(|extension| extension == "log");
    let topics = Path::new(LOG_DIR).join("topics");
    let files = disk.files_below(&topics).into_iter().filter(|(path, len)| *len > 0 && segment(path));
    let files: Vec<_> = files.filter(|(path, _)| !path.strip_prefix(&topics).unwrap().to_string_lossy().starts_with('_')).collect();
    if files.is_empty() {
        return None;
    }
    let (path, len) = &files[number % files.len()];
    let position = random as usize % len;
    disk.damage(path, position);
    let names: Vec<_> = path.strip_prefix(&topics).unwrap().iter().map(|name| name.to_str().unwrap().to_owned()).collect();
    Some((format!("byte {position} of {len} in {}", path.display()), names[0].clone(), names[1].parse().unwrap()))
}

fn repair_and_crash(
    mut left: Disk,
    (_, topic, partition): &Damaged,
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
        for topic in allowed.iter_mut().filter_map(|contents| contents.topics.get_mut(topic)) {
            topic.partitions.get_mut(*partition as usize).into_iter().for_each(|records| records.may_lack_any());
        }
    }
    let allowed: Vec<&Contents> = allowed.iter().collect();
    let mut opened = HashSet::new();
    for done in 0..=calls.len() {
        for fate in [Fate::NothingSurvives, Fate::Random(mix(seeds().start, done, 3))] {
            let is_whole = done == calls.len();
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
