use std::process::ExitCode;

use log_core::{Log, LogOptions};

use crate::{
    cli::DeleteTopicArgs,
    commands::{WrongInput, find_topic, status::human},
};

/// `mainstem log delete-topic`.
pub(super) fn run(args: &DeleteTopicArgs) -> anyhow::Result<ExitCode> {
    if args.topic.starts_with('_') {
        return Err(
            WrongInput(format!("`{}` belongs to the log itself: without it the other topics cannot be read", args.topic)).into()
        );
    }
    // Not made where there is none.
    drop(Log::open_read_only(&args.data.data_dir)?);
    let log = Log::open(&args.data.data_dir, LogOptions::default())?;
    let topic = find_topic(&log, &args.topic)?;
    let (mut records, mut bytes) = (0, 0);
    for partition in 0..topic.partitions() {
        let backlog = topic.backlog(partition, topic.start_offset(partition))?;
        records += backlog.records;
        bytes += backlog.bytes;
    }
    println!("{}: removing {} partitions with {records} records, {}", topic.name(), topic.partitions(), human(bytes));
    let groups = log.offsets().groups().into_iter().filter(|group| !log.offsets().get(group, topic.id()).is_empty());
    groups.for_each(|group| println!("  and how far `{group}` had come in it; its target keeps what it has"));
    log.delete_topic(topic.name())?;
    log.close()?;
    println!(
        "removed. The position of pipeline `{}` stays: what was in the topic comes again only after a `mainstem resnapshot`",
        topic.pipeline()
    );
    Ok(ExitCode::SUCCESS)
}
