use std::{process::ExitCode, time::Instant};

use log_core::{Damage, LogError, Remedy, Verification};
use serde_json::{Value, json};

use super::with_bar;
use crate::{
    cli::VerifyArgs,
    commands::{WrongInput, status::human},
};

/// `mainstem log verify`: exit code 1 if anything is damaged.
pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let verified = with_bar(|progress| log_core::verify(&args.data.data_dir, &args.topics, progress));
    let verification = match verified {
        Err(error @ LogError::UnknownTopic(_)) => return Err(WrongInput(error.to_string()).into()),
        verified => verified?,
    };
    let seconds = began.elapsed().as_secs_f64();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&to_json(&verification, seconds))?);
    } else {
        verification.damages.iter().for_each(print_damage);
        print_summary(&verification, seconds);
    }
    Ok(ExitCode::from(u8::from(!verification.damages.is_empty())))
}

pub(super) fn to_json(verification: &Verification, seconds: f64) -> Value {
    json!({
        "topics": verification.topics,
        "segments": verification.segments,
        "journals": verification.journals,
        "bytes": verification.bytes,
        "seconds": seconds,
        "journal_only_bytes": verification.journal_only_bytes,
        "lost_offsets": verification.lost_offsets,
        "damages": verification.damages.iter().map(damage_to_json).collect::<Vec<_>>(),
    })
}

fn damage_to_json(damage: &Damage) -> Value {
    let remedy = match damage.remedy {
        Remedy::FromJournal => "from_journal",
        Remedy::RebuildHeader => "rebuild_header",
        Remedy::NewJournal => "new_journal",
        Remedy::CutOut => "cut_out",
        Remedy::Nothing(_) => "nothing",
    };
    json!({
        "file": damage.path.display().to_string(),
        "first_byte": damage.bytes.start,
        "end_byte": damage.bytes.end,
        "topic": damage.partition.as_ref().map(|(topic, _)| topic),
        "partition": damage.partition.as_ref().map(|(_, partition)| partition),
        "first_offset": damage.offsets.as_ref().map(|offsets| offsets.start),
        "end_offset": damage.offsets.as_ref().map(|offsets| offsets.end),
        "records": damage.records,
        "problem": damage.problem,
        "remedy": remedy,
        "repair": damage.remedy.describe(),
    })
}

pub(super) fn print_damage(damage: &Damage) {
    print!("{}: ", damage.path.display());
    match &damage.bytes {
        bytes if bytes.is_empty() => print!("at byte {}", bytes.start),
        bytes => print!("bytes {} to {}", bytes.start, bytes.end - 1),
    }
    match &damage.offsets {
        Some(offsets) if !offsets.is_empty() => print!(", offsets {} to {}", offsets.start, offsets.end - 1),
        _ => {}
    }
    if let Some(records) = damage.records {
        print!(", {records} records");
    }
    println!("\n  {}\n  repair: {}", damage.problem, damage.remedy.describe());
}

pub(super) fn print_summary(verification: &Verification, seconds: f64) {
    if verification.journal_only_bytes > 0 {
        let bytes = human(verification.journal_only_bytes);
        println!("{bytes} of the last commits stand in the journal only; the next start writes them to their segments");
    }
    if verification.lost_offsets > 0 {
        println!("{} offsets were given up by earlier repairs", verification.lost_offsets);
    }
    let Verification { topics, segments, journals, bytes, .. } = verification;
    let rate = human((*bytes as f64 / seconds.max(1e-6)) as u64);
    let found = match verification.damages.len() {
        0 => "nothing is damaged".to_owned(),
        1 => "1 damage".to_owned(),
        many => format!("{many} damages"),
    };
    let bytes = human(*bytes);
    println!("read {bytes} in {seconds:.1} s ({rate}/s): {topics} topics, {segments} segments, {journals} journals; {found}");
}
