//! What a source, a sink and the runtime agree on.
//!
//! This is the crate a connector author depends on. It knows no log, no record format and no file of the runtime: only Arrow rows of
//! changes, the two connector traits, and what they need around them.
//!
//! Reading order: [`ColumnType`] and [`TableSchema`] say what a row is; [`ChangeBatch`] and [`ChangeGroup`] what a change is;
//! [`Source`] and [`Sink`] who makes and takes them; [`SourceFactory`] and [`SinkFactory`] how a pipeline file names them.
mod budget;
mod builder;
mod change;
mod check;
mod column;
mod column_builder;
mod error;
mod factory;
mod position;
mod schema;
mod settings;
mod shutdown;
mod sink;
mod snapshot_request;
mod source;
mod status;
mod variables;

pub mod conformance;

pub use crate::{
    budget::{ByteBudget, Reservation},
    builder::{ChangeBatchBuilder, ImageBuilder},
    change::{ChangeBatch, ChangeGroup, Op, OrderKey, Unchanged},
    check::{Finding, Severity},
    column::{Column, ColumnType, INTERVAL_FIELDS},
    column_builder::ColumnBuilder,
    error::{ConnectorError, Recoverable, Recovery},
    factory::{ConfigError, Document, SinkFactory, SourceFactory, parse_at},
    position::SourcePosition,
    schema::{Identity, SourceInfo, TableName, TableSchema},
    settings::{ByteSize, Secret, Span},
    shutdown::Shutdown,
    sink::{
        Barrier, BarrierKind, Delivery, Filled, FlushPolicy, Flushed, NextOffsets, Offset, OpenedSink, PartitionId, Rows, Sink,
        SinkConnector, SinkContext, SinkInput, Target, TopicId, TopicInfo,
    },
    snapshot_request::{SnapshotRequest, SnapshotRequests},
    source::{Source, SourceConnector, SourceContext},
    status::{SnapshotProgress, SourceStatus},
};
