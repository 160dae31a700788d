//! The thread that reads: first snapshots, then the stream.
//!
//! The server sends its log without waiting for an answer, so while there is no room or memory for more, nothing is read, and the server
//! waits at its socket. It says that it is there by heartbeats.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use connector_api::{ChangeGroup, SourceContext};
use source_tailing::{Cadence, Due, Handover, IDLE_WAIT, Memory, Moment, Pace, SHORT_WAIT, group_bytes_max};
use tracing::{debug, info};

use crate::{
    catalog::{self, LogSettings},
    config::Settings,
    dump,
    error::MySqlError,
    event::{CHECKSUM_BYTES, ChecksumAlgorithm, Event, EventHeader, FormatDescription, TransactionPayload, code},
    on_demand::OnDemand,
    place::Place,
    position::{Point, Position, Prepared},
    snapshot,
    stream::{Known, Next, StreamState},
    wire::{Client, Connection, Step, server_error},
};

/// One read of the stream takes up to this many bytes.
const READ_BUFFER_BYTES: usize = 512 << 10;
/// Without a byte for so long the server is gone: it says every 5 s that it is there. Finding the place to begin at may take a server
/// with many files a long time, in which it says nothing.
const SILENCE: Duration = Duration::from_secs(60);
const SILENCE_AT_START: Duration = Duration::from_secs(600);
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// What the thread is given.
pub(crate) struct Reader {
    pub settings: Arc<Settings>,
    pub context: SourceContext,
    pub handover: Arc<Handover>,
    pub position: Position,
    pub known: Known,
    pub log: LogSettings,
    /// The end that the server's log had when the source was opened.
    pub end: Point,
    pub server_id: u32,
    /// The position differs from the stored one, so it has to be handed over even without rows.
    pub announce: bool,
}

impl Reader {
    /// Runs to the end, which the runtime then hears of.
    pub(crate) fn run(mut self) {
        let handover = Arc::clone(&self.handover);
        let result = self.read();
        handover.end(result.err().map(Into::into));
    }

    fn read(&mut self) -> Result<(), MySqlError> {
        if !snapshot::run(self)? {
            return Ok(());
        }
        self.announce |= self.position.skip_to_snapshots();
        Stream::new(self).run()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.context.shutdown.is_requested() || self.handover.is_closed()
    }

    pub(crate) fn reached_end(&self, position: &Position) -> bool {
        position.open.is_none() && self.end.is_within(&position.done) && position.all_read() && position.requested().is_empty()
    }
}

/// What follows each event, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Checksums {
    /// No format description came yet: the event itself shows it.
    Unknown,
    Known(ChecksumAlgorithm),
}

/// Takes messages apart into events and checks them.
struct Envelope {
    checksums: Checksums,
}

impl Envelope {
    fn new() -> Self {
        Self { checksums: Checksums::Unknown }
    }

    /// Header and body of the event in a message, without the checksum.
    #[inline]
    fn open<'a>(&mut self, event: &'a [u8], at: impl Fn() -> String) -> Result<(EventHeader, &'a [u8]), MySqlError> {
        let problem = |problem| MySqlError::Event { place: at(), problem };
        let (header, body) = EventHeader::parse(event).map_err(problem)?;
        let is_description = header.event_type == code::FORMAT_DESCRIPTION;
        if is_description {
            // It always has the four bytes, and says itself whether they mean anything.
            self.checksums = Checksums::Known(FormatDescription::parse(body).map_err(problem)?.checksum);
        }
        let Some((data, checksum)) = event.split_last_chunk::<CHECKSUM_BYTES>() else { return Ok((header, body)) };
        let good = || crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, data) == u64::from(u32::from_le_bytes(*checksum));
        let short = body.get(..body.len().saturating_sub(CHECKSUM_BYTES)).unwrap_or_default();
        match self.checksums {
            Checksums::Known(ChecksumAlgorithm::Off) => Ok((header, body)),
            Checksums::Known(ChecksumAlgorithm::Crc32) if good() => Ok((header, if is_description { body } else { short })),
            Checksums::Known(ChecksumAlgorithm::Crc32) => Err(MySqlError::Checksum { place: at() }),
            Checksums::Unknown => Ok((header, if good() { short } else { body })),
        }
    }
}

/// The stream's connection, and when what was received.
struct Stream<'a> {
    reader: &'a mut Reader,
    state: StreamState,
    envelope: Envelope,
    received_at: Instant,
    heard: bool,
    reported: Option<Instant>,
    cadence: Cadence,
    pace: Pace,
    on_demand: OnDemand,
}

