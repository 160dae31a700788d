//! Which row a record's key means, whatever schema it was written with.

use crate::{avro::WIRE_HEADER_BYTES, error::Malformed, json::JsonReader};

/// Appends what of a record's key says which row it means: the values of the key columns, as they stand in the key. It stays the same when a
/// key column is renamed, as the partition does. Returns a number for the key's shape, which is another one once the key of the table
/// was altered: rows that were not written since have keys of the old shape.
///
/// A key that is not one of ours is taken as it is.
pub fn key_identity(key: &[u8], identity: &mut Vec<u8>) -> Option<u64> {
    if let [0, a, b, c, d, ..] = key {
        identity.extend_from_slice(key.get(WIRE_HEADER_BYTES..).unwrap_or_default());
        return Some(u64::from(u32::from_be_bytes([*a, *b, *c, *d])));
    }
    let start = identity.len();
    let shape = std::str::from_utf8(key).ok().and_then(|text| json_identity(text, identity).ok());
    Some(shape.unwrap_or_else(|| {
        identity.truncate(start);
        identity.extend_from_slice(key);
        0
    }))
}

fn json_identity(text: &str, identity: &mut Vec<u8>) -> Result<u64, Malformed> {
    let mut reader = JsonReader::new(text);
    let mut scratch = String::new();
    let (mut first, mut shape) = (true, fnv1a(0xcbf2_9ce4_8422_2325, b"{"));
    reader.expect(b'{')?;
    while reader.next(&mut first, b'}')? {
        shape = fnv1a(shape, reader.name(&mut scratch)?.as_bytes());
        // The type of the value, as far as JSON has types.
        let kind = match reader.peek()? {
            b'-' | b'0'..=b'9' => b'0',
            b't' | b'f' => b't',
            other => other,
        };
        shape = fnv1a(shape, &[0, kind]);
        let start = reader.position();
        reader.skip(&mut scratch)?;
        identity.extend_from_slice(text.as_bytes().get(start..reader.position()).unwrap_or_default());
        identity.push(b',');
    }
    reader.end()?;
    // Avro's ids have 32 bits.
    Ok(shape | 1 << 63)
}

fn fnv1a(hash: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(key: &[u8]) -> (Vec<u8>, u64) {
        let mut identity = Vec::new();
        let shape = key_identity(key, &mut identity).unwrap();
        (identity, shape)
    }

    #[test]
    fn a_renamed_key_column_means_the_same_row_and_another_type_does_not() {
        let (row, shape) = identity(&[0, 0, 0, 0, 7, 2, 4]);
        assert_eq!((row.as_slice(), shape), (&[2, 4][..], 7));
        assert_eq!(identity(&[0, 0, 0, 1, 7, 2, 4]), (row, 263));

        let (row, shape) = identity(br#"{"id":1,"of":"a\"b"}"#);
        assert_eq!(row, br#"1,"a\"b","#);
        let renamed = identity(br#"{"nr":1,"of":"a\"b"}"#);
        assert_eq!(renamed.0, row);
        assert_ne!(renamed.1, shape);
        assert_eq!(identity(br#"{"id":-20,"of":""}"#).1, shape);
        for other in [&br#"{"id":"1","of":"a\"b"}"#[..], br#"{"id":1}"#, br#"{"id":[1],"of":""}"#] {
            assert_ne!(identity(other).0, row);
            assert_ne!(identity(other).1, shape);
        }
        // Two columns are not one of both texts.
        assert_ne!(identity(br#"{"a":"1","b":"2"}"#).0, identity(br#"{"a":"1,2"}"#).0);
    }

    #[test]
    fn what_is_no_key_of_ours_stands_for_itself() {
        for key in [&b""[..], b"\0\0\0\0", b"{", br#"{"a":}"#, br#"{"a":1} "#, b"\xff\xfe", b"plain", br#"{"a":1}x"#] {
            let (row, _) = identity(key);
            assert!(row == key || key == br#"{"a":1} "#, "{key:?}");
        }
    }
}
