//! What sources that tail a database's replication log have in common.
//!
//! Such a source has a thread that reads, whatever the runtime does, and hands groups of changes over when somebody waits for them or when
//! they are large. Nothing here knows a database, a protocol or a format of rows. Reading order: [`Handover`] stands between the thread and
//! the runtime; [`GroupBuilder`] counts what is collected and [`Cadence`] says when it goes; [`Socket`] and [`Pace`] are how bytes come in;
//! [`TablePattern`] is a
//! line under `tables:`, [`UrlParts`] what stands under `url:`.
pub mod codec;

mod cadence;
mod group;
mod handover;
mod pace;
mod socket;
mod table_pattern;
mod tls;
mod url_parts;

pub use connector_tls::{Check, TlsSettings};

pub use crate::{
    cadence::{Cadence, Due, IDLE_WAIT, Moment, POSITION_INTERVAL, SHORT_WAIT},
    group::{GroupBuilder, Memory, group_bytes_max},
    handover::Handover,
    pace::Pace,
    socket::Socket,
    table_pattern::{Naming, TablePattern},
    tls::TlsError,
    url_parts::UrlParts,
};