impl<'a> Stream<'a> {
    fn new(reader: &'a mut Reader) -> Self {
        let known = Known {
            info: Arc::clone(&reader.known.info),
            charsets: std::mem::take(&mut reader.known.charsets),
            definitions: std::mem::take(&mut reader.known.definitions),
            side: reader.known.side.take(),
        };
        let state = StreamState::new(Arc::clone(&reader.settings), known, reader.position.clone());
        let announce = reader.announce;
        Self {
            reader,
            state,
            envelope: Envelope::new(),
            received_at: Instant::now(),
            heard: false,
            reported: None,
            cadence: Cadence::new(announce),
            pace: Pace::new(true),
            on_demand: OnDemand::default(),
        }
    }

    fn run(&mut self) -> Result<(), MySqlError> {
        let settings = Arc::clone(&self.reader.settings);
        let mut client = Client::connect_with(&settings, READ_BUFFER_BYTES)?;
        let from = self.state.position().done.clone();
        dump::start(&mut client, self.reader.server_id, &from, self.reader.context.once)?;
        debug!(place = %from.place, gtids = from.gtids.is_some(), "the stream began");
        self.pace = Pace::new(client.connection().is_unix());
        self.received_at = Instant::now();
        self.pump(client.connection())?;
        if !self.state.group.is_empty() || self.state.moved {
            self.hand_over(true)?;
        }
        client.close();
        Ok(())
    }

    /// Reads until the end is asked for.
    fn pump(&mut self, connection: &mut Connection) -> Result<(), MySqlError> {
        let mut timed_out = false;
        loop {
            connection.take_messages(|message| self.message(message).map(|()| Step::More))?;
            if self.reader.is_over() {
                return Ok(());
            }
            self.on_demand.advance(self.reader, &mut self.state)?;
            self.hand_over_if_due(timed_out)?;
            self.wait_for_memory()?;
            let wait = self.watch(connection)?;
            connection.set_read_timeout(Some(wait))?;
            timed_out = connection.fill_paced(&mut self.pace)?.is_none();
            if !timed_out {
                (self.received_at, self.heard) = (self.pace.last_read(), true);
            }
        }
    }

    /// One message of the dump: an event behind a zero byte, an error, or the end.
    #[inline]
    fn message(&mut self, message: &[u8]) -> Result<(), MySqlError> {
        match message {
            [0, event @ ..] => self.event(event),
            [0xFF, rest @ ..] => {
                let from = &self.state.position().done;
                Err(dump::explain(server_error(rest)?, &self.reader.settings, self.reader.server_id, from))
            }
            _ => Err(MySqlError::protocol("the server ended its log")),
        }
    }

    #[inline]
    fn event(&mut self, event: &[u8]) -> Result<(), MySqlError> {
        let (header, body) = self.envelope.open(event, || self.state.at())?;
        self.state.reached(&header);
        match header.event_type {
            code::TRANSACTION_PAYLOAD => self.payload(&header, body)?,
            _ => {
                if let Next::Replay(prepared) = self.state.handle(&header, body)? {
                    self.replay(&prepared)?;
                }
            }
        }
        self.state.passed(&header);
        self.state.settle();
        // Within a transaction only: between its end and the next event the position stands at its beginning.
        if self.state.group.bytes >= self.bytes_max() {
            self.hand_over(true)?;
        }
        Ok(())
    }

    /// A compressed transaction: one event at a time is in memory, and a group may go in between.
    fn payload(&mut self, header: &EventHeader, body: &[u8]) -> Result<(), MySqlError> {
        let mut scratch = Vec::new();
        let Event::TransactionPayload(payload) = self.parsed(header, body, &mut scratch)? else { return Ok(()) };
        self.payload_events(&payload)
    }

    fn payload_events(&mut self, payload: &TransactionPayload<'_>) -> Result<(), MySqlError> {
        let mut events = payload.events().map_err(|problem| self.state.event_error(problem))?;
        while let Some((header, body)) = events.next_event().map_err(|problem| self.state.event_error(problem))? {
            if let Next::Replay(prepared) = self.state.handle(&header, body)? {
                self.replay(&prepared)?;
            }
            if self.state.in_transaction() && self.state.group.bytes >= self.bytes_max() {
                self.hand_over(true)?;
            }
        }
        Ok(())
    }

