use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::Guard;

/// A file system of a few megabytes in memory, to be filled. Needs root, or sudo without a password. Gone when dropped, or when this process
/// ends.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    _guard: Guard,
}

impl SmallDisk {
    /// One with room for that many MiB.
    pub fn new(mib: u64) -> Self {
        let path = tempfile::Builder::new().prefix("mainstem-disk-").tempdir().expect("temporary folder").keep();
        let own = fs::metadata("/proc/self").expect("/proc/self");
        let sudo = if own.uid() == 0 { "" } else { "sudo -n" };
        let guard = Guard::new("$1 umount -l \"$2\"; rmdir \"$2\"", &[sudo, &path.display().to_string()], false);
        let options = format!("size={mib}M,mode=0700,uid={},gid={}", own.uid(), own.gid());
        let mut words = sudo.split_whitespace().chain(["mount", "-t", "tmpfs", "-o", &options, "mainstem-test"]);
        let mut mount = Command::new(words.next().expect("a program"));
        let status = mount.args(words).arg(&path).status().expect("run mount");
        assert!(status.success(), "this test mounts a tmpfs on {}: it needs root, or sudo without a password", path.display());
        Self { path, _guard: guard }
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
