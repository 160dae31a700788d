//! Sets of transactions, in both dialects.

use std::{collections::BTreeMap, fmt, ops::Range};

use source_tailing::codec::{Reader, put_number, put_text};
use uuid::Uuid;

use crate::{
    event::{MariadbGtid, MysqlGtid},
    wire::Flavor,
};

/// Who numbers transactions in MySQL: a server's UUID and, since 8.3, a tag (mostly empty).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Numberer {
    uuid: u128,
    tag: String,
}

impl fmt::Display for Numberer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Uuid::from_u128(self.uuid).fmt(f)?;
        if self.tag.is_empty() { Ok(()) } else { write!(f, ":{}", self.tag) }
    }
}

/// A set of MySQL's GTIDs. Holes stay holes: a transaction that is not in the set is asked for, whatever was seen behind it.
#[derive(Debug, Clone, Default)]
pub(crate) struct MySqlSet {
    /// Ranges ascend, and neither touch nor overlap.
    ranges: BTreeMap<Numberer, Vec<Range<u64>>>,
    /// Which numberer was added to last, so that the next of its transactions is found at once.
    last: Option<Numberer>,
}

impl PartialEq for MySqlSet {
    fn eq(&self, other: &Self) -> bool {
        self.ranges == other.ranges
    }
}

impl Eq for MySqlSet {}

impl MySqlSet {
    /// Reads `uuid:1-5:7,uuid:tag:1-3`, as the server prints it. `None` if it is no such set.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut fields = part.split(':').map(str::trim);
            let mut numberer = Numberer { uuid: parse_uuid(fields.next()?)?, tag: String::new() };
            for field in fields {
                if field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                    numberer.tag = field.to_ascii_lowercase();
                    continue;
                }
                let (from, to) = field.split_once('-').unwrap_or((field, field));
                let (from, to): (u64, u64) = (from.parse().ok()?, to.parse().ok()?);
                if from == 0 || to < from {
                    return None;
                }
                set.insert_range(numberer.clone(), from..to.checked_add(1)?);
            }
        }
        Some(set)
    }

    fn insert_range(&mut self, numberer: Numberer, mut range: Range<u64>) {
        let ranges = self.ranges.entry(numberer).or_default();
        let first = ranges.partition_point(|old| old.end < range.start);
        let behind = ranges.partition_point(|old| old.start <= range.end);
        if let Some(touched) = ranges.get(first..behind).filter(|touched| !touched.is_empty()) {
            range.start = range.start.min(touched[0].start);
            range.end = range.end.max(touched[touched.len() - 1].end);
        }
        ranges.splice(first..behind, [range]);
    }

    /// Adds a transaction.
    pub(crate) fn insert(&mut self, gtid: &MysqlGtid<'_>) {
        let same = |last: &Numberer| last.uuid == gtid.uuid && last.tag == gtid.tag;
        if !self.last.as_ref().is_some_and(same) {
            self.last = Some(Numberer { uuid: gtid.uuid, tag: gtid.tag.to_owned() });
        }
        let Some(numberer) = &self.last else { return };
        // The next number of the last range is what comes nearly always.
        if let Some(range) = self.ranges.get_mut(numberer).and_then(|ranges| ranges.last_mut())
            && range.end == gtid.number
        {
            range.end += 1;
            return;
        }
        self.insert_range(numberer.clone(), gtid.number..gtid.number.saturating_add(1));
    }

    fn contains(&self, gtid: &MysqlGtid<'_>) -> bool {
        let ranges = self.ranges.get(&Numberer { uuid: gtid.uuid, tag: gtid.tag.to_owned() });
        ranges.is_some_and(|ranges| ranges.iter().any(|range| range.contains(&gtid.number)))
    }

    fn is_within(&self, other: &Self) -> bool {
        self.ranges.iter().all(|(numberer, ranges)| {
            let all = other.ranges.get(numberer).map(Vec::as_slice).unwrap_or_default();
            ranges.iter().all(|range| all.iter().any(|whole| whole.start <= range.start && range.end <= whole.end))
        })
    }

    /// What of this set is not in the other, for messages.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut rest = Self::default();
        for (numberer, ranges) in &self.ranges {
            let others = other.ranges.get(numberer).map(Vec::as_slice).unwrap_or_default();
            for range in ranges {
                let mut start = range.start;
                for hole in others.iter().filter(|hole| hole.end > range.start && hole.start < range.end) {
                    if hole.start > start {
                        rest.insert_range(numberer.clone(), start..hole.start);
                    }
                    start = start.max(hole.end);
                }
                if start < range.end {
                    rest.insert_range(numberer.clone(), start..range.end);
                }
            }
        }
        rest
    }

    /// The set as the dump command has it. With tags: a byte 1 on top of the count, whose lowest byte is unused; behind each UUID the tag, its length
    /// doubled.
    pub(crate) fn dump_form(&self) -> Vec<u8> {
        let tagged = self.ranges.keys().any(|numberer| !numberer.tag.is_empty());
        let count = self.ranges.len() as u64;
        let mut out = if tagged { (count << 8 | 1 << 56).to_le_bytes().to_vec() } else { count.to_le_bytes().to_vec() };
        for (numberer, ranges) in &self.ranges {
            out.extend(numberer.uuid.to_be_bytes());
            if tagged {
                out.push((numberer.tag.len() as u8) << 1);
                out.extend(numberer.tag.as_bytes());
            }
            out.extend((ranges.len() as u64).to_le_bytes());
            for range in ranges {
                out.extend(range.start.to_le_bytes());
                out.extend(range.end.to_le_bytes());
            }
        }
        out
    }
}

