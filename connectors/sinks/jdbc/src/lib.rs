//! Keeps tables of a SQL database equal to topics.
//!
//! It is not a query layer and knows no log: it is handed Arrow rows of changes, and makes each flush one transaction of the
//! target in which the rows and the offsets they came from move together. That is what makes it exactly once.
//!
//! Reading order: [`JdbcSinkConfig`] says what can be set; `sink` collects the rows of a flush; `collapse` finds what they come to for
//! each key; `dialect` is what a database has to offer, with one folder for each.
mod append;
mod cell;
mod collapse;
mod config;
mod decimal_digits;
mod dialect;
mod error;
mod flush;
mod iso;
mod json;
mod key;
mod offsets;
mod sink;
mod table;
mod url;

pub use crate::{
    config::{BatchConfig, JdbcSinkConfig, Mode, SslMode},
    error::{JdbcError, ServerError},
    sink::JdbcSink,
    url::JdbcUrl,
};
