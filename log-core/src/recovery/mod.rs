//! Brings the segments of a pipeline in line with its journal, when the log is opened and after a failed write.
//!
//! The journal's checkpoint and the entries behind it say which bytes are committed. Recovery reads no more than
//! that tail: older bytes are checked by their length now, and by their checksums when they are read.

mod files;
mod image;
mod new_files;
mod pieces;

use std::collections::{HashMap, hash_map};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tracing::info;

use self::files::{Files, Replay, SegmentKey};
pub(crate) use self::image::Image;
use self::image::Known;
use self::new_files::Tail;
pub(crate) use self::pieces::{Found, look_for, write_once_more};
use crate::durable_file;
use crate::error::{ADVICE_DAMAGE, LogError, Result};
use crate::journal::entry::Entry;
use crate::journal::{self, JournalFile, Loaded, LoadedTopics};
use crate::log::LogOptions;
use crate::names;
use crate::partition::PartitionId;
use crate::pipeline::Dirty;
use crate::segment;
use crate::segment_tail::Tails;
use crate::topic::{self, TopicInner};

/// A pipeline after recovery.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) journal: JournalFile,
    pub(crate) sequence: u64,
    pub(crate) position: Option<Bytes>,
    /// What recovery wrote, or found written but perhaps not synced.
    pub(crate) dirty: Dirty,
    /// What only the journal has.
    pub(crate) tails: Tails,
    /// Bytes of the entries behind the checkpoint.
    pub(crate) bytes_since_checkpoint: u64,
}

/// Recovers the pipeline whose journal in `dir` was read as `loaded`, and whose topics are `topics`, as the journal says. `topics_dir`
/// is where the directories of all topics are. What segments lack goes to memory, as far as `tail_bytes` allows: so a disk without room is no reason
/// for a log not to open.
pub(crate) fn recover(
    dir: &Path,
    loaded: &Loaded,
    topics: &[Arc<TopicInner>],
    topics_dir: &Path,
    tail_bytes: usize,
) -> Result<Recovered> {
    if loaded.torn_bytes > 0 {
        let (journal, bytes) = (loaded.path.display(), loaded.torn_bytes);
        info!(%journal, position = loaded.valid_bytes, bytes, "cutting off a commit that was not finished");
    }
    // The newest file may have got its name just before a crash. Without this, what is appended to it could vanish with it.
    durable_file::sync_dir(dir)?;
    for path in &loaded.obsolete {
        durable_file::remove_file(path)?;
    }
    let known = loaded.topics()?;
    let mut files = Files::new(dir, topics, &known);
    files.finish_swaps(&loaded.checkpoint)?;
    let mut image = Image::from_checkpoint(&loaded.checkpoint, &known);
    let (kept, missing) = files.replay(loaded, &mut image, Replay::IntoSegments)?;
    // Before files are cut that readers may still know as longer ones.
    image.apply(topics, Known::Discard);
    let mut tails = files.keep_in_memory(&missing, tail_bytes)?;
    files.trim(&image)?;
    // An entry that lacks blocks it can do without would be taken for damage once a later one says that it was synced.
    let partial = (loaded.first_unsynced..kept).any(|index| loaded.is_partial(index));
    let renewed = loaded.checkpoint.names_swaps() || !known.deleted.is_empty() || partial;
    let resumed = if renewed { None } else { Some(resume(dir, loaded, kept)?) };
    remove_deleted(dir, loaded, kept, &known, topics_dir)?;
    let (journal, dirty) = match resumed {
        Some(journal) => (journal, files.into_dirty(topics)),
        None => {
            // The next checkpoint has to stop speaking of new contents before there can be others, and of deleted topics before there
            // can be others of their names.
            files.flush(&mut tails)?;
            files.sync()?;
            let journal = JournalFile::start(dir, loaded.number + 1, &image.checkpoint())?;
            JournalFile::remove(dir, loaded.number)?;
            (journal, Dirty::default())
        }
    };
    let tail = loaded.entries.iter().filter_map(|(_, entry)| match entry {
        Entry::Commit(commit) => Some(commit.pieces.iter().map(|piece| piece.length).sum::<u64>()),
        _ => None,
    });
    let bytes_since_checkpoint = if renewed { 0 } else { tail.sum() };
    Ok(Recovered { journal, sequence: image.sequence, position: image.position, dirty, tails, bytes_since_checkpoint })
}

/// Removes the directories of topics that the journal says are deleted, once the entries that say so are durable: without them the topics are there.
fn remove_deleted(dir: &Path, loaded: &Loaded, kept: usize, known: &LoadedTopics, topics_dir: &Path) -> Result<()> {
    if known.deleted.is_empty() {
        return Ok(());
    }
    resume(dir, loaded, kept)?;
    known.deleted.iter().try_for_each(|topic| topic::remove_dir(&topics_dir.join(&topic.name)))
}

/// Makes the first `kept` entries of the journal durable, and goes on behind them.
pub(crate) fn resume(dir: &Path, loaded: &Loaded, kept: usize) -> Result<JournalFile> {
    let (unsynced_at, unsynced) = loaded.unsynced_bytes(kept);
    JournalFile::resume(dir, loaded.number, loaded.salt, unsynced_at, unsynced)
}

