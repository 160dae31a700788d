//! Reads tables in whole, as of one moment.
//!
//! All connections of an attempt begin their transactions at one moment, of which the log's place and GTIDs are known: they see exactly the
//! transactions up to there. The stream's transactions from before are dropped for the tables of the attempt, so none is missing or there twice.
//! Workers read ranges of keys from a shared queue. Tables whose engine has no transactions are read one after the other, each under a lock of its
//! own, so each has a moment of its own.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use connector_api::{ChangeGroup, Identity, Op, SnapshotProgress, TableName};
use source_tailing::{GroupBuilder, Memory, Pace, group_bytes_max};
use tracing::info;

use crate::{
    catalog::{self, CatalogTable},
    decode::{Stamp, TableRows},
    error::MySqlError,
    position::{Point, Position, Progress},
    reader::Reader,
    snapshot_plan::{self, Job, READ_REMEDY, Range, explain, quote_table, ranges},
    stream::rows_error,
    wire::{Client, Step},
};

/// A group with rows of a snapshot is handed over when it is so old and somebody waits for it.
const GROUP_AGE: Duration = Duration::from_millis(200);
/// A read that gives no byte for so long is dead.
const SILENCE: Duration = Duration::from_secs(600);

/// What the workers of an attempt share.
struct Attempt<'a> {
    reader: &'a Reader,
    jobs: Vec<Job>,
    ranges: Vec<Range>,
    next_range: AtomicUsize,
    position: Mutex<Position>,
    /// As of when the tables are read, and its name in the position.
    point: Point,
    point_name: u32,
    /// Microseconds since 1970.
    taken_at_us: i64,
    identity: Identity,
    failed: AtomicBool,
}

/// Reads all tables that have to be read. False if the end was asked for before that was done.
pub(crate) fn run(reader: &mut Reader) -> Result<bool, MySqlError> {
    if reader.position.all_read() {
        return Ok(true);
    }
    let mut client = Client::connect(&reader.settings)?;
    let found = catalog::tables(&mut client)?;
    client.close();
    let wanted: Vec<TableName> = reader
        .position
        .tables()
        .iter()
        .filter(|(_, table)| !matches!(table.progress, Progress::Done(_) | Progress::Left))
        .map(|(name, _)| name.clone())
        .collect();
    let engine_of = |name: &TableName| found.iter().find(|table| table.name == *name);
    let (together, alone): (Vec<_>, Vec<_>) =
        wanted.into_iter().partition(|name| engine_of(name).is_none_or(|table| table.transactional));
    for table in alone {
        if !read_alone(reader, &found, &table)? {
            return Ok(false);
        }
    }
    if !together.is_empty() && !read_together(reader, &found, &together)? {
        return Ok(false);
    }
    info!("all tables are read");
    Ok(true)
}

/// Whether rows of the table are in the log already.
fn restarts(reader: &Reader, table: &TableName) -> bool {
    reader.position.tables().get(table).is_some_and(|state| state.progress != Progress::Pending)
}

/// Reads tables over several connections that see one moment.
fn read_together(reader: &mut Reader, found: &[CatalogTable], tables: &[TableName]) -> Result<bool, MySqlError> {
    let settings = Arc::clone(&reader.settings);
    let mut clients =
        (0..settings.snapshot.connections).map(|_| snapshot_plan::connect(&settings)).collect::<Result<Vec<_>, _>>()?;
    let (point, definitions) =
        snapshot_plan::same_moment(reader, &mut clients, tables, |client| catalog::definitions(client, tables))?;
    let mut jobs = Vec::with_capacity(tables.len());
    for table in tables {
        let Some(definition) = definitions.get(table) else {
            return Err(MySqlError::TableChanged { table: table.to_string() });
        };
        jobs.push(Job::new(reader, definition.clone(), restarts(reader, table), snapshot_plan::estimate(found, table))?);
    }
    reader.known.definitions.extend(definitions);
    let connections = clients.len();
    let ranges = match clients.first_mut() {
        Some(client) => ranges(client, &jobs, connections)?,
        None => Vec::new(),
    };
    for client in clients.drain(ranges.len().max(1).min(connections)..) {
        client.close();
    }
    info!(tables = jobs.len(), place = %point.place, connections = clients.len(), "reading tables");
    Attempt::new(reader, jobs, ranges, point).run(clients).map(|(position, done)| {
        reader.position = position;
        done
    })
}

