//! A Kafka broker of one node in a temporary folder, and the tools that come with it.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use mainstem_tests::{Guard, MINUTE, free_port, repository, wait_until_for};
use tempfile::TempDir;

use crate::log::tool::output;

/// The heap of the broker and of each tool: enough that neither waits for its collector.
const HEAP: &str = "-Xmx1g";

/// Stopped and removed when dropped, or when this process ends.
pub struct Broker {
    child: Child,
    _guard: Guard,
    _dir: TempDir,
    port: u16,
}

impl Broker {
    /// Starts one that answers.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("mainstem-kafka-").tempdir().expect("temporary folder");
        let (port, controller) = (free_port(), free_port());
        let settings = dir.path().join("server.properties");
        // Nothing of what it does by default is set, but what one node and clean measuring need: internal topics of one replica, no waiting for other members of a
        // group, and room freed soon after a topic was deleted.
        let text = format!(
            "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
log.dirs={}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
log.segment.delete.delay.ms=1000
",
            dir.path().join("data").display()
        );
        fs::write(&settings, text).expect("server.properties");
        let cluster = "bWFpbnN0ZW0tYmVuY2gtMQ";
        output(tool("kafka.tools.StorageTool").args(["format", "-t", cluster, "-c"]).arg(&settings));
        let log = fs::File::create(dir.path().join("broker.log")).expect("broker.log");
        let mut command = tool("kafka.Kafka");
        command.arg(&settings).current_dir(dir.path()).stdin(Stdio::null());
        let child = command.stdout(log.try_clone().expect("broker.log")).stderr(log).spawn().expect("run java");
        let guard = Guard::new(
            "[ \"$(cat /proc/$1/comm)\" = java ] && kill -9 \"$1\"; rm -rf \"$2\"",
            &[&child.id().to_string(), &dir.path().display().to_string()],
            false,
        );
        let broker = Self { child, _guard: guard, _dir: dir, port };
        wait_until_for(2 * MINUTE, "the Kafka broker answers", || {
            let mut topics = broker.topics();
            topics.arg("--list").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            topics.status().is_ok_and(|status| status.success())
        });
        broker
    }

    /// Where clients find it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn topics(&self) -> Command {
        let mut command = tool("org.apache.kafka.tools.TopicCommand");
        command.args(["--bootstrap-server", &self.address()]);
        command
    }

    /// Makes a topic of one partition; `settings` are its own.
    pub fn create_topic(&self, name: &str, settings: &[&str]) {
        let mut command = self.topics();
        command.args(["--create", "--topic", name, "--partitions", "1"]);
        for setting in settings {
            command.args(["--config", setting]);
        }
        output(&mut command);
    }

    /// Removes a topic.
    pub fn delete_topic(&self, name: &str) {
        output(self.topics().args(["--delete", "--topic", name]));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of Kafka's by the name of its class.
pub fn tool(class: &str) -> Command {
    let jars: PathBuf = repository().join(".cache/kafka/lib");
    assert!(jars.exists(), "{} is not there: run scripts/kafka.sh", jars.display());
    let mut command = Command::new("java");
    command.arg(HEAP).arg("-cp").arg(jars.join("*")).arg(class);
    command
}
