//! The client/server protocol, from the socket to result rows: the same for MySQL and MariaDB, as far as it is used here.
mod auth;
mod client;
mod connection;
mod handshake;

pub(crate) use self::{
    client::{Client, quote_identifier, quote_literal},
    connection::{Connection, Step, server_error},
    handshake::{Flavor, Version},
};
