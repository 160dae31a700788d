//! Runs pipelines: opens what they need, starts what failed again, stops what cannot go on, and never lets one pull down another.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use connector_api::{ByteBudget, Recovery, Shutdown, SinkContext, SnapshotRequests, SourceContext, SourceStatus};
use log_core::{Log, Topic};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};

use crate::{
    backoff::Backoff,
    definition::{NamedSink, Pipeline, fits},
    drain::{self, DrainContext},
    failure::Failure,
    ingest::{self, IngestContext},
    requests,
    status::{PipelineStatus, SinkStatus, State},
};

/// Under `--once`, a part that failed this often in a row gives up: somebody waits for the exit code.
const ONCE_ATTEMPTS_MAX: u32 = 6;
/// How many topics of one sink are written at the same time.
const WRITERS_PER_SINK: usize = 2;
/// New topics of other pipelines are looked for this often.
const TOPICS_INTERVAL: Duration = Duration::from_secs(1);

/// What all pipelines of a process share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub log: Log,
    pub data_dir: PathBuf,
    pub budget: ByteBudget,
    pub shutdown: Shutdown,
    pub once: bool,
    /// Tells this run of the runtime from every other.
    pub writer: String,
}

/// A pipeline could not go on.
#[derive(Debug)]
pub(crate) struct Stopped;

/// The status of a pipeline that is to be run.
pub(crate) fn status_of(pipeline: &Pipeline) -> Arc<PipelineStatus> {
    PipelineStatus::new(&pipeline.name, pipeline.source.is_some(), SourceStatus::default())
}

/// Runs a pipeline until shutdown, or with `once` until all is drained. An error means that a part of it stopped.
pub(crate) async fn run(pipeline: Pipeline, shared: Shared, status: Arc<PipelineStatus>) -> Result<(), Stopped> {
    let pipeline = Arc::new(pipeline);
    // Sinks finish when ingest has reached its end (`once`), and are told to by a failed ingest too: what the log holds goes out.
    let (finish_sender, finish) = watch::channel(false);
    let mut sinks = JoinSet::new();
    for sink in &pipeline.sinks {
        let task = SinkTask {
            pipeline: Arc::clone(&pipeline),
            sink: sink.clone(),
            shared: shared.clone(),
            pipeline_status: Arc::clone(&status),
            status: status.add_sink(&sink.name),
            finish: finish.clone(),
        };
        sinks.spawn(task.run());
    }
    let mut failed = false;
    if pipeline.source.is_some() {
        failed |= run_ingest(&pipeline, &shared, &status).await.is_err();
    }
    if shared.once {
        finish_sender.send_replace(true);
    }
    while let Some(ended) = sinks.join_next().await {
        failed |= !matches!(ended, Ok(Ok(())));
    }
    if failed { Err(Stopped) } else { Ok(()) }
}

async fn run_ingest(pipeline: &Arc<Pipeline>, shared: &Shared, status: &Arc<PipelineStatus>) -> Result<(), Stopped> {
    let mut backoff = Backoff::default();
    loop {
        let started = Instant::now();
        let snapshots = SnapshotRequests::default();
        let context = IngestContext {
            log: shared.log.clone(),
            source: SourceContext {
                pipeline: pipeline.name.clone(),
                budget: shared.budget.clone(),
                shutdown: shared.shutdown.clone(),
                status: status.source.clone(),
                once: shared.once,
                snapshots: snapshots.clone(),
            },
            status: Arc::clone(status),
        };
        let task = {
            let (pipeline, runtime) = (Arc::clone(pipeline), tokio::runtime::Handle::current());
            tokio::task::spawn_blocking(move || ingest::run(&pipeline, &context, &runtime))
        };
        let requests = tokio::spawn(requests::deliver(shared.data_dir.clone(), Arc::clone(status), snapshots));
        let ended = task.await.unwrap_or_else(|panic| Err(Failure::stop(format!("ingest panicked: {panic}"))));
        // What was not taken, or not committed, is delivered to the next attempt.
        requests.abort();
        let Err(failure) = ended else {
            status.set_ingest(State::Done, None);
            return Ok(());
        };
        if shared.shutdown.is_requested() {
            return Ok(());
        }
        let error = format!("{:#}", failure.error);
        let pause = backoff.next(started);
        if failure.recovery == Recovery::Stop || (shared.once && backoff.failures() >= ONCE_ATTEMPTS_MAX) {
            tracing::error!(pipeline = pipeline.name, error, "stopped reading the source");
            status.set_ingest(State::Stopped, Some(error));
            return Err(Stopped);
        }
        tracing::warn!(pipeline = pipeline.name, error, retry_in_ms = pause.as_millis() as u64, "lost the source, trying again");
        status.set_ingest(State::Retrying, Some(error));
        shared.pause(pause).await;
    }
}

impl Shared {
    /// Sleeps, but no longer than until shutdown.
    async fn pause(&self, pause: Duration) {
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.requested() => {}
        }
    }
}

/// One sink of a pipeline.
struct SinkTask {
    pipeline: Arc<Pipeline>,
    sink: NamedSink,
    shared: Shared,
    pipeline_status: Arc<PipelineStatus>,
    status: Arc<SinkStatus>,
    finish: watch::Receiver<bool>,
}

