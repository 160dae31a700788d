//! Reads tables in whole, as of one moment.
//!
//! An attempt exports the snapshot of a temporary slot: it sees exactly the transactions that committed before the slot's consistent
//! point L2, so the stream's transactions from before L2 are dropped for its tables, and none is missing or there twice. A coordinator
//! imports the snapshot and locks the tables against being rewritten (`TRUNCATE` and most `ALTER TABLE` do not respect snapshots);
//! workers import it too and copy ranges of pages from a shared queue.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use connector_api::{ChangeGroup, Op, SnapshotProgress, TableName};
use source_tailing::{GroupBuilder, Memory, group_bytes_max};
use tracing::info;

use crate::{
    error::PostgresError,
    lsn::Lsn,
    position::{Position, Progress},
    reader::Reader,
    rows::{Stamp, TableRows},
    slot::create_slot,
    snapshot_plan::{Job, Range, explain, import, plan, ranges},
    wire::{Client, Frames, quote_identifier, server_error},
};

/// One read of a copy takes up to this many bytes.
const READ_BUFFER_BYTES: usize = 256 << 10;
/// A group with rows of a snapshot is handed over when it is so old and somebody waits for it.
const GROUP_AGE: Duration = Duration::from_millis(200);
/// A copy that gives no byte for so long is dead.
const SILENCE: Duration = Duration::from_secs(600);

/// What the workers of an attempt share.
struct Attempt<'a> {
    reader: &'a Reader,
    jobs: Vec<Job>,
    ranges: Vec<Range>,
    next_range: AtomicUsize,
    position: Mutex<Position>,
    lsn: Lsn,
    taken_at_us: i64,
    failed: AtomicBool,
}

/// Reads all tables that have to be read. False if the end was asked for before that was done.
pub(crate) fn run(reader: &mut Reader) -> Result<bool, PostgresError> {
    if reader.position.all_read() {
        return Ok(true);
    }
    let settings = Arc::clone(&reader.settings);
    let slot = reader.position.origin().slot.clone();
    let mut exporter = Client::connect_replication(&settings, READ_BUFFER_BYTES)?;
    let short: String = slot.chars().take(36).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let temporary = format!("{short}_tmp_{:x}", now.as_nanos() as u64);
    let command = format!("CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT", quote_identifier(&temporary));
    let row = create_slot(&settings, &mut exporter, &command)?;
    let lsn = row.text(1).parse().map_err(|()| PostgresError::protocol("a consistent point that is no LSN"))?;
    let snapshot = row.text(2).to_owned();

    let mut coordinator = import(Client::connect(&settings)?, &snapshot)?;
    let (jobs, taken_at_us) = plan(reader, &mut coordinator)?;
    let ranges = ranges(&mut coordinator, &jobs, settings.snapshot.connections)?;
    for range in &ranges {
        jobs[range.job].ranges_left.fetch_add(1, Ordering::Relaxed);
    }
    let workers = settings.snapshot.connections.min(ranges.len()).max(1);
    let clients = (0..workers)
        .map(|_| import(Client::connect_copy(&settings, READ_BUFFER_BYTES)?, &snapshot))
        .collect::<Result<Vec<_>, _>>()?;
    // All have imported it: the exporter's slot need not keep the server's log any longer.
    exporter.close();
    info!(tables = jobs.len(), %lsn, connections = workers, "reading tables");

    let mut position = reader.position.clone();
    for (oid, table) in position.tables_mut() {
        if jobs.iter().any(|job| job.shape.relation.oid == *oid) {
            table.progress = Progress::Copying(lsn);
        }
    }
    let attempt = Attempt {
        reader,
        jobs,
        ranges,
        next_range: AtomicUsize::new(0),
        position: Mutex::new(position),
        lsn,
        taken_at_us,
        failed: AtomicBool::new(false),
    };
    attempt.begin()?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = clients.into_iter().map(|client| scope.spawn(|| attempt.work(client))).collect();
        let mut result = Ok(());
        for thread in threads {
            result = result.and(thread.join().unwrap_or(Err(PostgresError::ReaderGone)));
        }
        result
    })?;
    let position = attempt.position.into_inner().unwrap_or_else(PoisonError::into_inner);
    let done = position.all_read();
    reader.position = position;
    coordinator.close();
    if done {
        info!("all tables are read");
    }
    Ok(done)
}

/// A worker's group, and the ranges that end in it.
#[derive(Default)]
struct WorkerGroup {
    group: GroupBuilder,
    ended: Vec<usize>,
}

