//! Where the batches of one commit go, and the writing of them.

use std::collections::HashSet;
use std::iter;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::batch::EncodedBatch;
use crate::durable_file::{self, DurableFile};
use crate::error::{LogError, Result};
use crate::journal::entry::Piece;
use crate::journal::format::{self, CommitPlace};
use crate::log::Core;
use crate::open_files::OpenFiles;
use crate::partition::{Offset, Partition, PartitionId, Tail};
use crate::pipeline::Dirty;
use crate::segment::{SEGMENT_BYTES_LIMIT, Segment};
use crate::segment_tail::Tails;
use crate::sparse_index::BatchPlace;
use crate::topic::{Topic, TopicInner};

/// A partition's bytes stand in the journal entry if there are no more: though they are written twice, one sync is quicker than two, even
/// at the same time. From there on what a disk lacks is bandwidth.
const INLINE_BYTES: usize = 128 << 10;
/// A larger buffer for entries is given back after use.
pub(crate) const ENTRY_KEPT_BYTES: usize = 4 << 20;

type Batch = (Topic, PartitionId, EncodedBatch);

/// Some batches of one partition that go to one segment.
#[derive(Debug)]
pub(crate) struct PlannedPiece {
    topic: Arc<TopicInner>,
    number: PartitionId,
    pub(crate) segment: Arc<Segment>,
    /// The segment's file is new.
    creates: bool,
    inline: bool,
    pub(crate) file_position: u64,
    base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) length: u64,
    batches: Range<usize>,
}

impl PlannedPiece {
    pub(crate) fn partition(&self) -> &Partition {
        // `Plan::new` looked it up by the same number.
        &self.topic.partitions[self.number as usize]
    }
}

/// A commit with an offset for every batch and a place for every byte, before anything is written.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pieces: Vec<PlannedPiece>,
}

impl Plan {
    /// Checks and sorts the batches, gives them their offsets, and decides where they go. Nothing is changed but `batches`.
    pub(crate) fn new(pipeline: &str, batches: &mut Vec<Batch>, segment_bytes_max: u64) -> Result<Self> {
        for (topic, partition, _) in batches.iter() {
            check_topic(pipeline, topic, *partition)?;
        }
        batches.retain(|(_, _, batch)| batch.record_count > 0);
        // Stable, so that the order within a partition stays.
        batches.sort_by_key(|(topic, partition, _)| (topic.id(), *partition));

        let mut plan = Self { pieces: Vec::new() };
        let mut start = 0;
        while let Some((topic, number, _)) = batches.get(start) {
            let (topic, number) = (topic.inner.clone(), *number);
            let same = |(other, partition, _): &Batch| *partition == number && Arc::ptr_eq(&other.inner, &topic);
            let end = batches.iter().skip(start).position(|batch| !same(batch)).map_or(batches.len(), |at| start + at);
            let group = batches.get_mut(start..end).unwrap_or_default();
            let bytes: usize = group.iter().map(|(_, _, batch)| batch.bytes.len()).sum();
            let inline = bytes <= INLINE_BYTES;
            plan.add_partition(topic, number, group, start, inline, segment_bytes_max);
            start = end;
        }
        Ok(plan)
    }

