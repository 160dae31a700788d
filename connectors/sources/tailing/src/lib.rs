//! What sources that tail a replication log have in common.
