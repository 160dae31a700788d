//! What commands ask of a runtime that runs: files in the data directory, so that who may write there may ask, and nobody else.
//!
//! ```text
//! <data directory>/requests/<pipeline>/<uuid>.json    {"table": "shop.orders", "condition": "id > 100"}
//! ```
//!
//! A file goes when a commit behind the request's delivery holds it in the source's position. After a crash before that it is delivered
//! once more: to read a table twice changes nothing in the targets.
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use connector_api::{SnapshotRequest, SnapshotRequests};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::status::PipelineStatus;

/// The folder is looked at this often.
const INTERVAL: Duration = Duration::from_millis(500);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SnapshotFile {
    table: String,
    condition: Option<String>,
}

fn folder(data_dir: &Path, pipeline: &str) -> PathBuf {
    data_dir.join("requests").join(pipeline)
}

/// Leaves a request for a pipeline's source, whether it runs now or later.
pub(crate) fn leave(data_dir: &Path, pipeline: &str, request: SnapshotRequest) -> anyhow::Result<()> {
    let folder = folder(data_dir, pipeline);
    let path = folder.join(format!("{}.json", Uuid::new_v4()));
    let aside = path.with_extension("new");
    let text = serde_json::to_vec(&SnapshotFile { table: request.table, condition: request.condition })?;
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&aside, text))
        .and_then(|()| fs::rename(&aside, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Hands requests to a source for as long as it runs.
pub(crate) async fn deliver(data_dir: PathBuf, status: Arc<PipelineStatus>, requests: SnapshotRequests) {
    let mut delivery = Delivery { folder: folder(&data_dir, &status.name), status, requests, delivered: BTreeMap::new() };
    loop {
        delivery.look();
        tokio::time::sleep(INTERVAL).await;
    }
}

struct Delivery {
    folder: PathBuf,
    status: Arc<PipelineStatus>,
    requests: SnapshotRequests,
    /// For each file, the last commit's sequence when the source was seen to have taken the request.
    delivered: BTreeMap<PathBuf, Option<u64>>,
}

impl Delivery {
    /// Delivers what is new, and removes what a commit holds.
    fn look(&mut self) {
        for path in waiting(&self.folder) {
            if !self.delivered.contains_key(&path) {
                match read(&path) {
                    Ok(request) => self.requests.push(request),
                    Err(error) => {
                        tracing::warn!(pipeline = self.status.name, %error, "a request cannot be read and is left out");
                    }
                }
                self.delivered.insert(path, None);
            }
        }
        let sequence = self.status.committed_sequence();
        if self.requests.is_empty() {
            self.delivered.values_mut().for_each(|taken| {
                taken.get_or_insert(sequence);
            });
        }
        self.delivered.retain(|path, taken| {
            let held = taken.is_some_and(|taken| sequence > taken);
            if held && let Err(error) = fs::remove_file(path) {
                tracing::warn!(pipeline = self.status.name, file = %path.display(), %error, "cannot remove a request that is done");
            }
            !held
        });
    }
}

fn waiting(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).map(|entries| entries.map_while(Result::ok).map(|entry| entry.path()).collect::<Vec<_>>());
    let mut paths = entries.unwrap_or_default();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    paths
}

fn read(path: &Path) -> io::Result<SnapshotRequest> {
    let file: SnapshotFile = serde_json::from_slice(&fs::read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display())))?;
    Ok(SnapshotRequest { table: file.table, condition: file.condition })
}

#[cfg(test)]
mod tests {
    use connector_api::SourceStatus;

    use super::*;

    fn delivery(data_dir: &Path, status: &Arc<PipelineStatus>) -> Delivery {
        let requests = SnapshotRequests::default();
        Delivery { folder: folder(data_dir, "shop"), status: Arc::clone(status), requests, delivered: BTreeMap::new() }
    }

    #[test]
    fn a_request_goes_only_when_a_commit_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let request = SnapshotRequest { table: "shop.orders".into(), condition: Some("id < 3".into()) };
        leave(dir.path(), "shop", request.clone()).unwrap();
        let left = || waiting(&folder(dir.path(), "shop")).len();
        let status = PipelineStatus::new("shop", true, SourceStatus::default());
        let mut first = delivery(dir.path(), &status);
        first.look();
        status.committed(7, 0, 0);
        first.look();
        assert_eq!(left(), 1, "nobody has taken it");
        assert_eq!(first.requests.take(), Some(request.clone()));
        assert_eq!(first.requests.take(), None, "delivered once");
        first.look();
        assert_eq!(left(), 1, "no commit holds it");
        // A crash here: the next start delivers it again.
        let mut second = delivery(dir.path(), &status);
        second.look();
        assert_eq!(second.requests.take(), Some(request));
        second.look();
        status.committed(8, 0, 0);
        second.look();
        assert_eq!(left(), 0);
        second.look();
        assert!(second.requests.is_empty());
    }

    #[test]
    fn a_damaged_request_keeps_no_other_back() {
        let dir = tempfile::tempdir().unwrap();
        let request = SnapshotRequest { table: "shop.orders".into(), condition: None };
        leave(dir.path(), "shop", request.clone()).unwrap();
        fs::write(folder(dir.path(), "shop").join("0.json"), "{").unwrap();
        let mut delivery = delivery(dir.path(), &PipelineStatus::new("shop", true, SourceStatus::default()));
        delivery.look();
        assert_eq!(delivery.requests.take(), Some(request));
    }
}
