//! Random changes, cut into random batches and flushes, with crashes in between, against a plain map: whatever the cuts, the table is equal
//! to the source.
use std::{collections::BTreeMap, sync::Arc};

use connector_api::{BarrierKind, NextOffsets, Op, Rows, SinkInput, TableSchema};
use proptest::prelude::*;
use test_servers::Flavor;

use crate::{
    database::{Database, context, topic},
    rows::{Change, V, barrier, batch_of, delete, insert, moved, simple, text, update},
};

/// What a generated step asks for; what it comes to depends on the rows that are there.
#[derive(Debug, Clone)]
struct Step {
    what: u8,
    key: u8,
    other: u8,
    /// The columns `a` and `b` that an update does not send.
    unchanged: (bool, bool),
}

/// What the runtime does after handing over the changes up to here.
#[derive(Debug, Clone, Copy)]
enum Cut {
    None,
    Hand,
    Flush,
    Crash,
}

#[derive(Debug, Clone)]
enum Event {
    Changes(Vec<(i32, Change)>),
    Barrier(BarrierKind),
}

type Model = BTreeMap<i64, (String, String)>;

fn steps() -> impl Strategy<Value = Vec<(Step, Cut)>> {
    let step = (0..20u8, 0..6u8, 0..6u8, any::<(bool, bool)>()).prop_map(|(what, key, other, unchanged)| Step {
        what,
        key,
        other,
        unchanged,
    });
    let cut = prop_oneof![6 => Just(Cut::None), 2 => Just(Cut::Hand), 2 => Just(Cut::Flush), 1 => Just(Cut::Crash)];
    proptest::collection::vec((step, cut), 1..60)
}

fn old(key: i64) -> Vec<V> {
    vec![V::Int(key), V::Null, V::Null]
}

/// The new row, of which the unchanged columns are not sent.
fn image(key: i64, row: &(String, String), unchanged: (bool, bool)) -> Vec<V> {
    let value = |value: &str, unchanged| if unchanged { V::Unchanged } else { text(value) };
    vec![V::Int(key), value(&row.0, unchanged.0), value(&row.1, unchanged.1)]
}

/// Plays a step on the model, as the source's server would, and says what it sends.
fn play(model: &mut Model, number: usize, step: &Step, partitions: i32) -> Option<Event> {
    let (key, other) = (i64::from(step.key), i64::from(step.other));
    let partition = |key: i64| key as i32 % partitions;
    let fresh = (format!("a{number}"), format!("b{number}"));
    let kept = |row: &(String, String)| {
        let pick = |unchanged, old: &str, new: &str| if unchanged { old.to_owned() } else { new.to_owned() };
        (pick(step.unchanged.0, &row.0, &fresh.0), pick(step.unchanged.1, &row.1, &fresh.1))
    };
    match step.what {
        0..=9 => match model.get(&key).cloned() {
            None => {
                model.insert(key, fresh.clone());
                Some(Event::Changes(vec![(partition(key), insert(image(key, &fresh, (false, false))))]))
            }
            Some(row) => {
                let row = kept(&row);
                model.insert(key, row.clone());
                Some(Event::Changes(vec![(partition(key), update(image(key, &row, step.unchanged)))]))
            }
        },
        10..=13 => model.remove(&key).map(|_| Event::Changes(vec![(partition(key), delete(old(key)))])),
        14..=18 => {
            if key == other || model.contains_key(&other) {
                return None;
            }
            let row = kept(&model.remove(&key)?);
            model.insert(other, row.clone());
            let out = Change { op: Op::MoveOut, ..delete(old(key)) };
            let new = moved(old(key), image(other, &row, step.unchanged));
            Some(Event::Changes(vec![(partition(key), out), (partition(other), new)]))
        }
        _ => {
            model.clear();
            Some(Event::Barrier(if step.unchanged.0 { BarrierKind::Truncate } else { BarrierKind::SnapshotRestart }))
        }
    }
}

/// A record of the log: the place in the order of all changes, the offset, and the change (none for a barrier).
type Record = (u64, i64, Option<Change>);

struct Log {
    schema: Arc<TableSchema>,
    events: Vec<Event>,
    partitions: Vec<Vec<Record>>,
}

impl Log {
    fn new(schema: Arc<TableSchema>, events: Vec<Event>, partitions: i32) -> Self {
        let mut logs: Vec<Vec<Record>> = vec![Vec::new(); partitions as usize];
        for (order, event) in events.iter().enumerate() {
            let mut put = |partition: i32, change| {
                let log = &mut logs[partition as usize];
                // Every third offset is a gap.
                let offset = log.last().map_or(0, |(_, offset, _)| offset + 1 + i64::from(offset % 3 == 1));
                log.push((order as u64, offset, change));
            };
            match event {
                Event::Changes(changes) => changes.iter().for_each(|(partition, change)| put(*partition, Some(change.clone()))),
                Event::Barrier(_) => (0..partitions).for_each(|partition| put(partition, None)),
            }
        }
        Self { schema, events, partitions: logs }
    }

