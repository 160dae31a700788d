use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use super::{
    auth::{self, Login},
    frames::frame_len,
    tls::{self, SslMode, TlsStream},
};
use crate::{
    config::{Host, Settings},
    error::PostgresError,
};

/// How long connecting and logging in may take, in all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// A server that takes no byte for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// A receive buffer that one large message blew up shrinks again.
const KEPT_BUFFER_BYTES_MAX: usize = 4 << 20;

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

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
    stream: Stream,
    address: String,
    /// All initialised; `start..end` is received and not yet consumed.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    buffer_bytes: usize,
    read_timeout: Option<Duration>,
    version: u32,
}

impl Connection {
    /// Connects and logs in. `buffer_bytes` is the size of a large read.
    pub(crate) fn open(settings: &Settings, purpose: Purpose, buffer_bytes: usize) -> Result<Self, PostgresError> {
        let address = settings.address();
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let (stream, binding) = connect(settings, &address, deadline)?;
        let mut connection =
            Self { stream, address, buffer: vec![0; buffer_bytes], start: 0, end: 0, buffer_bytes, read_timeout: None, version: 0 };
        connection.configure_socket().map_err(|cause| connection.lost(cause))?;
        let private = !matches!(connection.stream, Stream::Tcp(_));
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
        matches!(self.stream, Stream::Unix(_))
    }

    fn socket_timeouts(&self, read: Option<Duration>) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(socket) => socket.set_read_timeout(read),
            Stream::Unix(socket) => socket.set_read_timeout(read),
            Stream::Tls(tls) => tls.sock.set_read_timeout(read),
        }
    }

    fn configure_socket(&self) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(socket) => {
                socket.set_nodelay(true)?;
                socket.set_write_timeout(Some(WRITE_TIMEOUT))
            }
            Stream::Unix(socket) => socket.set_write_timeout(Some(WRITE_TIMEOUT)),
            Stream::Tls(tls) => {
                tls.sock.set_nodelay(true)?;
                tls.sock.set_write_timeout(Some(WRITE_TIMEOUT))
            }
        }
    }

    /// How long [`fill`](Self::fill) waits at most; `None` is for ever. Costs a system call only when it changes.
    pub(crate) fn set_read_timeout(&mut self, timeout: Option<Duration>) -> Result<(), PostgresError> {
        if timeout != self.read_timeout {
            self.socket_timeouts(timeout).map_err(|cause| self.lost(cause))?;
            self.read_timeout = timeout;
        }
        Ok(())
    }

    /// An error that says that the connection broke.
    pub(crate) fn lost(&self, cause: io::Error) -> PostgresError {
        PostgresError::ConnectionLost { address: self.address.clone(), cause }
    }

    /// What was received and not consumed.
    pub(crate) fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Drops that many received bytes from the front.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Reads once. Returns how many bytes came; `None` if none came in time.
    ///
    /// The buffer grows only as bytes arrive, whatever length a message claims to have.
    pub(crate) fn fill(&mut self) -> Result<Option<usize>, PostgresError> {
        self.make_room()?;
        let room = &mut self.buffer[self.end..];
        let read = match &mut self.stream {
            Stream::Tcp(socket) => socket.read(room),
            Stream::Unix(socket) => socket.read(room),
            Stream::Tls(tls) => tls.read(room),
        };
        match read {
            Ok(0) => Err(self.lost(io::Error::new(ErrorKind::UnexpectedEof, "the server closed it"))),
            Ok(bytes) => {
                self.end += bytes;
                Ok(Some(bytes))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(self.lost(error)),
        }
    }

    fn make_room(&mut self) -> Result<(), PostgresError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEPT_BUFFER_BYTES_MAX.max(self.buffer_bytes) {
                self.buffer = vec![0; self.buffer_bytes];
            }
        }
        if self.start > 0 && self.buffer.len() - self.end < self.buffer_bytes / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let needed = frame_len(self.buffered())?.unwrap_or(0);
        if self.end == self.buffer.len() || (needed > self.buffer.len() && self.end > self.buffer.len() / 2) {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        Ok(())
    }

    /// Sends bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), PostgresError> {
        let sent = match &mut self.stream {
            Stream::Tcp(socket) => socket.write_all(bytes),
            Stream::Unix(socket) => socket.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        };
        sent.map_err(|cause| self.lost(cause))
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
                && let Some([tag, _, _, _, _, body @ ..]) = self.buffer[self.start..self.end].get(..len)
            {
                let taken = take(*tag, body);
                self.start += len;
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

/// Connects the socket, and starts TLS on it as the settings want. The second part is the server's certificate hash for channel
/// binding.
fn connect(settings: &Settings, address: &str, deadline: Instant) -> Result<(Stream, Option<Vec<u8>>), PostgresError> {
    let failed = |cause| PostgresError::Connect { address: address.to_owned(), cause };
    let left = || deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
    match &settings.host {
        Host::Socket(directory) => {
            let path = directory.join(format!(".s.PGSQL.{}", settings.port));
            let socket = UnixStream::connect(path).map_err(failed)?;
            socket.set_read_timeout(Some(left())).map_err(failed)?;
            Ok((Stream::Unix(socket), None))
        }
        Host::Name(name) => {
            // Resolved anew each time: after a failover the name may point elsewhere.
            let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
            for candidate in (name.as_str(), settings.port).to_socket_addrs().map_err(failed)? {
                match TcpStream::connect_timeout(&candidate, left()) {
                    Ok(mut socket) => {
                        socket.set_read_timeout(Some(left())).map_err(failed)?;
                        if !wants_tls(settings.tls.mode, &mut socket, address)? {
                            return Ok((Stream::Tcp(socket), None));
                        }
                        let (tls, binding) = tls::start(&settings.tls, name, socket, address)?;
                        return Ok((Stream::Tls(Box::new(tls)), binding));
                    }
                    Err(error) => last = error,
                }
            }
            Err(failed(last))
        }
    }
}

/// Asks the server for TLS, if the mode does. One byte answers; bytes that came right behind it would be unprotected text smuggled
/// in front of the handshake, and the one-byte read leaves them to TLS, which rejects them.
fn wants_tls(mode: SslMode, socket: &mut TcpStream, address: &str) -> Result<bool, PostgresError> {
    if mode == SslMode::Disable {
        return Ok(false);
    }
    let failed = |cause| PostgresError::Connect { address: address.to_owned(), cause };
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request).map_err(failed)?;
    let mut answer = [0];
    socket.read_exact(&mut answer).map_err(failed)?;
    match answer {
        [b'S'] => Ok(true),
        [b'N'] if mode == SslMode::Prefer => Ok(false),
        [b'N'] => Err(PostgresError::Tls {
            address: address.to_owned(),
            problem: format!("the server offers no TLS, and `sslmode: {mode}` wants it; set `ssl = on` at the server"),
        }),
        // An error message instead of an answer: a server that cannot even fork says so here.
        [b'E'] => Err(PostgresError::Connect {
            address: address.to_owned(),
            cause: io::Error::other("the server answered with an error when asked for TLS"),
        }),
        [other] => Err(PostgresError::protocol(format!("byte {other} as the answer to a request for TLS"))),
    }
}
