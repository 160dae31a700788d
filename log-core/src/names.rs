//! Names that become directories.

use crate::error::{LogError, Result};

/// The journal that owns the internal topics.
pub(crate) const SYSTEM_PIPELINE: &str = "_system";

/// Accepts what both Kafka and a directory accept as a topic name.
pub(crate) fn check_topic(name: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=249).contains(&name.len()) && name != "." && name != ".." && name.bytes().all(allowed) {
        Ok(())
    } else {
        Err(LogError::InvalidTopicName(name.to_owned()))
    }
}

/// Accepts a pipeline name that somebody outside this crate gave.
pub(crate) fn check_pipeline(name: &str) -> Result<()> {
    // Each byte can become three in the directory's name, which has at most 255.
    if (1..=60).contains(&name.len()) && !name.starts_with('_') {
        Ok(())
    } else {
        Err(LogError::InvalidPipelineName(name.to_owned()))
    }
}

/// The directory of a pipeline's journal: letters, digits, `_` and `-` stand for themselves, every other byte is `%XX`.
pub(crate) fn escape_pipeline(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The pipeline whose journal a directory holds; `None` for a directory that is not ours.
pub(crate) fn unescape_pipeline(directory: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(directory.len());
    let mut rest = directory.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let high = char::from(rest.next()?).to_digit(16)?;
        let low = char::from(rest.next()?).to_digit(16)?;
        bytes.push((high * 16 + low) as u8);
    }
    let name = String::from_utf8(bytes).ok()?;
    (!name.is_empty() && escape_pipeline(&name) == directory).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names() {
        for good in ["a", "shop.public.orders", "A-Z_09", &"x".repeat(249), "..."] {
            assert!(check_topic(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", "a\0", &"x".repeat(250)] {
            assert!(check_topic(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pipeline_directories_are_one_to_one() {
        for name in ["shop", "a.b", "a/b", "../x", "ü", "%41", "A", "_system"] {
            let directory = escape_pipeline(name);
            assert!(!directory.contains(['/', '.']), "{directory}");
            assert_eq!(unescape_pipeline(&directory).as_deref(), Some(name));
        }
        for foreign in ["", ".deleted-1", "%4", "%zz", "%41", "a b"] {
            assert_eq!(unescape_pipeline(foreign), None, "{foreign}");
        }
    }
}