/// Reads a table without transactions, under a lock that keeps it as it is.
fn read_alone(reader: &mut Reader, found: &[CatalogTable], table: &TableName) -> Result<bool, MySqlError> {
    let mut client = snapshot_plan::connect(&reader.settings)?;
    let remedy = "tables without transactions are locked while they are read: GRANT LOCK TABLES ON … TO the user, or ALTER TABLE … ENGINE = InnoDB";
    let sql = format!("LOCK TABLES {} READ", quote_table(table));
    client.query_within("lock a table for the snapshot", &sql, Duration::from_secs(70)).map_err(|error| explain(error, remedy))?;
    let mut side = Client::connect(&reader.settings)?;
    let point = catalog::log_end(&mut side, reader.log.gtids)?;
    let mut definitions = catalog::definitions(&mut side, std::slice::from_ref(table))?;
    side.close();
    let Some(definition) = definitions.remove(table) else { return Err(MySqlError::TableChanged { table: table.to_string() }) };
    reader.known.definitions.insert(table.clone(), definition.clone());
    let job = Job::new(reader, definition, restarts(reader, table), snapshot_plan::estimate(found, table))?;
    info!(%table, place = %point.place, "reading a table without transactions, under a lock");
    let ranges = vec![Range { job: 0, condition: String::new() }];
    Attempt::new(reader, vec![job], ranges, point).run(vec![client]).map(|(position, done)| {
        reader.position = position;
        done
    })
}

/// A worker's group, and the ranges that end in it.
#[derive(Default)]
struct WorkerGroup {
    group: GroupBuilder,
    ended: Vec<usize>,
}

impl<'a> Attempt<'a> {
    fn new(reader: &'a Reader, jobs: Vec<Job>, ranges: Vec<Range>, point: Point) -> Self {
        let mut position = reader.position.clone();
        let point_name = position.add_point(point.clone());
        for job in &jobs {
            if let Some(state) = position.tables_mut().get_mut(&job.table) {
                state.progress = Progress::Copying(point_name);
                state.definition = (reader.log.row_metadata != "FULL").then(|| Arc::new(job.definition.clone()));
            }
        }
        position.forget_passed();
        for range in &ranges {
            jobs[range.job].ranges_left.fetch_add(1, Ordering::Relaxed);
        }
        let taken_at_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as i64;
        let identity = if reader.log.row_image == "FULL" { Identity::Full } else { Identity::Key };
        let (position, next_range, failed) = (Mutex::new(position), AtomicUsize::new(0), AtomicBool::new(false));
        Self { reader, jobs, ranges, next_range, position, point, point_name, taken_at_us, identity, failed }
    }

    /// Reads everything. Returns the position, and false if the end was asked for on the way.
    fn run(self, clients: Vec<Client>) -> Result<(Position, bool), MySqlError> {
        self.begin()?;
        std::thread::scope(|scope| {
            let threads: Vec<_> = clients.into_iter().map(|client| scope.spawn(|| self.work(client))).collect();
            let mut result = Ok(());
            for thread in threads {
                result = result.and(thread.join().unwrap_or(Err(MySqlError::ReaderGone)));
            }
            result
        })?;
        let done = self.jobs.iter().all(|job| job.ranges_left.load(Ordering::Acquire) == 0);
        Ok((self.position.into_inner().unwrap_or_else(PoisonError::into_inner), done))
    }

