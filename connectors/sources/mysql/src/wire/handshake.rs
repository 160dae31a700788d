//! From the server's greeting to the end of the login.

use std::{fmt, time::Instant};

use super::{
    auth::{self, Method},
    connection::{Connection, malformed, server_error},
};
use crate::{
    config::Settings,
    error::{MySqlError, ServerError, number},
    event::Bytes,
};

/// Capabilities of either side, bits of the handshake.
mod capability {
    pub(super) const LONG_PASSWORD: u32 = 1;
    pub(super) const LONG_FLAG: u32 = 1 << 2;
    pub(super) const PROTOCOL_41: u32 = 1 << 9;
    pub(super) const SSL: u32 = 1 << 11;
    pub(super) const TRANSACTIONS: u32 = 1 << 13;
    pub(super) const SECURE_CONNECTION: u32 = 1 << 15;
    pub(super) const PLUGIN_AUTH: u32 = 1 << 19;
    pub(super) const CONNECT_ATTRS: u32 = 1 << 20;
    pub(super) const PLUGIN_AUTH_LENENC: u32 = 1 << 21;
}

/// What we can do.
const CAPABILITIES: u32 = capability::LONG_PASSWORD
    | capability::LONG_FLAG
    | capability::PROTOCOL_41
    | capability::TRANSACTIONS
    | capability::SECURE_CONNECTION
    | capability::PLUGIN_AUTH
    | capability::CONNECT_ATTRS
    | capability::PLUGIN_AUTH_LENENC;
/// The longest message that we take, 1 GiB: the largest `max_allowed_packet`.
const MESSAGE_BYTES_MAX: u32 = 1 << 30;
/// `utf8mb4_general_ci`, which every server has.
const COLLATION: u8 = 45;
/// A server asks for several rounds, but not for ever.
const ROUNDS_MAX: usize = 16;

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Flavor {
    #[default]
    MySql,
    MariaDb,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}

/// Whose server it is, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Version {
    pub flavor: Flavor,
    /// Major, minor, patch.
    pub number: (u16, u16, u16),
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number;
        write!(f, "{} {major}.{minor}.{patch}", self.flavor)
    }
}

/// `8.0.36`, `9.7.0-debian`; MariaDB puts `5.5.5-` before its own: `5.5.5-10.11.6-MariaDB-log`, and leaves it out from 11 on.
pub(super) fn version(text: &str) -> Version {
    let maria = text.to_ascii_lowercase().contains("mariadb");
    let text = if maria { text.strip_prefix("5.5.5-").unwrap_or(text) } else { text };
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    let mut part = || parts.next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    let number = (part(), part(), part());
    Version { flavor: if maria { Flavor::MariaDb } else { Flavor::MySql }, number }
}

/// What the server says first.
#[derive(Debug)]
pub(super) struct Greeting {
    pub version: Version,
    pub offers_tls: bool,
    challenge: Vec<u8>,
    method: String,
}

/// Reads a greeting of protocol version 10.
pub(super) fn greeting(body: &[u8], settings: &Settings) -> Result<Greeting, MySqlError> {
    if let [0xFF, rest @ ..] = body {
        return Err(refused(server_error(rest)?, settings));
    }
    let mut bytes = Bytes::new(body, "a greeting");
    if bytes.u8().map_err(malformed)? != 10 {
        return Err(MySqlError::protocol("a greeting of an unknown version; is this a MySQL server?"));
    }
    let name = zero_ended(&mut bytes)?;
    let version = version(&String::from_utf8_lossy(name));
    let _thread_id = bytes.u32().map_err(malformed)?;
    let mut challenge = bytes.take(8).map_err(malformed)?.to_vec();
    bytes.u8().map_err(malformed)?;
    let low = bytes.u16().map_err(malformed)?;
    bytes.take(3).map_err(malformed)?;
    let high = bytes.u16().map_err(malformed)?;
    let capabilities = u32::from(low) | u32::from(high) << 16;
    let challenge_bytes = usize::from(bytes.u8().map_err(malformed)?);
    bytes.take(10).map_err(malformed)?;
    if capabilities & capability::PROTOCOL_41 == 0 || capabilities & capability::PLUGIN_AUTH == 0 {
        return Err(MySqlError::protocol("a server of before 5.6 is not supported"));
    }
    let rest = bytes.take(challenge_bytes.saturating_sub(8).max(13)).map_err(malformed)?;
    challenge.extend_from_slice(rest.strip_suffix(&[0]).unwrap_or(rest));
    let method = zero_ended(&mut bytes)?;
    let method = String::from_utf8_lossy(method).into_owned();
    Ok(Greeting { version, offers_tls: capabilities & capability::SSL != 0, challenge, method })
}

fn zero_ended<'a>(bytes: &mut Bytes<'a>) -> Result<&'a [u8], MySqlError> {
    let rest = bytes.rest();
    let len = rest.iter().position(|byte| *byte == 0).unwrap_or(rest.len());
    let taken = bytes.take(len).map_err(malformed)?;
    let _ = bytes.u8();
    Ok(taken)
}

/// The part of our answer that comes before TLS.
pub(super) fn ssl_request() -> Vec<u8> {
    let mut body = Vec::with_capacity(32);
    body.extend((CAPABILITIES | capability::SSL).to_le_bytes());
    body.extend(MESSAGE_BYTES_MAX.to_le_bytes());
    body.push(COLLATION);
    body.extend([0; 23]);
    body
}

