//! Starts the built binary on real pipeline files and real servers, breaks things, and compares. A scenario of the project's catalogue carries its
//! id as its name (`pg_lsn_03`).

#[path = "blackbox/absent_server.rs"]
mod absent_server;
#[path = "blackbox/big_transaction.rs"]
mod big_transaction;
#[path = "blackbox/commands.rs"]
mod commands;
#[path = "blackbox/compaction.rs"]
mod compaction;
#[path = "blackbox/data_directory.rs"]
mod data_directory;
#[path = "blackbox/durability.rs"]
mod durability;
#[path = "blackbox/failing_disk.rs"]
mod failing_disk;
#[path = "blackbox/full_disk.rs"]
mod full_disk;
#[path = "blackbox/harness.rs"]
mod harness;
#[path = "blackbox/keys_and_toast.rs"]
mod keys_and_toast;
#[path = "blackbox/limits.rs"]
mod limits;
#[path = "blackbox/log_files.rs"]
mod log_files;
#[path = "blackbox/many_tables.rs"]
mod many_tables;
#[path = "blackbox/mysql.rs"]
mod mysql;
#[path = "blackbox/mysql_faults.rs"]
mod mysql_faults;
#[path = "blackbox/paused_writer.rs"]
mod paused_writer;
#[path = "blackbox/pipeline_files.rs"]
mod pipeline_files;
#[path = "blackbox/positions.rs"]
mod positions;
#[path = "blackbox/random_kills.rs"]
mod random_kills;
#[path = "blackbox/retention.rs"]
mod retention;
#[path = "blackbox/s3.rs"]
mod s3;
#[path = "blackbox/schemas.rs"]
mod schemas;
#[path = "blackbox/server_faults.rs"]
mod server_faults;
#[path = "blackbox/shipped_pipelines.rs"]
mod shipped_pipelines;
#[path = "blackbox/sinks.rs"]
mod sinks;
#[path = "blackbox/snapshot_boundary.rs"]
mod snapshot_boundary;
#[path = "blackbox/tables.rs"]
mod tables;
#[path = "blackbox/values.rs"]
mod values;
