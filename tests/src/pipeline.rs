use std::{
    fs,
    path::{Path, PathBuf},
};

/// A pipeline file in the making. What it writes is what a user would write.
#[derive(Debug, Clone)]
pub struct Pipeline {
    name: String,
    connector: &'static str,
    source: String,
    log: String,
    sinks: Vec<(String, String)>,
}

impl Pipeline {
    /// A pipeline that reads the given tables of a PostgreSQL at `url` as the user `postgres`.
    pub fn postgres(name: &str, url: &str, tables: &[&str]) -> Self {
        let source = format!("url: \"{url}\", user: postgres, tables: [{}]", quoted(tables));
        Self { name: name.to_owned(), connector: "postgres", source, log: String::new(), sinks: Vec::new() }
    }

    /// A pipeline that reads the given tables of a MySQL or MariaDB at `url` as the user `root`.
    pub fn mysql(name: &str, url: &str, tables: &[&str]) -> Self {
        let source = format!("url: \"{url}\", user: root, tables: [{}]", quoted(tables));
        Self { name: name.to_owned(), connector: "mysql", source, log: String::new(), sinks: Vec::new() }
    }

    /// With more settings of the source, in YAML's flow style: `slot: { name: x }`.
    pub fn source(mut self, settings: &str) -> Self {
        self.source = format!("{}, {settings}", self.source);
        self
    }

    /// With settings of the log, in YAML's flow style: `partitions: 4, format: json`.
    pub fn log(mut self, settings: &str) -> Self {
        self.log = settings.to_owned();
        self
    }

    /// With a sink; the text is its connector and settings in YAML's flow style: `files: { url: … }`. One of that name is replaced.
    pub fn sink(mut self, name: &str, text: &str) -> Self {
        self.sinks.retain(|(other, _)| other != name);
        self.sinks.push((name.to_owned(), text.to_owned()));
        self
    }

    /// With Parquet files in a folder, written every second.
    pub fn files(self, name: &str, dir: &Path) -> Self {
        self.sink(name, &format!("files: {{ url: \"file://{}\", roll: {{ age: 1s }} }}", dir.display()))
    }

    /// With tables in a database at `url`, in mode `upsert`.
    pub fn upsert(self, name: &str, url: &str) -> Self {
        let user = match url.split(':').next() {
            Some("postgres") => ", user: postgres",
            Some("mysql" | "mariadb") => ", user: root",
            _ => "",
        };
        self.sink(name, &format!("jdbc: {{ url: \"{url}\"{user}, mode: upsert }}"))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let mut text = format!("name: {}\nsource:\n  {}: {{ {} }}\n", self.name, self.connector, self.source);
        if !self.log.is_empty() {
            text += &format!("log: {{ {} }}\n", self.log);
        }
        if !self.sinks.is_empty() {
            text += "sinks:\n";
        }
        for (name, settings) in &self.sinks {
            text += &format!("  {name}:\n    {settings}\n");
        }
        text
    }

    /// Writes `<name>.yaml` into a folder and returns its path.
    pub fn write(&self, dir: &Path) -> PathBuf {
        let path = dir.join(format!("{}.yaml", self.name));
        fs::write(&path, self.text()).expect("pipeline file");
        path
    }
}

fn quoted(names: &[&str]) -> String {
    // JSON's strings are YAML's double-quoted ones.
    names.iter().map(|name| serde_json::Value::from(*name).to_string()).collect::<Vec<_>>().join(", ")
}
