use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{MINUTE, environment::mainstem_binary, wait_until, wait_until_for};

/// Ends a process at once.
pub const SIGKILL: &str = "KILL";
/// Asks a process to end.
pub const SIGTERM: &str = "TERM";
/// Halts a process.
pub const SIGSTOP: &str = "STOP";
/// Lets a halted process go on.
pub const SIGCONT: &str = "CONT";

/// Sends a signal to a process that the test started.
pub fn kill(pid: u32, signal: &str) {
    let _ = Command::new("/bin/kill").arg(format!("-{signal}")).arg(pid.to_string()).stderr(Stdio::null()).status();
}

/// What a command that ended left.
#[derive(Debug)]
pub struct Output {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it printed as errors, or its log.
    pub stderr: String,
}

/// Runs `mainstem` with these arguments to its end.
pub fn run_command<I: IntoIterator<Item = S>, S: Into<OsString>>(arguments: I) -> Output {
    let mut command = Command::new(mainstem_binary());
    command.args(arguments.into_iter().map(Into::into)).env("NO_COLOR", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    let output = command.output().expect("run mainstem");
    Output {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// How to start `mainstem run`.
#[derive(Debug, Clone)]
pub struct Run {
    files: Vec<PathBuf>,
    data_dir: PathBuf,
    options: Vec<String>,
    variables: Vec<(String, String)>,
    wrapper: Vec<String>,
    allowed: Vec<String>,
}

impl Run {
    /// The log in `data_dir`, no pipelines yet.
    pub fn new(data_dir: &Path) -> Self {
        Self {
            files: Vec::new(),
            data_dir: data_dir.to_owned(),
            options: Vec::new(),
            variables: Vec::new(),
            wrapper: Vec::new(),
            allowed: Vec::new(),
        }
    }

    /// With a pipeline file, or a folder of them.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// With a command-line option, such as `--memory=64MiB`.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(option.to_owned());
        self
    }

    /// With an environment variable.
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Under another program, such as `strace`, which gets the command as its last arguments.
    pub fn wrapped(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&part| part.to_owned()).collect();
        self
    }

    /// A WARN or ERROR line that contains `text` is expected; any other fails the scenario. Empty text: all are expected.
    pub fn allow(mut self, text: &str) -> Self {
        self.allowed.push(text.to_owned());
        self
    }

    /// Starts it; waits until it serves its status.
    #[track_caller]
    pub fn start(&self) -> Mainstem {
        let mut running = self.spawn(&["--listen=127.0.0.1:0"]);
        let mut address = None;
        wait_until_for(MINUTE, "mainstem logs the address of its status", || {
            address = running.find_listen();
            address.is_some() || running.has_ended()
        });
        running.listen = address;
        assert!(running.listen.is_some(), "mainstem ended instead of serving its status:\n{}", running.log());
        running
    }

    /// Runs it with `--once` and waits for its end, for ten minutes at most. Exit code and log are the caller's to judge.
    #[track_caller]
    pub fn once(&self) -> Mainstem {
        let mut running = self.spawn(&["--once"]);
        running.wait_for_end(10 * MINUTE);
        running
    }

    /// Runs it with `--once`; fails unless it ends with exit code 0 and no unexpected WARN or ERROR line.
    #[track_caller]
    pub fn once_succeeds(&self) {
        let mut running = self.once();
        let log = running.log();
        assert_eq!(running.exit().and_then(|status| status.code()), Some(0), "mainstem run --once failed:\n{log}");
        running.check_log();
    }

    /// Starts it with `--once`, without waiting for its end.
    #[track_caller]
    pub fn spawn_once(&self) -> Mainstem {
        self.spawn(&["--once"])
    }

    fn spawn(&self, more: &[&str]) -> Mainstem {
        let binary = mainstem_binary();
        let mut command = match self.wrapper.split_first() {
            None => Command::new(&binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&binary);
                command
            }
        };
        command.arg("run").args(&self.files).arg("--data-dir").arg(&self.data_dir).args(["--log-format", "json"]);
        command.args(more).args(&self.options).env("NO_COLOR", "1").env_remove("RUST_LOG");
        // Nothing of this machine's own may decide a test.
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_REGION"] {
            command.env_remove(name);
        }
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("run mainstem");
        let stderr = child.stderr.take().expect("stderr of mainstem");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let collected = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                collected.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Mainstem {
            child,
            status: None,
            lines,
            reader: Some(reader),
            listen: None,
            allowed: self.allowed.clone(),
            wrapped: !self.wrapper.is_empty(),
        }
    }
}

/// A running `mainstem run`. Killed when dropped.
#[derive(Debug)]
pub struct Mainstem {
    child: Child,
    status: Option<ExitStatus>,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
    listen: Option<String>,
    allowed: Vec<String>,
    wrapped: bool,
}

