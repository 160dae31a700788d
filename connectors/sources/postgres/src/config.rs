use std::{path::PathBuf, time::Duration};

use connector_api::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use source_tailing::{Naming, TablePattern, TlsSettings, UrlParts};

use crate::wire::{SslMode, tls_settings};

/// Settings of the `postgres` source.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresSourceConfig {
    /// Where the database is: `postgres://host:5432/database`. A user and a password may stand in it (`user:password@`, with `%` escapes),
    /// better in `user` and `password`. Parameters: `host` (a folder, for a unix socket), `port`, `sslmode`, `sslrootcert`,
    /// `application_name`.
    pub url: String,
    /// The role to log in as; overrides the one in `url`. It needs the attribute REPLICATION and SELECT on the tables.
    pub user: Option<String>,
    /// The role's password; overrides the one in `url`.
    pub password: Option<Secret>,
    /// The tables to capture: `schema.table`, `table` (which is `public.table`), or patterns in which `*` stands for any text but a
    /// dot (`sales.*`). Names with other characters than letters, digits, `_`, `$` are written in double quotes (`public."a.b"`).
    /// Views, foreign tables and unlogged tables cannot be captured. A table that is added here is snapshotted at the next start.
    pub tables: Vec<String>,
    /// The replication slot.
    #[serde(default)]
    pub slot: SlotConfig,
    /// The publication, which says what the server sends.
    #[serde(default)]
    pub publication: PublicationConfig,
    /// Whether the connection is encrypted; overrides the one in `url`. Default `prefer`. Does not apply to unix sockets.
    pub sslmode: Option<SslMode>,
    /// A PEM file with the certificate authorities to trust; overrides the one in `url`. Default: those of the system.
    pub sslrootcert: Option<PathBuf>,
    /// How the rows that are there already are read.
    #[serde(default)]
    pub snapshot: SnapshotConfig,
    /// How `numeric(p,s)` with p <= 38 arrives. Every other `numeric` is always text, exactly as the server prints it.
    #[serde(default)]
    pub numeric: NumericForm,
    /// How arrays arrive.
    #[serde(default)]
    pub arrays: ArrayForm,
    /// Asks the server for values in binary, where it can (14 and later) and all types allow it. Costs the server less than text; the
    /// values are the same.
    #[serde(default = "yes")]
    pub binary: bool,
}

/// The replication slot: the server's note of how far we have read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotConfig {
    /// Its name, lower-case letters, digits and `_`, at most 63. Default: the pipeline's name, in which `_` is doubled and any other
    /// character becomes `_` and its two hexadecimal digits.
    pub name: Option<String>,
    /// Creates the slot at the first start, and drops it when the pipeline is dropped. If false, it must be there, and stays.
    #[serde(default = "yes")]
    pub create: bool,
}

/// The publication.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublicationConfig {
    /// Its name. Default: the slot's name.
    pub name: Option<String>,
    /// Creates the publication for exactly the tables of this file, keeps it so, and drops it with the pipeline. The role must own the tables
    /// for that. If false, it must be there, and is used as it is.
    #[serde(default = "yes")]
    pub create: bool,
}

/// How the rows that are there already are read.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotConfig {
    /// Connections that read tables at the same time, 1 to 32. Large tables are read in parts by several.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// `initial`: tables that are new to the pipeline are read once, in whole. `never`: only changes from now on.
    #[serde(default)]
    pub mode: SnapshotMode,
}

/// When tables are read in whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotMode {
    /// Once, when they are new to the pipeline.
    #[default]
    Initial,
    /// Never: history before the first start is not there.
    Never,
}

/// How `numeric(p,s)` arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NumericForm {
    /// As a decimal. A `NaN` stops the pipeline, because a decimal cannot hold it.
    #[default]
    Decimal,
    /// As text, exactly as the server prints it, `NaN` included.
    Text,
}

/// How arrays arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArrayForm {
    /// As a list. An array of more than one dimension, or that does not begin at 1, stops the pipeline, because a list cannot hold it.
    #[default]
    List,
    /// As text, exactly as the server prints it.
    Text,
}

fn yes() -> bool {
    true
}

fn default_connections() -> usize {
    2
}

impl Default for SlotConfig {
    fn default() -> Self {
        Self { name: None, create: true }
    }
}

impl Default for PublicationConfig {
    fn default() -> Self {
        Self { name: None, create: true }
    }
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { connections: default_connections(), mode: SnapshotMode::default() }
    }
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A name or address, over TCP.
    Name(String),
    /// The folder of a unix socket.
    Socket(PathBuf),
}

/// Settings that are known to be good.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub host: Host,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<Secret>,
    pub application_name: String,
    pub sslmode: SslMode,
    pub tls: TlsSettings,
    pub tables: Vec<TablePattern>,
    pub slot: SlotConfig,
    pub publication: PublicationConfig,
    pub snapshot: SnapshotConfig,
    pub numeric: NumericForm,
    pub arrays: ArrayForm,
    pub binary: bool,
    /// A busy slot may be ours still, of a connection that the server has not yet seen break: how long to wait for it.
    pub slot_patience: Duration,
}

/// How tables are written in pipeline files.
pub(crate) const NAMING: Naming<'static> = Naming { quote: '"', default_schema: Some("public"), form: "schema.table" };

