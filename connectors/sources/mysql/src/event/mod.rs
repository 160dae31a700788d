//! Events of the binary log: bytes in, typed events out. No I/O, and no values of rows: those are `decode`'s.
//!
//! An event is a header of 19 bytes ([`EventHeader`]), a body, and where checksums are on, four bytes of CRC-32. [`Event::parse`] takes the body
//! without the checksum. Numbers are little-endian unless said otherwise. The formats are those of MySQL's `libs/mysql/binlog/event` and of
//! MariaDB's protocol pages ("Replication Protocol").
mod bytes;
mod control;
mod gtid;
mod payload;
mod query;
mod rows;
mod table_map;

pub(crate) use self::{
    bytes::Bytes,
    control::{ChecksumAlgorithm, FormatDescription, Query},
    gtid::{MariadbGtid, MysqlGtid},
    payload::{Fragments, RowsFragment, TransactionPayload, ZlibHeader, inflate},
    query::{DefinitionVerb, QualifiedName, Statement, classify},
    rows::{Bitmap, RowsEvent, RowsOp},
    table_map::{TableMap, TableMapColumn, TableMapEvent, column_type},
};

/// Type codes of events. Those from 160 on are MariaDB's.
pub(crate) mod code {
    pub(crate) const QUERY: u8 = 2;
    pub(crate) const STOP: u8 = 3;
    pub(crate) const ROTATE: u8 = 4;
    pub(crate) const INTVAR: u8 = 5;
    pub(crate) const RAND: u8 = 13;
    pub(crate) const USER_VAR: u8 = 14;
    pub(crate) const FORMAT_DESCRIPTION: u8 = 15;
    pub(crate) const XID: u8 = 16;
    pub(crate) const TABLE_MAP: u8 = 19;
    pub(crate) const WRITE_ROWS_V1: u8 = 23;
    pub(crate) const UPDATE_ROWS_V1: u8 = 24;
    pub(crate) const DELETE_ROWS_V1: u8 = 25;
    pub(crate) const INCIDENT: u8 = 26;
    pub(crate) const HEARTBEAT: u8 = 27;
    pub(crate) const IGNORABLE: u8 = 28;
    pub(crate) const ROWS_QUERY: u8 = 29;
    pub(crate) const WRITE_ROWS: u8 = 30;
    pub(crate) const UPDATE_ROWS: u8 = 31;
    pub(crate) const DELETE_ROWS: u8 = 32;
    pub(crate) const GTID: u8 = 33;
    pub(crate) const ANONYMOUS_GTID: u8 = 34;
    pub(crate) const PREVIOUS_GTIDS: u8 = 35;
    pub(crate) const TRANSACTION_CONTEXT: u8 = 36;
    pub(crate) const VIEW_CHANGE: u8 = 37;
    pub(crate) const XA_PREPARE: u8 = 38;
    pub(crate) const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub(crate) const TRANSACTION_PAYLOAD: u8 = 40;
    pub(crate) const HEARTBEAT_V2: u8 = 41;
    pub(crate) const TAGGED_GTID: u8 = 42;
    pub(crate) const ANNOTATE_ROWS: u8 = 160;
    pub(crate) const BINLOG_CHECKPOINT: u8 = 161;
    pub(crate) const MARIADB_GTID: u8 = 162;
    pub(crate) const MARIADB_GTID_LIST: u8 = 163;
    pub(crate) const START_ENCRYPTION: u8 = 164;
    pub(crate) const QUERY_COMPRESSED: u8 = 165;
    pub(crate) const WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub(crate) const UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub(crate) const DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub(crate) const WRITE_ROWS_COMPRESSED: u8 = 169;
    pub(crate) const UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub(crate) const DELETE_ROWS_COMPRESSED: u8 = 171;
    pub(crate) const PARTIAL_ROW_DATA: u8 = 172;
}

/// Header flag: the event was made by the server for this connection and stands in no file (a first rotate event, for example).
pub(crate) const FLAG_ARTIFICIAL: u16 = 0x20;

/// What a checksum takes behind an event.
pub(crate) const CHECKSUM_BYTES: usize = 4;

/// Header flag: a reader that does not know the event may pass over it.
const FLAG_IGNORABLE: u16 = 0x80;

