//! Log → rows: reads partitions of a topic, decodes their records, and hands them over in an order that sinks can rely on.
//!
//! Over several partitions, rows are *aligned*: what is handed over between two barriers is, of every partition, exactly what lies at or
//! below one order key. A commit writes a barrier into every partition under one order key, so it is met in all of them at
//! one time, and a row that moved between partitions by a change of its key is seen after its old self.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use connector_api::{
    Barrier, BarrierKind, ChangeBatch, NextOffsets, Offset, Op, OrderKey, PartitionId, Rows, SinkInput, TableSchema,
};
use formats::Decoder;
use log_core::{Record, Topic};

use crate::{failure::Failure, registry::LogRegistry};

/// Reads some partitions of a topic: all of them, or one.
pub(crate) struct TopicReader {
    topic: Topic,
    cursors: Vec<Cursor>,
    schema: Option<Arc<TableSchema>>,
}

/// `done <= read <= end`: what was handed over, what was decoded, what is committed. The rows in between stand in `queue`.
struct Cursor {
    partition: PartitionId,
    decoder: Decoder,
    done: Offset,
    read: Offset,
    queue: VecDeque<Piece>,
}

/// Decoded rows, or one barrier.
struct Piece {
    batch: ChangeBatch,
    offsets: Vec<Offset>,
}

impl Piece {
    fn barrier(&self) -> Option<BarrierKind> {
        match self.batch.ops.first() {
            Some(Op::Truncate) => Some(BarrierKind::Truncate),
            Some(Op::SnapshotRestart) => Some(BarrierKind::SnapshotRestart),
            _ => None,
        }
    }

    fn first_order(&self) -> OrderKey {
        self.batch.orders.first().copied().unwrap_or_default()
    }
}

/// What comes next in a topic.
pub(crate) enum Step {
    /// Nothing: everything committed was handed over.
    CaughtUp,
    /// Rows or one barrier.
    Inputs(Vec<SinkInput>),
    /// The rows that follow have another schema.
    SchemaChange,
}

impl Step {
    /// Bytes held by the rows.
    pub fn memory_bytes(&self) -> usize {
        let bytes_of = |input: &SinkInput| match input {
            SinkInput::Rows(rows) => rows.batch.memory_bytes() + rows.offsets.len() * size_of::<Offset>(),
            SinkInput::Barrier(barrier) => barrier.batch.memory_bytes(),
        };
        match self {
            Self::CaughtUp | Self::SchemaChange => 0,
            Self::Inputs(inputs) => inputs.iter().map(bytes_of).sum(),
        }
    }
}

impl TopicReader {
    /// A reader of these partitions, from these offsets on.
    pub fn new(topic: &Topic, registry: &LogRegistry, from: &NextOffsets) -> Self {
        let cursors = from
            .iter()
            .map(|(&partition, &offset)| Cursor {
                partition,
                decoder: Decoder::new(Arc::new(registry.clone())),
                done: offset,
                read: offset,
                queue: VecDeque::new(),
            })
            .collect();
        Self { topic: topic.clone(), cursors, schema: None }
    }

    /// For each partition, the offset up to which everything was handed over.
    pub fn done(&self) -> NextOffsets {
        self.cursors.iter().map(|cursor| (cursor.partition, cursor.done)).collect()
    }

    /// Goes on from another place: what a target that was written by somebody else says that it needs.
    pub fn seek(&mut self, next: &NextOffsets) {
        for cursor in &mut self.cursors {
            if let Some(&offset) = next.get(&cursor.partition)
                && offset != cursor.done
            {
                cursor.done = offset;
                cursor.read = offset;
                cursor.queue.clear();
            }
        }
    }

    /// What comes next, reading at most about `bytes_max` of the log. Blocks on the disk.
    pub fn next(&mut self, bytes_max: usize) -> Result<Step, Failure> {
        let ends = self.topic.end_offsets();
        let end_of = |cursor: &Cursor| ends.get(cursor.partition as usize).copied().unwrap_or(0);
        let share = bytes_max / self.cursors.len().max(1);
        for cursor in &mut self.cursors {
            let end = end_of(cursor);
            while cursor.has_no_whole_change() && cursor.read < end {
                cursor.fill(&self.topic, end, share)?;
            }
            if cursor.queue.is_empty() {
                cursor.done = cursor.read;
            }
        }
        // Rows beyond this order may still have company in a partition that was not read to its end.
        let unread = self.cursors.iter().filter(|cursor| cursor.read < end_of(cursor));
        let horizon = unread.filter_map(Cursor::last_order).min().unwrap_or(OrderKey { sequence: u64::MAX, ordinal: u32::MAX });
        let Some(first) = self.cursors.iter().filter_map(|cursor| cursor.queue.front()).min_by_key(|piece| piece.first_order())
        else {
            return Ok(Step::CaughtUp);
        };
        let (first_order, first_barrier) = (first.first_order(), first.barrier());
        if let Some(kind) = first_barrier {
            return Ok(Step::Inputs(vec![self.take_barrier(kind, first_order)?]));
        }
        let schema = Arc::clone(&first.batch.schema);
        if self.schema.as_ref().is_none_or(|current| *current != schema) {
            let changed = self.schema.replace(schema).is_some();
            if changed {
                return Ok(Step::SchemaChange);
            }
        }
        Ok(Step::Inputs(self.take_rows(horizon)))
    }

