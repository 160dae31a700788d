//! The log as its users see it: through the public API, and through damage to its files.

mod api;
mod compaction;
mod crash;
mod damage;
mod internal_topics;
mod model;
mod read_only;
mod repair;
mod schemas;
mod strangers;
mod support;
mod verify;
