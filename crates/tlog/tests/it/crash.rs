//! The process stops, or an operation fails, at every single step: what was
//! acknowledged or published stays true, and the tree grows on.

use std::{path::Path, sync::Arc};

use domain::audit::tree::{SignedCheckpoint, TilePath, root_of, tiles_of};
use tlog::{Error, Kind, Reader, Writer};

use crate::{
    fake::{Dice, FakeFs, Fault},
    rotate::{announcement, check_chain},
    support::{Seeded, check_tree, leaf, open_on},
};

const DIR: &str = "/data";
/// Sizes after each batch; at the second a key is announced.
const SIZES: [u64; 5] = [2, 5, 254, 258, 260];
/// The leaf that announces the next key: the first one of that batch.
const ANNOUNCED: u64 = 2;

/// What others hold: every leaf in its order, every checkpoint that was seen.
struct World {
    ledger: Vec<Vec<u8>>,
    seen: Vec<SignedCheckpoint>,
    has_rotated: bool,
}

impl World {
    fn new() -> Self {
        Self { ledger: Vec::new(), seen: Vec::new(), has_rotated: false }
    }

    /// Does what is left to do.
    fn run(&mut self, fs: &FakeFs) -> Result<(), Error> {
        let (mut writer, _) = open_on(Arc::new(fs.clone()), Path::new(DIR))?;
        self.check(&writer.reader(), writer.size());
        for size in SIZES {
            if size <= writer.size() {
                continue;
            }
            self.extend(&mut writer, size)?;
            let from = writer.size();
            let batch = &self.ledger[from as usize..size as usize];
            self.seen.push(writer.append(from, batch)?);
            if size > ANNOUNCED && !self.is_rotated(&writer) {
                self.seen.push(writer.rotate(ANNOUNCED)?);
            }
        }
        if !self.is_rotated(&writer) {
            self.seen.push(writer.rotate(ANNOUNCED)?);
        }
        self.has_rotated = true;
        Ok(())
    }

    fn is_rotated(&self, writer: &Writer) -> bool {
        writer.reader().keyring().unwrap().unwrap().spans().len() > 1
    }

    /// Leaves are decided once, as the database does.
    fn extend(&mut self, writer: &mut Writer, size: u64) -> Result<(), Error> {
        while (self.ledger.len() as u64) < size {
            let index = self.ledger.len() as u64;
            let text = match index {
                ANNOUNCED => announcement(&writer.prepare_rotation(&Seeded(2))?),
                _ => leaf(index),
            };
            self.ledger.push(text);
        }
        Ok(())
    }

    /// Whatever anybody has seen is still so.
    fn check(&mut self, reader: &Reader, size: u64) {
        let acknowledged = self.seen.iter().map(SignedCheckpoint::size).max().unwrap_or(0);
        assert!(size >= acknowledged, "{size} after {acknowledged} was acknowledged");
        if size == 0 {
            return;
        }
        let published = check_tree(reader, &self.ledger);
        assert_eq!(published.size(), size);
        let keyring = reader.keyring().unwrap().unwrap();
        for old in &self.seen {
            old.verify(keyring.at(old.size()), &[]).unwrap();
            let root = root_of(&mut reader.hashes(size), old.size()).unwrap();
            assert_eq!(root, old.root(), "the checkpoint of {}", old.size());
        }
        check_chain(reader, &keyring.spans()[0].key, &keyring);
        self.seen.push(published);
    }

    /// Nothing that was never signed lies about.
    fn check_names(&self, fs: &FakeFs, size: u64) {
        let tree = Path::new(DIR).join("tlog");
        let mut found = Vec::new();
        for path in fs.files().keys().filter_map(|path| path.strip_prefix(&tree).ok()) {
            let name = path.to_str().unwrap();
            match TilePath::parse(name) {
                Ok(tile) => found.push(tile),
                Err(_) => assert!(
                    ["checkpoint", "keys"].contains(&name) || name.starts_with("rotations/"),
                    "{name}"
                ),
            }
        }
        for tile in tiles_of(size) {
            assert!(found.contains(&tile), "{tile} is missing");
        }
        for tile in found {
            let signed = tile.kind().tile(tile.index(), size);
            assert!(signed.is_some_and(|signed| tile.width() <= signed.width()), "{tile}");
        }
    }

    fn check_end(&self, fs: &FakeFs) {
        assert!(self.has_rotated);
        self.check_names(fs, SIZES[SIZES.len() - 1]);
    }
}

/// A run without faults, and how many operations it takes.
fn whole_run() -> u64 {
    let mut world = World::new();
    let fs = FakeFs::new(1, Path::new(DIR));
    fs.fault_after(u64::MAX / 2, Fault::Stop);
    world.run(&fs).unwrap();
    world.check_end(&fs);
    fs.operations()
}

#[test]
fn a_stop_at_any_step_loses_nothing_that_was_seen() {
    let operations = whole_run();
    assert!(operations > 100, "{operations}");
    for at in 1..=operations {
        let mut dice = Dice(at.wrapping_mul(0x9e37_79b9) | 1);
        let mut world = World::new();
        let mut fs = FakeFs::new(at, Path::new(DIR));
        fs.fault_after(at, Fault::Stop);
        // Its error does not matter: a removal at the end may have none.
        world.run(&fs).ok();
        assert!(fs.has_failed(), "stop at {at}");
        // A second one, soon, hits the repair.
        for again in [1 + dice.below(20), u64::MAX / 2] {
            fs = fs.reboot(dice.below(2) == 0);
            fs.fault_after(again, Fault::Stop);
            if let Err(error) = world.run(&fs) {
                assert!(fs.has_failed(), "stop at {at}: {}", told(&error));
            }
        }
        world.check_end(&fs);
    }
}

#[test]
fn a_failure_of_any_operation_is_survived() {
    let operations = whole_run();
    for at in 1..=operations {
        let mut world = World::new();
        let fs = FakeFs::new(at, Path::new(DIR));
        fs.fault_after(at, Fault::Once);
        // Removals that fail are not errors: what stays is only not needed.
        if let Err(error) = world.run(&fs) {
            assert_eq!(error.kind(), Kind::Unavailable, "failure at {at}: {}", told(&error));
        }
        world.run(&fs).unwrap_or_else(|error| panic!("after {at}: {}", told(&error)));
        world.check_end(&fs);
    }
}

#[test]
fn a_writer_that_failed_signs_nothing_until_it_is_opened_again() {
    let fs = FakeFs::new(3, Path::new(DIR));
    let (mut writer, _) = open_on(Arc::new(fs.clone()), Path::new(DIR)).unwrap();
    writer.append(0, &[leaf(0)]).unwrap();
    fs.fault_after(3, Fault::Once);
    assert_eq!(writer.append(1, &[leaf(1)]).unwrap_err().kind(), Kind::Unavailable);
    assert!(matches!(writer.append(1, &[leaf(1)]), Err(Error::Stale)));
    assert!(matches!(writer.rotate(0), Err(Error::Stale)));
    drop(writer);
    let (mut writer, _) = open_on(Arc::new(fs), Path::new(DIR)).unwrap();
    assert_eq!(writer.size(), 1);
    writer.append(1, &[leaf(1)]).unwrap();
}

fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