    /// Rows of the present schema up to the horizon (inclusive) or the next barrier or schema (exclusive).
    fn take_rows(&mut self, horizon: OrderKey) -> Vec<SinkInput> {
        let schema = self.schema.clone();
        let stops = |piece: &&Piece| piece.barrier().is_some() || Some(&piece.batch.schema) != schema.as_ref();
        let stop = self.cursors.iter().filter_map(|cursor| cursor.queue.iter().find(stops)).map(Piece::first_order).min();
        let wanted = |order: &OrderKey| *order <= horizon && stop.is_none_or(|stop| *order < stop);
        self.cursors.iter_mut().flat_map(|cursor| cursor.take_while(wanted)).map(SinkInput::Rows).collect()
    }

    /// The barrier of that order from every partition that holds it.
    fn take_barrier(&mut self, kind: BarrierKind, order: OrderKey) -> Result<SinkInput, Failure> {
        let mut next = BTreeMap::new();
        let mut batch = None;
        for cursor in &mut self.cursors {
            if cursor.queue.front().is_some_and(|piece| piece.barrier().is_some() && piece.first_order() == order)
                && let Some(piece) = cursor.queue.pop_front()
            {
                cursor.done = cursor.offset_after(piece.offsets.last().copied());
                next.insert(cursor.partition, cursor.done);
                batch = Some(piece.batch);
            }
        }
        let Some(batch) = batch else {
            let OrderKey { sequence, ordinal } = order;
            return Err(Failure::stop(format!("the barrier of order ({sequence}, {ordinal}) is at the head of no partition")));
        };
        let commit_ts_us = batch.commit_ts_us.first().copied().unwrap_or_default();
        Ok(SinkInput::Barrier(Barrier { kind, order, commit_ts_us, next, batch }))
    }
}

impl Cursor {
    /// Whether there is no row, or only the half of a move, whose other half may be the next record.
    fn has_no_whole_change(&self) -> bool {
        let mut pieces = self.queue.iter();
        pieces.next().is_none_or(|piece| piece.batch.ops == [Op::MoveOut]) && pieces.next().is_none()
    }

    /// The order of the last change that is here as a whole: both halves of a move are handed over together.
    fn last_order(&self) -> Option<OrderKey> {
        let last = self.queue.back().and_then(|piece| piece.batch.ops.last());
        let mut orders = self.queue.iter().rev().flat_map(|piece| piece.batch.orders.iter().rev());
        orders.nth(usize::from(last == Some(&Op::MoveOut))).copied()
    }

    /// The offset after a row that was handed over: where the queue is empty, everything read counts, gaps and tombstones included.
    fn offset_after(&self, last: Option<Offset>) -> Offset {
        if self.queue.is_empty() { self.read } else { last.map_or(self.done, |offset| offset + 1) }
    }

    /// Decodes the next records below `end` into the queue.
    fn fill(&mut self, topic: &Topic, end: Offset, bytes_max: usize) -> Result<(), Failure> {
        for records in topic.read(self.partition, self.read, bytes_max)? {
            if records.is_lost() {
                tracing::warn!(
                    topic = topic.name(),
                    partition = self.partition,
                    first_offset = records.base_offset(),
                    last_offset = records.last_offset(),
                    "passing over changes that damage took and `mainstem log repair` gave up: the target lacks them. \
                     `mainstem resnapshot` reads the table again"
                );
            }
            for record in records.records()?.iter() {
                let record = record?;
                if record.offset >= self.read && record.offset < end {
                    self.decoder.push(record.offset, record.key, record.value, present_headers(&record))?;
                }
            }
            self.read = records.next_offset().min(end).max(self.read);
        }
        for decoded in self.decoder.finish()? {
            let (mut start, len) = (0, decoded.offsets.len());
            while start < len {
                let ops = &decoded.batch.ops[start..];
                let rows = if ops[0].is_barrier() { 1 } else { ops.iter().position(|op| op.is_barrier()).unwrap_or(ops.len()) };
                let whole = rows == len;
                let batch = if whole { decoded.batch.clone() } else { decoded.batch.slice(start, rows) };
                self.queue.push_back(Piece { batch, offsets: decoded.offsets[start..start + rows].to_vec() });
                start += rows;
            }
        }
        Ok(())
    }

