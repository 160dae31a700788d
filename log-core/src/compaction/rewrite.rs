//! The second look at a partition: writes what stays.

use std::sync::Arc;

use super::output::Output;
use super::pace::Pace;
use super::survey::Survey;
use super::{Pass, READ_BYTES};
use crate::batch::{HEADER_BYTES, RecordBatch};
use crate::batch_builder;
use crate::codec::Codec;
use crate::compression::{Compression, Compressor};
use crate::error::Result;
use crate::journal::entry::SegmentImage;
use crate::partition::{Offset, Partition};
use crate::segment::{Segment, swap_file_name};

/// A segment to be written anew.
pub(super) struct Old<'a> {
    pub(super) segment: &'a Arc<Segment>,
    /// Where it ends, exclusive.
    pub(super) end: Offset,
}

/// What became of segments.
pub(super) enum Rewritten {
    /// The first loses nothing, so nothing was written.
    Unchanged,
    /// These take the place of so many once they are renamed. So many records are gone.
    New { segments: Vec<Arc<Segment>>, old: usize, records: u64 },
    /// It shall not go on, or the partition's start moved up meanwhile.
    Stopped,
}

/// Writes the new content of the first segment to its `.swap` file, if it has one. In the last pass, that of the next ones comes behind
/// it as long as they fit `bytes_max`, and where the first goes on behind what was surveyed, the rest becomes a segment of its own.
pub(super) fn rewrite(
    partition: &Partition,
    old: &[Old<'_>],
    survey: &mut Survey,
    pass: Pass,
    bytes_max: u64,
    pace: &mut Pace<'_>,
) -> Result<Rewritten> {
    let Some(first) = old.first() else { return Ok(Rewritten::Unchanged) };
    let (to, next) = match pass {
        Pass::Partials => (first.end, &[][..]),
        Pass::Rest => (first.end.min(survey.to), old.get(1..).unwrap_or_default()),
    };
    let mut writer = Writer { partition, first: first.segment, pass, output: None, read: 0, before: None };
    if to < first.end {
        // It has to be cut, whether anything goes or not.
        writer.output = Some(Output::create(&first.segment.waiting_path())?);
    }
    let mut compressor = Compressor::new();
    let Some(mut records) = writer.take(first.segment.base_offset(), to, survey, &mut compressor, pace)? else {
        return Ok(Rewritten::Stopped);
    };
    let mut count = 1;
    for next in next {
        let bytes = writer.len() + next.segment.committed_bytes();
        let fits = bytes <= bytes_max && next.end - first.segment.base_offset() <= Offset::from(i32::MAX);
        if to < first.end || next.end > survey.to || !fits {
            break;
        }
        if writer.output.is_none() {
            writer.begin(0)?;
        }
        match writer.take(next.segment.base_offset(), next.end, survey, &mut compressor, pace)? {
            Some(more) => records += more,
            None => return Ok(Rewritten::Stopped),
        }
        count += 1;
    }
    let Some(segments) = writer.finish(to, first.end, pace)? else { return Ok(Rewritten::Unchanged) };
    Ok(Rewritten::New { segments, old: count, records })
}

/// What of a batch stays.
enum Stays {
    All,
    Some { batch: Vec<u8>, records: u64 },
    Nothing,
}

impl Stays {
    fn gone(&self, batch: &RecordBatch) -> u64 {
        let all = batch.record_count() as u64;
        match self {
            Self::All => 0,
            Self::Some { records, .. } => all.saturating_sub(*records),
            Self::Nothing => all,
        }
    }
}

fn filter(batch: &RecordBatch, survey: &mut Survey, pass: Pass, compressor: &mut Compressor) -> Result<Stays> {
    if batch.is_lost() {
        return Ok(Stays::All);
    }
    let records = batch.records()?;
    if batch.record_count() > 0 && records.is_empty() {
        // Markers of transactions, which a Kafka broker may have written: nobody's rows.
        return Ok(Stays::All);
    }
    let mut kept = Vec::new();
    let mut kept_to = 0;
    let mut left = 0;
    let mut iter = records.iter();
    loop {
        let start = iter.position();
        let Some(record) = iter.next() else { break };
        if survey.goes(&record?, pass) {
            kept.extend_from_slice(records.buffer().get(kept_to..start).unwrap_or_default());
            kept_to = iter.position();
        } else {
            left += 1;
        }
    }
    if left == 0 {
        return Ok(Stays::Nothing);
    }
    if left == records.len() {
        return Ok(Stays::All);
    }
    kept.extend_from_slice(records.buffer().get(kept_to..).unwrap_or_default());
    Ok(Stays::Some { batch: with_records(batch, &kept, left as i32, compressor), records: left as u64 })
}

fn with_records(batch: &RecordBatch, records: &[u8], record_count: i32, compressor: &mut Compressor) -> Vec<u8> {
    let header = batch.bytes.first_chunk::<HEADER_BYTES>().copied().unwrap_or([0; HEADER_BYTES]);
    let compression = match Codec::from_attributes(batch.header.attributes) {
        Ok(Codec::None) | Err(_) => Compression::None,
        Ok(Codec::Lz4) => Compression::Lz4,
        Ok(Codec::Zstd | Codec::Gzip | Codec::Snappy) => Compression::Zstd,
    };
    let mut compressed = Vec::new();
    let smaller = compression != Compression::None
        && compressor.compress(compression, records, &mut compressed)
        && compressed.len() < records.len();
    let (codec, stored) = if smaller { (compression.codec(), compressed.as_slice()) } else { (Codec::None, records) };
    batch_builder::with_records(&header, codec, stored, record_count)
}

/// Collects what stays.
struct Writer<'a> {
    partition: &'a Partition,
    first: &'a Arc<Segment>,
    pass: Pass,
    /// None as long as everything of the first segment stays: it is left alone then.
    output: Option<Output>,
    /// Bytes that were read.
    read: u64,
    /// The last batch, as long as there is no output.
    before: Option<RecordBatch>,
}