    fn parsed<'b>(&self, header: &EventHeader, body: &'b [u8], scratch: &'b mut Vec<u8>) -> Result<Event<'b>, MySqlError> {
        Event::parse(header, body, scratch).map_err(|problem| self.state.event_error(problem))
    }

    /// The rows of a transaction that was prepared by `XA PREPARE`, read again now that it is committed.
    fn replay(&mut self, prepared: &Prepared) -> Result<(), MySqlError> {
        let from = &prepared.place;
        let settings = Arc::clone(&self.reader.settings);
        let mut client = Client::connect_with(&settings, READ_BUFFER_BYTES)?;
        let from_point = Point { place: from.clone(), gtids: None };
        // A number of its own: the server would take us for a second connection of the stream and cut the first.
        let server_id = self.reader.server_id ^ 0x2000_0000;
        dump::start(&mut client, server_id, &from_point, self.reader.context.once)?;
        debug!(place = %from, "reading a prepared transaction");
        let at = self.state.begin_replay(prepared);
        let mut envelope = Envelope::new();
        let begun = Instant::now();
        let connection = client.connection();
        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut ended = false;
        while !ended {
            let step = connection.take_messages(|message| {
                let event = match message {
                    [0, event @ ..] => event,
                    [0xFF, rest @ ..] => return Err(dump::explain(server_error(rest)?, &settings, server_id, &from_point)),
                    _ => return Err(MySqlError::protocol("the server ended its log")),
                };
                let (header, body) = envelope.open(event, || from.to_string())?;
                let mut scratch = Vec::new();
                self.state.reached(&header);
                match header.event_type {
                    code::ROTATE | code::HEARTBEAT | code::HEARTBEAT_V2 => {}
                    code::TRANSACTION_PAYLOAD => {
                        if let Event::TransactionPayload(payload) = self.parsed(&header, body, &mut scratch)? {
                            self.payload_events(&payload)?;
                        }
                    }
                    _ => {
                        self.state.handle(&header, body)?;
                    }
                }
                self.state.passed(&header);
                Ok(if self.state.replay_is_over() { Step::Stop } else { Step::More })
            })?;
            ended = step == Step::Stop;
            if !ended && connection.fill()?.is_none() && (self.reader.is_over() || begun.elapsed() > SILENCE_AT_START) {
                return Err(MySqlError::NoAnswer { address: connection.address().to_owned(), seconds: begun.elapsed().as_secs() });
            }
        }
        // The connection is in the middle of a dump: it can only be dropped.
        drop(client);
        self.state.end_replay(prepared, at)
    }

    fn bytes_max(&self) -> usize {
        group_bytes_max(self.reader.context.budget.total_bytes())
    }

    fn hand_over_if_due(&mut self, timed_out: bool) -> Result<(), MySqlError> {
        let moment = Moment {
            timed_out,
            gulping: self.pace.is_gulping(),
            in_transaction: self.state.in_transaction(),
            tables: self.state.tables_in_group(),
            moved: self.state.moved,
            at_end: self.reader.reached_end(self.state.position()),
            urgent: self.reader.context.once,
        };
        match self.cadence.due(&self.state.group, self.bytes_max(), &moment) {
            Due::Now => self.hand_over(true),
            Due::IfWanted if self.reader.handover.is_wanted() => self.hand_over(false),
            Due::IfWanted | Due::No => Ok(()),
        }
    }

    /// Hands the group over; with `wait`, stays until there is room.
    fn hand_over(&mut self, wait: bool) -> Result<(), MySqlError> {
        let (batches, position) = self.state.take_group()?;
        self.on_demand.note(&batches);
        let reached_end = self.reader.reached_end(self.state.position());
        let held = std::mem::take(&mut self.state.group);
        let mut group = ChangeGroup { batches, position, reached_end, reservation: held.reservation };
        debug!(rows = held.rows, bytes = held.bytes, "handing a group over");
        self.cadence.handed(reached_end);
        let mut patience = if wait { IDLE_WAIT } else { Duration::ZERO };
        while let Err(back) = self.reader.handover.put(group, patience) {
            (group, patience) = (back, IDLE_WAIT);
        }
        // What the server sent meanwhile waits at the socket: it was not silent.
        self.received_at = Instant::now();
        Ok(())
    }