/// Why an event cannot be taken. Says nothing of the data in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EventProblem {
    /// The event ends early, or a length in it points beyond its end.
    #[error("{0} that is cut off")]
    CutOff(&'static str),
    /// Something in the event does not fit together.
    #[error("{event}: {problem}")]
    Malformed { event: &'static str, problem: &'static str },
    /// A name or text that is no UTF-8.
    #[error("{0}: text that is no UTF-8")]
    Utf8(&'static str),
    /// A type code that nobody here knows, and that may not be passed over.
    #[error("an event of the unknown type {0}; the server is probably newer than this program")]
    Unknown(u8),
    /// Data that cannot be decompressed to the length it claims.
    #[error("{0}: compressed data that is damaged or claims a wrong length")]
    Compression(&'static str),
    /// A compression method that nobody here knows.
    #[error("{event}: unknown compression method {method}")]
    CompressionMethod { event: &'static str, method: u64 },
}

/// The 19 bytes before each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventHeader {
    /// Seconds since 1970, when the statement began. 0 in events made for a connection.
    pub timestamp: u32,
    /// See [`code`].
    pub event_type: u8,
    /// The server that first wrote the event.
    pub server_id: u32,
    /// Bytes of the event with its header and checksum.
    pub event_size: u32,
    /// Where the next event begins in the file: the low 32 bits only. 0 in events made for a connection and inside compressed transactions.
    pub next_position: u32,
    /// See [`FLAG_ARTIFICIAL`].
    pub flags: u16,
}

impl EventHeader {
    /// Bytes of the header.
    pub(crate) const LEN: usize = 19;

    /// Splits an event into its header and its body (with the checksum, if there is one).
    #[inline]
    pub(crate) fn parse(event: &[u8]) -> Result<(Self, &[u8]), EventProblem> {
        let (head, body) = event.split_first_chunk::<{ Self::LEN }>().ok_or(EventProblem::CutOff("an event header"))?;
        let mut bytes = Bytes::new(head, "an event header");
        let header = Self {
            timestamp: bytes.u32()?,
            event_type: bytes.u8()?,
            server_id: bytes.u32()?,
            event_size: bytes.u32()?,
            next_position: bytes.u32()?,
            flags: bytes.u16()?,
        };
        Ok((header, body))
    }

    /// Whether the event stands in no file.
    pub(crate) fn is_artificial(&self) -> bool {
        self.flags & FLAG_ARTIFICIAL != 0
    }
}

/// The name of a transaction of `XA`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Xid<'a> {
    pub format: u32,
    pub global: &'a [u8],
    pub branch: &'a [u8],
}

/// As statements in the log write it: `X'6162',X'',1`.
impl std::fmt::Display for Xid<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [self.global, self.branch] {
            f.write_str("X'")?;
            part.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            f.write_str("',")?;
        }
        write!(f, "{}", self.format)
    }
}

