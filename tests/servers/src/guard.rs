use std::process::{Child, ChildStdin, Command, Stdio};

use crate::environment::as_server_user;

/// A shell that waits for the end of this process, however it comes, and then cleans up: its input is a pipe that the kernel closes.
///
/// A server in a `static` has no destructor, and a killed test runs none.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    input: Option<ChildStdin>,
}

impl Guard {
    /// Runs `script` with `$1`, `$2`… = `args` when this value is dropped or this process ends. `as_server` runs it as the user of the servers.
    pub fn new(script: &str, args: &[&str], as_server: bool) -> Self {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(format!("trap '' INT TERM; cat >/dev/null; {script}")).arg("guard").args(args);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if as_server {
            as_server_user(&mut command);
        }
        let mut child = command.spawn().expect("run /bin/sh");
        let input = child.stdin.take();
        Self { child, input }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