impl SinkTask {
    /// Connects, and drains every topic of the pipeline in a task of its own.
    async fn run(self) -> Result<(), Stopped> {
        let this = Arc::new(self);
        let Some(context) = this.connect().await? else { return Ok(()) };
        let context = Arc::new(context);
        let mut known = HashSet::new();
        let mut topics = JoinSet::new();
        let mut new_topics = this.pipeline_status.topics();
        let mut finish = this.finish.clone();
        let mut shutdown = this.shared.shutdown.clone();
        let mut failed = false;
        loop {
            // Read before the topics are listed: a topic that was made after the end was reached holds nothing that must be drained.
            let finishing = *finish.borrow_and_update();
            for topic in this.shared.log.topics() {
                if this.drains(&topic) && known.insert(topic.id()) {
                    // Counts as lag from the first moment, not only once the target was asked.
                    this.status.set_next(&topic, &this.shared.log.offsets().get(&context.group, topic.id()));
                    topics.spawn(Arc::clone(&this).run_topic(topic, Arc::clone(&context)));
                }
            }
            if finishing || shutdown.is_requested() {
                while let Some(ended) = topics.join_next().await {
                    failed |= !matches!(ended, Ok(Ok(())));
                }
                if !failed && finishing {
                    this.status.set(State::Done, None);
                }
                return if failed { Err(Stopped) } else { Ok(()) };
            }
            tokio::select! {
                _ = new_topics.changed() => {}
                _ = finish.changed() => {}
                () = shutdown.requested() => {}
                () = tokio::time::sleep(TOPICS_INTERVAL) => {}
                Some(ended) = topics.join_next(), if !topics.is_empty() => failed |= !matches!(ended, Ok(Ok(()))),
            }
        }
    }

    fn drains(&self, topic: &Topic) -> bool {
        self.pipeline.topics.iter().any(|pattern| fits(pattern, topic.name()))
    }

    async fn connect(self: &Arc<Self>) -> Result<Option<DrainContext>, Stopped> {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            match self.sink.connector.connect(self.sink_context()).await {
                Ok(target) => {
                    self.status.set(State::Running, None);
                    let delivery = self.sink.connector.delivery();
                    return Ok(Some(DrainContext {
                        log: self.shared.log.clone(),
                        from: self.sink.from,
                        group: group_name(&self.pipeline.name, &self.sink.name),
                        target,
                        delivery,
                        policy: drain::policy_within(self.sink.connector.policy(), delivery, &self.shared.budget),
                        writers: Arc::new(Semaphore::new(WRITERS_PER_SINK)),
                        budget: self.shared.budget.clone(),
                        status: Arc::clone(&self.status),
                        shutdown: self.shared.shutdown.clone(),
                        finish: self.finish.clone(),
                        once: self.shared.once,
                    }));
                }
                Err(error) => {
                    let failure = Failure::from(error);
                    let pause = self.failed(&failure, &mut backoff, started, None).ok_or(Stopped)?;
                    self.shared.pause(pause).await;
                }
            }
            if self.shared.shutdown.is_requested() {
                return Ok(None);
            }
        }
    }

    fn sink_context(&self) -> SinkContext {
        sink_context(&self.shared.data_dir, &self.pipeline.name, &self.sink.name, &self.shared.writer)
    }

    /// Drains one topic; starts again after errors that may mend themselves.
    async fn run_topic(self: Arc<Self>, topic: Topic, context: Arc<DrainContext>) -> Result<(), Stopped> {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            match drain::run(&topic, &context).await {
                Ok(()) if self.shared.shutdown.is_requested() => return Ok(()),
                Ok(()) if *self.finish.borrow() => return Ok(()),
                // The topic has no schema yet.
                Ok(()) => self.shared.pause(Duration::from_millis(20)).await,
                Err(failure) => {
                    if self.shared.shutdown.is_requested() {
                        return Ok(());
                    }
                    let failure = failure.context(format!("topic {}", topic.name()));
                    let pause = self.failed(&failure, &mut backoff, started, Some(&topic)).ok_or(Stopped)?;
                    self.shared.pause(pause).await;
                }
            }
        }
    }

    /// Tells of a failure. Returns the pause before the next attempt; `None` if there is to be none.
    fn failed(&self, failure: &Failure, backoff: &mut Backoff, started: Instant, topic: Option<&Topic>) -> Option<Duration> {
        let error = format!("{:#}", failure.error);
        let pause = backoff.next(started);
        let stop = failure.recovery == Recovery::Stop || (self.shared.once && backoff.failures() >= ONCE_ATTEMPTS_MAX);
        let (pipeline, sink) = (&self.pipeline.name, &self.sink.name);
        let state = if stop { State::Stopped } else { State::Retrying };
        if stop {
            tracing::error!(pipeline, sink, error, "stopped writing");
        } else {
            tracing::warn!(pipeline, sink, error, "cannot write, trying again");
        }
        match topic {
            Some(topic) => self.status.topic_trouble(topic, state, error),
            None => self.status.set(state, Some(error)),
        }
        (!stop).then_some(pause)
    }
}

/// Under which a sink reports to the log how far it has come.
pub(crate) fn group_name(pipeline: &str, sink: &str) -> String {
    format!("{pipeline}/{sink}")
}

/// What a sink is given to live with.
pub(crate) fn sink_context(data_dir: &Path, pipeline: &str, sink: &str, writer: &str) -> SinkContext {
    SinkContext {
        pipeline: pipeline.to_owned(),
        sink: sink.to_owned(),
        writer: writer.to_owned(),
        scratch: data_dir.join("scratch").join(pipeline).join(sink),
    }
}
