use std::{
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use connector_api::{ChangeGroup, ConnectorError};
use tokio::sync::Notify;

#[derive(Debug, Default)]
struct Slot {
    item: Option<ChangeGroup>,
    /// Why no group will follow; told after the last group was taken.
    error: Option<ConnectorError>,
    /// The consumer waits for a group.
    wanted: bool,
    /// No group will follow.
    ended: bool,
    /// Nobody will take a group any more.
    closed: bool,
}

/// Room for one group between the reading threads and the runtime, and the position that the runtime confirmed.
#[derive(Debug, Default)]
pub struct Handover {
    slot: Mutex<Slot>,
    filled: Notify,
    emptied: Condvar,
    confirmed: AtomicU64,
}

impl Handover {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the consumer waits for a group now.
    pub fn is_wanted(&self) -> bool {
        let slot = self.lock();
        slot.wanted && slot.item.is_none()
    }

    /// Whether the consumer is gone.
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Waits at most `timeout` until there is room, and hands the group over; else gives it back. Once nobody takes groups any more,
    /// they are dropped.
    pub fn put(&self, group: ChangeGroup, timeout: Duration) -> Result<(), ChangeGroup> {
        let full = |slot: &mut Slot| slot.item.is_some() && !slot.closed;
        let waited = self.emptied.wait_timeout_while(self.lock(), timeout, full);
        let (mut slot, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if slot.closed {
            return Ok(());
        }
        if slot.item.is_some() {
            return Err(group);
        }
        slot.item = Some(group);
        drop(slot);
        self.filled.notify_one();
        Ok(())
    }

    /// Says that no group will follow, perhaps because of an error. Waits for nothing.
    pub fn end(&self, error: Option<ConnectorError>) {
        let mut slot = self.lock();
        slot.ended = true;
        slot.error = error;
        drop(slot);
        self.filled.notify_one();
    }

    /// Waits for a group; `None` when none will follow. Cancel-safe.
    pub async fn take(&self) -> Result<Option<ChangeGroup>, ConnectorError> {
        self.wait(true).await
    }

    /// The same, without telling the reading threads that somebody waits.
    pub async fn take_full(&self) -> Result<Option<ChangeGroup>, ConnectorError> {
        self.wait(false).await
    }

    async fn wait(&self, wanted: bool) -> Result<Option<ChangeGroup>, ConnectorError> {
        loop {
            {
                let mut slot = self.lock();
                if let Some(item) = slot.item.take() {
                    slot.wanted = false;
                    drop(slot);
                    self.emptied.notify_all();
                    return Ok(Some(item));
                }
                if let Some(error) = slot.error.take() {
                    return Err(error);
                }
                if slot.ended {
                    return Ok(None);
                }
                slot.wanted = wanted;
            }
            // A permit is kept if the group comes before this line.
            self.filled.notified().await;
        }
    }

    /// Says that nobody will take a group any more.
    pub fn close(&self) {
        self.lock().closed = true;
        self.emptied.notify_all();
    }

    /// Notes that the log holds everything up to `mark`, a number of the source's own that grows with its position.
    pub fn confirm(&self, mark: u64) {
        self.confirmed.fetch_max(mark, Ordering::Release);
    }

    /// What was confirmed last; 0 if nothing was.
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector_api::SourcePosition;

    use super::*;

    fn group(byte: u8) -> ChangeGroup {
        ChangeGroup { batches: Vec::new(), position: SourcePosition::new(vec![byte]), reached_end: false, reservation: None }
    }

    #[tokio::test]
    async fn one_group_waits_and_none_is_lost() {
        let handover = Arc::new(Handover::default());
        assert!(!handover.is_wanted());
        assert!(handover.put(group(1), Duration::ZERO).is_ok());
        let rejected = handover.put(group(2), Duration::ZERO).unwrap_err();
        assert_eq!(handover.take().await.unwrap().unwrap().position.as_bytes(), [1]);
        // A take that is given up must not lose the group that comes after it.
        assert!(tokio::time::timeout(Duration::from_millis(5), handover.take()).await.is_err());
        assert!(handover.is_wanted());
        assert!(tokio::time::timeout(Duration::from_millis(5), handover.take_full()).await.is_err());
        assert!(!handover.is_wanted());
        handover.put(rejected, Duration::ZERO).unwrap();
        handover.end(None);
        assert_eq!(handover.take().await.unwrap().unwrap().position.as_bytes(), [2]);
        assert!(handover.take().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_closed_consumer_blocks_nobody() {
        let handover = Handover::default();
        handover.put(group(1), Duration::ZERO).unwrap();
        handover.close();
        assert!(handover.put(group(2), Duration::from_secs(60)).is_ok());
    }
}
