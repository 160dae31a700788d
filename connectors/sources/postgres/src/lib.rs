//! Tails the logical replication stream of a PostgreSQL database.
//!
//! It knows no log and no record format: it yields Arrow rows of changes and positions. Reading order: [`PostgresSourceConfig`] says what
//! can be set; `resume` brings server, slot and position together; `reader` is the thread that then runs `snapshot` and the stream;
//! `stream` and `rows` turn the messages of `pgoutput` into rows, `decode` their values; `wire` is the protocol under all of it.
mod config;

mod check;
mod resume;
mod source;

mod reader;
mod snapshot;
mod snapshot_plan;
mod stream;

mod catalog;
mod pgoutput;
mod relation;
mod rows;
mod selection;
mod slot;

mod decode;
mod position;
mod wire;

mod error;
mod lsn;

pub use crate::{
    config::{ArrayForm, NumericForm, PostgresSourceConfig, PublicationConfig, SlotConfig, SnapshotConfig, SnapshotMode},
    source::PostgresSource,
    wire::SslMode,
};
