//! Opens an input, whatever it is compressed with, and cuts it into blocks of
//! whole lines.
//!
//! A plain file is cut at fixed places, so that two threads share it: a line
//! belongs to the block in which it begins. All else is a stream, read once.
//! A line longer than [`LINE_BYTES_MAX`] is passed over and counted.

use std::{
    io::{self, Read},
    ops::Range,
    path::Path,
    sync::Arc,
};

use crate::fs::{Fs, JournalFile, Sequential};

/// Lines that are longer are passed over: what is held at once stays bounded.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Small enough to stay in a core's cache while it is looked through twice.
const BLOCK_BYTES: usize = 512 * 1024;

/// How much more is read at a time of a line that crosses the end of its block.
const EXTENSION_BYTES: usize = 64 * 1024;

/// Bytes that tell how an input is compressed.
const MAGIC_BYTES: usize = 8;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What bounds memory; tests have smaller ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) block_bytes: usize,
    pub(super) line_bytes_max: usize,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { block_bytes: BLOCK_BYTES, line_bytes_max: LINE_BYTES_MAX }
    }
}

/// An input that can be read.
pub(super) enum Opened<'r> {
    Plain(PlainFile),
    /// Comes from a file, at once.
    Packed(Box<dyn Read + Send>),
    /// Comes whenever it comes.
    Live(Box<dyn Read + 'r>),
}

/// Why an input cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Refused(&'static str),
}

pub(super) fn open(fs: &dyn Fs, path: &Path, sizes: Sizes) -> Result<Opened<'static>, OpenError> {
    if !fs.is_regular(path)? {
        return open_live(fs.open_stream(path)?);
    }
    let file = fs.open_read(path)?;
    let bytes = file.identity()?.bytes;
    if bytes == 0 {
        // The kernel's own files have no length, and are no shorter for that.
        return open_live(fs.open_stream(path)?);
    }
    let mut head = [0; MAGIC_BYTES];
    let length = file.read_at(&mut head, 0)?;
    Ok(match packing(&head[..length])? {
        Packing::None => Opened::Plain(PlainFile { file, bytes, sizes }),
        packing => Opened::Packed(unpack(packing, Sequential::new(file))?),
    })
}

/// A stream whose packing shows when its first bytes come.
pub(super) fn open_live<'r, R: Read + 'r>(mut read: R) -> Result<Opened<'r>, OpenError> {
    let mut head = Vec::with_capacity(MAGIC_BYTES);
    // A line is enough: waiting for more would hold up what trickles in.
    while head.len() < 4 && !head.contains(&b'\n') {
        let mut byte = [0];
        match read.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => head.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let packing = packing(&head)?;
    let whole = io::Cursor::new(head).chain(read);
    Ok(match packing {
        Packing::None => Opened::Live(Box::new(whole)),
        Packing::Gzip => Opened::Live(Box::new(flate2::read::MultiGzDecoder::new(whole))),
        Packing::Zstd => Opened::Live(Box::new(zstd::stream::read::Decoder::new(whole)?)),
    })
}

enum Packing {
    None,
    Gzip,
    Zstd,
}

/// The first bytes decide, not the name.
fn packing(head: &[u8]) -> Result<Packing, OpenError> {
    const REFUSED: &[(&[u8], &str)] = &[
        (b"BZh", "is compressed by bzip2, which is not read: pipe it through bzip2 -dc"),
        (b"\xfd7zX", "is compressed by xz, which is not read: pipe it through xz -dc"),
        (b"\x04\x22\x4d\x18", "is compressed by lz4, which is not read: pipe it through lz4 -dc"),
        (b"PK\x03\x04", "is a zip archive, which is not read: pipe it through unzip -p"),
        (b"PAR1", "is a Parquet file: segments are searched with --data-dir"),
        (b"\xff\xfe", "is UTF-16, which is not read: pipe it through iconv -f UTF-16 -t UTF-8"),
        (b"\xfe\xff", "is UTF-16, which is not read: pipe it through iconv -f UTF-16 -t UTF-8"),
    ];
    match head {
        [0x1f, 0x8b, ..] => return Ok(Packing::Gzip),
        // A frame, or one that may be skipped before it.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => {
            return Ok(Packing::Zstd);
        }
        _ => {}
    }
    match REFUSED.iter().find(|(magic, _)| head.starts_with(magic)) {
        Some((_, why)) => Err(OpenError::Refused(why)),
        None => Ok(Packing::None),
    }
}

