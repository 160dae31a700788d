//! Brings the segments of a pipeline in line with its journal, when the log is opened and after a failed write.
//!
//! The journal's checkpoint and the entries behind it say which bytes are committed. Recovery reads no more than
//! that tail: older bytes are checked by their length now, and by their checksums when they are read.

mod image;
mod new_files;

use std::collections::{BTreeMap, HashMap, HashSet, hash_map};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tracing::info;
use uuid::Uuid;

pub(crate) use self::image::Image;
use self::image::Known;
use self::new_files::Tail;
use crate::durable_file::{self, Access, DurableFile};
use crate::error::{ADVICE_DAMAGE, LogError, Result};
use crate::journal::format::{Checkpoint, Entry, Piece, SegmentImage, TopicImage};
use crate::journal::{self, BLOCK_BYTES, JournalFile, Loaded, LoadedTopics};
use crate::log::LogOptions;
use crate::names;
use crate::partition::{self, Offset, Partition, PartitionId};
use crate::pipeline::Dirty;
use crate::segment::{self, Segment};
use crate::segment_tail::Tails;
use crate::topic::{self, TopicInner};

const CHUNK_BYTES: usize = 1 << 20;

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

type SegmentKey = (Uuid, PartitionId, Offset);

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

/// What a replay does with the pieces of commits.
enum Replay<'a> {
    /// Writes those that stand in the journal.
    IntoSegments,
    /// Writes all of them to new files.
    IntoNewFiles(&'a mut Tail),
}

/// The files of a pipeline's topics, and what recovery changed in them.
struct Files<'a> {
    journal: &'a Path,
    topics: BTreeMap<Uuid, &'a TopicInner>,
    deleted: HashSet<Uuid>,
    touched_files: HashSet<PathBuf>,
    touched_dirs: HashSet<PathBuf>,
}

impl<'a> Files<'a> {
    fn new(journal: &'a Path, topics: &'a [Arc<TopicInner>], known: &LoadedTopics) -> Self {
        let topics = topics.iter().map(|topic| (topic.metadata.id, topic.as_ref())).collect();
        let deleted = known.deleted.iter().map(|topic| topic.id).collect();
        Self { journal, topics, deleted, touched_files: HashSet::new(), touched_dirs: HashSet::new() }
    }