/// The field and what is wrong with it.
type Wrong = (&'static str, String);

impl Settings {
    /// Checks what the types of the settings cannot.
    pub(crate) fn new(config: PostgresSourceConfig) -> Result<Self, Wrong> {
        let wrong_url = |problem: &str| ("url", format!("{problem}; write it as `postgres://host:5432/database`"));
        let url = UrlParts::parse(&config.url).map_err(|problem| wrong_url(&problem))?;
        if !matches!(url.scheme.as_str(), "postgres" | "postgresql") {
            return Err(wrong_url(&format!("`{}` is no scheme of PostgreSQL", url.scheme)));
        }
        let (mut host, mut port) = (url.host, url.port.unwrap_or(5432));
        let (mut sslmode, mut root_file) = (SslMode::default(), None);
        let mut application_name = "mainstem".to_owned();
        for (name, value) in url.parameters {
            match name.as_str() {
                "host" => host = Some(value),
                "port" => port = value.parse().map_err(|_| wrong_url(&format!("`{value}` is no port")))?,
                "application_name" => application_name = value,
                "sslrootcert" => root_file = Some(PathBuf::from(value)),
                "sslmode" => {
                    sslmode = parse_sslmode(&value).ok_or_else(|| {
                        wrong_url(&format!("`sslmode={value}` is none of disable, prefer, require, verify-ca, verify-full"))
                    })?;
                }
                other => return Err(wrong_url(&format!("the parameter `{other}` is not known"))),
            }
        }
        let host = match host {
            Some(folder) if folder.starts_with('/') => Host::Socket(folder.into()),
            Some(name) => Host::Name(name),
            None => return Err(wrong_url("the host is missing")),
        };
        let database = url.database.ok_or_else(|| wrong_url("the database is missing"))?;
        let user = config.user.filter(|user| !user.is_empty()).or(url.user);
        let user = user.ok_or_else(|| ("user", "it is missing: the role to log in as".to_owned()))?;
        let password = config.password.or(url.password.map(Secret::new));
        if config.tables.is_empty() {
            return Err(("tables", "no table is named; write `schema.table` or a pattern such as `public.*`".to_owned()));
        }
        let tables = config
            .tables
            .iter()
            .map(|text| TablePattern::parse(text, NAMING))
            .collect::<Result<_, _>>()
            .map_err(|problem| ("tables", problem))?;
        if !(1..=32).contains(&config.snapshot.connections) {
            return Err(("snapshot.connections", format!("{} is not between 1 and 32", config.snapshot.connections)));
        }
        if let Some(name) = &config.slot.name {
            let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if name.is_empty() || name.len() > 63 || !name.chars().all(good) {
                return Err(("slot.name", format!("`{name}` is no name of a slot: up to 63 of a-z, 0-9 and _")));
            }
        }
        if config.publication.name.as_ref().is_some_and(|name| name.is_empty() || name.len() > 63) {
            return Err(("publication.name", "a publication's name has 1 to 63 bytes".to_owned()));
        }
        let sslmode = config.sslmode.unwrap_or(sslmode);
        Ok(Self {
            host,
            port,
            database,
            user,
            password,
            application_name,
            sslmode,
            tls: tls_settings(sslmode, config.sslrootcert.or(root_file)),
            tables,
            slot: config.slot,
            publication: config.publication,
            snapshot: config.snapshot,
            numeric: config.numeric,
            arrays: config.arrays,
            binary: config.binary,
            slot_patience: Duration::from_secs(10),
        })
    }

    /// The server for messages.
    pub(crate) fn address(&self) -> String {
        match &self.host {
            Host::Name(name) => format!("{name}:{}", self.port),
            Host::Socket(folder) => format!("{} (port {})", folder.display(), self.port),
        }
    }
}

fn parse_sslmode(text: &str) -> Option<SslMode> {
    [SslMode::Disable, SslMode::Allow, SslMode::Prefer, SslMode::Require, SslMode::VerifyCa, SslMode::VerifyFull]
        .into_iter()
        .find(|mode| mode.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> PostgresSourceConfig {
        serde_json::from_value(serde_json::json!({ "url": url, "tables": ["public.*"] })).unwrap()
    }

    fn problem(url: &str) -> String {
        Settings::new(config(url)).err().map(|(field, problem)| format!("{field}: {problem}")).unwrap_or_default()
    }

    #[test]
    fn urls_are_read_as_libpq_does() {
        let settings =
            Settings::new(config("postgres://a%40b:p%25@db.internal:6000/my%20db?sslmode=verify-full&application_name=x")).unwrap();
        assert_eq!((settings.user.as_str(), settings.database.as_str(), settings.port), ("a@b", "my db", 6000));
        assert_eq!(settings.password.unwrap().expose(), "p%");
        assert_eq!(settings.sslmode, SslMode::VerifyFull);
        let socket = Settings::new(config("postgresql://u@/db?host=/run/pg&port=5433")).unwrap();
        assert_eq!((socket.host, socket.port), (Host::Socket("/run/pg".into()), 5433));
        assert_eq!(Settings::new(config("postgres://u@[::1]/db")).unwrap().host, Host::Name("::1".to_owned()));
        assert_eq!(Settings::new(config("postgres://u@%2Frun%2Fpg/db")).unwrap().host, Host::Socket("/run/pg".into()));
    }

    #[test]
    fn wrong_settings_name_the_field_and_what_is_right() {
        for (url, expected) in [
            ("nonsense", "url: this is no URL"),
            ("mysql://u@h/d", "url: `mysql` is no scheme"),
            ("postgres://u@h", "url: the database is missing"),
            ("postgres://u@/d", "url: the host is missing"),
            ("postgres://h/d", "user: it is missing"),
            ("postgres://u@h/d?sslmode=on", "url: `sslmode=on` is none of"),
            ("postgres://u@h/d?colour=red", "url: the parameter `colour` is not known"),
            ("postgres://u@h/d%zz", "url: an escape"),
        ] {
            assert!(problem(url).starts_with(expected), "{url}: {}", problem(url));
        }
        let mut wrong = config("postgres://u@h/d");
        wrong.slot.name = Some("Shop".to_owned());
        assert_eq!(Settings::new(wrong).err().unwrap().0, "slot.name");
    }
}