fn unpack(packing: Packing, file: Sequential) -> io::Result<Box<dyn Read + Send>> {
    Ok(match packing {
        Packing::None => Box::new(file),
        Packing::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Packing::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
    })
}

/// A file that can be read anywhere.
#[derive(Clone)]
pub(super) struct PlainFile {
    file: Arc<dyn JournalFile>,
    /// When it was opened: what is appended meanwhile is not looked at.
    bytes: u64,
    sizes: Sizes,
}

/// What reading one block gave.
#[derive(Debug, Default)]
pub(super) struct BlockRead {
    /// The block's lines in the buffer.
    pub(super) lines: Range<usize>,
    pub(super) bytes_read: u64,
    /// The last line was too long.
    pub(super) passed_over: bool,
}

impl PlainFile {
    pub(super) fn blocks(&self) -> u64 {
        self.bytes.div_ceil(self.sizes.block_bytes as u64)
    }

    /// Reads the lines that begin in a block.
    pub(super) fn read(&self, block: u64, buffer: &mut Vec<u8>) -> io::Result<BlockRead> {
        let block_bytes = self.sizes.block_bytes;
        let from = block * block_bytes as u64;
        // One byte more tells whether the block begins with a line.
        let before = u64::from(block > 0);
        let length = (self.bytes - from).min(block_bytes as u64) + before;
        let length = usize::try_from(length).unwrap_or(block_bytes);
        self.fill(from - before, buffer, 0, length)?;
        let mut read = BlockRead { bytes_read: buffer.len() as u64, ..BlockRead::default() };
        let start = match block {
            0 if buffer.starts_with(BYTE_ORDER_MARK) => BYTE_ORDER_MARK.len(),
            0 => 0,
            _ => match memchr::memchr(b'\n', buffer) {
                Some(end) => end + 1,
                None => return Ok(read),
            },
        };
        let mut end = buffer.len();
        if start < end && buffer[end - 1] != b'\n' {
            end = self.finish_line(from - before, start, buffer, &mut read)?;
        }
        read.lines = start.min(end)..end;
        Ok(read)
    }

    /// Reads on to the end of the last line; returns where the lines end.
    fn finish_line(
        &self,
        from: u64,
        start: usize,
        buffer: &mut Vec<u8>,
        read: &mut BlockRead,
    ) -> io::Result<usize> {
        let begun = memchr::memrchr(b'\n', &buffer[start..]).map_or(start, |end| start + end + 1);
        loop {
            let known = buffer.len();
            let rest = self.bytes.saturating_sub(from + known as u64);
            let more = rest.min(EXTENSION_BYTES as u64) as usize;
            self.fill(from + known as u64, buffer, known, more)?;
            read.bytes_read += (buffer.len() - known) as u64;
            let end = memchr::memchr(b'\n', &buffer[known..]).map(|end| known + end);
            if end.unwrap_or(buffer.len()) - begun > self.sizes.line_bytes_max {
                read.passed_over = true;
                return Ok(begun);
            }
            match end {
                Some(end) => return Ok(end + 1),
                None if buffer.len() == known => return Ok(known),
                None => {}
            }
        }
    }

    /// Reads `length` bytes to `buffer[at..]`; fewer where the file ends.
    fn fill(&self, from: u64, buffer: &mut Vec<u8>, at: usize, length: usize) -> io::Result<()> {
        buffer.resize(at + length, 0);
        let mut filled = at;
        while filled < buffer.len() {
            let read = self.file.read_at(&mut buffer[filled..], from + (filled - at) as u64)?;
            if read == 0 {
                break;
            }
            filled += read;
        }
        buffer.truncate(filled);
        Ok(())
    }
}

