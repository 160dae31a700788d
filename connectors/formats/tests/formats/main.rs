//! Records and back, as a user of the crate sees it.
mod edge_values;
mod events;
mod malformed;
mod oracle;
mod random;
mod rows;
