use std::{
    io,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use source_tailing::{Pace, Socket, TlsError};

use super::{
    auth::{self, Login},
    frames::frame_len,
    tls::{SslMode, end_point_hash},
};
use crate::{
    config::{Host, Settings},
    error::PostgresError,
};

/// How long connecting and logging in may take, in all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// What kind of session to ask the server for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// SQL.
    Query,
    /// Replication commands and SQL, in one database.
    Replication,
}

/// A logged-in connection, for use on a thread of its own: calls block, for at most the read time-out.
pub(crate) struct Connection {
    socket: Socket,
    address: String,
    version: u32,
}

impl Connection {
    /// Connects and logs in. `buffer_bytes` is the size of a large read.
    pub(crate) fn open(settings: &Settings, purpose: Purpose, buffer_bytes: usize) -> Result<Self, PostgresError> {
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let (first, second) = settings.sslmode.attempts();
        let attempt = |mode| Self::attempt(settings, mode, purpose, buffer_bytes, deadline);
        match (attempt(first), second, &settings.host) {
            (Err(refused @ PostgresError::Authentication { .. }), Some(second), Host::Name(_)) => {
                attempt(second).map_err(|_| refused)
            }
            (result, _, _) => result,
        }
    }

    fn attempt(
        settings: &Settings,
        mode: SslMode,
        purpose: Purpose,
        buffer_bytes: usize,
        deadline: Instant,
    ) -> Result<Self, PostgresError> {
        let address = settings.address();
        let socket = connect(settings, mode, &address, deadline, buffer_bytes)?;
        let mut connection = Self { socket, address, version: 0 };
        let private = connection.socket.is_private();
        let binding = connection.socket.certificate().and_then(end_point_hash);
        let login = Login { settings, replication: purpose == Purpose::Replication, private, binding, deadline };
        connection.version = auth::log_in(&mut connection, login)?;
        Ok(connection)
    }

    /// The server's version as it counts it itself: 150018 is 15.18.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether this is a unix socket, whose buffer in the kernel is small.
    pub(crate) fn is_unix(&self) -> bool {
        self.socket.is_unix()
    }

    /// How long [`fill`](Self::fill) waits at most; `None` is for ever. Costs a system call only when it changes.
    pub(crate) fn set_read_timeout(&mut self, timeout: Option<Duration>) -> Result<(), PostgresError> {
        self.socket.set_read_timeout(timeout).map_err(|cause| self.lost(cause))
    }

    /// An error that says that the connection broke.
    pub(crate) fn lost(&self, cause: io::Error) -> PostgresError {
        PostgresError::ConnectionLost { address: self.address.clone(), cause }
    }

    /// What was received and not consumed.
    pub(crate) fn buffered(&self) -> &[u8] {
        self.socket.buffered()
    }

    /// Drops that many received bytes from the front.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.socket.consume(bytes);
    }

    /// Reads once. Returns how many bytes came; `None` if none came in time.
    pub(crate) fn fill(&mut self) -> Result<Option<usize>, PostgresError> {
        let frame_bytes = frame_len(self.buffered())?.unwrap_or(0);
        self.socket.fill(frame_bytes).map_err(|cause| self.lost(cause))
    }

    /// [`fill`](Self::fill), perhaps after a pause in which more arrives.
    pub(crate) fn fill_paced(&mut self, pace: &mut Pace) -> Result<Option<usize>, PostgresError> {
        let frame_bytes = frame_len(self.buffered())?.unwrap_or(0);
        pace.read(&mut self.socket, frame_bytes).map_err(|cause| self.lost(cause))
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), PostgresError> {
        self.socket.send(bytes).map_err(|cause| self.lost(cause))
    }

    /// Waits for the next message until `deadline` and hands tag and body to `take`.
    pub(crate) fn message<R>(
        &mut self,
        deadline: Option<Instant>,
        take: impl FnOnce(u8, &[u8]) -> Result<R, PostgresError>,
    ) -> Result<R, PostgresError> {
        let begun = Instant::now();
        loop {
            if let Some(len) = frame_len(self.buffered())?
                && let Some([tag, _, _, _, _, body @ ..]) = self.socket.buffered().get(..len)
            {
                let taken = take(*tag, body);
                self.socket.consume(len);
                return taken;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(PostgresError::NoAnswer { address: self.address.clone(), seconds: begun.elapsed().as_secs() });
            }
            self.set_read_timeout(left)?;
            self.fill()?;
        }
    }

    /// Says good-bye, so that the server does not log a broken connection. Failing to is no harm.
    pub(crate) fn close(mut self) {
        let mut message = BytesMut::new();
        frontend::terminate(&mut message);
        let _ = self.send(&message);
    }
}

/// Connects the socket, and starts TLS on it as the settings want.
fn connect(
    settings: &Settings,
    mode: SslMode,
    address: &str,
    deadline: Instant,
    buffer_bytes: usize,
) -> Result<Socket, PostgresError> {
    let failed = |cause| PostgresError::Connect { address: address.to_owned(), cause };
    match &settings.host {
        Host::Socket(directory) => {
            let path = directory.join(format!(".s.PGSQL.{}", settings.port));
            Socket::connect_unix(&path, deadline, buffer_bytes).map_err(failed)
        }
        Host::Name(name) => {
            let mut socket = Socket::connect_tcp(name, settings.port, deadline, buffer_bytes).map_err(failed)?;
            if !wants_tls(mode, &mut socket, address)? {
                return Ok(socket);
            }
            socket.start_tls(&settings.tls, name).map_err(|error| match error {
                TlsError::Io(cause) => failed(cause),
                TlsError::Refused(problem) => PostgresError::Tls { address: address.to_owned(), problem },
            })
        }
    }
}

/// Asks the server for TLS, if the mode does. One byte answers; bytes that came right behind it would be unprotected text smuggled
/// in front of the handshake, and the one-byte read leaves them to TLS, which rejects them.
fn wants_tls(mode: SslMode, socket: &mut Socket, address: &str) -> Result<bool, PostgresError> {
    if mode == SslMode::Disable {
        return Ok(false);
    }
    let failed = |cause| PostgresError::Connect { address: address.to_owned(), cause };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.send(&request).map_err(failed)?;
    match socket.read_byte().map_err(failed)? {
        b'S' => Ok(true),
        b'N' if mode == SslMode::Prefer => Ok(false),
        b'N' => Err(PostgresError::Tls {
            address: address.to_owned(),
            problem: format!("the server offers no TLS, and `sslmode: {mode}` wants it; set `ssl = on` at the server"),
        }),
        // An error message instead of an answer: a server that cannot even fork says so here.
        b'E' => Err(PostgresError::Connect {
            address: address.to_owned(),
            cause: io::Error::other("the server answered with an error when asked for TLS"),
        }),
        other => Err(PostgresError::protocol(format!("byte {other} as the answer to a request for TLS"))),
    }
}
