//! Made-up rows as text, no two alike within a batch, and batches of them.

use std::fmt::Write as _;
use std::fs;

use log_core::{EncodedBatch, RecordBatchBuilder};

use crate::Failure;
use crate::arguments::Arguments;

/// Different values. More than a batch of 256 KiB holds of 100 bytes, so that a codec finds none of them twice.
const VALUES: usize = 4096;
const WORDS: &[&str] = &[
    "order",
    "shipped",
    "Berlin",
    "pending",
    "invoice",
    "the",
    "customer",
    "blue",
    "returned",
    "large",
    "Amsterdam",
    "of",
    "paid",
    "express",
    "with",
    "gift",
];

/// Records one after the other, for ever. A value is a line of ASCII text: fields of numbers, words, and hexadecimal digits that no codec makes
/// shorter than half.
pub struct Records {
    values: Vec<Vec<u8>>,
    /// Each record has its number as its key, in eight bytes.
    keys: bool,
    next: usize,
}

impl Records {
    /// Of `bytes=` bytes each (1000 unless given), `keys=no` for none.
    pub fn new(arguments: &Arguments) -> Result<Self, Failure> {
        let bytes = arguments.number("bytes", 1000)? as usize;
        Ok(Self::sized(bytes, arguments.word("keys", "yes") == "yes"))
    }

    /// Of so many bytes each.
    pub fn sized(bytes: usize, keys: bool) -> Self {
        let value_bytes = bytes.saturating_sub(if keys { 8 } else { 0 }).max(1);
        let mut random = Random(7);
        Self { values: (0..VALUES).map(|id| value(&mut random, id, value_bytes)).collect(), keys, next: 0 }
    }

    /// A batch of one record that is cut to `bytes`.
    pub fn short_one(&mut self, builder: &mut RecordBatchBuilder, bytes: usize) -> Result<EncodedBatch, Failure> {
        let key = (self.next as u64).to_be_bytes();
        let value = &self.values[self.next % VALUES];
        builder.append(Some(&key), Some(&value[..bytes.saturating_sub(key.len()).min(value.len())]), &[])?;
        self.next += 1;
        Ok(builder.finish())
    }

    /// Adds the next record to a batch; returns the bytes of key and value.
    pub fn append_to(&mut self, builder: &mut RecordBatchBuilder) -> Result<usize, Failure> {
        let key = (self.next as u64).to_be_bytes();
        let key = self.keys.then_some(key.as_slice());
        let value = &self.values[self.next % VALUES];
        builder.append(key, Some(value), &[])?;
        self.next += 1;
        Ok(key.map_or(0, <[u8]>::len) + value.len())
    }

    /// A batch of as many records as fit `bytes` before compression, and the bytes of their keys and values.
    pub fn batch(&mut self, builder: &mut RecordBatchBuilder, bytes: usize) -> Result<(EncodedBatch, usize), Failure> {
        let mut payload = 0;
        loop {
            let before = builder.size_bytes();
            payload += self.append_to(builder)?;
            if builder.size_bytes() + (builder.size_bytes() - before) > bytes {
                return Ok((builder.finish(), payload));
            }
        }
    }
}

fn value(random: &mut Random, id: usize, bytes: usize) -> Vec<u8> {
    let amount = random.next() % 10_000_000;
    let mut text =
        format!("{{\"id\":{id},\"amount\":{}.{:02},\"ref\":\"{:016x}\",\"note\":\"", amount / 100, amount % 100, random.next());
    while text.len() < bytes {
        let draw = random.next();
        text += WORDS[draw as usize % WORDS.len()];
        text.push(' ');
        if draw >> 62 == 0 {
            let _ = write!(text, "{:08x} ", random.next() as u32);
        }
    }
    text.truncate(bytes);
    text.into_bytes()
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// `payloads file=FILE [bytes=] keys=no`: the values, a line each, for other programs to send the same ones.
pub fn write_payloads(arguments: &Arguments) -> Result<(), Failure> {
    let records = Records::new(arguments)?;
    let mut text = Vec::new();
    for value in &records.values {
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    fs::write(arguments.word("file", "payloads.txt"), text)?;
    Ok(())
}
