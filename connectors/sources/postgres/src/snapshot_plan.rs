//! What a snapshot has to read: the tables, locked, and the ranges of pages to copy.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU64, AtomicUsize},
};

use connector_api::TableName;

use crate::{
    catalog,
    error::{PostgresError, sqlstate},
    position::Progress,
    reader::Reader,
    relation::Shape,
    slot::quote_table,
    wire::{Client, quote_literal},
};

/// A range of a table has at most this many pages of 8 KiB: 32 MiB.
const RANGE_PAGES: u64 = 4096;

/// A table to copy.
pub(crate) struct Job {
    pub table: TableName,
    pub shape: Shape,
    /// The statement without its `WHERE`, and whether it has one.
    pub select: String,
    pub filter: Option<String>,
    pub restart: bool,
    pub rows_estimated: u64,
    pub rows: AtomicU64,
    /// Ranges that were not handed over in whole yet.
    pub ranges_left: AtomicUsize,
}

/// A part of a table to copy: pages from `from` up to, not including, `to`.
pub(crate) struct Range {
    pub job: usize,
    pub from: u64,
    pub to: Option<u64>,
    pub whole: bool,
}

/// Begins a transaction that sees what the exported snapshot sees.
pub(crate) fn import(mut client: Client, snapshot: &str) -> Result<Client, PostgresError> {
    let sql = format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}", quote_literal(snapshot));
    client.query("import the snapshot", &sql)?;
    Ok(client)
}

/// Locks the tables that have to be read and makes a job of each. The second part is the time of the snapshot, microseconds since 1970.
pub(crate) fn plan(reader: &mut Reader, client: &mut Client) -> Result<(Vec<Job>, i64), PostgresError> {
    let wanted: HashMap<u32, (TableName, bool)> = reader
        .position
        .tables()
        .iter()
        .filter(|(_, table)| !matches!(table.progress, Progress::Done(_) | Progress::Left))
        .map(|(oid, table)| (*oid, (table.name.clone(), table.progress != Progress::Pending)))
        .collect();
    let list = wanted.values().map(|(table, _)| quote_table(table)).collect::<Vec<_>>().join(", ");
    let locked = client
        .query("lock the tables for the snapshot", &format!("SET lock_timeout = '60s'; LOCK TABLE {list} IN ACCESS SHARE MODE"));
    locked.map_err(|error| explain(error, "SELECT on the tables is needed: GRANT SELECT ON … TO the role"))?;
    let oids = catalog::oid_list(wanted.keys().copied());
    check_not_rewritten(client, &oids)?;
    let row = client.query_one("ask for the time", "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")?;
    let taken_at_us = row.number(0)?;
    let parts = publication_parts(client, &reader.position.origin().publication)?;
    let columns = parts.iter().map(|(oid, part)| (*oid, part.columns.clone())).filter(|(_, columns)| !columns.is_empty()).collect();
    let mut jobs = Vec::with_capacity(wanted.len());
    let sizes = sizes(client, &oids)?;
    for (oid, (relation, keys)) in catalog::relations(client, &oids, &columns)? {
        let Some((table, restart)) = wanted.get(&oid) else { continue };
        if relation.table() != *table {
            return Err(PostgresError::TableChanged { table: table.to_string() });
        }
        let shape = Shape::new(relation, &keys, &mut reader.known.types, &reader.settings, client)?;
        let (partitioned, rows_estimated) = sizes.get(&oid).copied().unwrap_or_default();
        let expressions =
            shape.relation.columns.iter().zip(&shape.plan).map(|(c, kind)| reader.known.types.select_expression(c, kind));
        let only = if partitioned { "" } else { "ONLY " };
        let select = format!("SELECT {} FROM {only}{}", expressions.collect::<Vec<_>>().join(", "), quote_table(table));
        let filter = parts.get(&oid).and_then(|part| part.filter.clone());
        let (table, restart) = (table.clone(), *restart);
        let (rows, ranges_left) = (AtomicU64::new(0), AtomicUsize::new(0));
        jobs.push(Job { table, shape, select, filter, restart, rows_estimated, rows, ranges_left });
    }
    if jobs.len() < wanted.len() {
        let gone = wanted.iter().find(|(oid, _)| !jobs.iter().any(|job| job.shape.relation.oid == **oid));
        return Err(PostgresError::TableChanged { table: gone.map(|(_, (table, _))| table.to_string()).unwrap_or_default() });
    }
    Ok((jobs, taken_at_us))
}

