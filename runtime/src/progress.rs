use std::{
    collections::HashMap,
    io::IsTerminal,
    sync::{Arc, OnceLock},
    time::Duration,
};

use connector_api::Shutdown;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::status::PipelineStatus;

const INTERVAL: Duration = Duration::from_millis(250);

/// The bars of the process, on standard error; hidden where that is no terminal.
pub(crate) fn bars() -> &'static MultiProgress {
    static BARS: OnceLock<MultiProgress> = OnceLock::new();
    BARS.get_or_init(MultiProgress::new)
}

/// Draws a bar for each table while it is being read as a whole, until shutdown. Does nothing where there is no terminal.
pub(crate) async fn show(pipelines: Vec<Arc<PipelineStatus>>, mut shutdown: Shutdown) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let style = ProgressStyle::with_template("{msg:30} {wide_bar} {human_pos}/{human_len} rows {per_sec} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let mut shown: HashMap<String, ProgressBar> = HashMap::new();
    loop {
        tokio::select! {
            () = shutdown.requested() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
        for pipeline in &pipelines {
            for (table, progress) in pipeline.source.snapshots() {
                let name = format!("{} {table}", pipeline.name);
                if progress.done {
                    if let Some(bar) = shown.remove(&name) {
                        bar.finish_and_clear();
                    }
                    continue;
                }
                let bar = shown.entry(name.clone()).or_insert_with(|| {
                    bars().add(ProgressBar::new(progress.rows_estimated).with_style(style.clone()).with_message(name))
                });
                bar.set_length(progress.rows_estimated.max(progress.rows));
                bar.set_position(progress.rows);
            }
        }
    }
}
