use std::process::ExitCode;

use bytes::Bytes;
use connector_api::SourcePosition;
use log_core::{CommitSet, Log, LogOptions};

use crate::{
    Connectors,
    cli::ResnapshotArgs,
    commands::{WrongInput, find_pipeline},
};

/// `mainstem resnapshot`: changes the stored position, so the next start reads the tables again.
pub(crate) async fn run(args: ResnapshotArgs, connectors: Connectors) -> anyhow::Result<ExitCode> {
    let pipeline = find_pipeline(&args.pipeline, &args.data.data_dir, &connectors)?;
    let Some(source) = &pipeline.source else {
        return Err(WrongInput(format!("pipeline `{}` has no source", pipeline.name)).into());
    };
    let log = Log::open(&args.data.data_dir, LogOptions::default())?;
    let pipeline_log = log.pipeline(&pipeline.name)?;
    let Some(stored) = pipeline_log.position() else {
        println!("{}: nothing was read yet: the next start reads everything from the beginning", pipeline.name);
        return Ok(ExitCode::SUCCESS);
    };
    let position = SourcePosition::new(stored.position.to_vec());
    let position = source.resnapshot(&position, &args.tables).map_err(|error| anyhow::Error::from_boxed(error.into_inner()))?;
    pipeline_log.commit(CommitSet { batches: Vec::new(), position: Bytes::copy_from_slice(position.as_bytes()) })?;
    drop(pipeline_log);
    log.close()?;
    let tables = if args.tables.is_empty() { "all tables".to_owned() } else { args.tables.join(", ") };
    println!("{}: the next start reads {tables} from the beginning", pipeline.name);
    Ok(ExitCode::SUCCESS)
}
