//! Pipelines of the PostgreSQL source over a log in memory.

use std::sync::Arc;

use connector_api::SourceConnector;
pub use log_model::{Change, NULL, Pipeline, UNCHANGED};
use serde_json::{Value, json};
use source_postgres::PostgresSource;

use crate::cli_server::Database;

pub fn connector(settings: Value) -> Result<Arc<dyn SourceConnector>, String> {
    log_model::connector(&PostgresSource::factory(), &settings)
}

/// A pipeline of that database's name over some of its tables. `extra` has further settings.
pub fn pipeline_of(database: &Database, tables: &[&str], extra: Value) -> Pipeline {
    let mut settings = json!({ "url": database.url(), "tables": tables });
    settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    // Slots are the server's, not the database's.
    with(&database.name, settings)
}

pub fn with(name: &str, settings: Value) -> Pipeline {
    Pipeline::new(name, connector(settings).unwrap())
}
