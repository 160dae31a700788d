use async_trait::async_trait;

use crate::{ByteBudget, ChangeGroup, ConnectorError, Finding, Shutdown, SnapshotRequests, SourcePosition, SourceStatus};

/// What the runtime gives a source to live with.
#[derive(Debug, Clone)]
pub struct SourceContext {
    /// The pipeline's name: default name of slots, publications and the like.
    pub pipeline: String,
    /// Memory to reserve from before reading. When it is spent, stop reading but go on answering the server.
    pub budget: ByteBudget,
    /// When given: stop reading, and let [`Source::next`] end with what was read.
    pub shutdown: Shutdown,
    /// Where the source says how it is doing.
    pub status: SourceStatus,
    /// The run ends at the server's present end (`--once`): ask the server for its position often, instead of waiting for it.
    pub once: bool,
    /// Tables to read while the stream goes on. A source that cannot says so.
    pub snapshots: SnapshotRequests,
}

/// A source whose settings are known to be good. Touches nothing outside the process before `open`, `check` or `drop_state`.
#[async_trait]
pub trait SourceConnector: Send + Sync {
    /// Connects, creates what is missing (slot, publication), and starts to read behind `position`; `None` begins with a snapshot.
    async fn open(&self, context: SourceContext, position: Option<SourcePosition>) -> Result<Box<dyn Source>, ConnectorError>;

    /// Says what would keep [`open`](Self::open) from working, with what to run to mend it. Creates nothing. An `Err` means that even
    /// looking failed; a connection that is refused is a finding.
    async fn check(&self, pipeline: &str, position: Option<&SourcePosition>) -> Result<Vec<Finding>, ConnectorError>;

    /// Removes what `open` created on the server (slot, publication), so that a dropped pipeline leaves nothing that fills its disk.
    /// Returns what was removed, a line each. Nothing there is no error.
    async fn drop_state(&self, pipeline: &str) -> Result<Vec<String>, ConnectorError>;

    /// A position from which `open` snapshots these tables (all if empty, else `schema.table` as in the file) again, and goes on
    /// elsewhere. Errors name tables that the position does not know.
    fn resnapshot(&self, position: &SourcePosition, tables: &[String]) -> Result<SourcePosition, ConnectorError>;

    /// Whether the source serves [`SourceContext::snapshots`](SourceContext).
    fn reads_on_demand(&self) -> bool {
        false
    }

    /// The position for a person: `lsn` → `16/B374D848` and the like. An unreadable position is an error.
    fn describe(&self, position: &SourcePosition) -> Result<Vec<(String, String)>, ConnectorError>;

    /// Bytes of its log that the server keeps for us now, asked over a connection of its own; `None` where there is no such thing.
    async fn retained_bytes(&self, pipeline: &str) -> Result<Option<u64>, ConnectorError>;
}

/// Tails one upstream replication log. Reading goes on in a task or thread of the source's own, so the upstream's keep-alives are
/// answered whatever the sinks do.
#[async_trait]
pub trait Source: Send {
    /// Waits for the next changes: all of them after the last group's position, in commit order. `None` when there is nothing more,
    /// ever (shutdown was requested, or a source that ends).
    ///
    /// A group ends when the upstream is quiet and the caller waits here, else at some MiB or a fraction of a second.
    /// Cancel-safe: dropping the future loses no change.
    async fn next(&mut self) -> Result<Option<ChangeGroup>, ConnectorError>;

    /// The same for a caller that is still busy with the last group: a group does not end because the upstream is quiet, so that the work
    /// of each commit is shared by many changes. Cancel-safe, too.
    async fn next_full(&mut self) -> Result<Option<ChangeGroup>, ConnectorError> {
        self.next().await
    }

    /// Everything up to and including `durable` is on disk in our log, so the upstream may forget it. Returns at once. Calls may skip
    /// positions but never go back.
    fn confirm(&self, durable: &SourcePosition);
}
