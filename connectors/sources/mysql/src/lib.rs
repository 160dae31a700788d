//! Tails the binary log of a MySQL or MariaDB server.
mod decode;
mod event;
