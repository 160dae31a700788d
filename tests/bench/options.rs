use std::path::PathBuf;

use crate::backlog::Kind;

/// What can be measured on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Stream(Kind),
    Snapshot,
    Warehouse,
    Sqlite,
    Parquet,
    Quiet,
    Binlog,
    MySqlSnapshot,
    MySqlSink,
    LogAppend,
    LogLatency,
    LogRead,
    LogOpen,
    LogSize,
    /// Beside Kafka's broker: only when asked for, as by `make bench-peers`.
    Kafka,
}

impl Part {
    /// Whether it is the mainstem binary that is measured.
    fn needs_binary(self) -> bool {
        !matches!(self, Self::LogAppend | Self::LogLatency | Self::LogRead | Self::LogOpen | Self::LogSize | Self::Kafka)
    }
}

const PARTS: &[(&str, Part)] = &[
    ("large", Part::Stream(Kind::Large)),
    ("small", Part::Stream(Kind::Small)),
    ("updates", Part::Stream(Kind::Updates)),
    ("snapshot", Part::Snapshot),
    ("warehouse", Part::Warehouse),
    ("sqlite", Part::Sqlite),
    ("parquet", Part::Parquet),
    ("quiet", Part::Quiet),
    ("binlog", Part::Binlog),
    ("mysql-snapshot", Part::MySqlSnapshot),
    ("mysql-sink", Part::MySqlSink),
    ("log-append", Part::LogAppend),
    ("log-latency", Part::LogLatency),
    ("log-read", Part::LogRead),
    ("log-open", Part::LogOpen),
    ("log-size", Part::LogSize),
    ("kafka", Part::Kafka),
    // Last: some file systems make files slowly for minutes after thousands were removed.
    ("tables", Part::Stream(Kind::ThousandTables)),
];

const HELP: &str = "bench [--binary PATH] [--rows N] [--rounds N] [--only PART,PART…] [--log-mb N] [--log-gb N] [--no-write]
  --binary PATH   the mainstem to measure (default: the one beside this program)
  --rows N        row events of each backlog (default 2000000; the environment's ROWS)
  --rounds N      rounds, of which the median counts (default 3; the environment's ROUNDS)
  --only PARTS    of large, small, updates, tables (these four stream a backlog), snapshot, warehouse, sqlite, parquet,
                  quiet, binlog, mysql-snapshot, mysql-sink, log-append, log-latency, log-read, log-open, log-size;
                  and kafka, which is measured only if named (make bench-peers)
  --log-mb N      MB that each case of log-append, log-read and kafka writes (default 2000)
  --log-gb N      GB of the log that log-open opens (default 10)
  --no-write      leave docs/benchmarks.md as it is
Logs are written below TMPDIR, or /tmp.";

/// How to measure.
#[derive(Debug)]
pub struct Options {
    pub binary: PathBuf,
    pub rows: u64,
    pub rounds: usize,
    pub parts: Vec<Part>,
    pub log_mb: u64,
    pub log_gb: u64,
    pub write: bool,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let from_environment = |name: &str, default: u64| match std::env::var(name) {
            Ok(text) => text.parse().map_err(|_| format!("{name}={text} is no number")),
            Err(_) => Ok(default),
        };
        let mut options = Self {
            binary: PathBuf::new(),
            rows: from_environment("ROWS", 2_000_000)?,
            rounds: from_environment("ROUNDS", 3)? as usize,
            parts: PARTS.iter().map(|(_, part)| *part).filter(|part| *part != Part::Kafka).collect(),
            log_mb: 2000,
            log_gb: 10,
            write: true,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{HELP}"));
            match argument.as_str() {
                "--binary" => options.binary = value()?.into(),
                "--rows" => options.rows = number(&value()?)?,
                "--rounds" => options.rounds = number(&value()?)? as usize,
                "--log-mb" => options.log_mb = number(&value()?)?.max(10),
                "--log-gb" => options.log_gb = number(&value()?)?.max(1),
                "--only" => options.parts = value()?.split(',').map(part).collect::<Result<_, _>>()?,
                "--no-write" => options.write = false,
                _ => return Err(HELP.to_owned()),
            }
        }
        if options.parts.iter().any(|part| part.needs_binary()) {
            if options.binary.as_os_str().is_empty() {
                options.binary = mainstem_tests::mainstem_binary();
            }
            options.binary = options.binary.canonicalize().map_err(|e| format!("{}: {e}", options.binary.display()))?;
        }
        options.rounds = options.rounds.max(1);
        options.rows = options.rows.max(10_000);
        Ok(options)
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number\n{HELP}"))
}

fn part(name: &str) -> Result<Part, String> {
    PARTS.iter().find(|(known, _)| *known == name).map(|(_, part)| *part).ok_or_else(|| format!("unknown part {name}\n{HELP}"))
}
