use std::{fmt, path::PathBuf};

use connector_api::Secret;
use schemars::JsonSchema;
use serde::Deserialize;
use source_tailing::{Check, Naming, TablePattern, TlsSettings, UrlParts};

use crate::decode::{DecodeOptions, TinyInt1, ZeroDates};

/// Settings of the `mysql` source, which reads MySQL and MariaDB.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MySqlSourceConfig {
    /// Where the server is: `mysql://host:3306` or `mysql://host:3306/database` (`mariadb://` is the same; which it is, the server says).
    /// A user and a password may stand in it (`user:password@`, with `%` escapes), better in `user` and `password`. Parameters: `socket`
    /// (the file of a unix socket, instead of the host), `ssl-mode`, `ssl-ca`.
    pub url: String,
    /// The user to log in as; overrides the one in `url`. It needs REPLICATION SLAVE (and REPLICATION CLIENT, in MariaDB BINLOG MONITOR) on
    /// `*.*`, and SELECT on the tables. `check` says what is missing.
    pub user: Option<String>,
    /// The user's password; overrides the one in `url`.
    pub password: Option<Secret>,
    /// The tables to capture: `database.table`, `table` (in the database of `url`), or patterns in which `*` stands for any text but a
    /// dot (`shop.*`). Names with other characters than letters, digits, `_`, `$`, `-` are written in backticks. Views cannot be captured.
    /// A table that is added here is snapshotted at the next start.
    pub tables: Vec<String>,
    /// The number by which the server knows this pipeline as a replica, 1 to 4294967295. No other replica of the server may have it: the
    /// server would cut the one that came first. Default: a number above 1,000,000,000 that is made of the pipeline's name and of this
    /// machine's.
    pub server_id: Option<u32>,
    /// Whether the connection is encrypted; overrides the one in `url`. Default `preferred`. Does not apply to unix sockets.
    pub ssl_mode: Option<SslMode>,
    /// A PEM file with the certificate authorities to trust; overrides the one in `url`. Default: those of the system.
    pub ssl_ca: Option<PathBuf>,
    /// How the rows that are there already are read.
    #[serde(default)]
    pub snapshot: SnapshotConfig,
    /// How dates that are none arrive, `0000-00-00` and those with a month or day of 0.
    #[serde(default)]
    pub zero_dates: ZeroDates,
    /// How `tinyint(1)`, which is also what `boolean` means, arrives.
    #[serde(default)]
    pub tinyint1: TinyInt1,
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
    /// How all tables are read as of one moment.
    #[serde(default)]
    pub lock: SnapshotLock,
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

/// How the connections of a snapshot come to see the same moment. None of these is held longer than it takes them to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotLock {
    /// `global` where the user may, else `tables`.
    #[default]
    Auto,
    /// `FLUSH TABLES WITH READ LOCK`: needs RELOAD (MySQL: or FLUSH_TABLES).
    Global,
    /// `LOCK TABLES … READ` of the captured tables: needs LOCK TABLES on them.
    Tables,
}

/// Whether the connection is encrypted, and what of the server's certificate is checked. The modes and their meaning are those of MySQL's
/// own clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SslMode {
    /// Never encrypted.
    Disabled,
    /// Encrypted if the server offers it; the certificate is not checked.
    #[default]
    Preferred,
    /// Encrypted; the certificate is not checked.
    Required,
    /// Encrypted; the certificate must come from a trusted authority.
    VerifyCa,
    /// Encrypted; the certificate must come from a trusted authority and bear the host's name.
    VerifyIdentity,
}

const SSL_MODES: [(SslMode, &str); 5] = [
    (SslMode::Disabled, "disabled"),
    (SslMode::Preferred, "preferred"),
    (SslMode::Required, "required"),
    (SslMode::VerifyCa, "verify_ca"),
    (SslMode::VerifyIdentity, "verify_identity"),
];

impl SslMode {
    pub(crate) fn wants_tls(self, server_offers: bool) -> bool {
        match self {
            Self::Disabled => false,
            Self::Preferred => server_offers,
            Self::Required | Self::VerifyCa | Self::VerifyIdentity => true,
        }
    }

    fn check(self) -> Check {
        match self {
            Self::Disabled | Self::Preferred | Self::Required => Check::Nothing,
            Self::VerifyCa => Check::Authority,
            Self::VerifyIdentity => Check::Name,
        }
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SSL_MODES.iter().find(|(mode, _)| mode == self).map(|(_, name)| *name).unwrap_or_default())
    }
}

fn default_connections() -> usize {
    2
}

impl Default for SnapshotConfig {
    fn default() -> Self {
        Self { connections: default_connections(), mode: SnapshotMode::default(), lock: SnapshotLock::default() }
    }
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    /// A name or address, over TCP.
    Name(String),
    /// The file of a unix socket.
    Socket(PathBuf),
}

/// Settings that are known to be good.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub host: Host,
    pub port: u16,
    pub user: String,
    pub password: Option<Secret>,
    pub ssl_mode: SslMode,
    pub tls: TlsSettings,
    pub tables: Vec<TablePattern>,
    pub server_id: Option<u32>,
    pub snapshot: SnapshotConfig,
    pub decode: DecodeOptions,
}