    fn partition_dir(&self, topic: Uuid, number: PartitionId) -> Result<&'a Path> {
        match self.topics.get(&topic) {
            Some(topic) => Ok(&topic.partition(number)?.dir),
            None => Err(LogError::TopicMissing { journal: self.journal.to_owned(), topic }),
        }
    }

    fn path(&self, piece: &Piece) -> Result<PathBuf> {
        Ok(self.partition_dir(piece.topic, piece.partition)?.join(segment::file_name(piece.segment)))
    }

    /// Renames new contents over their segments, where the checkpoint that names them was written but not this.
    fn finish_swaps(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        for TopicImage { topic, partitions } in checkpoint.topics.iter().filter(|image| !self.deleted.contains(&image.topic.id)) {
            for (number, image) in partitions {
                let dir = self.partition_dir(topic.id, *number)?;
                for segment in image.segments.iter().filter(|segment| segment.swap) {
                    let swap = dir.join(segment::swap_file_name(segment.base_offset));
                    // Even when nothing is left to rename, the next checkpoint has to stop saying so.
                    self.touched_dirs.insert(dir.to_owned());
                    if durable_file::exists(&swap)? {
                        durable_file::rename(&swap, &dir.join(segment::file_name(segment.base_offset)))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Replays the entries onto `image` (which holds the checkpoint); returns how many were kept, and what of them only the journal has.
    fn replay<'b>(&mut self, loaded: &'b Loaded, image: &mut Image, replay: Replay<'_>) -> Result<(usize, Vec<MissingPiece<'b>>)> {
        let pieces = self.locate(loaded)?;
        let kept = self.count_kept(loaded, &pieces)?;
        for (at, entry) in loaded.entries.iter().take(kept) {
            let sequence = match entry {
                Entry::Commit(commit) => commit.sequence.wrapping_sub(1),
                Entry::TopicsDeleted { sequence, .. } | Entry::TopicsCreated { sequence, .. } => *sequence,
                Entry::Checkpoint(_) => return Err(loaded.damaged(*at, "a second checkpoint stands there")),
            };
            if sequence != image.sequence {
                return Err(loaded.damaged(*at, "the commits there are not in sequence"));
            }
            let Entry::Commit(commit) = entry else { continue };
            for piece in commit.pieces.iter().filter(|piece| !self.deleted.contains(&piece.topic)) {
                image.add(piece).map_err(|problem| loaded.damaged(*at, problem))?;
            }
            image.sequence = commit.sequence;
            image.position = Some(commit.position.clone());
        }
        let mut missing = Vec::new();
        match replay {
            Replay::IntoSegments => {
                missing = self.restore(&pieces, kept)?;
                settle(&pieces, loaded.first_unsynced..kept)?;
            }
            Replay::IntoNewFiles(tail) => {
                for (path, located) in &pieces {
                    for located in located.iter().filter(|located| located.entry < kept) {
                        tail.append(located.piece, located.inline, path)?;
                    }
                }
            }
        }
        Ok((kept, missing))
    }

    /// All pieces behind the checkpoint, and of those that the journal does not have, whether their segments do. By segment, in
    /// the order of offsets, so that each file is opened once.
    fn locate<'b>(&self, loaded: &'b Loaded) -> Result<Vec<(PathBuf, Vec<LocatedPiece<'b>>)>> {
        let mut segments: BTreeMap<(Uuid, PartitionId, Offset), Vec<LocatedPiece<'b>>> = BTreeMap::new();
        for (index, (_, entry)) in loaded.entries.iter().enumerate() {
            let Entry::Commit(commit) = entry else { continue };
            for (piece, inline) in commit.pieces.iter().zip(&commit.inline) {
                if !self.deleted.contains(&piece.topic) {
                    let located = LocatedPiece { entry: index, piece, inline: inline.as_deref(), found: Found::Torn };
                    segments.entry((piece.topic, piece.partition, piece.segment)).or_default().push(located);
                }
            }
        }
        let mut files = Vec::with_capacity(segments.len());
        for ((topic, number, segment), mut pieces) in segments {
            let path = self.partition_dir(topic, number)?.join(segment::file_name(segment));
            let mut elsewhere = pieces.iter_mut().filter(|located| located.inline.is_none()).peekable();
            if elsewhere.peek().is_some() && durable_file::exists(&path)? {
                let file = DurableFile::open(&path, Access::Read)?;
                for located in elsewhere {
                    located.found = look_for(&file, located.piece)?;
                }
            }
            files.push((path, pieces));
        }
        Ok(files)
    }

    /// How many entries have all their bytes, in the journal or in segments: all, or all before a torn one that was not synced.
    fn count_kept(&self, loaded: &Loaded, files: &[(PathBuf, Vec<LocatedPiece<'_>>)]) -> Result<usize> {
        let all = loaded.entries.len();
        let pieces = || files.iter().flat_map(|(path, pieces)| pieces.iter().map(move |located| (path, located)));
        let mut missing = pieces().filter(|(_, located)| located.inline.is_none() && located.found != Found::Whole);
        let is_torn = |located: &LocatedPiece<'_>| {
            let unsynced = located.entry >= loaded.first_unsynced;
            unsynced && (located.found == Found::Torn || loaded.is_partial(located.entry))
        };
        let torn = missing.clone().filter(|(_, located)| is_torn(located)).map(|(_, located)| located.entry);
        let kept = torn.min().unwrap_or(all);
        if let Some((path, LocatedPiece { piece, .. })) = missing.find(|(_, located)| located.entry < kept) {
            let (first, last) = (piece.base_offset, piece.next_offset - 1);
            return Err(LogError::Corrupt {
                path: path.clone(),
                position: piece.file_position,
                problem: format!("the {} bytes there, offsets {first} to {last}, are not those that were committed", piece.length),
                advice: ADVICE_DAMAGE,
            });
        }
        if kept < all {
            info!(journal = %loaded.path.display(), commits = all - kept, "leaving out what was not finished");
        }
        Ok(kept)
    }

    /// Writes the pieces of the first `kept` entries that stand in the journal to their segments, as far as these reach. Also where they can be read
    /// there: after a sync that failed, the kernel may show bytes that no later sync writes. Returns the others: of each segment its end.
    fn restore<'b>(&mut self, files: &[(PathBuf, Vec<LocatedPiece<'b>>)], kept: usize) -> Result<Vec<MissingPiece<'b>>> {
        let mut missing = Vec::new();
        for (path, pieces) in files {
            let mut file = None;
            let mut file_bytes = 0;
            let mut pieces = pieces.iter().filter(|located| located.entry < kept).peekable();
            // What a torn commit began is not looked at: the file may not even be there.
            let Some(first) = pieces.peek().map(|located| located.piece) else { continue };
            for located in pieces {
                let Some(bytes) = located.inline else { continue };
                let file = match &mut file {
                    Some(file) => file,
                    None => {
                        path.parent().map_or(Ok(()), partition::create_dir)?;
                        let file = file.insert(DurableFile::open_or_create(path)?);
                        file_bytes = file.len()?;
                        file
                    }
                };
                let piece = located.piece;
                if piece.file_position + piece.length <= file_bytes {
                    file.write_all_at(bytes, piece.file_position)?;
                } else {
                    missing.push(MissingPiece { piece, bytes });
                }
            }
            // Synced in any case: that bytes can be read does not mean that they are on the disk.
            if let Some(dir) = path.parent().filter(|_| first.file_position == 0) {
                self.touched_dirs.extend(partition::dirs_above(dir).map(Path::to_owned));
            }
            self.touched_files.insert(path.clone());
        }
        Ok(missing)
    }

    /// Keeps the ends of segments that only the journal has in memory; more than `tail_bytes` go to their files.
    fn keep_in_memory(&self, missing: &[MissingPiece<'_>], tail_bytes: usize) -> Result<Tails> {
        let mut tails = Tails::default();
        let mut segments: HashMap<SegmentKey, Arc<Segment>> = HashMap::new();
        for MissingPiece { piece, bytes } in missing {
            let Some(topic) = self.topics.get(&piece.topic) else { continue };
            let partition = topic.partition(piece.partition)?;
            let segment = match segments.entry((piece.topic, piece.partition, piece.segment)) {
                hash_map::Entry::Occupied(known) => known.into_mut(),
                hash_map::Entry::Vacant(new) => {
                    let of_piece = |segment: &Arc<Segment>| segment.base_offset() == piece.segment;
                    let Some(segment) = partition.state().segments.into_iter().find(of_piece) else { continue };
                    new.insert(segment)
                }
            };
            tails.append(segment, bytes, piece.file_position, tail_bytes, &partition.files)?;
        }
        Ok(tails)
    }

    /// Writes what is in memory to the files.
    fn flush(&self, tails: &mut Tails) -> Result<()> {
        let mut topics = self.topics.values().flat_map(|topic| &topic.partitions);
        topics.next().map_or(Ok(()), |partition| tails.flush(&partition.files))
    }

    /// Cuts every segment to its committed length, and removes files that hold nothing committed. That is durable then: what is committed
    /// next must not stand on the remains of what was not, see [`Found::Torn`].
    fn trim(&self, image: &Image) -> Result<()> {
        let mut cut = Cut::default();
        for (topic, number) in image.partitions.keys() {
            self.partition_dir(*topic, *number)?;
        }
        for (id, topic) in self.topics.clone() {
            for (number, partition) in (0..).zip(&topic.partitions) {
                let segments = image.partitions.get(&(id, number)).map_or(&[][..], |image| &image.segments);
                trim_partition(partition, segments, &mut cut)?;
            }
        }
        durable_file::sync_together(&cut.files, |path| durable_file::sync_file(path))?;
        durable_file::sync_together(&cut.dirs, |dir| durable_file::sync_dir(dir))
    }

    /// Makes all changes durable.
    fn sync(&mut self) -> Result<()> {
        let touched: Vec<_> = self.touched_files.drain().collect();
        durable_file::sync_together(&touched, |path| durable_file::sync_file(path))?;
        let touched: Vec<_> = self.touched_dirs.drain().collect();
        durable_file::sync_together(&touched, |dir| durable_file::sync_dir(dir))
    }

    /// Leaves the syncs to the next checkpoint: until then the journal has what was written.
    fn into_dirty(self, topics: &[Arc<TopicInner>]) -> Dirty {
        let mut dirty = Dirty { segments: Vec::new(), dirs: self.touched_dirs.into_iter().collect() };
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            for segment in partition.state().segments {
                if self.touched_files.contains(&segment.path()) {
                    segment.set_dirty(true);
                    dirty.segments.push(segment);
                }
            }
        }
        dirty
    }
}

