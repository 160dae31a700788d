use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes one permit stands for: a semaphore counts to `u32::MAX` per call, and a budget is some MiB at least.
const UNIT_BYTES: usize = 1024;

/// The memory that may be in flight between the sockets and the sinks of a runtime, in bytes. Cheap to clone; all clones share it.
#[derive(Debug, Clone)]
pub struct ByteBudget {
    permits: Arc<Semaphore>,
    total_units: usize,
}

impl ByteBudget {
    /// A budget of that many bytes, at least 1 MiB.
    pub fn new(bytes: usize) -> Self {
        let total_units = (bytes / UNIT_BYTES).clamp(1024, Semaphore::MAX_PERMITS.min(u32::MAX as usize));
        Self { permits: Arc::new(Semaphore::new(total_units)), total_units }
    }

    /// Bytes in all.
    pub fn total_bytes(&self) -> usize {
        self.total_units * UNIT_BYTES
    }

    /// Bytes not reserved now.
    pub fn available_bytes(&self) -> usize {
        self.permits.available_permits() * UNIT_BYTES
    }

    // One row larger than the whole budget must still get through: it gets all there is.
    fn units(&self, bytes: usize) -> u32 {
        bytes.div_ceil(UNIT_BYTES).clamp(1, self.total_units) as u32
    }

    /// Waits until that many bytes are free and takes them.
    pub async fn reserve(&self, bytes: usize) -> Reservation {
        match Arc::clone(&self.permits).acquire_many_owned(self.units(bytes)).await {
            Ok(permit) => Reservation(Some(permit)),
            Err(_never_closed) => Reservation(None),
        }
    }

    /// Takes that many bytes if they are free now.
    pub fn try_reserve(&self, bytes: usize) -> Option<Reservation> {
        Arc::clone(&self.permits).try_acquire_many_owned(self.units(bytes)).ok().map(|permit| Reservation(Some(permit)))
    }

    /// Waits at most `timeout` on a thread of its own (not in async code) until that many bytes are free.
    pub fn reserve_blocking(&self, bytes: usize, timeout: Duration) -> Option<Reservation> {
        let until = std::time::Instant::now() + timeout;
        loop {
            if let Some(reservation) = self.try_reserve(bytes) {
                return Some(reservation);
            }
            if std::time::Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Bytes taken from a [`ByteBudget`], given back on drop.
#[derive(Debug)]
pub struct Reservation(Option<OwnedSemaphorePermit>);

impl Reservation {
    /// Adds the bytes of `other` to this reservation.
    pub fn merge(&mut self, other: Self) {
        if let (Some(mine), Some(theirs)) = (&mut self.0, other.0) {
            mine.merge(theirs);
        }
    }

    /// Gives back what is beyond that many bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        if let Some(permit) = &mut self.0 {
            let beyond = permit.num_permits().saturating_sub(bytes.div_ceil(UNIT_BYTES));
            drop(permit.split(beyond));
        }
    }

    /// How many bytes it holds.
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |permit| permit.num_permits() * UNIT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_needed_goes_back() {
        let budget = ByteBudget::new(1 << 20);
        let mut reservation = budget.try_reserve(1 << 20).unwrap();
        assert!(budget.try_reserve(1).is_none());
        reservation.shrink_to(1025);
        assert_eq!((reservation.bytes(), budget.available_bytes()), (2048, (1 << 20) - 2048));
        // It does not grow again.
        reservation.shrink_to(1 << 20);
        assert_eq!(reservation.bytes(), 2048);
        drop(reservation);
        assert_eq!(budget.available_bytes(), 1 << 20);
    }
}
