//! What the journals say is committed, and which files should hold it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use uuid::Uuid;

use super::{Damage, Remedy};
use crate::data_dir;
use crate::durable_file::{self, Access, DurableFile, OpenDir};
use crate::error::{LogError, Result};
use crate::journal::entry::{Commit, Entry, Piece};
use crate::journal::{self, Loaded, LoadedTopics};
use crate::names;
use crate::partition::{Offset, PartitionId};
use crate::recovery::{self, Found, Image};
use crate::segment;

const SCHEMAS_TOPIC: &str = "_schemas";
/// A process that writes may replace files between two looks; what is damaged is so every time.
const ATTEMPTS: usize = 5;
/// Directories of unknown topics that are held open at a time, and reported.
const SUSPECTS_MAX: usize = 100;

/// A data directory as its journals describe it.
#[derive(Debug)]
pub(super) struct Survey {
    /// The names of all topics that are known.
    pub(super) topics: Vec<String>,
    pub(super) pipelines: Vec<SurveyedPipeline>,
    /// What keeps parts of it from being known.
    pub(super) damages: Vec<Damage>,
}

/// A pipeline with a journal that can be read.
#[derive(Debug)]
pub(super) struct SurveyedPipeline {
    /// The journal's directory.
    pub(super) dir: PathBuf,
    pub(super) loaded: Loaded,
    /// So many of its entries are whole, with all that they speak of.
    pub(super) kept: usize,
    /// What is committed, all of these taken together.
    pub(super) image: Image,
    /// Directories of topics that the journal says are deleted.
    pub(super) deleted_dirs: Vec<PathBuf>,
    pub(super) segments: Vec<SurveyedSegment>,
}

/// What one segment should hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SurveyedSegment {
    pub(super) topic: String,
    pub(super) topic_id: Uuid,
    pub(super) partition: PartitionId,
    pub(super) base_offset: Offset,
    /// Where the next segment begins, or the partition ends.
    pub(super) end_offset: Offset,
    /// Committed bytes.
    pub(super) length: u64,
    /// The partition's directory.
    pub(super) dir: PathBuf,
    /// Its content waits in the `.swap` file.
    pub(super) swap: bool,
    /// Bytes of it that the journal has too, by their position.
    pub(super) held: Vec<(u64, Bytes)>,
    /// Others that perhaps nobody synced.
    pub(super) unsynced: Vec<Piece>,
}

impl SurveyedSegment {
    /// The segment's own file.
    pub(super) fn path(&self) -> PathBuf {
        self.dir.join(segment::file_name(self.base_offset))
    }

    /// The file for a content that is to replace it.
    pub(super) fn swap_path(&self) -> PathBuf {
        self.dir.join(segment::swap_file_name(self.base_offset))
    }

    /// The file that has its content now.
    pub(super) fn content_path(&self) -> PathBuf {
        if self.swap { self.swap_path() } else { self.path() }
    }

    /// Whether both speak of the same file.
    pub(super) fn is_same_file(&self, other: &Self) -> bool {
        (self.topic_id, self.partition, self.base_offset) == (other.topic_id, other.partition, other.base_offset)
    }
}

impl Survey {
    /// Reads metadata and journals in the data directory `dir`.
    ///
    /// # Errors
    /// When it is no log, when a newer build wrote it, and when a file may not be read.
    pub(super) fn take(dir: &Path) -> Result<Self> {
        data_dir::check(dir)?;
        let mut suspects = Vec::new();
        let mut attempt = 1;
        loop {
            let taken = Self::try_take(dir, &mut suspects);
            let look_again = match &taken {
                Ok(survey) => !survey.damages.is_empty() || !suspects.is_empty(),
                Err(LogError::Io { source, .. }) => source.kind() == io::ErrorKind::NotFound,
                Err(_) => false,
            };
            if !look_again || attempt == ATTEMPTS {
                return taken;
            }
            attempt += 1;
        }
    }

    /// `suspects` are directories that no journal knew in the attempt before, and then those of this one.
    fn try_take(dir: &Path, suspects: &mut Vec<OpenDir>) -> Result<Self> {
        let mut survey = Self { topics: Vec::new(), pipelines: Vec::new(), damages: Vec::new() };
        let (journals, topics) = (dir.join(data_dir::JOURNALS_DIR), dir.join(data_dir::TOPICS_DIR));
        for name in journal::pipelines(&journals)? {
            match survey_pipeline(&journals.join(names::escape_pipeline(&name)), &topics, &mut survey.topics) {
                Ok(Some(pipeline)) => survey.pipelines.push(pipeline),
                Ok(None) => {}
                Err(error) => {
                    let mut damage = Damage::of_file(error)?;
                    damage
                        .problem
                        .push_str("; without this journal it is not known what its topics hold: their segments were not read");
                    survey.damages.push(damage);
                }
            }
        }
        if survey.damages.is_empty() {
            survey.find_orphans(&topics, suspects)?;
        }
        Ok(survey)
    }

