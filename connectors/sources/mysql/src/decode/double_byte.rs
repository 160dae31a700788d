//! Character sets of East Asia: ASCII, and characters of two bytes and more. The tables are the server's own; those that the web uses differ from
//! them in some characters.

use std::fmt::Write;

use encoding_rs::GB18030;

use super::ValueProblem;

/// Which bytes begin a character, and how many it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Big5,
    Gb2312,
    /// Half-width katakana have one byte.
    Sjis,
    /// Half-width katakana have two bytes, the first 0x8E; behind 0x8F stand two more.
    EucJp,
    /// Characters of four bytes are known by their second.
    Gb18030,
}

/// A character set's characters of several bytes.
#[derive(Debug)]
pub(crate) struct DoubleByte {
    pub(super) name: &'static str,
    form: Form,
    /// By first byte, from 0x80, and second byte. 0 for what is no character.
    two: Box<[u16]>,
    /// The same for the last two of three bytes.
    three: Box<[u16]>,
}

/// The character sets whose tables are asked from the server.
pub(super) const DOUBLE_BYTE: [(&str, Form); 6] = [
    ("big5", Form::Big5),
    ("gb2312", Form::Gb2312),
    ("sjis", Form::Sjis),
    ("ujis", Form::EucJp),
    ("eucjpms", Form::EucJp),
    ("gb18030", Form::Gb18030),
];

/// Ends of ranges are inclusive.
type Ranges = &'static [(u8, u8)];

const HALF_WIDTH_KATAKANA: u32 = 0xFF61;

impl Form {
    fn ranges(self) -> (Ranges, Ranges) {
        match self {
            Self::Big5 => (&[(0xA1, 0xF9)], &[(0x40, 0x7E), (0xA1, 0xFE)]),
            Self::Gb2312 => (&[(0xA1, 0xF7)], &[(0xA1, 0xFE)]),
            Self::Sjis => (&[(0x81, 0x9F), (0xE0, 0xFC)], &[(0x40, 0x7E), (0x80, 0xFC)]),
            Self::EucJp => (&[(0xA1, 0xFE)], &[(0xA1, 0xFE)]),
            Self::Gb18030 => (&[(0x81, 0xFE)], &[(0x40, 0x7E), (0x80, 0xFE)]),
        }
    }

    /// First and second byte of each character of two bytes (or second and third of three).
    fn pairs(self) -> impl Iterator<Item = (u8, u8)> {
        let (first, second) = self.ranges();
        let bytes = |ranges: Ranges| ranges.iter().flat_map(|(low, high)| *low..=*high);
        bytes(first).flat_map(move |first| bytes(second).map(move |second| (first, second)))
    }

    /// All bytes whose characters [`DoubleByte::new`] wants, in hexadecimal.
    pub(super) fn hex(self) -> String {
        let mut hex: String = self.pairs().map(|(first, second)| format!("{first:02X}{second:02X}")).collect();
        if self == Self::EucJp {
            hex.extend(self.pairs().map(|(second, third)| format!("8F{second:02X}{third:02X}")));
        }
        hex
    }
}

fn at(first: u8, second: u8) -> usize {
    (usize::from(first) & 0x7F) << 8 | usize::from(second)
}

impl DoubleByte {
    /// The character set of the characters that the server gave for [`Form::hex`]. `None` if there are not as many.
    pub(super) fn new(name: &'static str, form: Form, characters: &str) -> Option<Self> {
        let mut characters = characters.chars();
        let mut table = || -> Option<Box<[u16]>> {
            let mut table = vec![0; 128 << 8];
            for (first, second) in form.pairs() {
                let char = characters.next()?;
                // The server's signs for bytes that are no character; a real question mark has one byte.
                if char != '?' && char != '\u{FFFD}' {
                    table[at(first, second)] = u16::try_from(u32::from(char)).ok()?;
                }
            }
            Some(table.into())
        };
        let two = table()?;
        let three = if form == Form::EucJp { table()? } else { Box::default() };
        characters.next().is_none().then_some(Self { name, form, two, three })
    }

