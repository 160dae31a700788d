use std::io::{BufReader, Read};

use miniz_oxide::inflate::{
    TINFLStatus,
    core::{DecompressorOxide, decompress, inflate_flags},
};

use super::{Bytes, CHECKSUM_BYTES, EventHeader, EventProblem, code};

/// No deflate stream of that many bytes yields more than this many times as much.
const DEFLATE_RATIO_MAX: usize = 1032;

/// A whole transaction in one event (MySQL's `binlog_transaction_compression`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TransactionPayload<'a> {
    /// Zstandard, or the events as they are.
    compressed: bool,
    /// Bytes of the events that are in it.
    uncompressed_len: u64,
    data: &'a [u8],
}

/// Walks the events inside a compressed transaction. Only one event at a time is in memory.
pub(crate) struct PayloadEvents<'a> {
    source: PayloadSource<'a>,
    /// Bytes that must still come.
    left: u64,
    event: Vec<u8>,
}

enum PayloadSource<'a> {
    Plain(&'a [u8]),
    Zstd(Box<zstd::Decoder<'static, BufReader<&'a [u8]>>>),
}

impl<'a> TransactionPayload<'a> {
    const WHAT: &'static str = "a transaction payload event";

    /// Fields, each a type, a length and a value; type 0 ends them, and the data follows.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, EventProblem> {
        let mut bytes = Bytes::new(body, Self::WHAT);
        let (mut size, mut method, mut uncompressed_len) = (None, None, None);
        loop {
            let field = bytes.packed()?;
            if field == 0 {
                break;
            }
            let mut value = Bytes::new(bytes.packed_bytes()?, Self::WHAT);
            match field {
                1 => size = Some(value.packed_len()?),
                2 => method = Some(value.packed()?),
                3 => uncompressed_len = Some(value.packed()?),
                _ => {}
            }
        }
        let malformed = |problem| EventProblem::Malformed { event: Self::WHAT, problem };
        let data = bytes.rest();
        if size.is_some_and(|size| size != data.len()) {
            return Err(malformed("a payload of another length than it says"));
        }
        match method.ok_or(malformed("no compression method"))? {
            0 => {
                Ok(Self { compressed: true, uncompressed_len: uncompressed_len.ok_or(malformed("no uncompressed length"))?, data })
            }
            255 => Ok(Self { compressed: false, uncompressed_len: data.len() as u64, data }),
            method => Err(EventProblem::CompressionMethod { event: Self::WHAT, method }),
        }
    }

    /// The events in it.
    pub(crate) fn events(&self) -> Result<PayloadEvents<'a>, EventProblem> {
        let source = if self.compressed {
            let decoder = zstd::Decoder::new(self.data).map_err(|_| EventProblem::Compression(Self::WHAT))?;
            PayloadSource::Zstd(Box::new(decoder))
        } else {
            PayloadSource::Plain(self.data)
        };
        Ok(PayloadEvents { source, left: self.uncompressed_len, event: Vec::new() })
    }
}

impl PayloadEvents<'_> {
    /// The next event: its header and its body, which has no checksum. `None` at the end. Data that is damaged, or that does not come to exactly
    /// the length that was announced, is an error.
    pub(crate) fn next_event(&mut self) -> Result<Option<(EventHeader, &[u8])>, EventProblem> {
        const WHAT: &str = TransactionPayload::WHAT;
        if self.left == 0 {
            let mut beyond = [0];
            return if self.read(&mut beyond)? == 0 { Ok(None) } else { Err(EventProblem::Compression(WHAT)) };
        }
        let mut head = [0; EventHeader::LEN];
        self.fill(&mut head)?;
        let (header, _) = EventHeader::parse(&head)?;
        let size = u64::from(header.event_size);
        let body_len = header.event_size.checked_sub(EventHeader::LEN as u32).ok_or(EventProblem::CutOff(WHAT))? as usize;
        self.left = self.left.checked_sub(size).ok_or(EventProblem::Compression(WHAT))?;
        let mut event = std::mem::take(&mut self.event);
        event.clear();
        // Grows with what really comes: a claimed length alone takes no memory.
        let read = match &mut self.source {
            PayloadSource::Plain(data) => data.take(body_len as u64).read_to_end(&mut event),
            PayloadSource::Zstd(decoder) => decoder.as_mut().take(body_len as u64).read_to_end(&mut event),
        };
        self.event = event;
        match read {
            Ok(read) if read == body_len => Ok(Some((header, &self.event))),
            _ => Err(EventProblem::Compression(WHAT)),
        }
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize, EventProblem> {
        let read = match &mut self.source {
            PayloadSource::Plain(data) => data.read(out),
            PayloadSource::Zstd(decoder) => decoder.read(out),
        };
        read.map_err(|_| EventProblem::Compression(TransactionPayload::WHAT))
    }

    fn fill(&mut self, mut out: &mut [u8]) -> Result<(), EventProblem> {
        while !out.is_empty() {
            match self.read(out)? {
                0 => return Err(EventProblem::Compression(TransactionPayload::WHAT)),
                read => out = &mut out[read..],
            }
        }
        Ok(())
    }
}

