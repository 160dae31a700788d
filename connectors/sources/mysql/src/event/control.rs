use super::{Bytes, Event, EventHeader, EventProblem, Xid, payload};

/// What follows each event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChecksumAlgorithm {
    /// Nothing.
    Off,
    /// Four bytes of CRC-32.
    Crc32,
}

/// The first event of each file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormatDescription {
    /// 4 for every server since MySQL 5.0.
    pub binlog_version: u16,
    /// As `VERSION()` prints it.
    pub server_version: String,
    /// The checksum of all other events of the file.
    pub checksum: ChecksumAlgorithm,
}

impl FormatDescription {
    /// Parses the body **with** its last four bytes: this event has a checksum on every server that knows them, whatever the algorithm it names.
    pub(crate) fn parse(body: &[u8]) -> Result<Self, EventProblem> {
        let mut bytes = Bytes::new(body, "a format description event");
        let binlog_version = bytes.u16()?;
        let version = bytes.take(50)?;
        let version = version.split(|byte| *byte == 0).next().unwrap_or_default();
        let _created = bytes.u32()?;
        if usize::from(bytes.u8()?) != EventHeader::LEN {
            return Err(EventProblem::Malformed { event: "a format description event", problem: "a header length other than 19" });
        }
        let [.., algorithm, _, _, _, _] = bytes.rest() else {
            return Err(EventProblem::CutOff("a format description event"));
        };
        let checksum = match algorithm {
            0 => ChecksumAlgorithm::Off,
            1 => ChecksumAlgorithm::Crc32,
            _ => {
                return Err(EventProblem::Malformed {
                    event: "a format description event",
                    problem: "an unknown checksum algorithm",
                });
            }
        };
        Ok(Self { binlog_version, server_version: String::from_utf8_lossy(version).into_owned(), checksum })
    }
}

/// A statement in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Query<'a> {
    /// The session's connection id.
    pub thread_id: u32,
    /// Not 0 if the statement failed halfway.
    pub error_code: u16,
    /// The database that was in use; empty if none was.
    pub database: &'a str,
    /// The statement, in the session's character set.
    pub text: &'a [u8],
}

impl<'a> Query<'a> {
    const WHAT: &'static str = "a query event";

    #[inline]
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, EventProblem> {
        let mut bytes = Bytes::new(body, Self::WHAT);
        let thread_id = bytes.u32()?;
        let _execution_secs = bytes.u32()?;
        let database_len = bytes.u8()?;
        let error_code = bytes.u16()?;
        let variables_len = bytes.u16()?;
        bytes.take(variables_len.into())?;
        let database = bytes.take(database_len.into())?;
        let database = bytes.utf8(database)?;
        // A zero byte ends the database's name.
        bytes.take(1)?;
        Ok(Self { thread_id, error_code, database, text: bytes.rest() })
    }

    pub(super) fn parse_compressed(body: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<Self, EventProblem> {
        let query = Self::parse(body)?;
        payload::decompress_mariadb(query.text, Self::WHAT, scratch)?;
        Ok(Self { text: scratch, ..query })
    }
}

pub(super) fn rotate(body: &[u8]) -> Result<Event<'_>, EventProblem> {
    let mut bytes = Bytes::new(body, "a rotate event");
    let position = bytes.u64()?;
    Ok(Event::Rotate { file: bytes.utf8(bytes.rest())?, position })
}

/// One phase or two, format, lengths of the XID's two parts, the parts.
pub(super) fn xa_prepare(body: &[u8]) -> Result<Event<'_>, EventProblem> {
    let mut bytes = Bytes::new(body, "an XA prepare event");
    let one_phase = bytes.u8()? != 0;
    let (format, global_len, branch_len) = (bytes.u32()?, bytes.u32()?, bytes.u32()?);
    let (global, branch) = (bytes.take(global_len as usize)?, bytes.take(branch_len as usize)?);
    Ok(Event::XaPrepare { one_phase, xid: Xid { format, global, branch } })
}

pub(super) fn incident(body: &[u8]) -> Result<Event<'_>, EventProblem> {
    Ok(Event::Incident { incident: Bytes::new(body, "an incident event").u16()? })
}

/// The position stands in the header, where it has 32 bits: none is said when it is 0.
pub(super) fn heartbeat<'a>(body: &'a [u8], header: &EventHeader) -> Result<Event<'a>, EventProblem> {
    let bytes = Bytes::new(body, "a heartbeat event");
    let position = (header.next_position != 0).then_some(u64::from(header.next_position));
    Ok(Event::Heartbeat { file: bytes.utf8(bytes.rest())?, position })
}

/// Fields, each a type, a length and a value; type 0 ends them.
pub(super) fn heartbeat_v2(body: &[u8]) -> Result<Event<'_>, EventProblem> {
    const WHAT: &str = "a heartbeat event";
    let mut bytes = Bytes::new(body, WHAT);
    let (mut file, mut position) = ("", None);
    while !bytes.is_empty() {
        let field = bytes.packed()?;
        if field == 0 {
            break;
        }
        let value = bytes.packed_bytes()?;
        match field {
            1 => file = bytes.utf8(value)?,
            2 => position = Some(Bytes::new(value, WHAT).packed()?),
            _ => {}
        }
    }
    Ok(Event::Heartbeat { file, position })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn format_descriptions_name_the_checksum() {
        let mut body = vec![4, 0];
        body.extend_from_slice(b"10.11.6-MariaDB-log");
        body.resize(52, 0);
        body.extend_from_slice(&[0, 0, 0, 0, 19]);
        body.extend_from_slice(&[56, 13, 0, 8]);
        let with = |algorithm: u8| FormatDescription::parse(&[&body[..], &[algorithm, 1, 2, 3, 4]].concat());
        let parsed = with(1).unwrap();
        assert_eq!((parsed.binlog_version, parsed.server_version.as_str()), (4, "10.11.6-MariaDB-log"));
        assert_eq!(parsed.checksum, ChecksumAlgorithm::Crc32);
        assert_eq!(with(0).unwrap().checksum, ChecksumAlgorithm::Off);
        assert!(with(2).is_err());
        assert!(FormatDescription::parse(&body[..30]).is_err());
    }

    #[test]
    fn queries_stand_behind_variables_and_database() {
        let body = [&[9, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 2, 0, 0xEE, 0xEE][..], b"shop\0BEGIN"].concat();
        let query = Query::parse(&body).unwrap();
        assert_eq!((query.thread_id, query.database, query.text), (9, "shop", &b"BEGIN"[..]));
        for len in 0..body.len() - 5 {
            assert!(Query::parse(&body[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn heartbeats_say_where_the_server_stands() {
        let body = [1, 3, b'b', b'.', b'1', 2, 9, 254, 0, 0, 0, 0, 1, 0, 0, 0, 0];
        assert_eq!(heartbeat_v2(&body), Ok(Event::Heartbeat { file: "b.1", position: Some(1 << 32) }));
        assert!(heartbeat_v2(&body[..4]).is_err());
        assert_eq!(rotate(b"\x04\0\0\0\0\0\0\0bin.000002"), Ok(Event::Rotate { file: "bin.000002", position: 4 }));
    }
}