    /// Takes the rows at the head of the queue whose order is wanted; orders ascend.
    fn take_while(&mut self, wanted: impl Fn(&OrderKey) -> bool) -> Vec<Rows> {
        let mut taken = Vec::new();
        while let Some(piece) = self.queue.pop_front() {
            let rows = if piece.barrier().is_some() { 0 } else { piece.batch.orders.partition_point(&wanted) };
            let len = piece.offsets.len();
            if rows == 0 {
                self.queue.push_front(piece);
                break;
            }
            let (head, rest) = if rows == len {
                (piece, None)
            } else {
                let rest = Piece { batch: piece.batch.slice(rows, len - rows), offsets: piece.offsets[rows..].to_vec() };
                (Piece { batch: piece.batch.slice(0, rows), offsets: piece.offsets[..rows].to_vec() }, Some(rest))
            };
            let partial = rest.is_some();
            if let Some(rest) = rest {
                self.queue.push_front(rest);
            }
            let next_offset = self.offset_after(head.offsets.last().copied());
            let first_offset = std::mem::replace(&mut self.done, next_offset);
            taken.push(Rows { partition: self.partition, first_offset, next_offset, offsets: head.offsets, batch: head.batch });
            if partial {
                break;
            }
        }
        taken
    }
}

/// The headers that have a value: none of ours goes without.
pub(crate) fn present_headers<'a>(record: &Record<'a>) -> impl Iterator<Item = (&'a str, &'a [u8])> {
    record.headers().filter_map(|(name, value)| Some((name, value?)))
}

#[cfg(test)]
mod tests {
    use connector_api::{ChangeBatchBuilder, Column, ColumnBuilder, ColumnType, Identity, SourceInfo, TableName};
    use log_core::{Log, LogOptions};

    use super::*;
    use crate::ingest::testing::Committer;

    fn schema(columns: usize) -> Arc<TableSchema> {
        let column = |index| Column { name: format!("c{index}"), kind: ColumnType::Int64, source_type: "bigint".into() };
        Arc::new(TableSchema::new(TableName::new("public", "t"), (0..columns).map(column).collect(), vec![0], Identity::Key))
    }

    /// Rows of (op, key, old key of a move).
    fn batch(schema: &Arc<TableSchema>, rows: &[(Op, i64, i64)]) -> ChangeBatch {
        let info = SourceInfo::new("test", "db", Vec::new(), None);
        let mut builder = ChangeBatchBuilder::new(Arc::clone(schema), info);
        let fill = |columns: &mut [ColumnBuilder], key: i64| {
            for (index, column) in columns.iter_mut().enumerate() {
                let ColumnBuilder::Int64(values) = column else { panic!("all columns are integers") };
                if index == 0 { values.append_value(key) } else { values.append_null() }
            }
        };
        for (ordinal, (op, key, old)) in rows.iter().enumerate() {
            builder.begin(*op, OrderKey { sequence: 0, ordinal: ordinal as u32 }, 0);
            match op {
                Op::Move => fill(builder.before().present(), *old),
                Op::Delete => fill(builder.before().present(), *key),
                _ => builder.before().absent(),
            }
            if op.is_barrier() || *op == Op::Delete { builder.after().absent() } else { fill(builder.after().present(), *key) }
        }
        builder.finish().unwrap()
    }

    /// What a reader hands over: ops and keys sorted by order, `|` where the schema changes, `!` for a barrier.
    fn drain(reader: &mut TopicReader, bytes_max: usize) -> Vec<String> {
        use arrow_array::{Array as _, cast::AsArray as _, types::Int64Type};
        let mut seen = Vec::new();
        loop {
            match reader.next(bytes_max).unwrap() {
                Step::CaughtUp => return seen,
                Step::SchemaChange => seen.push("|".into()),
                Step::Inputs(inputs) => {
                    let mut rows = Vec::new();
                    for input in inputs {
                        match input {
                            SinkInput::Barrier(barrier) => {
                                seen.push(format!("! in {} partitions", barrier.next.len()));
                            }
                            SinkInput::Rows(part) => {
                                for (row, op) in part.batch.ops.iter().enumerate() {
                                    let image = part.batch.after.as_ref().filter(|after| after.is_valid(row));
                                    let image = image.or(part.batch.before.as_ref()).unwrap();
                                    let key = image.column(0).as_primitive::<Int64Type>().value(row);
                                    rows.push((part.batch.orders[row], *op as u8, format!("{}{key}", *op as u8 as char)));
                                }
                            }
                        }
                    }
                    rows.sort();
                    seen.extend(rows.into_iter().map(|(_, _, text)| text));
                }
            }
        }
    }

