use std::{path::PathBuf, str::FromStr, time::Duration};

use connector_api::{ByteSize, FlushPolicy, Secret, Span};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::url::{Address, JdbcUrl, MySqlAddress, PostgresAddress};

/// Settings of the `jdbc` sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JdbcSinkConfig {
    /// The target database: `jdbc:postgresql://host:port/database`, `jdbc:mysql://…`, `jdbc:mariadb://…` or `jdbc:sqlite:/path`, with or without
    /// `jdbc:`. After `?` may follow, for PostgreSQL, `user`, `password`, `host` (a directory for a unix socket), `port`, `sslmode`, `sslrootcert` and
    /// `currentSchema`; for MySQL and MariaDB `user`, `password`, `sslMode`, `useSSL`, `serverSslCert`, `localSocket` (a unix socket),
    /// `allowLoadLocalInfile` and `allowPublicKeyRetrieval`.
    pub url: JdbcUrl,
    /// The user to log in as. Wins over one in `url`. Default: `postgres` for PostgreSQL, `root` for MySQL. SQLite has no users.
    pub user: Option<String>,
    /// The password. Wins over one in `url`.
    pub password: Option<Secret>,
    /// `upsert` keeps each table equal to its source; `append` keeps every change as a row of its own.
    #[serde(default)]
    pub mode: Mode,
    /// The schema that the tables go to, created if it is missing; for MySQL that is the database, and wins over the one in `url`. Default: the
    /// schema they have at the source. SQLite has no schemas: there a table of the schema `public` keeps its name, and others are called `schema.table`.
    pub schema: Option<String>,
    /// How much is written in one transaction.
    #[serde(default)]
    pub batch: BatchConfig,
    /// How the connection is encrypted. Wins over `sslmode` (MySQL: `sslMode`) in `url`. Default: `prefer`.
    pub sslmode: Option<SslMode>,
    /// A file of PEM certificates of the authorities to trust. Wins over `sslrootcert` (MySQL: `serverSslCert`) in `url`. Default: those of the system.
    pub ca: Option<PathBuf>,
    /// The largest number of connections that all tables of the sink share, from 1 to 100. SQLite has one writer anyway.
    #[serde(default = "default_connections")]
    pub connections: u32,
}

fn default_connections() -> u32 {
    4
}

/// What a table of the target holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The source's rows: changes are merged by key. Needs a key.
    #[default]
    Upsert,
    /// One row for each change, with `_op`, `_sequence`, `_ordinal` and more beside the row's columns.
    Append,
}

/// When changes that wait are written. The first limit that is reached counts.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// The most rows in one transaction, at least 1. Default: 50000 for SQLite, whose transactions are the dearer part, and for `append`, else 10000.
    pub rows: Option<u64>,
    /// The most bytes in one transaction, at least `64KiB`. A single row may be larger.
    #[serde(default = "default_batch_bytes")]
    pub bytes: ByteSize,
    /// How long a change may wait for others to join its transaction. `0s` writes at once; under load batches fill up by themselves.
    #[serde(default = "default_batch_age")]
    pub age: Span,
}

fn default_batch_bytes() -> ByteSize {
    ByteSize(16 << 20)
}

fn default_batch_age() -> Span {
    Span(Duration::ZERO)
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { rows: None, bytes: default_batch_bytes(), age: default_batch_age() }
    }
}

/// How a connection is encrypted, and what of the server's certificate is checked. The words mean what they mean to `psql`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// Not encrypted.
    Disable,
    /// Encrypted if the server can, without a check of its certificate.
    Prefer,
    /// Encrypted, without a check of the certificate; with `ca`, like `verify-ca`.
    Require,
    /// Encrypted, with a certificate of a trusted authority, whatever name it is for.
    VerifyCa,
    /// Encrypted, with a certificate of a trusted authority for the host's name.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            other => {
                return Err(format!(
                    "`{other}` is no sslmode, expected one of `disable`, `prefer`, `require`, `verify-ca`, `verify-full`"
                ));
            }
        })
    }
}

/// Settings that are known to be good.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub mode: Mode,
    pub policy: FlushPolicy,
    pub database: Database,
}

