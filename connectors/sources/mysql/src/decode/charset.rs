use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write,
    sync::Arc,
};

use encoding_rs::{EUC_KR, Encoding, GBK, SHIFT_JIS};

use super::{
    ValueProblem,
    double_byte::{DOUBLE_BYTE, DoubleByte},
    shape::ShapeProblem,
};

/// How the bytes of a character set become Unicode.
#[derive(Debug, Clone)]
pub(crate) enum Charset {
    /// `utf8mb4`, `utf8mb3`
    Utf8,
    Ascii,
    /// One byte a character: for each its character, as the server itself says.
    SingleByte(Arc<SingleByte>),
    /// Several bytes a character, by the web's tables, which are the server's.
    MultiByte(&'static Encoding),
    /// Several bytes a character, where they are not.
    DoubleByte(Arc<DoubleByte>),
    /// `utf16`, `ucs2`: big-endian.
    Utf16,
    Utf16Le,
    /// Big-endian.
    Utf32,
}

/// The characters of a single-byte character set.
#[derive(Debug)]
pub(crate) struct SingleByte {
    name: &'static str,
    chars: [char; 256],
    /// The first 128 are those of ASCII.
    ascii: bool,
}

impl PartialEq for Charset {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::SingleByte(a), Self::SingleByte(b)) => a.name == b.name,
            (Self::MultiByte(a), Self::MultiByte(b)) => a == b,
            (Self::DoubleByte(a), Self::DoubleByte(b)) => a.name == b.name,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Charset {
    /// Appends the text of those bytes. A character that the server stores and cannot tell the meaning of is U+FFFD; bytes that are no character at
    /// all are an error.
    #[inline]
    pub(crate) fn decode(&self, bytes: &[u8], out: &mut impl Write) -> Result<(), ValueProblem> {
        let written = match self {
            Self::Utf8 => out.write_str(std::str::from_utf8(bytes).map_err(|_| ValueProblem::Charset("utf8mb4"))?),
            Self::Ascii if bytes.is_ascii() => {
                out.write_str(std::str::from_utf8(bytes).map_err(|_| ValueProblem::Charset("ascii"))?)
            }
            Self::Ascii => return Err(ValueProblem::Charset("ascii")),
            Self::SingleByte(table) => return table.decode(bytes, out),
            Self::MultiByte(encoding) => return multi_byte(encoding, bytes, out),
            Self::DoubleByte(table) => return table.decode(bytes, out),
            Self::Utf16 => return utf16(bytes, u16::from_be_bytes, "utf16", out),
            Self::Utf16Le => return utf16(bytes, u16::from_le_bytes, "utf16le", out),
            Self::Utf32 => return utf32(bytes, out),
        };
        // Writing into memory does not fail.
        written.map_err(|_| ValueProblem::Mismatch)
    }

    /// The text itself where the bytes are UTF-8 already: what spares most columns the copy through a writer.
    #[inline]
    pub(crate) fn as_utf8<'a>(&self, bytes: &'a [u8]) -> Result<Option<&'a str>, ValueProblem> {
        match self {
            Self::Utf8 => std::str::from_utf8(bytes).map(Some).map_err(|_| ValueProblem::Charset("utf8mb4")),
            Self::Ascii => Ok(None),
            Self::SingleByte(table) if table.ascii && bytes.is_ascii() => Ok(std::str::from_utf8(bytes).ok()),
            Self::MultiByte(_) | Self::DoubleByte(_) if bytes.is_ascii() => Ok(std::str::from_utf8(bytes).ok()),
            _ => Ok(None),
        }
    }
}

impl SingleByte {
    fn decode(&self, bytes: &[u8], out: &mut impl Write) -> Result<(), ValueProblem> {
        for byte in bytes {
            out.write_char(self.chars[usize::from(*byte)]).map_err(|_| ValueProblem::Mismatch)?;
        }
        Ok(())
    }
}

fn multi_byte(encoding: &'static Encoding, bytes: &[u8], out: &mut impl Write) -> Result<(), ValueProblem> {
    let text = encoding.decode_without_bom_handling_and_without_replacement(bytes);
    out.write_str(&text.ok_or(ValueProblem::Charset(encoding.name()))?).map_err(|_| ValueProblem::Mismatch)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16, name: &'static str, out: &mut impl Write) -> Result<(), ValueProblem> {
    let (units, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(ValueProblem::Charset(name));
    }
    for char in char::decode_utf16(units.iter().map(|pair| unit(*pair))) {
        let char = char.map_err(|_| ValueProblem::Charset(name))?;
        out.write_char(char).map_err(|_| ValueProblem::Mismatch)?;
    }
    Ok(())
}

