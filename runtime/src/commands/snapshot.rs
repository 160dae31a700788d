use std::process::ExitCode;

use connector_api::{SnapshotRequest, SourcePosition};
use log_core::Log;

use crate::{
    Connectors,
    cli::SnapshotArgs,
    commands::{WrongInput, find_pipeline},
    requests,
};

/// `mainstem snapshot`: asks the pipeline's source to read a table, or a part of it, while its stream goes on.
pub(crate) fn run(args: SnapshotArgs, connectors: &Connectors) -> anyhow::Result<ExitCode> {
    let pipeline = find_pipeline(&args.pipeline, &args.data.data_dir, connectors)?;
    let name = &pipeline.name;
    let Some(source) = &pipeline.source else {
        return Err(WrongInput(format!("pipeline `{name}` has no source")).into());
    };
    if !source.reads_on_demand() {
        let table = &args.table;
        return Err(WrongInput(format!(
            "the source of pipeline `{name}` cannot read tables while it runs: stop it, and run `mainstem resnapshot {name} {table}`"
        ))
        .into());
    }
    let stored = Log::open_read_only(&args.data.data_dir)?.position(name);
    let Some(stored) = stored else {
        return Err(WrongInput(format!("{name}: nothing was read yet: its first start reads everything")).into());
    };
    // The position knows the tables that are captured; what it would be is of no use here.
    let position = SourcePosition::new(stored.position.to_vec());
    source
        .resnapshot(&position, std::slice::from_ref(&args.table))
        .map_err(|error| anyhow::Error::from_boxed(error.into_inner()))?;
    let part = args.condition.as_ref().map_or_else(String::new, |condition| format!(" where {condition}"));
    println!("{name}: {}{part} is read while the stream goes on, as soon as the pipeline runs", args.table);
    requests::leave(&args.data.data_dir, name, SnapshotRequest { table: args.table, condition: args.condition })?;
    Ok(ExitCode::SUCCESS)
}
