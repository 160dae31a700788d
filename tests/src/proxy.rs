use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// A TCP connection in between that can be cut, stalled, slowed down, or refused.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    stalled: AtomicBool,
    /// Bytes that the server may still send before everything is held back.
    allowance: AtomicI64,
    /// Bytes of the server's that go on in a second.
    rate: AtomicU64,
    refusing: AtomicBool,
    refused: AtomicU64,
    /// Commands of MySQL's protocol whose answers are held back.
    held_commands: Mutex<Vec<u8>>,
    /// Connections that sent one of them.
    held: AtomicU64,
    stopped: AtomicBool,
    forwarded: AtomicU64,
    streams: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and forwards to `target_port` there.
    pub fn to(target_port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("address").port();
        let state = Arc::new(State {
            stalled: AtomicBool::new(false),
            allowance: AtomicI64::new(i64::MAX),
            rate: AtomicU64::new(u64::MAX),
            refusing: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            held_commands: Mutex::new(Vec::new()),
            held: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            forwarded: AtomicU64::new(0),
            streams: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                if shared.refusing.load(Ordering::SeqCst) {
                    shared.refused.fetch_add(1, Ordering::SeqCst);
                } else {
                    connect(client, target_port, &shared);
                }
            }
        });
        Self { port, state }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Closes all connections; new ones are taken.
    pub fn cut(&self) {
        for stream in self.state.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuse: bool) {
        self.state.refused.store(0, Ordering::SeqCst);
        self.state.refusing.store(refuse, Ordering::SeqCst);
    }

    /// How many connections were closed at once since [`refuse`](Self::refuse).
    pub fn refused(&self) -> u64 {
        self.state.refused.load(Ordering::SeqCst)
    }

    /// Whether bytes are held back, in both directions, with the connections open.
    pub fn stall(&self, stall: bool) {
        self.state.allowance.store(i64::MAX, Ordering::SeqCst);
        self.state.stalled.store(stall, Ordering::SeqCst);
    }

    /// Holds everything back as soon as the server has sent that many more bytes, at exactly that byte.
    pub fn stall_after(&self, bytes: u64) {
        self.state.stalled.store(false, Ordering::SeqCst);
        self.state.allowance.store(bytes as i64, Ordering::SeqCst);
    }

    /// From now on, each connection passes on that many of the server's bytes in a second.
    pub fn slow_down(&self, bytes_per_second: u64) {
        self.state.rate.store(bytes_per_second, Ordering::SeqCst);
    }

    /// From now on holds back what the server answers to these commands of MySQL's protocol, on connections without TLS, until none is named.
    pub fn hold_answers_to(&self, commands: &[u8]) {
        *self.state.held_commands() = commands.to_vec();
    }

    /// How many connections have sent a command whose answer is held back.
    pub fn held(&self) -> u64 {
        self.state.held.load(Ordering::SeqCst)
    }

    /// Whether bytes are held back now.
    pub fn is_stalled(&self) -> bool {
        self.state.stalled.load(Ordering::SeqCst)
    }

    /// Bytes that went through, in both directions.
    pub fn forwarded(&self) -> u64 {
        self.state.forwarded.load(Ordering::SeqCst)
    }
}

impl State {
    fn held_commands(&self) -> MutexGuard<'_, Vec<u8>> {
        self.held_commands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the packet begins a command whose answer is to be held back: length in three bytes, number 0, command.
    fn is_held(&self, packet: &[u8]) -> bool {
        matches!(packet, [_, _, _, 0, command, ..] if self.held_commands().contains(command))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn connect(client: TcpStream, target_port: u16, state: &Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target_port)) else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let holds = Arc::new(AtomicBool::new(false));
    for (from, to, is_answer) in [(&client, &server, false), (&server, &client, true)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let (state, holds) = (Arc::clone(state), Arc::clone(&holds));
        thread::spawn(move || forward(from, to, is_answer, &holds, &state));
    }
    state.streams.lock().unwrap_or_else(PoisonError::into_inner).extend([client, server]);
}

/// `holds` says of the connection that the server's bytes are held back.
fn forward(mut from: TcpStream, mut to: TcpStream, is_answer: bool, holds: &AtomicBool, state: &State) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let mut rest = &buffer[..length];
        if !is_answer && state.is_held(rest) {
            state.held.fetch_add(1, Ordering::SeqCst);
            holds.store(true, Ordering::SeqCst);
        }
        while !rest.is_empty() {
            let is_held = is_answer && holds.load(Ordering::SeqCst) && !state.held_commands().is_empty();
            if is_held || state.stalled.load(Ordering::SeqCst) {
                if state.stopped.load(Ordering::SeqCst) {
                    return;
                }
                thread::sleep(Duration::from_millis(5));
                continue;
            }
            let mut now = rest.len();
            if is_answer {
                let left = state.allowance.fetch_sub(now as i64, Ordering::SeqCst);
                if left <= now as i64 {
                    now = left.max(0) as usize;
                    state.allowance.store(i64::MAX, Ordering::SeqCst);
                    state.stalled.store(true, Ordering::SeqCst);
                }
            }
            if to.write_all(&rest[..now]).is_err() {
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            state.forwarded.fetch_add(now as u64, Ordering::SeqCst);
            if is_answer {
                thread::sleep(Duration::from_secs_f64(now as f64 / state.rate.load(Ordering::SeqCst) as f64));
            }
            rest = &rest[now..];
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
