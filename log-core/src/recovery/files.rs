//! The segments of a pipeline's topics, as a recovery finds them and leaves them.

use std::collections::{BTreeMap, HashMap, HashSet, hash_map};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::info;
use uuid::Uuid;

use super::image::Image;
use super::new_files::Tail;
use super::pieces::{Found, LocatedPiece, MissingPiece, look_for, settle};
use crate::durable_file::{self, Access, DurableFile};
use crate::error::{ADVICE_DAMAGE, LogError, Result};
use crate::journal::entry::{Checkpoint, Entry, Piece, SegmentImage, TopicImage};
use crate::journal::{Loaded, LoadedTopics};
use crate::partition::{self, Offset, Partition, PartitionId};
use crate::pipeline::Dirty;
use crate::segment::{self, Segment};
use crate::segment_tail::Tails;
use crate::topic::TopicInner;

/// Topic, partition, and the segment's base offset.
pub(super) type SegmentKey = (Uuid, PartitionId, Offset);

/// What a replay does with the pieces of commits.
pub(super) enum Replay<'a> {
    /// Writes those that stand in the journal.
    IntoSegments,
    /// Writes all of them to new files.
    IntoNewFiles(&'a mut Tail),
}

/// The files of a pipeline's topics, and what recovery changed in them.
pub(super) struct Files<'a> {
    journal: &'a Path,
    topics: BTreeMap<Uuid, &'a TopicInner>,
    pub(super) deleted: HashSet<Uuid>,
    touched_files: HashSet<PathBuf>,
    touched_dirs: HashSet<PathBuf>,
}

impl<'a> Files<'a> {
    pub(super) fn new(journal: &'a Path, topics: &'a [Arc<TopicInner>], known: &LoadedTopics) -> Self {
        let topics = topics.iter().map(|topic| (topic.metadata.id, topic.as_ref())).collect();
        let deleted = known.deleted.iter().map(|topic| topic.id).collect();
        Self { journal, topics, deleted, touched_files: HashSet::new(), touched_dirs: HashSet::new() }
    }

    pub(super) fn partition_dir(&self, topic: Uuid, number: PartitionId) -> Result<&'a Path> {
        match self.topics.get(&topic) {
            Some(topic) => Ok(&topic.partition(number)?.dir),
            None => Err(LogError::TopicMissing { journal: self.journal.to_owned(), topic }),
        }
    }

    pub(super) fn path(&self, piece: &Piece) -> Result<PathBuf> {
        Ok(self.partition_dir(piece.topic, piece.partition)?.join(segment::file_name(piece.segment)))
    }

    /// Renames new contents over their segments, where the checkpoint that names them was written but not this.
    pub(super) fn finish_swaps(&mut self, checkpoint: &Checkpoint) -> Result<()> {
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
    pub(super) fn replay<'b>(
        &mut self,
        loaded: &'b Loaded,
        image: &mut Image,
        replay: Replay<'_>,
    ) -> Result<(usize, Vec<MissingPiece<'b>>)> {
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
    pub(super) fn locate<'b>(&self, loaded: &'b Loaded) -> Result<Vec<(PathBuf, Vec<LocatedPiece<'b>>)>> {
        let mut segments: BTreeMap<SegmentKey, Vec<LocatedPiece<'b>>> = BTreeMap::new();
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
    pub(super) fn count_kept(&self, loaded: &Loaded, files: &[(PathBuf, Vec<LocatedPiece<'_>>)]) -> Result<usize> {
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
    pub(super) fn restore<'b>(&mut self, files: &[(PathBuf, Vec<LocatedPiece<'b>>)], kept: usize) -> Result<Vec<MissingPiece<'b>>> {
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
    pub(super) fn keep_in_memory(&self, missing: &[MissingPiece<'_>], tail_bytes: usize) -> Result<Tails> {
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
    pub(super) fn flush(&self, tails: &mut Tails) -> Result<()> {
        let mut topics = self.topics.values().flat_map(|topic| &topic.partitions);
        topics.next().map_or(Ok(()), |partition| tails.flush(&partition.files))
    }

    /// Cuts every segment to its committed length, and removes files that hold nothing committed. That is durable then: what is committed
    /// next must not stand on the remains of what was not, see [`Found::Torn`].
    pub(super) fn trim(&self, image: &Image) -> Result<()> {
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
    pub(super) fn sync(&mut self) -> Result<()> {
        let touched: Vec<_> = self.touched_files.drain().collect();
        durable_file::sync_together(&touched, |path| durable_file::sync_file(path))?;
        let touched: Vec<_> = self.touched_dirs.drain().collect();
        durable_file::sync_together(&touched, |dir| durable_file::sync_dir(dir))
    }

    /// Leaves the syncs to the next checkpoint: until then the journal has what was written.
    pub(super) fn into_dirty(self, topics: &[Arc<TopicInner>]) -> Dirty {
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