/// A piece of a rows event that was larger than `binlog_row_event_fragment_threshold` (MariaDB 12.3). The pieces stand one behind the other and
/// together are a whole event: header and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowsFragment<'a> {
    /// How many pieces there are.
    pub total: u32,
    /// Which one this is, from 1.
    pub number: u32,
    /// Bytes of the whole event; only the first piece says so.
    pub event_size: Option<u64>,
    pub data: &'a [u8],
}

impl<'a> RowsFragment<'a> {
    const WHAT: &'static str = "a partial row data event";

    pub(super) fn parse(body: &'a [u8]) -> Result<Self, EventProblem> {
        let mut bytes = Bytes::new(body, Self::WHAT);
        let (total, number, flags) = (bytes.u32()?, bytes.u32()?, bytes.u8()?);
        if number == 0 || number > total {
            return Err(EventProblem::Malformed { event: Self::WHAT, problem: "a piece beyond the number of pieces" });
        }
        let event_size = if flags & 1 != 0 { Some(bytes.u64()?) } else { None };
        Ok(Self { total, number, event_size, data: bytes.rest() })
    }
}

/// Puts the pieces of divided rows events together.
#[derive(Debug, Default)]
pub(crate) struct Fragments {
    bytes: Vec<u8>,
    /// The number of the last piece that was taken.
    last: u32,
}

impl Fragments {
    /// Whether more pieces must follow.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.last > 0
    }

    /// Takes a piece. The last one makes an event: its header, its body and perhaps a checksum. Pieces must come in order, with none missing.
    pub(crate) fn push(&mut self, piece: &RowsFragment<'_>) -> Result<Option<Vec<u8>>, EventProblem> {
        let malformed = |problem| Err(EventProblem::Malformed { event: RowsFragment::WHAT, problem });
        if piece.number == 1 {
            self.bytes.clear();
        } else if piece.number != self.last + 1 {
            return malformed("a piece is missing");
        }
        self.bytes.extend_from_slice(piece.data);
        self.last = piece.number;
        if piece.number < piece.total {
            return Ok(None);
        }
        self.last = 0;
        let whole = std::mem::take(&mut self.bytes);
        let (header, _) = EventHeader::parse(&whole)?;
        if ![0, CHECKSUM_BYTES].contains(&(header.event_size as usize).wrapping_sub(whole.len())) {
            return malformed("pieces that do not add up");
        }
        if header.event_type == code::PARTIAL_ROW_DATA {
            return malformed("a divided event within another");
        }
        Ok(Some(whole))
    }
}

/// MariaDB's compressed part of an event: a byte with the top bit set, the method in three bits (0: zlib) and the length of the length in three,
/// then the uncompressed length, big-endian, then the data.
pub(super) fn decompress_mariadb(data: &[u8], what: &'static str, out: &mut Vec<u8>) -> Result<(), EventProblem> {
    let mut bytes = Bytes::new(data, what);
    let head = bytes.u8()?;
    let method = (head >> 4) & 7;
    if head & 0x80 == 0 || method != 0 {
        return Err(EventProblem::CompressionMethod { event: what, method: method.into() });
    }
    let len = bytes.take((head & 7).into())?.iter().fold(0usize, |len, byte| (len << 8) | usize::from(*byte));
    inflate(bytes.rest(), len, ZlibHeader::Present, out).map_err(|DamagedData| EventProblem::Compression(what))
}

/// Whether a deflate stream stands in a zlib frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ZlibHeader {
    Present,
    Absent,
}

/// Data that does not decompress to the length it claims.
#[derive(Debug)]
pub(crate) struct DamagedData;

