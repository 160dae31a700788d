use std::sync::Arc;

use formats::{RegistryError, SchemaRegistry};
use log_core::{Log, Schema};

use crate::schema_check;

/// The log's schema store, as the formats see it.
#[derive(Clone)]
pub(crate) struct LogRegistry(pub Log);

impl SchemaRegistry for LogRegistry {
    fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let registered = self.0.schemas().register(subject, &Schema::avro(schema), &schema_check::check);
        registered.map_err(|error| RegistryError(error.into()))
    }

    fn schema(&self, id: u32) -> Result<Option<Arc<str>>, RegistryError> {
        Ok(self.0.schemas().get(id))
    }
}
