//! Whether an Avro schema may follow others under a subject, by the levels of Confluent's schema registry.
//!
//! Logical types play no part, as in Avro for Java's `SchemaCompatibility`: it compares `Schema.getType()` and never looks at
//! `logicalType`. So a decimal's scale may change under any level, and a timestamp may become a plain long: the bytes can
//! still be read, they mean something else.
mod resolution;
mod schema;

use std::{fmt, str::FromStr};

pub use self::{
    resolution::TooComplex,
    schema::{AvroSchema, SchemaError},
};

/// Which of the versions of a subject have to be able to read which data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compatibility {
    /// No version has to read anything.
    None,
    /// The new version reads data of the last one.
    Backward,
    /// The new version reads data of all that came before.
    BackwardTransitive,
    /// The last version reads data of the new one.
    Forward,
    /// All that came before read data of the new one.
    ForwardTransitive,
    /// The new version and the last one read each other's data.
    Full,
    /// The new version and all that came before read each other's data.
    FullTransitive,
}

impl Compatibility {
    /// All levels.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// The level in the registry's words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }

    /// How many of the versions before a new one are looked at, from the newest on.
    pub fn versions_max(self) -> usize {
        match self {
            Self::None => 0,
            Self::Backward | Self::Forward | Self::Full => 1,
            Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive => usize::MAX,
        }
    }

    fn directions(self) -> &'static [Direction] {
        match self {
            Self::None => &[],
            Self::Backward | Self::BackwardTransitive => &[Direction::Backward],
            Self::Forward | Self::ForwardTransitive => &[Direction::Forward],
            Self::Full | Self::FullTransitive => &[Direction::Backward, Direction::Forward],
        }
    }
}

impl fmt::Display for Compatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a compatibility level: NONE, BACKWARD, BACKWARD_TRANSITIVE, FORWARD, FORWARD_TRANSITIVE, FULL and FULL_TRANSITIVE are"
)]
pub struct UnknownCompatibility(String);

/// In upper or lower case.
impl FromStr for Compatibility {
    type Err = UnknownCompatibility;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let level = Self::ALL.into_iter().find(|level| level.as_str().eq_ignore_ascii_case(text));
        level.ok_or_else(|| UnknownCompatibility(text.to_owned()))
    }
}

/// What kind of thing keeps data from being read, by the names of Avro for Java and Confluent's registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IncompatibilityKind {
    /// Two named types have different names, or a field could be several of the writer's.
    NameMismatch,
    /// A fixed has another size.
    FixedSizeMismatch,
    /// The writer's enum has symbols that the reader lacks.
    MissingEnumSymbols,
    /// The reader has a field that the writer lacks, without a default.
    ReaderFieldMissingDefaultValue,
    /// The types are different, and the writer's is not promoted to the reader's.
    TypeMismatch,
    /// The reader's union has no branch for a type.
    MissingUnionBranch,
}

impl fmt::Display for IncompatibilityKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NameMismatch => "NAME_MISMATCH",
            Self::FixedSizeMismatch => "FIXED_SIZE_MISMATCH",
            Self::MissingEnumSymbols => "MISSING_ENUM_SYMBOLS",
            Self::ReaderFieldMissingDefaultValue => "READER_FIELD_MISSING_DEFAULT_VALUE",
            Self::TypeMismatch => "TYPE_MISMATCH",
            Self::MissingUnionBranch => "MISSING_UNION_BRANCH",
        })
    }
}

/// Whose data is read by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The new schema reads data of an earlier one.
    Backward,
    /// An earlier schema reads data of the new one.
    Forward,
}

/// One thing that keeps data from being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incompatibility {
    /// What kind of thing.
    pub kind: IncompatibilityKind,
    /// Where in the reader's schema, as a JSON pointer such as `/fields/3/type/1`; `/` is the schema itself. Where the writer
    /// has a union, the number of the writer's branch.
    pub path: String,
    /// What it is, for people.
    pub message: String,
    /// Who could not read.
    pub direction: Direction,
    /// Which of the schemas that were given it is about, from 0.
    pub against: usize,
}

impl fmt::Display for Incompatibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reader = match self.direction {
            Direction::Backward => "new",
            Direction::Forward => "old",
        };
        write!(f, "{} at {} of the {reader} schema as reader: {}", self.kind, self.path, self.message)
    }
}

/// What keeps `reader` from reading data that was written with `writer`; nothing if it can.
///
/// Of each pair of types the first place is told, and no more than about a thousand altogether.
pub fn incompatibilities(reader: &AvroSchema, writer: &AvroSchema) -> Result<Vec<Incompatibility>, TooComplex> {
    resolution::incompatibilities(reader, writer, Direction::Backward, 0)
}

/// What keeps `new` from following the schemas `existing`, newest first, at a level; nothing if it may. As the registry does,
/// this ends with the first of the existing schemas that does not fit.
pub fn check_compatibility(
    level: Compatibility,
    new: &AvroSchema,
    existing: &[AvroSchema],
) -> Result<Vec<Incompatibility>, TooComplex> {
    for (against, old) in existing.iter().enumerate().take(level.versions_max()) {
        let mut found = Vec::new();
        for &direction in level.directions() {
            let (reader, writer) = match direction {
                Direction::Backward => (new, old),
                Direction::Forward => (old, new),
            };
            found.extend(resolution::incompatibilities(reader, writer, direction, against)?);
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}
