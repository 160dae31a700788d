use std::fmt;

use uuid::Uuid;

use super::{Bytes, EventProblem};

/// The beginning of a transaction in MySQL's log, with its identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct MysqlGtid<'a> {
    /// The UUID of the server where the transaction was made, its first byte on top. Zero in anonymous transactions. A number, as it is compared for
    /// each transaction.
    pub uuid: u128,
    /// The tag (MySQL 8.3 and later), empty if there is none.
    pub tag: &'a str,
    /// The transaction's number, from 1. 0 in anonymous transactions.
    pub number: u64,
    /// When the transaction was committed on the server that sends it, microseconds since 1970. 0 before MySQL 8.0.
    pub commit_ts_us: u64,
    /// When it was committed on the server where it was made.
    pub original_commit_ts_us: u64,
    /// Bytes of the whole transaction in the log, with this event. 0 before MySQL 8.0.
    pub transaction_len: u64,
}

/// `UUID:NUMBER` or `UUID:TAG:NUMBER`.
impl fmt::Display for MysqlGtid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.uuid).fmt(f)?;
        if !self.tag.is_empty() {
            write!(f, ":{}", self.tag)?;
        }
        write!(f, ":{}", self.number)
    }
}

impl<'a> MysqlGtid<'a> {
    const WHAT: &'static str = "a GTID event";

    /// Flags, UUID, number; the logical clock behind a byte 2; then times of seven bytes, where the top bit of the first says that the second
    /// follows; then the transaction's length.
    #[inline]
    pub(super) fn parse(body: &[u8]) -> Result<Self, EventProblem> {
        let mut bytes = Bytes::new(body, Self::WHAT);
        let _flags = bytes.u8()?;
        let mut gtid = Self { uuid: u128::from_be_bytes(bytes.chunk()?), number: bytes.u64()?, ..Self::default() };
        // Servers before 8.0 end here or after the logical clock.
        if bytes.rest().len() < 1 + 16 + 7 || bytes.u8()? != 2 {
            return Ok(gtid);
        }
        bytes.take(16)?;
        const ORIGINAL_FOLLOWS: u64 = 1 << 55;
        let commit = bytes.u56()?;
        gtid.commit_ts_us = commit & !ORIGINAL_FOLLOWS;
        gtid.original_commit_ts_us = if commit & ORIGINAL_FOLLOWS != 0 { bytes.u56()? } else { gtid.commit_ts_us };
        if !bytes.is_empty() {
            gtid.transaction_len = bytes.packed()?;
        }
        Ok(gtid)
    }

    /// The form of MySQL's serialization library: version, size, last field that must be understood; then fields, each a number and a value.
    pub(super) fn parse_tagged(body: &'a [u8]) -> Result<Self, EventProblem> {
        let malformed = |problem| EventProblem::Malformed { event: Self::WHAT, problem };
        let mut bytes = Bytes::new(body, Self::WHAT);
        if variable(&mut bytes)? != 1 {
            return Err(malformed("an unknown version of the format"));
        }
        let size = usize::try_from(variable(&mut bytes)?).ok();
        let last_needed = variable(&mut bytes)?;
        let head_len = body.len() - bytes.rest().len();
        let fields_len = size.and_then(|size| size.checked_sub(head_len)).ok_or(EventProblem::CutOff(Self::WHAT))?;
        let mut bytes = Bytes::new(bytes.take(fields_len)?, Self::WHAT);
        let (mut gtid, mut original) = (Self::default(), None);
        while !bytes.is_empty() {
            match variable(&mut bytes)? {
                1 => {
                    for _ in 0..16 {
                        let byte = u8::try_from(variable(&mut bytes)?).map_err(|_| malformed("a UUID that is none"))?;
                        gtid.uuid = gtid.uuid << 8 | u128::from(byte);
                    }
                }
                // Signed numbers carry their sign in the lowest bit.
                2 => {
                    let number = variable(&mut bytes)?;
                    if number & 1 != 0 {
                        return Err(malformed("a negative transaction number"));
                    }
                    gtid.number = number >> 1;
                }
                3 => {
                    let len = usize::try_from(variable(&mut bytes)?).map_err(|_| EventProblem::CutOff(Self::WHAT))?;
                    let tag = bytes.take(len)?;
                    gtid.tag = bytes.utf8(tag)?;
                }
                6 => gtid.commit_ts_us = variable(&mut bytes)?,
                7 => original = Some(variable(&mut bytes)?),
                8 => gtid.transaction_len = variable(&mut bytes)?,
                // Flags, logical clock, server versions, ticket of the group commit.
                0 | 4 | 5 | 9 | 10 | 11 => {
                    variable(&mut bytes)?;
                }
                field if field <= last_needed => return Err(malformed("an unknown field that must be understood")),
                // Its length is not known, and nothing needed follows.
                _ => break,
            }
        }
        gtid.original_commit_ts_us = original.unwrap_or(gtid.commit_ts_us);
        Ok(gtid)
    }
}

