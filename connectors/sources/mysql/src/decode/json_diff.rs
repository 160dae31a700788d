//! Partial updates of JSON columns (`binlog_row_value_options=PARTIAL_JSON`): a list of changes to the old document, each an operation, a path, and
//! but for removals a value in binary JSON. Paths and values stand behind length-encoded lengths.

use super::{
    ValueProblem,
    json::{self, Budget, Container, Scalar, Value},
};
use crate::event::Bytes;

/// A document in memory, to be changed.
#[derive(Debug, Clone, PartialEq)]
enum Node<'a> {
    Scalar(Scalar<'a>),
    Array(Vec<Node<'a>>),
    /// In the server's order: by length of the key, then by its bytes.
    Object(Vec<(String, Node<'a>)>),
}

/// A step of a path.
#[derive(Debug, PartialEq)]
enum Leg {
    Member(String),
    Item(usize),
}

/// Appends the text of the document that `diffs` make of `old`.
pub(super) fn print_patched(old: &[u8], diffs: &[u8], out: &mut impl std::fmt::Write) -> Result<(), ValueProblem> {
    if diffs.is_empty() {
        return json::print(old, out);
    }
    let mut document = node(json::parse(old)?, 1, &mut Budget::new(old))?;
    let mut bytes = Bytes::new(diffs, "a JSON difference");
    while !bytes.is_empty() {
        apply(&mut document, &mut bytes)?;
    }
    print(&document, out)
}

fn node<'a>(value: Value<'a>, depth: usize, budget: &mut Budget) -> Result<Node<'a>, ValueProblem> {
    budget.spend(depth)?;
    match value {
        Value::Scalar(scalar) => Ok(Node::Scalar(scalar)),
        Value::Container(container @ Container { is_object: true, .. }) => (0..container.len)
            .map(|index| Ok((container.key(index)?.to_owned(), node(container.item(index)?, depth + 1, budget)?)))
            .collect::<Result<_, _>>()
            .map(Node::Object),
        Value::Container(container) => (0..container.len)
            .map(|index| node(container.item(index)?, depth + 1, budget))
            .collect::<Result<_, _>>()
            .map(Node::Array),
    }
}

fn print(node: &Node<'_>, mut out: &mut dyn std::fmt::Write) -> Result<(), ValueProblem> {
    let comma = |index: usize| if index == 0 { "" } else { ", " };
    let write = |out: &mut dyn std::fmt::Write, text: &str| out.write_str(text).map_err(|_| ValueProblem::Mismatch);
    match node {
        Node::Scalar(scalar) => json::print_scalar(*scalar, &mut out),
        Node::Array(items) => {
            write(out, "[")?;
            for (index, item) in items.iter().enumerate() {
                write(out, comma(index))?;
                print(item, out)?;
            }
            write(out, "]")
        }
        Node::Object(members) => {
            write(out, "{")?;
            for (index, (key, item)) in members.iter().enumerate() {
                write(out, comma(index))?;
                json::print_string(key, &mut out)?;
                write(out, ": ")?;
                print(item, out)?;
            }
            write(out, "}")
        }
    }
}

const REPLACE: u8 = 0;
const INSERT: u8 = 1;
const REMOVE: u8 = 2;

fn apply<'a>(document: &mut Node<'a>, bytes: &mut Bytes<'a>) -> Result<(), ValueProblem> {
    let damaged = |_| ValueProblem::Json;
    let operation = bytes.u8().map_err(damaged)?;
    let path = legs(bytes.packed_text().map_err(damaged)?).ok_or(ValueProblem::Json)?;
    let new = if operation == REMOVE {
        None
    } else {
        let data = bytes.packed_bytes().map_err(damaged)?;
        Some(node(json::parse(data)?, path.len() + 1, &mut Budget::new(data))?)
    };
    let Some((last, parents)) = path.split_last() else {
        // The whole document can be replaced and nothing else.
        return match (operation, new) {
            (REPLACE, Some(new)) => {
                *document = new;
                Ok(())
            }
            _ => Err(ValueProblem::Json),
        };
    };
    let mut parent = document;
    for leg in parents {
        parent = match (parent, leg) {
            (Node::Array(items), Leg::Item(index)) => items.get_mut(*index),
            (Node::Object(members), Leg::Member(key)) => members.iter_mut().find(|(name, _)| name == key).map(|(_, item)| item),
            _ => None,
        }
        .ok_or(ValueProblem::Json)?;
    }
    match (parent, last, operation, new) {
        (Node::Array(items), Leg::Item(index), REPLACE, Some(new)) => *items.get_mut(*index).ok_or(ValueProblem::Json)? = new,
        (Node::Array(items), Leg::Item(index), INSERT, Some(new)) => items.insert((*index).min(items.len()), new),
        (Node::Array(items), Leg::Item(index), REMOVE, _) if *index < items.len() => {
            items.remove(*index);
        }
        (Node::Object(members), Leg::Member(key), operation, new) => {
            let order = |(name, _): &(String, Node<'_>)| (name.len(), name.as_str()).cmp(&(key.len(), key.as_str()));
            match (members.binary_search_by(order), operation, new) {
                (Ok(at), REPLACE, Some(new)) => members[at].1 = new,
                (Err(at), INSERT, Some(new)) => members.insert(at, (key.clone(), new)),
                (Ok(at), REMOVE, _) => {
                    members.remove(at);
                }
                _ => return Err(ValueProblem::Json),
            }
        }
        _ => return Err(ValueProblem::Json),
    }
    Ok(())
}

/// `$.a."b c"[2]`
fn legs(path: &str) -> Option<Vec<Leg>> {
    let mut rest = path.strip_prefix('$')?;
    let mut legs = Vec::new();
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (index, behind) = inside.split_once(']')?;
            legs.push(Leg::Item(index.trim().parse().ok()?));
            rest = behind;
        } else {
            let member = rest.strip_prefix('.')?;
            let (name, behind) = if member.starts_with('"') {
                let end = quoted_end(member)?;
                let (name, behind) = member.split_at_checked(end)?;
                (serde_json::from_str(name).ok()?, behind)
            } else {
                let end = member.find(['.', '[']).unwrap_or(member.len());
                let (name, behind) = member.split_at_checked(end)?;
                (name.to_owned(), behind)
            };
            legs.push(Leg::Member(name));
            rest = behind;
        }
    }
    Some(legs)
}

