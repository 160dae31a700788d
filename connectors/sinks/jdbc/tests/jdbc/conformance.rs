//! What every sink promises, on each database.
use std::sync::Arc;

use connector_api::{
    Target, TopicInfo,
    conformance::{Fixture, Table},
};

use test_servers::Flavor;

use crate::database::Database;

#[async_trait::async_trait]
impl Fixture for Database {
    async fn connect(&self) -> Arc<dyn Target> {
        self.target("").await
    }

    async fn table(&self, topic: &TopicInfo) -> Table {
        let schema = &topic.schema;
        let extra = if schema.columns().iter().any(|column| column.name == "extra") { "extra" } else { "NULL" };
        let rows = self.query(&format!("SELECT id, name, {extra} FROM {}", schema.table().name)).await;
        let row = |row: Vec<Option<String>>| {
            let [id, name, extra] = row.try_into().unwrap();
            (id.unwrap().parse().unwrap(), (name, extra.map(|extra| extra.parse().unwrap())))
        };
        rows.into_iter().map(row).collect()
    }
}

#[tokio::test]
async fn sqlite_keeps_what_every_sink_promises() {
    connector_api::conformance::run(&Database::sqlite()).await;
}

#[tokio::test]
async fn postgres_keeps_what_every_sink_promises() {
    connector_api::conformance::run(&Database::postgres().await).await;
}

#[tokio::test]
async fn mysql_keeps_what_every_sink_promises() {
    connector_api::conformance::run(&Database::mysql(Flavor::MySql).await).await;
}

#[tokio::test]
async fn mariadb_keeps_what_every_sink_promises() {
    connector_api::conformance::run(&Database::mysql(Flavor::MariaDb).await).await;
}
