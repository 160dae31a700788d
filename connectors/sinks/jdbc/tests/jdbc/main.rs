//! The sink through its public face, on real databases: SQLite files, and PostgreSQL, MySQL and MariaDB servers that the tests start for themselves.
mod append;
mod changes;
mod conformance;
mod database;
mod evolution;
mod fencing;
mod model;
mod mysql_faults;
mod mysql_login;
mod mysql_tables;
mod postgres_server;
mod rows;
mod tls;
mod values;
mod values_mysql;
