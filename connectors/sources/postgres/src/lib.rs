//! Tails the logical replication stream of a PostgreSQL database.