/// Logs in.
pub(super) fn log_in(
    mut connection: Connection,
    settings: &Settings,
    greeting: Greeting,
    deadline: Instant,
) -> Result<Connection, MySqlError> {
    let fail = |problem: String| MySqlError::Authentication { address: settings.address(), user: settings.user.clone(), problem };
    let password = settings.password.as_ref().map(|secret| secret.expose()).unwrap_or_default().as_bytes();
    let encrypted = connection.is_private() && !connection.is_unix();
    let mut method = Method::named(&greeting.method);
    let mut challenge = greeting.challenge;
    // A method that we do not know is answered with nothing: the server then names the one that the account has.
    let answer =
        method.map(|method| auth::answer(method, password, &challenge, connection.is_private())).transpose().map_err(fail)?;
    let mut body = if encrypted { ssl_request() } else { without_tls() };
    body.extend(settings.user.as_bytes());
    body.push(0);
    put_bytes(&mut body, &answer.unwrap_or_default());
    body.extend(method.map_or(greeting.method.as_bytes(), |method| method.name().as_bytes()));
    body.push(0);
    put_attributes(&mut body);
    connection.send_packet(&body)?;
    for _ in 0..ROUNDS_MAX {
        let reply = connection.message(Some(deadline), |body| Ok(body.to_vec()))?;
        match reply.as_slice() {
            [0, ..] => return Ok(connection),
            [0xFF, rest @ ..] => return Err(refused(server_error(rest)?, settings)),
            [0xFE] => return Err(fail("it wants a password of before 4.1, which is not safe".to_owned())),
            [0xFE, rest @ ..] => {
                let mut bytes = Bytes::new(rest, "a change of the login's method");
                let name = String::from_utf8_lossy(zero_ended(&mut bytes)?).into_owned();
                let data = bytes.rest();
                challenge = without_end(data).to_vec();
                let named = Method::named(&name).ok_or_else(|| {
                    fail(format!(
                        "the account logs in by `{name}`, which is not supported; ALTER USER … IDENTIFIED VIA or WITH one of {}",
                        Method::names().join(", ")
                    ))
                })?;
                method = Some(named);
                let answer = auth::answer(named, password, &challenge, connection.is_private()).map_err(fail)?;
                connection.send_packet(&answer)?;
            }
            [1, rest @ ..] => {
                let Some(method) = method else { return Err(MySqlError::protocol("a question of the login without a method")) };
                let more = auth::more(method, password, &challenge, connection.is_private(), rest).map_err(fail)?;
                if let Some(answer) = more {
                    connection.send_packet(&answer)?;
                }
            }
            _ => return Err(MySqlError::protocol("an answer to the login that is none")),
        }
    }
    Err(MySqlError::protocol("endless questions while logging in"))
}

/// A challenge of 20 bytes is followed by a zero byte. One of another length is not, and may well end with one of its own.
fn without_end(challenge: &[u8]) -> &[u8] {
    match challenge {
        [bytes @ .., 0] if bytes.len() == 20 => bytes,
        _ => challenge,
    }
}

fn without_tls() -> Vec<u8> {
    let mut body = ssl_request();
    body[..4].copy_from_slice(&CAPABILITIES.to_le_bytes());
    body
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(len @ ..=250) => out.push(len),
        _ => {
            out.push(0xFC);
            out.extend((bytes.len() as u16).to_le_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// What shows in `performance_schema.session_connect_attrs`.
fn put_attributes(out: &mut Vec<u8>) {
    let mut attributes = Vec::new();
    for text in ["program_name", "mainstem", "_client_version", env!("CARGO_PKG_VERSION")] {
        put_bytes(&mut attributes, text.as_bytes());
    }
    put_bytes(out, &attributes);
}

/// The server's refusal of a login in our words.
fn refused(error: ServerError, settings: &Settings) -> MySqlError {
    let (address, user) = (settings.address(), settings.user.clone());
    match error.number {
        number::ACCESS_DENIED | number::DATABASE_ACCESS_DENIED | 1130 | 1251 | 1698 | 1862 | 3118 => {
            MySqlError::Authentication { address, user, problem: error.to_string() }
        }
        number::UNKNOWN_DATABASE => MySqlError::prerequisite(error.message, "correct the database in `url`"),
        3159 => MySqlError::prerequisite(error.message, "set `ssl_mode: required`"),
        _ => MySqlError::Server { doing: format!("log in at {address}"), error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_challenge_of_twenty_bytes_has_an_end() {
        assert_eq!(without_end(&[[7; 20].as_slice(), &[0]].concat()), [7; 20]);
        let ed25519 = [[7; 31].as_slice(), &[0]].concat();
        assert_eq!(without_end(&ed25519), ed25519);
    }

    #[test]
    fn versions_say_whose_they_are() {
        let check = |text: &str| version(text).to_string();
        assert_eq!(check("9.7.0"), "MySQL 9.7.0");
        assert_eq!(check("8.0.36-28.1"), "MySQL 8.0.36");
        assert_eq!(check("5.5.5-10.11.6-MariaDB-1:10.11.6+maria~deb12"), "MariaDB 10.11.6");
        assert_eq!(check("11.8.2-MariaDB-ubu2404-log"), "MariaDB 11.8.2");
        assert_eq!(check("nonsense"), "MySQL 0.0.0");
    }
}
