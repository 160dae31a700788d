//! The source against private servers of both kinds. Each test has a database of its own on servers that all share, or servers of its
//! own where it does something to them.
mod log_model;

mod changes;
mod definitions;
mod lifecycle;
mod on_demand;
mod resume;
mod rows;
mod snapshots;
mod values;
