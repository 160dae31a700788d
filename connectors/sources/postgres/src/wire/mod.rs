//! The wire protocol, from the socket to result rows.
mod auth;
mod client;
mod connection;
mod frames;
mod tls;

pub use self::tls::SslMode;
pub(crate) use self::{
    client::{Client, Row, quote_identifier, quote_literal, server_error},
    connection::Connection,
    frames::Frames,
    tls::tls_settings,
};
