//! Numbers and text in the bytes of positions.
//!
//! A number is a varint: seven bits a byte, the lowest first, the top bit says that more follow. A text is its length as such a number
//! and its UTF-8.

/// Appends a number.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a text.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend(text.as_bytes());
}

/// Appends a text as how many bytes it shares with the one before, and the rest.
pub fn put_after(out: &mut Vec<u8>, previous: &str, text: &str) {
    let mut shared = previous.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    while !text.is_char_boundary(shared) || !previous.is_char_boundary(shared) {
        shared -= 1;
    }
    put_number(out, shared as u64);
    put_text(out, &text[shared..]);
}

/// Reads what the functions of this module wrote; `None` where the bytes end early or make no sense.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Begins at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all was read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// Eight bytes, the highest first.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// See [`put_number`].
    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F).checked_shl(shift)?;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    /// See [`put_text`].
    pub fn text(&mut self) -> Option<&'a str> {
        let len = usize::try_from(self.number()?).ok()?;
        let (text, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    /// See [`put_after`].
    pub fn after(&mut self, previous: &str) -> Option<String> {
        let shared = usize::try_from(self.number()?).ok()?;
        Some(previous.get(..shared)?.to_owned() + self.text()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_put_comes_back(number in any::<u64>(), text in "\\PC{0,9}", previous in "\\PC{0,9}") {
            let mut out = Vec::new();
            put_number(&mut out, number);
            put_text(&mut out, &text);
            put_after(&mut out, &previous, &text);
            let mut reader = Reader::new(&out);
            prop_assert_eq!((reader.number(), reader.text()), (Some(number), Some(text.as_str())));
            prop_assert_eq!(reader.after(&previous), Some(text));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = Reader::new(&bytes).number();
            let _ = Reader::new(&bytes).text();
            let _ = Reader::new(&bytes).after("äöü");
        }
    }
}
