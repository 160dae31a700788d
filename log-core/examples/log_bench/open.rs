//! `tail dir= mb= [commit_kib=256]`: goes on where `append` ended, prints `end=`, and waits to be killed: with what it has committed a recovery has to deal.
//!
//! `open dir=`: opens the log, prints how long that took and what is there, and closes it.

use std::io::{Read as _, Write as _};
use std::time::Instant;

use log_core::{Log, LogOptions};

use crate::Failure;
use crate::append::Writer;
use crate::arguments::Arguments;
use crate::process::memory_mib;

pub fn leave_tail(arguments: &Arguments) -> Result<(), Failure> {
    let log = Log::open(&arguments.dir()?, LogOptions::default())?;
    let mut writer = Writer::new(&log, 0, arguments)?;
    writer.append(arguments.number("mb", 50)? * 1_000_000)?;
    println!("end={}", writer.end());
    std::io::stdout().flush()?;
    // Until it is killed; or until whoever started it is gone, and then it ends like a kill too.
    let _ = std::io::stdin().read(&mut [0])?;
    std::process::exit(1)
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let before = memory_mib("VmRSS");
    let start = Instant::now();
    let log = Log::open(&arguments.dir()?, LogOptions::default())?;
    println!("seconds={:.4}", start.elapsed().as_secs_f64());
    println!("resident_mib={:.1}", memory_mib("VmRSS"));
    println!("resident_before_mib={before:.1}");
    println!("end={}", log.topics().iter().map(|topic| topic.end_offsets().iter().sum::<i64>()).sum::<i64>());
    let start = Instant::now();
    log.close()?;
    println!("close_seconds={:.4}", start.elapsed().as_secs_f64());
    Ok(())
}
