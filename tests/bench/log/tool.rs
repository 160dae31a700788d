//! Runs `log_bench` and reads what it prints.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The figures of one run, by name.
#[derive(Debug, Clone, Default)]
pub struct Figures(BTreeMap<String, f64>);

impl Figures {
    /// Reads lines of `name=value`; others are passed over.
    pub fn parse(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Self(pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect())
    }

    /// The figure of this name, which must be there.
    pub fn get(&self, name: &str) -> f64 {
        *self.0.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// With one more figure.
    pub fn with(mut self, name: &str, value: f64) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each: Vec<String> = self.0.iter().map(|(name, value)| format!("{name} {value}")).collect();
        f.write_str(&each.join(", "))
    }
}

fn program() -> PathBuf {
    let own = std::env::current_exe().expect("path of this program");
    let program = own.parent().expect("its folder").join("examples/log_bench");
    assert!(program.exists(), "{} is not there: cargo build --release -p log-core --example log_bench", program.display());
    program
}

/// The command with arguments as `name=value`, with spaces between.
pub fn command(name: &str, dir: &Path, arguments: &str) -> Command {
    let mut command = Command::new(program());
    command.arg(name).arg(format!("dir={}", dir.display())).args(arguments.split_whitespace());
    command
}

/// Runs it to its end.
pub fn run(name: &str, dir: &Path, arguments: &str) -> Figures {
    Figures::parse(&output(&mut command(name, dir, arguments)))
}

/// Starts it with its input and output open.
pub fn start(name: &str, dir: &Path, arguments: &str) -> Child {
    let mut command = command(name, dir, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run log_bench")
}

/// What a program prints. Panics with its errors if it fails.
pub fn output(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {}: {text}{}", output.status, String::from_utf8_lossy(&output.stderr));
    text
}

/// Bytes that all files below a folder take on the disk.
pub fn disk_bytes(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let sizes = entries.map(|entry| {
        let entry = entry.expect("an entry of a folder");
        let metadata = entry.metadata().expect("its size");
        if metadata.is_dir() { disk_bytes(&entry.path()) } else { metadata.blocks() * 512 }
    });
    sizes.sum()
}

/// Removes what a run left, if anything.
pub fn remove(dir: &Path) {
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    }
}
