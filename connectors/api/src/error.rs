use std::{error::Error, fmt};

/// What the supervisor does after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Open again after a pause that grows: the world outside may mend itself (network, restart, lock, throttling).
    Retry,
    /// Stop this pipeline or sink and say so: trying again would do the same, and somebody has to decide.
    Stop,
}

/// An error that knows what to do about it. A connector's error enum implements this, with no wildcard arm, so that a new variant
/// has to choose.
pub trait Recoverable: Error + Send + Sync + 'static {
    /// What the supervisor does next.
    fn recovery(&self) -> Recovery;
}

/// An error of any source or sink, on its way to the supervisor. Made from any [`Recoverable`] by `?`.
pub struct ConnectorError {
    recovery: Recovery,
    error: Box<dyn Error + Send + Sync>,
}

impl ConnectorError {
    /// What the supervisor does next.
    pub fn recovery(&self) -> Recovery {
        self.recovery
    }

    /// The connector's own error.
    pub fn into_inner(self) -> Box<dyn Error + Send + Sync> {
        self.error
    }
}

impl<E: Recoverable> From<E> for ConnectorError {
    fn from(error: E) -> Self {
        Self { recovery: error.recovery(), error: Box::new(error) }
    }
}

// Not an `Error` itself, or the conversion above would overlap with the reflexive one; `into_inner` gives what `anyhow` needs.
impl fmt::Display for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.error)?;
        let mut cause = self.error.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for ConnectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectorError").field("recovery", &self.recovery).field("error", &self.error).finish()
    }
}
