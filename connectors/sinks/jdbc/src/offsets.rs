//! Offset rows: how far a target is, in the target itself.
//!
//! | column | type | meaning |
//! |---|---|---|
//! | `pipeline`, `sink`, `topic` | text | whose offset it is |
//! | `partition` | integer | of the topic; with the three above the primary key |
//! | `topic_id` | text | the topic's UUID: a topic made anew has another one |
//! | `target_table` | text | the table that the topic is written to, quoted |
//! | `next_offset` | bigint | everything below is in the table; 0 before the first row |
//! | `epoch` | bigint | grows by one whenever a writer opens the topic, so that an older writer notices |
//!
//! A row moves in the transaction that writes what it stands for, and is locked at that transaction's start.
use connector_api::{NextOffsets, Offset, PartitionId, SinkContext, TopicInfo};

use crate::{error::JdbcError, table::TargetTable};

/// The columns of the table of offset rows after the four of its key.
pub(crate) const COLUMNS: &str = "pipeline, sink, topic, partition, topic_id, target_table, next_offset, epoch";

/// Whose offset rows they are.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub pipeline: String,
    pub sink: String,
    pub topic: TopicInfo,
}

impl Owner {
    pub(crate) fn new(context: &SinkContext, topic: &TopicInfo) -> Self {
        Self { pipeline: context.pipeline.clone(), sink: context.sink.clone(), topic: topic.clone() }
    }
}

/// An offset row as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub pipeline: String,
    pub sink: String,
    pub topic: String,
    pub partition: PartitionId,
    pub topic_id: String,
    pub next: Offset,
    pub epoch: i64,
}

/// What a target has about one table when a sink is opened.
#[derive(Debug)]
pub(crate) struct Found {
    /// All offset rows of the topic (by pipeline, sink and topic) or of the table.
    pub offsets: Vec<Stored>,
    pub table_exists: bool,
    pub table_has_rows: bool,
}

/// What a writer holds: the offset rows as it left them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Held {
    /// An entry for each partition of the topic; 0 before the first row.
    pub next: NextOffsets,
    pub epoch: i64,
}

impl Held {
    /// What the log is to go on from: partitions without a row yet are left out.
    pub(crate) fn needed(&self) -> NextOffsets {
        self.next.iter().filter(|(_, next)| **next > 0).map(|(partition, next)| (*partition, *next)).collect()
    }
}

/// Decides whether the topic may be written to the table, and what the writer holds from now on.
pub(crate) fn take_over(owner: &Owner, table: &TargetTable, found: &Found, reported: &NextOffsets) -> Result<Held, JdbcError> {
    let topic = &owner.topic;
    let names = || (table.sql.clone(), table.offsets_sql.clone());
    let is_ours = |row: &&Stored| row.pipeline == owner.pipeline && row.sink == owner.sink && row.topic == topic.name;
    if let Some(other) = found.offsets.iter().find(|row| !is_ours(row)) {
        let (table, offsets) = names();
        let writer = format!("topic `{}` through sink `{}` of pipeline `{}`", other.topic, other.sink, other.pipeline);
        return Err(JdbcError::OtherWriter { table, offsets, writer });
    }
    let ours = || found.offsets.iter().filter(is_ours);
    if let Some(row) = ours().find(|row| row.topic_id != topic.id.to_string()) {
        let (table, offsets) = names();
        let stored = row.topic_id.clone();
        return Err(JdbcError::OtherTopic { table, offsets, topic: topic.name.clone(), stored, found: topic.id });
    }
    let written = ours().any(|row| row.next > 0);
    if written && !found.table_exists {
        let (table, offsets) = names();
        return Err(JdbcError::LostTable { table, offsets, topic: topic.name.clone() });
    }
    if !written && found.table_exists {
        // Rows that were there before are not ours to overwrite. A table that is empty may be ours to fill, unless the log knows that
        // it had been filled.
        let evidence = match (found.table_has_rows, reported.values().any(|next| *next > 0), ours().next().is_some()) {
            (true, _, _) => Some("its rows are of unknown origin"),
            (false, true, false) => Some("the log says that it was filled once"),
            _ => None,
        };
        if let Some(evidence) = evidence {
            let (table, offsets) = names();
            return Err(JdbcError::LostOffsets { table, offsets, topic: topic.name.clone(), evidence });
        }
    }
    let next = (0..topic.partitions)
        .map(|partition| (partition, ours().find(|row| row.partition == partition).map_or(0, |row| row.next)))
        .collect();
    Ok(Held { next, epoch: ours().map(|row| row.epoch).max().unwrap_or(0) + 1 })
}

/// Compares the offset rows, as they were just locked, with what this writer holds.
pub(crate) fn compare(
    owner: &Owner,
    table: &TargetTable,
    held: &Held,
    stored: &[(PartitionId, Offset, i64)],
) -> Result<(), JdbcError> {
    for (&partition, &held_next) in &held.next {
        let row = stored.iter().find(|(stored, _, _)| *stored == partition);
        let (found_next, found_epoch) = row.map_or((-1, -1), |(_, next, epoch)| (*next, *epoch));
        if (found_next, found_epoch) != (held_next, held.epoch) {
            return Err(JdbcError::TakenOver {
                table: table.sql.clone(),
                offsets: table.offsets_sql.clone(),
                topic: owner.topic.name.clone(),
                partition,
                held_next,
                held_epoch: held.epoch,
                found_next,
                found_epoch,
            });
        }
    }
    Ok(())
}