/// A parsed event.
#[derive(Debug, PartialEq)]
pub(crate) enum Event<'a> {
    FormatDescription(FormatDescription),
    /// The log goes on in that file at that position.
    Rotate {
        file: &'a str,
        position: u64,
    },
    /// The server was shut down; another file follows.
    Stop,
    Query(Query<'a>),
    /// Commits the transaction.
    Xid(u64),
    /// Ends a transaction of `XA PREPARE`, or commits it when it is in one phase.
    XaPrepare {
        one_phase: bool,
        xid: Xid<'a>,
    },
    MysqlGtid(MysqlGtid<'a>),
    /// Begins a transaction of a server without GTIDs.
    AnonymousGtid(MysqlGtid<'a>),
    /// The set of GTIDs before this file, in MySQL's binary form.
    PreviousGtids(&'a [u8]),
    MariadbGtid(MariadbGtid),
    /// The state of each domain before this file: (domain, server, sequence).
    MariadbGtidList(Vec<(u32, u32, u64)>),
    TableMap(TableMapEvent<'a>),
    Rows(RowsEvent<'a>),
    /// A piece of a rows event that was too large for one event (MariaDB 12.3).
    RowsFragment(RowsFragment<'a>),
    /// A whole transaction, compressed.
    TransactionPayload(TransactionPayload<'a>),
    /// The server is there and has nothing to send. The position where it stands, if it said so.
    Heartbeat {
        file: &'a str,
        position: Option<u64>,
    },
    /// Something was lost.
    Incident {
        incident: u16,
    },
    /// The statement that the next rows come from (MySQL's rows query, MariaDB's annotate rows).
    RowsQuery(&'a [u8]),
    /// The rest of the file is encrypted on the server's disk; what is sent is not.
    StartEncryption,
    /// Says nothing to a reader of rows. The type code.
    Other(u8),
}

impl<'a> Event<'a> {
    /// Parses the body of an event, without the checksum (but see [`FormatDescription::parse`]). Compressed bodies are decompressed into
    /// `scratch`; its old content is lost.
    #[inline]
    pub(crate) fn parse(header: &EventHeader, body: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Self, EventProblem> {
        let event_type = header.event_type;
        match event_type {
            code::WRITE_ROWS
            | code::UPDATE_ROWS
            | code::DELETE_ROWS
            | code::PARTIAL_UPDATE_ROWS
            | code::WRITE_ROWS_V1
            | code::UPDATE_ROWS_V1
            | code::DELETE_ROWS_V1
            | code::WRITE_ROWS_COMPRESSED_V1..=code::DELETE_ROWS_COMPRESSED => {
                RowsEvent::parse(event_type, body, scratch).map(Self::Rows)
            }
            code::TABLE_MAP => TableMapEvent::parse(body).map(Self::TableMap),
            code::XID => Bytes::new(body, "an XID event").u64().map(Self::Xid),
            code::QUERY => Query::parse(body).map(Self::Query),
            code::GTID => MysqlGtid::parse(body).map(Self::MysqlGtid),
            code::TAGGED_GTID => MysqlGtid::parse_tagged(body).map(Self::MysqlGtid),
            code::ANONYMOUS_GTID => MysqlGtid::parse(body).map(Self::AnonymousGtid),
            code::MARIADB_GTID => MariadbGtid::parse(body, header.server_id).map(Self::MariadbGtid),
            code::HEARTBEAT => control::heartbeat(body, header),
            code::HEARTBEAT_V2 => control::heartbeat_v2(body),
            code::TRANSACTION_PAYLOAD => TransactionPayload::parse(body).map(Self::TransactionPayload),
            code::QUERY_COMPRESSED => Query::parse_compressed(body, scratch).map(Self::Query),
            code::ROTATE => control::rotate(body),
            code::FORMAT_DESCRIPTION => FormatDescription::parse(body).map(Self::FormatDescription),
            code::MARIADB_GTID_LIST => gtid::mariadb_gtid_list(body).map(Self::MariadbGtidList),
            code::PREVIOUS_GTIDS => Ok(Self::PreviousGtids(body)),
            code::XA_PREPARE => control::xa_prepare(body),
            code::INCIDENT => control::incident(body),
            code::PARTIAL_ROW_DATA => RowsFragment::parse(body).map(Self::RowsFragment),
            // The first byte is the statement's length, as far as a byte goes.
            code::ROWS_QUERY => Ok(Self::RowsQuery(body.get(1..).unwrap_or_default())),
            code::ANNOTATE_ROWS => Ok(Self::RowsQuery(body)),
            code::START_ENCRYPTION => Ok(Self::StartEncryption),
            code::STOP => Ok(Self::Stop),
            code::INTVAR
            | code::RAND
            | code::USER_VAR
            | code::IGNORABLE
            | code::TRANSACTION_CONTEXT
            | code::VIEW_CHANGE
            | code::BINLOG_CHECKPOINT => Ok(Self::Other(event_type)),
            _ if header.flags & FLAG_IGNORABLE != 0 => Ok(Self::Other(event_type)),
            _ => Err(EventProblem::Unknown(event_type)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(event_type: u8, flags: u16) -> EventHeader {
        EventHeader { timestamp: 0, event_type, server_id: 7, event_size: 0, next_position: 0, flags }
    }

    #[test]
    fn headers_have_nineteen_bytes() {
        let event = [1, 0, 0, 0, 16, 2, 0, 0, 0, 31, 0, 0, 0, 0x10, 0x27, 0, 0, 0x20, 0, 9, 9];
        let (header, body) = EventHeader::parse(&event).unwrap();
        assert_eq!((header.timestamp, header.event_type, header.server_id), (1, code::XID, 2));
        assert_eq!((header.event_size, header.next_position, header.is_artificial()), (31, 10_000, true));
        assert_eq!(body, [9, 9]);
        assert!(EventHeader::parse(&event[..18]).is_err());
    }

    #[test]
    fn what_is_unknown_is_passed_over_only_when_it_may_be() {
        let mut scratch = Vec::new();
        assert_eq!(Event::parse(&header(99, 0), &[], &mut scratch), Err(EventProblem::Unknown(99)));
        assert_eq!(Event::parse(&header(99, FLAG_IGNORABLE), &[], &mut scratch), Ok(Event::Other(99)));
    }

    proptest! {
        #[test]
        fn no_event_panics(event_type in prop_oneof![0u8..50, 155u8..180], body in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(Event::TableMap(event)) = Event::parse(&header(event_type, 0), &body, &mut Vec::new()) {
                let _ = event.describe(false);
                let _ = event.describe(true);
            }
            if let Ok(Event::TransactionPayload(payload)) = Event::parse(&header(event_type, 0), &body, &mut Vec::new())
                && let Ok(mut events) = payload.events()
            {
                while let Ok(Some(_)) = events.next_event() {}
            }
        }
    }
}