/// An integer of one to nine bytes: as many one bits at the low end of the first byte as bytes follow, then a zero bit, then the number.
fn variable(bytes: &mut Bytes<'_>) -> Result<u64, EventProblem> {
    let first = bytes.u8()?;
    let more = first.trailing_ones() as usize;
    if more == 8 {
        return bytes.u64();
    }
    let mut raw = [0; 8];
    raw[0] = first;
    raw[1..=more].copy_from_slice(bytes.take(more)?);
    Ok(u64::from_le_bytes(raw) >> (more + 1))
}

/// The beginning of an event group in MariaDB's log, with its identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MariadbGtid {
    pub domain: u32,
    /// The server where the group was made: the event header's.
    pub server_id: u32,
    pub sequence: u64,
    /// No `COMMIT` follows: the group is the one event behind this.
    pub standalone: bool,
    /// Can be rolled back: no table without transactions is in it.
    pub transactional: bool,
    /// The group is a statement that changes a definition.
    pub ddl: bool,
    /// The group ends with `XA PREPARE`: its rows are not committed by it.
    pub prepared_xa: bool,
    /// The group commits or rolls back what an earlier `XA PREPARE` prepared.
    pub completed_xa: bool,
}

/// `DOMAIN-SERVER-SEQUENCE`
impl fmt::Display for MariadbGtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server_id, self.sequence)
    }
}

impl MariadbGtid {
    #[inline]
    pub(super) fn parse(body: &[u8], server_id: u32) -> Result<Self, EventProblem> {
        let mut bytes = Bytes::new(body, "a MariaDB GTID event");
        let (sequence, domain, flags) = (bytes.u64()?, bytes.u32()?, bytes.u8()?);
        Ok(Self {
            domain,
            server_id,
            sequence,
            standalone: flags & 1 != 0,
            transactional: flags & 4 != 0,
            ddl: flags & 32 != 0,
            prepared_xa: flags & 64 != 0,
            completed_xa: flags & 128 != 0,
        })
    }
}

/// A count, of which the top four bits are flags, then domain, server and sequence of each.
pub(super) fn mariadb_gtid_list(body: &[u8]) -> Result<Vec<(u32, u32, u64)>, EventProblem> {
    let mut bytes = Bytes::new(body, "a MariaDB GTID list event");
    let count = bytes.u32()? & 0x0FFF_FFFF;
    let mut bytes = Bytes::new(bytes.take(count as usize * 16)?, "a MariaDB GTID list event");
    let mut list = Vec::with_capacity(count as usize);
    while !bytes.is_empty() {
        list.push((bytes.u32()?, bytes.u32()?, bytes.u64()?));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// Bodies as MySQL 9.7 wrote them.
    #[test]
    fn mysql_gtids() {
        let body =
            hex("01e24e9302e6e611f190d802fc00000001010000000000000002000000000000000001000000000000006bc4c47ce86006b050620100");
        let gtid = MysqlGtid::parse(&body).unwrap();
        assert_eq!(gtid.to_string(), "e24e9302-e6e6-11f1-90d8-02fc00000001:1");
        assert_eq!((gtid.commit_ts_us, gtid.original_commit_ts_us), (1_795_401_502_213_227, 1_795_401_502_213_227));
        assert_eq!(gtid.transaction_len, 176);
        for len in 0..25 {
            assert!(MysqlGtid::parse(&body[..len]).is_err(), "{len}");
        }
        // The last server before times: the event ends with the logical clock.
        assert_eq!(MysqlGtid::parse(&body[..42]).unwrap().commit_ts_us, 0);
    }

    #[test]
    fn tagged_mysql_gtids() {
        let body = hex(
            "02760000000289039c4d02049903990322c5034102610304f103000000020404060a6d7974616708080a100c7f9e34c67ce8600610d1051283120b",
        );
        let gtid = MysqlGtid::parse_tagged(&body).unwrap();
        assert_eq!(gtid.to_string(), "e24e9302-e6e6-11f1-90d8-02fc00000001:mytag:1");
        assert_eq!(gtid.transaction_len, 372);
        assert_eq!(gtid.commit_ts_us, 1_795_401_502_307_486);
        for len in 0..body.len() {
            assert!(MysqlGtid::parse_tagged(&body[..len]).is_err(), "{len}");
        }
    }

    #[test]
    fn mariadb_gtids() {
        let body = [3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x0C, 0, 0, 0, 0, 0, 0];
        let gtid = MariadbGtid::parse(&body, 78).unwrap();
        assert_eq!((gtid.to_string().as_str(), gtid.standalone, gtid.transactional), ("1-78-3", false, true));
        assert!(MariadbGtid::parse(&body[..12], 78).is_err());
        let list = [&[1, 0, 0, 0x10][..], &[1, 0, 0, 0, 78, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(mariadb_gtid_list(&list), Ok(vec![(1, 78, 3)]));
        assert!(mariadb_gtid_list(&list[..19]).is_err());
        assert!(mariadb_gtid_list(&[0xFF, 0xFF, 0xFF, 0xFF]).is_err());
    }
}
