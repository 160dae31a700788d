use std::{borrow::Cow, fmt, path::PathBuf, str::FromStr};

use connector_api::Secret;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use url::Url;

use crate::config::SslMode;

/// The address of a target database: `jdbc:postgresql://host:port/database?…`, `jdbc:mysql://…`, `jdbc:mariadb://…`, `jdbc:sqlite:/path`, or the same
/// without `jdbc:`.
///
/// May hold a password, so it does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct JdbcUrl(pub(crate) Address);

/// What a URL says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Postgres(PostgresAddress),
    MySql(MySqlAddress),
    Sqlite(PathBuf),
}

/// A PostgreSQL server and database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PostgresAddress {
    /// A host name or address, or the directory of a unix socket (begins with `/`).
    pub host: String,
    pub port: u16,
    /// Empty: named like the user.
    pub database: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub sslmode: Option<SslMode>,
    pub ca: Option<PathBuf>,
    pub schema: Option<String>,
}

impl fmt::Display for PostgresAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.host, self.port, self.database)
    }
}

/// A MySQL or MariaDB server, and a database of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MySqlAddress {
    pub host: String,
    pub port: u16,
    /// The unix socket to use instead of host and port.
    pub socket: Option<PathBuf>,
    /// `None`: that of each table at the source.
    pub database: Option<String>,
    pub user: Option<String>,
    pub password: Option<Secret>,
    pub sslmode: Option<SslMode>,
    pub ca: Option<PathBuf>,
    /// Whether rows may be loaded with `LOAD DATA LOCAL`, where the server allows it.
    pub local_infile: bool,
}

impl fmt::Display for MySqlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.socket {
            Some(socket) => write!(f, "{}", socket.display())?,
            None => write!(f, "{}:{}", self.host, self.port)?,
        }
        self.database.as_ref().map_or(Ok(()), |database| write!(f, "/{database}"))
    }
}

impl fmt::Debug for JdbcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Address::Postgres(address) => write!(f, "postgresql://{address}"),
            Address::MySql(address) => write!(f, "mysql://{address}"),
            Address::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

const FORMS: &str = "`jdbc:postgresql://host:port/database`, `jdbc:mysql://host:port/database`, `jdbc:mariadb://host:port/database` or \
     `jdbc:sqlite:/path` (all of them without `jdbc:` too)";

impl FromStr for JdbcUrl {
    type Err = String;

    // The text itself is never repeated in an error: it may hold a password.
    fn from_str(text: &str) -> Result<Self, String> {
        let plain = text.strip_prefix("jdbc:").unwrap_or(text);
        let Some((scheme, rest)) = plain.split_once(':') else {
            return Err(format!("this is no address of a database: write {FORMS}"));
        };
        match scheme {
            "sqlite" => sqlite(rest),
            "postgres" | "postgresql" => postgres(plain).map(|address| Self(Address::Postgres(address))),
            "mysql" | "mariadb" => mysql(plain).map(|address| Self(Address::MySql(address))),
            other => Err(format!("`{other}` is no database that this sink knows: write {FORMS}")),
        }
    }
}

fn sqlite(rest: &str) -> Result<JdbcUrl, String> {
    let path = match rest.strip_prefix("//") {
        Some(path) if !path.starts_with('/') => {
            return Err("a SQLite address has no host: write `sqlite:/absolute/path` or `sqlite:relative/path`".into());
        }
        Some(path) => path,
        None => rest,
    };
    if path.is_empty() || path.starts_with(":memory:") {
        return Err("a SQLite address needs the path of a file, for example `sqlite:/var/lib/shop.db`".into());
    }
    if path.contains('?') {
        return Err("a SQLite address takes no options after `?`".into());
    }
    Ok(JdbcUrl(Address::Sqlite(PathBuf::from(path))))
}

/// What stands before the `?` of a server's URL.
struct Server {
    host: String,
    port: Option<u16>,
    database: String,
    user: Option<String>,
    password: Option<Secret>,
}

fn server(url: &Url) -> Result<Server, String> {
    let part = |text: &str, name: &str| decode(text).ok_or_else(|| format!("the {name} has a broken %-escape"));
    let host = part(url.host_str().unwrap_or_default(), "host")?;
    // An IPv6 address stands in brackets in a URL, and without them elsewhere.
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).map(str::to_owned);
    Ok(Server {
        host: bare.unwrap_or(host),
        port: url.port(),
        database: part(url.path().trim_start_matches('/'), "database")?,
        user: (!url.username().is_empty()).then(|| part(url.username(), "user")).transpose()?,
        password: url.password().map(|password| part(password, "password").map(Secret::new)).transpose()?,
    })
}

