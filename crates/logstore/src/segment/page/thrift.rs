//! As much of Thrift's compact protocol as Parquet writes page headers and column
//! indexes in. Every byte may be hostile: what is not there is `None`.

use crate::segment::codec::{Bytes, unzigzag};

/// Structures within structures that are passed over.
const DEPTH_MAX: u32 = 16;

/// The type of a value, as the protocol numbers them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Kind(u8);

impl Kind {
    const TRUE: u8 = 1;
    const BYTE: u8 = 3;
    const I16: u8 = 4;
    const I64: u8 = 6;
    const DOUBLE: u8 = 7;
    const BINARY: u8 = 8;
    const LIST: u8 = 9;
    const SET: u8 = 10;
    const MAP: u8 = 11;
    const STRUCT: u8 = 12;

    fn is_integer(self) -> bool {
        (Self::I16..=Self::I64).contains(&self.0)
    }
}

/// Visits the fields of a structure. `visit` takes the value of a field that it
/// knows and says so; the others are passed over.
pub(super) fn fields<'a>(
    bytes: &mut Bytes<'a>,
    visit: &mut dyn FnMut(i64, Kind, &mut Bytes<'a>) -> Option<bool>,
) -> Option<()> {
    let mut id = 0i64;
    loop {
        let head = *bytes.take(1)?.first()?;
        let kind = Kind(head & 0x0f);
        if kind.0 == 0 {
            return Some(());
        }
        id = match head >> 4 {
            0 => unzigzag(bytes.varint()?),
            step => id.checked_add(i64::from(step))?,
        };
        if !visit(id, kind, bytes)? {
            pass_over(bytes, kind, DEPTH_MAX)?;
        }
    }
}

pub(super) fn integer(bytes: &mut Bytes<'_>, kind: Kind) -> Option<i64> {
    kind.is_integer().then(|| bytes.varint().map(unzigzag))?
}

/// A structure's own fields: see [`fields`].
pub(super) fn structure<'a>(
    bytes: &mut Bytes<'a>,
    kind: Kind,
    visit: &mut dyn FnMut(i64, Kind, &mut Bytes<'a>) -> Option<bool>,
) -> Option<()> {
    (kind.0 == Kind::STRUCT).then(|| fields(bytes, visit))?
}

/// The elements of a list; of each at least one byte is there.
pub(super) fn list<'a, T>(
    bytes: &mut Bytes<'a>,
    kind: Kind,
    element: impl Fn(&mut Bytes<'a>, Kind) -> Option<T>,
) -> Option<Vec<T>> {
    if kind.0 != Kind::LIST {
        return None;
    }
    let (count, kind) = list_head(bytes)?;
    (0..count).map(|_| element(bytes, kind)).collect()
}

/// An element that is a text or bytes.
pub(super) fn binary<'a>(bytes: &mut Bytes<'a>, kind: Kind) -> Option<&'a [u8]> {
    if kind.0 != Kind::BINARY {
        return None;
    }
    let length = bytes.count(bytes.0.len())?;
    bytes.take(length)
}

/// An element that is a truth value; a field has its value in its kind.
pub(super) fn boolean(bytes: &mut Bytes<'_>, kind: Kind) -> Option<bool> {
    let is_boolean = (1..=2).contains(&kind.0);
    is_boolean.then(|| Some(*bytes.take(1)?.first()? == Kind::TRUE))?
}

fn list_head(bytes: &mut Bytes<'_>) -> Option<(usize, Kind)> {
    let head = *bytes.take(1)?.first()?;
    let count = match head >> 4 {
        15 => bytes.count(bytes.0.len())?,
        count => usize::from(count),
    };
    Some((count, Kind(head & 0x0f)))
}

fn pass_over(bytes: &mut Bytes<'_>, kind: Kind, depth: u32) -> Option<()> {
    let deeper = depth.checked_sub(1)?;
    match kind.0 {
        1 | 2 => Some(()),
        Kind::BYTE => bytes.take(1).map(drop),
        Kind::I16..=Kind::I64 => bytes.varint().map(drop),
        Kind::DOUBLE => bytes.take(8).map(drop),
        Kind::BINARY => binary(bytes, kind).map(drop),
        Kind::LIST | Kind::SET => {
            let (count, kind) = list_head(bytes)?;
            (0..count).try_for_each(|_| pass_over_element(bytes, kind, deeper))
        }
        Kind::MAP => {
            let count = bytes.count(bytes.0.len())?;
            if count == 0 {
                return Some(());
            }
            let kinds = *bytes.take(1)?.first()?;
            (0..count).try_for_each(|_| {
                pass_over_element(bytes, Kind(kinds >> 4), deeper)?;
                pass_over_element(bytes, Kind(kinds & 0x0f), deeper)
            })
        }
        Kind::STRUCT => loop {
            let head = *bytes.take(1)?.first()?;
            if head & 0x0f == 0 {
                return Some(());
            }
            if head >> 4 == 0 {
                bytes.varint()?;
            }
            pass_over(bytes, Kind(head & 0x0f), deeper)?;
        },
        _ => None,
    }
}

/// Truth values take a byte of their own here.
fn pass_over_element(bytes: &mut Bytes<'_>, kind: Kind, depth: u32) -> Option<()> {
    match kind.0 {
        1 | 2 => bytes.take(1).map(drop),
        _ => pass_over(bytes, kind, depth),
    }
}
