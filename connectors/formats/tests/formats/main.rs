//! Records and back, as a user of the crate sees it.
mod compatibility;
mod compatibility_oracle;
mod edge_values;
mod events;
mod malformed;
mod oracle;
mod random;
mod random_schemas;
mod rows;
