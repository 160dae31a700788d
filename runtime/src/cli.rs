use std::{io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode, str::FromStr, time::SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use connector_api::{ByteSize, Span};
use formats::Compatibility;

use crate::{Connectors, commands, definition::DefinitionError, demo, logging};

/// Change data capture from databases into files and warehouses, in one binary.
#[derive(Debug, Parser)]
#[command(name = "mainstem", version, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run pipelines until stopped, or with --once until everything there is now has been written.
    Run(RunArgs),
    /// Say what would keep pipelines from running, with the statements that mend it. Creates nothing.
    Check(CheckArgs),
    /// Show positions and how far each sink is behind. Works beside a running `run`.
    Status(StatusArgs),
    /// Have tables of a stopped pipeline read from the beginning at its next start.
    Resnapshot(ResnapshotArgs),
    /// Have a table, or a part of it, read again while the pipeline runs; changes go on arriving meanwhile.
    Snapshot(SnapshotArgs),
    /// Remove a stopped pipeline: slot and publication at the source, topics and position here. Targets keep what they have.
    Drop(DropArgs),
    /// List the topics of the log. Works beside a running `run`.
    Topics(TopicsArgs),
    /// Print the changes of a topic, a JSON object a line. Works beside a running `run`.
    Read(ReadArgs),
    /// Look at schemas, set which changes of them are allowed, and move them from and to other registries.
    #[command(subcommand)]
    Schemas(SchemasCommand),
    /// Look at the log's files: list, describe, verify, repair and dump them, or remove a topic.
    #[command(subcommand)]
    Log(LogCommand),
    /// List the connectors, or the settings of one.
    Connectors(ConnectorsArgs),
    /// Show it all on this machine in about a minute: a private PostgreSQL, a pipeline into Parquet and SQLite, a kill -9, a comparison.
    Demo(demo::DemoArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DataDir {
    /// The folder of the log: topics, positions, schemas. All that a pipeline must remember is in it.
    #[arg(long, value_name = "DIR", default_value = "mainstem-data")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Pipeline files, or folders of them (*.yaml, *.yml).
    #[arg(required = true, value_name = "FILE_OR_DIR")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub data: DataDir,
    /// Serve /status, /metrics and /health at this address; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// End with exit code 0 once everything that the sources had at the start was written by every sink.
    #[arg(long)]
    pub once: bool,
    /// Bytes that may be in flight between sockets and sinks. Default: a quarter of the cgroup's limit, at most 64MiB.
    #[arg(long, value_name = "SIZE", value_parser = ByteSize::from_str)]
    pub memory: Option<ByteSize>,
    /// How log lines are written.
    #[arg(long, value_enum, default_value = "text")]
    pub log_format: logging::Format,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Pipeline files, or folders of them.
    #[arg(required = true, value_name = "FILE_OR_DIR")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub data: DataDir,
    /// Only read the files: connect to nothing.
    #[arg(long)]
    pub offline: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Pipeline files: with them, positions are explained and the sources are asked what they keep for us.
    #[arg(value_name = "FILE_OR_DIR")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub data: DataDir,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ResnapshotArgs {
    /// The pipeline: its file, or its name if it ran from this data directory before.
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// Tables, as `schema.table`; none means all.
    #[arg(value_name = "TABLE")]
    pub tables: Vec<String>,
    #[command(flatten)]
    pub data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct SnapshotArgs {
    /// The pipeline: its file, or its name if it ran from this data directory before.
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    /// The table, as `schema.table`.
    #[arg(value_name = "TABLE")]
    pub table: String,
    /// Only rows for which this holds: what the source's database takes behind WHERE.
    #[arg(long = "where", value_name = "CONDITION")]
    pub condition: Option<String>,
    #[command(flatten)]
    pub data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    /// The pipeline: its file, or its name if it ran from this data directory before.
    #[arg(value_name = "PIPELINE")]
    pub pipeline: PathBuf,
    #[command(flatten)]
    pub data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct TopicsArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// The topic's name: `<pipeline>.<schema>.<table>`.
    pub topic: String,
    #[command(flatten)]
    pub data: DataDir,
    /// The first offset to print; the topic's start if left out.
    #[arg(long, value_name = "OFFSET")]
    pub from: Option<i64>,
    /// Begin with the first record that was appended then or later: `2026-11-23T07:30:00Z`, or `2h` for two hours ago.
    #[arg(long, value_name = "TIME", conflicts_with = "from")]
    pub since: Option<Moment>,
    /// Only this partition.
    #[arg(long, value_name = "N")]
    pub partition: Option<i32>,
    /// Go on with what is committed later, until interrupted.
    #[arg(long)]
    pub follow: bool,
}

/// A moment, as it is named on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment(DateTime<Utc>);

impl Moment {
    /// Milliseconds since 1970.
    pub fn ms(self) -> i64 {
        self.0.timestamp_millis()
    }
}

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self(time.to_utc()));
        }
        let ago = text.parse::<Span>().ok().and_then(|span| TimeDelta::from_std(span.0).ok());
        let moment = ago.and_then(|ago| DateTime::from(SystemTime::now()).checked_sub_signed(ago));
        moment.map(Self).ok_or_else(|| "write a time, `2026-11-23T07:30:00Z`, or how long ago, `2h` (ms, s, m, h, d)".to_owned())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum SchemasCommand {
    /// List the subjects with their versions and levels. Works beside a running `run`.
    List {
        #[command(flatten)]
        data: DataDir,
        /// Also what was deleted softly.
        #[arg(long)]
        deleted: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the text of a schema. Works beside a running `run`.
    Show {
        /// The subject: `<topic>-key` or `<topic>-value`.
        subject: String,
        /// The version; the newest if left out.
        version: Option<u32>,
        #[command(flatten)]
        data: DataDir,
    },
    /// Set which schemas may follow those that are there.
    SetCompatibility {
        /// NONE, BACKWARD, BACKWARD_TRANSITIVE, FORWARD, FORWARD_TRANSITIVE, FULL or FULL_TRANSITIVE.
        level: Compatibility,
        /// The subject; if left out, all that have no level of their own.
        subject: Option<String>,
        #[command(flatten)]
        data: DataDir,
    },
    /// Say whether the schema in a file may follow those of a subject. Changes nothing, and works beside a running `run`.
    Check {
        /// The subject.
        subject: String,
        /// A file with an Avro schema.
        file: PathBuf,
        /// At this level instead of the one that is set.
        #[arg(long)]
        level: Option<Compatibility>,
        #[command(flatten)]
        data: DataDir,
    },
    /// Print the records of `_schemas`, a line each: key, tab, value. Works beside a running `run`.
    Export {
        #[command(flatten)]
        data: DataDir,
    },
    /// Take over the records of another registry's `_schemas`, in the form that `export` prints; all or none.
    Import {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        data: DataDir,
    },
}

/// `mainstem log …`.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// List the topics, as `mainstem topics` does. Works beside a running `run`.
    Topics(TopicsArgs),
    /// Show a topic's partitions, their segments, and how far its readers have come. Works beside a running `run`.
    Describe(DescribeArgs),
    /// Show how far readers have come in each partition. Works beside a running `run`.
    Groups(GroupsArgs),
    /// Read every committed byte and list what is damaged; exit code 1 if anything is. Works beside a running `run`, and on a log that does not
    /// start because of damage.
    Verify(VerifyArgs),
    /// Mend a damaged log that nobody has open. Says what it would do and what would be lost, and does it only with --yes.
    Repair(RepairArgs),
    /// Show the record batches of a segment, or of any file of Kafka's record batches.
    Dump(DumpArgs),
    /// Remove a topic with all its records from a log that nobody has open.
    DeleteTopic(DeleteTopicArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// The topic's name: `<pipeline>.<schema>.<table>`.
    pub topic: String,
    #[command(flatten)]
    pub data: DataDir,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GroupsArgs {
    /// Only this one: `<pipeline>/<sink>`.
    pub group: Option<String>,
    #[command(flatten)]
    pub data: DataDir,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Topics; none means all.
    #[arg(value_name = "TOPIC")]
    pub topics: Vec<String>,
    #[command(flatten)]
    pub data: DataDir,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    #[command(flatten)]
    pub data: DataDir,
    /// Do it, losses included.
    #[arg(long)]
    pub yes: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// The file; a relative path may also begin in the data directory.
    #[arg(value_name = "SEGMENT")]
    pub file: PathBuf,
    #[command(flatten)]
    pub data: DataDir,
    /// List the records of each batch: offset, time, sizes of key and value, names of headers.
    #[arg(long)]
    pub records: bool,
    /// Print keys, values and header values too, as text or in hexadecimal digits. They are people's data: mind who reads them.
    #[arg(long, value_enum, value_name = "AS", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub values: Option<ValueFormat>,
    /// Print a JSON object for each batch, one a line.
    #[arg(long)]
    pub json: bool,
}

/// How bytes are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ValueFormat {
    /// As UTF-8; what is not is replaced.
    Text,
    /// Two digits a byte.
    Hex,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteTopicArgs {
    /// The topic's name: `<pipeline>.<schema>.<table>`.
    pub topic: String,
    #[command(flatten)]
    pub data: DataDir,
}

#[derive(Debug, Args)]
pub(crate) struct ConnectorsArgs {
    /// The connector whose settings are to be listed.
    pub name: Option<String>,
    /// Print the JSON schema of pipeline files, for editors.
    #[arg(long)]
    pub schema: bool,
}

/// Runs the command line of the process with these connectors, and returns its exit code: 0 done, 1 failed, 2 wrong input.
pub fn cli(connectors: Connectors) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    // Two providers of cryptography are linked (the S3 SDK brings one more), so rustls would refuse to guess.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("cannot start threads")),
    };
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => commands::run::run(args, connectors).await,
            Command::Check(args) => commands::check::run(args, connectors).await,
            Command::Status(args) => commands::status::run(args, connectors).await,
            Command::Resnapshot(args) => commands::resnapshot::run(args, connectors).await,
            Command::Snapshot(args) => commands::snapshot::run(args, &connectors),
            Command::Drop(args) => commands::drop::run(args, connectors).await,
            Command::Topics(args) => commands::topics::run(args),
            Command::Read(args) => commands::read::run(args).await,
            Command::Schemas(command) => commands::schemas::run(command),
            Command::Log(command) => commands::log::run(command),
            Command::Connectors(args) => commands::connectors::run(&args, &connectors),
            Command::Demo(args) => demo::run(args).await.map(|()| ExitCode::SUCCESS),
        }
    });
    // What still blocks (a hanging server) must not hold up the end.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // A pipe that was closed (`mainstem read … | head`) is no failure to speak of.
    if error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(std::io::stderr(), "error: {error:#}");
    let wrong_input = error.downcast_ref::<DefinitionError>().is_some() || error.downcast_ref::<commands::WrongInput>().is_some();
    ExitCode::from(if wrong_input { 2 } else { 1 })
}
