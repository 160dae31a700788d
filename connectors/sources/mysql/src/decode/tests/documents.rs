//! Binary JSON by an encoder of our own.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::decode::{ValueProblem, json::print};

/// A document's type and bytes. `wide` makes the large form of objects and arrays.
fn encode(value: &Value, wide: bool) -> (u8, Vec<u8>) {
    let container = |kind: u8, keys: Vec<&str>, items: Vec<&Value>| {
        let width = if wide { 4 } else { 2 };
        let number = |value: usize| value.to_le_bytes()[..width].to_vec();
        let has_keys = kind == 0;
        let head = 2 * width + if has_keys { keys.len() * (width + 2) } else { 0 } + items.len() * (1 + width);
        let (mut key_entries, mut value_entries, mut data) = (Vec::new(), Vec::new(), Vec::new());
        for key in &keys {
            key_entries.extend(number(head + data.len()));
            key_entries.extend((key.len() as u16).to_le_bytes());
            data.extend(key.as_bytes());
        }
        for item in items.iter() {
            let (kind, bytes) = encode(item, wide);
            value_entries.push(kind);
            // Literals and small numbers stand in the entry.
            if kind == 4 || kind == 5 || kind == 7 && wide {
                let mut inside = bytes;
                inside.resize(width, 0);
                value_entries.extend(inside);
            } else {
                value_entries.extend(number(head + data.len()));
                data.extend(bytes);
            }
        }
        let bytes = [number(items.len()), number(head + data.len()), key_entries, value_entries, data].concat();
        (kind + u8::from(wide), bytes)
    };
    match value {
        Value::Null => (4, vec![0]),
        Value::Bool(value) => (4, vec![if *value { 1 } else { 2 }]),
        Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(small), _) if i16::try_from(small).is_ok() => (5, (small as i16).to_le_bytes().to_vec()),
            (Some(middle), _) if i32::try_from(middle).is_ok() => (7, (middle as i32).to_le_bytes().to_vec()),
            (Some(large), _) => (9, large.to_le_bytes().to_vec()),
            (_, Some(large)) => (10, large.to_le_bytes().to_vec()),
            _ => (11, number.as_f64().unwrap().to_le_bytes().to_vec()),
        },
        Value::String(text) => {
            let mut len = text.len();
            let mut bytes = Vec::new();
            while len >= 0x80 {
                bytes.push(len as u8 | 0x80);
                len >>= 7;
            }
            bytes.push(len as u8);
            bytes.extend(text.as_bytes());
            (12, bytes)
        }
        Value::Array(items) => container(2, Vec::new(), items.iter().collect()),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(key, _)| (key.len(), key.as_str().to_owned()));
            container(0, members.iter().map(|(key, _)| key.as_str()).collect(), members.iter().map(|(_, item)| *item).collect())
        }
    }
}

fn document(value: &Value, wide: bool) -> Vec<u8> {
    let (kind, bytes) = encode(value, wide);
    [vec![kind], bytes].concat()
}

fn printed(data: &[u8]) -> Result<String, ValueProblem> {
    let mut text = String::new();
    print(data, &mut text).map(|()| text)
}

fn any_document() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i16>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 16.0)),
        "\\PC{0,6}|[\\x00-\\x7F]{0,6}".prop_map(Value::from),
        Just(Value::from("x".repeat(200))),
    ];
    scalar.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map("\\PC{0,4}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[test]
fn documents_are_printed_as_the_server_does() {
    for (value, expected) in [
        (json!({"z": 1, "aa": [], "": {}}), r#"{"": {}, "z": 1, "aa": []}"#),
        (json!([1.0, 0.1, 1e15, -1e-20, 123456789012345680.0]), "[1.0, 0.1, 1e15, -1e-20, 1.2345678901234568e17]"),
        (json!("a\"\\\u{8}\u{c}\n\r\t\u{1}/é"), "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001/é\""),
        (json!(18_446_744_073_709_551_615u64), "18446744073709551615"),
    ] {
        for wide in [false, true] {
            assert_eq!(printed(&document(&value, wide)).as_deref(), Ok(expected));
        }
    }
    assert_eq!(printed(&[]).as_deref(), Ok("null"));
}

#[test]
fn places_that_point_back_do_not_multiply() {
    // An array of two, both of which are the array itself: as deep as one looks, twice as many.
    let data = [2, 2, 0, 10, 0, 2, 0, 0, 2, 0, 0];
    assert_eq!(printed(&data), Err(ValueProblem::Json));
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    assert_eq!(printed(&document(&deep, true)), Err(ValueProblem::Json));
}

proptest! {
    #[test]
    fn a_document_that_is_printed_reads_as_it_was(value in any_document(), wide: bool) {
        let text = printed(&document(&value, wide)).unwrap();
        let back: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(back, value);
    }

    #[test]
    fn doubles_are_printed_to_the_last_bit(bits: u64) {
        let double = f64::from_bits(bits);
        let data = [&[11][..], &double.to_le_bytes()].concat();
        match printed(&data) {
            Ok(text) => prop_assert_eq!(text.parse::<f64>().unwrap().to_bits(), bits, "{}", text),
            Err(_) => prop_assert!(!double.is_finite()),
        }
    }

    #[test]
    fn no_document_panics(data in proptest::collection::vec(any::<u8>(), 0..60)) {
        let _ = printed(&data);
    }

    #[test]
    fn no_damaged_document_panics(value in any_document(), wide: bool, at: prop::sample::Index, byte: u8) {
        let mut data = document(&value, wide);
        let at = at.index(data.len());
        data[at] = byte;
        let _ = printed(&data);
        let _ = printed(&data[..at]);
    }
}