    /// Reserves memory for what was read, and for the next read. Until it is there nothing is read.
    fn wait_for_memory(&mut self) -> Result<(), MySqlError> {
        let budget = self.reader.context.budget.clone();
        loop {
            match self.state.group.secure(&budget) {
                Memory::Enough => return Ok(()),
                _ if self.reader.is_over() => return Ok(()),
                Memory::HandOver => return self.hand_over(true),
                Memory::Wait => std::thread::sleep(SHORT_WAIT),
            }
            self.received_at = Instant::now();
        }
    }

    /// Sees that the server is there. Returns how long to wait for it at most.
    fn watch(&mut self, connection: &Connection) -> Result<Duration, MySqlError> {
        let silence = self.received_at.elapsed();
        if silence > if self.heard { SILENCE } else { SILENCE_AT_START } {
            return Err(MySqlError::NoAnswer { address: connection.address().to_owned(), seconds: silence.as_secs() });
        }
        self.report();
        let busy = !self.state.group.is_empty() || self.cadence.announces();
        Ok(if busy { SHORT_WAIT } else { IDLE_WAIT })
    }

    fn report(&mut self) {
        if self.reported.is_some_and(|at| at.elapsed() < REPORT_INTERVAL) {
            return;
        }
        self.reported = Some(Instant::now());
        let status = self.reader.context.status.clone();
        let done = self.state.position().done.clone();
        status.set("place", done.place.to_string());
        if let Some(gtids) = &done.gtids {
            status.set("gtids", gtids.to_string());
        }
        // Only asked where a connection is there already: this must not get in the way of the stream.
        if self.state.side().is_some() {
            match self.state.with_side(catalog::log_files) {
                Ok(files) => status.set_behind_bytes(bytes_behind(&files, &done.place)),
                Err(error) => info!(%error, "the server does not say how long its log is"),
            }
        }
    }
}

/// Bytes of the server's log behind a place.
fn bytes_behind(files: &[(String, u64)], place: &Place) -> u64 {
    let at = files.iter().position(|(file, _)| *file == place.file);
    let Some(at) = at else { return 0 };
    files.iter().skip(at).map(|(_, bytes)| bytes).sum::<u64>().saturating_sub(place.position)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: u8, body: &[u8], checksum: bool) -> Vec<u8> {
        let size = (19 + body.len() + if checksum { 4 } else { 0 }) as u32;
        let mut event = [&[0, 0, 0, 0, event_type][..], &7u32.to_le_bytes(), &size.to_le_bytes(), &[0; 6], body].concat();
        if checksum {
            let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &event) as u32;
            event.extend(sum.to_le_bytes());
        }
        event
    }

    fn description(algorithm: u8) -> Vec<u8> {
        let mut body = vec![4, 0];
        body.resize(56, 0);
        body.extend([19, 56, 13, 0, 8, algorithm]);
        event(code::FORMAT_DESCRIPTION, &body, true)
    }

    #[test]
    fn my_row_08_checksums_are_checked_and_may_be_switched_between_files() {
        let mut envelope = Envelope::new();
        let open = |envelope: &mut Envelope, event: &[u8]| {
            envelope.open(event, String::new).map(|(_, body)| body.to_vec()).map_err(|error| error.to_string())
        };
        // Before the first description the event shows it.
        assert_eq!(open(&mut envelope, &event(code::ROTATE, b"rotate", true)).unwrap(), b"rotate");
        assert_eq!(open(&mut envelope, &event(code::ROTATE, b"rotate", false)).unwrap(), b"rotate");
        open(&mut envelope, &description(1)).unwrap();
        let mut good = event(code::XID, &[1; 8], true);
        assert_eq!(open(&mut envelope, &good).unwrap(), [1; 8]);
        good[20] ^= 1;
        assert!(open(&mut envelope, &good).unwrap_err().contains("checksum is wrong"));
        open(&mut envelope, &description(0)).unwrap();
        assert_eq!(open(&mut envelope, &event(code::XID, &[1; 8], false)).unwrap(), [1; 8]);
        open(&mut envelope, &description(1)).unwrap();
        assert!(open(&mut envelope, &event(code::XID, &[1; 8], false)).is_err());
        assert!(open(&mut envelope, &[1, 2, 3]).is_err());
    }

    #[test]
    fn what_is_behind_is_counted_over_files() {
        let files = [("bin.1".to_owned(), 100), ("bin.2".to_owned(), 200), ("bin.3".to_owned(), 300)];
        assert_eq!(bytes_behind(&files, &Place::new("bin.2", 150)), 350);
        assert_eq!(bytes_behind(&files, &Place::new("bin.9", 150)), 0);
    }
}
