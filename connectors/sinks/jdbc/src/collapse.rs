//! Finds what the changes of a flush come to, so that each key of the target is touched once.
//!
//! The changes are played in order on keys alone. For each key it is known at every moment whether its row is gone, or from which changes its
//! columns come, or from which row of the target those that no change has sent (`unchanged`). Moves need nothing special then: a moved row
//! is a row under its new key whose unsent columns come from the target's row of the *old* key. A dialect that first reads those rows, then
//! deletes, then writes, handles chains, swaps and keys that are used again, in any mixture.
use std::collections::{HashMap, HashSet};

use connector_api::{ColumnType, Op, OrderKey};

use crate::{
    error::JdbcError,
    flush::{Images, Place, RowRef},
    key::write_key,
};

/// What is to be done for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Insert the row, or give the row that is there these values.
    Upsert,
    /// Give the row that is there the columns that were sent. It must be there.
    Patch,
    /// Delete the row that may be there, then insert this one: the key was deleted and used again.
    Replace,
    /// Delete the row that may be there, then insert this one, which takes what it lacks from the row that had the key `origin`. If it
    /// lacks columns, that row must be there.
    Move,
    /// Delete the row that may be there.
    Delete,
}

/// What one key comes to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NetRow {
    pub kind: Kind,
    /// The last change of the row. A deleted row's key is in its old image.
    pub last: RowRef,
    /// For a move: the change whose old image has the key that the row has in the target.
    pub origin: Option<RowRef>,
    /// Where the columns are, if not all are in the new image of `last`: which entry of [`Net::places`].
    places: Option<u32>,
}

/// What a flush comes to, in the order of the keys: a table's index is read and written front to back, and two writers lock rows in one order.
#[derive(Debug, Default)]
pub(crate) struct Net {
    pub rows: Vec<NetRow>,
    places: Vec<Place>,
    columns: usize,
}

impl Net {
    /// Where a column of a row is.
    #[inline]
    pub(crate) fn place(&self, row: &NetRow, column: usize) -> Place {
        match (row.kind, row.places) {
            (Kind::Delete, _) => Place::Before(row.last),
            (_, None) => Place::After(row.last),
            (_, Some(entry)) => self.places.get(entry as usize * self.columns + column).copied().unwrap_or(Place::Target),
        }
    }

    /// Whether columns of the row are known to the target only.
    pub(crate) fn lacks_columns(&self, row: &NetRow) -> bool {
        row.places.is_some() && (0..self.columns).any(|column| self.place(row, column) == Place::Target)
    }
}

/// What is known of a key while the changes are played.
#[derive(Debug, Clone, Copy)]
enum State {
    /// The row is gone; the key is in the old image of that change.
    Absent(RowRef),
    Present {
        last: RowRef,
        places: Option<u32>,
        origin: Origin,
    },
}

/// Which row of the target the row continues.
#[derive(Debug, Clone, Copy)]
enum Origin {
    /// The one under its own key, if there is one.
    Same,
    /// None: it was made in this flush, after its key was deleted.
    New,
    /// The one under this key (its number, and the change whose old image has it).
    Moved(u32, RowRef),
}

struct Play<'a> {
    images: &'a Images<'a>,
    net: Net,
    states: Vec<Option<State>>,
}