    #[test]
    fn partitions_are_aligned_over_commits_barriers_moves_and_schemas() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), LogOptions::default()).unwrap();
        let mut committer = Committer::new(&log, 4);
        let (old, new) = (schema(2), schema(3));
        let mut expected = Vec::new();
        for round in 0..20_i64 {
            let keys = round * 10..round * 10 + 10;
            committer.commit(vec![batch(&old, &keys.clone().map(|key| (Op::Insert, key, 0)).collect::<Vec<_>>())]);
            expected.extend(keys.map(|key| format!("c{key}")));
        }
        committer.commit(vec![batch(&old, &[(Op::Move, 1000, 5), (Op::Delete, 6, 0), (Op::Truncate, 0, 0), (Op::Insert, 7, 0)])]);
        expected.extend(["m1000", "o5", "d6", "! in 4 partitions", "c7"].map(str::to_owned));
        committer.commit(vec![batch(&new, &[(Op::Insert, 8, 0), (Op::Insert, 9, 0)])]);
        expected.extend(["|", "c8", "c9"].map(str::to_owned));

        let topic = log.topic("test.public.t").unwrap();
        let registry = LogRegistry(log);
        let start: NextOffsets = (0..4).map(|partition| (partition, 0)).collect();
        for bytes_max in [1, 1000, 1 << 20] {
            let mut reader = TopicReader::new(&topic, &registry, &start);
            assert_eq!(drain(&mut reader, bytes_max), expected, "{bytes_max} bytes at a time");
            let ends: NextOffsets = (0..).zip(topic.end_offsets()).collect();
            assert_eq!(reader.done(), ends, "tombstones at the end count as done");
            assert!(matches!(reader.next(bytes_max).unwrap(), Step::CaughtUp));
        }
    }

    /// In one partition, a record batch of its own for each half: a read may end between them.
    #[test]
    fn both_halves_of_a_move_are_handed_over_together() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), LogOptions::default()).unwrap();
        let schema = schema(2);
        Committer::new(&log, 1).commit(vec![batch(&schema, &[(Op::Insert, 1, 0), (Op::Move, 2, 1), (Op::Insert, 3, 0)])]);
        // The same records, each in a batch of its own.
        let whole = log.topic("test.public.t").unwrap();
        let topic = log.create_topic("apart", 1, "apart").unwrap();
        let pipeline = log.pipeline("apart").unwrap();
        for records in whole.read(0, 0, 1 << 20).unwrap() {
            for record in &records.records().unwrap() {
                let record = record.unwrap();
                let mut builder = log_core::RecordBatchBuilder::new(log_core::Compression::None, 1);
                let headers: Vec<_> = present_headers(&record).collect();
                builder.append(record.key, record.value, &headers).unwrap();
                let batches = vec![(topic.clone(), 0, builder.finish())];
                pipeline.commit(log_core::CommitSet { batches, ..log_core::CommitSet::default() }).unwrap();
            }
        }
        let mut reader = TopicReader::new(&topic, &LogRegistry(log), &NextOffsets::from([(0, 0)]));
        let mut handed_over = Vec::new();
        while let Step::Inputs(inputs) = reader.next(1).unwrap() {
            let ops = inputs.into_iter().flat_map(|input| match input {
                SinkInput::Rows(rows) => rows.batch.ops,
                SinkInput::Barrier(_) => panic!("there is no barrier"),
            });
            handed_over.push(ops.collect::<Vec<_>>());
        }
        assert!(handed_over.contains(&vec![Op::MoveOut, Op::Move]), "{handed_over:?}");
        assert_eq!(handed_over.concat(), [Op::Insert, Op::MoveOut, Op::Move, Op::Insert]);
    }

    #[test]
    fn a_barrier_that_no_partition_holds_stops_the_drain() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::open(dir.path(), LogOptions::default()).unwrap();
        Committer::new(&log, 2).commit(vec![batch(&schema(2), &[(Op::Insert, 1, 0)])]);
        let topic = log.topic("test.public.t").unwrap();
        let mut reader = TopicReader::new(&topic, &LogRegistry(log), &NextOffsets::from([(0, 0), (1, 0)]));
        let failure = reader.take_barrier(BarrierKind::Truncate, OrderKey { sequence: 7, ordinal: 1 }).unwrap_err();
        assert_eq!(failure.recovery, connector_api::Recovery::Stop);
        assert!(failure.error.to_string().contains("(7, 1)"), "{}", failure.error);
    }
}