fn parse_uuid(text: &str) -> Option<u128> {
    Uuid::try_parse(text).ok().map(|uuid| uuid.as_u128())
}

/// `uuid:1-5:7,uuid:tag:1-3`
impl fmt::Display for MySqlSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (numberer, ranges)) in self.ranges.iter().enumerate() {
            write!(f, "{}{numberer}", if index > 0 { "," } else { "" })?;
            for range in ranges {
                match range.end - range.start {
                    1 => write!(f, ":{}", range.start)?,
                    _ => write!(f, ":{}-{}", range.start, range.end - 1)?,
                }
            }
        }
        Ok(())
    }
}

/// For each of MariaDB's replication domains the last transaction: its server and its number. All before it in the domain are in the set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MariaDbSet(pub BTreeMap<u32, (u32, u64)>);

impl MariaDbSet {
    /// Reads `0-1-100,5-2-7`, as the server prints it. `None` if it is no such list.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut set = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let mut fields = part.split('-');
            let (domain, server, number) = (fields.next()?, fields.next()?, fields.next()?);
            set.insert(domain.parse().ok()?, (server.parse().ok()?, number.parse().ok()?));
        }
        Some(Self(set))
    }
}

impl fmt::Display for MariaDbSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (domain, (server, number))) in self.0.iter().enumerate() {
            write!(f, "{}{domain}-{server}-{number}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

/// A transaction's identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gtid<'a> {
    MySql(MysqlGtid<'a>),
    MariaDb(MariadbGtid),
}

/// A set of transactions in the server's dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GtidSet {
    MySql(MySqlSet),
    MariaDb(MariaDbSet),
}

impl GtidSet {
    /// Reads what a server of that kind prints.
    pub(crate) fn parse(flavor: Flavor, text: &str) -> Option<Self> {
        match flavor {
            Flavor::MySql => MySqlSet::parse(text).map(Self::MySql),
            Flavor::MariaDb => MariaDbSet::parse(text).map(Self::MariaDb),
        }
    }

