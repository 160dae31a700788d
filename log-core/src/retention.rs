//! Retention: removes whole segments that nobody has to read any more, oldest first.

use std::cmp::{max, min};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::warn;

use crate::clock;
use crate::error::Result;
use crate::log::Core;
use crate::partition::{Offset, Partition, PartitionId, PartitionState};
use crate::topic::TopicInner;

/// What a topic keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// A segment goes once its newest record was appended longer ago than this.
    pub age: Option<Duration>,
    /// Segments go while a topic has more bytes than this. Each partition has an equal share.
    pub bytes: Option<u64>,
    /// What its readers have not reported yet is kept in spite of the two above, but not beyond this many bytes of a topic.
    pub unread_bytes: Option<u64>,
}

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Segment files.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Offsets among them that a reader had not reported.
    pub unread: u64,
}

/// What groups reported of a topic.
pub(crate) struct Reported(Vec<BTreeMap<PartitionId, Offset>>);

impl Reported {
    pub(crate) fn of(core: &Core, topic: &TopicInner, groups: &[&str]) -> Self {
        Self(groups.iter().map(|group| core.reported(group, topic.metadata.id)).collect())
    }

    /// The least offset that one of them needs next of a partition, which starts at `start`. One that never reported needs all.
    pub(crate) fn needed(&self, number: PartitionId, start: Offset) -> Offset {
        let each = self.0.iter().map(|offsets| offsets.get(&number).copied().unwrap_or(start));
        each.min().unwrap_or(Offset::MAX)
    }
}

/// A segment and where it ends.
struct Extent {
    end: Offset,
    bytes: u64,
}

/// Applies `retention` to a topic. `readers` are the groups that may still need what it holds; one that never reported needs all.
pub(crate) fn apply(core: &Core, topic: &Arc<TopicInner>, retention: &Retention, readers: &[&str]) -> Result<Removed> {
    let reported = Reported::of(core, topic, readers);
    let share = |bytes: u64| bytes / topic.partitions.len().max(1) as u64;
    let mut removed = Removed::default();
    let mut cuts = Vec::new();
    for (number, partition) in (0..).zip(&topic.partitions) {
        let state = partition.state();
        let extents = extents(&state);
        let by_bytes = retention.bytes.map_or(0, |limit| over(&extents, share(limit)));
        let by_age = retention.age.map_or(Ok(0), |age| aged(partition, &state, clock::now_ms() - age.as_millis() as i64))?;
        let needed = reported.needed(number, state.start_offset);
        let read = extents.iter().take_while(|extent| extent.end <= needed).count();
        let forced = retention.unread_bytes.map_or(0, |limit| over(&extents, share(limit)));
        let count = max(min(max(by_bytes, by_age), read), forced);
        let Some(last) = count.checked_sub(1).and_then(|last| extents.get(last)) else { continue };
        removed.segments += count;
        removed.bytes += extents.iter().take(count).map(|extent| extent.bytes).sum::<u64>();
        removed.unread += (last.end - min(needed, last.end)).max(0) as u64;
        cuts.push((partition, last.end));
    }
    if cuts.is_empty() {
        return Ok(removed);
    }
    if removed.unread > 0 {
        let (topic, unread) = (&topic.metadata.name, removed.unread);
        warn!(topic, unread, "removing records that a sink has not read: they are beyond the limit for unread bytes");
    }
    core.pipeline(&topic.metadata.pipeline).trim(core, &cuts)?;
    Ok(removed)
}

fn extents(state: &PartitionState) -> Vec<Extent> {
    let ends = state.segments.iter().skip(1).map(|segment| segment.base_offset()).chain([state.end_offset]);
    state.segments.iter().zip(ends).map(|(segment, end)| Extent { end, bytes: segment.committed_bytes() }).collect()
}

/// How many of the first segments are over `limit`, so that what is left has no less. Never the last one.
fn over(extents: &[Extent], limit: u64) -> usize {
    let mut left: u64 = extents.iter().map(|extent| extent.bytes).sum();
    let fits = |extent: &&Extent| {
        left -= extent.bytes;
        left >= limit
    };
    extents.iter().take_while(fits).count().min(extents.len().saturating_sub(1))
}

/// How many of the first segments have nothing younger than `oldest_ms`.
fn aged(partition: &Partition, state: &PartitionState, oldest_ms: i64) -> Result<usize> {
    let mut count = 0;
    for next in state.segments.iter().skip(1) {
        // Times do not go back within a partition: none in a segment is later than the first in the one behind it.
        if partition.first_time(next)? >= oldest_ms {
            return Ok(count);
        }
        count += 1;
    }
    let newest = partition.newest_time(state.end_offset)?;
    Ok(if newest.is_some_and(|newest| newest < oldest_ms) { state.segments.len() } else { count })
}