/// Where the string in quotes at the front ends.
fn quoted_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// Documents and differences as MySQL 9.7 wrote them.
    #[test]
    fn differences_make_whole_documents() {
        let old = hex(concat!(
            "0003005900190001001a0001001b000100050100021c0000290061626303000d00050100050200050300010030000b0001000c0c0064237878787878",
            "787878787878787878787878787878787878787878787878787878787878"
        ));
        let mut text = String::new();
        json::print(&old, &mut text).unwrap();
        let x = "x".repeat(35);
        assert_eq!(text, format!(r#"{{"a": 1, "b": [1, 2, 3], "c": {{"d": "{x}"}}}}"#));
        for (diffs, expected) in [
            ("", format!(r#"{{"a": 1, "b": [1, 2, 3], "c": {{"d": "{x}"}}}}"#)),
            ("0003242e61030502000006242e625b315d03050900", format!(r#"{{"a": 2, "b": [1, 9, 3], "c": {{"d": "{x}"}}}}"#)),
            ("0005242e632e64030c01790206242e625b305d", r#"{"a": 1, "b": [2, 3], "c": {"d": "y"}}"#.to_owned()),
            ("0107242e226b206b22070ff60402018105", format!(r#"{{"a": 1, "b": [1, 2, 3], "c": {{"d": "{x}"}}, "k k": 1.5}}"#)),
        ] {
            let diffs = hex(diffs);
            let mut text = String::new();
            print_patched(&old, &diffs, &mut text).unwrap();
            assert_eq!(text, expected);
        }
        for damaged in
            ["00", "0003242e61", "0003242e7a03050200", "0203242e7a", "0004242e625b03050200", "0303242e6103050200", "020124"]
        {
            let diffs = hex(damaged);
            assert!(print_patched(&old, &diffs, &mut String::new()).is_err(), "{damaged}");
        }
    }

    #[test]
    fn paths_have_names_and_numbers() {
        let member = |name: &str| Leg::Member(name.to_owned());
        assert_eq!(legs("$"), Some(vec![]));
        assert_eq!(legs(r#"$.a."b c\"."[2].é"#), Some(vec![member("a"), member("b c\"."), Leg::Item(2), member("é")]));
        for path in ["", "a", "$a", "$[x]", "$[1", "$.\"a"] {
            assert_eq!(legs(path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn no_difference_panics(old in proptest::collection::vec(any::<u8>(), 0..40), diffs in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = print_patched(&old, &diffs, &mut String::new());
        }

        #[test]
        fn no_path_panics(path in "\\$(\\.|\\[|\\]|\"|[a0]|\\\\|é){0,12}") {
            let _ = legs(&path);
        }
    }
}
