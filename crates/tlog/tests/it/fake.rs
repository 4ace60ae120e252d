//! A filesystem in memory that fails, tears or stops at the n-th operation, and
//! forgets what was not synced: bytes of files, and names in directories.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use tlog::fs::{Fs, Lock, Unsynced};

/// A small generator of pseudo-random numbers, the same for a seed.
#[derive(Clone)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % bound.max(1)
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One operation fails; a write leaves a prefix.
    Once,
    /// This and all later ones fail: the process is dead. What it was doing may
    /// have been done, or in part.
    Stop,
}

struct Data {
    bytes: Vec<u8>,
    synced: Option<Vec<u8>>,
}

#[derive(Clone)]
enum Node {
    Dir,
    File(Arc<Mutex<Data>>),
}

impl Node {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dir, Self::Dir) => true,
            (Self::File(one), Self::File(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

type Names = BTreeMap<PathBuf, Node>;

struct Inner {
    names: Names,
    /// The names that a loss of power leaves.
    durable: Names,
    operations: u64,
    fault: Option<(u64, Fault)>,
    dice: Dice,
    locked: BTreeSet<PathBuf>,
}

#[derive(Clone)]
pub(crate) struct FakeFs(Arc<Mutex<Inner>>);

impl FakeFs {
    pub(crate) fn new(seed: u64, root: &Path) -> Self {
        let names = Names::from([(root.to_owned(), Node::Dir)]);
        Self::with(names, Dice(seed | 1))
    }

    fn with(names: Names, dice: Dice) -> Self {
        let durable = names.clone();
        let locked = BTreeSet::new();
        Self(Arc::new(Mutex::new(Inner {
            names,
            durable,
            operations: 0,
            fault: None,
            dice,
            locked,
        })))
    }

    /// Schedules a fault so many changing operations from now.
    pub(crate) fn fault_after(&self, operations: u64, fault: Fault) {
        let mut inner = self.0.lock();
        inner.fault = Some((inner.operations + operations, fault));
    }

    /// Changing operations so far.
    pub(crate) fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Whether the fault has happened.
    pub(crate) fn has_failed(&self) -> bool {
        let inner = self.0.lock();
        inner.fault.is_some_and(|(at, _)| inner.operations >= at)
    }

    /// The disk as the next process finds it. Without power, names and bytes
    /// that were not synced are as they were, as they are, or torn.
    pub(crate) fn reboot(&self, power_lost: bool) -> Self {
        let mut inner = self.0.lock();
        inner.dice.below(2);
        let mut dice = inner.dice.clone();
        let mut names = if power_lost { Names::new() } else { inner.names.clone() };
        if power_lost {
            let paths: BTreeSet<&PathBuf> =
                inner.names.keys().chain(inner.durable.keys()).collect();
            for path in paths {
                let (now, before) = (inner.names.get(path), inner.durable.get(path));
                let same = now.zip(before).is_some_and(|(now, before)| now.is_same(before));
                let node = if same || dice.coin() { now } else { before };
                let has_parent = path
                    .parent()
                    .is_none_or(|dir| names.contains_key(dir) || !inner.names.contains_key(dir));
                if let Some(node) = node.filter(|_| has_parent) {
                    names.insert(path.clone(), node.clone());
                }
            }
        }
        for node in names.values_mut() {
            let Node::File(data) = node else { continue };
            let data = data.lock();
            let is_synced = data.synced.as_ref() == Some(&data.bytes);
            let bytes = match &data.synced {
                _ if !power_lost || is_synced => data.bytes.clone(),
                Some(synced) if dice.coin() => synced.clone(),
                _ => data.bytes[..dice.below(data.bytes.len() as u64 + 1) as usize].to_vec(),
            };
            let synced = Some(bytes.clone());
            drop(data);
            *node = Node::File(Arc::new(Mutex::new(Data { bytes, synced })));
        }
        let seed = dice.below(u64::MAX) | 1;
        Self::with(names, Dice(seed))
    }

    /// All files with their bytes.
    pub(crate) fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let inner = self.0.lock();
        let files = inner.names.iter().filter_map(|(path, node)| match node {
            Node::File(data) => Some((path.clone(), data.lock().bytes.clone())),
            Node::Dir => None,
        });
        files.collect()
    }

    /// Counts a changing operation; an error if it is the one that fails.
    fn change(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.operations += 1;
        let now = inner.operations;
        match inner.fault {
            Some((at, Fault::Once)) if now == at => Err(io::ErrorKind::StorageFull.into()),
            Some((at, Fault::Stop)) if now >= at => Err(io::Error::other("the process is dead")),
            _ => Ok(()),
        }
    }

    /// Whether an operation that failed was done all the same: only the last of
    /// a dying process.
    fn was_done(&self) -> bool {
        let mut inner = self.0.lock();
        let dies = inner.fault == Some((inner.operations, Fault::Stop));
        inner.dice.coin() && dies
    }

    fn apply<T>(&self, change: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        match self.change() {
            Ok(()) => change(&mut self.0.lock()),
            Err(error) => {
                if self.was_done() {
                    change(&mut self.0.lock()).ok();
                }
                Err(error)
            }
        }
    }
}

struct FakeFile {
    data: Arc<Mutex<Data>>,
    fs: FakeFs,
}

impl Unsynced for FakeFile {
    fn sync(self: Box<Self>) -> io::Result<()> {
        self.fs.apply(|_| {
            let mut data = self.data.lock();
            data.synced = Some(data.bytes.clone());
            Ok(())
        })
    }
}

struct Held {
    fs: FakeFs,
    path: PathBuf,
}

impl Lock for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.fs.0.lock().locked.remove(&self.path);
    }
}