    fn add_partition(
        &mut self,
        topic: Arc<TopicInner>,
        number: PartitionId,
        group: &mut [Batch],
        group_start: usize,
        inline: bool,
        segment_bytes_max: u64,
    ) {
        let partition = &topic.partitions[number as usize];
        let Tail { mut segment, mut position, mut next_offset } = partition.tail();
        let mut creates = false;
        let first_piece = self.pieces.len();
        for (index, (_, _, batch)) in (group_start..).zip(group) {
            let size = batch.bytes.len() as u64;
            let batch_end = next_offset + Offset::from(batch.record_count);
            let fits = |segment: &Arc<Segment>| {
                let small = position + size <= segment_bytes_max.min(SEGMENT_BYTES_LIMIT) || position == 0;
                small && batch_end - segment.base_offset() <= Offset::from(i32::MAX)
            };
            let target = match segment.take().filter(fits) {
                Some(segment) => segment,
                None => {
                    position = 0;
                    creates = true;
                    Segment::new(&partition.dir, next_offset, 0)
                }
            };
            batch.set_base_offset(next_offset);
            let last = self.pieces.get_mut(first_piece..).and_then(|pieces| pieces.last_mut());
            match last.filter(|last| Arc::ptr_eq(&last.segment, &target)) {
                Some(last) => {
                    last.next_offset = batch_end;
                    last.length += size;
                    last.batches.end = index + 1;
                }
                None => self.pieces.push(PlannedPiece {
                    topic: topic.clone(),
                    number,
                    segment: target.clone(),
                    creates: std::mem::take(&mut creates),
                    inline,
                    file_position: position,
                    base_offset: next_offset,
                    next_offset: batch_end,
                    length: size,
                    batches: index..index + 1,
                }),
            }
            next_offset = batch_end;
            position += size;
            segment = Some(target);
        }
    }

    pub(crate) fn pieces(&self) -> &[PlannedPiece] {
        &self.pieces
    }

    /// Bytes that go to their segments before the journal entry.
    pub(crate) fn referenced_bytes(&self) -> u64 {
        self.pieces.iter().filter(|piece| !piece.inline).map(|piece| piece.length).sum()
    }

    /// Enters the batches in the indexes of their segments.
    pub(crate) fn index(&self, batches: &[Batch]) {
        for piece in &self.pieces {
            let mut place = BatchPlace { base_offset: piece.base_offset, position: piece.file_position };
            for (_, _, batch) in batches.get(piece.batches.clone()).unwrap_or_default() {
                let next = BatchPlace {
                    base_offset: place.base_offset + Offset::from(batch.record_count),
                    position: place.position + batch.bytes.len() as u64,
                };
                piece.segment.index_appended(place, next, batch.max_timestamp_ms());
                place = next;
            }
        }
    }

    /// Lets the next commit go on behind this one, which readers do not see yet.
    pub(crate) fn extend_tails(&self) {
        for piece in &self.pieces {
            let position = piece.file_position + piece.length;
            piece.partition().set_tail(Tail { segment: Some(piece.segment.clone()), position, next_offset: piece.next_offset });
        }
    }

    /// Wakes the readers of every topic that got something, once each.
    pub(crate) fn notify(&self) {
        let mut last: Option<&Arc<TopicInner>> = None;
        for piece in &self.pieces {
            if last.is_none_or(|last| !Arc::ptr_eq(last, &piece.topic)) {
                piece.topic.commits.send_modify(|count| *count = count.wrapping_add(1));
            }
            last = Some(&piece.topic);
        }
    }
}

fn check_topic(pipeline: &str, topic: &Topic, partition: PartitionId) -> Result<()> {
    if topic.inner.deleted.load(Ordering::Acquire) {
        return Err(LogError::UnknownTopic(topic.name().to_owned()));
    }
    if topic.pipeline() != pipeline {
        return Err(LogError::TopicOwner {
            topic: topic.name().to_owned(),
            owner: topic.pipeline().to_owned(),
            pipeline: pipeline.to_owned(),
        });
    }
    topic.inner.partition(partition).map(|_| ())
}

/// Writes the pieces that do not stand in the journal to their segments, without a sync.
pub(crate) fn write_referenced(plan: &Plan, batches: &[Batch], files: &OpenFiles) -> Result<()> {
    for piece in plan.pieces.iter().filter(|piece| !piece.inline) {
        let file = if piece.creates { create(piece, files)? } else { piece.segment.open(files)? };
        // Nothing may be missing in the file before what is written now.
        piece.segment.flush_tail(files)?;
        let mut at = piece.file_position;
        for (_, _, batch) in batches.get(piece.batches.clone()).unwrap_or_default() {
            file.write_all_at(&batch.bytes, at)?;
            at += batch.bytes.len() as u64;
        }
    }
    Ok(())
}