    /// A topic may be made or deleted after the journals were read. A journal speaks of it as long as its directory is there, so
    /// only a directory that was there before all of them were read, and still is, is known to none.
    fn find_orphans(&mut self, topics_dir: &Path, suspects: &mut Vec<OpenDir>) -> Result<()> {
        let deleted = |dir: &Path| self.pipelines.iter().flat_map(|pipeline| &pipeline.deleted_dirs).any(|gone| gone == dir);
        let is_known = |name: &str| self.topics.iter().any(|topic| topic == name) || deleted(&topics_dir.join(name));
        let orphans = recovery::orphans(topics_dir, is_known)?;
        let seen_before = std::mem::take(suspects);
        for dir in orphans.iter().take(SUSPECTS_MAX) {
            match seen_before.iter().find(|suspect| suspect.path() == dir) {
                Some(suspect) if suspect.is_in_place()? => self.damages.push(Damage::of_file(recovery::orphaned(dir))?),
                _ => {}
            }
            suspects.extend(OpenDir::open(dir)?);
        }
        Ok(())
    }

    /// The segment as it is described here.
    pub(super) fn segment(&self, like: &SurveyedSegment) -> Option<&SurveyedSegment> {
        self.pipelines.iter().flat_map(|pipeline| &pipeline.segments).find(|segment| segment.is_same_file(like))
    }
}

fn survey_pipeline(dir: &Path, topics_dir: &Path, names: &mut Vec<String>) -> Result<Option<SurveyedPipeline>> {
    let Some(loaded) = journal::load(dir)? else { return Ok(None) };
    let topics = loaded.topics()?;
    let deleted: HashSet<Uuid> = topics.deleted.iter().map(|topic| topic.id).collect();
    let live = Topics { dir: topics_dir, live: topics.live.iter().map(|topic| (topic.id, topic.name.as_str())).collect() };
    let (image, kept) = committed(&loaded, &topics, &deleted, &live)?;
    let mut segments = describe_segments(dir, &loaded, &image, &live)?;
    let mut written = written_since_checkpoint(&loaded, &deleted, image.sequence);
    for segment in &mut segments {
        let key = (segment.topic_id, segment.partition, segment.base_offset);
        let Written { held, unsynced } = written.remove(&key).unwrap_or_default();
        (segment.held, segment.unsynced) = (held, unsynced);
        segment.held.sort_by_key(|(position, _)| *position);
    }
    names.extend(topics.live.iter().map(|topic| topic.name.clone()));
    let deleted_dirs = topics.deleted.iter().filter(|gone| topics.live.iter().all(|topic| topic.name != gone.name));
    let deleted_dirs = deleted_dirs.map(|topic| topics_dir.join(&topic.name)).collect();
    Ok(Some(SurveyedPipeline { dir: dir.to_owned(), loaded, kept, image, deleted_dirs, segments }))
}

/// The topics of a journal, and where all topics are.
struct Topics<'a> {
    dir: &'a Path,
    live: HashMap<Uuid, &'a str>,
}

impl Topics<'_> {
    fn partition_dir(&self, topic: &str, partition: PartitionId) -> PathBuf {
        self.dir.join(topic).join(partition.to_string())
    }
}

/// All that the journal says is committed, and how many of its entries do. Where bytes are missing that should be in a segment, this is not the place that says so.
fn committed(loaded: &Loaded, known: &LoadedTopics, deleted: &HashSet<Uuid>, topics: &Topics<'_>) -> Result<(Image, usize)> {
    let mut image = Image::from_checkpoint(&loaded.checkpoint, known);
    for (index, (at, entry)) in loaded.entries.iter().enumerate() {
        let Entry::Commit(commit) = entry else { continue };
        if index >= loaded.first_unsynced && is_torn(commit, loaded.is_partial(index), deleted, topics)? {
            return Ok((image, index));
        }
        if commit.sequence != image.sequence + 1 {
            return Err(loaded.damaged(*at, "the commits there are not in sequence"));
        }
        for piece in commit.pieces.iter().filter(|piece| !deleted.contains(&piece.topic)) {
            image.add(piece).map_err(|problem| loaded.damaged(*at, problem))?;
        }
        image.sequence = commit.sequence;
        image.position = Some(commit.position.clone());
    }
    Ok((image, loaded.entries.len()))
}

