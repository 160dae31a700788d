use std::{
    io::{self, ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, Instant},
};

use connector_tls::TlsSettings;

use crate::tls::{self, TlsError, TlsStream};

/// A server that takes no byte for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// A receive buffer that one large message blew up shrinks again.
const KEPT_BUFFER_BYTES_MAX: usize = 4 << 20;

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

/// A connection to a server with a buffer of what was received, for use on a thread of its own: calls block, for at most the read
/// time-out.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    /// All initialised; `start..end` is received and not yet consumed.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    buffer_bytes: usize,
    read_timeout: Option<Duration>,
}

/// The time until `deadline`; never zero, which a socket would take for "for ever".
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

impl Socket {
    /// Connects over TCP. The name is resolved anew each time: after a failover it may point elsewhere. `buffer_bytes` is the size of a
    /// large read.
    pub fn connect_tcp(host: &str, port: u16, deadline: Instant, buffer_bytes: usize) -> io::Result<Self> {
        let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
        for candidate in (host, port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&candidate, left(deadline)) {
                Ok(socket) => {
                    socket.set_nodelay(true)?;
                    socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
                    return Self::new(Stream::Tcp(socket), deadline, buffer_bytes);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects to a unix socket.
    pub fn connect_unix(path: &Path, deadline: Instant, buffer_bytes: usize) -> io::Result<Self> {
        let socket = UnixStream::connect(path)?;
        socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Self::new(Stream::Unix(socket), deadline, buffer_bytes)
    }

    fn new(stream: Stream, deadline: Instant, buffer_bytes: usize) -> io::Result<Self> {
        let buffer = vec![0; buffer_bytes];
        let mut socket = Self { stream, buffer, start: 0, end: 0, buffer_bytes, read_timeout: None };
        socket.set_read_timeout(Some(left(deadline)))?;
        Ok(socket)
    }

    /// Goes on encrypted. Only TCP can; what was received and not consumed would be unprotected text smuggled in front of the
    /// handshake, and is refused.
    pub fn start_tls(self, settings: &TlsSettings, host: &str) -> Result<Self, TlsError> {
        if !self.buffered().is_empty() {
            return Err(TlsError::Refused("the server sent more than an answer before the handshake".to_owned()));
        }
        let Stream::Tcp(socket) = self.stream else {
            return Err(TlsError::Refused("only a connection over TCP can be encrypted".to_owned()));
        };
        let stream = Stream::Tls(Box::new(tls::start(settings, host, socket)?));
        Ok(Self { stream, ..self })
    }

    /// Whether this is a unix socket, whose buffer in the kernel is small.
    pub fn is_unix(&self) -> bool {
        matches!(self.stream, Stream::Unix(_))
    }

    /// Whether nobody on the way can listen: TLS, or a unix socket.
    pub fn is_private(&self) -> bool {
        !matches!(self.stream, Stream::Tcp(_))
    }

    /// The server's certificate in DER, if there is TLS.
    pub fn certificate(&self) -> Option<&[u8]> {
        let Stream::Tls(tls) = &self.stream else { return None };
        tls.conn.peer_certificates()?.first().map(AsRef::as_ref)
    }

    /// How long a read waits at most; `None` is for ever. Costs a system call only when it changes.
    pub fn set_read_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        if timeout != self.read_timeout {
            match &self.stream {
                Stream::Tcp(socket) => socket.set_read_timeout(timeout)?,
                Stream::Unix(socket) => socket.set_read_timeout(timeout)?,
                Stream::Tls(tls) => tls.sock.set_read_timeout(timeout)?,
            }
            self.read_timeout = timeout;
        }
        Ok(())
    }

    /// What was received and not consumed.
    #[inline]
    pub fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Drops that many received bytes from the front.
    #[inline]
    pub fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Reads once. Returns how many bytes came; `None` if none came in time. A connection that the server closed is an error.
    ///
    /// `frame_bytes` is how long the message at the front says it is, 0 if that is not known. The buffer grows only as bytes arrive,
    /// whatever length a message claims to have.
    pub fn fill(&mut self, frame_bytes: usize) -> io::Result<Option<usize>> {
        self.make_room(frame_bytes);
        let room = &mut self.buffer[self.end..];
        let read = match &mut self.stream {
            Stream::Tcp(socket) => socket.read(room),
            Stream::Unix(socket) => socket.read(room),
            Stream::Tls(tls) => tls.read(room),
        };
        match read {
            Ok(0) => Err(io::Error::new(ErrorKind::UnexpectedEof, "the server closed it")),
            Ok(bytes) => {
                self.end += bytes;
                Ok(Some(bytes))
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn make_room(&mut self, frame_bytes: usize) {
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
        if self.end == self.buffer.len() || (frame_bytes > self.buffer.len() && self.end > self.buffer.len() / 2) {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
    }

    /// Reads exactly one byte and leaves what may follow it to the kernel. Only while nothing is buffered.
    pub fn read_byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        match &mut self.stream {
            Stream::Tcp(socket) => socket.read_exact(&mut byte)?,
            Stream::Unix(socket) => socket.read_exact(&mut byte)?,
            Stream::Tls(tls) => tls.read_exact(&mut byte)?,
        }
        Ok(byte[0])
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Tcp(socket) => socket.write_all(bytes),
            Stream::Unix(socket) => socket.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn the_buffer_holds_a_message_of_any_length_and_shrinks_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent: Vec<u8> = (0..9_000_000u32).map(|number| number as u8).collect();
        let expected = sent.clone();
        let server = thread::spawn(move || listener.accept().unwrap().0.write_all(&sent));
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut socket = Socket::connect_tcp("127.0.0.1", port, deadline, 1024).unwrap();
        while socket.buffered().len() < expected.len() {
            socket.fill(expected.len()).unwrap();
        }
        assert!(socket.buffered() == expected);
        server.join().unwrap().unwrap();
        socket.consume(expected.len());
        assert_eq!(socket.fill(0).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        assert_eq!(socket.buffer.len(), 1024);
    }

    #[test]
    fn nothing_may_stand_in_front_of_the_handshake() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = thread::spawn(move || listener.accept().unwrap().0.write_all(b"smuggled"));
        let mut socket = Socket::connect_tcp("127.0.0.1", port, Instant::now() + Duration::from_secs(20), 1024).unwrap();
        while socket.fill(0).unwrap().is_none() {}
        let settings = TlsSettings { check: connector_tls::Check::Nothing, root_file: None, root_setting: "ca" };
        assert!(matches!(socket.start_tls(&settings, "localhost"), Err(TlsError::Refused(_))));
        server.join().unwrap().unwrap();
    }
}
