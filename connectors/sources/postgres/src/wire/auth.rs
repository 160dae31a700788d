use std::time::Instant;

use bytes::BytesMut;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::frontend,
};

use super::{client::server_error, connection::Connection};
use crate::{
    config::Settings,
    error::{PostgresError, sqlstate},
};

/// A server may send notices and parameters while we log in, but not for ever.
const LOGIN_MESSAGES_MAX: usize = 10_000;

/// Who logs in, and how.
pub(super) struct Login<'a> {
    pub settings: &'a Settings,
    pub replication: bool,
    /// Nobody can listen: TLS or a unix socket.
    pub private: bool,
    /// Hash of the server's certificate, if there is TLS.
    pub binding: Option<Vec<u8>>,
    pub deadline: Instant,
}

/// An answer of the server on the way in.
enum Answer {
    Ok,
    Cleartext,
    Md5([u8; 4]),
    Sasl(Vec<String>),
    SaslContinue(Vec<u8>),
    SaslFinal(Vec<u8>),
    Version(u32),
    Ready,
    Other,
}

/// Logs in and waits until the server is ready. Returns its version number.
pub(super) fn log_in(connection: &mut Connection, login: Login<'_>) -> Result<u32, PostgresError> {
    let settings = login.settings;
    let mut parameters = vec![
        ("user", settings.user.as_str()),
        ("database", settings.database.as_str()),
        ("application_name", settings.application_name.as_str()),
        ("client_encoding", "UTF8"),
    ];
    if login.replication {
        parameters.push(("replication", "database"));
    }
    let mut out = BytesMut::new();
    encoded(frontend::startup_message(parameters, &mut out))?;
    connection.send(&out)?;
    let refused = |problem: &str| PostgresError::Authentication {
        address: settings.address(),
        user: settings.user.clone(),
        problem: problem.to_owned(),
    };
    let password =
        || settings.password.as_ref().map(|secret| secret.expose()).ok_or_else(|| refused("it wants a password; set `password`"));
    let mut scram: Option<ScramSha256> = None;
    let mut scram_done = false;
    let mut version = 0;
    for _ in 0..LOGIN_MESSAGES_MAX {
        out.clear();
        match connection.message(Some(login.deadline), |tag, body| answer(tag, body, &login))? {
            Answer::Ready => return Ok(version),
            Answer::Version(number) => version = number,
            Answer::Other => continue,
            // A server that never proved that it knows the password may be somebody else's.
            Answer::Ok if scram.is_some() && !scram_done => return Err(refused("the server did not finish SCRAM")),
            Answer::Ok => continue,
            Answer::Cleartext if !login.private => {
                return Err(refused("it wants the password in clear text over an open connection; use `sslmode: verify-full`"));
            }
            Answer::Cleartext => encoded(frontend::password_message(password()?.as_bytes(), &mut out))?,
            Answer::Md5(salt) => {
                let hash = md5_hash(settings.user.as_bytes(), password()?.as_bytes(), salt);
                encoded(frontend::password_message(hash.as_bytes(), &mut out))?;
            }
            Answer::Sasl(mechanisms) => {
                let offered = |name: &str| mechanisms.iter().any(|mechanism| mechanism == name);
                let (mechanism, binding) = match &login.binding {
                    Some(hash) if offered(SCRAM_SHA_256_PLUS) => {
                        (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash.clone()))
                    }
                    // "We could, but you did not offer it": a middleman who took the offer out is found by this.
                    Some(_) if offered(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
                    None if offered(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unsupported()),
                    _ => return Err(refused("it offers no way to log in that is supported (SCRAM-SHA-256, md5, password)")),
                };
                let exchange = ScramSha256::new(password()?.as_bytes(), binding);
                encoded(frontend::sasl_initial_response(mechanism, exchange.message(), &mut out))?;
                scram = Some(exchange);
            }
            Answer::SaslContinue(data) => {
                let exchange = scram.as_mut().ok_or_else(|| PostgresError::protocol("a SCRAM answer without a question"))?;
                exchange.update(&data).map_err(|error| refused(&format!("SCRAM failed: {error}")))?;
                encoded(frontend::sasl_response(exchange.message(), &mut out))?;
            }
            Answer::SaslFinal(data) => {
                let exchange = scram.as_mut().ok_or_else(|| PostgresError::protocol("a SCRAM answer without a question"))?;
                exchange.finish(&data).map_err(|error| refused(&format!("SCRAM failed: {error}")))?;
                scram_done = true;
            }
        }
        if !out.is_empty() {
            connection.send(&out)?;
        }
    }
    Err(PostgresError::protocol("endless messages while logging in"))
}

