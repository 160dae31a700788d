use std::time::{Duration, Instant};

use crate::{error::PostgresError, wire::Connection};

/// When to let bytes pile up before the next read, so that one call takes many messages.
///
/// A server under load sends each row by itself. Woken for each, we would spend more on waking up than on the rows. On a unix socket the
/// kernel holds few messages, and a sender that finds no room stalls, so the pause there is shorter.
pub(crate) struct Pace {
    pause: Duration,
    pub gulping: bool,
    quick_reads: u32,
    pub last_read: Instant,
}

impl Pace {
    pub(crate) fn new(unix: bool) -> Self {
        let pause = Duration::from_micros(if unix { 250 } else { 500 });
        Self { pause, gulping: false, quick_reads: 0, last_read: Instant::now() }
    }

    pub(crate) fn read(&mut self, connection: &mut Connection) -> Result<Option<usize>, PostgresError> {
        if self.gulping {
            std::thread::sleep(self.pause);
        }
        let begun = Instant::now();
        let read = connection.fill()?;
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
