use crate::error::Malformed;

/// How deep a value that is passed over may be nested.
const DEPTH_MAX: usize = 128;

/// Pulls JSON apart token by token, without a tree and without a detour through doubles.
#[derive(Debug)]
pub(crate) struct JsonReader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> JsonReader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// How many bytes were read.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no white space; it is not consumed.
    pub(crate) fn peek(&mut self) -> Result<u8, Malformed> {
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Ok(*byte);
            }
            self.at += 1;
        }
        Err(Malformed::End)
    }

    /// Consumes that byte if it comes next.
    pub(crate) fn accept(&mut self, expected: u8) -> Result<bool, Malformed> {
        let found = self.peek()? == expected;
        self.at += usize::from(found);
        Ok(found)
    }

    pub(crate) fn expect(&mut self, expected: u8) -> Result<(), Malformed> {
        if self.accept(expected)? { Ok(()) } else { Err(Malformed::Syntax) }
    }

    /// Succeeds if nothing but white space is left.
    pub(crate) fn end(&mut self) -> Result<(), Malformed> {
        match self.peek() {
            Err(Malformed::End) => Ok(()),
            _ => Err(Malformed::Trailing),
        }
    }

    /// Steps to the next field of an object, or element of an array: `false` at its end. `first` is true before the first one.
    pub(crate) fn next(&mut self, first: &mut bool, close: u8) -> Result<bool, Malformed> {
        let is_first = std::mem::replace(first, false);
        if self.accept(close)? {
            // A comma before the end would have been consumed below.
            return Ok(false);
        }
        if !is_first {
            self.expect(b',')?;
            if self.peek()? == close {
                return Err(Malformed::Syntax);
            }
        }
        Ok(true)
    }

    /// The name of a field, and the colon behind it.
    pub(crate) fn name<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str, Malformed>
    where
        'a: 's,
    {
        let name = self.string(scratch)?;
        self.expect(b':')?;
        Ok(name)
    }

    /// Consumes `null` if it comes next.
    pub(crate) fn null(&mut self) -> Result<bool, Malformed> {
        if self.peek()? != b'n' {
            return Ok(false);
        }
        self.literal(b"null").map(|()| true)
    }

    pub(crate) fn bool(&mut self) -> Result<bool, Malformed> {
        if self.peek()? == b't' { self.literal(b"true").map(|()| true) } else { self.literal(b"false").map(|()| false) }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Malformed> {
        if !self.rest().starts_with(literal) {
            return Err(Malformed::Syntax);
        }
        self.at += literal.len();
        Ok(())
    }

    /// The text of a number, as far as its characters go: whether it is one, the parser of its type says.
    fn number(&mut self) -> Result<&'a str, Malformed> {
        if !matches!(self.peek()?, b'-' | b'0'..=b'9') {
            return Err(Malformed::Number);
        }
        let rest = self.rest();
        let is_part = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        self.take(rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len()))
    }

    /// Consumes that many bytes, which must end at a character's end.
    fn take(&mut self, count: usize) -> Result<&'a str, Malformed> {
        let taken = self.text.get(self.at..self.at + count).ok_or(Malformed::Utf8)?;
        self.at += count;
        Ok(taken)
    }

    pub(crate) fn parse_number<T: std::str::FromStr>(&mut self) -> Result<T, Malformed> {
        self.number()?.parse().map_err(|_| Malformed::Number)
    }

    /// A string without its quotes: a part of the input, or put together in `scratch` if it has escapes.
    pub(crate) fn string<'s>(&mut self, scratch: &'s mut String) -> Result<&'s str, Malformed>
    where
        'a: 's,
    {
        self.expect(b'"')?;
        let plain = self.plain()?;
        if self.closed()? {
            return Ok(plain);
        }
        scratch.clear();
        scratch.push_str(plain);
        loop {
            scratch.push(self.escape()?);
            scratch.push_str(self.plain()?);
            if self.closed()? {
                return Ok(scratch);
            }
        }
    }

    /// Consumes what stands for itself in a string.
    fn plain(&mut self) -> Result<&'a str, Malformed> {
        let length = plain_length(self.rest()).ok_or(Malformed::End)?;
        self.take(length)
    }

    /// After [`plain`](Self::plain): consumes the quote or the backslash; true for the quote.
    fn closed(&mut self) -> Result<bool, Malformed> {
        let byte = self.rest().first();
        self.at += 1;
        match byte {
            Some(b'"') => Ok(true),
            Some(b'\\') => Ok(false),
            _ => Err(Malformed::Syntax),
        }
    }

    /// Reads what follows a backslash.
    fn escape(&mut self) -> Result<char, Malformed> {
        let byte = *self.rest().first().ok_or(Malformed::End)?;
        self.at += 1;
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'u' => {
                let mut code = self.hex4()?;
                if (0xd800..0xdc00).contains(&code) && self.rest().starts_with(b"\\u") {
                    self.at += 2;
                    let low = self.hex4()?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(Malformed::Syntax);
                    }
                    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
                }
                // Half of a pair is no character.
                char::from_u32(code).ok_or(Malformed::Syntax)?
            }
            _ => {
                // Back to the start of what may be more than one byte.
                self.at -= 1;
                return Err(Malformed::Syntax);
            }
        })
    }

    fn hex4(&mut self) -> Result<u32, Malformed> {
        let digits = self.rest().first_chunk::<4>().ok_or(Malformed::End)?;
        self.at += 4;
        digits
            .iter()
            .try_fold(0, |code, digit| char::from(*digit).to_digit(16).map(|value| code << 4 | value).ok_or(Malformed::Syntax))
    }

    /// Passes over any value.
    pub(crate) fn skip(&mut self, scratch: &mut String) -> Result<(), Malformed> {
        self.skip_nested(scratch, DEPTH_MAX)
    }

    fn skip_nested(&mut self, scratch: &mut String, depth_left: usize) -> Result<(), Malformed> {
        let deeper = depth_left.checked_sub(1).ok_or(Malformed::Depth)?;
        let mut first = true;
        match self.peek()? {
            b'{' => {
                self.at += 1;
                while self.next(&mut first, b'}')? {
                    self.name(scratch)?;
                    self.skip_nested(scratch, deeper)?;
                }
            }
            b'[' => {
                self.at += 1;
                while self.next(&mut first, b']')? {
                    self.skip_nested(scratch, deeper)?;
                }
            }
            b'"' => {
                self.string(scratch)?;
            }
            b't' | b'f' => {
                self.bool()?;
            }
            b'n' => {
                self.null()?;
            }
            _ => {
                if !is_number(self.number()?.as_bytes()) {
                    return Err(Malformed::Number);
                }
            }
        }
        Ok(())
    }
}