pub(crate) fn explain(error: PostgresError, remedy: &str) -> PostgresError {
    match &error {
        PostgresError::Server { error: server, .. } if server.code == sqlstate::INSUFFICIENT_PRIVILEGE => {
            PostgresError::prerequisite(server.message.clone(), remedy)
        }
        // Between looking the tables up and locking them one was dropped or renamed.
        PostgresError::Server { error: server, .. } if matches!(server.code.as_str(), "42P01" | "42703" | "3F000") => {
            PostgresError::TableChanged { table: server.message.clone() }
        }
        _ => error,
    }
}

/// A table that was rewritten between the snapshot and the lock looks empty to the snapshot. Plain queries of the catalog see it as of the
/// snapshot, `pg_relation_filenode` as it is now.
fn check_not_rewritten(client: &mut Client, oids: &str) -> Result<(), PostgresError> {
    let sql = format!(
        "WITH leaves AS (SELECT c.oid FROM pg_class c WHERE c.oid IN ({oids}) AND c.relkind = 'r' UNION \
         SELECT p.relid FROM pg_class c CROSS JOIN LATERAL pg_partition_tree(c.oid) p WHERE c.oid IN ({oids}) AND c.relkind = 'p' AND p.isleaf) \
         SELECT c.oid::regclass FROM pg_class c JOIN leaves USING (oid) \
         WHERE c.relkind = 'r' AND c.relfilenode <> 0 AND c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid)"
    );
    match client.query("check the tables against the snapshot", &sql)?.first() {
        None => Ok(()),
        Some(row) => Err(PostgresError::TableChanged { table: row.text(0).to_owned() }),
    }
}

/// What a publication leaves out of a table (15 and later).
#[derive(Debug, Default)]
struct PublishedPart {
    /// Empty: all.
    columns: Vec<String>,
    filter: Option<String>,
}

fn publication_parts(client: &mut Client, publication: &str) -> Result<HashMap<u32, PublishedPart>, PostgresError> {
    if client.version() < 150_000 {
        return Ok(HashMap::new());
    }
    let sql = format!(
        "SELECT c.oid, coalesce(a.attname, ''), t.rowfilter FROM pg_publication_tables t \
         JOIN pg_namespace n ON n.nspname = t.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
         LEFT JOIN LATERAL unnest(t.attnames) AS a(attname) ON true WHERE t.pubname = {}",
        quote_literal(publication)
    );
    let mut parts: HashMap<u32, PublishedPart> = HashMap::new();
    for row in client.query("read the publication", &sql)? {
        let part = parts.entry(row.number(0)?).or_default();
        part.filter = row.get(2).map(str::to_owned);
        part.columns.extend(Some(row.text(1).to_owned()).filter(|name| !name.is_empty()));
    }
    Ok(parts)
}

/// Whether each table is partitioned, and its estimated rows.
fn sizes(client: &mut Client, oids: &str) -> Result<HashMap<u32, (bool, u64)>, PostgresError> {
    let sql = format!("SELECT oid, relkind = 'p', greatest(reltuples, 0)::bigint FROM pg_class WHERE oid IN ({oids})");
    client
        .query("read the sizes of tables", &sql)?
        .iter()
        .map(|row| Ok((row.number(0)?, (row.is_true(1), row.number(2)?))))
        .collect()
}

/// The ranges to copy, those of the largest tables first. Ranges of pages need TID range scans, which 14 brought.
pub(crate) fn ranges(client: &mut Client, jobs: &[Job], connections: usize) -> Result<Vec<Range>, PostgresError> {
    let oids = catalog::oid_list(jobs.iter().map(|job| job.shape.relation.oid));
    let sql = format!(
        "SELECT oid, relkind = 'r', pg_relation_size(oid) / current_setting('block_size')::int FROM pg_class WHERE oid IN ({oids})"
    );
    let mut pages = HashMap::new();
    for row in client.query("read the sizes of tables", &sql)? {
        let splits = row.is_true(1) && client.version() >= 140_000;
        pages.insert(row.number::<u32>(0)?, if splits { row.number(2)? } else { 0u64 });
    }
    let pages_of = |job: &Job| pages.get(&job.shape.relation.oid).copied().unwrap_or(0);
    let mut order: Vec<usize> = (0..jobs.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(pages_of(&jobs[*index])));
    let mut ranges = Vec::new();
    for job in order {
        let pages = pages_of(&jobs[job]);
        let step = (pages / (connections as u64 * 4)).clamp(256, RANGE_PAGES);
        let mut from = 0;
        while pages - from > step {
            ranges.push(Range { job, from, to: Some(from + step), whole: false });
            from += step;
        }
        // The last one has no end: pages that were added since belong to it.
        ranges.push(Range { job, from, to: None, whole: from == 0 });
    }
    Ok(ranges)
}