    /// The first event of which the target does not have all records.
    fn frontier(&self, next: &NextOffsets) -> usize {
        let of_partition = |(partition, log): (usize, &Vec<Record>)| {
            let next = next.get(&(partition as i32)).copied().unwrap_or(0);
            log.iter().find(|(_, offset, _)| *offset >= next).map_or(self.events.len(), |(order, _, _)| *order as usize)
        };
        self.partitions.iter().enumerate().map(of_partition).min().unwrap_or(0)
    }

    /// What is handed over for the events `from..to`: runs of rows, partition by partition, and the barriers between them.
    fn inputs(&self, from: usize, to: usize) -> Vec<SinkInput> {
        let mut inputs = Vec::new();
        let mut start = from;
        for order in from..=to {
            let at_barrier = order < to && matches!(self.events[order], Event::Barrier(_));
            if order == to || at_barrier {
                inputs.extend((0..self.partitions.len()).filter_map(|partition| self.rows(partition, start, order)));
                start = order + 1;
            }
            if let (true, Event::Barrier(kind)) = (at_barrier, &self.events[order.min(self.events.len() - 1)]) {
                let next = self.partitions.iter().enumerate().map(|(partition, log)| {
                    let offset = log.iter().find(|(at, _, _)| *at == order as u64).unwrap().1;
                    (partition as i32, offset + 1)
                });
                inputs.push(barrier(&self.schema, *kind, order as u64, next.collect()));
            }
        }
        inputs
    }

    fn rows(&self, partition: usize, from: usize, to: usize) -> Option<SinkInput> {
        let log = &self.partitions[partition];
        let range: Vec<_> = log.iter().filter(|(order, _, _)| (from as u64..to as u64).contains(order)).collect();
        let last = range.last()?.1;
        let first_offset = log.iter().rfind(|(order, _, _)| *order < from as u64).map_or(0, |(_, offset, _)| offset + 1);
        let changes: Vec<_> = range.iter().filter_map(|(order, _, change)| Some((*order, change.clone()?))).collect();
        Some(SinkInput::Rows(Rows {
            partition: partition as i32,
            first_offset,
            next_offset: last + 1,
            offsets: range.iter().map(|(_, offset, _)| *offset).collect(),
            batch: batch_of(&self.schema, &changes),
        }))
    }
}

/// Runs the steps through a sink with their cuts and compares the table with the model at each flush that ends at the model's state.
async fn run(database: &Database, table: &str, steps: &[(Step, Cut)], partitions: i32) {
    let schema = simple(table);
    let mut model = Model::new();
    let mut events = Vec::new();
    let mut states = vec![Model::new()];
    let mut cuts = Vec::new();
    for (number, (step, cut)) in steps.iter().enumerate() {
        if let Some(event) = play(&mut model, number, step, partitions) {
            events.push(event);
            states.push(model.clone());
            cuts.push(*cut);
        }
    }
    if events.is_empty() {
        return;
    }
    let log = Log::new(Arc::clone(&schema), events, partitions);
    let connector = database.connector("");
    let topic = topic(&schema, partitions);
    let open = async || connector.connect(context()).await.unwrap().open(&topic, &NextOffsets::new()).await.unwrap();
    let mut opened = open().await;
    let mut handed = 0;
    // Two rounds: the second begins with a crash at the end, and must change nothing.
    for (order, cut) in cuts.iter().enumerate().chain([(log.events.len() - 1, &Cut::Flush), (0, &Cut::Crash)]) {
        let to = (order + 1).min(log.events.len()).max(handed);
        if !matches!(cut, Cut::None) {
            for input in log.inputs(handed, to) {
                opened.sink.write(input).await.unwrap();
            }
            handed = to;
        }
        match cut {
            Cut::Flush => {
                opened.next = opened.sink.flush().await.unwrap().next;
                assert_eq!(log.frontier(&opened.next), handed);
                assert_eq!(read(database, table).await, states[handed]);
            }
            Cut::Crash => {
                opened = open().await;
                handed = log.frontier(&opened.next);
                assert_eq!(read(database, table).await, states[handed]);
            }
            Cut::None | Cut::Hand => {}
        }
    }
    assert_eq!(handed, log.events.len());
}

async fn read(database: &Database, table: &str) -> Model {
    let rows = database.query(&format!("SELECT id, a, b FROM {table}")).await;
    let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".into());
    rows.iter().map(|row| (value(&row[0]).parse().unwrap(), (value(&row[1]), value(&row[2])))).collect()
}

fn check(database: Database, runtime: &tokio::runtime::Runtime, cases: u32) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let number = std::cell::Cell::new(0);
    let result = runner.run(&(steps(), 1..4i32), |(steps, partitions)| {
        number.set(number.get() + 1);
        runtime.block_on(run(&database, &format!("t{}", number.get()), &steps, partitions));
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn sqlite_equals_the_model() {
    check(Database::sqlite(), &runtime(), 150);
}

#[test]
fn postgres_equals_the_model() {
    let runtime = runtime();
    let database = runtime.block_on(Database::postgres());
    check(database, &runtime, 60);
}

#[test]
fn mysql_equals_the_model() {
    let runtime = runtime();
    let database = runtime.block_on(Database::mysql(Flavor::MySql));
    check(database, &runtime, 40);
}

#[test]
fn mariadb_equals_the_model() {
    let runtime = runtime();
    let database = runtime.block_on(Database::mysql(Flavor::MariaDb));
    check(database, &runtime, 40);
}
