#![no_main]
//! A journal file of any bytes is survived, and of one with a flipped byte no line
//! comes back that was not written, nor in another order.

use std::{io, sync::Arc};

use logstore::{
    format::Commit,
    fs::{Identity, JournalFile},
    scan::Scanner,
};

struct Memory(Vec<u8>);

impl JournalFile for Memory {
    fn append(&self, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.0.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
    fn identity(&self) -> io::Result<Identity> {
        Ok(Identity { device: 0, inode: 0, bytes: self.0.len() as u64 })
    }
}

fn read(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut scanner = Scanner::new(Arc::new(Memory(bytes.to_vec())), 1);
    let mut lines = Vec::new();
    while let Some(batch) = scanner.next_batch().expect("memory can be read") {
        assert!(batch.first_seq <= batch.last_seq && batch.start < batch.end);
        lines.extend(batch.lines().map(|(_, line)| line.to_vec()));
    }
    assert!(scanner.good_end() <= bytes.len() as u64);
    lines
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    read(input);
    let Some((place, text)) = input.split_first_chunk::<3>() else { return };
    let (mut file, mut written, mut seq) = (Vec::new(), Vec::new(), 0);
    for batch in text.split(|byte| *byte == 0) {
        // The journal's own lines come from the journal alone.
        let lines = batch.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"{\"_"));
        let lines: Vec<&[u8]> = lines.collect();
        let mut bytes = Vec::new();
        for line in &lines {
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        if lines.is_empty() {
            continue;
        }
        seq += lines.len() as u64;
        let crc = crc32c::crc32c(&bytes);
        Commit { lines: lines.len() as u64, crc, seq }.write(&mut bytes);
        file.extend_from_slice(&bytes);
        written.extend(lines.into_iter().map(<[u8]>::to_vec));
    }
    assert_eq!(read(&file), written);
    let [high, low, bit] = *place;
    let at = usize::from(u16::from_be_bytes([high, low]));
    if let Some(byte) = file.get_mut(at) {
        *byte ^= 1 << (bit % 8);
        let mut rest = written.iter();
        for line in read(&file) {
            assert!(rest.any(|known| *known == line), "a line that was not written");
        }
    }
});
