//! Tails the binary log of a MySQL or MariaDB server.
//!
//! It knows no log and no record format: it yields Arrow rows of changes and positions. Reading order: [`MySqlSourceConfig`] says what
//! can be set; `resume` brings server and position together; `reader` is the thread that then runs `snapshot` and the stream;
//! `stream` knows which transaction and table an event belongs to; `event` takes events apart and `decode` their rows; `wire` is the
//! protocol under all of it.
mod config;

mod check;
mod resume;
mod source;

mod dump;
mod on_demand;
mod reader;
mod snapshot;
mod snapshot_plan;
mod stream;
mod tables;

mod decode;
mod event;

mod catalog;
mod gtid_set;
mod place;
mod position;
mod wire;

mod error;

pub use crate::{
    config::{MySqlSourceConfig, SnapshotConfig, SnapshotLock, SnapshotMode, SslMode},
    decode::{TinyInt1, ZeroDates},
    source::MySqlSource,
};
