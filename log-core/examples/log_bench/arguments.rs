//! Arguments of the form `name=value`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use log_core::Compression;

use crate::Failure;

pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let pairs = words.map(|word| match word.split_once('=') {
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(format!("{word} is not name=value").into()),
        });
        Ok(Self(pairs.collect::<Result<_, Failure>>()?))
    }

    /// The data directory.
    pub fn dir(&self) -> Result<PathBuf, Failure> {
        Ok(self.0.get("dir").ok_or("dir=DIR is missing")?.into())
    }

    pub fn word<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.0.get(name).map_or(default, String::as_str)
    }

    pub fn number(&self, name: &str, default: u64) -> Result<u64, Failure> {
        let Some(text) = self.0.get(name) else { return Ok(default) };
        text.parse().map_err(|_| format!("{name}={text} is no number").into())
    }

    /// A size in bytes, given in KiB.
    pub fn kib(&self, name: &str, default: u64) -> Result<usize, Failure> {
        Ok(usize::try_from(self.number(name, default)? << 10)?)
    }

    pub fn compression(&self) -> Result<Compression, Failure> {
        match self.word("codec", "none") {
            "none" => Ok(Compression::None),
            "lz4" => Ok(Compression::Lz4),
            "zstd" => Ok(Compression::Zstd),
            other => Err(format!("codec={other}: it is none, lz4 or zstd").into()),
        }
    }
}
