use std::{
    error::Error,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Hands out ids for schemas. The runtime implements it over the log's schema store.
pub trait SchemaRegistry: Send + Sync {
    /// The id of this schema text under this subject. The same text gets the same id, and the id is durable before any record that
    /// bears it.
    fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError>;

    /// The text of the schema of that id; `None` if there is none.
    fn schema(&self, id: u32) -> Result<Option<Arc<str>>, RegistryError>;
}

/// What went wrong in a [`SchemaRegistry`].
#[derive(Debug)]
pub struct RegistryError(pub Box<dyn Error + Send + Sync>);

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for RegistryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// A registry in memory, for tests and tools. Ids count from 1; equal texts share an id.
#[derive(Debug, Default)]
pub struct MemoryRegistry(Mutex<Vec<Arc<str>>>);

impl SchemaRegistry for MemoryRegistry {
    fn register(&self, _subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let mut schemas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = schemas.iter().position(|known| **known == *schema).unwrap_or_else(|| {
            schemas.push(schema.into());
            schemas.len() - 1
        });
        u32::try_from(index + 1).map_err(|error| RegistryError(error.into()))
    }

    fn schema(&self, id: u32) -> Result<Option<Arc<str>>, RegistryError> {
        let schemas = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((id as usize).checked_sub(1).and_then(|index| schemas.get(index).cloned()))
    }
}