fn utf32(bytes: &[u8], out: &mut impl Write) -> Result<(), ValueProblem> {
    let (chars, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(ValueProblem::Charset("utf32"));
    }
    for bytes in chars {
        let char = char::from_u32(u32::from_be_bytes(*bytes)).ok_or(ValueProblem::Charset("utf32"))?;
        out.write_char(char).map_err(|_| ValueProblem::Mismatch)?;
    }
    Ok(())
}

/// The character sets of a server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Charsets {
    /// Collation number → character set.
    collations: HashMap<u32, Arc<str>>,
    /// Character set → bytes of its longest character.
    char_bytes: BTreeMap<Arc<str>, u32>,
    tables: HashMap<&'static str, Charset>,
    mariadb: bool,
}

/// The single-byte character sets whose tables are asked from the server.
const SINGLE_BYTE: [&str; 27] = [
    "armscii8", "cp1250", "cp1251", "cp1256", "cp1257", "cp850", "cp852", "cp866", "dec8", "geostd8", "greek", "hebrew", "hp8",
    "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7", "macce", "macroman", "swe7", "tis620", "cp862", "cp874",
    "cp1254",
];

impl Charsets {
    /// What tells the collations of MySQL: number, character set, bytes of its longest character.
    pub(crate) const MYSQL_QUERY: &str = "SELECT c.ID, c.CHARACTER_SET_NAME, s.MAXLEN FROM information_schema.COLLATIONS c \
        JOIN information_schema.CHARACTER_SETS s ON s.CHARACTER_SET_NAME = c.CHARACTER_SET_NAME";

    /// The same for MariaDB from 10.10 on, where a collation of `COLLATIONS` can belong to several character sets, with a number for each.
    pub(crate) const MARIADB_QUERY: &str = "SELECT c.ID, c.CHARACTER_SET_NAME, s.MAXLEN \
        FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY c \
        JOIN information_schema.CHARACTER_SETS s ON s.CHARACTER_SET_NAME = c.CHARACTER_SET_NAME WHERE c.ID IS NOT NULL";

    /// The character sets that [`MYSQL_QUERY`](Self::MYSQL_QUERY) or [`MARIADB_QUERY`](Self::MARIADB_QUERY) told. MariaDB before 10.10 takes the former.
    pub(crate) fn new(collations: impl IntoIterator<Item = (u32, String, u32)>, mariadb: bool) -> Self {
        let mut charsets = Self { mariadb, ..Self::default() };
        for (id, charset, char_bytes) in collations {
            let charset: Arc<str> = charset.into();
            charsets.char_bytes.insert(Arc::clone(&charset), char_bytes);
            charsets.collations.insert(id, charset);
        }
        charsets
    }

    /// A `SELECT` of one row, each column named like a character set and holding its characters, as UTF-8 (in a session with `character_set_results`
    /// utf8mb4 or NULL). [`load`](Self::load) takes them. About 400 KB.
    pub(crate) fn tables_query(&self) -> Option<String> {
        let single: String = (0..=255).map(|byte| format!("{byte:02X}")).collect();
        let single = SINGLE_BYTE.into_iter().map(|name| (name, single.clone()));
        let double = DOUBLE_BYTE.into_iter().map(|(name, form)| (name, form.hex()));
        let known = single.chain(double).filter(|(name, _)| self.char_bytes.contains_key(*name));
        let columns: Vec<String> =
            known.map(|(name, bytes)| format!("CONVERT(_{name} x'{bytes}' USING utf8mb4) AS {name}")).collect();
        (!columns.is_empty()).then(|| format!("SELECT {}", columns.join(", ")))
    }

    /// Takes one column of [`tables_query`](Self::tables_query)'s answer. False if it does not hold as many characters as were asked for.
    pub(crate) fn load(&mut self, charset: &str, characters: &[u8]) -> bool {
        if let Some((name, form)) = DOUBLE_BYTE.into_iter().find(|(name, _)| *name == charset) {
            let table = std::str::from_utf8(characters).ok().and_then(|text| DoubleByte::new(name, form, text));
            let loaded = table.map(|table| self.tables.insert(name, Charset::DoubleByte(Arc::new(table))));
            return loaded.is_some();
        }
        let Some(name) = SINGLE_BYTE.into_iter().find(|name| *name == charset) else { return false };
        let mut chars = ['\u{FFFD}'; 256];
        let text = String::from_utf8_lossy(characters);
        let mut given = text.chars();
        for (byte, char) in chars.iter_mut().enumerate() {
            match given.next() {
                // The server's sign for a byte that is no character.
                Some('?') if byte != usize::from(b'?') => {}
                Some(given) => *char = given,
                None => return false,
            }
        }
        let ascii = chars.iter().take(128).enumerate().all(|(byte, char)| *char as usize == byte);
        self.tables.insert(name, Charset::SingleByte(Arc::new(SingleByte { name, chars, ascii })));
        given.next().is_none()
    }

    /// Whether the server is a MariaDB.
    pub(crate) fn is_mariadb(&self) -> bool {
        self.mariadb
    }

