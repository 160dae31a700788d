use std::{
    io,
    time::{Duration, Instant},
};

use crate::Socket;

/// When to let bytes pile up before the next read, so that one call takes many messages.
///
/// A server under load sends each row by itself. Woken for each, we would spend more on waking up than on the rows. On a unix socket the
/// kernel holds few messages, and a sender that finds no room stalls, so the pause there is shorter.
#[derive(Debug)]
pub struct Pace {
    pause: Duration,
    gulping: bool,
    quick_reads: u32,
    last_read: Instant,
}

impl Pace {
    /// For a socket of that kind.
    pub fn new(unix: bool) -> Self {
        let pause = Duration::from_micros(if unix { 80 } else { 500 });
        Self { pause, gulping: false, quick_reads: 0, last_read: Instant::now() }
    }

    /// Whether the server sends without a pause, so that more is about to come.
    pub fn is_gulping(&self) -> bool {
        self.gulping
    }

    /// When [`read`](Self::read) last returned.
    pub fn last_read(&self) -> Instant {
        self.last_read
    }

    /// Reads once, as [`Socket::fill`] does, perhaps after a pause.
    pub fn read(&mut self, socket: &mut Socket, frame_bytes: usize) -> io::Result<Option<usize>> {
        if self.gulping {
            std::thread::sleep(self.pause);
        }
        let begun = Instant::now();
        let read = socket.fill(frame_bytes)?;
        let now = Instant::now();
        let waited = now - begun;
        if self.gulping {
            self.gulping = read.is_some() && waited < self.pause;
        } else {
            // Many messages in a row for which there was hardly a wait: the server is busy for us.
            let quick = read.is_some() && now - self.last_read < Duration::from_micros(150);
            self.quick_reads = if quick { self.quick_reads + 1 } else { 0 };
            self.gulping = self.quick_reads >= 8;
        }
        self.last_read = now;
        Ok(read)
    }
}
