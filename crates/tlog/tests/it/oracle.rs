//! The directory through the eyes of another program's reader.

use std::path::PathBuf;

use signed_note::VerifierList;
use tlog_tiles::{Hash, Tile, TileHashReader, TileReader, tlog as theirs};

use crate::support::{append, leaf, open};

struct Dir(PathBuf);

impl TileReader for Dir {
    fn height(&self) -> u8 {
        8
    }

    fn read_tiles(&self, tiles: &[Tile]) -> Result<Vec<Vec<u8>>, theirs::Error> {
        let read = |tile: &Tile| {
            let path = tile.path().replacen("tile/8/", "tile/", 1);
            std::fs::read(self.0.join(path)).unwrap()
        };
        Ok(tiles.iter().map(read).collect())
    }

    fn save_tiles(&self, _tiles: &[Tile], _data: &[Vec<u8>]) {}
}

#[test]
fn others_read_what_we_write() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = open(dir.path());
    for to in [200, 65_000, 66_001] {
        append(&mut writer, to);
    }
    let vkey = std::fs::read_to_string(dir.path().join("audit/vkey")).unwrap();
    let verifier = signed_note::StandardVerifier::new(vkey.trim_end()).unwrap();
    let note = std::fs::read(dir.path().join("tlog/checkpoint")).unwrap();
    let note = signed_note::Note::from_bytes(&note).unwrap();
    note.verify(&VerifierList::new(vec![Box::new(verifier)])).unwrap();
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!(checkpoint.size(), 66_001);

    let files = Dir(dir.path().join("tlog"));
    let tree = TileHashReader::new(checkpoint.size(), *checkpoint.hash(), &files);
    for index in [0, 199, 200, 255, 256, 65_535, 65_536, 66_000] {
        let proof = theirs::prove_record(checkpoint.size(), index, &tree).unwrap();
        let hash = theirs::record_hash(&leaf(index));
        theirs::check_record(&proof, checkpoint.size(), *checkpoint.hash(), index, hash).unwrap();
    }
    let root = Hash(writer.root().0);
    assert_eq!(theirs::tree_hash(checkpoint.size(), &tree).unwrap(), root);
}
