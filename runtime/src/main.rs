//! The `mainstem` program with the connectors that come with it.

use std::process::ExitCode;

fn main() -> ExitCode {
    mainstem::cli(mainstem::Connectors::builtin())
}
