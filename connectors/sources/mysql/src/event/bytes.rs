use super::EventProblem;

/// Reads an event from front to end; every length is checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
    /// What is being read, for messages.
    what: &'static str,
}

impl<'a> Bytes<'a> {
    /// A reader at the front of `bytes`; `what` says in messages what they are.
    #[inline]
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// What was not read yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[cold]
    fn cut_off(&self) -> EventProblem {
        EventProblem::CutOff(self.what)
    }

    /// The next `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], EventProblem> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or_else(|| self.cut_off())?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn chunk<const N: usize>(&mut self) -> Result<[u8; N], EventProblem> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.cut_off())?;
        self.rest = rest;
        Ok(*taken)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, EventProblem> {
        Ok(self.chunk::<1>()?[0])
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, EventProblem> {
        Ok(u16::from_le_bytes(self.chunk()?))
    }

    #[inline]
    pub(crate) fn u24(&mut self) -> Result<u32, EventProblem> {
        let [a, b, c] = self.chunk()?;
        Ok(u32::from_le_bytes([a, b, c, 0]))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, EventProblem> {
        Ok(u32::from_le_bytes(self.chunk()?))
    }

    #[inline]
    pub(crate) fn u48(&mut self) -> Result<u64, EventProblem> {
        let [a, b, c, d, e, f] = self.chunk()?;
        Ok(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }

    #[inline]
    pub(crate) fn u56(&mut self) -> Result<u64, EventProblem> {
        let [a, b, c, d, e, f, g] = self.chunk()?;
        Ok(u64::from_le_bytes([a, b, c, d, e, f, g, 0]))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, EventProblem> {
        Ok(u64::from_le_bytes(self.chunk()?))
    }

    /// The protocol's length-encoded integer: below 251 one byte, else a byte that says how many follow.
    #[inline]
    pub(crate) fn packed(&mut self) -> Result<u64, EventProblem> {
        Ok(match self.u8()? {
            first @ ..=250 => u64::from(first),
            252 => u64::from(self.u16()?),
            253 => u64::from(self.u24()?),
            254 => self.u64()?,
            _ => return Err(EventProblem::Malformed { event: self.what, problem: "a length-encoded integer that is none" }),
        })
    }

    /// [`packed`](Self::packed) as a length in memory.
    #[inline]
    pub(crate) fn packed_len(&mut self) -> Result<usize, EventProblem> {
        usize::try_from(self.packed()?).map_err(|_| self.cut_off())
    }

    /// Bytes behind their length-encoded length.
    #[inline]
    pub(crate) fn packed_bytes(&mut self) -> Result<&'a [u8], EventProblem> {
        let len = self.packed_len()?;
        self.take(len)
    }

    /// UTF-8 text behind its length-encoded length.
    pub(crate) fn packed_text(&mut self) -> Result<&'a str, EventProblem> {
        let bytes = self.packed_bytes()?;
        self.utf8(bytes)
    }

    pub(crate) fn utf8(&self, bytes: &'a [u8]) -> Result<&'a str, EventProblem> {
        std::str::from_utf8(bytes).map_err(|_| EventProblem::Utf8(self.what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_integers_have_four_forms() {
        for (bytes, expected) in [
            (&[0][..], 0),
            (&[250], 250),
            (&[252, 251, 0], 251),
            (&[253, 0, 0, 1], 65_536),
            (&[254, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], u64::MAX),
        ] {
            let mut reader = Bytes::new(bytes, "a test");
            assert_eq!(reader.packed(), Ok(expected));
            assert!(reader.is_empty());
        }
        for bytes in [&[][..], &[251], &[252, 0], &[255, 0]] {
            assert!(Bytes::new(bytes, "a test").packed().is_err());
        }
        assert_eq!(Bytes::new(&[3, 1, 2], "a test").packed_bytes(), Err(EventProblem::CutOff("a test")));
    }
}
