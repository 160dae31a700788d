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
use mysql_async::{Conn, Opts, Row, consts::ColumnType, prelude::Queryable};
use rusqlite::types::Value;
use sink_jdbc::JdbcSink;
use test_servers::{Flavor, MySqlServer, PgServer};
use tokio::sync::Mutex;
use tokio_postgres::{Client, SimpleQueryMessage};

use crate::postgres_server::{client, postgres_server};

/// An empty target database.
pub enum Database {
    Postgres { server: &'static PgServer, name: String, client: Client },
    MySql { server: &'static MySqlServer, name: String, conn: Mutex<Conn> },
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

    pub async fn mysql(flavor: Flavor) -> Self {
        let server = tokio::task::spawn_blocking(move || MySqlServer::shared(flavor)).await.unwrap();
        Self::mysql_on(server).await
    }

    /// A database of that server. Our own statements on it have SQL's standard quotes.
    pub async fn mysql_on(server: &'static MySqlServer) -> Self {
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut conn = Conn::new(Opts::from_url(&format!("mysql://root@127.0.0.1:{}", server.port())).unwrap()).await.unwrap();
        let session = "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT', time_zone = '+00:00', autocommit = 1, completion_type = 'NO_CHAIN'";
        conn.query_drop(format!("CREATE DATABASE {name}; USE {name}; {session}")).await.unwrap();
        Self::MySql { server, name, conn: Mutex::new(conn) }
    }

    /// Both of MySQL's dialects.
    pub async fn each_mysql() -> [Self; 2] {
        [Self::mysql(Flavor::MySql).await, Self::mysql(Flavor::MariaDb).await]
    }

    /// One of each.
    pub async fn each() -> [Self; 4] {
        let [mysql, mariadb] = Self::each_mysql().await;
        [Self::sqlite(), Self::postgres().await, mysql, mariadb]
    }

    pub fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres { .. })
    }

    pub fn is_mysql(&self) -> bool {
        matches!(self, Self::MySql { .. })
    }

    /// What this database calls itself in a failed test.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Postgres { .. } => "postgres",
            Self::MySql { server, .. } => server.flavor().name(),
            Self::Sqlite { .. } => "sqlite",
        }
    }

    pub fn path(&self) -> PathBuf {
        match self {
            Self::Sqlite { folder } => folder.path().join("target.db"),
            Self::Postgres { .. } | Self::MySql { .. } => panic!("no file"),
        }
    }

    pub fn url(&self) -> String {
        match self {
            Self::Postgres { server, name, .. } => format!("jdbc:postgresql://127.0.0.1:{}/{name}?user=postgres", server.port()),
            Self::MySql { server, name, .. } => {
                format!("jdbc:{}://root@127.0.0.1:{}/{name}", server.flavor().name(), server.port())
            }
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
            Self::MySql { conn, .. } => conn.lock().await.query_drop(sql).await.unwrap(),
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
            Self::MySql { conn, .. } => {
                let rows: Vec<Row> = conn.lock().await.query(sql).await.unwrap();
                rows.iter().map(|row| (0..row.len()).map(|index| shown_by_mysql(row, index)).collect()).collect()
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

    /// The offset rows of tables of the schema `public`.
    pub fn offsets(&self) -> &'static str {
        if self.is_postgres() { "public.mainstem_offsets" } else { "mainstem_offsets" }
    }
}

/// A table's name as our messages have it.
pub fn quoted(database: &Database, name: &str) -> String {
    if database.is_mysql() { format!("`{name}`") } else { format!("\"{name}\"") }
}

fn hex(bytes: &[u8]) -> String {
    format!("\\x{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

fn shown_by_mysql(row: &Row, index: usize) -> Option<String> {
    let mysql_async::Value::Bytes(bytes) = row.as_ref(index).unwrap() else { return None };
    let column = &row.columns_ref()[index];
    let strings = [ColumnType::MYSQL_TYPE_BLOB, ColumnType::MYSQL_TYPE_VAR_STRING, ColumnType::MYSQL_TYPE_STRING];
    // Character set 63 is `binary`.
    let is_binary = column.character_set() == 63 && strings.contains(&column.column_type());
    Some(if is_binary { hex(bytes) } else { String::from_utf8(bytes.clone()).unwrap() })
}

fn shown(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Integer(value) => Some(value.to_string()),
        Value::Real(value) => Some(format!("{value:?}")),
        Value::Text(value) => Some(value),
        Value::Blob(value) => Some(hex(&value)),
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
