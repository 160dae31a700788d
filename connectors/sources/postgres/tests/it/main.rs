//! The source against a private PostgreSQL server. Each test has a database of its own; the server is started by the first test and
//! stopped when no test uses it any more.
mod auth;
mod changes;
mod cli_server;
mod hostile;
mod lifecycle;
mod log_model;
mod resume;
mod snapshots;
mod values;