/// What a recovery cut off.
#[derive(Debug, Default)]
struct Cut {
    files: Vec<PathBuf>,
    dirs: Vec<PathBuf>,
}

fn trim_partition(partition: &Partition, segments: &[SegmentImage], cut: &mut Cut) -> Result<()> {
    let dir = &partition.dir;
    let mut removed = false;
    for name in durable_file::list_dir(dir)? {
        let base = segment::parse_file_name(&name);
        let swap = name.strip_suffix(".swap").and_then(segment::parse_file_name).is_some();
        let unknown = base.is_some_and(|base| segments.iter().all(|segment| segment.base_offset != base));
        if swap || unknown {
            let path = dir.join(&name);
            info!(file = %path.display(), "removing a file of a commit that was not finished");
            durable_file::remove_file(&path)?;
            removed = true;
        }
    }
    if removed {
        cut.dirs.push(dir.clone());
    }
    let known = partition.state().segments;
    for segment in segments {
        let path = dir.join(segment::file_name(segment.base_offset));
        let found = durable_file::file_len(&path)?.unwrap_or(0);
        let known = known.iter().find(|known| known.base_offset() == segment.base_offset);
        let in_file = known.map_or(segment.length, |known| known.bytes_in_file(segment.length));
        if found < in_file {
            let problem = format!("the file ends there, but {} bytes were committed", segment.length);
            return Err(LogError::Corrupt { path, position: found, problem, advice: ADVICE_DAMAGE });
        }
        if found > segment.length {
            let bytes = found - segment.length;
            info!(file = %path.display(), position = segment.length, bytes, "cutting off uncommitted bytes");
            DurableFile::open(&path, Access::ReadWrite)?.set_len(segment.length)?;
            cut.files.push(path);
        }
    }
    Ok(())
}

