//! Makes up changes, to try sinks without a database.
