//! Coverage-guided fuzz targets for everything that decodes what is on the disk. `scripts/fuzz.sh` builds and runs them.
//!
//! One program has all targets: `MAINSTEM_FUZZ_TARGET` names the one that runs. Before the first input it writes the seeds of that
//! target, made by the log itself, into the folder that `MAINSTEM_FUZZ_SEEDS` names. The rest is libFuzzer's command line.

#![no_main]

mod data_dir;
mod seeds;
mod targets;

use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

use crate::targets::Target;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("MAINSTEM_FUZZ_TARGET").unwrap_or_default();
        let target = targets::find(&name);
        let target = target.unwrap_or_else(|| panic!("MAINSTEM_FUZZ_TARGET is `{name}`, expected one of {:?}", targets::NAMES));
        if let Some(folder) = std::env::var_os("MAINSTEM_FUZZ_SEEDS") {
            seeds::write(&name, Path::new(&folder));
        }
        TARGET.get_or_init(|| target);
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(data);
        }
    }
);
