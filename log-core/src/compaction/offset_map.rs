//! From which offset on the records of a key stay: a hash table of a size that is fixed when it is made.

use std::hash::{BuildHasher as _, RandomState};

use crate::partition::Offset;

/// Bytes that an entry takes.
pub(super) const ENTRY_BYTES: usize = size_of::<Slot>();
/// A table has at least so many slots, whatever memory it is given.
const SLOTS_MIN: usize = 4;
/// No key has this: offsets begin at 0.
const EMPTY: Offset = -1;
/// All records stay: none has an offset before this, and no other key either.
const ALL: Offset = -2;

/// Stands for a key. Two keys share one with a chance of 2⁻¹²⁸, and since the hash is seeded for each table, nobody can make such keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyHash([u64; 2]);

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: KeyHash,
    stays_from: Offset,
}

/// The table, with open addressing.
#[derive(Debug)]
pub(super) struct OffsetMap {
    seeds: [RandomState; 2],
    slots: Vec<Slot>,
    used: usize,
}

impl OffsetMap {
    /// A table of at most `memory_bytes`, and no more than `keys` keys need.
    pub(super) fn new(memory_bytes: u64, keys: u64) -> Self {
        let wanted = keys.saturating_mul(4) / 3 + 1;
        let slots = usize::try_from(wanted.min(memory_bytes / ENTRY_BYTES as u64)).unwrap_or(usize::MAX).max(SLOTS_MIN);
        let empty = Slot { key: KeyHash([0; 2]), stays_from: EMPTY };
        Self { seeds: [RandomState::new(), RandomState::new()], slots: vec![empty; slots], used: 0 }
    }

    pub(super) fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash([self.seeds[0].hash_one(key), self.seeds[1].hash_one(key)])
    }

    /// How many more keys fit: a quarter of the slots stays empty, so that searches end soon.
    pub(super) fn room(&self) -> usize {
        (self.slots.len() - self.slots.len() / 4).saturating_sub(self.used)
    }

    pub(super) fn is_half_full(&self) -> bool {
        self.used > self.room()
    }

    /// Lets records of a key before `offset` go; `false` when there is no room for another key.
    pub(super) fn let_go_before(&mut self, key: KeyHash, offset: Offset) -> bool {
        self.update(key, |known| if known == ALL { ALL } else { known.max(offset) })
    }

    /// Keeps all records of a key, whatever is said of it besides; `false` when there is no room for another key.
    pub(super) fn keep_all(&mut self, key: KeyHash) -> bool {
        self.update(key, |_| ALL)
    }

    /// From which offset on the records of a key stay; nothing if all do.
    pub(super) fn stays_from(&self, key: KeyHash) -> Option<Offset> {
        self.slots.get(self.find(key)).map(|slot| slot.stays_from).filter(|offset| *offset != EMPTY)
    }

    fn update(&mut self, key: KeyHash, change: impl FnOnce(Offset) -> Offset) -> bool {
        let at = self.find(key);
        let room = self.room() > 0;
        let Some(slot) = self.slots.get_mut(at) else { return false };
        if slot.stays_from == EMPTY {
            if !room {
                return false;
            }
            self.used += 1;
        }
        *slot = Slot { key, stays_from: change(slot.stays_from) };
        true
    }

    /// The slot that has the key, or would get it.
    fn find(&self, key: KeyHash) -> usize {
        let len = self.slots.len();
        let mut at = ((u128::from(key.0[0]) * len as u128) >> 64) as usize;
        while self.slots.get(at).is_some_and(|slot| slot.stays_from != EMPTY && slot.key != key) {
            at = if at + 1 == len { 0 } else { at + 1 };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_latest_offset_until_the_memory_is_full() {
        let memory = 10_000 * ENTRY_BYTES as u64;
        let mut map = OffsetMap::new(memory, u64::MAX);
        assert_eq!(map.room(), 7500);
        let key = |number: u32| number.to_be_bytes();
        for number in 0..7500 {
            let hash = map.hash(&key(number));
            assert!(map.let_go_before(hash, 10) && map.let_go_before(hash, i64::from(number)) && map.let_go_before(hash, 5));
        }
        let another = map.hash(b"another");
        assert!(!map.let_go_before(another, 1) && !map.keep_all(another));
        assert_eq!((map.room(), map.stays_from(another)), (0, None));
        for number in 0..7500 {
            assert_eq!(map.stays_from(map.hash(&key(number))), Some(i64::from(number).max(10)));
        }
        // A key that is there takes no room.
        let known = map.hash(&key(7));
        assert!(map.keep_all(known) && map.let_go_before(known, 100));
        assert_eq!(map.stays_from(known), Some(ALL));
        assert_eq!(OffsetMap::new(0, u64::MAX).room(), 3);
        assert_eq!(OffsetMap::new(memory, 300).room(), 301);
    }
}
