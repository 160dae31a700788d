use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    Database, MINUTE, Mainstem, PgServer, Pipeline, Run, compare_parquet_folds, compare_warehouse, run_command, table,
    wait_until_for,
};

/// One test's own databases and folders: a source, a warehouse on the same server, a folder for Parquet files, and a data directory.
#[derive(Debug)]
pub struct Scenario {
    /// The test's name: that of the pipeline and of its slot too.
    pub name: String,
    /// The database that changes come from.
    pub source: Database,
    /// The database that changes go to.
    pub warehouse: Database,
    dir: TempDir,
    data_dir: PathBuf,
    tables: Vec<(String, String)>,
}

impl Scenario {
    /// Databases on the shared server. `name` has to be that of the test, lower-case, as slots are named after it.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        Self::on(PgServer::shared(), name)
    }

    /// Databases on a server of the test's own.
    #[track_caller]
    pub fn on(server: &PgServer, name: &str) -> Self {
        let source = server.create_database(name);
        let warehouse = server.create_database(&format!("{name}_dw"));
        let dir = tempfile::Builder::new().prefix("mainstem-test-").tempdir().expect("temporary folder");
        let data_dir = dir.path().join("data");
        Self { name: name.to_owned(), source, warehouse, dir, data_dir, tables: Vec::new() }
    }

    /// Runs statements in the source and remembers which tables of schema `public` the pipeline replicates.
    #[track_caller]
    pub fn setup(mut self, tables: &[&str], sql: &str) -> Self {
        self.source.exec(sql);
        self.tables.extend(tables.iter().map(|table| ("public".to_owned(), (*table).to_owned())));
        self
    }

    /// A folder of the test's own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The data directory of the log.
    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone()
    }

    /// With the log in another folder.
    pub fn with_data_dir(mut self, data_dir: PathBuf) -> Self {
        self.data_dir = data_dir;
        self
    }

    /// In the same data directory as another pipeline.
    pub fn beside(mut self, other: &Self) -> Self {
        self.data_dir = other.data_dir();
        self
    }

    /// The folder of the Parquet files.
    pub fn lake(&self) -> PathBuf {
        self.dir.path().join("lake")
    }

    /// The source's tables into Parquet files (sink `lake`) and into the warehouse (sink `warehouse`).
    pub fn pipeline(&self) -> Pipeline {
        self.bare_pipeline().files("lake", &self.lake()).upsert("warehouse", &self.warehouse.url())
    }

    /// The source's tables into the log, without sinks.
    pub fn bare_pipeline(&self) -> Pipeline {
        let tables: Vec<String> = self.tables.iter().map(|(schema, name)| format!("{schema}.{name}")).collect();
        let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
        Pipeline::postgres(&self.name, &self.source.url(), &tables)
    }

    /// How to run that pipeline.
    pub fn run(&self, pipeline: &Pipeline) -> Run {
        Run::new(&self.data_dir()).file(pipeline.write(self.dir()))
    }

    /// The topic of a table in schema `public`.
    pub fn topic(&self, table: &str) -> String {
        format!("{}.public.{table}", self.name)
    }

    /// Waits until everything that the source has committed by now is in the log (its slot has been told so), and until every sink of
    /// the pipeline has taken what is in the log.
    #[track_caller]
    pub fn wait_until_drained(&self, mainstem: &mut Mainstem) {
        self.wait_until_in_log(mainstem);
        wait_until_for(3 * MINUTE, &format!("the sinks have taken everything; status: {}", mainstem.pipeline(&self.name)), || {
            assert!(!mainstem.has_ended(), "mainstem ended:\n{}", mainstem.log());
            let pipeline = mainstem.pipeline(&self.name);
            let sinks = pipeline["sinks"].as_array().cloned().unwrap_or_default();
            let done = pipeline["state"] == "running" && !sinks.is_empty() && sinks.iter().all(|sink| sink["lag_records"] == 0);
            // A sink that has not opened a topic yet does not lag in it.
            done && self.topics_in_log().is_some_and(|topics| sinks.iter().all(|sink| sink["topics"].as_u64() >= Some(topics)))
        });
    }

    /// How many topics the pipeline has in the log that ever got records; retention may have removed them again.
    fn topics_in_log(&self) -> Option<u64> {
        let data = self.data_dir();
        let output = run_command(["topics".as_ref(), "--json".as_ref(), "--data-dir".as_ref(), data.as_os_str()]);
        let topics: Vec<Value> = serde_json::from_str(&output.stdout).ok()?;
        // A topic is made a moment before its first records are committed: until then it says nothing of what was read.
        let is_filled =
            |topic: &Value| topic["end_offsets"].as_array().is_some_and(|ends| ends.iter().any(|end| end.as_i64() > Some(0)));
        let filled = topics.iter().filter(|topic| topic["pipeline"] == self.name.as_str() && is_filled(topic));
        Some(filled.count() as u64)
    }

    /// Waits until everything that the source has committed by now is in the log, snapshots too.
    #[track_caller]
    pub fn wait_until_in_log(&self, mainstem: &mut Mainstem) {
        let end = self.source.wal_end();
        let filled: Vec<_> =
            self.tables.iter().map(|(schema, name)| format!("EXISTS (SELECT FROM {schema}.{name})::int")).collect();
        let topics = if filled.is_empty() { 0 } else { self.source.number(&format!("SELECT {}", filled.join(" + "))) as u64 };
        wait_until_for(3 * MINUTE, "the slot is confirmed up to the source's end, and all tables are read", || {
            assert!(!mainstem.has_ended(), "mainstem ended:\n{}", mainstem.log());
            let reading = mainstem.has_logged("\"reading tables\"") && !mainstem.has_logged("\"all tables are read\"");
            !reading && self.source.confirmed().is_some_and(|confirmed| confirmed >= end) && self.topics_in_log() >= Some(topics)
        });
    }

    /// Fails unless source, warehouse and folded Parquet files are equal for every table.
    #[track_caller]
    pub fn assert_equal(&self) {
        self.assert_warehouse_equal();
        self.assert_lake_equal();
    }

    /// Fails unless source and warehouse are equal for every table.
    #[track_caller]
    pub fn assert_warehouse_equal(&self) {
        for (schema, name) in &self.tables {
            compare_warehouse(&table(&self.source, schema, name), &self.source, &self.warehouse);
        }
    }

    /// Fails unless source and folded Parquet files are equal for every table.
    #[track_caller]
    pub fn assert_lake_equal(&self) {
        for (schema, name) in &self.tables {
            let topic = format!("{}.{schema}.{name}", self.name);
            compare_parquet_folds(&table(&self.source, schema, name), &self.source, &self.lake(), &topic);
        }
    }
}