/// How many bytes come before the first one that does not stand for itself in a string: a quote, a backslash, a control character. `None` if
/// there is none.
pub(crate) fn plain_length(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The high bit of each byte that is below `n` (at most 0x80). Above the lowest such byte, the bits may be wrong.
    let below = |word: u64, n: u64| word.wrapping_sub(ONES * n) & !word & HIGH;
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        let special = below(word, 0x20) | below(quote, 1) | below(backslash, 1);
        if special != 0 {
            return Some(index * 8 + special.trailing_zeros() as usize / 8);
        }
    }
    let at = tail.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\'))?;
    Some(words.len() * 8 + at)
}

fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    for (prefix, is_exponent) in [(&b""[..], false), (b".", false), (b"eE", true)] {
        if !prefix.is_empty() {
            match rest.split_first() {
                Some((first, behind)) if prefix.contains(first) => rest = behind,
                _ => continue,
            }
        }
        if is_exponent {
            rest = rest.strip_prefix(b"-").or(rest.strip_prefix(b"+")).unwrap_or(rest);
        }
        let count = digits(rest);
        if count == 0 {
            return false;
        }
        rest = rest.get(count..).unwrap_or_default();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn strings() {
        for (json, expected) in [
            (r#""""#, Ok("")),
            (r#""plain""#, Ok("plain")),
            (r#""a\"\\\/\b\f\n\r\té😀""#, Ok("a\"\\/\u{8}\u{c}\n\r\té😀")),
            (r#""\ud83d\ude00""#, Ok("😀")),
            (r#""\ud83d""#, Err(Malformed::Syntax)),
            (r#""\ud83d\u0041""#, Err(Malformed::Syntax)),
            (r#""\ude00""#, Err(Malformed::Syntax)),
            (r#""\x""#, Err(Malformed::Syntax)),
            (r#""\u00g0""#, Err(Malformed::Syntax)),
            (r#""\u00"#, Err(Malformed::End)),
            (r#""open"#, Err(Malformed::End)),
            (r#""open\"#, Err(Malformed::End)),
            ("\"\n\"", Err(Malformed::Syntax)),
        ] {
            assert_eq!(JsonReader::new(json).string(&mut String::new()), expected, "{json}");
        }
    }

    #[test]
    fn skipping_accepts_json_and_nothing_else() {
        let check = |json: &str| {
            let mut reader = JsonReader::new(json);
            reader.skip(&mut String::new()).and_then(|()| reader.end())
        };
        for good in ["null", " [1, -2.5e3,[] ,{}] ", r#"{"a":{"b":[true,false,null,"x"]},"c":0}"#] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in
            ["", "nul", "[1,]", "[,1]", "{,}", r#"{"a":1,}"#, r#"{"a" 1}"#, "[1 2]", "1 2", "+1", "-", "1e", "{1:2}", "tru", "]"]
        {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert_eq!(check(&"[".repeat(100_000)), Err(Malformed::Depth));
    }

    proptest! {
        #[test]
        fn strings_as_serde_json_writes_them(text in ".{0,40}") {
            let json = serde_json::to_string(&text).unwrap();
            let mut scratch = String::new();
            prop_assert_eq!(JsonReader::new(&json).string(&mut scratch), Ok(text.as_str()));
            let mut ours = Vec::new();
            crate::json::write::push_string(&mut ours, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&ours).unwrap(), text);
        }

        #[test]
        fn any_text_is_taken_as_serde_json_takes_it(text in r#"[-+0-9eE., \[\]{}":\\utrfalsn\n😀]{0,12}"#) {
            let mut reader = JsonReader::new(&text);
            let ours = reader.skip(&mut String::new()).and_then(|()| reader.end());
            // We let numbers begin with zeroes.
            if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() {
                prop_assert_eq!(ours, Ok(()));
            } else if ours.is_ok() {
                prop_assert!(text.contains('0'));
            }
        }

        #[test]
        fn plain_parts_end_where_they_should(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0x1e..0x24_u8, 0x5b..0x5e_u8], 0..40)) {
            prop_assert_eq!(plain_length(&bytes), bytes.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')));
        }
    }
}