impl Mainstem {
    /// Its process id; that of `mainstem` itself also when it runs under another program.
    pub fn pid(&self) -> u32 {
        if self.wrapped {
            let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.child.id())).unwrap_or_default();
            if let Some(pid) = children.split_whitespace().next().and_then(|pid| pid.parse().ok()) {
                return pid;
            }
        }
        self.child.id()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Whether a line of its log contains `text`.
    pub fn has_logged(&self, text: &str) -> bool {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|line| line.contains(text))
    }

    /// Waits until a line of its log contains `text`.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("mainstem logs `{text}`"), || self.has_logged(text));
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.exit().is_some()
    }

    /// How it ended; `None` while it runs.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("wait for mainstem");
            if self.status.is_some() {
                self.reader.take().map(JoinHandle::join);
            }
        }
        self.status
    }

    /// Waits for its end; panics with its log if that takes longer than `limit`.
    #[track_caller]
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.exit() {
                return status;
            }
            assert!(start.elapsed() < limit, "mainstem did not end within {limit:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        kill(self.pid(), signal);
    }

    /// `kill -9`: nothing of its own runs any more.
    pub fn kill(mut self) {
        self.signal(SIGKILL);
        let status = self.wait_for_end(MINUTE);
        assert!(self.wrapped || status.signal() == Some(9), "mainstem had ended before it was killed ({status}):\n{}", self.log());
        self.check_log();
    }

    /// Asks it to end; fails unless it does so within ten seconds, with exit code 0 and no unexpected WARN or ERROR line.
    #[track_caller]
    pub fn stop(mut self) {
        self.signal(SIGTERM);
        let start = Instant::now();
        let status = self.wait_for_end(MINUTE);
        let took = start.elapsed();
        assert!(status.success(), "after SIGTERM mainstem ended with {status}:\n{}", self.log());
        assert!(took < Duration::from_secs(12), "mainstem took {took:?} to end after SIGTERM:\n{}", self.log());
        self.check_log();
    }

    /// Fails if a WARN or ERROR line is in the log that the scenario does not expect.
    #[track_caller]
    pub fn check_log(&self) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines.iter() {
            let bad = line.contains("\"level\":\"WARN\"") || line.contains("\"level\":\"ERROR\"") || line.contains("panicked at");
            assert!(
                !bad || self.allowed.iter().any(|text| line.contains(text)),
                "unexpected line in the log: {line}\n\n{}",
                lines.join("\n")
            );
        }
    }

    fn find_listen(&self) -> Option<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            let listen = line.pointer("/fields/listen").or_else(|| line.get("listen"))?;
            Some(listen.as_str()?.to_owned())
        })
    }

    /// The body of an HTTP GET; an error if nobody answers or the code is not 200.
    pub fn get(&self, path: &str) -> Result<String, String> {
        let address = self.listen.as_deref().ok_or("started without --listen")?;
        let mut stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|e| e.to_string())?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").map_err(|e| e.to_string())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(|e| e.to_string())?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no HTTP answer")?;
        if head.starts_with("HTTP/1.1 200") { Ok(body.to_owned()) } else { Err(answer.into_owned()) }
    }

    /// The status of a pipeline; `Null` while there is none.
    pub fn pipeline(&self, name: &str) -> Value {
        let status = self.get("/status").ok().and_then(|body| serde_json::from_str::<Value>(&body).ok()).unwrap_or_default();
        let pipelines = status.get("pipelines").and_then(Value::as_array).cloned().unwrap_or_default();
        pipelines.into_iter().find(|pipeline| pipeline["name"] == name).unwrap_or_default()
    }

    /// The status of a pipeline's sink; `Null` while there is none.
    pub fn sink(&self, pipeline: &str, sink: &str) -> Value {
        let status = self.pipeline(pipeline);
        let sinks = status.get("sinks").and_then(Value::as_array).cloned().unwrap_or_default();
        sinks.into_iter().find(|status| status["name"] == sink).unwrap_or_default()
    }

    /// Waits until a pipeline is in that state; fails early with the log if the process ends.
    #[track_caller]
    pub fn wait_for_state(&mut self, pipeline: &str, state: &str) {
        wait_until(&format!("pipeline {pipeline} is {state}"), || {
            assert!(!self.has_ended(), "mainstem ended:\n{}", self.log());
            self.pipeline(pipeline)["state"] == state
        });
    }

    /// A figure of `/proc/PID/status`, such as `VmHWM`, in KiB.
    pub fn memory_kib(&self, figure: &str) -> u64 {
        memory_kib(self.pid(), figure)
    }
}

fn memory_kib(pid: u32, figure: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(figure)).unwrap_or_default();
    line.trim_start_matches(':').split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl Drop for Mainstem {
    fn drop(&mut self) {
        if self.exit().is_none() {
            self.signal(SIGKILL);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            println!("--- log of mainstem ---\n{}\n--- end of log ---", self.log());
        }
    }
}