fn parse(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| format!("this is no URL ({error}): write {FORMS}"))
}

fn postgres(text: &str) -> Result<PostgresAddress, String> {
    let url = parse(text)?;
    let Server { host, port, database, user, password } = server(&url)?;
    let port = port.unwrap_or(5432);
    let mut address = PostgresAddress { host, port, database, user, password, sslmode: None, ca: None, schema: None };
    for (name, value) in url.query_pairs() {
        let value = value.into_owned();
        match name.as_ref() {
            "user" => address.user = Some(value),
            "password" => address.password = Some(Secret::new(value)),
            "host" => address.host = value,
            "port" => address.port = value.parse().map_err(|_| "`port` is a number from 1 to 65535".to_owned())?,
            "sslmode" => address.sslmode = Some(value.parse()?),
            "sslrootcert" => address.ca = Some(PathBuf::from(value)),
            "currentSchema" => address.schema = Some(value),
            other => {
                return Err(format!(
                    "unknown option `{other}` after `?`, expected one of `user`, `password`, `host`, `port`, `sslmode`, `sslrootcert`, \
                     `currentSchema`"
                ));
            }
        }
    }
    if address.host.is_empty() {
        address.host = "localhost".into();
    }
    Ok(address)
}

fn mysql(text: &str) -> Result<MySqlAddress, String> {
    let url = parse(text)?;
    let Server { host, port, database, user, password } = server(&url)?;
    let mut address = MySqlAddress {
        host: if host.is_empty() { "localhost".into() } else { host },
        port: port.unwrap_or(3306),
        socket: None,
        database: (!database.is_empty()).then_some(database),
        user,
        password,
        sslmode: None,
        ca: None,
        local_infile: true,
    };
    let switch = |name: &str, value: &str| match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{name}` is `true` or `false`")),
    };
    for (name, value) in url.query_pairs() {
        let value = value.into_owned();
        match name.as_ref() {
            "user" => address.user = Some(value),
            "password" => address.password = Some(Secret::new(value)),
            "sslMode" | "ssl-mode" => address.sslmode = Some(mysql_sslmode(&value)?),
            "useSSL" => address.sslmode = Some(if switch(&name, &value)? { SslMode::Require } else { SslMode::Disable }),
            "serverSslCert" | "ssl-ca" => address.ca = Some(PathBuf::from(value)),
            "localSocket" | "socket" => address.socket = Some(PathBuf::from(value)),
            "allowLoadLocalInfile" | "allowLocalInfile" => address.local_infile = switch(&name, &value)?,
            // What it allows is what is done anyway where the connection is not encrypted.
            "allowPublicKeyRetrieval" if switch(&name, &value)? => {}
            "allowPublicKeyRetrieval" => {
                return Err(
                    "a server's key is asked for wherever its login needs one: remove `allowPublicKeyRetrieval`, and write \
                     `sslMode=VERIFY_IDENTITY` if nobody on the way is to be trusted"
                        .into(),
                );
            }
            other => {
                return Err(format!(
                    "unknown option `{other}` after `?`, expected one of `user`, `password`, `sslMode`, `useSSL`, `serverSslCert`, \
                     `localSocket`, `allowLoadLocalInfile`, `allowPublicKeyRetrieval`"
                ));
            }
        }
    }
    Ok(address)
}

/// The words of MySQL's Connector/J and client, and those of MariaDB's.
fn mysql_sslmode(text: &str) -> Result<SslMode, String> {
    Ok(match text.to_ascii_lowercase().replace('_', "-").as_str() {
        "disabled" | "disable" => SslMode::Disable,
        "preferred" => SslMode::Prefer,
        "required" | "trust" => SslMode::Require,
        "verify-ca" => SslMode::VerifyCa,
        "verify-identity" | "verify-full" => SslMode::VerifyFull,
        _ => {
            return Err(format!(
                "`{text}` is no sslMode, expected one of `DISABLED`, `PREFERRED`, `REQUIRED`, `VERIFY_CA`, `VERIFY_IDENTITY`"
            ));
        }
    })
}

/// Replaces each `%XX`; `None` for a broken escape or what is no UTF-8 then.
fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        let (high, low) = (digit()?, digit()?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

impl<'de> Deserialize<'de> for JdbcUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = JdbcUrl;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the address of a database")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<JdbcUrl, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

impl JsonSchema for JdbcUrl {
    fn schema_name() -> Cow<'static, str> {
        "JdbcUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "examples": ["jdbc:postgresql://dw.internal:5432/analytics", "jdbc:mysql://dw.internal:3306/analytics", "jdbc:sqlite:/var/lib/shop.db"]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> PostgresAddress {
        match text.parse().unwrap() {
            JdbcUrl(Address::Postgres(address)) => address,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_spellings_mean_the_same() {
        assert_eq!(
            server("jdbc:postgresql://dw:5433/a?user=u&sslmode=verify-full"),
            server("postgres://u@dw:5433/a?sslmode=verify-full")
        );
        assert_eq!("jdbc:sqlite:/x/y.db".parse::<JdbcUrl>(), "sqlite:///x/y.db".parse());
    }

    #[test]
    fn parts_are_read() {
        let address = server("postgres://us%40er:p%2Fw@%2Fvar%2Frun/db");
        assert_eq!((address.host.as_str(), address.user.as_deref(), address.port), ("/var/run", Some("us@er"), 5432));
        assert_eq!(address.password.unwrap().expose(), "p/w");
        assert_eq!(server("postgresql:///db?host=/tmp/x&port=6000").host, "/tmp/x");
        assert_eq!(server("postgres://[::1]:1/db").host, "::1");
        assert_eq!(server("jdbc:postgresql://h/db?currentSchema=s&sslrootcert=/c.pem").schema.as_deref(), Some("s"));
    }

    #[test]
    fn mysql_urls_are_read() {
        let server = |text: &str| match text.parse().unwrap() {
            JdbcUrl(Address::MySql(address)) => address,
            other => panic!("{other:?}"),
        };
        let address = server("jdbc:mysql://u:p%40w@dw:3307/a?sslMode=VERIFY_IDENTITY&ssl-ca=/c.pem&allowLoadLocalInfile=false");
        assert_eq!((address.host.as_str(), address.port, address.database.as_deref()), ("dw", 3307, Some("a")));
        assert_eq!((address.sslmode, address.ca, address.local_infile), (Some(SslMode::VerifyFull), Some("/c.pem".into()), false));
        assert_eq!(address.password.unwrap().expose(), "p@w");
        assert_eq!(
            server("jdbc:mariadb://dw/a?user=u&sslMode=verify-full"),
            server("mysql://u@dw:3306/a?ssl-mode=VERIFY_IDENTITY")
        );
        let local = server("mariadb:///?localSocket=/run/mysqld/mysqld.sock");
        assert_eq!((local.socket, local.database), (Some("/run/mysqld/mysqld.sock".into()), None));
        assert_eq!(server("mysql://h/d?useSSL=false").sslmode, Some(SslMode::Disable));
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        for (text, says) in [
            ("oracle://h/db", "`oracle` is no database"),
            ("justatext", "no address of a database"),
            ("postgres://u:hunter2@h/db?sslmod=x", "unknown option `sslmod`"),
            ("postgres://u:hunter2@h/db?sslmode=maybe", "`maybe`"),
            ("postgres://u:hunter2@h:99999/db", "no URL"),
            ("postgres://%zz/db", "host"),
            ("mysql://u:hunter2@h/db?rewriteBatchedStatements=true", "unknown option `rewriteBatchedStatements`"),
            ("mysql://u:hunter2@h/db?sslMode=maybe", "`maybe` is no sslMode"),
            ("mysql://h/db?allowLoadLocalInfile=1", "`true` or `false`"),
            ("sqlite:", "path of a file"),
            ("sqlite::memory:", "path of a file"),
            ("sqlite://host/x", "no host"),
        ] {
            let error = text.parse::<JdbcUrl>().unwrap_err();
            assert!(error.contains(says) && !error.contains("hunter2"), "{text}: {error}");
        }
        assert_eq!(format!("{:?}", "postgres://u:hunter2@h/db".parse::<JdbcUrl>().unwrap()), "postgresql://h:5432/db");
    }
}
