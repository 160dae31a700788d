//! Makes up changes, to try sinks without a database.
//!
//! Row number `n` always has the same values for the same seed, so a run that was killed goes on exactly where the log ends, and two runs
//! make equal data. Start with [`GenerateSource`]; `rows` holds what the values are.
mod config;
mod rows;
mod source;

pub use crate::{config::GenerateSourceConfig, source::GenerateSource};
