//! Where a file stands below the sink's `url`, and how its name is read:
//!
//! ```text
//! topic=<topic>/partition=<number>/<first offset, 20 digits>.parquet     a file, complete
//! topic=<topic>/partition=<number>/.tmp-<first offset>-<unique>          on disk: a file that is being written
//! .mainstem-probe-<unique>                                               for a moment, at the start
//! ```
//!
//! Names of unfinished files do not end in `.parquet`, so that not even a `**/*.parquet` that matches hidden files reads them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use connector_api::{Offset, PartitionId};
use uuid::Uuid;

const SUFFIX: &str = ".parquet";
const TEMPORARY_PREFIX: &str = ".tmp-";
const OFFSET_DIGITS: usize = 20;
/// What the names of probes begin with.
pub(crate) const PROBE_PREFIX: &str = ".mainstem-probe-";
/// A probe lives for moments; one this old was left by a process that was killed.
const PROBE_LIFE: Duration = Duration::from_secs(3600);

/// The folder of one partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionFolder {
    /// The topic's name: `[A-Za-z0-9._-]{1,249}`, so nothing in it needs an escape.
    pub topic: String,
    pub partition: PartitionId,
}

impl PartitionFolder {
    /// The path below the sink's `url`, without slashes at its ends.
    pub fn path(&self) -> String {
        format!("{}/partition={}", topic_folder(&self.topic), self.partition)
    }

    /// The path of the file whose range begins at that offset.
    pub fn file(&self, first: Offset) -> String {
        format!("{}/{}", self.path(), file_name(first))
    }
}

/// The folder of a topic.
pub(crate) fn topic_folder(topic: &str) -> String {
    format!("topic={topic}")
}

/// The name of the file whose range begins at that offset. Twenty digits hold any offset, so names sort as offsets do.
pub(crate) fn file_name(first: Offset) -> String {
    format!("{first:0OFFSET_DIGITS$}{SUFFIX}")
}

/// The first offset of the file of that name; `None` if it is not named as this sink names files.
pub(crate) fn first_offset(file_name: &str) -> Option<Offset> {
    let digits = file_name.strip_suffix(SUFFIX)?;
    let all_digits = digits.len() == OFFSET_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| digits.parse().ok()).flatten()
}

/// A name for a file on disk that is being written, which no other writer has.
pub(crate) fn temporary_name(first: Offset) -> String {
    format!("{TEMPORARY_PREFIX}{first:0OFFSET_DIGITS$}-{}", Uuid::new_v4())
}

/// Whether that is a name of a file that was being written.
pub(crate) fn is_temporary(file_name: &str) -> bool {
    let rest = file_name.strip_prefix(TEMPORARY_PREFIX).and_then(|rest| rest.split_at_checked(OFFSET_DIGITS));
    rest.is_some_and(|(digits, unique)| {
        digits.bytes().all(|byte| byte.is_ascii_digit()) && unique.strip_prefix('-').is_some_and(|id| Uuid::try_parse(id).is_ok())
    })
}

/// A name for an object by which the store's abilities are tried out. It tells when it was made.
pub(crate) fn probe_name() -> String {
    format!("{PROBE_PREFIX}{}", Uuid::now_v7())
}

/// Whether that is the name of a probe whose process must be gone.
pub(crate) fn is_left_probe(file_name: &str) -> bool {
    let id = file_name.strip_prefix(PROBE_PREFIX).and_then(|id| Uuid::try_parse(id).ok());
    let Some((seconds, _)) = id.and_then(|id| id.get_timestamp()).map(|made| made.to_unix()) else { return false };
    let made = UNIX_EPOCH + Duration::from_secs(seconds);
    SystemTime::now().duration_since(made).is_ok_and(|age| age > PROBE_LIFE)
}

#[cfg(test)]
mod tests {
    use uuid::{NoContext, Timestamp};

    use super::*;

    #[test]
    fn old_probes_are_told_from_new_ones() {
        let made = |ago: u64| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            format!("{PROBE_PREFIX}{}", Uuid::new_v7(Timestamp::from_unix(NoContext, now - ago, 0)))
        };
        assert!(is_left_probe(&made(3700)) && is_left_probe(&made(1_000_000)));
        assert!(!is_left_probe(&made(3500)) && !is_left_probe(&probe_name()));
        assert!(!is_left_probe(PROBE_PREFIX) && !is_left_probe(&format!("{PROBE_PREFIX}{}", Uuid::nil())) && !is_left_probe("a"));
    }

    #[test]
    fn names_sort_as_offsets_and_are_read_back() {
        let folder = PartitionFolder { topic: "shop.public.orders".into(), partition: 3 };
        assert_eq!(folder.file(100), "topic=shop.public.orders/partition=3/00000000000000000100.parquet");
        for first in [0, 9, 10, 999, i64::MAX] {
            assert_eq!(first_offset(&file_name(first)), Some(first));
        }
        assert!(file_name(9) < file_name(10) && file_name(999) < file_name(i64::MAX));
    }

    #[test]
    fn other_names_are_not_ours() {
        let long = "9".repeat(20) + ".parquet";
        for name in ["", "part-0.parquet", "100.parquet", "0000000000000000010x.parquet", "00000000000000000100", &long] {
            assert_eq!(first_offset(name), None, "{name}");
        }
        let temporary = temporary_name(7);
        assert!(is_temporary(&temporary) && first_offset(&temporary).is_none() && !temporary.ends_with(".parquet"));
        for name in [".tmp-", ".tmp-x", ".tmp-00000000000000000100-mine", "00000000000000000100.parquet", ".tmp-ééééééééééééééé"]
        {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