    /// Whether the transaction is in the set; false for one of the other dialect.
    pub(crate) fn contains(&self, gtid: &Gtid<'_>) -> bool {
        match (self, gtid) {
            (Self::MySql(set), Gtid::MySql(gtid)) => set.contains(gtid),
            (Self::MariaDb(set), Gtid::MariaDb(gtid)) => {
                set.0.get(&gtid.domain).is_some_and(|(_, number)| gtid.sequence <= *number)
            }
            _ => false,
        }
    }

    /// Whether all of this set is in the other.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(set), Self::MySql(other)) => set.is_within(other),
            (Self::MariaDb(set), Self::MariaDb(other)) => set.0.iter().all(|(domain, (_, number))| {
                // A domain that never had a transaction is listed by some servers only.
                *number == 0 || other.0.get(domain).is_some_and(|(_, others)| number <= others)
            }),
            _ => false,
        }
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::MySql(set) => {
                put_number(out, set.ranges.len() as u64);
                for (numberer, ranges) in &set.ranges {
                    out.extend(numberer.uuid.to_be_bytes());
                    put_text(out, &numberer.tag);
                    put_number(out, ranges.len() as u64);
                    let mut previous = 0;
                    for range in ranges {
                        put_number(out, range.start - previous);
                        put_number(out, range.end - range.start);
                        previous = range.end;
                    }
                }
            }
            Self::MariaDb(set) => {
                put_number(out, set.0.len() as u64);
                for (domain, (server, number)) in &set.0 {
                    put_number(out, u64::from(*domain));
                    put_number(out, u64::from(*server));
                    put_number(out, *number);
                }
            }
        }
    }

    pub(crate) fn decode(flavor: Flavor, reader: &mut Reader<'_>) -> Option<Self> {
        let count = reader.number()?;
        match flavor {
            Flavor::MySql => {
                let mut set = MySqlSet::default();
                for _ in 0..count {
                    let numberer = Numberer { uuid: u128::from_be_bytes(reader.array()?), tag: reader.text()?.to_owned() };
                    let mut ranges = Vec::new();
                    let mut previous = 0u64;
                    for _ in 0..reader.number()? {
                        let start = previous.checked_add(reader.number()?)?;
                        previous = start.checked_add(reader.number()?)?;
                        ranges.push(start..previous);
                    }
                    set.ranges.insert(numberer, ranges);
                }
                Some(Self::MySql(set))
            }
            Flavor::MariaDb => {
                let mut set = MariaDbSet::default();
                for _ in 0..count {
                    let domain = u32::try_from(reader.number()?).ok()?;
                    let server = u32::try_from(reader.number()?).ok()?;
                    set.0.insert(domain, (server, reader.number()?));
                }
                Some(Self::MariaDb(set))
            }
        }
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(set) => set.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const U: &str = "e24e9302-e6e6-11f1-90d8-02fc00000001";
    const V: &str = "f24e9302-e6e6-11f1-90d8-02fc00000002";

    fn set(text: &str) -> MySqlSet {
        MySqlSet::parse(text).unwrap()
    }

    fn gtid(uuid: &str, tag: &'static str, number: u64) -> MysqlGtid<'static> {
        MysqlGtid { uuid: parse_uuid(uuid).unwrap(), tag, number, ..MysqlGtid::default() }
    }

    #[test]
    fn sets_are_read_and_printed_as_the_server_does() {
        for text in ["", &format!("{U}:1-7:9-10"), &format!("{U}:1,{V}:3-5"), &format!("{U}:1-5,{U}:mytag:1-3")] {
            assert_eq!(set(text).to_string(), text);
        }
        assert_eq!(set(&format!("{U}:1-5:mytag:1-3,\n{V}:1")).to_string(), format!("{U}:1-5,{U}:mytag:1-3,{V}:1"));
        assert_eq!(set(&format!("{U}:1-3:4-5:2")).to_string(), format!("{U}:1-5"));
        for wrong in ["x", "x:1", &format!("{U}:5-4"), &format!("{U}:0"), &format!("{U}:a-")] {
            assert!(MySqlSet::parse(wrong).is_none() || !wrong.starts_with('x'), "{wrong}");
        }
        assert_eq!(MariaDbSet::parse("0-1-100,5-2-7").unwrap().to_string(), "0-1-100,5-2-7");
        assert!(MariaDbSet::parse("0-1").is_none());
    }

    #[test]
    fn my_pos_03_holes_stay_holes() {
        let mut holey = set(&format!("{U}:1-7:9-10"));
        assert!(!GtidSet::MySql(holey.clone()).contains(&Gtid::MySql(gtid(U, "", 8))));
        holey.insert(&gtid(U, "", 11));
        holey.insert(&gtid(V, "", 4));
        holey.insert(&gtid(U, "blue", 1));
        assert_eq!(holey.to_string(), format!("{U}:1-7:9-11,{U}:blue:1,{V}:4"));
        holey.insert(&gtid(U, "", 8));
        assert_eq!(holey.to_string(), format!("{U}:1-11,{U}:blue:1,{V}:4"));
        let all = set(&format!("{U}:1-20,{U}:blue:1-2,{V}:1-9"));
        assert!(holey.is_within(&all) && !all.is_within(&holey));
        assert_eq!(all.without(&holey).to_string(), format!("{U}:12-20,{U}:blue:2,{V}:1-3:5-9"));
        assert!(MySqlSet::default().is_within(&holey));
    }

    #[test]
    fn the_dump_form_is_that_of_the_protocol() {
        let plain = set(&format!("{U}:1-7:9")).dump_form();
        assert_eq!(plain.len(), 8 + 16 + 8 + 2 * 16);
        assert_eq!(plain[..8], 1u64.to_le_bytes());
        assert_eq!(plain[24..48], [2u64.to_le_bytes(), 1u64.to_le_bytes(), 8u64.to_le_bytes()].concat());
        let tagged = set(&format!("{U}:1,{U}:ab:5")).dump_form();
        assert_eq!(tagged[..8], [0, 2, 0, 0, 0, 0, 0, 1]);
        assert_eq!(tagged[24], 0);
        assert_eq!(tagged[65..68], [4, b'a', b'b']);
    }

    #[test]
    fn domains_count_for_themselves() {
        let maria = |text: &str| GtidSet::MariaDb(MariaDbSet::parse(text).unwrap());
        let seen = maria("0-1-100,5-2-7");
        let at = |domain, sequence| {
            Gtid::MariaDb(MariadbGtid {
                domain,
                server_id: 9,
                sequence,
                standalone: false,
                transactional: true,
                ddl: false,
                prepared_xa: false,
                completed_xa: false,
            })
        };
        assert!(seen.contains(&at(0, 100)) && !seen.contains(&at(0, 101)) && !seen.contains(&at(1, 1)));
        assert!(seen.is_within(&maria("0-3-100,5-2-8")) && !seen.is_within(&maria("0-1-200")));
    }

    proptest! {
        #[test]
        fn a_set_holds_what_was_put_in(numbers in proptest::collection::vec(1u64..60, 0..80)) {
            let mut built = MySqlSet::default();
            numbers.iter().for_each(|number| built.insert(&gtid(U, "", *number)));
            let model: BTreeSet<u64> = numbers.into_iter().collect();
            for number in 0..62 {
                prop_assert_eq!(built.contains(&gtid(U, "", number)), model.contains(&number), "{}", number);
            }
            let again = set(&built.to_string());
            prop_assert_eq!(&again, &built);
            let mut bytes = Vec::new();
            GtidSet::MySql(built).encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(GtidSet::decode(Flavor::MySql, &mut reader), Some(GtidSet::MySql(again)));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = GtidSet::decode(Flavor::MySql, &mut Reader::new(&bytes));
            let _ = GtidSet::decode(Flavor::MariaDb, &mut Reader::new(&bytes));
        }
    }
}
