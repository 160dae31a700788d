//! A file tree as the kernel shows it, and what of it a power cut can leave. The rules stand in [`super`].

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::trace::{Action, Call};

/// The smallest unit that a disk writes wholly or not at all.
pub(super) const BLOCK: usize = 512;
const ROOT: usize = 0;

/// What becomes of un-synced changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    NothingSurvives,
    EverythingSurvives,
    /// Each change on its own, by chance; the seed decides.
    Random(u64),
}

/// Draws by a [`Fate`].
struct Draws {
    fate: Fate,
    state: u64,
    /// Of 16 changes, about so many survive. Chosen for each file and directory, so that there are crashes after which
    /// nearly all or nearly nothing of one is there.
    lean: u64,
}

impl Draws {
    fn new(fate: Fate) -> Self {
        let state = if let Fate::Random(seed) = fate { seed } else { 0 };
        Self { fate, state, lean: 8 }
    }

    fn turn(&mut self) {
        self.lean = [1, 8, 15][(next_random(&mut self.state) % 3) as usize];
    }

    /// How many of `changes` to one thing survive.
    fn survivors(&mut self, changes: usize) -> usize {
        match self.fate {
            Fate::NothingSurvives => 0,
            Fate::EverythingSurvives => changes,
            Fate::Random(_) => {
                let random = next_random(&mut self.state);
                let some = (random >> 32) as usize % (changes + 1);
                match random % 16 < self.lean {
                    true if random & 16 == 0 || some == 0 => changes,
                    false if random & 16 == 0 || some == changes => 0,
                    _ => some,
                }
            }
        }
    }
}

/// Sebastiano Vigna's splitmix64.
pub(super) fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A change of a directory that is not synced.
#[derive(Clone, Debug)]
struct NameChange {
    gone: Option<String>,
    new: Option<(String, usize)>,
}

#[derive(Clone, Debug, Default)]
struct Dir {
    seen: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
    pending: Vec<NameChange>,
}

impl Dir {
    fn change(&mut self, change: NameChange) {
        change_names(&mut self.seen, &change);
        self.pending.push(change);
    }
}

fn change_names(names: &mut BTreeMap<String, usize>, change: &NameChange) {
    if let Some(gone) = &change.gone {
        names.remove(gone);
    }
    if let Some((name, node)) = &change.new {
        names.insert(name.clone(), *node);
    }
}

/// A change of a file that is not synced: what its blocks from `first_block` on hold since.
#[derive(Clone, Debug)]
struct DataChange {
    first_block: usize,
    bytes: Arc<[u8]>,
    /// The file ends behind `bytes`.
    cuts: bool,
    /// The file's length since.
    len: usize,
}

#[derive(Clone, Debug, Default)]
struct Data {
    seen: Arc<Vec<u8>>,
    durable: Arc<Vec<u8>>,
    pending: Vec<DataChange>,
    /// So many of the first pending changes met a sync that failed: later syncs do not write them.
    lost: usize,
}

impl Data {
    fn write(&mut self, position: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let end = position + bytes.len();
        let seen = Arc::make_mut(&mut self.seen);
        if seen.len() < end {
            seen.resize(end, 0);
        }
        seen[position..end].copy_from_slice(bytes);
        let first_block = position / BLOCK;
        let blocks_end = end.next_multiple_of(BLOCK).min(seen.len());
        let bytes = seen[first_block * BLOCK..blocks_end].into();
        self.pending.push(DataChange { first_block, bytes, cuts: false, len: seen.len() });
    }

    fn set_len(&mut self, len: usize) {
        let seen = Arc::make_mut(&mut self.seen);
        if seen.len() == len {
            return;
        }
        seen.resize(len, 0);
        let first_block = len / BLOCK;
        self.pending.push(DataChange { first_block, bytes: seen[first_block * BLOCK..].into(), cuts: true, len });
    }

    fn sync(&mut self) {
        if self.lost == 0 {
            self.durable = self.seen.clone();
        } else {
            let mut durable = self.durable.to_vec();
            durable.resize(self.seen.len(), 0);
            for change in &self.pending[self.lost..] {
                let start = (change.first_block * BLOCK).min(durable.len());
                let end = if change.cuts { durable.len() } else { (start + change.bytes.len()).min(durable.len()) };
                durable[start..end].copy_from_slice(&self.seen[start..end]);
            }
            self.durable = Arc::new(durable);
        }
        self.pending.clear();
        self.lost = 0;
    }