/// Recovers after a failed write or sync, when what the page cache says about un-synced bytes proves nothing: after a
/// failed sync the kernel may call pages clean that never reached the disk. All that was committed after the
/// checkpoint is written once more, to new files.
pub(crate) fn recover_to_new_files(
    dir: &Path,
    loaded: &Loaded,
    topics: &[Arc<TopicInner>],
    topics_dir: &Path,
    options: &LogOptions,
    segment_bytes_max: u64,
) -> Result<Recovered> {
    let known = loaded.topics()?;
    let mut files = Files::new(dir, topics, &known);
    // An earlier attempt may have come no further than its checkpoint.
    files.finish_swaps(&loaded.checkpoint)?;
    files.sync()?;
    let mut image = Image::from_checkpoint(&loaded.checkpoint, &known);
    let mut tail = Tail::new(segment_bytes_max);
    let (kept, _) = files.replay(loaded, &mut image, Replay::IntoNewFiles(&mut tail))?;
    let mut rewritten = Image::from_checkpoint(&loaded.checkpoint, &known);
    tail.finish(&mut rewritten)?;
    rewritten.sequence = image.sequence;
    rewritten.position = image.position;
    // The checkpoint says nothing of deleted topics any more.
    remove_deleted(dir, loaded, kept, &known, topics_dir)?;
    JournalFile::start(dir, loaded.number + 1, &rewritten.checkpoint())?;
    // From here on it is a crash between that checkpoint and the renaming of the new files.
    let Some(loaded) = journal::load(dir)? else { return Err(loaded.damaged(0, "it vanished while it was being recovered")) };
    recover(dir, &loaded, topics, topics_dir, options.tail_bytes)
}

/// Reads what is committed without changing anything, for a log that another process may be writing. What has not reached its segment yet is taken
/// from the journal; commits of which it does not have it either are left out.
pub(crate) fn view(dir: &Path, loaded: &Loaded, topics: &[Arc<TopicInner>]) -> Result<Image> {
    let known = loaded.topics()?;
    let files = Files::new(dir, topics, &known);
    let mut lengths = HashMap::new();
    let mut tails: HashMap<SegmentKey, ViewedTail> = HashMap::new();
    let mut image = Image::as_written(&loaded.checkpoint, &known);
    'commits: for (_, entry) in &loaded.entries {
        let Entry::Commit(commit) = entry else { continue };
        let pieces = || commit.pieces.iter().zip(&commit.inline).filter(|(piece, _)| !files.deleted.contains(&piece.topic));
        let mut missing = Vec::new();
        for (piece, inline) in pieces() {
            let key = (piece.topic, piece.partition, piece.segment);
            let length = match lengths.entry(key) {
                hash_map::Entry::Occupied(known) => *known.get(),
                hash_map::Entry::Vacant(new) => *new.insert(durable_file::file_len(&files.path(piece)?)?.unwrap_or(0)),
            };
            if length < piece.file_position + piece.length {
                let Some(bytes) = inline else { break 'commits };
                missing.push((key, piece.file_position, bytes));
            }
        }
        for (piece, _) in pieces() {
            image.add(piece).map_err(|problem| loaded.damaged(0, problem))?;
        }
        for (key, position, bytes) in missing {
            let tail = tails.entry(key).or_insert_with(|| ViewedTail { start: position, bytes: Vec::new() });
            tail.bytes.extend_from_slice(bytes);
        }
        image.sequence = commit.sequence;
        image.position = Some(commit.position.clone());
    }
    image.apply(topics, Known::Keep);
    for topic in topics {
        for (number, partition) in (0..).zip(&topic.partitions) {
            for segment in partition.state().segments {
                let tail = tails.remove(&(topic.metadata.id, number, segment.base_offset())).unwrap_or_default();
                segment.set_tail(tail.start, tail.bytes);
            }
        }
    }
    Ok(image)
}

/// What of a segment stands in the journal only: from a byte of the file on to the end.
#[derive(Default)]
struct ViewedTail {
    start: u64,
    bytes: Vec<u8>,
}

/// An error if there are records in a directory of `topics_dir` that no topic claims: a journal was lost.
pub(crate) fn refuse_orphans(topics_dir: &Path, is_topic: impl Fn(&str) -> bool) -> Result<()> {
    orphans(topics_dir, is_topic)?.first().map_or(Ok(()), |dir| Err(orphaned(dir)))
}

/// The error for a directory of records that no topic claims.
pub(crate) fn orphaned(dir: &Path) -> LogError {
    let problem = "it has records, but no journal knows the topic".to_owned();
    LogError::Corrupt { path: dir.to_owned(), position: 0, problem, advice: ADVICE_DAMAGE }
}

/// The directories of `topics_dir` with records that no topic claims, sorted.
pub(crate) fn orphans(topics_dir: &Path, is_topic: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut orphans = Vec::new();
    for name in durable_file::list_dir(topics_dir)? {
        // A file or directory that somebody else put there is not ours to judge.
        if names::check_topic(&name).is_err() || name.starts_with(topic::REMOVED_PREFIX) || is_topic(&name) {
            continue;
        }
        let dir = topics_dir.join(&name);
        if has_records(&dir)? {
            orphans.push(dir);
        }
    }
    Ok(orphans)
}

fn has_records(topic_dir: &Path) -> Result<bool> {
    let partitions = durable_file::list_dir(topic_dir)?;
    for partition in partitions.iter().filter(|name| name.parse::<PartitionId>().is_ok()) {
        let partition = topic_dir.join(partition);
        for file in durable_file::list_dir(&partition)? {
            if segment::parse_file_name(&file).is_some() && durable_file::file_len(&partition.join(file))?.unwrap_or(0) > 0 {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