/// Where to write.
#[derive(Debug, Clone)]
pub(crate) enum Database {
    Postgres(PostgresSettings),
    MySql(MySqlSettings),
    Sqlite(PathBuf),
}

/// How to reach a PostgreSQL server.
#[derive(Debug, Clone)]
pub(crate) struct PostgresSettings {
    pub host: String,
    pub port: u16,
    pub database: String,
    pub user: String,
    pub password: Option<Secret>,
    pub sslmode: SslMode,
    pub ca: Option<PathBuf>,
    pub schema: Option<String>,
    pub connections: usize,
}

impl PostgresSettings {
    /// The server and database, for messages.
    pub(crate) fn address(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }
}

/// How to reach a MySQL or MariaDB server.
#[derive(Debug, Clone)]
pub(crate) struct MySqlSettings {
    /// Where it is; user, password, TLS and database are those below.
    pub address: MySqlAddress,
    pub user: String,
    pub password: Option<Secret>,
    pub sslmode: SslMode,
    pub ca: Option<PathBuf>,
    /// The database that all tables go to.
    pub database: Option<String>,
    pub connections: usize,
}

/// The rows of a transaction by default. A server's merges gain nothing from more; SQLite's are 1.5 times as fast at 50,000 as at 10,000, and
/// where rows are only appended, little is waited for but the sync of the commit.
const ROWS_SERVER: u64 = 10_000;
const ROWS_LARGE: u64 = 50_000;

impl JdbcSinkConfig {
    /// Checks what the types cannot. An error names the field, what is wrong, and what would be right.
    pub(crate) fn resolve(self) -> Result<Settings, (&'static str, String)> {
        let rows_default = match &self.url.0 {
            Address::Postgres(_) | Address::MySql(_) if self.mode == Mode::Upsert => ROWS_SERVER,
            _ => ROWS_LARGE,
        };
        let rows = self.batch.rows.unwrap_or(rows_default);
        if rows == 0 {
            return Err(("batch.rows", "0 rows would never be written: write at least 1".into()));
        }
        if self.batch.bytes < ByteSize(64 << 10) {
            return Err(("batch.bytes", format!("`{}` is too little for a transaction: write at least `64KiB`", self.batch.bytes)));
        }
        let policy = FlushPolicy { bytes: self.batch.bytes.0, rows, age: self.batch.age.0 };
        let mode = self.mode;
        let database = match self.url.0.clone() {
            Address::Postgres(address) => Database::Postgres(self.postgres(address)?),
            Address::MySql(address) => Database::MySql(self.mysql(address)?),
            Address::Sqlite(path) => Database::Sqlite(self.sqlite(path)?),
        };
        Ok(Settings { mode, policy, database })
    }

    /// Checks what is the same for all servers: the settings themselves, the schema, and the way the connection is encrypted.
    fn server(&self, schema: Option<&str>, unix: bool, sslmode: SslMode) -> Result<(), (&'static str, String)> {
        if !(1..=100).contains(&self.connections) {
            return Err(("connections", format!("{} is out of range: write a number from 1 to 100", self.connections)));
        }
        if schema.is_some_and(|schema| schema.is_empty() || schema.contains('\0')) {
            return Err(("schema", "a schema needs a name".into()));
        }
        if unix && matches!(sslmode, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) {
            let message = "a unix socket is not encrypted: write `sslmode: disable`, or connect to a host by name";
            return Err(("sslmode", message.into()));
        }
        Ok(())
    }

    fn postgres(mut self, address: PostgresAddress) -> Result<PostgresSettings, (&'static str, String)> {
        let schema = self.schema.take().or(address.schema);
        let sslmode = self.sslmode.or(address.sslmode).unwrap_or(SslMode::Prefer);
        self.server(schema.as_deref(), address.host.starts_with('/'), sslmode)?;
        let user = self.user.or(address.user).unwrap_or_else(|| "postgres".into());
        Ok(PostgresSettings {
            host: address.host,
            port: address.port,
            database: if address.database.is_empty() { user.clone() } else { address.database },
            user,
            password: self.password.or(address.password),
            sslmode,
            ca: self.ca.or(address.ca),
            schema,
            connections: self.connections as usize,
        })
    }