    fn stamp(&self, ordinal: u32) -> Stamp<'_> {
        Stamp {
            ordinal,
            commit_ts_us: self.taken_at_us,
            gtid: None,
            server_id: None,
            file: &self.point.place.file,
            position: self.point.place.position,
            thread: None,
        }
    }

    fn rows_of(&self, job: &Job) -> TableRows {
        TableRows::new(Arc::clone(&job.shape), self.identity, &self.reader.known.info)
    }

    /// Voids what earlier attempts put into the log, in one group with the note that this one has begun.
    fn begin(&self) -> Result<(), MySqlError> {
        let mut worker = WorkerGroup::default();
        for job in &self.jobs {
            let progress = SnapshotProgress { rows: 0, rows_estimated: job.rows_estimated, done: false };
            self.reader.context.status.set_snapshot(&job.table.to_string(), progress);
            if job.restart {
                let mut rows = self.rows_of(job);
                rows.barrier(Op::SnapshotRestart, &self.stamp(worker.group.count(0)));
                worker.group.batches.push(rows.finish().map_err(rows_error)?);
            }
        }
        self.hand_over(&mut worker)
    }

    fn is_over(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.reader.is_over()
    }

    /// Reads ranges until there are none.
    fn work(&self, mut client: Client) -> Result<(), MySqlError> {
        let result = self.read_ranges(&mut client);
        if result.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        // A read that was given up leaves rows on the connection: the server sees it break.
        if matches!(result, Ok(true)) {
            client.close();
        }
        result.map(|_| ())
    }

    fn read_ranges(&self, client: &mut Client) -> Result<bool, MySqlError> {
        let mut worker = WorkerGroup::default();
        let mut clean = true;
        while !self.is_over() {
            let Some(range) = self.ranges.get(self.next_range.fetch_add(1, Ordering::Relaxed)) else { break };
            let Some(job) = self.jobs.get(range.job) else { break };
            let mut rows = self.rows_of(job);
            clean = self.read(client, range, job, &mut rows, &mut worker)?;
            if !clean {
                break;
            }
            if !rows.is_empty() {
                worker.group.batches.push(rows.finish().map_err(rows_error)?);
            }
            worker.ended.push(range.job);
            self.hand_over_if_due(&mut worker)?;
        }
        self.hand_over(&mut worker)?;
        Ok(clean)
    }

    /// Reads one range. False if the end was asked for on the way.
    fn read(
        &self,
        client: &mut Client,
        range: &Range,
        job: &Job,
        rows: &mut TableRows,
        worker: &mut WorkerGroup,
    ) -> Result<bool, MySqlError> {
        let doing = format!("read table {}", job.table);
        let started = client.start(&doing, &job.select(&range.condition), Instant::now() + SILENCE);
        started.map_err(|error| explain(error, READ_REMEDY))?;
        let limit = group_bytes_max(self.reader.context.budget.total_bytes());
        let mut heard = Instant::now();
        client.connection().set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut pace = Pace::new(client.connection().is_unix());
        loop {
            let group = &mut worker.group;
            let step = client.take_rows(&doing, |packet| {
                let stamp = self.stamp(group.count(packet.len()));
                rows.read(&stamp, packet).map_err(rows_error)
            });
            rows.stamp(&self.stamp(0));
            if step.map_err(|error| explain(error, READ_REMEDY))? == Step::Stop {
                return Ok(true);
            }
            if self.is_over() {
                return Ok(false);
            }
            // A worker that waited for memory with a part of it in its hands could wait for ever for others that do the same.
            if worker.group.secure(&self.reader.context.budget) == Memory::HandOver || worker.group.bytes >= limit {
                worker.group.batches.push(rows.finish().map_err(rows_error)?);
                self.hand_over(worker)?;
            }
            match client.connection().fill_paced(&mut pace)? {
                Some(_) => heard = Instant::now(),
                None if heard.elapsed() > SILENCE => {
                    let address = client.connection().address().to_owned();
                    return Err(MySqlError::NoAnswer { address, seconds: SILENCE.as_secs() });
                }
                None => {}
            }
        }
    }

    fn hand_over_if_due(&self, worker: &mut WorkerGroup) -> Result<(), MySqlError> {
        let group = &worker.group;
        let old = group.begun.is_none_or(|begun| begun.elapsed() >= GROUP_AGE);
        let large = group.bytes >= group_bytes_max(self.reader.context.budget.total_bytes()) || group.batches.len() >= 256;
        if large || (old && self.reader.handover.is_wanted()) { self.hand_over(worker) } else { Ok(()) }
    }

    /// Hands a worker's group over. The lock on the position makes each group's position follow from the one before: a table is done in the
    /// very group that brings its last row.
    fn hand_over(&self, worker: &mut WorkerGroup) -> Result<(), MySqlError> {
        let WorkerGroup { mut group, ended } = std::mem::take(worker);
        let mut position = self.position.lock().unwrap_or_else(PoisonError::into_inner);
        for job in ended.iter().filter_map(|index| self.jobs.get(*index)) {
            if job.ranges_left.fetch_sub(1, Ordering::AcqRel) == 1
                && let Some(state) = position.tables_mut().get_mut(&job.table)
            {
                state.progress = Progress::Done(Some(self.point_name));
            }
        }
        for batch in &group.batches {
            let rows = batch.ops.iter().filter(|op| **op == Op::Read).count() as u64;
            self.report(batch.schema.table(), rows);
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