impl Attempt<'_> {
    fn stamp(&self, ordinal: u32) -> Stamp {
        Stamp { ordinal, commit_ts_us: self.taken_at_us, xid: None, lsn: self.lsn, commit_lsn: None }
    }

    /// Voids what earlier attempts put into the log, in one group with the note that this one has begun.
    fn begin(&self) -> Result<(), PostgresError> {
        let mut worker = WorkerGroup::default();
        for job in &self.jobs {
            let progress = SnapshotProgress { rows: 0, rows_estimated: job.rows_estimated, done: false };
            self.reader.context.status.set_snapshot(&job.table.to_string(), progress);
            if job.restart {
                let mut rows = TableRows::new(job.shape.clone(), &self.reader.known.info);
                rows.barrier(Op::SnapshotRestart, &self.stamp(worker.group.count(0)));
                worker.group.batches.push(rows.finish()?);
            }
        }
        self.hand_over(&mut worker)
    }

    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.reader.is_over()
    }

    /// Copies ranges until there are none.
    fn work(&self, mut client: Client) -> Result<(), PostgresError> {
        let result = self.copy_ranges(&mut client);
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        client.close();
        result
    }

    fn copy_ranges(&self, client: &mut Client) -> Result<(), PostgresError> {
        let mut worker = WorkerGroup::default();
        while !self.is_over() {
            let Some(range) = self.ranges.get(self.next_range.fetch_add(1, Ordering::Relaxed)) else { break };
            let Some(job) = self.jobs.get(range.job) else { break };
            let mut rows = TableRows::new(job.shape.clone(), &self.reader.known.info);
            if !self.copy(client, range, job, &mut rows, &mut worker)? {
                break;
            }
            if !rows.is_empty() {
                worker.group.batches.push(rows.finish()?);
            }
            worker.ended.push(range.job);
            self.hand_over_if_due(&mut worker)?;
        }
        self.hand_over(&mut worker)
    }

    /// Copies one range. False if the end was asked for on the way.
    fn copy(
        &self,
        client: &mut Client,
        range: &Range,
        job: &Job,
        rows: &mut TableRows,
        worker: &mut WorkerGroup,
    ) -> Result<bool, PostgresError> {
        let mut conditions: Vec<String> = job.filter.iter().map(|filter| format!("({filter})")).collect();
        if !range.whole {
            conditions.push(format!("ctid >= '({},0)'", range.from));
        }
        conditions.extend(range.to.map(|to| format!("ctid < '({to},0)'")));
        let filter = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
        let doing = format!("read table {}", job.table);
        let remedy = "SELECT on the table is needed: GRANT SELECT ON … TO the role";
        client
            .start_copy(&doing, &format!("COPY ({}{filter}) TO STDOUT (FORMAT binary)", job.select))
            .map_err(|error| explain(error, remedy))?;
        let limit = group_bytes_max(self.reader.context.budget.total_bytes());
        let mut header_seen = false;
        let mut heard = Instant::now();
        client.connection().set_read_timeout(Some(Duration::from_secs(1)))?;
        loop {
            let connection = client.connection();
            let mut frames = Frames::new(connection.buffered());
            let mut ended = false;
            let mut failure = None;
            while let Some((tag, body)) = frames.next()? {
                match tag {
                    b'd' => {
                        let mut body = body;
                        if !std::mem::replace(&mut header_seen, true) {
                            body = copy_header(body)?;
                        }
                        self.copied_rows(body, rows, &mut worker.group)?;
                    }
                    b'c' => ended = true,
                    b'E' => failure = Some(server_error(body)),
                    b'N' | b'S' => {}
                    other => return Err(PostgresError::protocol(format!("message `{}` in a copy", other.escape_ascii()))),
                }
                if ended || failure.is_some() {
                    break;
                }
            }
            let consumed = frames.consumed();
            connection.consume(consumed);
            if let Some(error) = failure {
                return Err(explain(PostgresError::Server { doing, error }, remedy));
            }
            if ended {
                client.wait_ready(&doing)?;
                return Ok(true);
            }
            if self.is_over() {
                return Ok(false);
            }
            // A worker that waited for memory with a part of it in its hands could wait for ever for others that do the same.
            if worker.group.secure(&self.reader.context.budget) == Memory::HandOver || worker.group.bytes >= limit {
                worker.group.batches.push(rows.finish()?);
                self.hand_over(worker)?;
            }
            match client.connection().fill()? {
                Some(_) => heard = Instant::now(),
                None if heard.elapsed() > SILENCE => {
                    return Err(PostgresError::NoAnswer {
                        address: client.connection().address().to_owned(),
                        seconds: SILENCE.as_secs(),
                    });
                }
                None => {}
            }
        }
    }

    /// The rows of one message; -1 instead of a row's number of columns ends the data.
    #[inline]
    fn copied_rows(&self, mut body: &[u8], rows: &mut TableRows, group: &mut GroupBuilder) -> Result<(), PostgresError> {
        while let Some((count, rest)) = body.split_first_chunk::<2>() {
            let count = i16::from_be_bytes(*count);
            if count == -1 {
                return Ok(());
            }
            if usize::try_from(count) != Ok(rows.shape().plan.len()) {
                return Err(PostgresError::protocol("a copied row with another number of columns than its table"));
            }
            let stamp = self.stamp(group.count(body.len()));
            body = rows.copied(&stamp, rest)?;
        }
        if body.is_empty() { Ok(()) } else { Err(PostgresError::protocol("a copied row that is cut off")) }
    }

    fn hand_over_if_due(&self, worker: &mut WorkerGroup) -> Result<(), PostgresError> {
        let group = &worker.group;
        let old = group.begun.is_none_or(|begun| begun.elapsed() >= GROUP_AGE);
        let large = group.bytes >= group_bytes_max(self.reader.context.budget.total_bytes()) || group.batches.len() >= 256;
        if large || (old && self.reader.handover.is_wanted()) { self.hand_over(worker) } else { Ok(()) }
    }

    /// Hands a worker's group over. The lock on the position makes each group's position follow from the one before: a table is done in the
    /// very group that brings its last row.
    fn hand_over(&self, worker: &mut WorkerGroup) -> Result<(), PostgresError> {
        let WorkerGroup { mut group, ended } = std::mem::take(worker);
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        for job in ended.iter().filter_map(|index| self.jobs.get(*index)) {
            if job.ranges_left.fetch_sub(1, Ordering::AcqRel) == 1
                && let Some(table) = position.tables_mut().get_mut(&job.shape.relation.oid)
            {
                table.progress = Progress::Done(Some(self.lsn));
            }
        }
        for batch in &group.batches {
            self.report(batch.schema.table(), batch.ops.len() as u64);
        }
        for job in ended.iter().filter_map(|index| self.jobs.get(*index)) {
            self.report(&job.table, 0);
        }
        let reached_end = self.reader.reached_end(&position);
        let encoded = position.encode();
        let batches = std::mem::take(&mut group.batches);
        let mut change = ChangeGroup { batches, position: encoded, reached_end, reservation: group.reservation.take() };
        while let Err(back) = self.reader.handover.put(change, Duration::from_millis(250)) {
            change = back;
        }
        Ok(())
    }

    fn report(&self, table: &TableName, rows: u64) {
        let Some(job) = self.jobs.iter().find(|job| job.table == *table) else { return };
        let rows = job.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        let done = job.ranges_left.load(Ordering::Acquire) == 0;
        let progress = SnapshotProgress { rows, rows_estimated: job.rows_estimated, done };
        self.reader.context.status.set_snapshot(&job.table.to_string(), progress);
    }
}

/// `PGCOPY\n\xFF\r\n\0`, flags, and an extension with its length.
fn copy_header(body: &[u8]) -> Result<&[u8], PostgresError> {
    let rest =
        body.strip_prefix(b"PGCOPY\n\xFF\r\n\0").and_then(|rest| rest.get(4..)).and_then(|rest| rest.split_first_chunk::<4>());
    let rest = rest.and_then(|(len, rest)| rest.get(u32::from_be_bytes(*len) as usize..));
    rest.ok_or_else(|| PostgresError::protocol("a copy without its header"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_followed_by_rows() {
        let bytes = [b"PGCOPY\n\xFF\r\n\0".as_slice(), &[0; 4], &2u32.to_be_bytes(), b"xx", b"rows"].concat();
        assert_eq!(copy_header(&bytes).unwrap(), b"rows");
        assert!(copy_header(&bytes[..18]).is_err());
    }

    proptest! {
        #[test]
        fn no_header_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = copy_header(&bytes);
            let _ = copy_header(&[b"PGCOPY\n\xFF\r\n\0".as_slice(), &bytes].concat());
        }
    }
}
