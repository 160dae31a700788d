use std::{cmp::Ordering, fmt};

/// A place in the log's files: a file, and how many bytes into it. Files have 64 bits although events say only the lower 32.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Place {
    pub file: String,
    pub position: u64,
}

impl Place {
    pub(crate) fn new(file: impl Into<String>, position: u64) -> Self {
        Self { file: file.into(), position }
    }

    /// Moves on to where an event says that the next one begins: the lower 32 bits of a number that only grows. 0 says nothing, and
    /// so does a place a little before.
    #[inline]
    pub(crate) fn advance(&mut self, next_position: u32) {
        if next_position == 0 {
            return;
        }
        let candidate = self.position & !u64::from(u32::MAX) | u64::from(next_position);
        if candidate >= self.position {
            self.position = candidate;
        } else if self.position - candidate > 1 << 31 {
            self.position = candidate + (1 << 32);
        }
    }

    /// Which of two places of one server comes first.
    pub(crate) fn order(&self, other: &Self) -> Ordering {
        order((&self.file, self.position), (&other.file, other.position))
    }
}

/// Which of two places of one server comes first. Files are numbered; their numbers can outgrow their usual six digits.
pub(crate) fn order(one: (&str, u64), other: (&str, u64)) -> Ordering {
    let number = |file: &str| file.rsplit('.').next().and_then(|digits| digits.parse::<u64>().ok());
    let files = if one.0 == other.0 { Ordering::Equal } else { number(one.0).cmp(&number(other.0)) };
    files.then(one.1.cmp(&other.1))
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn my_pos_07_positions_outgrow_32_bits() {
        let mut place = Place::new("bin.000007", 0xFFFF_FF00);
        for (next, expected) in
            [(0, 0xFFFF_FF00), (0xFFFF_FF80, 0xFFFF_FF80), (0x40, 0x1_0000_0040), (0x80, 0x1_0000_0080), (0x10, 0x1_0000_0080)]
        {
            place.advance(next);
            assert_eq!(place.position, expected);
        }
    }

    #[test]
    fn files_are_ordered_by_number() {
        let order = |a: (&str, u64), b: (&str, u64)| Place::new(a.0, a.1).order(&Place::new(b.0, b.1));
        assert_eq!(order(("bin.999999", 9), ("bin.1000000", 4)), Ordering::Less);
        assert_eq!(order(("bin.000002", 9), ("bin.000002", 4)), Ordering::Greater);
        assert_eq!(order(("bin.000002", 4), ("bin.000002", 4)), Ordering::Equal);
    }
}
