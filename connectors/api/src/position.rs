use std::fmt;

/// All that a source needs to resume: opaque to log and runtime, versioned by the source that made it. A later one replaces an
/// earlier one.
#[derive(Clone, PartialEq, Eq)]
pub struct SourcePosition(Vec<u8>);

impl SourcePosition {
    /// Wraps what a source wants to find again.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes as the source gave them.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourcePosition({} bytes)", self.0.len())
    }
}
