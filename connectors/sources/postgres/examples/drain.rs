//! Reads a database to its present end and throws the rows away: what receiving and decoding cost.
//!
//! `drain URL SLOT SNAPSHOT TABLE…`, where SLOT is the slot's name (made if it is not there), SNAPSHOT is `initial` or `never`. Prints
//! rows, groups, seconds and CPU seconds of this process. `DRAIN_PUBLICATION` names a publication to use as it is; `DRAIN_TEXT` asks for
//! text instead of binary.

use std::{collections::HashMap, error::Error, time::Instant};

use connector_api::{ByteBudget, Document, Shutdown, SourceContext, SourceStatus};
use source_postgres::PostgresSource;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, slot, snapshot, tables @ ..] = arguments.as_slice() else {
        return Err("usage: drain URL SLOT initial|never TABLE…".into());
    };
    let binary = std::env::var("DRAIN_TEXT").is_err();
    let given = std::env::var("DRAIN_PUBLICATION").ok();
    let publication = serde_json::json!({ "create": given.is_none(), "name": given });
    let text = serde_json::json!({ "postgres": {
        "url": url, "tables": tables, "slot": { "name": slot }, "publication": publication, "snapshot": { "mode": snapshot }, "binary": binary,
    } });
    let document = Document { file: "arguments".into(), text: text.to_string(), variables: HashMap::new() };
    let source = PostgresSource::factory().make(&document, &["postgres"])?;
    let (_sender, shutdown) = Shutdown::new();
    let context = SourceContext {
        pipeline: "drain".into(),
        budget: ByteBudget::new(64 << 20),
        shutdown,
        status: SourceStatus::default(),
        once: true,
        snapshots: connector_api::SnapshotRequests::default(),
    };
    let begun = Instant::now();
    let failed = |error: connector_api::ConnectorError| error.to_string();
    let mut source = source.open(context, None).await.map_err(failed)?;
    let opened = begun.elapsed();
    let (mut rows, mut groups, mut batches) = (0, 0, 0);
    while let Some(group) = source.next().await.map_err(failed)? {
        groups += 1;
        batches += group.batches.len();
        rows += group.batches.iter().map(|batch| batch.len()).sum::<usize>();
        source.confirm(&group.position);
        if group.reached_end {
            break;
        }
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds()?);
    println!(
        "rows {rows} groups {groups} batches {batches} open {opened:.3?} seconds {seconds:.2} rows/s {:.0}",
        rows as f64 / seconds
    );
    println!("cpu {cpu:.2} s, {:.2} us a row; peak {} KiB", cpu * 1e6 / rows as f64, peak_kib()?);
    Ok(())
}

/// User and system time of this process, all threads: fields 14 and 15 of `/proc/self/stat`, in hundredths.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn peak_kib() -> Result<String, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    Ok(status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("?").trim().replace(" kB", ""))
}
