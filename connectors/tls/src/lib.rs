//! TLS as clients of databases do it: how much of a server's certificate is checked is a setting, from nothing to everything.
//!
//! No protocol and no socket: a connector gets a [`rustls::ClientConfig`] from [`client_config`].
mod authorities;
mod settings;
mod verifier;

pub use crate::settings::{Check, SetupError, TlsSettings, client_config, explain};
