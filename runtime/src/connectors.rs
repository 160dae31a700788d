use std::collections::BTreeMap;

use connector_api::{SinkFactory, SourceFactory};

/// The connectors that a build of Mainstem knows, by the name that stands in pipeline files.
#[derive(Debug, Clone, Default)]
pub struct Connectors {
    sources: BTreeMap<String, SourceFactory>,
    sinks: BTreeMap<String, SinkFactory>,
}

impl Connectors {
    /// None at all.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Those that come with Mainstem.
    pub fn builtin() -> Self {
        Self::empty()
            .with_source("postgres", source_postgres::PostgresSource::factory())
            .with_source("mysql", source_mysql::MySqlSource::factory())
            .with_source("generate", source_generate::GenerateSource::factory())
            .with_sink("files", sink_files::FilesSink::factory())
            .with_sink("jdbc", sink_jdbc::JdbcSink::factory())
    }

    /// With one more source. A name that is taken now means the new one.
    pub fn with_source(mut self, name: &str, factory: SourceFactory) -> Self {
        self.sources.insert(name.to_owned(), factory);
        self
    }

    /// With one more sink. A name that is taken now means the new one.
    pub fn with_sink(mut self, name: &str, factory: SinkFactory) -> Self {
        self.sinks.insert(name.to_owned(), factory);
        self
    }

    /// The source of that name, or the sentence that lists those there are.
    pub(crate) fn source(&self, name: &str) -> Result<&SourceFactory, String> {
        self.sources.get(name).ok_or_else(|| unknown(name, &self.sources))
    }

    /// The sink of that name, or the sentence that lists those there are.
    pub(crate) fn sink(&self, name: &str) -> Result<&SinkFactory, String> {
        self.sinks.get(name).ok_or_else(|| unknown(name, &self.sinks))
    }

    /// All sources, by name.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&str, &SourceFactory)> {
        self.sources.iter().map(|(name, factory)| (name.as_str(), factory))
    }

    /// All sinks, by name.
    pub(crate) fn sinks(&self) -> impl Iterator<Item = (&str, &SinkFactory)> {
        self.sinks.iter().map(|(name, factory)| (name.as_str(), factory))
    }
}

fn unknown<T>(name: &str, known: &BTreeMap<String, T>) -> String {
    let names: Vec<_> = known.keys().map(|name| format!("`{name}`")).collect();
    format!("unknown connector `{name}`, expected one of {}", names.join(", "))
}