/// An encoder fails on a text with a zero byte or of more than 2 GiB: both come from the settings.
fn encoded(result: std::io::Result<()>) -> Result<(), PostgresError> {
    result.map_err(|error| {
        PostgresError::prerequisite(
            format!("a setting cannot be sent to the server ({error})"),
            "correct `url`, `user` or `password`",
        )
    })
}

fn answer(tag: u8, body: &[u8], login: &Login<'_>) -> Result<Answer, PostgresError> {
    match tag {
        b'R' => authentication(body, login),
        b'S' => {
            let mut parts = body.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            match (parts.next().as_deref(), parts.next()) {
                (Some("server_version"), Some(text)) => Ok(Answer::Version(version_number(&text))),
                _ => Ok(Answer::Other),
            }
        }
        b'Z' => Ok(Answer::Ready),
        b'K' | b'N' | b'v' => Ok(Answer::Other),
        b'E' => {
            let error = server_error(body);
            let (address, user) = (login.settings.address(), login.settings.user.clone());
            match error.code.as_str() {
                code if code.starts_with("28") => Err(PostgresError::Authentication { address, user, problem: error.message }),
                sqlstate::INVALID_CATALOG_NAME => Err(PostgresError::prerequisite(error.message, "correct the database in `url`")),
                sqlstate::INSUFFICIENT_PRIVILEGE if login.replication => Err(PostgresError::prerequisite(
                    error.message,
                    format!("run: ALTER ROLE {} REPLICATION", super::quote_identifier(&user)),
                )),
                _ => Err(PostgresError::Server { doing: format!("log in at {address}"), error }),
            }
        }
        other => Err(PostgresError::protocol(format!("message `{}` while logging in", other.escape_ascii()))),
    }
}

fn authentication(body: &[u8], login: &Login<'_>) -> Result<Answer, PostgresError> {
    let Some((kind, rest)) = body.split_first_chunk::<4>() else {
        return Err(PostgresError::protocol("an authentication request without a kind"));
    };
    Ok(match (u32::from_be_bytes(*kind), rest) {
        (0, _) => Answer::Ok,
        (3, _) => Answer::Cleartext,
        (5, salt) => {
            let salt = salt.try_into().map_err(|_| PostgresError::protocol("an md5 request without its salt"))?;
            Answer::Md5(salt)
        }
        (10, names) => {
            let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
            Answer::Sasl(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
        }
        (11, data) => Answer::SaslContinue(data.to_vec()),
        (12, data) => Answer::SaslFinal(data.to_vec()),
        (kind, _) => {
            let problem = format!("it wants a way to log in that is not supported (kind {kind}); use scram-sha-256 in pg_hba.conf");
            return Err(PostgresError::Authentication {
                address: login.settings.address(),
                user: login.settings.user.clone(),
                problem,
            });
        }
    })
}

/// `15.18 (Debian …)` → 150018; `18beta1` → 180000.
fn version_number(text: &str) -> u32 {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    let mut part = || parts.next().and_then(|digits| digits.parse::<u32>().ok()).unwrap_or(0).min(9_999);
    part() * 10_000 + part()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers() {
        assert_eq!(version_number("15.18 (Debian 15.18-0+deb12u1)"), 150_018);
        assert_eq!(version_number("18beta1"), 180_000);
        assert_eq!(version_number("12.4"), 120_004);
        assert_eq!(version_number("nonsense"), 0);
    }
}
