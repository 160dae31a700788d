use arrow_buffer::i256;
use connector_api::ColumnBuilder;

use crate::{error::Malformed, text::parse_uuid};

/// Reads Avro's binary encoding from the front of a slice. After an error, what is left begins near the fault.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AvroReader<'a> {
    rest: &'a [u8],
}

impl<'a> AvroReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What is not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Makes `out` what was read since `start`, a copy of this reader from then.
    pub(crate) fn copy_since(&self, start: Self, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(start.rest.get(..start.rest.len() - self.rest.len()).unwrap_or_default());
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        let (&byte, rest) = self.rest.split_first().ok_or(Malformed::End)?;
        self.rest = rest;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Length)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::End)?;
        self.rest = rest;
        Ok(*taken)
    }

    // One byte is by far the most frequent length (lengths, branches, small numbers), so that much is inlined everywhere.
    #[inline(always)]
    pub(crate) fn long(&mut self) -> Result<i64, Malformed> {
        let zigzag = match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                u64::from(*byte)
            }
            _ => self.long_varint()?,
        };
        Ok((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
    }

    #[inline(never)]
    fn long_varint(&mut self) -> Result<u64, Malformed> {
        if let Some(chunk) = self.rest.first_chunk::<8>() {
            let word = u64::from_le_bytes(*chunk);
            let last = !word & 0x8080_8080_8080_8080;
            if last != 0 {
                let bytes = last.trailing_zeros() / 8 + 1;
                self.rest = &self.rest[bytes as usize..];
                // Drops what follows the last byte and the high bits, then closes the gaps in three steps.
                let mut bits = word & (u64::MAX >> (64 - 8 * bytes)) & 0x7f7f_7f7f_7f7f_7f7f;
                bits = (bits & 0x007f_007f_007f_007f) | ((bits & 0x7f00_7f00_7f00_7f00) >> 1);
                bits = (bits & 0x0000_3fff_0000_3fff) | ((bits & 0x3fff_0000_3fff_0000) >> 2);
                return Ok((bits & 0x0fff_ffff) | ((bits & 0x0fff_ffff_0000_0000) >> 4));
            }
        }
        let mut bits = 0_u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(Malformed::VarintTooLong);
            }
            bits |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(bits);
            }
        }
        Err(Malformed::VarintTooLong)
    }

    #[inline(always)]
    pub(crate) fn int(&mut self) -> Result<i32, Malformed> {
        i32::try_from(self.long()?).map_err(|_| Malformed::OutOfRange)
    }

    /// The bytes of a `string` or `bytes`.
    #[inline(always)]
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.long()?).map_err(|_| Malformed::Length)?;
        self.take(length)
    }

    /// The branch of a union whose first branch is null: whether something else follows.
    #[inline(always)]
    pub(crate) fn is_some(&mut self) -> Result<bool, Malformed> {
        match self.rest {
            [2, rest @ ..] => {
                self.rest = rest;
                Ok(true)
            }
            [0, rest @ ..] => {
                self.rest = rest;
                Ok(false)
            }
            _ => match self.long()? {
                0 => Ok(false),
                1 => Ok(true),
                _ => Err(Malformed::Branch),
            },
        }
    }

    /// Passes over exactly these bytes, if they come next and are any.
    #[inline]
    pub(crate) fn accept(&mut self, bytes: &[u8]) -> bool {
        match self.rest.strip_prefix(bytes) {
            Some(rest) if !bytes.is_empty() => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// The number of items in the next block of an array; 0 at its end. Every item takes at least `item_bytes_min`, at least 1, so a count that
    /// could not be there is refused before anybody reserves memory for it.
    pub(crate) fn block(&mut self, item_bytes_min: usize) -> Result<usize, Malformed> {
        let mut count = self.long()?;
        if count < 0 {
            let _block_bytes = self.long()?;
            count = count.checked_neg().ok_or(Malformed::Length)?;
        }
        let count = usize::try_from(count).map_err(|_| Malformed::Length)?;
        if count > self.rest.len() / item_bytes_min { Err(Malformed::Length) } else { Ok(count) }
    }
}

/// Reads a value that is not NULL, behind a union's branch if there is one. `decimal_limit` is that of the column. On an error, the builder may have got a part of a list.
#[inline]
pub(crate) fn read_value(reader: &mut AvroReader<'_>, builder: &mut ColumnBuilder, decimal_limit: &i256) -> Result<(), Malformed> {
    match builder {
        ColumnBuilder::Bool(values) => values.append_value(match reader.byte()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed::Boolean),
        }),
        ColumnBuilder::Int16(values) => values.append_value(i16::try_from(reader.long()?).map_err(|_| Malformed::OutOfRange)?),
        ColumnBuilder::Int32(values) => values.append_value(reader.int()?),
        ColumnBuilder::Int64(values) => values.append_value(reader.long()?),
        ColumnBuilder::Float32(values) => values.append_value(f32::from_le_bytes(reader.array()?)),
        ColumnBuilder::Float64(values) => values.append_value(f64::from_le_bytes(reader.array()?)),
        ColumnBuilder::Decimal(values) => {
            let value = i128::from_be_bytes(sign_extended(reader.bytes()?)?);
            if value.unsigned_abs() >= decimal_limit.as_i128().unsigned_abs() {
                return Err(Malformed::Decimal);
            }
            values.append_value(value);
        }
        ColumnBuilder::Decimal256(values) => {
            let value = i256::from_be_bytes(sign_extended(reader.bytes()?)?);
            if value >= *decimal_limit || value <= decimal_limit.wrapping_neg() {
                return Err(Malformed::Decimal);
            }
            values.append_value(value);
        }
        ColumnBuilder::Text(values) => values.append_value(std::str::from_utf8(reader.bytes()?).map_err(|_| Malformed::Utf8)?),
        ColumnBuilder::Bytes(values) => values.append_value(reader.bytes()?),
        ColumnBuilder::Date(values) => values.append_value(reader.int()?),
        ColumnBuilder::Time(values) => values.append_value(reader.long()?),
        ColumnBuilder::Timestamp(values) => values.append_value(reader.long()?),
        ColumnBuilder::Duration(values) => values.append_value(reader.long()?),
        ColumnBuilder::Interval(values) => {
            let (months, days, micros) = (reader.int()?, reader.int()?, reader.long()?);
            values.append_value(months, days, micros);
        }
        ColumnBuilder::Uuid(values) => {
            let uuid = parse_uuid(reader.bytes()?).ok_or(Malformed::Uuid)?;
            values.append_value(uuid).map_err(|_| Malformed::Uuid)?;
        }
        ColumnBuilder::List(list) => {
            loop {
                let count = reader.block(1)?;
                if count == 0 {
                    break;
                }
                for _ in 0..count {
                    if reader.is_some()? {
                        read_value(reader, list.items(), decimal_limit)?;
                    } else {
                        list.items().append_null();
                    }
                }
            }
            list.close().map_err(|_| Malformed::ListTooLong)?;
        }
    }
    Ok(())
}