/// Makes the pieces of entries durable that stand in segments alone, as the entries themselves are made durable before there can be another one.
fn settle(files: &[(PathBuf, Vec<LocatedPiece<'_>>)], entries: Range<usize>) -> Result<()> {
    let mut settled = Vec::new();
    for (path, pieces) in files {
        // Of a damaged copy in the journal the segment may be the only one, and it was synced by nobody but a checkpoint.
        let in_doubt = |located: &&LocatedPiece<'_>| located.entry >= entries.start || located.piece.inline;
        let unsettled = pieces.iter().filter(|located| located.entry < entries.end && located.inline.is_none());
        let mut unsettled = unsettled.filter(in_doubt).peekable();
        if unsettled.peek().is_none() {
            continue;
        }
        let file = DurableFile::open(path, Access::ReadWrite)?;
        unsettled.try_for_each(|located| write_once_more(&file, located.piece))?;
        settled.push((path, file));
    }
    durable_file::sync_together(&settled, |(path, file)| {
        file.sync_data()?;
        path.parent().map_or(Ok(()), |dir| partition::dirs_above(dir).try_for_each(durable_file::sync_dir))
    })
}

/// Writes the bytes that a segment has of a piece in their place. That they can be read does not mean that they are on the disk: their writer may have been
/// killed before a sync of them ended, or have ended because one failed, after which the kernel may call pages clean that were never written.
pub(crate) fn write_once_more(file: &DurableFile, piece: &Piece) -> Result<()> {
    let mut at = piece.file_position;
    for_each_chunk(file, piece, |chunk| {
        file.write_all_at(chunk, at)?;
        at += chunk.len() as u64;
        Ok(())
    })?;
    Ok(())
}

/// A piece behind the checkpoint that only the journal has.
struct MissingPiece<'a> {
    piece: &'a Piece,
    bytes: &'a [u8],
}

/// A piece behind the checkpoint.
struct LocatedPiece<'a> {
    /// Which entry it belongs to.
    entry: usize,
    piece: &'a Piece,
    /// Its bytes, if the journal has them.
    inline: Option<&'a [u8]>,
    /// What its segment has of it, if the journal does not have its bytes.
    found: Found,
}

/// What a segment has of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Its bytes.
    Whole,
    /// Parts of it look as if they never reached the disk: the file ends within it, or a block of it is all zero. Segments are written
    /// behind their durable end alone, so nothing else can stand there after a loss of power.
    Torn,
    /// Others.
    Different,
}

/// What the segment `file` has of a piece.
pub(crate) fn look_for(file: &DurableFile, piece: &Piece) -> Result<Found> {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let mut at = piece.file_position;
    // Of a block that two chunks have a part of, each part counts as one.
    let mut has_zero_block = false;
    let reaches_end = for_each_chunk(file, piece, |chunk| {
        digest.update(chunk);
        let first = (at.next_multiple_of(BLOCK_BYTES) - at).min(chunk.len() as u64);
        let (head, blocks) = chunk.split_at(first as usize);
        let is_zero = |block: &[u8]| !block.is_empty() && block.iter().all(|byte| *byte == 0);
        has_zero_block |= is_zero(head) || blocks.chunks(BLOCK_BYTES as usize).any(is_zero);
        at += chunk.len() as u64;
        Ok(())
    })?;
    Ok(match reaches_end {
        true if digest.finalize() as u32 == piece.crc => Found::Whole,
        true if !has_zero_block => Found::Different,
        _ => Found::Torn,
    })
}

/// Reads a piece from its segment, chunk by chunk; `false` when the file ends early.
fn for_each_chunk(file: &DurableFile, piece: &Piece, mut each: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
    let mut buffer = vec![0; CHUNK_BYTES.min(usize::try_from(piece.length).unwrap_or(CHUNK_BYTES))];
    let mut done = 0;
    while done < piece.length {
        let want = buffer.len().min((piece.length - done) as usize);
        let read = file.read_at(&mut buffer[..want], piece.file_position + done)?;
        each(&buffer[..read])?;
        done += read as u64;
        if read < want {
            return Ok(false);
        }
    }
    Ok(true)
}
