//! Random commits, crashes and reopenings, compared with a plain map of vectors.

use bytes::Bytes;
use log_core::{CommitSet, Log, LogOptions, PipelineLog};
use proptest::prelude::*;

use crate::support::{Contents, batch, contents, copy_dir, read_all, temp_dir};

#[derive(Clone, Debug)]
enum Step {
    /// Batches as topic, partition, number of records and size of each.
    Commit(Vec<(usize, i32, usize, usize)>),
    /// Closes and opens.
    Reopen,
    /// Goes on with a copy of the files as they are, and `garbage` bytes behind the journal.
    Crash { garbage: usize },
    /// Deletes a topic and makes it again.
    Recreate(usize),
    /// Reads from somewhere.
    Read(usize, i32, prop::sample::Index, usize),
}

const PARTITIONS: [i32; 3] = [1, 2, 5];

fn place() -> impl Strategy<Value = (usize, i32)> {
    (0usize..3).prop_flat_map(|topic| (Just(topic), 0..PARTITIONS[topic]))
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![8 => 0usize..300, 2 => 1000usize..20_000, 1 => 200_000usize..400_000];
    let entry = (place(), 1usize..6, size).prop_map(|((topic, partition), records, size)| (topic, partition, records, size));
    prop_oneof![
        12 => prop::collection::vec(entry, 0..8).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        3 => prop_oneof![Just(0), 1usize..200].prop_map(|garbage| Step::Crash { garbage }),
        1 => (0usize..3).prop_map(Step::Recreate),
        4 => (place(), any::<prop::sample::Index>(), 0usize..100_000)
            .prop_map(|((topic, partition), from, bytes)| Step::Read(topic, partition, from, bytes)),
    ]
}

fn topic_name(topic: usize) -> String {
    format!("topic-{topic}")
}

struct Run {
    dir: tempfile::TempDir,
    options: LogOptions,
    log: Option<(Log, PipelineLog)>,
    model: Contents,
    counter: u8,
}

impl Run {
    fn open(&mut self) {
        let log = Log::open(self.dir.path(), self.options.clone()).unwrap();
        for (topic, partitions) in PARTITIONS.iter().enumerate() {
            log.create_topic(&topic_name(topic), *partitions, "p").unwrap();
        }
        let pipeline = log.pipeline("p").unwrap();
        self.log = Some((log, pipeline));
    }

    fn step(&mut self, step: Step) {
        let (log, pipeline) = self.log.as_ref().unwrap();
        match step {
            Step::Commit(entries) => {
                let mut batches = Vec::new();
                for (topic, partition, records, size) in entries {
                    self.counter = self.counter.wrapping_add(1);
                    let values = vec![vec![self.counter; size]; records];
                    batches.push((log.topic(&topic_name(topic)).unwrap(), partition, batch(&values)));
                    self.model.records.entry((topic_name(topic), partition)).or_default().extend(values);
                }
                let sequence = self.model.position.as_ref().map_or(0, |(sequence, _)| *sequence) + 1;
                let position = format!("position {}", self.counter).into_bytes();
                let set = CommitSet { batches, position: Bytes::from(position.clone()) };
                assert_eq!(pipeline.next_sequence(), sequence);
                assert_eq!(pipeline.commit(set).unwrap(), sequence);
                self.model.position = Some((sequence, position));
            }
            Step::Reopen => {
                self.log = None;
                self.open();
                assert_eq!(contents(&self.log.as_ref().unwrap().0, "p").unwrap(), self.model);
            }
            Step::Crash { garbage } => {
                let copy = temp_dir();
                copy_dir(self.dir.path(), copy.path());
                self.log = None;
                let journal = crate::support::journal_path(copy.path(), "p");
                let mut bytes = std::fs::read(&journal).unwrap();
                bytes.extend((0..garbage).map(|n| n as u8 ^ 0x5a));
                std::fs::write(&journal, bytes).unwrap();
                self.dir = copy;
                self.open();
                assert_eq!(contents(&self.log.as_ref().unwrap().0, "p").unwrap(), self.model);
            }
            Step::Recreate(topic) => {
                let name = topic_name(topic);
                log.delete_topic(&name).unwrap();
                log.create_topic(&name, PARTITIONS[topic], "p").unwrap();
                self.model.records.retain(|(found, _), _| *found != name);
            }
            Step::Read(topic, partition, from, bytes_max) => {
                let name = topic_name(topic);
                let expected = self.model.records.get(&(name.clone(), partition)).map_or(&[][..], Vec::as_slice);
                let from = from.index(expected.len() + 1);
                let found = read_all(&log.topic(&name).unwrap(), partition, from as i64, bytes_max).unwrap();
                assert!(found == expected[from..], "reading {name} partition {partition} from {from}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn behaves_as_a_map_of_vectors(
        steps in prop::collection::vec(step(), 1..60),
        segment_bytes in 500u64..50_000,
        journal_bytes in 500u64..200_000,
        open_files_max in 1usize..10,
        tail_bytes in prop_oneof![Just(0), 1usize..100_000],
    ) {
        let options = LogOptions { segment_bytes, journal_bytes, open_files_max, tail_bytes };
        let mut run = Run { dir: temp_dir(), options, log: None, model: Contents::default(), counter: 0 };
        run.open();
        for step in steps {
            run.step(step);
        }
        let (log, _) = run.log.as_ref().unwrap();
        assert_eq!(contents(log, "p").unwrap(), run.model);
    }
}
