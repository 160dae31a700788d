use std::fs;

use connector_api::ByteSize;

const MOST: u64 = 64 << 20;
const LEAST: u64 = 16 << 20;

/// The memory that changes may take between sockets and sinks, if nobody says: a quarter of what the cgroup allows, within bounds. More
/// than [`MOST`] makes nothing faster.
pub(crate) fn default_budget() -> ByteSize {
    // Version 2, then version 1 of the cgroup interface. "max", or no such file, means no limit.
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().find_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok());
    ByteSize(limit.map_or(MOST, |bytes| (bytes / 4).clamp(LEAST, MOST)))
}
