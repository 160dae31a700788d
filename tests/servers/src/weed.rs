use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    Guard, MINUTE,
    environment::{python, repository, weed_binary},
    wait_until_for,
};

/// A private S3 server (SeaweedFS) in a temporary folder. Stopped and removed when dropped, or when this process ends.
#[derive(Debug)]
pub struct Weed {
    child: Child,
    _guard: Guard,
    _dir: TempDir,
    port: u16,
}

impl Weed {
    /// The access key that it accepts.
    pub const ACCESS_KEY: &str = "mainstem-test";
    /// An access key that may read and list only, with the same secret.
    pub const READ_ONLY_KEY: &str = "read-only";
    /// The secret of both keys.
    pub const SECRET_KEY: &str = "mainstem-test-secret";

    /// Starts one.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("mainstem-s3-").tempdir().expect("temporary folder");
        let identities = dir.path().join("identities.json");
        let user = |name: &str, key: &str, actions: &str| {
            format!(
                r#"{{"name":"{name}","credentials":[{{"accessKey":"{key}","secretKey":"{}"}}],"actions":[{actions}]}}"#,
                Self::SECRET_KEY
            )
        };
        let all = user("all", Self::ACCESS_KEY, r#""Admin","Read","Write","List","Tagging""#);
        let reader = user("reader", Self::READ_ONLY_KEY, r#""Read","List""#);
        fs::write(&identities, format!(r#"{{"identities":[{all},{reader}]}}"#)).expect("identities.json");
        let data = dir.path().join("data");
        fs::create_dir(&data).expect("folder");
        let [master, master_grpc, volume, volume_grpc, filer, filer_grpc, port, port_grpc] = free_ports();
        let log = fs::File::create(dir.path().join("weed.log")).expect("weed.log");
        let mut command = Command::new(weed_binary());
        command.arg("server").args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1"]).arg(format!("-dir={}", data.display()));
        command.arg(format!("-master.port={master}")).arg(format!("-master.port.grpc={master_grpc}"));
        command.arg(format!("-volume.port={volume}")).arg(format!("-volume.port.grpc={volume_grpc}"));
        command.arg(format!("-filer.port={filer}")).arg(format!("-filer.port.grpc={filer_grpc}"));
        command.arg("-s3").arg(format!("-s3.port={port}")).arg(format!("-s3.port.grpc={port_grpc}"));
        // These two would listen on fixed ports, and a second server on the machine would end.
        command.args(["-s3.port.iceberg=0", "-s3.port.lance=0"]).arg(format!("-s3.config={}", identities.display()));
        // Every bucket has volumes of its own, so there are many small ones.
        command.args(["-volume.max=1000", "-master.volumeSizeLimitMB=64"]);
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(log.try_clone().expect("weed.log")).stderr(log);
        let child = command.spawn().unwrap_or_else(|e| panic!("{}: {e}: run scripts/venv.sh", weed_binary().display()));
        let guard = Guard::new(
            "[ \"$(cat /proc/$1/comm)\" = weed ] && kill -9 \"$1\"; rm -rf \"$2\"",
            &[&child.id().to_string(), &dir.path().display().to_string()],
            false,
        );
        let weed = Self { child, _guard: guard, _dir: dir, port };
        wait_until_for(2 * MINUTE, "the S3 server answers and takes an object", || weed.ready());
        weed
    }

    /// One for the tests that need none of their own.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Weed> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The port of S3 on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, name: &str) {
        self.client(&["create-bucket", name]).unwrap_or_else(|error| panic!("creating bucket {name}: {error}"));
    }

    /// Names of the objects in a bucket, sorted.
    pub fn objects(&self, bucket: &str) -> Vec<String> {
        let text = self.client(&["list", bucket]).unwrap_or_else(|error| panic!("listing bucket {bucket}: {error}"));
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// Copies a bucket's objects into a folder.
    pub fn download(&self, bucket: &str, dir: &Path) {
        self.client(&["download", bucket, &dir.display().to_string()])
            .unwrap_or_else(|error| panic!("reading bucket {bucket}: {error}"));
    }

    /// Settings of the `files` sink for this server, in YAML's flow style, with requests going to `port`.
    pub fn settings(port: u16) -> String {
        format!(
            "s3: {{ endpoint: \"http://127.0.0.1:{port}\", region: us-east-1, path_style: true, access_key_id: {}, secret_access_key: {} }}",
            Self::ACCESS_KEY,
            Self::SECRET_KEY
        )
    }

    fn ready(&self) -> bool {
        let answer = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream.write_all(b"GET / HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")?;
            let mut text = Vec::new();
            stream.take(1024).read_to_end(&mut text)?;
            Ok(text)
        });
        answer.is_ok_and(|text| text.starts_with(b"HTTP/1.")) && self.client(&["probe"]).is_ok()
    }

    fn client(&self, arguments: &[&str]) -> Result<String, String> {
        let script = repository().join("tests/servers/s3.py");
        let mut command = Command::new(python());
        command.arg(script).arg(self.port.to_string()).args([Self::ACCESS_KEY, Self::SECRET_KEY]).args(arguments);
        let output = command.output().map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

impl Drop for Weed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that differ: each is kept until all are chosen.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("its address").port())
}