impl Writer<'_> {
    /// Adds what stays of the batches from one offset to another; returns how many records go, or nothing if it shall not go on.
    fn take(
        &mut self,
        from: Offset,
        to: Offset,
        survey: &mut Survey,
        compressor: &mut Compressor,
        pace: &mut Pace<'_>,
    ) -> Result<Option<u64>> {
        let mut records = 0;
        let mut next = from;
        while next < to {
            for batch in self.partition.read(next, READ_BYTES)? {
                if batch.base_offset() >= to {
                    break;
                }
                if batch.base_offset() != next {
                    return Ok(None);
                }
                let stays = filter(&batch, survey, self.pass, compressor)?;
                records += stays.gone(&batch);
                let bytes = batch.bytes.len() as u64;
                next = batch.next_offset();
                let written = self.add(batch, stays)?;
                if !pace.advance(bytes + written)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(records))
    }

    /// Bytes of the new content, which is the old one if nothing goes.
    fn len(&self) -> u64 {
        self.output.as_ref().map_or(self.read, Output::len)
    }

    /// Adds what stays of the next batch; returns how many bytes that wrote.
    fn add(&mut self, batch: RecordBatch, stays: Stays) -> Result<u64> {
        let size = batch.bytes.len() as u64;
        self.read += size;
        if self.output.is_none() {
            // An empty batch that an earlier compaction left is no reason to write.
            if matches!(stays, Stays::All) || batch.record_count() == 0 {
                self.before = Some(batch);
                return Ok(0);
            }
            self.begin(size)?;
        }
        let Some(output) = &mut self.output else { return Ok(0) };
        let before = output.len();
        match stays {
            Stays::All => output.push(&batch.bytes, &batch.header)?,
            Stays::Some { batch: bytes, .. } => output.push(&bytes, &batch.header)?,
            Stays::Nothing => output.pass(&batch.header),
        }
        Ok(output.len() - before)
    }

    /// Begins the output with everything before the last batch that was read, which has this size.
    fn begin(&mut self, size: u64) -> Result<()> {
        let mut output = Output::create(&self.first.waiting_path())?;
        if let Some(before) = self.before.take() {
            let copied = self.read - size - before.bytes.len() as u64;
            output.copy(self.first, &self.partition.files, 0..copied)?;
            output.push(&before.bytes, &before.header)?;
        }
        self.output = Some(output);
        Ok(())
    }

    /// The new segments; nothing if everything stays. What the first one has from `to` to its `end` is copied.
    fn finish(self, to: Offset, end: Offset, pace: &mut Pace<'_>) -> Result<Option<Vec<Arc<Segment>>>> {
        let Some(output) = self.output else { return Ok(None) };
        let dir = &self.partition.dir;
        let segment =
            |base_offset, length, compacted| Segment::from_image(dir, &SegmentImage { base_offset, length, swap: true, compacted });
        let clean = self.pass == Pass::Rest || self.first.is_compacted();
        let mut segments = vec![segment(self.first.base_offset(), output.finish()?, clean)];
        if to < end {
            let mut rest = Output::create(&dir.join(swap_file_name(to)))?;
            let bytes = self.first.committed_bytes();
            rest.copy(self.first, &self.partition.files, self.read..bytes)?;
            segments.push(segment(to, rest.finish()?, false));
            pace.advance(2 * bytes.saturating_sub(self.read))?;
        }
        Ok(Some(segments))
    }
}
