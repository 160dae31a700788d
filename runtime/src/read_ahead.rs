//! Reads a topic ahead while a sink is busy with what it was given, so that decoding and the target's own work overlap.

use std::{collections::VecDeque, convert::Infallible, future, panic};

use connector_api::{ByteBudget, NextOffsets, Reservation};
use tokio::task::{self, JoinHandle};

use crate::{
    failure::Failure,
    topic_reader::{Step, TopicReader},
};

/// What one topic has read and not taken may hold this part of the budget: more would not make its target any faster.
const OWN_PART: usize = 3;

/// What all topics together read ahead leaves this part of the budget to those who need it now, so that targets which hang stop no source.
const LEFT_PART: usize = 2;

/// What was read, with the memory that it may take.
pub(crate) struct Taken {
    pub step: Step,
    /// Held until the step has gone to the sink.
    pub reservation: Reservation,
    /// Up to where everything was handed over once this is.
    done: NextOffsets,
}

/// A [`TopicReader`] that goes on reading while its caller waits for something else.
pub(crate) struct ReadAhead {
    /// Here, or with the thread that reads.
    reader: Option<TopicReader>,
    running: Option<JoinHandle<(TopicReader, Result<Taken, Failure>)>>,
    ahead: VecDeque<Taken>,
    failed: Option<Failure>,
    done: NextOffsets,
    read_bytes: usize,
    budget: ByteBudget,
}

impl ReadAhead {
    /// Reads about `read_bytes` of the log at a time, for which memory is taken from `budget`.
    pub fn new(reader: TopicReader, read_bytes: usize, budget: ByteBudget) -> Self {
        let done = reader.done();
        Self { reader: Some(reader), running: None, ahead: VecDeque::new(), failed: None, done, read_bytes, budget }
    }

    /// For each partition, the offset up to which everything was taken.
    pub fn done(&self) -> NextOffsets {
        self.done.clone()
    }

    /// What comes next.
    pub async fn next(&mut self) -> Result<Taken, Failure> {
        loop {
            if let Some(taken) = self.ahead.pop_front() {
                self.done.clone_from(&taken.done);
                // There may be more by now.
                if matches!(taken.step, Step::CaughtUp) {
                    continue;
                }
                return Ok(taken);
            }
            if let Some(failure) = self.failed.take() {
                return Err(failure);
            }
            self.collect().await;
            if self.ahead.is_empty() && self.failed.is_none() {
                let reservation = self.budget.reserve(self.read_bytes * 2).await;
                let Some(reader) = &mut self.reader else { continue };
                // Reading and decoding are work for a processor, not for the task that other sinks wait on.
                let taken = task::block_in_place(|| read(reader, self.read_bytes, reservation))?;
                self.done.clone_from(&taken.done);
                return Ok(taken);
            }
        }
    }

    /// Does `work`, and reads ahead meanwhile.
    pub async fn busy<T>(&mut self, work: impl Future<Output = T>) -> T {
        // At once: the work may keep this thread for itself.
        self.start();
        tokio::select! {
            biased;
            result = work => result,
            never = self.read_on() => match never {},
        }
    }

    /// Goes on from another place: what a target that was written by somebody else says that it needs.
    pub async fn seek(&mut self, next: &NextOffsets) {
        self.collect().await;
        self.ahead.clear();
        self.failed = None;
        if let Some(reader) = &mut self.reader {
            reader.seek(next);
        }
        self.done.extend(next);
    }

    /// Gives back the memory of what was read and not taken.
    pub async fn discard(&mut self) {
        if self.running.is_some() || !self.ahead.is_empty() {
            let done = self.done();
            self.seek(&done).await;
        }
    }

    /// Begins to read in another thread, if there is room.
    fn start(&mut self) {
        let (needed, total) = (self.read_bytes * 2, self.budget.total_bytes());
        let held: usize = self.ahead.iter().map(|taken| taken.reservation.bytes()).sum();
        let full = held + needed > total / OWN_PART || self.budget.available_bytes() < needed + total / LEFT_PART;
        let at_end = self.failed.is_some() || self.ahead.back().is_some_and(|last| matches!(last.step, Step::CaughtUp));
        if full || at_end || self.running.is_some() {
            return;
        }
        let Some(reservation) = self.budget.try_reserve(needed) else { return };
        let Some(mut reader) = self.reader.take() else { return };
        let read_bytes = self.read_bytes;
        self.running = Some(task::spawn_blocking(move || {
            let taken = read(&mut reader, read_bytes, reservation);
            (reader, taken)
        }));
    }

    /// Waits for the read that is under way, if one is. Cancel-safe.
    async fn collect(&mut self) {
        let Some(running) = &mut self.running else { return };
        let (reader, taken) = running.await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()));
        self.running = None;
        self.reader = Some(reader);
        match taken {
            Ok(taken) => self.ahead.push_back(taken),
            Err(failure) => self.failed = Some(failure),
        }
    }

    /// Reads until there is no room. Cancel-safe.
    async fn read_on(&mut self) -> Infallible {
        loop {
            self.start();
            if self.running.is_none() {
                future::pending::<()>().await;
            }
            self.collect().await;
        }
    }
}

fn read(reader: &mut TopicReader, bytes: usize, mut reservation: Reservation) -> Result<Taken, Failure> {
    let step = reader.next(bytes)?;
    // Rows that the reader keeps for later are counted when they are handed over.
    reservation.shrink_to(step.memory_bytes());
    Ok(Taken { step, reservation, done: reader.done() })
}
