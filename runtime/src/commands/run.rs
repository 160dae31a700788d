use std::{process::ExitCode, sync::Arc, time::Duration};

use connector_api::{ByteBudget, Shutdown};
use log_core::{Log, LogOptions};
use tokio::{signal::unix::SignalKind, task::JoinSet};

use crate::{
    Connectors,
    cli::RunArgs,
    commands::{environment, remember},
    compaction::Compaction,
    definition, http, logging, memory, progress,
    retention::{Readers, Retention},
    supervisor::{self, Shared},
};

/// A stopped process must be gone within 10 s; what is not done by then is done at the next start.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(8);

/// `mainstem run`.
pub(crate) async fn run(args: RunArgs, connectors: Connectors) -> anyhow::Result<ExitCode> {
    let pipelines = definition::load(&args.files, &connectors, &environment())?;
    logging::start(args.log_format);
    let data_dir = args.data.data_dir;
    let log = Log::open(&data_dir, LogOptions::default())?;
    for (name, file) in remember(&data_dir, &pipelines)? {
        tracing::warn!(
            pipeline = name,
            file = %file.display(),
            "this pipeline ran from this data directory and is not among the files: its source may keep its log for it; \
             if it is gone for good, run `mainstem drop`"
        );
    }
    let budget = args.memory.unwrap_or_else(memory::default_budget);
    let (stop, shutdown) = Shutdown::new();
    let shared = Shared {
        log: log.clone(),
        data_dir,
        budget: ByteBudget::new(budget.0 as usize),
        shutdown: shutdown.clone(),
        once: args.once,
        writer: uuid::Uuid::new_v4().to_string(),
    };
    let statuses: Vec<_> = pipelines.iter().map(supervisor::status_of).collect();
    if let Some(address) = args.listen {
        let listener = http::bind(address).await?;
        tracing::info!(listen = %listener.local_addr()?, "serving status and metrics");
        tokio::spawn(http::serve(listener, statuses.clone(), shutdown.clone()));
    }
    tokio::spawn(progress::show(statuses.clone(), shutdown.clone()));
    let readers = Readers::new(&pipelines);
    let retention = Retention::new(&pipelines, &readers);
    let compaction = Compaction::new(&pipelines, &readers);
    if !args.once {
        tokio::spawn(retention.clone().run(log.clone(), shutdown.clone()));
        tokio::spawn(compaction.clone().run(log.clone(), shutdown.clone()));
    }
    let mut tasks = JoinSet::new();
    for (pipeline, status) in pipelines.into_iter().zip(&statuses) {
        tracing::info!(pipeline = pipeline.name, file = pipeline.file, sinks = pipeline.sinks.len(), "starting");
        tasks.spawn(supervisor::run(pipeline, shared.clone(), Arc::clone(status)));
    }
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate())?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt())?;
    let mut failed = false;
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            failed |= !matches!(ended, Ok(Ok(())));
        }
        // A process whose pipelines have all stopped stays, so that its status can be asked.
        if failed && !args.once {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = all => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let _ = stop.send(true);
    let rest = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = rest => {}
        () = tokio::time::sleep(SHUTDOWN_GRACE) => tracing::warn!("a part did not end in time; it goes on from its last flush at the next start"),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if args.once {
        let log = log.clone();
        let round = compaction.clone();
        let cleaned = tokio::task::spawn_blocking(move || {
            retention.apply(&log);
            round.apply(&log);
        });
        tokio::pin!(cleaned);
        tokio::select! {
            ended = &mut cleaned => ended?,
            _ = terminate.recv() => compaction.stop(),
            _ = interrupt.recv() => compaction.stop(),
        }
    }
    if let Err(error) = log.close() {
        tracing::error!(%error, "closing the log");
        failed = true;
    }
    tracing::info!("ended");
    Ok(ExitCode::from(u8::from(failed && args.once)))
}
