//! One file for each subcommand.
pub(crate) mod check;
pub(crate) mod connectors;
pub(crate) mod drop;
pub(crate) mod log;
pub(crate) mod read;
pub(crate) mod resnapshot;
pub(crate) mod run;
pub(crate) mod schemas;
pub(crate) mod snapshot;
pub(crate) mod status;
pub(crate) mod topics;

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use log_core::{Log, Topic};

use crate::{
    Connectors,
    definition::{self, Pipeline},
};

/// Input that cannot be used: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct WrongInput(pub String);

/// A topic of the log; an error that names those there are.
pub(crate) fn find_topic(log: &Log, name: &str) -> anyhow::Result<Topic> {
    log.topic(name).ok_or_else(|| {
        let names: Vec<_> = log.topics().iter().map(|topic| topic.name().to_owned()).collect();
        WrongInput(format!("there is no topic `{name}`; there are: {}", names.join(", "))).into()
    })
}

/// The environment, for `${NAME}` in pipeline files.
pub(crate) fn environment() -> HashMap<String, String> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

/// The file in the data directory that remembers where each pipeline's definition was, for commands that are given a name.
fn known_files(data_dir: &Path) -> PathBuf {
    data_dir.join("pipelines.json")
}

fn read_known(data_dir: &Path) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let path = known_files(data_dir);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged: delete it", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Remembers where these pipelines are defined. Returns the names that are known from before and not among them.
pub(crate) fn remember(data_dir: &Path, pipelines: &[Pipeline]) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut known = read_known(data_dir)?;
    for pipeline in pipelines {
        let file = fs::canonicalize(&pipeline.file).unwrap_or_else(|_| PathBuf::from(&pipeline.file));
        known.insert(pipeline.name.clone(), file);
    }
    write_known(data_dir, &known)?;
    Ok(known.into_iter().filter(|(name, _)| pipelines.iter().all(|pipeline| pipeline.name != *name)).collect())
}

/// Forgets a pipeline.
pub(crate) fn forget(data_dir: &Path, name: &str) -> anyhow::Result<()> {
    let mut known = read_known(data_dir)?;
    known.remove(name);
    write_known(data_dir, &known)
}

fn write_known(data_dir: &Path, known: &BTreeMap<String, PathBuf>) -> anyhow::Result<()> {
    let path = known_files(data_dir);
    // Written aside and renamed: a crash leaves the old list or the new one.
    let aside = path.with_extension("json.new");
    fs::write(&aside, serde_json::to_vec_pretty(known)?)
        .and_then(|()| fs::rename(&aside, &path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// The pipeline of a file, or of a name that ran from this data directory before.
pub(crate) fn find_pipeline(argument: &Path, data_dir: &Path, connectors: &Connectors) -> anyhow::Result<Pipeline> {
    let file = if argument.exists() {
        argument.to_owned()
    } else {
        let name = argument.to_string_lossy().into_owned();
        let known = read_known(data_dir)?;
        known.get(&name).cloned().ok_or_else(|| {
            let names: Vec<_> = known.keys().map(String::as_str).collect();
            WrongInput(format!(
                "`{name}` is neither a file nor a pipeline that ran from {} (known: {})",
                data_dir.display(),
                if names.is_empty() { "none".to_owned() } else { names.join(", ") }
            ))
        })?
    };
    let mut pipelines = definition::load(std::slice::from_ref(&file), connectors, &environment())?;
    match (pipelines.pop(), pipelines.is_empty()) {
        (Some(pipeline), true) => Ok(pipeline),
        _ => Err(WrongInput(format!("{} holds more than one pipeline: name one file", file.display())).into()),
    }
}
