//! Threads that sync the journal, and all segments but one, of a commit while the thread that commits syncs that one.
//!
//! A journaling file system makes one commit of syncs that wait together, so two at the same time take hardly longer than one. The threads are kept:
//! making one for each sync would cost a tenth of the processor time of a commit of 256 KiB.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::durable_file::DurableFile;
use crate::error::{LogError, Result};

/// More syncs than this wait for a thread to get free.
const THREADS_MAX: usize = 64;

/// As many threads as were ever needed at the same time. They end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct SyncThreads {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Woken for one sync each, and when the queue is closed.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Threads that wait for a sync, or were woken for one and did not take it yet.
    idle: usize,
    threads: usize,
    closed: bool,
}

#[derive(Debug)]
struct Job {
    file: Arc<DurableFile>,
    done: Sender<Result<()>>,
}

impl SyncThreads {
    /// Syncs `own` in the calling thread, and `others` beside it. Returns when all of that has ended.
    ///
    /// # Errors
    /// That of `own` first, else one of the others.
    pub(crate) fn sync(&self, own: &DurableFile, others: &[Arc<DurableFile>]) -> Result<()> {
        let (done, ended) = mpsc::channel();
        for file in others {
            self.begin(Job { file: file.clone(), done: done.clone() });
        }
        drop(done);
        let own = own.sync_data();
        let mut missing = others.len();
        let all = ended.iter().inspect(|_| missing -= 1).fold(own, Result::and);
        match others.first() {
            // Only a panic leaves one out.
            Some(file) if missing > 0 => {
                all.and(Err(LogError::io("sync", file.path(), io::Error::other("the thread that does it panicked"))))
            }
            _ => all,
        }
    }

    fn begin(&self, job: Job) {
        let mut queue = self.shared.lock();
        queue.waiting.push_back(job);
        let needs_thread = queue.waiting.len() > queue.idle && queue.threads < THREADS_MAX;
        if needs_thread && self.start_thread() {
            queue.threads += 1;
        }
        if queue.threads > 0 {
            self.shared.changed.notify_one();
            return;
        }
        // Without any thread it takes longer, and that is all.
        let own = queue.waiting.pop_back();
        drop(queue);
        own.into_iter().for_each(Job::run);
    }

    fn start_thread(&self) -> bool {
        let shared = self.shared.clone();
        thread::Builder::new().name("log-sync".to_owned()).spawn(move || shared.run()).is_ok()
    }
}

impl Drop for SyncThreads {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            job.run();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        queue.idle += 1;
        let mut queue = self
            .changed
            .wait_while(queue, |queue| queue.waiting.is_empty() && !queue.closed)
            .unwrap_or_else(PoisonError::into_inner);
        queue.idle -= 1;
        queue.waiting.pop_front()
    }
}

impl Job {
    fn run(self) {
        // Whoever asked waits for it.
        let _ = self.done.send(self.file.sync_data());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable_file::faults;

    fn files(dir: &std::path::Path, count: usize) -> Vec<Arc<DurableFile>> {
        (0..count).map(|number| Arc::new(DurableFile::create(&dir.join(number.to_string())).unwrap())).collect()
    }

    fn wait_for(held: &faults::Held) {
        while !held.is_reached() {}
    }

    #[test]
    fn a_failure_of_any_sync_is_told_after_all_have_ended() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), 4);
        let threads = SyncThreads::default();
        for failing in 0..4 {
            let held = faults::hold(dir.path(), "sync", &((failing + 1) % 4).to_string());
            faults::fail(dir.path(), "sync", &failing.to_string(), 0);
            thread::scope(|scope| {
                let synced = scope.spawn(|| threads.sync(&files[0], &files[1..]));
                wait_for(&held);
                // That waits a moment.
                assert!(!held.is_reached() && !synced.is_finished());
                drop(held);
                let error = synced.join().unwrap().unwrap_err();
                assert!(error.in_full().contains(&format!("/{failing}")), "{}", error.in_full());
            });
            threads.sync(&files[0], &files[1..]).unwrap();
        }
    }

    #[test]
    fn threads_are_kept_and_one_is_made_when_none_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), 4);
        let threads = SyncThreads::default();
        for _ in 0..100 {
            threads.sync(&files[0], &files[1..2]).unwrap();
        }
        // On a busy machine the thread of a sync may not have come back, or not have begun, when the next one is there; but not each time.
        let few = threads.shared.lock().threads;
        assert!((1..50).contains(&few), "{few} threads for 100 syncs, one at a time");

        let held: Vec<_> = ["1", "2"].into_iter().map(|name| faults::hold(dir.path(), "sync", name)).collect();
        thread::scope(|scope| {
            let both = scope.spawn(|| threads.sync(&files[0], &files[1..3]));
            held.iter().for_each(wait_for);
            threads.sync(&files[0], &files[3..]).unwrap();
            drop(held);
            both.join().unwrap().unwrap();
        });
        assert!(threads.shared.lock().threads >= 3, "somebody waited for a thread");
    }

    #[test]
    fn threads_end_with_their_owner() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), 3);
        let threads = SyncThreads::default();
        threads.sync(&files[0], &files[1..]).unwrap();
        let shared = Arc::downgrade(&threads.shared);
        drop(threads);
        while shared.upgrade().is_some() {
            thread::yield_now();
        }
    }
}
