//! Keeps tables of a SQL database equal to topics.