    pub(super) fn decode(&self, bytes: &[u8], out: &mut impl Write) -> Result<(), ValueProblem> {
        let mut rest = bytes;
        while let Some((char, behind)) = self.next(rest) {
            out.write_char(char).map_err(|_| ValueProblem::Mismatch)?;
            rest = behind;
        }
        if rest.is_empty() { Ok(()) } else { Err(ValueProblem::Charset(self.name)) }
    }

    /// The character at the front, U+FFFD for one that the character set does not have; `None` at the end or where bytes begin no character.
    fn next<'a>(&self, bytes: &'a [u8]) -> Option<(char, &'a [u8])> {
        let katakana = |byte: u8| char::from_u32(HALF_WIDTH_KATAKANA + u32::from(byte - 0xA1));
        let known = |table: &[u16], first, second| {
            let unit = table.get(at(first, second)).copied().filter(|unit| *unit != 0);
            unit.and_then(|unit| char::from_u32(unit.into())).unwrap_or('\u{FFFD}')
        };
        match (self.form, bytes) {
            (_, [first @ ..0x80, rest @ ..]) => Some((char::from(*first), rest)),
            (Form::Sjis, [first @ 0xA1..=0xDF, rest @ ..]) => Some((katakana(*first)?, rest)),
            (Form::EucJp, [0x8E, second @ 0xA1..=0xDF, rest @ ..]) => Some((katakana(*second)?, rest)),
            (Form::EucJp, [0x8F, second, third, rest @ ..]) => Some((known(&self.three, *second, *third), rest)),
            (Form::Gb18030, [_, b'0'..=b'9', ..]) => {
                let (four, rest) = bytes.split_first_chunk::<4>()?;
                let text = GB18030.decode_without_bom_handling_and_without_replacement(four)?;
                Some((text.chars().next()?, rest))
            }
            (Form::EucJp, [0x8E | 0x8F, ..]) => None,
            (_, [first, second, rest @ ..]) => Some((known(&self.two, *first, *second), rest)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each pair becomes a character of its own, so that a shift would show.
    fn numbered(form: Form) -> DoubleByte {
        let count = form.hex().len() / 2;
        let count = if form == Form::EucJp { count / 5 * 2 } else { count / 2 };
        let characters: String = (0..count as u32).map(|index| char::from_u32(0x4E00 + index % 0x5000).unwrap()).collect();
        assert!(DoubleByte::new("test", form, &characters[3..]).is_none());
        assert!(DoubleByte::new("test", form, &format!("{characters}x")).is_none());
        DoubleByte::new("test", form, &characters).unwrap()
    }

    fn decode(charset: &DoubleByte, bytes: &[u8]) -> Option<String> {
        let mut text = String::new();
        charset.decode(bytes, &mut text).ok().map(|()| text)
    }

    #[test]
    fn characters_have_one_to_four_bytes() {
        for (form, bytes, expected) in [
            (Form::Big5, &[b'a', 0xA1, 0x40, b'b'][..], Some("a一b")),
            (Form::Big5, &[0xA1, 0x40, 0xA1, 0x41], Some("一丁")),
            (Form::Gb2312, &[0xA1, 0xA2], Some("丁")),
            (Form::Sjis, &[0xB1, 0x81, 0x5C], Some("ｱ\u{4E1C}")),
            (Form::EucJp, &[0x8E, 0xB1, 0xA1, 0xA1], Some("ｱ一")),
            (Form::EucJp, &[0x8F, 0xA1, 0xA1], Some("\u{7084}")),
            (Form::Gb18030, &[0x81, 0x40, 0x95, 0x32, 0x82, 0x36], Some("一𠀀")),
            (Form::Gb2312, &[0x81, 0x40], Some("\u{FFFD}")),
            (Form::Gb2312, &[0xA1], None),
            (Form::EucJp, &[0x8F, 0xA1], None),
            (Form::Gb18030, &[0x95, 0x32, 0x82], None),
        ] {
            assert_eq!(decode(&numbered(form), bytes).as_deref(), expected, "{form:?} {bytes:X?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            for form in [Form::Big5, Form::Gb2312, Form::Sjis, Form::EucJp, Form::Gb18030] {
                let empty = DoubleByte { name: "test", form, two: Box::default(), three: Box::default() };
                let _ = decode(&empty, &bytes);
            }
        }
    }
}
