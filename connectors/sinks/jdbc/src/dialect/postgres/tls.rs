use connector_tls::{Check, SetupError, TlsSettings};
use rustls::ClientConfig;

use crate::{
    config::{PostgresSettings, SslMode},
    error::JdbcError,
};

/// The TLS settings for a server.
pub(crate) fn client_config(settings: &PostgresSettings) -> Result<ClientConfig, JdbcError> {
    let check = match settings.sslmode {
        SslMode::Disable | SslMode::Prefer => Check::Nothing,
        SslMode::Require if settings.ca.is_none() => Check::Nothing,
        SslMode::Require | SslMode::VerifyCa => Check::Authority,
        SslMode::VerifyFull => Check::Name,
    };
    let tls = TlsSettings { check, root_file: settings.ca.clone(), root_setting: "ca" };
    connector_tls::client_config(&tls).map_err(|error| match error {
        SetupError::RootFile { path, cause, .. } => JdbcError::Certificate { path, cause },
        cause => JdbcError::Tls { address: settings.address(), cause },
    })
}