/// Two's complement, big-endian, of any length up to `N` bytes, as one of `N` bytes.
#[inline]
fn sign_extended<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Malformed> {
    let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let mut wide = if negative { [0xff; N] } else { [0; N] };
    let start = N.checked_sub(bytes.len()).ok_or(Malformed::Decimal)?;
    wide[start..].copy_from_slice(bytes);
    Ok(wide)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::avro::push_long;

    fn read(bytes: &[u8]) -> Result<(i64, usize), Malformed> {
        let mut reader = AvroReader::new(bytes);
        reader.long().map(|value| (value, reader.rest().len()))
    }

    #[test]
    fn longs_at_every_length() {
        for shift in 0..64 {
            for value in [1_i64 << shift, (1_i64 << shift).wrapping_sub(1), (1_i64 << shift).wrapping_neg(), 0] {
                for tail in [&[][..], &[0; 9], &[0xff; 9]] {
                    let mut bytes = Vec::new();
                    push_long(&mut bytes, value);
                    let mut plain = Vec::new();
                    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
                    while zigzag >= 0x80 {
                        plain.push(zigzag as u8 | 0x80);
                        zigzag >>= 7;
                    }
                    plain.push(zigzag as u8);
                    assert_eq!(bytes, plain, "{value}");
                    bytes.extend_from_slice(tail);
                    assert_eq!(read(&bytes), Ok((value, tail.len())));
                }
            }
        }
    }

    #[test]
    fn malformed_longs() {
        assert_eq!(read(&[]), Err(Malformed::End));
        assert_eq!(read(&[0x80; 3]), Err(Malformed::End));
        assert_eq!(read(&[0x80; 11]), Err(Malformed::VarintTooLong));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]), Err(Malformed::VarintTooLong));
        // Longer than needed, but a legal varint.
        assert_eq!(read(&[0x82, 0x80, 0]), Ok((1, 0)));
    }

    #[test]
    fn decimals_of_any_length() {
        let decimal = |bytes: &[u8]| sign_extended(bytes).map(i128::from_be_bytes);
        assert_eq!(decimal(&[]), Ok(0));
        assert_eq!(decimal(&[0xff; 16]), Ok(-1));
        assert_eq!(decimal(&[0, 0, 0x80]), Ok(128));
        assert_eq!(decimal(&[0x80]), Ok(-128));
        assert_eq!(decimal(&[0; 17]), Err(Malformed::Decimal));
    }

    proptest! {
        #[test]
        fn longs(value: i64, tail in proptest::collection::vec(any::<u8>(), 0..9)) {
            let mut bytes = Vec::new();
            push_long(&mut bytes, value);
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(read(&bytes), Ok((value, tail.len())));
        }
    }
}