impl Play<'_> {
    fn state(&self, key: u32) -> Option<State> {
        self.states.get(key as usize).copied().flatten()
    }

    fn set(&mut self, key: u32, state: State) {
        if let Some(slot) = self.states.get_mut(key as usize) {
            *slot = Some(state);
        }
    }

    /// Where the columns of the change `at` are, on top of what was known of the row; `None`: all in its new image.
    fn merge(&mut self, at: RowRef, prior: Option<State>) -> Result<Option<u32>, JdbcError> {
        if !self.images.is_partial(at) {
            return Ok(None);
        }
        let entry = (self.net.places.len() / self.net.columns.max(1)) as u32;
        for column in 0..self.net.columns {
            let place = match (self.images.place(at, column), prior) {
                (Place::Target, Some(State::Present { last, places: None, .. })) => Place::After(last),
                (Place::Target, Some(State::Present { places: Some(prior), .. })) => {
                    self.net.places.get(prior as usize * self.net.columns + column).copied().unwrap_or(Place::Target)
                }
                // The row is known to be gone, so nothing has the column.
                (Place::Target, Some(State::Absent(_))) => {
                    let (partition, offset) = self.images.offset(at);
                    return Err(JdbcError::MissingRow { table: self.images.table().to_owned(), partition, offset });
                }
                (place, _) => place,
            };
            self.net.places.push(place);
        }
        Ok(Some(entry))
    }

    fn put(&mut self, key: u32, at: RowRef) -> Result<(), JdbcError> {
        let prior = self.state(key);
        let places = self.merge(at, prior)?;
        let origin = match prior {
            None => Origin::Same,
            Some(State::Absent(_)) => Origin::New,
            Some(State::Present { origin, .. }) => origin,
        };
        self.set(key, State::Present { last: at, places, origin });
        Ok(())
    }

    fn move_row(&mut self, old: u32, new: u32, at: RowRef) -> Result<(), JdbcError> {
        if old == new {
            return self.put(new, at);
        }
        let prior = self.state(old);
        let places = self.merge(at, prior)?;
        let origin = match prior {
            None => Origin::Moved(old, at),
            Some(State::Absent(_)) => Origin::New,
            Some(State::Present { origin: Origin::Same, .. }) => Origin::Moved(old, at),
            Some(State::Present { origin, .. }) => origin,
        };
        // Back under the key that it has in the target: as if it had never moved.
        let origin = match origin {
            Origin::Moved(key, _) if key == new => Origin::Same,
            other => other,
        };
        self.set(old, State::Absent(at));
        self.set(new, State::Present { last: at, places, origin });
        Ok(())
    }

    fn finish(self, sorted: &[u32]) -> Net {
        let Self { mut net, states, .. } = self;
        let mut rows = Vec::with_capacity(states.len());
        for state in sorted.iter().filter_map(|&key| states.get(key as usize).copied().flatten()) {
            rows.push(match state {
                State::Absent(last) => NetRow { kind: Kind::Delete, last, origin: None, places: None },
                State::Present { last, places, origin } => {
                    let row = NetRow { kind: Kind::Upsert, last, origin: None, places };
                    match origin {
                        Origin::Same if net.lacks_columns(&row) => NetRow { kind: Kind::Patch, ..row },
                        Origin::Same => row,
                        Origin::New => NetRow { kind: Kind::Replace, ..row },
                        Origin::Moved(_, from) => NetRow { kind: Kind::Move, origin: Some(from), ..row },
                    }
                }
            });
        }
        net.rows = rows;
        net
    }
}

/// The keys of all rows, numbered: equal keys have equal numbers.
struct Keys {
    /// For each row in the order of changes: the row, its op, the key after it (or of the deleted row), and the old key of a move.
    steps: Vec<(RowRef, Op, u32, u32)>,
    /// All numbers, in the order of the keys.
    sorted: Vec<u32>,
}

/// Whether the column holds the text of a number that has no type between source and sink: unbounded numeric.
pub(crate) fn is_numeric_text(source_type: &str) -> bool {
    let base = source_type.split(['(', '[']).next().unwrap_or_default().trim();
    matches!(base, "numeric" | "decimal")
}