    fn after_crash(&self, draws: &mut Draws) -> Arc<Vec<u8>> {
        let changes = self.pending.len();
        if changes == 0 {
            return self.durable.clone();
        }
        draws.turn();
        let len = match draws.survivors(changes) {
            0 => self.durable.len(),
            count => self.pending[count - 1].len,
        };
        let longest = self.pending.iter().map(|change| change.len).max().unwrap_or(0).max(self.durable.len());
        let mut image = self.durable.to_vec();
        image.resize(longest.next_multiple_of(BLOCK), 0);
        // Of each block: how many changes reached the disk.
        let reached: Vec<usize> = (0..image.len() / BLOCK).map(|_| draws.survivors(changes)).collect();
        for (index, change) in self.pending.iter().enumerate() {
            let changed = if change.cuts { reached.len() - change.first_block } else { change.bytes.len().div_ceil(BLOCK) };
            for nth in 0..changed {
                let block = change.first_block + nth;
                if reached[block] > index {
                    let bytes = change.bytes.get(nth * BLOCK..).unwrap_or_default();
                    let bytes = &bytes[..bytes.len().min(BLOCK)];
                    let image = &mut image[block * BLOCK..(block + 1) * BLOCK];
                    image[..bytes.len()].copy_from_slice(bytes);
                    image[bytes.len()..].fill(0);
                }
            }
        }
        image.resize(len, 0);
        Arc::new(image)
    }
}

#[derive(Clone, Debug)]
enum Node {
    Dir(Dir),
    File(Data),
}

/// A file tree. Nodes that no name leads to any more stay, for handles on them.
#[derive(Clone, Debug)]
pub(super) struct Disk {
    nodes: Vec<Node>,
    inodes: HashMap<u64, usize>,
}

impl Disk {
    /// An empty directory, durably there.
    pub(super) fn new() -> Self {
        Self { nodes: vec![Node::Dir(Dir::default())], inodes: HashMap::new() }
    }

    /// Does what a call did. With `torn`, only so many bytes of a write were taken.
    pub(super) fn apply(&mut self, call: &Call, torn: Option<usize>) {
        match &call.action {
            Action::Create => match self.find(&call.path) {
                Some(node) => self.data(node).set_len(0),
                None => self.add(&call.path, Node::File(Data::default())),
            },
            Action::OpenOrCreate if self.find(&call.path).is_none() => self.add(&call.path, Node::File(Data::default())),
            Action::CreateDir if self.find(&call.path).is_none() => self.add(&call.path, Node::Dir(Dir::default())),
            Action::OpenOrCreate | Action::CreateDir => {}
            Action::Opened { inode } => {
                let node = self.find(&call.path).unwrap_or_else(|| panic!("the disk has no {}", call.path.display()));
                self.inodes.insert(*inode, node);
            }
            Action::Write { inode, position, bytes } => {
                let bytes = &bytes[..torn.unwrap_or(bytes.len())];
                self.handle(*inode).write(*position as usize, bytes);
            }
            Action::SetLen { inode, len } => self.handle(*inode).set_len(*len as usize),
            Action::Sync { inode } => self.handle(*inode).sync(),
            Action::SyncFailed { inode } => {
                let data = self.handle(*inode);
                data.lost = data.pending.len();
            }
            Action::SyncDir => {
                let node = self.find(&call.path).unwrap_or_else(|| panic!("the disk has no {}", call.path.display()));
                let dir = self.dir(node);
                dir.durable = dir.seen.clone();
                dir.pending.clear();
            }
            Action::Rename { to } => {
                let node = self.find(&call.path).unwrap_or_else(|| panic!("the disk has no {}", call.path.display()));
                assert_eq!(call.path.parent(), to.parent(), "renames stay in their directory");
                let change = NameChange { gone: Some(name(&call.path)), new: Some((name(to), node)) };
                self.parent(&call.path).change(change);
            }
            Action::RemoveFile => self.remove(&call.path),
            Action::RemoveDirAll => self.remove_dir_all(&call.path),
        }
    }

    fn remove(&mut self, path: &Path) {
        self.parent(path).change(NameChange { gone: Some(name(path)), new: None });
    }

    fn remove_dir_all(&mut self, path: &Path) {
        let Some(node) = self.find(path) else { return };
        if let Node::Dir(dir) = &self.nodes[node] {
            for name in dir.seen.keys().cloned().collect::<Vec<_>>() {
                self.remove_dir_all(&path.join(name));
            }
        }
        self.remove(path);
    }

    fn add(&mut self, path: &Path, node: Node) {
        self.nodes.push(node);
        let node = self.nodes.len() - 1;
        self.parent(path).change(NameChange { gone: None, new: Some((name(path), node)) });
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let mut node = ROOT;
        for component in path.components() {
            let Component::Normal(name) = component else { continue };
            match &self.nodes[node] {
                Node::Dir(dir) => node = *dir.seen.get(name.to_str()?)?,
                Node::File(_) => return None,
            }
        }
        Some(node)
    }

    fn parent(&mut self, path: &Path) -> &mut Dir {
        let parent = path.parent().and_then(|parent| self.find(parent));
        let parent = parent.unwrap_or_else(|| panic!("the disk has no directory for {}", path.display()));
        self.dir(parent)
    }

    fn dir(&mut self, node: usize) -> &mut Dir {
        match &mut self.nodes[node] {
            Node::Dir(dir) => dir,
            Node::File(_) => panic!("it is a file"),
        }
    }