/// Whether a commit that perhaps was not synced is one that a crash cut short: bytes are missing that are not in its entry, and they, or the entry
/// (`entry_is_partial`), look as if they never reached the disk.
fn is_torn(commit: &Commit, entry_is_partial: bool, deleted: &HashSet<Uuid>, topics: &Topics<'_>) -> Result<bool> {
    for (piece, inline) in commit.pieces.iter().zip(&commit.inline) {
        if inline.is_some() || deleted.contains(&piece.topic) {
            continue;
        }
        let Some(topic) = topics.live.get(&piece.topic) else { return Ok(true) };
        let path = topics.partition_dir(topic, piece.partition).join(segment::file_name(piece.segment));
        let found = match durable_file::exists(&path)? {
            true => recovery::look_for(&DurableFile::open(&path, Access::Read)?, piece)?,
            false => Found::Torn,
        };
        if found == Found::Torn || entry_is_partial && found != Found::Whole {
            return Ok(true);
        }
    }
    Ok(false)
}

fn describe_segments(journal: &Path, loaded: &Loaded, image: &Image, topics: &Topics<'_>) -> Result<Vec<SurveyedSegment>> {
    let mut swapped = HashSet::new();
    for image in &loaded.checkpoint.topics {
        for (number, partition) in &image.partitions {
            let flagged = partition.segments.iter().filter(|segment| segment.swap);
            swapped.extend(flagged.map(|segment| (image.topic.id, *number, segment.base_offset)));
        }
    }
    let mut segments = Vec::new();
    for ((id, number), partition) in &image.partitions {
        let Some(topic) = topics.live.get(id) else {
            return Err(LogError::TopicMissing { journal: journal.to_owned(), topic: *id });
        };
        let dir = topics.partition_dir(topic, *number);
        let ends = partition.segments.iter().skip(1).map(|segment| segment.base_offset).chain([partition.next_offset]);
        for (segment, end_offset) in partition.segments.iter().zip(ends) {
            let flagged = swapped.contains(&(*id, *number, segment.base_offset));
            let swap = flagged && durable_file::exists(&dir.join(segment::swap_file_name(segment.base_offset)))?;
            segments.push(SurveyedSegment {
                topic: (*topic).to_owned(),
                topic_id: *id,
                partition: *number,
                base_offset: segment.base_offset,
                end_offset,
                length: segment.length,
                dir: dir.clone(),
                swap,
                held: Vec::new(),
                unsynced: Vec::new(),
            });
        }
    }
    Ok(segments)
}

type SegmentKey = (Uuid, PartitionId, Offset);

/// What commits since the checkpoint wrote to a segment.
#[derive(Debug, Default)]
struct Written {
    held: Vec<(u64, Bytes)>,
    unsynced: Vec<Piece>,
}

/// Of each segment, what commits up to `sequence` wrote to it: the bytes that stand in the journal, and the other pieces that may not have been synced.
fn written_since_checkpoint(loaded: &Loaded, deleted: &HashSet<Uuid>, sequence: u64) -> BTreeMap<SegmentKey, Written> {
    let mut written: BTreeMap<SegmentKey, Written> = BTreeMap::new();
    for (index, (_, entry)) in loaded.entries.iter().enumerate() {
        let Entry::Commit(commit) = entry else { continue };
        if commit.sequence > sequence {
            break;
        }
        for (piece, inline) in commit.pieces.iter().zip(&commit.inline).filter(|(piece, _)| !deleted.contains(&piece.topic)) {
            let segment = written.entry((piece.topic, piece.partition, piece.segment)).or_default();
            match inline {
                Some(bytes) => segment.held.push((piece.file_position, bytes.clone())),
                // Of a damaged copy in the journal the segment may be the only one, and it was synced by nobody but a checkpoint.
                None if piece.inline || index >= loaded.first_unsynced => segment.unsynced.push(piece.clone()),
                None => {}
            }
        }
    }
    written
}

/// Whether no repair may cut anything out of a topic: records name their schemas by numbers that would be given out again.
pub(super) fn is_irreplaceable(topic: &str) -> Option<Remedy> {
    (topic == SCHEMAS_TOPIC).then_some(Remedy::Nothing(
        "records name their schemas by numbers, so none may be cut out: restore the topic's folder from a copy",
    ))
}
