//! Pipelines of this source over a log in memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use connector_api::SourceConnector;
pub use log_model::{Change, NULL, Pipeline, Running, UNCHANGED};
use serde_json::{Value, json};
use source_mysql::MySqlSource;
use test_servers::{Flavor, MySqlDatabase, MySqlServer};

static DATABASES: AtomicU32 = AtomicU32::new(0);

/// A new database on the server that all tests share.
pub fn database(flavor: Flavor) -> MySqlDatabase {
    database_on(MySqlServer::shared(flavor))
}

/// A new database on a server.
pub fn database_on(server: &MySqlServer) -> MySqlDatabase {
    server.create_database(&format!("db{}", DATABASES.fetch_add(1, Ordering::Relaxed)))
}

pub fn connector(settings: &Value) -> Result<Arc<dyn SourceConnector>, String> {
    log_model::connector(&MySqlSource::factory(), settings)
}

/// A pipeline of that database's name over some of its tables. `extra` has further settings.
pub fn pipeline_of(database: &MySqlDatabase, tables: &[&str], extra: Value) -> Pipeline {
    let mut settings = json!({ "url": database.url(), "user": "root", "tables": tables });
    settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    Pipeline::new(database.name(), connector(&settings).unwrap())
}

/// Takes groups until the condition holds.
pub async fn follow(pipeline: &mut Pipeline, running: &mut Running, what: &str, holds: impl Fn(&Pipeline) -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds(pipeline) {
        assert!(Instant::now() < until, "waited in vain for {what}");
        let next = tokio::time::timeout(Duration::from_millis(200), running.source.next()).await;
        if let Ok(group) = next {
            pipeline.commit(group.unwrap().expect("a source that goes on"));
        }
    }
}

/// The table as the server has it, columns apart by `|`, sorted lines.
pub fn table_text(database: &MySqlDatabase, table: &str, columns: &[&str]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| format!("coalesce({column}, 'NULL')")).collect();
    let text = database.query(&format!("select concat_ws('|', {}) from {table}", columns.join(", ")));
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}