    fn data(&mut self, node: usize) -> &mut Data {
        match &mut self.nodes[node] {
            Node::File(data) => data,
            Node::Dir(_) => panic!("it is a directory"),
        }
    }

    fn handle(&mut self, inode: u64) -> &mut Data {
        let node = *self.inodes.get(&inode).unwrap_or_else(|| panic!("inode {inode} was not opened"));
        self.data(node)
    }

    /// The files below a directory, as seen, with their lengths.
    pub(super) fn files_below(&self, dir: &Path) -> Vec<(PathBuf, usize)> {
        let mut files = Vec::new();
        if let Some(node) = self.find(dir) {
            self.list(node, dir, &mut files);
        }
        files
    }

    fn list(&self, node: usize, path: &Path, files: &mut Vec<(PathBuf, usize)>) {
        match &self.nodes[node] {
            Node::File(data) => files.push((path.to_owned(), data.seen.len())),
            Node::Dir(dir) => dir.seen.iter().for_each(|(name, child)| self.list(*child, &path.join(name), files)),
        }
    }

    /// Changes a byte of a file, on the disk and in the page cache.
    pub(super) fn damage(&mut self, path: &Path, position: usize) {
        let node = self.find(path).unwrap_or_else(|| panic!("the disk has no {}", path.display()));
        let data = self.data(node);
        for bytes in [&mut data.seen, &mut data.durable] {
            if let Some(byte) = Arc::make_mut(bytes).get_mut(position) {
                *byte ^= 0x10;
            }
        }
    }

    /// The tree that a power cut leaves; all of it is durable.
    pub(super) fn after_crash(&self, fate: Fate) -> Self {
        let mut left = Self { nodes: Vec::new(), inodes: HashMap::new() };
        self.settle(ROOT, &mut Draws::new(fate), &mut left);
        left
    }

    fn settle(&self, node: usize, draws: &mut Draws, left: &mut Self) -> usize {
        let settled = left.nodes.len();
        match &self.nodes[node] {
            Node::File(data) => {
                let bytes = data.after_crash(draws);
                left.nodes.push(Node::File(Data { seen: bytes.clone(), durable: bytes, ..Data::default() }));
            }
            Node::Dir(dir) => {
                draws.turn();
                let mut names = dir.durable.clone();
                for change in &dir.pending {
                    if draws.survivors(1) == 1 {
                        change_names(&mut names, change);
                    }
                }
                left.nodes.push(Node::Dir(Dir::default()));
                let names: BTreeMap<_, _> =
                    names.into_iter().map(|(name, child)| (name, self.settle(child, draws, left))).collect();
                *left.dir(settled) = Dir { seen: names.clone(), durable: names, pending: Vec::new() };
            }
        }
        settled
    }

    /// A number that two trees share only if their names and bytes, as seen, are the same.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash_node(ROOT, &mut hasher);
        hasher.finish()
    }

    fn hash_node(&self, node: usize, hasher: &mut DefaultHasher) {
        match &self.nodes[node] {
            Node::File(data) => data.seen.hash(hasher),
            Node::Dir(dir) => {
                dir.seen.len().hash(hasher);
                for (name, child) in &dir.seen {
                    name.hash(hasher);
                    self.hash_node(*child, hasher);
                }
            }
        }
    }

    /// Makes the tree, as seen, in the directory `target`. Later calls there are about these files.
    pub(super) fn materialise(&mut self, target: &Path) {
        self.inodes.clear();
        self.write_out(ROOT, target);
    }

    fn write_out(&mut self, node: usize, target: &Path) {
        match &self.nodes[node] {
            Node::File(data) => {
                fs::write(target, &**data.seen).unwrap();
                self.inodes.insert(fs::metadata(target).unwrap().ino(), node);
            }
            Node::Dir(dir) => {
                if node != ROOT {
                    fs::create_dir(target).unwrap();
                }
                for (name, child) in dir.seen.clone() {
                    self.write_out(child, &target.join(name));
                }
            }
        }
    }

    /// Fails unless the directory `real` holds what is seen here: then every change went through `durable_file`.
    pub(super) fn assert_same(&self, real: &Path) {
        self.assert_node_same(ROOT, real);
    }

    fn assert_node_same(&self, node: usize, real: &Path) {
        match &self.nodes[node] {
            Node::File(data) => assert!(fs::read(real).unwrap() == **data.seen, "{} holds something else", real.display()),
            Node::Dir(dir) => {
                let mut names: Vec<_> =
                    fs::read_dir(real).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
                names.sort_unstable();
                assert!(names.iter().eq(dir.seen.keys()), "{} holds {names:?}, not {:?}", real.display(), dir.seen.keys());
                for (name, child) in &dir.seen {
                    self.assert_node_same(*child, &real.join(name));
                }
            }
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().and_then(|name| name.to_str()).unwrap().to_owned()
}
