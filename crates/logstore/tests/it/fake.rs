//! Files in memory that fail, tear or stop at the n-th operation.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use logstore::fs::{Fs, Identity, JournalFile};
use parking_lot::Mutex;

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
}

/// What happens at the chosen operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// One operation fails; an append leaves a prefix.
    Once(io::ErrorKind),
    /// This and all later ones fail: the process is dead.
    Stop,
}

struct Data {
    bytes: Vec<u8>,
    synced: usize,
    inode: u64,
}

struct Inner {
    files: BTreeMap<PathBuf, Arc<Mutex<Data>>>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    dice: Dice,
    inodes: u64,
}

#[derive(Clone)]
pub(crate) struct FakeFs(Arc<Mutex<Inner>>);

struct FakeFile {
    data: Arc<Mutex<Data>>,
    fs: FakeFs,
}

impl FakeFs {
    pub(crate) fn new(seed: u64) -> Self {
        let dice = Dice(seed | 1);
        let files = BTreeMap::new();
        Self(Arc::new(Mutex::new(Inner { files, operations: 0, fault: None, dice, inodes: 0 })))
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

    /// The disk as the next process finds it. Without power, what was not
    /// synced is there up to any byte.
    pub(crate) fn reboot(&self, power_lost: bool) -> Self {
        let mut inner = self.0.lock();
        let mut dice = inner.dice.clone();
        inner.dice.below(2);
        let next = Self::new(dice.below(u64::MAX));
        for (path, data) in &inner.files {
            let data = data.lock();
            let unsynced = (data.bytes.len() - data.synced.min(data.bytes.len())) as u64;
            let kept = match power_lost {
                true => data.bytes.len() - usize::try_from(dice.below(unsynced + 1)).unwrap(),
                false => data.bytes.len(),
            };
            next.put(path, &data.bytes[..kept]);
        }
        next
    }

    pub(crate) fn put(&self, path: &Path, bytes: &[u8]) {
        let mut inner = self.0.lock();
        inner.inodes += 1;
        let data = Data { bytes: bytes.to_vec(), synced: bytes.len(), inode: inner.inodes };
        inner.files.insert(path.to_owned(), Arc::new(Mutex::new(data)));
    }

    /// Counts a changing operation; an error if it is the one that fails.
    fn change(&self) -> io::Result<()> {
        let mut inner = self.0.lock();
        inner.operations += 1;
        let now = inner.operations;
        match inner.fault {
            Some((at, Fault::Once(kind))) if now == at => Err(kind.into()),
            Some((at, Fault::Stop)) if now >= at => Err(io::Error::other("the process is dead")),
            _ => Ok(()),
        }
    }

    fn find(&self, path: &Path) -> io::Result<Arc<Mutex<Data>>> {
        let inner = self.0.lock();
        inner.files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn handle(&self, data: Arc<Mutex<Data>>) -> Arc<dyn JournalFile> {
        Arc::new(FakeFile { data, fs: self.clone() })
    }
}

fn identity(data: &Data) -> Identity {
    Identity { device: 1, inode: data.inode, bytes: data.bytes.len() as u64 }
}

impl JournalFile for FakeFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let result = self.fs.change();
        // Whether a dead process's write arrived is a matter of the dice, once.
        let torn = self.fs.0.lock().dice.below(bytes.len() as u64 + 1);
        let mut data = self.data.lock();
        match &result {
            Ok(()) => data.bytes.extend_from_slice(bytes),
            Err(error) if error.kind() == io::ErrorKind::Other => {
                let mut inner = self.fs.0.lock();
                if inner.fault.is_some_and(|(at, _)| at == inner.operations) {
                    data.bytes.extend_from_slice(&bytes[..usize::try_from(torn).unwrap()]);
                }
                inner.dice.below(2);
            }
            Err(_) => data.bytes.extend_from_slice(&bytes[..usize::try_from(torn).unwrap()]),
        }
        result
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let data = self.data.lock();
        let rest = data.bytes.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let read = rest.len().min(buffer.len());
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn truncate(&self, bytes: u64) -> io::Result<()> {
        self.fs.change()?;
        let mut data = self.data.lock();
        data.bytes.truncate(usize::try_from(bytes).unwrap());
        data.synced = data.synced.min(data.bytes.len());
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.fs.change()?;
        let mut data = self.data.lock();
        data.synced = data.bytes.len();
        Ok(())
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(identity(&self.data.lock()))
    }
}

impl Fs for FakeFs {
    fn create_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>> {
        self.change()?;
        if self.find(path).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.put(path, b"");
        self.find(path).map(|data| self.handle(data))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>> {
        self.find(path).map(|data| self.handle(data))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn JournalFile>> {
        self.open(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.0.lock();
        let below = inner.files.keys().filter_map(|path| path.strip_prefix(dir).ok());
        let first = |path: &Path| path.iter().next().unwrap().to_str().unwrap().to_owned();
        let names: std::collections::BTreeSet<String> = below.map(first).collect();
        Ok(names.into_iter().collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        let mut inner = self.0.lock();
        let data = inner.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.files.insert(to.to_owned(), data);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        let mut inner = self.0.lock();
        inner.files.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.change()
    }

    fn identity(&self, path: &Path) -> io::Result<Identity> {
        self.find(path).map(|data| identity(&data.lock()))
    }

    fn allocate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.change()?;
        self.put(path, &vec![0; usize::try_from(bytes).unwrap()]);
        Ok(())
    }
}
