use std::process::ExitCode;

use log_core::{Log, LogOptions};

use crate::{
    Connectors,
    cli::DropArgs,
    commands::{find_pipeline, forget},
};

/// `mainstem drop`: first what fills the source's disk, then what is ours.
pub(crate) async fn run(args: DropArgs, connectors: Connectors) -> anyhow::Result<ExitCode> {
    let pipeline = find_pipeline(&args.pipeline, &args.data.data_dir, &connectors)?;
    // The lock of the data directory: a pipeline that is running must not lose its slot.
    let log = Log::open(&args.data.data_dir, LogOptions::default())?;
    if let Some(source) = &pipeline.source {
        let removed = source.drop_state(&pipeline.name).await.map_err(|error| anyhow::Error::from_boxed(error.into_inner()))?;
        removed.iter().for_each(|line| println!("{}: {line}", pipeline.name));
    }
    for sink in &pipeline.sinks {
        log.offsets().remove_group(&format!("{}/{}", pipeline.name, sink.name));
    }
    log.delete_pipeline(&pipeline.name)?;
    log.close()?;
    forget(&args.data.data_dir, &pipeline.name)?;
    println!("{}: topics and position removed; the targets keep what they have", pipeline.name);
    Ok(ExitCode::SUCCESS)
}