/// Cuts a stream into whole lines.
pub(super) struct Blocks<R> {
    read: R,
    sizes: Sizes,
    /// Whole lines are handed out at once, not when a block is full.
    live: bool,
    buffer: Vec<u8>,
    filled: usize,
    /// What was handed out last.
    taken: usize,
    /// In the middle of a line that is too long.
    passing_over: bool,
    at_start: bool,
    ended: bool,
    /// Told when all that came before it was handed out.
    error: Option<io::Error>,
    pub(super) bytes_read: u64,
    pub(super) passed_over: u64,
}

impl<R: Read> Blocks<R> {
    pub(super) fn new(read: R, sizes: Sizes, live: bool) -> Self {
        Self {
            read,
            sizes,
            live,
            buffer: vec![0; sizes.block_bytes],
            filled: 0,
            taken: 0,
            passing_over: false,
            at_start: true,
            ended: false,
            error: None,
            bytes_read: 0,
            passed_over: 0,
        }
    }

    /// The next whole lines; the last of all may lack its newline.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.buffer.copy_within(self.taken..self.filled, 0);
        self.filled -= self.taken;
        self.taken = 0;
        while !self.ended {
            let mut known = self.more();
            if self.taken == 0 && !self.passing_over && self.is_first_line_too_long(known) {
                self.pass_over_first_line(known);
                known = 0;
            }
            if let Some(end) = memchr::memrchr(b'\n', &self.buffer[known..self.filled]) {
                self.taken = known + end + 1;
            }
            if self.taken > 0 && (self.live || self.filled >= self.sizes.block_bytes) {
                return Ok(Some(&self.buffer[..self.taken]));
            }
        }
        self.taken = self.filled;
        match self.error.take() {
            Some(error) if self.taken == 0 => Err(error),
            error => {
                self.error = error;
                Ok((self.taken > 0).then_some(&self.buffer[..self.taken]))
            }
        }
    }

    /// Reads once; returns where the new bytes begin.
    fn more(&mut self) -> usize {
        if self.filled == self.buffer.len() {
            let most = self.sizes.line_bytes_max + self.sizes.block_bytes;
            let larger = (self.filled * 2).min(most);
            self.buffer.resize(larger, 0);
        }
        let known = self.filled;
        let read = match self.read.read(&mut self.buffer[known..]) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return known,
            Err(error) => {
                self.error = Some(error);
                0
            }
        };
        self.ended = read == 0;
        self.bytes_read += read as u64;
        self.filled += read;
        if self.passing_over {
            let end = memchr::memchr(b'\n', &self.buffer[..self.filled]);
            self.passing_over = end.is_none();
            self.drop_front(end.map_or(self.filled, |end| end + 1));
            return 0;
        }
        if self.at_start && self.filled >= BYTE_ORDER_MARK.len() {
            self.at_start = false;
            if self.buffer[..self.filled].starts_with(BYTE_ORDER_MARK) {
                self.drop_front(BYTE_ORDER_MARK.len());
                return 0;
            }
        }
        known
    }

    /// The bytes before `known` hold no newline.
    fn is_first_line_too_long(&self, known: usize) -> bool {
        let most = self.sizes.line_bytes_max;
        let end = known.max(most + 1).min(self.filled);
        self.filled > most && memchr::memchr(b'\n', &self.buffer[known..end]).is_none()
    }

    fn pass_over_first_line(&mut self, known: usize) {
        let end = memchr::memchr(b'\n', &self.buffer[known..self.filled]).map(|end| known + end);
        self.passed_over += 1;
        self.passing_over = end.is_none();
        self.drop_front(end.map_or(self.filled, |end| end + 1));
    }

    fn drop_front(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
    }
}
