//! What the journals say is committed, and which files should hold it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use uuid::Uuid;

use super::{ADVICE_RESTORE, Damage, Remedy};
use crate::data_dir;
use crate::durable_file::{self, Access, DurableFile};
use crate::error::{LogError, Result};
use crate::journal::format::{Commit, Entry};
use crate::journal::{self, Loaded};
use crate::names;
use crate::partition::{Offset, PartitionId};
use crate::recovery::{self, Image};
use crate::segment;
use crate::topic::{self, TopicMetadata};

const SCHEMAS_TOPIC: &str = "_schemas";
/// A process that writes may replace files between two looks; what is damaged is so every time.
const ATTEMPTS: usize = 5;

/// A data directory as its small files describe it.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) topics: Vec<SurveyedTopic>,
    pub(super) pipelines: Vec<SurveyedPipeline>,
    /// What keeps parts of it from being known.
    pub(super) damages: Vec<Damage>,
}

/// A topic's metadata, and where it stands.
#[derive(Debug)]
pub(super) struct SurveyedTopic {
    pub(super) metadata: TopicMetadata,
    dir: PathBuf,
}

/// A pipeline with a journal that can be read.
#[derive(Debug)]
pub(super) struct SurveyedPipeline {
    /// The journal's directory.
    pub(super) dir: PathBuf,
    pub(super) loaded: Loaded,
    /// What is committed, all of the journal taken together.
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
        let mut attempt = 1;
        loop {
            let taken = Self::try_take(dir);
            let replaced = match &taken {
                Ok(survey) => !survey.damages.is_empty(),
                Err(LogError::Io { source, .. }) => source.kind() == io::ErrorKind::NotFound,
                Err(_) => false,
            };
            if !replaced || attempt == ATTEMPTS {
                return taken;
            }
            attempt += 1;
        }
    }

    fn try_take(dir: &Path) -> Result<Self> {
        let mut survey = Self { topics: Vec::new(), pipelines: Vec::new(), damages: Vec::new() };
        survey.find_topics(&dir.join(data_dir::TOPICS_DIR))?;
        let journals = dir.join(data_dir::JOURNALS_DIR);
        let mut names: BTreeSet<String> = journal::pipelines(&journals)?.into_iter().collect();
        names.extend(survey.topics.iter().map(|topic| topic.metadata.pipeline.clone()));
        for name in names {
            let topics: Vec<_> = survey.topics.iter().filter(|topic| topic.metadata.pipeline == name).collect();
            match survey_pipeline(&journals.join(names::escape_pipeline(&name)), &topics) {
                Ok(Some(pipeline)) => survey.pipelines.push(pipeline),
                Ok(None) => {}
                Err(error) => {
                    let mut damage = Damage::of_file(error)?;
                    damage.problem.push_str(
                        "; without this journal it is not known what of its topics is committed: their segments were not read",
                    );
                    survey.damages.push(damage);
                }
            }
        }
        Ok(survey)
    }

    /// Topics as [`Log::open`](crate::Log::open) finds them.
    fn find_topics(&mut self, topics: &Path) -> Result<()> {
        for name in durable_file::list_dir(topics)? {
            let dir = topics.join(&name);
            if names::check_topic(&name).is_err()
                || name.starts_with(topic::UNFINISHED_PREFIX)
                || !durable_file::exists(&dir.join(topic::METADATA_FILE))?
            {
                continue;
            }
            match TopicMetadata::load(&dir, &name) {
                Ok(metadata) => self.topics.push(SurveyedTopic { metadata, dir }),
                Err(error) => self.damages.push(Damage::of_file(error)?),
            }
        }
        Ok(())
    }

    /// The segment as it is described here.
    pub(super) fn segment(&self, like: &SurveyedSegment) -> Option<&SurveyedSegment> {
        self.pipelines.iter().flat_map(|pipeline| &pipeline.segments).find(|segment| segment.is_same_file(like))
    }
}

fn survey_pipeline(dir: &Path, topics: &[&SurveyedTopic]) -> Result<Option<SurveyedPipeline>> {
    let Some(loaded) = journal::load(dir)? else {
        for topic in topics {
            refuse_records(dir, topic)?;
        }
        return Ok(None);
    };
    let deleted = recovery::deleted_topics(&loaded);
    let dirs: HashMap<Uuid, &SurveyedTopic> = topics.iter().map(|topic| (topic.metadata.id, *topic)).collect();
    let image = committed(&loaded, &deleted, &dirs)?;
    let mut segments = describe_segments(dir, &loaded, &image, &dirs)?;
    let held = held_by_journal(&loaded, &deleted, image.sequence);
    for segment in &mut segments {
        let key = (segment.topic_id, segment.partition, segment.base_offset);
        segment.held = held.get(&key).cloned().unwrap_or_default();
        segment.held.sort_by_key(|(position, _)| *position);
    }
    let deleted_dirs = topics.iter().filter(|topic| deleted.contains(&topic.metadata.id)).map(|topic| topic.dir.clone());
    let deleted_dirs = deleted_dirs.collect();
    Ok(Some(SurveyedPipeline { dir: dir.to_owned(), loaded, image, deleted_dirs, segments }))
}

