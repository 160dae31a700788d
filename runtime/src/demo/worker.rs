//! The pipeline, in a process of its own that can be killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::server::Server;

/// A `mainstem run` of the demo's pipeline. Killed when dropped.
pub(super) struct Worker {
    child: Child,
    log: PathBuf,
}

impl Worker {
    /// Starts this very program with `arguments` and the demo's pipeline file.
    pub fn start(dir: &Path, server: &Server, arguments: &[&str]) -> Result<Self> {
        let exe = std::env::current_exe().context("cannot find this program")?;
        let log = dir.join("mainstem.log");
        let out = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(exe);
        command.args(arguments).arg(dir.join("demo.yaml")).arg("--data-dir").arg(dir.join("log"));
        command.env("DEMO_PORT", server.port.to_string()).env("DEMO_PASSWORD", &server.password).env("DEMO_DIR", dir);
        let child =
            command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).spawn().context("cannot start the pipeline")?;
        Ok(Self { child, log })
    }

    /// An error, with the end of its log, if it has ended by itself.
    pub fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the pipeline ended too early ({status}):\n{}", self.end_of_log()),
        }
    }

    /// `kill -9`; returns the id that the process had.
    pub fn kill(mut self) -> u32 {
        let id = self.child.id();
        let _ = self.child.kill();
        let _ = self.child.wait();
        id
    }

    /// Asks it to end, and waits until it has.
    pub async fn terminate(mut self) -> Result<()> {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status().context("cannot run `kill`")?;
        if !asked.success() {
            bail!("cannot stop the pipeline: {asked}");
        }
        self.ended(Duration::from_secs(15)).await?;
        Ok(())
    }

    /// Waits for its end; an error, with the end of its log, unless it succeeds.
    pub async fn succeed(mut self) -> Result<()> {
        let status = self.ended(Duration::from_secs(120)).await?;
        if !status.success() {
            bail!("the pipeline failed ({status}):\n{}", self.end_of_log());
        }
        Ok(())
    }

    async fn ended(&mut self, limit: Duration) -> Result<std::process::ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("the pipeline did not end within {limit:?}:\n{}", self.end_of_log());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn end_of_log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
