//! Writes topics as Parquet files to S3 or disk.
//!
//! The log is the buffer: a range of offsets of one partition becomes one file, written in one go and visible only when it is
//! complete. A file's name holds nothing but the first offset of its range, and is created only where no such file exists: of two
//! writers that begin at the same offset one wins, and the other goes on from where the winner's footer says that its range ends.
//! So the files themselves say how far the target is, and no second store could disagree with them.
//!
//! Reading order: `config` for the settings, `change_log` for what a row of a file is, `parquet_file` for how it is encoded,
//! `file_header` and `object_name` for what the files say of themselves, `store` for where they go, `sink` for the whole.
mod change_log;
mod config;
mod error;
mod file_header;
mod object_name;
mod parquet_file;
mod sink;
mod store;

pub use crate::{
    config::{Checksum, Compression, FilesSinkConfig, Format, RollConfig, S3Config, StoreUrl},
    sink::FilesSink,
};
