/// The two hex digits of each byte.
const HEX: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    table
};

/// The value of each hex digit; 0xff for other bytes.
const NIBBLE: [u8; 256] = {
    let mut table = [0xff; 256];
    let mut value = 0;
    while value < 10 {
        table[b'0' as usize + value] = value as u8;
        value += 1;
    }
    while value < 16 {
        table[b'a' as usize + value - 10] = value as u8;
        table[b'A' as usize + value - 10] = value as u8;
        value += 1;
    }
    table
};

/// Where the two digits of each byte stand in the text form of 36 characters.
const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// Appends the 36 characters of a UUID, in lower case. `uuid` has 16 bytes; more or fewer are no UUID, and are cut or read as zeroes.
#[inline]
pub(crate) fn push_uuid(uuid: &[u8], out: &mut Vec<u8>) {
    let mut text = [b'-'; 36];
    for (place, byte) in PLACES.into_iter().zip(uuid) {
        [text[place], text[place + 1]] = HEX[usize::from(*byte)];
    }
    out.extend_from_slice(&text);
}

/// Reads the text form of 36 characters, in either case.
#[inline]
pub(crate) fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.try_into().ok()?;
    let mut uuid = [0; 16];
    let mut wrong = 0;
    for (byte, place) in uuid.iter_mut().zip(PLACES) {
        let (high, low) = (NIBBLE[usize::from(text[place])], NIBBLE[usize::from(text[place + 1])]);
        wrong |= high | low;
        *byte = high << 4 | low;
    }
    (wrong < 16 && [8, 13, 18, 23].into_iter().all(|place| text[place] == b'-')).then_some(uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let text = b"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11";
        let uuid = parse_uuid(text).unwrap();
        assert_eq!(uuid, 0xa0ee_bc99_9c0b_4ef8_bb6d_6bb9_bd38_0a11_u128.to_be_bytes());
        let mut out = Vec::new();
        push_uuid(&uuid, &mut out);
        assert_eq!(out, text);
        assert_eq!(parse_uuid(&text.to_ascii_uppercase()), Some(uuid));
        for bad in [
            "",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0eebc9909c0b-4ef8-bb6d-6bb9bd380a11",
            "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ] {
            assert_eq!(parse_uuid(bad.as_bytes()), None, "{bad}");
        }
    }
}
