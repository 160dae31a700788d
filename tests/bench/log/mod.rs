//! The log alone: `log_bench` (log-core/examples) beside `fio`, a bare `write` and `fdatasync`, and a Kafka broker.
//!
//! It drives log-core's own interface in a process of its own, so that time, processor time and memory are those of the log.
pub mod append;
mod broker;
mod cases;
pub mod kafka;
pub mod latency;
pub mod open;
pub mod read;
pub mod size;
mod tool;
