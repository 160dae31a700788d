use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use connector_api::{Finding, Offset, TopicInfo};
use parquet::file::metadata::ParquetMetaDataReader;

use crate::{
    error::{FilesError, blocking},
    file_header::FileHeader,
    object_name::{PartitionFolder, first_offset, is_left_probe, is_temporary, probe_name, temporary_name},
    parquet_file::Output,
    store::Created,
};

/// A folder on disk.
///
/// A file is written under a hidden name in its own folder, synced, and then given its real name by a hard link, which fails if that
/// name exists: the file system is the judge between two writers, and a file is never seen half-written.
#[derive(Debug, Clone)]
pub(crate) struct LocalStore {
    root: PathBuf,
    /// Renames instead of links, for file systems without hard links.
    single_writer: bool,
}

impl LocalStore {
    pub fn new(root: PathBuf, single_writer: bool) -> Self {
        Self { root, single_writer }
    }

    pub fn path(&self, folder: &PartitionFolder, first: Offset) -> PathBuf {
        self.root.join(folder.file(first))
    }

    pub async fn probe(&self, create: bool) -> Result<Vec<Finding>, FilesError> {
        let store = self.clone();
        blocking(move || {
            if create {
                create_folder(&store.root, &store.root)?;
            }
            // What is not there yet will be created in the nearest folder that is.
            let existing = store.root.ancestors().find(|path| path.is_dir()).unwrap_or(&store.root);
            probe_folder(existing, store.single_writer)?;
            Ok(Vec::new())
        })
        .await
    }

    /// Removes what processes that were killed in the middle of [`probe`](Self::probe) left.
    pub async fn remove_left_probes(&self) -> Result<(), FilesError> {
        let root = self.root.clone();
        blocking(move || {
            for file in names(&root)?.into_iter().filter(|file| is_left_probe(file)) {
                remove(&root.join(file))?;
            }
            Ok(())
        })
        .await
    }

    pub async fn clean(&self, topic: &TopicInfo) -> Result<(), FilesError> {
        let store = self.clone();
        let (name, partitions) = (topic.name.clone(), topic.partitions);
        blocking(move || {
            for partition in 0..partitions {
                let folder = store.root.join(PartitionFolder { topic: name.clone(), partition }.path());
                for file in names(&folder)?.into_iter().filter(|file| is_temporary(file)) {
                    let path = folder.join(file);
                    tracing::info!(path = %path.display(), "removing an unfinished file");
                    remove(&path)?;
                }
            }
            Ok(())
        })
        .await
    }

    pub async fn last_file(&self, folder: &PartitionFolder) -> Result<Option<Offset>, FilesError> {
        let path = self.root.join(folder.path());
        blocking(move || Ok(names(&path)?.iter().filter_map(|name| first_offset(name)).max())).await
    }

    pub async fn header(&self, folder: &PartitionFolder, first: Offset) -> Result<Option<FileHeader>, FilesError> {
        let path = self.path(folder, first);
        blocking(move || read_header(&path)).await
    }

    pub async fn begin(&self, folder: &PartitionFolder, first: Offset) -> Result<(Output, LocalUpload), FilesError> {
        let store = self.clone();
        let parent = store.root.join(folder.path());
        let name = store.path(folder, first);
        blocking(move || {
            create_folder(&store.root, &parent)?;
            let temporary = parent.join(temporary_name(first));
            let file = File::create_new(&temporary).map_err(disk("create", &temporary))?;
            Ok((Output::File(file), LocalUpload { temporary: Temporary(temporary), name, single_writer: store.single_writer }))
        })
        .await
    }
}

/// A file that is being written beside the name that it shall have.
#[derive(Debug)]
pub(crate) struct LocalUpload {
    temporary: Temporary,
    name: PathBuf,
    single_writer: bool,
}

impl LocalUpload {
    pub fn place(&self) -> String {
        self.name.display().to_string()
    }

    pub async fn publish(self, file: File) -> Result<Created, FilesError> {
        blocking(move || self.publish_blocking(&file)).await
    }

    fn publish_blocking(self, file: &File) -> Result<Created, FilesError> {
        let temporary = &self.temporary.0;
        // The bytes are on disk before the name is: after a power cut there is either no file or all of it.
        file.sync_all().map_err(disk("sync", temporary))?;
        let bytes = file.metadata().map_err(disk("read the size of", temporary))?.len();
        let linked = if self.single_writer { rename_new(temporary, &self.name) } else { fs::hard_link(temporary, &self.name) };
        match linked {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(Created::ExistsAlready),
            // Another writer has removed our unfinished file at its start. If it has written this range too, that file counts.
            Err(error) if error.kind() == ErrorKind::NotFound && self.name.exists() => return Ok(Created::ExistsAlready),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(FilesError::UnfinishedGone { place: self.place() }),
            Err(error) => return Err(disk("give its name to", &self.name)(error)),
        }
        drop(self.temporary);
        if let Some(parent) = self.name.parent() {
            sync_folder(parent)?;
        }
        Ok(Created::Yes { bytes })
    }
}

/// The name of an unfinished file; removed on drop.
#[derive(Debug)]
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What can't be removed now is removed when the topic is opened next.
        let _ = fs::remove_file(&self.0);
    }
}

fn disk(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Disk { action, path, source }
}

/// Names a file without an atomic test for an existing one: only where there is no second writer.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? {
        return Err(ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// The names in a folder, which need not exist.
fn names(folder: &Path) -> Result<Vec<String>, FilesError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(disk("list", folder)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        // A name that is no UTF-8 is none of ours.
        if let Ok(name) = entry.map_err(disk("list", folder))?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

fn read_header(path: &Path) -> Result<Option<FileHeader>, FilesError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(disk("open", path)(error)),
    };
    let place = path.display().to_string();
    let metadata = ParquetMetaDataReader::new()
        .parse_and_finish(&file)
        .map_err(|error| FilesError::NotOurs { place: place.clone(), reason: error.to_string() })?;
    FileHeader::read(&metadata, &place).map(Some)
}

/// Creates a folder at or below `root`, and makes each new name durable.
fn create_folder(root: &Path, folder: &Path) -> Result<(), FilesError> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(folder).map_err(disk("create the folder", folder))?;
    // The parents too: without that a new folder's name can vanish in a power cut with all files in it.
    let mut path = folder;
    while let Some(parent) = path.parent().filter(|parent| parent.is_dir()) {
        sync_folder(parent)?;
        if path == root {
            break;
        }
        path = parent;
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<(), FilesError> {
    File::open(folder).and_then(|file| file.sync_all()).map_err(disk("sync the folder", folder))
}

fn remove(path: &Path) -> Result<(), FilesError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(disk("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Whether files can be created in a folder, and only where there are none.
fn probe_folder(folder: &Path, single_writer: bool) -> Result<(), FilesError> {
    let first = Temporary(folder.join(probe_name()));
    File::create_new(&first.0).map_err(disk("create a file in", folder))?;
    if single_writer {
        return Ok(());
    }
    let second = Temporary(folder.join(probe_name()));
    let not_conditional = |reason: String| FilesError::NotConditional { place: folder.display().to_string(), reason };
    fs::hard_link(&first.0, &second.0).map_err(|error| not_conditional(format!("it has no hard links: {error}")))?;
    match fs::hard_link(&first.0, &second.0) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(not_conditional(format!("a second hard link of one name failed with: {error}"))),
        Ok(()) => Err(not_conditional("a second hard link of one name replaced the first".into())),
    }
}
