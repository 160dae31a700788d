use std::{process::ExitCode, time::Instant};

use log_core::{Damage, Log, Remedy, Repair};

use super::{verify, with_bar};
use crate::cli::RepairArgs;

/// `mainstem log repair`: exit code 1 while anything is damaged.
pub(super) fn run(args: &RepairArgs) -> anyhow::Result<ExitCode> {
    let dir = &args.data.data_dir;
    let began = Instant::now();
    let repair = with_bar(|progress| Repair::plan(dir, progress))?;
    let plan = repair.verification();
    let (damages, seconds) = (plan.damages.len(), began.elapsed().as_secs_f64());
    if args.json {
        let mut json = verify::to_json(plan, seconds);
        json["applied"] = (args.yes && damages > 0).into();
        println!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        // Damage may keep the log from being opened: then it is not known.
        let log = Log::open_read_only(dir).ok();
        for damage in &plan.damages {
            verify::print_damage(damage);
            if damage.remedy == Remedy::CutOut {
                println!("  {}", readers(log.as_ref(), damage));
            }
        }
        verify::print_summary(plan, seconds);
    }
    if damages == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let mendable = plan.damages.iter().any(|damage| damage.remedy.mends());
    if !args.yes || !mendable {
        if !args.json {
            println!("nothing was changed{}", if mendable { "; --yes does it" } else { "" });
        }
        return Ok(ExitCode::FAILURE);
    }
    repair.apply()?;
    let left = with_bar(|progress| log_core::verify(dir, &[], progress))?;
    if !args.json {
        println!("repaired {} of {damages}", damages.saturating_sub(left.damages.len()));
    }
    Ok(ExitCode::from(u8::from(!left.damages.is_empty())))
}

/// Who will notice that records are gone.
fn readers(log: Option<&Log>, damage: &Damage) -> String {
    let Some((log, (topic, partition), offsets)) =
        log.and_then(|log| Some((log, damage.partition.as_ref()?, damage.offsets.as_ref()?)))
    else {
        return "who has read them already is not known, because the log cannot be opened".to_owned();
    };
    let Some(topic) = log.topic(topic) else { return String::new() };
    let lacking = log.offsets().groups().into_iter().filter_map(|group| {
        let next = log.offsets().get(&group, topic.id()).get(partition).copied()?;
        (next < offsets.end).then(|| format!("{group} (needs offset {next} next)"))
    });
    let lacking: Vec<_> = lacking.collect();
    if lacking.is_empty() {
        return "every sink that ever reported for this topic has read them".to_owned();
    }
    format!("not read yet by: {}; they will go on behind, without these changes, until a `mainstem resnapshot`", lacking.join(", "))
}