    fn mysql(mut self, mut address: MySqlAddress) -> Result<MySqlSettings, (&'static str, String)> {
        let database = self.schema.take().or(address.database.take());
        let sslmode = self.sslmode.or(address.sslmode).unwrap_or(SslMode::Prefer);
        self.server(database.as_deref(), address.socket.is_some(), sslmode)?;
        Ok(MySqlSettings {
            user: self.user.or(address.user.take()).unwrap_or_else(|| "root".into()),
            password: self.password.or(address.password.take()),
            sslmode,
            ca: self.ca.or(address.ca.take()),
            database,
            connections: self.connections as usize,
            address,
        })
    }

    fn sqlite(self, path: PathBuf) -> Result<PathBuf, (&'static str, String)> {
        let unused = [
            ("user", self.user.is_some()),
            ("password", self.password.is_some()),
            ("schema", self.schema.is_some()),
            ("sslmode", self.sslmode.is_some()),
            ("ca", self.ca.is_some()),
        ];
        match unused.into_iter().find(|(_, set)| *set) {
            Some((field, _)) => Err((field, format!("SQLite has no `{field}`: remove it"))),
            None => Ok(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use connector_api::{Document, parse_at};

    use super::*;

    fn resolve(yaml: &str) -> Result<Settings, String> {
        let document = Document { file: "p.yaml".into(), text: yaml.into(), variables: HashMap::new() };
        let config: JdbcSinkConfig = parse_at(&document, &[]).map_err(|error| error.to_string())?;
        config.resolve().map_err(|(field, message)| format!("{field}: {message}"))
    }

    #[test]
    fn defaults_differ_by_database() {
        let postgres = resolve("{ url: 'postgres://h/db' }").unwrap();
        assert_eq!((postgres.policy.rows, postgres.policy.age, postgres.mode), (10_000, Duration::ZERO, Mode::Upsert));
        assert_eq!(resolve("{ url: 'sqlite:/x' }").unwrap().policy.rows, 50_000);
    }

    #[test]
    fn fields_win_over_the_url() {
        let yaml = "{ url: 'postgres://a:b@h/db?sslmode=disable', user: c, password: d, sslmode: require }";
        let Database::Postgres(settings) = resolve(yaml).unwrap().database else { panic!() };
        assert_eq!((settings.user.as_str(), settings.sslmode), ("c", SslMode::Require));
        assert_eq!(settings.password.unwrap().expose(), "d");
    }

    #[test]
    fn a_schema_is_mysqls_database() {
        let database = |yaml: &str| match resolve(yaml).unwrap().database {
            Database::MySql(settings) => (settings.database, settings.user),
            other => panic!("{other:?}"),
        };
        assert_eq!(database("{ url: 'jdbc:mysql://u@h/db' }"), (Some("db".into()), "u".into()));
        assert_eq!(database("{ url: 'jdbc:mysql://h/db', schema: dw }"), (Some("dw".into()), "root".into()));
        assert_eq!(database("{ url: 'jdbc:mariadb://h', user: v }"), (None, "v".into()));
    }

    #[test]
    fn mistakes_name_their_field() {
        for (yaml, says) in [
            ("{ url: 'sqlite:/x', user: a }", "user: SQLite has no `user`"),
            ("{ url: 'postgres://h/db', batch: { rows: 0 } }", "batch.rows: 0 rows"),
            ("{ url: 'postgres://h/db', batch: { bytes: 1B } }", "batch.bytes: `1B` is too little"),
            ("{ url: 'postgres://h/db', connections: 0 }", "connections: 0 is out of range"),
            ("{ url: 'postgres:///db?host=/tmp', sslmode: verify-full }", "sslmode: a unix socket"),
            ("{ url: 'mysql://h/db?socket=/tmp/s', sslmode: require }", "sslmode: a unix socket"),
            ("{ url: 'mysql://h/db', schema: '' }", "schema: a schema needs a name"),
            ("{ url: 'postgres://h/db', mode: upsrt }", "upsrt"),
            ("{ url: 'postgres://h/db', colour: red }", "colour"),
            ("{ mode: append }", "url"),
        ] {
            let error = resolve(yaml).unwrap_err();
            assert!(error.contains(says), "{yaml}: {error}");
        }
    }
}
