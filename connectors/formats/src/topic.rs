//! Names of topics: `<pipeline>.<schema>.<table>`, in the characters that Kafka allows.
//!
//! Letters, digits, `_` and `-` stand for themselves, and in the pipeline's name `.` too. Any other byte becomes `-_` and two capital hex
//! digits; a `-` that would look like the start of that becomes `-_2D`. As schema and table hold no `.` of their own, the name can be
//! taken apart again from the right. A name beyond Kafka's limit is cut and ends in `-_h` and a hash of the whole, which no
//! escape can produce.
use connector_api::TableName;

/// Kafka's limit: with a partition's number behind it, the name has to fit a file name.
const TOPIC_BYTES_MAX: usize = 249;

/// The topic of a table. One to one: different tables never share a topic, and ordinary names stay as they are.
pub fn topic_name(pipeline: &str, table: &TableName) -> String {
    let mut name = escaped_name(pipeline, table);
    if name.len() > TOPIC_BYTES_MAX {
        let hash = format!("-_h{:032x}", fnv1a_128(name.as_bytes()));
        // Escaped names are ASCII, so any cut is a character boundary.
        name.truncate(TOPIC_BYTES_MAX - hash.len());
        name.push_str(&hash);
    }
    name
}

/// The pipeline and the table of a topic named by [`topic_name`]; `None` for any other name, and for one that was cut.
pub fn parse_topic_name(topic: &str) -> Option<(String, TableName)> {
    let mut parts = topic.rsplitn(3, '.');
    let (table, schema, pipeline) = (parts.next()?, parts.next()?, parts.next()?);
    let parsed = (unescape(pipeline)?, TableName::new(unescape(schema)?, unescape(table)?));
    // Only the one spelling that we would write ourselves counts.
    (topic_name(&parsed.0, &parsed.1) == topic).then_some(parsed)
}

/// The whole name, of any length.
fn escaped_name(pipeline: &str, table: &TableName) -> String {
    let mut name = String::with_capacity(pipeline.len() + table.schema.len() + table.name.len() + 2);
    escape(pipeline, true, &mut name);
    name.push('.');
    escape(&table.schema, false, &mut name);
    name.push('.');
    escape(&table.name, false, &mut name);
    name
}

fn escape(part: &str, keep_dots: bool, out: &mut String) {
    let bytes = part.as_bytes();
    for (index, &byte) in bytes.iter().enumerate() {
        let kept = match byte {
            b'-' => bytes.get(index + 1) != Some(&b'_'),
            b'.' => keep_dots,
            _ => byte == b'_' || byte.is_ascii_alphanumeric(),
        };
        if kept {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("-_{byte:02X}"));
        }
    }
}

fn unescape(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part;
    while let Some(at) = rest.find("-_") {
        bytes.extend_from_slice(rest.get(..at)?.as_bytes());
        bytes.push(u8::from_str_radix(rest.get(at + 2..at + 4)?, 16).ok()?);
        rest = rest.get(at + 4..)?;
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8(bytes).ok()
}

/// FNV-1a with 128 bits: the name of a topic must never change, so the hash is one that is fixed for good.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, &byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        for (pipeline, schema, table, topic) in [
            ("shop", "public", "orders", "shop.public.orders"),
            ("my-shop.eu", "public", "Order_2024", "my-shop.eu.public.Order_2024"),
            ("s", "a.b", "c", "s.a-_2Eb.c"),
            ("s", "a", "b.c", "s.a.b-_2Ec"),
            ("s", "a-b", "c-_d", "s.a-b.c-_2D_d"),
            ("s", "", "-.", "s..--_2E"),
            ("s", "ž", "a b", "s.-_C5-_BE.a-_20b"),
        ] {
            let name = TableName::new(schema, table);
            assert_eq!(topic_name(pipeline, &name), topic);
            assert_eq!(parse_topic_name(topic), Some((pipeline.into(), name)));
        }
        for foreign in ["", "a", "a.b", "a.b.c-_2e", "a.b.c-_", "a.b.c-_41", "a.b.ž", "a.b.-_€"] {
            assert_eq!(parse_topic_name(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let mut seen = HashSet::new();
        for length in 100..400 {
            let topic = topic_name("p", &TableName::new("s", "x".repeat(length)));
            assert!(topic.len() <= TOPIC_BYTES_MAX);
            assert_eq!(parse_topic_name(&topic).is_some(), length + 4 <= TOPIC_BYTES_MAX);
            assert!(seen.insert(topic));
        }
        // The published test vector, so that names stay what they are.
        assert_eq!(fnv1a_128(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }

    proptest! {
        #[test]
        fn one_to_one(pipeline in "[a-z._-]{1,8}", schema in ".{0,12}", table in "\\PC{0,12}") {
            let name = TableName::new(schema, table);
            let topic = topic_name(&pipeline, &name);
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            prop_assert!(topic.bytes().all(allowed));
            prop_assert!(topic.len() <= TOPIC_BYTES_MAX);
            // Twenty-four characters of four bytes each are beyond the limit once they are escaped.
            let whole = escaped_name(&pipeline, &name).len() <= TOPIC_BYTES_MAX;
            prop_assert_eq!(parse_topic_name(&topic), whole.then_some((pipeline, name)));
        }

        #[test]
        fn tricky_characters(schema in "[-_.2DEa]{0,6}", table in "[-_.2DEh]{0,6}") {
            let name = TableName::new(schema, table);
            prop_assert_eq!(parse_topic_name(&topic_name("p", &name)), Some(("p".to_owned(), name)));
        }
    }
}
