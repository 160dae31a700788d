//! Change data capture from databases into files and warehouses, in one process.
//!
//! A pipeline file names a source and its sinks. `ingest` takes groups of changes from the source and commits them, together with the
//! source's position, to the log; `drain` reads the log for each sink and hands over what is due; `supervisor` starts again
//! what failed. `definition` reads the files; `commands` holds a file for each subcommand.
//!
//! A build with connectors of one's own is one line: `mainstem::cli(Connectors::builtin().with_sink("my_sink", MySink::factory()))`.
mod backoff;
mod cleanup;
mod cli;
mod commands;
mod commit_thread;
mod compaction;
mod connectors;
mod definition;
mod demo;
mod drain;
mod durability;
mod failure;
mod http;
mod ingest;
mod logging;
mod memory;
mod metrics;
mod progress;
mod read_ahead;
#[cfg(test)]
mod reference;
mod registry;
mod requests;
mod retention;
mod schema_check;
mod status;
mod supervisor;
mod topic_reader;

pub use crate::{cli::cli, connectors::Connectors, definition::LogSettings};
pub use connector_api as api;