fn has_parent(inner: &Inner, path: &Path) -> io::Result<()> {
    let known = path.parent().is_some_and(|dir| inner.names.contains_key(dir));
    if known { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

impl Fs for FakeFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.apply(|inner| {
            has_parent(inner, path)?;
            inner.names.entry(path.to_owned()).or_insert(Node::Dir);
            Ok(())
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<Box<dyn Unsynced>> {
        let result = self.change();
        let kept = match &result {
            Ok(()) => bytes.len(),
            Err(_) => {
                let mut inner = self.0.lock();
                // Of a dead process no later write arrives.
                if inner.fault.is_none_or(|(at, _)| at != inner.operations) {
                    return Err(io::Error::other("the process is dead"));
                }
                inner.dice.below(bytes.len() as u64 + 1) as usize
            }
        };
        let mut inner = self.0.lock();
        has_parent(&inner, path)?;
        let data = match inner.names.get(path) {
            Some(Node::File(data)) => data.clone(),
            Some(Node::Dir) => return Err(io::ErrorKind::IsADirectory.into()),
            None => {
                let data = Arc::new(Mutex::new(Data { bytes: Vec::new(), synced: None }));
                inner.names.insert(path.to_owned(), Node::File(data.clone()));
                data
            }
        };
        data.lock().bytes = bytes[..kept].to_vec();
        result?;
        Ok(Box::new(FakeFile { data, fs: self.clone() }))
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let inner = self.0.lock();
        match inner.names.get(path) {
            Some(Node::File(data)) if data.lock().bytes.len() <= bytes_max => {
                Ok(data.lock().bytes.clone())
            }
            Some(Node::File(_)) => Err(io::ErrorKind::InvalidData.into()),
            Some(Node::Dir) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.0.lock();
        if !matches!(inner.names.get(dir), Some(Node::Dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = inner.names.keys().filter(|path| path.parent() == Some(dir));
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        Ok(inside.map(name).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.apply(|inner| {
            has_parent(inner, to)?;
            let node = inner.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            inner.names.insert(to.to_owned(), node);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.apply(|inner| {
            inner.names.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.apply(|inner| {
            if inner.names.keys().any(|name| name.parent() == Some(path)) {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            inner.names.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.apply(|inner| {
            if !inner.names.contains_key(dir) {
                return Err(io::ErrorKind::NotFound.into());
            }
            inner.durable.retain(|path, _| path.parent() != Some(dir));
            let inside = inner.names.iter().filter(|(path, _)| path.parent() == Some(dir));
            let inside: Names = inside.map(|(path, node)| (path.clone(), node.clone())).collect();
            inner.durable.extend(inside);
            Ok(())
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Lock>>> {
        let is_free = self.0.lock().locked.insert(path.to_owned());
        let held = || Box::new(Held { fs: self.clone(), path: path.to_owned() }) as Box<dyn Lock>;
        Ok(is_free.then(held))
    }
}
