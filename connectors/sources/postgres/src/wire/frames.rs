use crate::error::PostgresError;

/// No message of a server is longer: it builds each in a buffer of at most 1 GiB.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// Walks the whole messages at the beginning of some received bytes, in place.
///
/// A message is a tag byte, a big-endian 32-bit length that counts itself but not the tag, and the body.
pub(crate) struct Frames<'a> {
    bytes: &'a [u8],
    consumed: usize,
}

impl<'a> Frames<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, consumed: 0 }
    }

    /// Bytes of the messages returned so far.
    pub(crate) fn consumed(&self) -> usize {
        self.consumed
    }

    /// The next message's tag and body; `None` if the rest is no whole message yet.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, PostgresError> {
        let rest = &self.bytes[self.consumed..];
        let Some(([tag, header @ ..], body)) = rest.split_first_chunk::<5>() else { return Ok(None) };
        let body_len = body_len(*header)?;
        let Some(body) = body.get(..body_len) else { return Ok(None) };
        self.consumed += 5 + body_len;
        Ok(Some((*tag, body)))
    }
}

/// How many bytes, from its tag on, the message has that begins `bytes`; `None` if they are too few to tell.
pub(crate) fn frame_len(bytes: &[u8]) -> Result<Option<usize>, PostgresError> {
    let Some(([_, header @ ..], _)) = bytes.split_first_chunk::<5>() else { return Ok(None) };
    Ok(Some(5 + body_len(*header)?))
}

#[inline]
fn body_len(header: [u8; 4]) -> Result<usize, PostgresError> {
    let len = u32::from_be_bytes(header) as usize;
    if (4..=MESSAGE_BYTES_MAX).contains(&len) {
        return Ok(len - 4);
    }
    Err(PostgresError::protocol(format!("a message of {len} bytes")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walks_whole_messages_only() {
        let bytes = [b'd', 0, 0, 0, 5, 7, b'Z', 0, 0, 0, 4, b'd', 0, 0, 0, 6, 1];
        let mut frames = Frames::new(&bytes);
        assert_eq!(frames.next().unwrap(), Some((b'd', &[7u8][..])));
        assert_eq!(frames.next().unwrap(), Some((b'Z', &[][..])));
        assert_eq!(frames.next().unwrap(), None);
        assert_eq!(frames.consumed(), 11);
        assert_eq!(frame_len(&bytes[11..]).unwrap(), Some(7));
    }

    #[test]
    fn impossible_lengths_are_errors() {
        for length in [[0, 0, 0, 0], [0, 0, 0, 3], [0x7F, 0xFF, 0xFF, 0xFF], [0xFF, 0xFF, 0xFF, 0xFF]] {
            let bytes = [&[b'd'][..], &length, &[0; 16]].concat();
            assert!(Frames::new(&bytes).next().is_err(), "{length:?}");
            assert!(frame_len(&bytes).is_err(), "{length:?}");
        }
    }
}
