//! The thread that reads: first snapshots, then the stream.
//!
//! It answers the server whatever the runtime does: while it waits for room or memory it sends its status on a timer. `write` of the
//! status is what was received, `flush` and `apply` what the log holds.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, BytesMut};
use connector_api::{ChangeGroup, SourceContext};
use source_tailing::{Cadence, Due, Handover, IDLE_WAIT, Memory, Moment, POSITION_INTERVAL, Pace, SHORT_WAIT, group_bytes_max};
use tracing::{debug, info, warn};

use crate::{
    config::Settings,
    error::{PostgresError, sqlstate},
    lsn::Lsn,
    snapshot,
    stream::{Flow, Known, StreamState},
    wire::{Client, Connection, Frames, quote_identifier, quote_literal, server_error},
};

/// One read of the stream takes up to this many bytes.
const READ_BUFFER_BYTES: usize = 512 << 10;
const STATUS_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// How long an answer that the server asked for may wait for the position to become durable.
const ANSWER_DELAY: Duration = Duration::from_millis(100);
/// How often the server is asked for its position when the run ends there.
const ONCE_INTERVAL: Duration = Duration::from_millis(50);
/// Without a byte for so long, the server is asked for a sign of life; after twice that it is gone.
const SILENCE: Duration = Duration::from_secs(45);
/// How long the slot is kept, after the end, for the last confirmation.
const LINGER: Duration = Duration::from_secs(3);
const RETAINED_INTERVAL: Duration = Duration::from_secs(10);

/// What the thread is given.
pub(crate) struct Reader {
    pub settings: Arc<Settings>,
    pub context: SourceContext,
    pub handover: Arc<Handover>,
    pub position: crate::position::Position,
    pub known: Known,
    /// The end that the server's log had when the source was opened.
    pub end: Lsn,
    /// The position is new: it has to be in the log before tables are read.
    pub first: bool,
    pub status_interval: Duration,
}

impl Reader {
    /// Runs to the end, which the runtime then hears of.
    pub(crate) fn run(mut self) {
        let handover = Arc::clone(&self.handover);
        let result = self.read();
        handover.end(result.err().map(Into::into));
    }

    fn read(&mut self) -> Result<(), PostgresError> {
        if self.first && !self.record_first_position()? {
            return Ok(());
        }
        if !snapshot::run(self)? {
            return Ok(());
        }
        let before = self.position.lsn;
        self.position.skip_to_snapshots();
        let moved = self.position.lsn > before;
        Stream::new(self, moved).run()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.context.shutdown.is_requested() || self.handover.is_closed()
    }

    pub(crate) fn reached_end(&self, position: &crate::position::Position) -> bool {
        position.lsn >= self.end && position.all_read()
    }

    /// Hands the slot's consistent point over and waits until the log holds it: whatever happens to the snapshot, the log then knows
    /// that the slot is its own. False if the end came first.
    fn record_first_position(&mut self) -> Result<bool, PostgresError> {
        let lsn = self.position.lsn;
        let position = self.position.encode();
        let mut group = Some(ChangeGroup { batches: Vec::new(), position, reached_end: false, reservation: None });
        while self.handover.confirmed() < lsn.0 {
            if self.is_over() {
                return Ok(false);
            }
            match group.take() {
                Some(waiting) => group = self.handover.put(waiting, IDLE_WAIT).err(),
                None => std::thread::sleep(SHORT_WAIT),
            }
        }
        Ok(true)
    }
}

/// The stream's connection, and when what was sent and received.
struct Stream<'a> {
    reader: &'a mut Reader,
    state: StreamState,
    /// Where the server's log ended, as it last said.
    server_end: Lsn,
    reported: Lsn,
    status_sent: Instant,
    received_at: Instant,
    retained_asked: Option<Instant>,
    /// The server wants an answer by then.
    answer_by: Option<Instant>,
    cadence: Cadence,
    pace: Pace,
}

