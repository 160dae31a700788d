use std::time::{Duration, Instant};

use crate::GroupBuilder;

/// Under load, and within a transaction, a group is at least so old before it is handed over.
const GROUP_AGE: Duration = Duration::from_millis(20);
/// A batch costs the same however few rows it has, so a group of many tables may get older.
const GROUP_AGE_PER_TABLE: Duration = Duration::from_micros(150);
const GROUP_AGE_MAX: Duration = Duration::from_millis(250);
/// A position without rows is handed over this often at most.
pub const POSITION_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait for the server or the runtime before looking round.
pub const IDLE_WAIT: Duration = Duration::from_millis(250);
/// The wait while something is under way.
pub const SHORT_WAIT: Duration = Duration::from_millis(2);

/// When a group goes to the runtime.
#[derive(Debug)]
pub struct Cadence {
    handed: Instant,
    announce: bool,
    end_announced: bool,
}

/// How things stand after a read.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The server had nothing to say.
    pub timed_out: bool,
    /// The server sends without a pause.
    pub gulping: bool,
    /// A transaction was received in part.
    pub in_transaction: bool,
    /// Tables that have rows in the group.
    pub tables: u32,
    /// The position moved since the last group.
    pub moved: bool,
    /// The position is at the end that the run waits for.
    pub at_end: bool,
    /// Somebody waits for the position itself.
    pub urgent: bool,
}

/// What to do with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Go on collecting.
    No,
    /// Hand it over if the runtime waits for one.
    IfWanted,
    /// Hand it over, however long that takes.
    Now,
}

impl Cadence {
    /// With `announce`, the first position is handed over even without rows.
    pub fn new(announce: bool) -> Self {
        let now = Instant::now();
        Self { handed: now.checked_sub(POSITION_INTERVAL).unwrap_or(now), announce, end_announced: false }
    }

    /// Whether the runtime heard of the end that it waits for.
    pub fn end_is_announced(&self) -> bool {
        self.end_announced
    }

    /// Whether a position has to be handed over even without rows.
    pub fn announces(&self) -> bool {
        self.announce
    }

    /// Whether the group, of at most `bytes_max`, should go now.
    pub fn due(&self, group: &GroupBuilder, bytes_max: usize, now: &Moment) -> Due {
        if group.bytes >= bytes_max {
            return Due::Now;
        }
        if group.is_empty() {
            let ends = now.at_end && !self.end_announced;
            if !(now.moved || self.announce || ends) {
                return Due::No;
            }
            let urgent = self.announce || ends || now.urgent;
            let due = urgent && (now.timed_out || !now.gulping) || self.handed.elapsed() >= POSITION_INTERVAL;
            return if due { Due::IfWanted } else { Due::No };
        }
        // The socket is empty and no transaction is open: waiting would not make the group larger. Else it may grow for a moment.
        let quiet = now.timed_out || !(now.gulping || now.in_transaction);
        let age = (GROUP_AGE + GROUP_AGE_PER_TABLE * now.tables).min(GROUP_AGE_MAX);
        if quiet || group.begun.is_some_and(|begun| begun.elapsed() >= age) { Due::IfWanted } else { Due::No }
    }

    /// Notes that a group goes.
    pub fn handed(&mut self, at_end: bool) {
        (self.announce, self.end_announced) = (false, at_end);
        self.handed = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Moment =
        Moment { timed_out: true, gulping: false, in_transaction: false, tables: 1, moved: false, at_end: false, urgent: false };

    #[test]
    fn rows_go_when_the_server_is_quiet_or_the_group_is_large() {
        let cadence = Cadence::new(false);
        let mut group = GroupBuilder::default();
        assert_eq!(cadence.due(&group, 100, &QUIET), Due::No);
        group.count(10);
        assert_eq!(cadence.due(&group, 100, &QUIET), Due::IfWanted);
        let busy = Moment { timed_out: false, gulping: true, ..QUIET };
        assert_eq!(cadence.due(&group, 100, &busy), Due::No);
        assert_eq!(cadence.due(&group, 100, &Moment { timed_out: false, in_transaction: true, ..QUIET }), Due::No);
        group.count(90);
        assert_eq!(cadence.due(&group, 100, &busy), Due::Now);
    }

    #[test]
    fn a_position_without_rows_goes_when_somebody_waits_for_it() {
        let mut cadence = Cadence::new(true);
        let group = GroupBuilder::default();
        assert_eq!(cadence.due(&group, 100, &QUIET), Due::IfWanted);
        cadence.handed(false);
        let moved = Moment { moved: true, ..QUIET };
        assert_eq!(cadence.due(&group, 100, &moved), Due::No);
        assert_eq!(cadence.due(&group, 100, &Moment { urgent: true, ..moved }), Due::IfWanted);
        assert_eq!(cadence.due(&group, 100, &Moment { at_end: true, ..QUIET }), Due::IfWanted);
        cadence.handed(true);
        assert_eq!(cadence.due(&group, 100, &Moment { at_end: true, ..QUIET }), Due::No);
    }
}
