//! Real servers in temporary folders, each on free ports of the loopback interface, for the tests of connectors and of the binary.
//!
//! It knows neither the product nor the connectors. Everything here panics with a message for the reader of a failed test; nothing is left
//! running after the process ends, not even when it is killed.
mod certificate;
mod environment;
mod guard;
mod mysql;
mod mysql_data;
mod mysql_database;
mod port;
mod postgres;
mod postgres_database;
mod postgres_version;
mod session;
mod wait;
mod weed;

pub use certificate::make_certificate;
pub use environment::{python, repository};
pub use guard::Guard;
pub use mysql::{Flavor, MySqlServer};
pub use mysql_database::MySqlDatabase;
pub use port::free_port;
pub use postgres::PgServer;
pub use postgres_database::{Database, identifier};
pub use postgres_version::{PgVersion, pg_bin};
pub use session::Session;
pub use wait::{MINUTE, wait_until, wait_until_for};
pub use weed::Weed;
