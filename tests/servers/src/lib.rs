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
mod session;
mod wait;

pub use certificate::make_certificate;
pub use environment::{python, repository};
pub use guard::Guard;
pub use mysql::{Flavor, MySqlServer};
pub use mysql_database::MySqlDatabase;
pub use port::free_port;
pub use session::Session;
pub use wait::{MINUTE, wait_until, wait_until_for};