/// Decompresses exactly `len` bytes into `out`, whose old content is lost.
pub(crate) fn inflate(data: &[u8], len: usize, header: ZlibHeader, out: &mut Vec<u8>) -> Result<(), DamagedData> {
    if len / DEFLATE_RATIO_MAX > data.len() {
        return Err(DamagedData);
    }
    out.clear();
    out.resize(len, 0);
    let mut flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    if header == ZlibHeader::Present {
        flags |= inflate_flags::TINFL_FLAG_PARSE_ZLIB_HEADER | inflate_flags::TINFL_FLAG_COMPUTE_ADLER32;
    }
    let (status, _, written) = decompress(&mut DecompressorOxide::new(), data, out, 0, flags);
    if status == TINFLStatus::Done && written == len { Ok(()) } else { Err(DamagedData) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: u8, body: &[u8]) -> Vec<u8> {
        let mut event = vec![0; EventHeader::LEN];
        event[4] = event_type;
        event[9..13].copy_from_slice(&((EventHeader::LEN + body.len()) as u32).to_le_bytes());
        event.extend_from_slice(body);
        event
    }

    fn payload(data: &[u8], method: u8, uncompressed_len: u16) -> Vec<u8> {
        let size = (data.len() as u16).to_le_bytes();
        let len = uncompressed_len.to_le_bytes();
        [&[1, 3, 252][..], &size, &[2, 3, 252, method, 0, 3, 3, 252], &len, &[0], data].concat()
    }

    fn walk(body: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, EventProblem> {
        let mut events = TransactionPayload::parse(body)?.events()?;
        let mut out = Vec::new();
        while let Some((header, body)) = events.next_event()? {
            out.push((header.event_type, body.to_vec()));
        }
        Ok(out)
    }

    #[test]
    fn compressed_transactions_are_checked_to_the_last_byte() {
        let inner = [event(code::QUERY, b"BEGIN"), event(code::XID, &[1; 300]), event(code::XID, b"")].concat();
        let compressed = zstd::encode_all(&inner[..], 3).unwrap();
        let expected = vec![(code::QUERY, b"BEGIN".to_vec()), (code::XID, vec![1; 300]), (code::XID, vec![])];
        let len = inner.len() as u16;
        assert_eq!(walk(&payload(&compressed, 0, len)).unwrap(), expected);
        assert_eq!(walk(&payload(&inner, 255, len)).unwrap(), expected);
        assert!(walk(&payload(&compressed, 0, len + 1)).is_err());
        assert!(walk(&payload(&compressed, 0, len - 19)).is_err());
        assert!(walk(&payload(&compressed[..compressed.len() - 4], 0, len)).is_err());
        assert!(walk(&payload(b"no frame", 0, len)).is_err());
        assert!(walk(&payload(&compressed, 7, len)).is_err());
        let whole = payload(&compressed, 0, len);
        assert!(walk(&whole[..whole.len() - 1]).is_err());
    }

    #[test]
    fn mariadb_parts_carry_their_length() {
        let text = b"insert into t values (1), (1), (1), (1), (1), (1), (1), (1)".repeat(9);
        let zlib = miniz_oxide::deflate::compress_to_vec_zlib(&text, 6);
        let len = (text.len() as u16).to_be_bytes();
        let mut out = Vec::new();
        decompress_mariadb(&[&[0x82][..], &len, &zlib].concat(), "a test", &mut out).unwrap();
        assert_eq!(out, text);
        for (head, len, data) in [
            (0x02, text.len(), &zlib[..]),
            (0x92, text.len(), &zlib),
            (0x82, text.len() + 1, &zlib),
            (0x82, text.len() - 1, &zlib),
            (0x82, text.len(), &zlib[..zlib.len() - 2]),
        ] {
            let part = [&[head][..], &(len as u16).to_be_bytes(), data].concat();
            assert!(decompress_mariadb(&part, "a test", &mut out).is_err(), "{head} {len}");
        }
        // A claim of a terabyte is seen through before memory is taken.
        assert!(decompress_mariadb(&[0x85, 0xFF, 0, 0, 0, 0, 1, 2, 3], "a test", &mut out).is_err());
    }

    #[test]
    fn fragments_are_numbered_from_one() {
        let body = [&[2, 0, 0, 0, 1, 0, 0, 0, 1, 9, 0, 0, 0, 0, 0, 0, 0][..], b"abc"].concat();
        assert_eq!(RowsFragment::parse(&body), Ok(RowsFragment { total: 2, number: 1, event_size: Some(9), data: b"abc" }));
        let body = [2, 0, 0, 0, 3, 0, 0, 0, 0];
        assert!(RowsFragment::parse(&body).is_err());
    }
}
