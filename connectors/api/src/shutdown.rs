use tokio::sync::watch;

/// A signal that it is time to end. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// A signal and the sender that gives it by `send(true)`. A dropped sender gives it too.
    pub fn new() -> (watch::Sender<bool>, Self) {
        let (sender, receiver) = watch::channel(false);
        (sender, Self(receiver))
    }

    /// Whether the signal was given.
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits for the signal. Cancel-safe.
    pub async fn requested(&mut self) {
        // An error means that the sender is gone: whoever could have asked for the end is gone too.
        let _ = self.0.wait_for(|requested| *requested).await;
    }
}
