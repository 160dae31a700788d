use std::time::Instant;

use connector_api::{ByteBudget, ChangeBatch, Reservation};

/// A group holds at most about this many bytes of rows on the wire.
const GROUP_BYTES_MAX: usize = 4 << 20;
/// What a row takes in memory for each byte on the wire, about: Arrow's buffers grow by doubling.
const MEMORY_PER_WIRE_BYTE: usize = 2;

/// Memory is reserved in steps.
const RESERVE_BYTES: usize = 512 << 10;

/// What [`GroupBuilder::secure`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// Go on reading.
    Enough,
    /// The budget is spent, and this group holds a part of it: hand it over.
    HandOver,
    /// The budget is spent by others: wait.
    Wait,
}

/// What is collected for the next group, beside the rows that still stand with their tables.
#[derive(Debug, Default)]
pub struct GroupBuilder {
    /// Batches that are closed because their table changed its shape, or is done.
    pub batches: Vec<ChangeBatch>,
    /// Rows so far: the next row's ordinal.
    pub rows: u32,
    /// Bytes of the rows on the wire.
    pub bytes: usize,
    /// When the first row came.
    pub begun: Option<Instant>,
    /// Memory taken from the budget.
    pub reservation: Option<Reservation>,
    /// Bytes in `reservation`.
    pub reserved: usize,
}

impl GroupBuilder {
    /// Counts a row of that many bytes and returns its ordinal.
    #[inline]
    pub fn count(&mut self, bytes: usize) -> u32 {
        self.count_rows(1, bytes)
    }

    /// Counts rows of that many bytes together and returns the ordinal of the first.
    #[inline]
    pub fn count_rows(&mut self, rows: u32, bytes: usize) -> u32 {
        if self.rows == 0 {
            self.begun = Some(Instant::now());
        }
        let ordinal = self.rows;
        self.rows += rows;
        self.bytes += bytes;
        ordinal
    }

    /// Whether no row was counted.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Makes the reservation cover what was read and the next read. Until it does, nothing should be read.
    pub fn secure(&mut self, budget: &ByteBudget) -> Memory {
        if self.is_empty() {
            // Idle pipelines take no memory from busy ones: nothing is reserved before there are rows.
            let free = self.reserved > 0 || budget.available_bytes() > RESERVE_BYTES.min(budget.total_bytes() / 4);
            return if free { Memory::Enough } else { Memory::Wait };
        }
        let needed = (self.bytes * MEMORY_PER_WIRE_BYTE).next_multiple_of(RESERVE_BYTES).min(budget.total_bytes() / 2);
        if self.reserve(budget, needed) { Memory::Enough } else { Memory::HandOver }
    }

    /// Makes the reservation cover `bytes`. False if the budget has not that much now.
    pub fn reserve(&mut self, budget: &ByteBudget, bytes: usize) -> bool {
        if bytes <= self.reserved {
            return true;
        }
        let Some(more) = budget.try_reserve(bytes - self.reserved) else { return false };
        match &mut self.reservation {
            Some(reservation) => reservation.merge(more),
            None => self.reservation = Some(more),
        }
        self.reserved = bytes;
        true
    }
}

/// How many bytes of rows on the wire a group holds at most under a budget, which must hold several groups, of several pipelines.
pub fn group_bytes_max(budget_bytes: usize) -> usize {
    (budget_bytes / (8 * MEMORY_PER_WIRE_BYTE)).clamp(64 << 10, GROUP_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_fit_the_budget() {
        assert_eq!(group_bytes_max(1 << 20), 64 << 10);
        assert_eq!(group_bytes_max(1 << 30), GROUP_BYTES_MAX);
    }

    #[test]
    fn a_reservation_grows_as_far_as_the_budget_goes() {
        let budget = ByteBudget::new(1 << 20);
        let mut group = GroupBuilder::default();
        assert!(group.reserve(&budget, 400 << 10) && group.reserve(&budget, 300 << 10) && group.reserve(&budget, 900 << 10));
        assert_eq!((group.reserved, budget.available_bytes()), (900 << 10, 124 << 10));
        assert!(!group.reserve(&budget, (1 << 20) + 1));
        group.count(1 << 20);
        assert_eq!(group.secure(&budget), Memory::Enough);
        let mut other = GroupBuilder::default();
        assert_eq!(other.secure(&budget), Memory::Wait);
        other.count(1 << 20);
        assert_eq!(other.secure(&budget), Memory::HandOver);
        drop(group);
        assert_eq!((budget.available_bytes(), other.secure(&budget)), (1 << 20, Memory::Enough));
    }
}