    /// The character set of a collation.
    pub(super) fn of_collation(&self, collation: u32, column: &str) -> Result<&str, ShapeProblem> {
        match self.collations.get(&collation) {
            Some(charset) => Ok(charset),
            None => Err(ShapeProblem::Collation { column: column.to_owned(), collation }),
        }
    }

    /// Bytes of the longest character.
    pub(super) fn char_bytes(&self, charset: &str) -> u32 {
        self.char_bytes.get(charset).copied().unwrap_or(1)
    }

    /// How to decode a character set.
    pub(super) fn get(&self, charset: &str, column: &str) -> Result<Charset, ShapeProblem> {
        Ok(match charset {
            "utf8mb4" | "utf8mb3" | "utf8" | "filename" | "binary" => Charset::Utf8,
            "ascii" => Charset::Ascii,
            "utf16" | "ucs2" => Charset::Utf16,
            "utf16le" => Charset::Utf16Le,
            "utf32" => Charset::Utf32,
            "gbk" => Charset::MultiByte(GBK),
            "cp932" => Charset::MultiByte(SHIFT_JIS),
            "euckr" => Charset::MultiByte(EUC_KR),
            other => match self.tables.get(other) {
                Some(table) => table.clone(),
                None => return Err(ShapeProblem::Charset { column: column.to_owned(), charset: other.to_owned() }),
            },
        })
    }
}

#[cfg(test)]
impl Charsets {
    /// A few of MySQL's.
    pub(crate) fn for_tests() -> Self {
        let collations =
            [(8, "latin1", 1), (63, "binary", 1), (255, "utf8mb4", 4), (45, "utf8mb4", 4), (46, "utf8mb4", 4), (28, "gbk", 2)];
        let mut charsets = Self::new(collations.map(|(id, name, len)| (id, name.to_owned(), len)), false);
        // What the server calls latin1 is Windows' code page 1252, with control characters where that has nothing.
        let chars: String = (0..=255u8)
            .map(|byte| encoding_rs::WINDOWS_1252.decode_without_bom_handling(&[byte]).0.chars().next().unwrap())
            .collect();
        assert!(charsets.load("latin1", chars.as_bytes()));
        charsets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(charset: &str, bytes: &[u8]) -> Result<String, ValueProblem> {
        let charset = Charsets::for_tests().get(charset, "c").unwrap();
        let mut text = String::new();
        charset.decode(bytes, &mut text).map(|()| text)
    }

    #[test]
    fn character_sets_become_unicode() {
        for (charset, bytes, expected) in [
            ("utf8mb4", "ž š 😀".as_bytes(), "ž š 😀"),
            ("ascii", b"abc", "abc"),
            ("latin1", b"caf\xE9 \x80 \x9C", "café € œ"),
            ("gbk", b"\xC4\xE3\xBA\xC3", "你好"),
            ("cp932", b"\x83\x5C", "ソ"),
            ("euckr", b"\xB0\xA1", "가"),
            ("utf16", &[0x4F, 0x60, 0xD8, 0x3D, 0xDE, 0x00], "你😀"),
            ("ucs2", &[0x4F, 0x60], "你"),
            ("utf16le", &[0x60, 0x4F], "你"),
            ("utf32", &[0, 1, 0xF6, 0], "😀"),
        ] {
            assert_eq!(decode(charset, bytes).as_deref(), Ok(expected), "{charset}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error() {
        for (charset, bytes) in [
            ("utf8mb4", &[0xE2, 0x28][..]),
            ("ascii", &[0x80]),
            ("gbk", &[0xFF, 0xFF]),
            ("utf16", &[0x4F]),
            ("utf16", &[0xD8, 0x3D]),
            ("utf32", &[0, 0x11, 0, 0]),
            ("utf32", &[0, 0, 0]),
        ] {
            assert!(decode(charset, bytes).is_err(), "{charset}");
        }
    }

    #[test]
    fn tables_come_from_the_server() {
        let charsets = Charsets::for_tests();
        let query = charsets.tables_query().unwrap();
        assert!(query.starts_with("SELECT CONVERT(_latin1 x'000102"), "{query}");
        assert!(query.ends_with("FF' USING utf8mb4) AS latin1"), "{query}");
        assert!(!Charsets::for_tests().load("latin1", b"too short"));
        assert!(!Charsets::for_tests().load("klingon", &[b'x'; 256]));
        assert!(charsets.get("klingon", "c").is_err());
        let mut charsets = Charsets::for_tests();
        let mut chars = vec![b'?'; 256];
        chars[usize::from(b'a')] = b'b';
        assert!(charsets.load("swe7", &chars));
        let mut text = String::new();
        charsets.get("swe7", "c").unwrap().decode(b"a?\xFF", &mut text).unwrap();
        assert_eq!(text, "b?\u{FFFD}");
    }
}
