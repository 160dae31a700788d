use std::{
    fs,
    io::Read,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// A file system of a few megabytes, to be filled.
///
/// It is mounted where only a process of its own sees it, so this machine's mounts stay as they are, and it is gone when that process ends.
/// Everybody else gets in through that process's `/proc/PID/root`.
#[derive(Debug)]
pub struct SmallDisk {
    holder: Child,
    path: PathBuf,
    _mount_point: TempDir,
}

impl SmallDisk {
    /// One with room for that many MiB.
    pub fn new(mib: u64) -> Self {
        let mount_point = tempfile::Builder::new().prefix("mainstem-disk-").tempdir().expect("temporary folder");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        if fs::metadata("/proc/self").is_ok_and(|own| own.uid() != 0) {
            command.args(["--user", "--map-root-user"]);
        }
        // It ends with its input, which ends with this process, however that ends.
        let script = "mount -t tmpfs -o \"size=$1M\" mainstem-test \"$2\" && echo mounted && exec cat >/dev/null";
        command.args(["sh", "-c", script, "sh"]).arg(mib.to_string()).arg(mount_point.path());
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("run unshare");
        let mut said = [0; 8];
        let output = holder.stdout.as_mut().expect("output of the holder");
        output
            .read_exact(&mut said)
            .expect("this test mounts a tmpfs: it needs root, or user namespaces (sysctl kernel.unprivileged_userns_clone=1)");
        let path = PathBuf::from(format!("/proc/{}/root{}", holder.id(), mount_point.path().display()));
        Self { holder, path, _mount_point: mount_point }
    }

    /// Its top folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes all the room but that many MiB.
    pub fn fill_up_to(&self, mib: u64) {
        let output = Command::new("df").args(["--output=avail", "--block-size=1M"]).arg(&self.path).output().expect("run df");
        let text = String::from_utf8_lossy(&output.stdout);
        let room: u64 = text.lines().nth(1).and_then(|line| line.trim().parse().ok()).expect("room on the small disk");
        fs::write(self.ballast(), vec![1; (room.saturating_sub(mib) << 20) as usize]).expect("fill the small disk");
    }

    /// Gives that room back.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("make room on the small disk");
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