impl<'a> Stream<'a> {
    fn new(reader: &'a mut Reader, announce: bool) -> Self {
        let known = Known {
            info: Arc::clone(&reader.known.info),
            types: std::mem::take(&mut reader.known.types),
            keys: std::mem::take(&mut reader.known.keys),
            side: reader.known.side.take(),
        };
        let position = reader.position.clone();
        let state = StreamState::new(Arc::clone(&reader.settings), known, position);
        let now = Instant::now();
        Self {
            reader,
            state,
            server_end: Lsn(0),
            reported: Lsn(0),
            status_sent: now,
            received_at: now,
            retained_asked: None,
            answer_by: None,
            cadence: Cadence::new(announce),
            pace: Pace::new(true),
        }
    }

    fn run(&mut self) -> Result<(), PostgresError> {
        loop {
            let mut client = self.start()?;
            if self.pump(client.connection())? == Flow::Continue {
                return self.finish(client);
            }
            info!("a table has a type whose binary form is not known; the stream goes on as text");
            client.close();
            self.state.restart();
            self.state.position_mut().origin_mut().binary = false;
        }
    }

    /// Asks for the stream from the position on.
    fn start(&mut self) -> Result<Client, PostgresError> {
        let settings = Arc::clone(&self.reader.settings);
        let mut client = Client::connect_replication(&settings, READ_BUFFER_BYTES)?;
        let position = self.state.position();
        let origin = position.origin();
        let binary = if origin.binary { ", binary 'true'" } else { "" };
        let publication = quote_literal(&quote_identifier(&origin.publication));
        let command = format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '{}', publication_names {publication}{binary})",
            quote_identifier(&origin.slot),
            position.lsn,
            origin.protocol,
        );
        let until = Instant::now() + settings.slot_patience;
        loop {
            match client.start_copy("start the replication stream", &command) {
                Ok(()) => break,
                Err(error) if error.code() == Some(sqlstate::OBJECT_IN_USE) && Instant::now() < until && !self.reader.is_over() => {
                    std::thread::sleep(Duration::from_millis(50));
                    // The error ended the command; the server says that it is ready before the next one begins.
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
        debug!(lsn = %position.lsn, binary = origin.binary, protocol = origin.protocol, "the replication stream began");
        self.pace = Pace::new(client.connection().is_unix());
        (self.status_sent, self.received_at) = (Instant::now(), Instant::now());
        Ok(client)
    }

    fn explain(&self, error: PostgresError) -> PostgresError {
        let PostgresError::Server { error: server, .. } = &error else { return error };
        let origin = self.state.position().origin();
        match server.code.as_str() {
            // The log's part is gone: removed, or the slot was invalidated or dropped.
            "58P01" | sqlstate::PREREQUISITE_STATE => PostgresError::Gap {
                problem: format!("replication slot `{}`: {}", origin.slot, server.message),
                choices: crate::resume::CHOICES.to_owned(),
            },
            sqlstate::UNDEFINED_OBJECT => PostgresError::Gap {
                problem: format!(
                    "{} (publication `{}` must exist from before the first change that the slot `{}` still holds)",
                    server.message, origin.publication, origin.slot
                ),
                choices: crate::resume::CHOICES.to_owned(),
            },
            _ => error,
        }
    }

    /// Reads until the end is asked for, or the stream has to be started again.
    fn pump(&mut self, connection: &mut Connection) -> Result<Flow, PostgresError> {
        let mut timed_out = false;
        loop {
            if self.take_messages(connection)? == Flow::NeedText {
                return Ok(Flow::NeedText);
            }
            if self.reader.is_over() {
                return Ok(Flow::Continue);
            }
            self.hand_over_if_due(connection, timed_out)?;
            self.wait_for_memory(connection)?;
            let wait = self.keep_in_touch(connection)?;
            connection.set_read_timeout(Some(wait))?;
            let read = connection.fill_paced(&mut self.pace)?;
            timed_out = read.is_none();
            if !timed_out {
                self.received_at = self.pace.last_read();
            }
        }
    }

    fn take_messages(&mut self, connection: &mut Connection) -> Result<Flow, PostgresError> {
        let mut frames = Frames::new(connection.buffered());
        let mut flow = Flow::Continue;
        while flow == Flow::Continue {
            let Some((tag, body)) = frames.next()? else { break };
            match tag {
                b'd' => flow = self.copy_data(body)?,
                b'N' | b'S' => {}
                b'E' => {
                    let error =
                        PostgresError::Server { doing: "read the replication stream".to_owned(), error: server_error(body) };
                    return Err(self.explain(error));
                }
                b'c' | b'C' | b'Z' => {
                    return Err(connection.lost(std::io::Error::other("the server ended the stream")));
                }
                other => return Err(PostgresError::protocol(format!("message `{}` in the stream", other.escape_ascii()))),
            }
        }
        let consumed = frames.consumed();
        connection.consume(consumed);
        Ok(flow)
    }

    /// `w`: begin and end of the data in the log, the server's clock, data. `k`: the end of the log, clock, whether to answer.
    #[inline]
    fn copy_data(&mut self, body: &[u8]) -> Result<Flow, PostgresError> {
        let short = || PostgresError::protocol("a message of the stream that is cut off");
        let (kind, rest) = body.split_first().ok_or_else(short)?;
        let (lsn, rest) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        let lsn = Lsn(u64::from_be_bytes(*lsn));
        match kind {
            b'w' => {
                let (end, _) = rest.split_first_chunk::<8>().ok_or_else(short)?;
                self.server_end = self.server_end.max(Lsn(u64::from_be_bytes(*end)));
                self.state.handle(lsn, rest.get(16..).ok_or_else(short)?)
            }
            b'k' => {
                self.server_end = self.server_end.max(lsn);
                self.state.keep_alive(lsn);
                if rest.get(8).ok_or_else(short)? != &0 {
                    self.answer_by = Some(Instant::now() + ANSWER_DELAY);
                }
                Ok(Flow::Continue)
            }
            other => Err(PostgresError::protocol(format!("a message of kind `{}` in the stream", other.escape_ascii()))),
        }
    }

    fn hand_over_if_due(&mut self, connection: &mut Connection, timed_out: bool) -> Result<(), PostgresError> {
        let moment = Moment {
            timed_out,
            gulping: self.pace.is_gulping(),
            in_transaction: self.state.in_transaction(),
            tables: self.state.tables_in_group(),
            moved: self.state.moved,
            at_end: self.reader.reached_end(self.state.position()),
            urgent: self.answer_by.is_some() || self.reader.context.once,
        };
        let bytes_max = group_bytes_max(self.reader.context.budget.total_bytes());
        match self.cadence.due(&self.state.group, bytes_max, &moment) {
            Due::Now => self.hand_over(connection, true),
            Due::IfWanted if self.reader.handover.is_wanted() => self.hand_over(connection, false),
            Due::IfWanted | Due::No => Ok(()),
        }
    }

    /// Hands the group over; with `wait`, stays until there is room, in touch with the server.
    fn hand_over(&mut self, connection: &mut Connection, wait: bool) -> Result<(), PostgresError> {
        let (batches, position) = self.state.take_group()?;
        let reached_end = self.reader.reached_end(self.state.position());
        let reservation = self.state.group.reservation.take();
        let held = std::mem::take(&mut self.state.group);
        let mut group = ChangeGroup { batches, position, reached_end, reservation };
        debug!(rows = held.rows, bytes = held.bytes, "handing a group over");
        self.cadence.handed(reached_end);
        let mut patience = if wait { self.reader.status_interval.min(IDLE_WAIT) } else { Duration::ZERO };
        while let Err(back) = self.reader.handover.put(group, patience) {
            group = back;
            patience = self.keep_in_touch(connection)?;
        }
        Ok(())
    }

    /// Reserves memory for what was read, and for the next read. Until it is there nothing is read.
    fn wait_for_memory(&mut self, connection: &mut Connection) -> Result<(), PostgresError> {
        let budget = self.reader.context.budget.clone();
        loop {
            match self.state.group.secure(&budget) {
                Memory::Enough => return Ok(()),
                _ if self.reader.is_over() => return Ok(()),
                Memory::HandOver => return self.hand_over(connection, true),
                Memory::Wait => std::thread::sleep(SHORT_WAIT),
            }
            self.keep_in_touch(connection)?;
        }
    }

    /// Sends the status when it is due, and asks for signs of life. Returns how long to wait for the server at most.
    fn keep_in_touch(&mut self, connection: &mut Connection) -> Result<Duration, PostgresError> {
        let now = Instant::now();
        let confirmed = Lsn(self.reader.handover.confirmed());
        let since_status = now.saturating_duration_since(self.status_sent);
        let answer_due = self.answer_by.is_some_and(|by| now >= by || confirmed >= self.state.position().lsn);
        let news = confirmed > self.reported && since_status >= POSITION_INTERVAL;
        let asks_for_end = self.reader.context.once
            && since_status >= ONCE_INTERVAL
            && self.state.group.is_empty()
            && !self.reader.reached_end(self.state.position());
        let silence = now.saturating_duration_since(self.received_at);
        if silence > 2 * SILENCE {
            return Err(PostgresError::NoAnswer { address: connection.address().to_owned(), seconds: silence.as_secs() });
        }
        let asks_for_life = silence > SILENCE && since_status >= Duration::from_secs(5);
        let interval = self.reader.status_interval.min(STATUS_INTERVAL_MAX);
        if answer_due || news || asks_for_end || asks_for_life || since_status >= interval {
            self.send_status(connection, asks_for_end || asks_for_life)?;
        }
        if answer_due {
            self.answer_by = None;
        }
        self.report(now);
        let busy = !self.state.group.is_empty() || self.answer_by.is_some() || self.cadence.announces();
        Ok(match (self.reader.context.once, self.cadence.end_is_announced()) {
            // The source is closed any moment.
            (true, true) => SHORT_WAIT,
            _ if busy => SHORT_WAIT,
            (true, false) => ONCE_INTERVAL / 2,
            (false, _) => IDLE_WAIT.min(interval),
        })
    }

    fn send_status(&mut self, connection: &mut Connection, ask: bool) -> Result<(), PostgresError> {
        let confirmed = Lsn(self.reader.handover.confirmed());
        let received = self.state.position().lsn.max(confirmed);
        connection.send(&status_message(received, confirmed, ask))?;
        self.reported = confirmed;
        self.status_sent = Instant::now();
        Ok(())
    }

    fn report(&mut self, now: Instant) {
        if self.retained_asked.is_some_and(|asked| now.saturating_duration_since(asked) < RETAINED_INTERVAL) {
            return;
        }
        self.retained_asked = Some(now);
        while let Some(request) = self.reader.context.snapshots.take() {
            warn!(table = %request.table, "this source cannot read a table while the stream goes on; `mainstem resnapshot` reads it anew");
        }
        let status = self.reader.context.status.clone();
        let position = self.state.position().lsn;
        status.set("received_lsn", position.to_string());
        status.set("confirmed_lsn", Lsn(self.reader.handover.confirmed()).to_string());
        status.set_behind_bytes(self.server_end.0.saturating_sub(position.0));
        if let Some(bytes) = self.state.retained_bytes() {
            status.set_retained_bytes(bytes);
        }
    }

    /// Hands over what was read, waits a moment for its confirmation, and tells the server.
    fn finish(&mut self, mut client: Client) -> Result<(), PostgresError> {
        let connection = client.connection();
        if !self.state.group.is_empty() || self.state.moved {
            self.hand_over(connection, true)?;
        }
        let last = self.state.position().lsn;
        self.reader.handover.end(None);
        let until = Instant::now() + LINGER;
        while self.reader.handover.confirmed() < last.0 && Instant::now() < until && !self.reader.handover.is_closed() {
            std::thread::sleep(SHORT_WAIT);
        }
        // The log holds everything, whether or not the server hears of it now.
        if let Err(error) = self.send_status(connection, false) {
            warn!(%error, "the last status did not reach the server");
        }
        client.close();
        Ok(())
    }
}

/// A standby's status update as `CopyData`.
fn status_message(received: Lsn, confirmed: Lsn, ask: bool) -> BytesMut {
    let since_2000 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let micros = since_2000.as_micros() as i64 - 946_684_800_000_000;
    let mut message = BytesMut::with_capacity(39);
    message.put_u8(b'd');
    message.put_u32(38);
    message.put_u8(b'r');
    message.put_u64(received.0);
    message.put_u64(confirmed.0);
    message.put_u64(confirmed.0);
    message.put_i64(micros);
    message.put_u8(u8::from(ask));
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_counts_its_own_length() {
        let message = status_message(Lsn(1), Lsn(2), true);
        assert_eq!(Frames::new(&message).next().unwrap().map(|(tag, body)| (tag, body.len())), Some((b'd', 34)));
    }
}