/// A journal is made before the first segment. So where there are records, it was lost.
fn refuse_records(dir: &Path, topic: &SurveyedTopic) -> Result<()> {
    for number in 0..topic.metadata.partitions {
        let partition = topic.dir.join(number.to_string());
        for name in durable_file::list_dir(&partition)? {
            if segment::parse_file_name(&name).is_some() && durable_file::file_len(&partition.join(&name))?.unwrap_or(0) > 0 {
                let problem = format!("it is missing, but topic `{}` has records", topic.metadata.name);
                return Err(LogError::Corrupt { path: dir.to_owned(), position: 0, problem, advice: ADVICE_RESTORE });
            }
        }
    }
    Ok(())
}

/// All that the journal says is committed. Where bytes are missing that should be in a segment, this is not the place that says so.
fn committed(loaded: &Loaded, deleted: &HashSet<Uuid>, topics: &HashMap<Uuid, &SurveyedTopic>) -> Result<Image> {
    let mut image = Image::from_checkpoint(&loaded.checkpoint, deleted);
    for (index, (at, entry)) in loaded.entries.iter().enumerate() {
        let Entry::Commit(commit) = entry else { continue };
        let is_last = index + 1 == loaded.entries.len();
        if is_last && loaded.last_is_partial && !is_whole(commit, deleted, topics)? {
            break;
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
    Ok(image)
}

/// Whether all bytes of a commit are there, in its entry or in segments: the entry itself looks as if a crash had torn it.
fn is_whole(commit: &Commit, deleted: &HashSet<Uuid>, topics: &HashMap<Uuid, &SurveyedTopic>) -> Result<bool> {
    for (piece, inline) in commit.pieces.iter().zip(&commit.inline) {
        if inline.is_some() || deleted.contains(&piece.topic) {
            continue;
        }
        let Some(topic) = topics.get(&piece.topic) else { return Ok(false) };
        let path = topic.dir.join(piece.partition.to_string()).join(segment::file_name(piece.segment));
        if !durable_file::exists(&path)? || !recovery::holds(&DurableFile::open(&path, Access::Read)?, piece)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn describe_segments(
    journal: &Path,
    loaded: &Loaded,
    image: &Image,
    topics: &HashMap<Uuid, &SurveyedTopic>,
) -> Result<Vec<SurveyedSegment>> {
    let mut swapped = HashSet::new();
    for (topic, partitions) in &loaded.checkpoint.topics {
        for (number, partition) in partitions {
            let flagged = partition.segments.iter().filter(|segment| segment.swap);
            swapped.extend(flagged.map(|segment| (*topic, *number, segment.base_offset)));
        }
    }
    let mut segments = Vec::new();
    for ((id, number), partition) in &image.partitions {
        let Some(topic) = topics.get(id) else {
            return Err(LogError::TopicMissing { journal: journal.to_owned(), topic: *id });
        };
        let dir = topic.dir.join(number.to_string());
        let ends = partition.segments.iter().skip(1).map(|segment| segment.base_offset).chain([partition.next_offset]);
        for (segment, end_offset) in partition.segments.iter().zip(ends) {
            let flagged = swapped.contains(&(*id, *number, segment.base_offset));
            let swap = flagged && durable_file::exists(&dir.join(segment::swap_file_name(segment.base_offset)))?;
            segments.push(SurveyedSegment {
                topic: topic.metadata.name.clone(),
                topic_id: *id,
                partition: *number,
                base_offset: segment.base_offset,
                end_offset,
                length: segment.length,
                dir: dir.clone(),
                swap,
                held: Vec::new(),
            });
        }
    }
    Ok(segments)
}

type SegmentKey = (Uuid, PartitionId, Offset);

/// The pieces whose bytes stand in the journal, of commits up to `sequence`.
fn held_by_journal(loaded: &Loaded, deleted: &HashSet<Uuid>, sequence: u64) -> BTreeMap<SegmentKey, Vec<(u64, Bytes)>> {
    let mut held: BTreeMap<SegmentKey, Vec<(u64, Bytes)>> = BTreeMap::new();
    for (_, entry) in &loaded.entries {
        let Entry::Commit(commit) = entry else { continue };
        for (piece, inline) in commit.pieces.iter().zip(&commit.inline) {
            if let Some(bytes) = inline
                && commit.sequence <= sequence
                && !deleted.contains(&piece.topic)
            {
                let key = (piece.topic, piece.partition, piece.segment);
                held.entry(key).or_default().push((piece.file_position, bytes.clone()));
            }
        }
    }
    held
}

/// Whether no repair may cut anything out of a topic: records name their schemas by numbers that would be given out again.
pub(super) fn is_irreplaceable(topic: &str) -> Option<Remedy> {
    (topic == SCHEMAS_TOPIC).then_some(Remedy::Nothing(
        "records name their schemas by numbers, so none may be cut out: restore the topic's folder from a copy",
    ))
}
