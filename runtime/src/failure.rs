use connector_api::{ConnectorError, Recoverable as _, Recovery};
use formats::{FormatError, RegistryError};
use log_core::LogError;

/// An error on its way to the supervisor: what to do, and what to tell.
#[derive(Debug)]
pub(crate) struct Failure {
    pub recovery: Recovery,
    pub error: anyhow::Error,
}

impl Failure {
    /// Somebody has to decide.
    pub fn stop(message: impl Into<String>) -> Self {
        Self { recovery: Recovery::Stop, error: anyhow::anyhow!(message.into()) }
    }

    /// It may pass by itself.
    pub fn retry(error: std::io::Error) -> Self {
        Self { recovery: Recovery::Retry, error: error.into() }
    }

    /// With what was being done.
    pub fn context(self, context: impl std::fmt::Display + Send + Sync + 'static) -> Self {
        Self { recovery: self.recovery, error: self.error.context(context) }
    }
}

impl From<ConnectorError> for Failure {
    fn from(error: ConnectorError) -> Self {
        Self { recovery: error.recovery(), error: anyhow::Error::from_boxed(error.into_inner()) }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self { recovery: recovery_of(&error), error: error.into() }
    }
}

/// A full or failing disk may mend itself; what is damaged, missing or misused does not.
fn recovery_of(error: &LogError) -> Recovery {
    match error {
        LogError::Io { .. } | LogError::Poisoned { .. } => Recovery::Retry,
        _ => Recovery::Stop,
    }
}

impl From<FormatError> for Failure {
    fn from(error: FormatError) -> Self {
        // The registry is the log's, which knows whether it helps to try again: not if a schema was refused.
        let recovery = match &error {
            FormatError::Registry(RegistryError(cause)) => cause.downcast_ref().map(recovery_of),
            _ => None,
        };
        Self { recovery: recovery.unwrap_or_else(|| error.recovery()), error: error.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_schema_stops_and_a_full_disk_does_not() {
        let registry = |error: LogError| Failure::from(FormatError::Registry(RegistryError(error.into()))).recovery;
        let refused = LogError::SchemaRefused { subject: "s".into(), level: "FULL".into(), reasons: "r".into() };
        assert_eq!(registry(refused), Recovery::Stop);
        let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
        assert_eq!(registry(LogError::Io { action: "write", path: "x".into(), source: full }), Recovery::Retry);
        assert_eq!(Failure::from(FormatError::Registry(RegistryError("elsewhere".into()))).recovery, Recovery::Retry);
    }
}
