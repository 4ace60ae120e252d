//! Decompresses the observed copy of a body, piece by piece, so that usage is
//! found in gzip, deflate, br and zstd, also when stacked.
//!
//! Bounded: every stage has a fixed window, what comes out goes on in small
//! pieces, and a body that grows beyond all reason ends the observation, never
//! the exchange.

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;

/// Codings applied on top of each other; nobody means more than two.
const CODINGS_MAX: usize = 4;
/// A body may grow to this size whatever its coded size is,
const FREE_BYTES: u64 = 8 * 1024 * 1024;
/// and past it by this factor: JSON does not compress better than that.
const RATIO_MAX: u64 = 200;
/// 8 MiB: what RFC 9659 lets a sender use.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const BROTLI_BUFFER_BYTES: usize = 4096;

/// Who takes decoded bytes.
pub(super) trait Take: Send {
    fn take(&mut self, decoded: &[u8]);
}

/// A chain of decoders that ends in `T`.
pub(super) struct Decoder<T> {
    first: Box<dyn Stage<T>>,
    coded_bytes: u64,
    broken: bool,
}

impl<T: Take + 'static> Decoder<T> {
    /// For the values of `Content-Encoding`, in the order they were applied.
    /// Gives `last` back where a coding is unknown.
    pub(super) fn new(codings: &[Coding], last: T) -> Option<Self> {
        let mut stage: Box<dyn Stage<T>> = Box::new(Last { last, bytes: 0, limit: FREE_BYTES });
        // The coding applied first is decoded last.
        for coding in codings {
            stage = match coding {
                Coding::Gzip => Box::new(MultiGzDecoder::new(stage)),
                Coding::Deflate => Box::new(Deflate::Undecided { next: Some(stage), first: None }),
                Coding::Brotli => Box::new(brotli_decompressor::DecompressorWriter::new(
                    stage,
                    BROTLI_BUFFER_BYTES,
                )),
                Coding::Zstd => {
                    let mut decoder = zstd::stream::write::Decoder::new(stage).ok()?;
                    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).ok()?;
                    Box::new(decoder)
                }
            };
        }
        Some(Self { first: stage, coded_bytes: 0, broken: false })
    }

    pub(super) fn push(&mut self, coded: &[u8]) {
        self.coded_bytes += coded.len() as u64;
        let limit = FREE_BYTES.max(self.coded_bytes.saturating_mul(RATIO_MAX));
        self.first.last().limit = limit;
        if !self.broken && !coded.is_empty() {
            // The flush lets out what a stage holds back, for the first token's time.
            self.broken = self.first.write_all(coded).and_then(|()| self.first.flush()).is_err();
        }
    }

    /// The body could not be decoded, or grew too far: what was seen is not all.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn target(&mut self) -> &mut T {
        &mut self.first.last().last
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    /// Reads `Content-Encoding` values; `None` where one is unknown, and an
    /// empty list where the body is as it is.
    pub(super) fn list<'a>(values: impl Iterator<Item = &'a [u8]>) -> Option<Vec<Self>> {
        let mut codings = Vec::new();
        for word in values.flat_map(|value| value.split(|byte| *byte == b',')) {
            let word = word.trim_ascii().to_ascii_lowercase();
            codings.push(match &*word {
                b"" | b"identity" => continue,
                b"gzip" | b"x-gzip" => Self::Gzip,
                b"deflate" => Self::Deflate,
                b"br" => Self::Brotli,
                b"zstd" => Self::Zstd,
                _ => return None,
            });
        }
        (codings.len() <= CODINGS_MAX).then_some(codings)
    }
}

/// How a body is coded, for whoever decodes it later.
#[derive(Debug)]
pub struct Coded(Vec<Coding>);

