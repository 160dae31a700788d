use std::{
    io,
    time::{Duration, Instant},
};

use source_tailing::{Pace, Socket, TlsError};

use super::handshake::{self, Greeting, Version};
use crate::{
    config::{Host, Settings},
    error::{MySqlError, ServerError},
    event::{Bytes, EventProblem},
};

/// How long connecting and logging in may take, in all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// A packet of this many bytes is followed by the rest of its message.
const PACKET_BYTES_MAX: usize = 0xFF_FFFF;
/// No message is longer: the largest `max_allowed_packet`, and a header.
const MESSAGE_BYTES_MAX: usize = (1 << 30) + (1 << 16);
/// A message buffer that one large message blew up shrinks again.
const KEPT_MESSAGE_BYTES_MAX: usize = 32 << 20;

/// Whether to go on with the next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    More,
    Stop,
}

/// A logged-in connection, for use on a thread of its own: calls block, for at most the read time-out.
///
/// A message is one packet: its length in three bytes, a sequence number, the body. Longer ones are several packets; only those are
/// copied together.
pub(crate) struct Connection {
    socket: Socket,
    address: String,
    /// The next packet's number, either way.
    sequence: u8,
    /// The parts so far of a message of several packets.
    parts: Vec<u8>,
    version: Version,
}

impl Connection {
    /// Connects and logs in. `buffer_bytes` is the size of a large read.
    pub(crate) fn open(settings: &Settings, buffer_bytes: usize) -> Result<Self, MySqlError> {
        let address = settings.address();
        let deadline = Instant::now() + CONNECT_TIMEOUT;
        let failed = |cause| MySqlError::Connect { address: address.clone(), cause };
        let socket = match &settings.host {
            Host::Socket(path) => Socket::connect_unix(path, deadline, buffer_bytes),
            Host::Name(name) => Socket::connect_tcp(name, settings.port, deadline, buffer_bytes),
        };
        let socket = socket.map_err(failed)?;
        let mut connection = Self { socket, address: address.clone(), sequence: 0, parts: Vec::new(), version: Version::default() };
        let greeting = connection.message(Some(deadline), |body| handshake::greeting(body, settings))?;
        connection.version = greeting.version;
        let connection = connection.encrypt(settings, &greeting)?;
        handshake::log_in(connection, settings, greeting, deadline)
    }

    /// Starts TLS as the settings want.
    fn encrypt(mut self, settings: &Settings, greeting: &Greeting) -> Result<Self, MySqlError> {
        let Host::Name(name) = &settings.host else { return Ok(self) };
        let failed = |problem: String| MySqlError::Tls { address: settings.address(), problem };
        if !settings.ssl_mode.wants_tls(greeting.offers_tls) {
            return Ok(self);
        }
        if !greeting.offers_tls {
            let mode = settings.ssl_mode;
            return Err(failed(format!(
                "the server offers no TLS, and `ssl_mode: {mode}` wants it; set `ssl_cert` and `ssl_key` at the server"
            )));
        }
        self.send_packet(&handshake::ssl_request())?;
        let socket = self.socket.start_tls(&settings.tls, name).map_err(|error| match error {
            TlsError::Io(cause) => MySqlError::Connect { address: self.address.clone(), cause },
            TlsError::Refused(problem) => failed(problem),
        })?;
        Ok(Self { socket, ..self })
    }