/// Syncs the journal and the pieces of commits that do not stand in it, all at the same time.
pub(crate) fn sync(journal: &Arc<DurableFile>, plans: &[Plan], core: &Core) -> Result<()> {
    let mut segments = HashSet::new();
    let pieces = plans.iter().flat_map(|plan| &plan.pieces).filter(|piece| !piece.inline);
    // Of several commits many pieces may be in one segment.
    let pieces: Vec<_> = pieces.filter(|piece| segments.insert(Arc::as_ptr(&piece.segment))).collect();
    let Some((own, others)) = pieces.split_first() else { return journal.sync_data() };

    // Beside more syncs than these, threads that are made for them cost nothing, and not all files can be open.
    let (some, more) = others.split_at(others.len().min(durable_file::SYNC_THREADS));
    let beside = iter::once(Ok(journal.clone())).chain(some.iter().map(|piece| piece.segment.open(&core.files)));
    // The thread that wrote the most syncs it: its pages are near.
    core.sync_threads.sync(&*own.segment.open(&core.files)?, &beside.collect::<Result<Vec<_>>>()?)?;
    durable_file::sync_together(more, |piece| piece.segment.open(&core.files)?.sync_data())?;

    // An earlier commit may have made the file and left its name to a checkpoint.
    let unnamed: Vec<_> = pieces.into_iter().filter(|piece| !piece.segment.has_durable_name()).collect();
    durable_file::sync_together(&unnamed, |piece| {
        let partition = piece.partition();
        partition.dirs_to_sync().try_for_each(durable_file::sync_dir)?;
        partition.set_dir_durable();
        piece.segment.set_durable_name();
        Ok(())
    })
}

fn create(piece: &PlannedPiece, files: &OpenFiles) -> Result<Arc<DurableFile>> {
    piece.partition().create_dir()?;
    piece.segment.create(files)
}

/// Writes the journal entry of the commit into `entry`; returns where its inline bytes begin.
pub(crate) fn encode(entry: &mut Vec<u8>, place: CommitPlace, plan: &Plan, batches: &[Batch], position: &[u8]) -> usize {
    let of = |piece: &PlannedPiece| batches.get(piece.batches.clone()).unwrap_or_default();
    let pieces: Vec<Piece> = plan
        .pieces
        .iter()
        .map(|piece| {
            let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
            of(piece).iter().for_each(|(_, _, batch)| digest.update(&batch.bytes));
            Piece {
                topic: piece.topic.metadata.id,
                partition: piece.number,
                inline: piece.inline,
                segment: piece.segment.base_offset(),
                file_position: piece.file_position,
                base_offset: piece.base_offset,
                next_offset: piece.next_offset,
                length: piece.length,
                crc: digest.finalize() as u32,
            }
        })
        .collect();
    let inline = plan.pieces.iter().filter(|piece| piece.inline);
    let inline_bytes: u64 = inline.clone().map(|piece| piece.length).sum();
    let inline = inline.flat_map(of).map(|(_, _, batch)| batch.bytes.as_slice());
    format::encode_commit(entry, place, position, &pieces, inline);
    entry.len() - format::TRAILER_BYTES - inline_bytes as usize
}

/// Copies the inline pieces, whose bytes `inline` begins with, to the ends of their segments, without a sync.
pub(crate) fn write_inline(plan: &Plan, inline: &[u8], core: &Core, tails: &mut Tails, dirty: &mut Dirty) -> Result<()> {
    let mut rest = inline;
    for piece in plan.pieces.iter().filter(|piece| piece.inline) {
        let Some((bytes, after)) = rest.split_at_checked(piece.length as usize) else { break };
        rest = after;
        if piece.creates {
            create(piece, &core.files)?;
            dirty.dirs.extend(piece.partition().dirs_to_sync().map(Path::to_owned));
        }
        tails.append(&piece.segment, bytes, piece.file_position, core.options.tail_bytes, &core.files)?;
        if !piece.segment.set_dirty(true) {
            dirty.segments.push(piece.segment.clone());
        }
    }
    Ok(())
}
