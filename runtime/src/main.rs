//! The `mainstem` program with the connectors that come with it.

use std::process::ExitCode;

/// Batches of a MiB or so come and go all the time, between threads: with the C library's allocator a sixth of the processor time goes into
/// giving their pages back and getting them again. How it is set stands in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    mainstem::cli(mainstem::Connectors::builtin())
}
