//! Values that have a text form in records: how they are written, and read back without loss.
mod decimal;
mod digits;
mod interval;
mod timestamp;
mod uuid;

pub(crate) use decimal::{decimal_limit, parse_decimal, parse_wide_decimal, push_decimal, push_wide_decimal};
pub(crate) use digits::{push_i64, push_u64};
pub(crate) use interval::{parse_interval, push_interval};
pub(crate) use timestamp::{parse_timestamp, push_timestamp};
pub(crate) use uuid::{parse_uuid, push_uuid};