    pub(crate) fn version(&self) -> Version {
        self.version
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Whether nobody on the way can listen: TLS, or a unix socket.
    pub(super) fn is_private(&self) -> bool {
        self.socket.is_private()
    }

    /// Whether this is a unix socket, whose buffer in the kernel is small.
    pub(crate) fn is_unix(&self) -> bool {
        self.socket.is_unix()
    }

    /// How long a read waits at most; `None` is for ever.
    pub(crate) fn set_read_timeout(&mut self, timeout: Option<Duration>) -> Result<(), MySqlError> {
        self.socket.set_read_timeout(timeout).map_err(|cause| self.lost(cause))
    }

    /// An error that says that the connection broke.
    pub(crate) fn lost(&self, cause: io::Error) -> MySqlError {
        MySqlError::ConnectionLost { address: self.address.clone(), cause }
    }

    /// How long the packet at the front says it is; 0 if that is not known yet.
    fn frame_bytes(&self) -> usize {
        self.socket.buffered().first_chunk::<4>().map_or(0, |header| 4 + body_bytes(*header))
    }

    /// Reads once. Returns how many bytes came; `None` if none came in time.
    pub(crate) fn fill(&mut self) -> Result<Option<usize>, MySqlError> {
        let frame_bytes = self.frame_bytes();
        self.socket.fill(frame_bytes).map_err(|cause| self.lost(cause))
    }

    /// [`fill`](Self::fill), perhaps after a pause in which more arrives.
    pub(crate) fn fill_paced(&mut self, pace: &mut Pace) -> Result<Option<usize>, MySqlError> {
        let frame_bytes = self.frame_bytes();
        pace.read(&mut self.socket, frame_bytes).map_err(|cause| self.lost(cause))
    }

    /// Hands the messages that were received in whole to `take`, in place, until it says [`Step::Stop`] or there is none left.
    #[inline]
    pub(crate) fn take_messages(&mut self, mut take: impl FnMut(&[u8]) -> Result<Step, MySqlError>) -> Result<Step, MySqlError> {
        let mut consumed = 0;
        let mut step = Ok(Step::More);
        let bytes = self.socket.buffered();
        while let Ok(Step::More) = step {
            let Some((header, rest)) = bytes.get(consumed..).and_then(|bytes| bytes.split_first_chunk::<4>()) else { break };
            let len = body_bytes(*header);
            let Some(body) = rest.get(..len) else { break };
            consumed += 4 + len;
            if header[3] != self.sequence {
                step = Err(MySqlError::protocol("packets out of order"));
                break;
            }
            self.sequence = self.sequence.wrapping_add(1);
            if self.parts.is_empty() && len < PACKET_BYTES_MAX {
                step = take(body);
                continue;
            }
            if self.parts.len() + len > MESSAGE_BYTES_MAX {
                step = Err(MySqlError::protocol("a message of more than 1 GiB"));
                break;
            }
            self.parts.extend_from_slice(body);
            if len < PACKET_BYTES_MAX {
                step = take(&self.parts);
                self.parts.clear();
                self.parts.shrink_to(KEPT_MESSAGE_BYTES_MAX);
            }
        }
        self.socket.consume(consumed);
        step
    }

    /// Waits for the next message until `deadline` and hands it to `take`.
    pub(crate) fn message<R>(
        &mut self,
        deadline: Option<Instant>,
        take: impl FnOnce(&[u8]) -> Result<R, MySqlError>,
    ) -> Result<R, MySqlError> {
        let begun = Instant::now();
        let mut take = Some(take);
        let mut taken = None;
        loop {
            self.take_messages(|body| {
                taken = take.take().map(|take| take(body));
                Ok(Step::Stop)
            })?;
            if let Some(taken) = taken {
                return taken;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(MySqlError::NoAnswer { address: self.address.clone(), seconds: begun.elapsed().as_secs() });
            }
            self.set_read_timeout(left)?;
            self.fill()?;
        }
    }

    /// Sends a message as the next of an exchange.
    pub(super) fn send_packet(&mut self, body: &[u8]) -> Result<(), MySqlError> {
        if body.len() >= PACKET_BYTES_MAX {
            return Err(MySqlError::protocol("a request of more than 16 MiB"));
        }
        let mut packet = Vec::with_capacity(4 + body.len());
        packet.extend_from_slice(&(body.len() as u32).to_le_bytes()[..3]);
        packet.push(self.sequence);
        packet.extend_from_slice(body);
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&packet).map_err(|cause| self.lost(cause))
    }

    /// Begins a command; what the last one left is an error.
    pub(crate) fn command(&mut self, command: u8, arguments: &[u8]) -> Result<(), MySqlError> {
        if !self.socket.buffered().is_empty() {
            return Err(MySqlError::protocol("an answer that nobody asked for"));
        }
        self.sequence = 0;
        let mut body = Vec::with_capacity(1 + arguments.len());
        body.push(command);
        body.extend_from_slice(arguments);
        self.send_packet(&body)
    }

    /// Says good-bye, so that the server does not count a broken connection. Failing to is no harm.
    pub(crate) fn close(mut self) {
        const QUIT: u8 = 1;
        self.sequence = 0;
        let _ = self.send_packet(&[QUIT]);
    }
}

#[inline]
fn body_bytes(header: [u8; 4]) -> usize {
    u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize
}

/// An error packet, from behind its first byte (0xFF): number, `#` and the state (not before the login), text.
pub(crate) fn server_error(body: &[u8]) -> Result<ServerError, MySqlError> {
    let mut bytes = Bytes::new(body, "an error message");
    let number = bytes.u16().map_err(malformed)?;
    let (state, message) = match bytes.rest() {
        [b'#', rest @ ..] if rest.len() >= 5 => rest.split_at(5),
        rest => (&[][..], rest),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(ServerError { number, state: text(state), message: text(message) })
}

/// A message of the protocol that is not what it should be.
pub(super) fn malformed(problem: EventProblem) -> MySqlError {
    MySqlError::protocol(problem.to_string())
}
