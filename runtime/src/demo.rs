//! `mainstem demo`: the whole way, on this machine, in about a minute. A private PostgreSQL with a small shop, a writer, the pipeline of
//! `pipelines/demo.yaml` into Parquet files and a SQLite warehouse, a `kill -9` in the middle, and in the end a comparison of all three, value by
//! value. Nothing is left running, whichever way it ends.

mod comparison;
mod fold;
mod server;
mod shop;
mod worker;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;

use self::{
    comparison::{Comparison, TABLES},
    server::Server,
    shop::Writer,
    worker::Worker,
};

const PIPELINE: &str = include_str!("../../pipelines/demo.yaml");

/// How `mainstem demo` runs.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep PostgreSQL's data directory too. The log, the files and the warehouse are kept in any case.
    #[arg(long)]
    keep: bool,
    /// The folder of PostgreSQL's programs (`initdb`, `postgres`); by default the newest that is installed.
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Seconds that the shop is open, 4 or more: half of them before the kill, half after it.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u64).range(4..3600))]
    seconds: u64,
}

/// Runs it. An error also if source and targets differ in the end.
pub(crate) async fn run(args: DemoArgs) -> Result<()> {
    tokio::select! {
        done = show(&args) => done,
        () = interrupted() => bail!("interrupted; PostgreSQL and the pipeline are stopped"),
    }
}

async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut hang_up)) = (signal(SignalKind::terminate()), signal(SignalKind::hangup())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}

async fn show(args: &DemoArgs) -> Result<()> {
    let story = Story { start: Instant::now() };
    let bin = server::find(args.pg_bin.as_deref())?;
    let dir = own_folder()?;
    story.tell(&format!("a private PostgreSQL from {} in {}", bin.display(), dir.display()))?;
    let mut server = Server::start(&bin, &dir.join("postgres")).await?;
    let client = server.connect("postgres").await?;
    shop::create(&client, &server).await?;
    let client = server.connect("shop").await?;
    let (customers, orders) = shop::fill(&client).await?;
    story.tell(&format!("a shop with {customers} customers and {orders} orders; its clients write all the time"))?;
    let file = dir.join("demo.yaml");
    fs::write(&file, PIPELINE).with_context(|| format!("cannot write {}", file.display()))?;
    let writer = Writer::start(server.connect("shop").await?);

    story.tell("the pipeline demo.yaml: snapshot, then stream, into Parquet files and a SQLite warehouse")?;
    let mut worker = Worker::start(&dir, &server, &["run"])?;
    let half = Duration::from_secs(args.seconds) / 2;
    watch(&story, &mut worker, &writer, &client, half).await?;
    let pid = worker.kill();
    story.tell(&format!("kill -9 {pid}: the pipeline is dead in the middle of its work, the shop is not"))?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    story.tell("the same command again: it goes on where its log ends")?;
    let mut worker = Worker::start(&dir, &server, &["run"])?;
    watch(&story, &mut worker, &writer, &client, half).await?;

    let written = writer.stop().await?;
    story.tell(&format!("the shop closes after {written} transactions; waiting until everything has arrived"))?;
    worker.terminate().await?;
    Worker::start(&dir, &server, &["run", "--once"])?.succeed().await?;

    let mut comparisons = Vec::new();
    for table in TABLES {
        comparisons.push(Comparison::make(table, &client, &dir).await?);
    }
    server.stop();
    if !args.keep {
        // The folder belongs to the server's user, whom root may act for; a failure leaves a few MB in the temporary folder.
        let _ = fs::remove_dir_all(dir.join("postgres"));
    }
    story.tell("source, warehouse and files compared, every column of every row:\n")?;
    print(&comparison::table(&comparisons))?;
    print(&next_steps(&dir, args.keep)?)?;
    if let Some(difference) = comparisons.iter().find_map(Comparison::difference) {
        bail!("the targets differ from the source: {difference}");
    }
    Ok(())
}

/// Lets the pipeline and the shop work for a while, and shows that they do.
async fn watch(
    story: &Story,
    worker: &mut Worker,
    writer: &Writer,
    client: &tokio_postgres::Client,
    duration: Duration,
) -> Result<()> {
    let start = Instant::now();
    let mut shown = Duration::ZERO;
    while start.elapsed() < duration {
        tokio::time::sleep(Duration::from_millis(200)).await;
        worker.check()?;
        writer.check()?;
        if start.elapsed() >= shown + Duration::from_secs(5) {
            shown = start.elapsed();
            let orders: i64 = client.query_one("SELECT count(*) FROM orders", &[]).await?.get(0);
            story.tell(&format!("  {} transactions so far; {orders} orders at the source", writer.transactions()))?;
        }
    }
    Ok(())
}

/// A folder of our own in the temporary folder. The server's user has to be able to enter it.
fn own_folder() -> Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    for n in 0..1000 {
        let dir = std::env::temp_dir().join(format!("mainstem-demo-{}-{n}", std::process::id()));
        match fs::DirBuilder::new().mode(0o755).create(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot create {}", dir.display())),
        }
    }
    bail!("{} is full of demos: remove some", std::env::temp_dir().display())
}

fn next_steps(dir: &Path, keep: bool) -> Result<String> {
    let exe = std::env::current_exe().context("cannot find this program")?;
    // The kernel says so of a program that was built anew meanwhile.
    let exe = exe.display().to_string();
    let exe = exe.trim_end_matches(" (deleted)");
    let dir = dir.display();
    let mut text = format!(
        "\nWhere it is:\n  \
         {dir}/demo.yaml      the pipeline file\n  \
         {dir}/log            the log: every change, and how far everybody is\n  \
         {dir}/lake           Parquet files, a row a change (docs/parquet-files.md has the query for the current rows)\n  \
         {dir}/warehouse.db   SQLite, a row a row\n\
         What to type next:\n  \
         {exe} topics --data-dir {dir}/log\n  \
         {exe} read demo.public.orders --data-dir {dir}/log | head -3\n  \
         sqlite3 {dir}/warehouse.db 'SELECT status, count(*) FROM orders GROUP BY 1'\n  \
         rm -r {dir}\n"
    );
    if keep {
        text += &format!("PostgreSQL's data directory was kept too: {dir}/postgres/data\n");
    }
    Ok(text)
}

/// Says what happens, with the seconds since the start.
struct Story {
    start: Instant,
}

impl Story {
    fn tell(&self, text: &str) -> Result<()> {
        print(&format!("{:5.1} s  {text}\n", self.start.elapsed().as_secs_f64()))
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}
