use std::io::{self, Write};

use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::progress;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts logging to standard error. `MAINSTEM_LOG` sets the level (`info` if it is not set), as in `MAINSTEM_LOG=debug`.
pub(crate) fn start(format: Format) {
    let filter = EnvFilter::try_from_env("MAINSTEM_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(AroundProgress);
    // An error means that a program that uses us as a library logs in its own way.
    let _ = match format {
        Format::Text => logs.with_target(false).with_ansi(io::IsTerminal::is_terminal(&io::stderr())).try_init(),
        Format::Json => logs.json().flatten_event(true).with_current_span(false).try_init(),
    };
}

/// Standard error, with progress bars taken away while a line is written.
struct AroundProgress;

impl<'a> MakeWriter<'a> for AroundProgress {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for AroundProgress {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        progress::bars().suspend(|| io::stderr().lock().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
