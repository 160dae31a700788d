use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use connector_api::{
    ConnectorError, Document, NextOffsets, OpenedSink, SinkConnector, SinkContext, TableName, TableSchema, Target, TopicId,
    TopicInfo,
};
use rusqlite::types::Value;
use sink_jdbc::JdbcSink;
use test_servers::PgServer;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::postgres_server::{client, postgres_server};

/// An empty target database.
pub enum Database {
    Postgres { server: &'static PgServer, name: String, client: Client },
    Sqlite { folder: tempfile::TempDir },
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Database {
    pub async fn postgres() -> Self {
        let server = postgres_server();
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        client("postgres").await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let client = client(&name).await;
        Self::Postgres { server, name, client }
    }

    pub fn sqlite() -> Self {
        Self::Sqlite { folder: tempfile::tempdir().unwrap() }
    }

    /// One of each.
    pub async fn each() -> [Self; 2] {
        [Self::sqlite(), Self::postgres().await]
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    pub fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite { folder } => folder.path().join("target.db"),
            Self::Postgres { .. } => panic!("no file"),
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Postgres { server, name, .. } => format!("jdbc:postgresql://127.0.0.1:{}/{name}?user=postgres", server.port()),
            Self::Sqlite { .. } => format!("jdbc:sqlite:{}", self.path().display()),
        }
    }

    /// The sink, with settings in YAML's flow form beside the URL.
    pub fn connector(&self, settings: &str) -> Arc<dyn SinkConnector> {
        connector(&format!("{{ url: \"{}\", {settings} }}", self.url()))
    }

    pub async fn target(&self, settings: &str) -> Arc<dyn Target> {
        self.connector(settings).connect(context()).await.unwrap()
    }

    /// A sink of its own connection, as a run of the runtime after another has it.
    pub async fn open(&self, settings: &str, schema: &Arc<TableSchema>, partitions: i32) -> OpenedSink {
        self.target(settings).await.open(&topic(schema, partitions), &NextOffsets::new()).await.unwrap()
    }

    pub async fn try_open(&self, topic: &TopicInfo, reported: &NextOffsets) -> Result<OpenedSink, ConnectorError> {
        self.target("").await.open(topic, reported).await
    }

    pub async fn run(&self, sql: &str) {
        match self {
            Self::Postgres { client, .. } => client.batch_execute(sql).await.unwrap(),
            Self::Sqlite { .. } => rusqlite::Connection::open(self.path()).unwrap().execute_batch(sql).unwrap(),
        }
    }

    /// The rows of a query as text, NULL as `None`.
    pub async fn query(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        match self {
            Self::Postgres { client, .. } => {
                let mut rows = Vec::new();
                for message in client.simple_query(sql).await.unwrap() {
                    if let SimpleQueryMessage::Row(row) = message {
                        rows.push((0..row.len()).map(|index| row.get(index).map(str::to_owned)).collect());
                    }
                }
                rows
            }
            Self::Sqlite { .. } => {
                let connection = rusqlite::Connection::open(self.path()).unwrap();
                let mut statement = connection.prepare(sql).unwrap();
                let columns = statement.column_count();
                let rows = statement.query_map([], |row| (0..columns).map(|index| Ok(shown(row.get(index)?))).collect()).unwrap();
                rows.collect::<Result<_, _>>().unwrap()
            }
        }
    }

    /// The rows of a query, the values of each joined by `|`, NULL as `-`.
    pub async fn lines(&self, sql: &str) -> Vec<String> {
        let rows = self.query(sql).await;
        rows.into_iter().map(|row| row.into_iter().map(|value| value.unwrap_or("-".into())).collect::<Vec<_>>().join("|")).collect()
    }

    /// The name of a table of the schema `public`, and where its offset rows are.
    pub fn offsets(&self) -> &'static str {
        if self.is_postgres() { "public.mainstem_offsets" } else { "mainstem_offsets" }
    }
}

fn shown(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Integer(value) => Some(value.to_string()),
        Value::Real(value) => Some(format!("{value:?}")),
        Value::Text(value) => Some(value),
        Value::Blob(value) => Some(format!("\\x{}", value.iter().map(|byte| format!("{byte:02x}")).collect::<String>())),
    }
}

pub fn connector(yaml: &str) -> Arc<dyn SinkConnector> {
    try_connector(yaml).unwrap()
}

pub fn try_connector(yaml: &str) -> Result<Arc<dyn SinkConnector>, String> {
    let document = Document { file: "p.yaml".into(), text: yaml.into(), variables: HashMap::new() };
    JdbcSink::factory().make(&document, &[]).map_err(|error| error.to_string())
}

pub fn context() -> SinkContext {
    SinkContext { pipeline: "shop".into(), sink: "warehouse".into(), writer: "w".into(), scratch: std::env::temp_dir() }
}

pub fn topic(schema: &Arc<TableSchema>, partitions: i32) -> TopicInfo {
    let TableName { schema: namespace, name } = schema.table();
    TopicInfo { id: TopicId([7; 16]), name: format!("shop.{namespace}.{name}"), partitions, schema: Arc::clone(schema) }
}