/// The field and what is wrong with it.
type Wrong = (&'static str, String);

impl Settings {
    /// Checks what the types of the settings cannot.
    pub(crate) fn new(config: MySqlSourceConfig) -> Result<Self, Wrong> {
        let wrong_url = |problem: &str| ("url", format!("{problem}; write it as `mysql://host:3306/database`"));
        let url = UrlParts::parse(&config.url).map_err(|problem| wrong_url(&problem))?;
        if !matches!(url.scheme.as_str(), "mysql" | "mariadb") {
            return Err(wrong_url(&format!("`{}` is no scheme of MySQL", url.scheme)));
        }
        let (mut host, mut ssl_mode, mut ssl_ca) = (url.host.map(Host::Name), SslMode::default(), None);
        for (name, value) in url.parameters {
            match name.as_str() {
                "socket" => host = Some(Host::Socket(value.into())),
                "ssl-ca" => ssl_ca = Some(PathBuf::from(value)),
                "ssl-mode" => {
                    let wanted = value.to_ascii_lowercase();
                    let known = SSL_MODES.iter().find(|(_, name)| *name == wanted).map(|(mode, _)| *mode);
                    ssl_mode = known.ok_or_else(|| {
                        let names = SSL_MODES.map(|(_, name)| name).join(", ");
                        wrong_url(&format!("`ssl-mode={value}` is none of {names}"))
                    })?;
                }
                other => return Err(wrong_url(&format!("the parameter `{other}` is not known"))),
            }
        }
        let host = host.ok_or_else(|| wrong_url("the host is missing"))?;
        let user = config.user.filter(|user| !user.is_empty()).or(url.user);
        let user = user.ok_or_else(|| ("user", "it is missing: the user to log in as".to_owned()))?;
        if config.tables.is_empty() {
            return Err(("tables", "no table is named; write `database.table` or a pattern such as `shop.*`".to_owned()));
        }
        let naming = Naming { quote: '`', default_schema: url.database.as_deref(), form: "database.table" };
        let tables = config.tables.iter().map(|text| TablePattern::parse(text, naming)).collect::<Result<_, _>>();
        let tables = tables.map_err(|problem| ("tables", problem))?;
        if !(1..=32).contains(&config.snapshot.connections) {
            return Err(("snapshot.connections", format!("{} is not between 1 and 32", config.snapshot.connections)));
        }
        if config.server_id == Some(0) {
            return Err(("server_id", "0 means no replica; give a number from 1 to 4294967295".to_owned()));
        }
        let ssl_mode = config.ssl_mode.unwrap_or(ssl_mode);
        let root_file = config.ssl_ca.or(ssl_ca);
        Ok(Self {
            host,
            port: url.port.unwrap_or(3306),
            user,
            password: config.password.or(url.password.map(Secret::new)),
            ssl_mode,
            tls: TlsSettings { check: ssl_mode.check(), root_file, root_setting: "ssl_ca" },
            tables,
            server_id: config.server_id,
            snapshot: config.snapshot,
            decode: DecodeOptions { zero_dates: config.zero_dates, tinyint1: config.tinyint1 },
        })
    }

    /// The server for messages.
    pub(crate) fn address(&self) -> String {
        match &self.host {
            Host::Name(name) => format!("{name}:{}", self.port),
            Host::Socket(file) => file.display().to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> MySqlSourceConfig {
        serde_json::from_value(serde_json::json!({ "url": url, "tables": ["shop.*"] })).unwrap()
    }

    fn problem(url: &str) -> String {
        Settings::new(config(url)).err().map(|(field, problem)| format!("{field}: {problem}")).unwrap_or_default()
    }

    #[test]
    fn urls_are_read() {
        let settings = Settings::new(config("mysql://a%40b:p%25@db.internal:3307/shop?ssl-mode=VERIFY_IDENTITY")).unwrap();
        assert_eq!((settings.user.as_str(), settings.port, settings.password.unwrap().expose()), ("a@b", 3307, "p%"));
        assert_eq!((settings.ssl_mode, settings.tls.check), (SslMode::VerifyIdentity, Check::Name));
        let socket = Settings::new(config("mariadb://u@localhost?socket=/run/mysqld/mysqld.sock")).unwrap();
        assert_eq!((socket.host, socket.port), (Host::Socket("/run/mysqld/mysqld.sock".into()), 3306));
        assert_eq!(Settings::new(config("mysql://u@[::1]")).unwrap().host, Host::Name("::1".to_owned()));
    }

    #[test]
    fn wrong_settings_name_the_field_and_what_is_right() {
        for (url, expected) in [
            ("nonsense", "url: this is no URL"),
            ("postgres://u@h/d", "url: `postgres` is no scheme"),
            ("mysql://u@/d", "url: the host is missing"),
            ("mysql://h/d", "user: it is missing"),
            ("mysql://u@h/d?ssl-mode=on", "url: `ssl-mode=on` is none of"),
            ("mysql://u@h/d?colour=red", "url: the parameter `colour` is not known"),
            ("mysql://u@h/d%zz", "url: an escape"),
        ] {
            assert!(problem(url).starts_with(expected), "{url}: {}", problem(url));
        }
        let mut wrong = config("mysql://u@h");
        wrong.tables = vec!["orders".to_owned()];
        assert!(Settings::new(wrong).err().unwrap().1.contains("names no schema"));
        let mut zero = config("mysql://u@h");
        zero.server_id = Some(0);
        assert_eq!(Settings::new(zero).err().unwrap().0, "server_id");
    }
}
