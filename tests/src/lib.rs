//! What the black-box tests and the benchmark are made of: real servers in temporary folders, the built binary as a process
//! that can be killed at any moment, and a comparison of source, warehouse and Parquet files that shares no code with the product.
//!
//! It knows the product only as a user does: its command line, its pipeline files, its HTTP status, and what arrives in the targets.
//! Everything here panics with a message for the reader of a failed test; nothing is left running after the process ends, not even
//! when it is killed.
mod compare;
mod environment;
mod mainstem;
mod pipeline;
mod proxy;
mod random;
mod s3_front;
mod scenario;
mod small_disk;

pub use compare::{
    Table, compare_parquet, compare_parquet_folds, compare_parquet_with_rows, compare_sqlite, compare_warehouse, table,
};
pub use environment::mainstem_binary;
pub use mainstem::{Mainstem, Output, Run, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, kill, run_command};
pub use pipeline::Pipeline;
pub use proxy::Proxy;
pub use random::Random;
pub use s3_front::{Answer, S3Front};
pub use scenario::Scenario;
pub use small_disk::SmallDisk;
pub use test_servers::{
    Database, Flavor, Guard, MINUTE, MySqlDatabase, MySqlServer, PgServer, PgVersion, Session, Weed, free_port, pg_bin, python,
    repository, wait_until, wait_until_for,
};
