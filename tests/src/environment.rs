use std::path::PathBuf;

/// The binary under test: `MAINSTEM_BIN`, else the one beside this test in the target folder.
pub fn mainstem_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("MAINSTEM_BIN") {
        return path.into();
    }
    let this = std::env::current_exe().expect("path of this program");
    // target/debug/deps/blackbox-0123 or target/release/bench
    let found = this.ancestors().skip(1).take(3).map(|dir| dir.join("mainstem")).find(|path| path.is_file());
    found.expect("no `mainstem` beside this test: run `cargo build -p mainstem` first, or set MAINSTEM_BIN")
}