impl Coded {
    /// `None` where a coding is unknown.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        super::codings(headers).map(Self)
    }

    pub fn is_plain(&self) -> bool {
        self.0.is_empty()
    }

    /// At most `bytes_max` of what the beginning of a body decodes to, and
    /// whether there is more; `None` where it does not decode.
    pub fn beginning(&self, coded: &[u8], bytes_max: usize) -> Option<(Vec<u8>, bool)> {
        let target = Beginning { bytes: Vec::new(), bytes_max, has_more: false };
        let mut decoder = Decoder::new(&self.0, target)?;
        decoder.push(coded);
        let is_broken = decoder.is_broken();
        let target = decoder.target();
        let Beginning { bytes, has_more, .. } = std::mem::take(target);
        // What breaks behind the wanted part is nobody's concern; what gives
        // nothing may be anything.
        let is_something = !bytes.is_empty() && !is_broken;
        (is_something || has_more).then_some((bytes, has_more))
    }
}

#[derive(Default)]
struct Beginning {
    bytes: Vec<u8>,
    bytes_max: usize,
    has_more: bool,
}

impl Take for Beginning {
    fn take(&mut self, decoded: &[u8]) {
        let wanted = decoded.len().min(self.bytes_max - self.bytes.len());
        self.bytes.extend_from_slice(&decoded[..wanted]);
        self.has_more |= wanted < decoded.len();
    }
}

/// A decoder that writes into the next one.
trait Stage<T>: Write + Send {
    fn last(&mut self) -> &mut Last<T>;
}

struct Last<T> {
    last: T,
    bytes: u64,
    limit: u64,
}

impl<T: Take> Write for Last<T> {
    fn write(&mut self, decoded: &[u8]) -> io::Result<usize> {
        self.bytes += decoded.len() as u64;
        if self.bytes > self.limit {
            return Err(io::Error::other("the body grows beyond all reason"));
        }
        self.last.take(decoded);
        Ok(decoded.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: Take> Stage<T> for Last<T> {
    fn last(&mut self) -> &mut Last<T> {
        self
    }
}

impl<T> Stage<T> for MultiGzDecoder<Box<dyn Stage<T>>> {
    fn last(&mut self) -> &mut Last<T> {
        self.get_mut().last()
    }
}

impl<T> Stage<T> for brotli_decompressor::DecompressorWriter<Box<dyn Stage<T>>> {
    fn last(&mut self) -> &mut Last<T> {
        self.get_mut().last()
    }
}

impl<T> Stage<T> for zstd::stream::write::Decoder<'static, Box<dyn Stage<T>>> {
    fn last(&mut self) -> &mut Last<T> {
        self.get_mut().last()
    }
}

/// `deflate` means zlib, but some send it raw; two bytes tell.
enum Deflate<T> {
    Undecided { next: Option<Box<dyn Stage<T>>>, first: Option<u8> },
    Zlib(ZlibDecoder<Box<dyn Stage<T>>>),
    Raw(DeflateDecoder<Box<dyn Stage<T>>>),
}

impl<T> Write for Deflate<T> {
    fn write(&mut self, coded: &[u8]) -> io::Result<usize> {
        match self {
            Self::Zlib(decoder) => decoder.write(coded),
            Self::Raw(decoder) => decoder.write(coded),
            Self::Undecided { next, first } => {
                let Some(byte) = coded.first() else { return Ok(0) };
                let Some(before) = *first else {
                    *first = Some(*byte);
                    return Ok(1);
                };
                let Some(next) = next.take() else {
                    return Err(io::Error::other("decided twice"));
                };
                let is_zlib =
                    before & 15 == 8 && u16::from_be_bytes([before, *byte]).is_multiple_of(31);
                *self = if is_zlib {
                    Self::Zlib(ZlibDecoder::new(next))
                } else {
                    Self::Raw(DeflateDecoder::new(next))
                };
                self.write_all(&[before, *byte])?;
                Ok(1)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Zlib(decoder) => decoder.flush(),
            Self::Raw(decoder) => decoder.flush(),
            Self::Undecided { .. } => Ok(()),
        }
    }
}

impl<T> Stage<T> for Deflate<T> {
    fn last(&mut self) -> &mut Last<T> {
        match self {
            Self::Zlib(decoder) => decoder.get_mut().last(),
            Self::Raw(decoder) => decoder.get_mut().last(),
            Self::Undecided { next, .. } => {
                next.as_mut().expect("taken only while the decision is made").last()
            }
        }
    }
}
