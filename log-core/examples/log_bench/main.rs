//! Measures the log alone, one thing a run, and prints what it took as `name=value` lines. `make bench` puts it beside other programs; a profiler can be
//! put on it as well.
//!
//! `log_bench COMMAND dir=DIR [name=value…]`: each module says what its command does and takes. Sizes in MB are millions of bytes, those in KiB are not.

mod append;
mod arguments;
mod kept;
mod latency;
mod open;
mod partitions;
mod process;
mod read;
mod records;

use arguments::Arguments;

/// The same as that of the `mainstem` binary, for the reasons given there.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const COMMANDS: &str = "append, latency, bare, read, kept, tail, open, partitions, payloads";

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let command = words.next().unwrap_or_default();
    let arguments = Arguments::parse(words)?;
    match command.as_str() {
        "append" => append::run(&arguments)?,
        "latency" => latency::commits(&arguments)?,
        "bare" => latency::bare_writes(&arguments)?,
        "read" => read::run(&arguments)?,
        "kept" => kept::run(&arguments)?,
        "tail" => open::leave_tail(&arguments)?,
        "open" => open::run(&arguments)?,
        "partitions" => partitions::run(&arguments)?,
        "payloads" => records::write_payloads(&arguments)?,
        _ => return Err(format!("the commands are {COMMANDS}; each takes dir=DIR and more name=value").into()),
    }
    println!("cpu_seconds={:.2}", process::cpu_seconds());
    println!("peak_mib={:.1}", process::memory_mib("VmHWM"));
    Ok(())
}