fn number_keys(images: &Images<'_>) -> Result<Keys, JdbcError> {
    let schema = images.schema();
    let key_columns: Vec<(usize, bool)> = schema
        .key()
        .iter()
        .filter_map(|&index| {
            let column = schema.columns().get(index)?;
            Some((index, matches!(column.kind, ColumnType::Text) && is_numeric_text(&column.source_type)))
        })
        .collect();
    let order = in_order(images);
    // All keys stand in one buffer, so that a key costs no allocation.
    let mut buffer = Vec::with_capacity(order.len() * 16);
    let mut ranges = Vec::with_capacity(order.len());
    for &(at, op) in &order {
        let bad = |what: &str| JdbcError::BadBatch { table: images.table().to_owned(), what: what.to_owned() };
        let mut write = |old: bool| -> Result<std::ops::Range<usize>, JdbcError> {
            let start = buffer.len();
            for &(column, numeric) in &key_columns {
                let place = if old { Place::Before(at) } else { images.place(at, column) };
                if !write_key(&mut buffer, images.cell(place, column), numeric) {
                    let (partition, offset) = images.offset(at);
                    let column = schema.columns().get(column).map(|column| column.name.clone()).unwrap_or_default();
                    return Err(JdbcError::MissingKey { table: images.table().to_owned(), column, partition, offset });
                }
            }
            Ok(start..buffer.len())
        };
        let (key, old) = match op {
            Op::Read | Op::Insert | Op::Update if images.has_after(at) => (write(false)?, 0..0),
            Op::Move if images.has_after(at) && images.has_before(at) => (write(false)?, write(true)?),
            Op::Delete if images.has_before(at) => (write(true)?, 0..0),
            Op::Truncate | Op::SnapshotRestart => return Err(bad("a barrier among rows")),
            _ => return Err(bad("a change without the image that its op needs")),
        };
        ranges.push((at, op, key, old));
    }
    let bytes_of = |range: &std::ops::Range<usize>| buffer.get(range.clone()).unwrap_or_default();
    // Rows that were written in the order of their keys, as bulk loads and sequences do, need neither a table of keys nor sorting.
    let is_ascending = ranges.is_sorted_by(|(_, _, key, _), (_, _, next, _)| bytes_of(key) < bytes_of(next));
    if is_ascending && ranges.iter().all(|(_, op, ..)| *op != Op::Move) {
        let steps = ranges.iter().zip(0..).map(|(&(at, op, ..), number)| (at, op, number, number)).collect();
        return Ok(Keys { steps, sorted: (0..ranges.len() as u32).collect() });
    }
    let mut numbers: HashMap<&[u8], u32> = HashMap::with_capacity(ranges.len());
    let mut number = |range: &std::ops::Range<usize>| {
        let next = numbers.len() as u32;
        *numbers.entry(bytes_of(range)).or_insert(next)
    };
    let mut steps = Vec::with_capacity(ranges.len());
    for (at, op, key, old) in &ranges {
        let key = number(key);
        let old = if *op == Op::Move { number(old) } else { key };
        steps.push((*at, *op, key, old));
    }
    let mut keys: Vec<(&[u8], u32)> = numbers.into_iter().collect();
    keys.sort_unstable();
    let sorted = keys.into_iter().map(|(_, number)| number).collect();
    Ok(Keys { steps, sorted })
}

/// All rows but the halves of moves that a table ignores, in the order of changes. Rows of one partition are in order already.
///
/// Such a half is ignored because the other one says all of it. Where a compaction of the log has taken that one, because its row was
/// written again since, this one is a delete.
fn in_order(images: &Images<'_>) -> Vec<(RowRef, Op)> {
    let has_halves = images.rows().any(|part| part.batch.ops.contains(&Op::MoveOut));
    let moves: HashSet<OrderKey> = images
        .rows()
        .filter(|_| has_halves)
        .flat_map(|part| part.batch.ops.iter().zip(&part.batch.orders))
        .filter_map(|(op, order)| (*op == Op::Move).then_some(*order))
        .collect();
    let mut rows = Vec::with_capacity(images.rows().map(|rows| rows.batch.len()).sum());
    let mut sorted = true;
    let mut last = None;
    for (batch, part) in images.rows().enumerate() {
        for (row, (op, order)) in part.batch.ops.iter().zip(&part.batch.orders).enumerate() {
            let op = match op {
                Op::MoveOut if moves.contains(order) => continue,
                Op::MoveOut => Op::Delete,
                op => *op,
            };
            sorted &= last <= Some(*order);
            last = Some(*order);
            rows.push((*order, RowRef { batch: batch as u32, row: row as u32 }, op));
        }
    }
    if !sorted {
        // Stable: rows with one order key (from a source that numbers none) stay as they came.
        rows.sort_by_key(|(order, _, _)| *order);
    }
    rows.into_iter().map(|(_, at, op)| (at, op)).collect()
}

/// Finds what the changes come to for each key.
pub(crate) fn collapse(images: &Images<'_>) -> Result<Net, JdbcError> {
    let keys = number_keys(images)?;
    let net = Net { rows: Vec::new(), places: Vec::new(), columns: images.schema().columns().len() };
    let mut play = Play { images, net, states: vec![None; keys.sorted.len()] };
    for (at, op, key, old) in keys.steps {
        match op {
            Op::Delete => play.set(key, State::Absent(at)),
            Op::Move => play.move_row(old, key, at)?,
            _ => play.put(key, at)?,
        }
    }
    Ok(play.finish(&keys.sorted))
}
