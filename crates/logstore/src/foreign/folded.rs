//! Finds a text whatever the case of its letters, as fast as memory is read.
//!
//! Two bytes of the text that are rare in such lines are compared at their
//! distance, sixty-four places at once, in a loop that compilers turn into
//! vector instructions; only where both fit is the text compared.

use std::borrow::Cow;

/// Places looked at in one go.
const BLOCK: usize = 64;

/// What lines are made of, commonest first; what is not here is rarest.
const COMMON: &[u8] = b"\"e,:tain osr_lcd0m1u2p-35h46789gbf.vykwTZ{}/xqjz";

/// An ASCII text in lower case, ready to be found.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    text: Box<[u8]>,
    rare: [Rare; 2],
}

#[derive(Clone, Copy, Debug)]
struct Rare {
    at: usize,
    byte: u8,
    /// Makes a letter small; nothing for other bytes.
    fold: u8,
}

impl Folded {
    pub(super) fn new(text: &str) -> Self {
        let text: Box<[u8]> = text.to_ascii_lowercase().into_bytes().into();
        let mut places: Vec<usize> = (0..text.len()).collect();
        let rank = |byte: &u8| COMMON.iter().position(|common| common == byte);
        places.sort_by_key(|at| rank(&text[*at]).map_or(0, |rank| COMMON.len() - rank));
        let rare = |nth: usize| {
            let at = places.get(nth).or(places.first()).copied().unwrap_or_default();
            let byte = text.get(at).copied().unwrap_or_default();
            Rare { at, byte, fold: if byte.is_ascii_lowercase() { 0x20 } else { 0 } }
        };
        let rare = [rare(0), rare(1)];
        Self { text, rare }
    }

    /// The first place at or behind `from`.
    pub(super) fn find(&self, hay: &[u8], from: usize) -> Option<usize> {
        if self.text.is_empty() {
            return (from <= hay.len()).then_some(from);
        }
        let places = hay.len().checked_sub(self.text.len())? + 1;
        let [a, b] = self.rare;
        let (ones, others) = (&hay[a.at..a.at + places], &hay[b.at..b.at + places]);
        let mut at = from;
        while at < places {
            let end = places.min(at + BLOCK);
            let (one, other) = (&ones[at..end], &others[at..end]);
            let hit = match (<&[u8; BLOCK]>::try_from(one), <&[u8; BLOCK]>::try_from(other)) {
                (Ok(one), Ok(other)) => any_hit(one, other, a, b),
                _ => true,
            };
            if hit {
                let fits = |place: &usize| {
                    ones[*place] | a.fold == a.byte
                        && others[*place] | b.fold == b.byte
                        && hay[*place..*place + self.text.len()].eq_ignore_ascii_case(&self.text)
                };
                if let Some(place) = (at..end).find(fits) {
                    return Some(place);
                }
            }
            at = end;
        }
        None
    }

    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

#[inline]
fn any_hit(ones: &[u8; BLOCK], others: &[u8; BLOCK], a: Rare, b: Rare) -> bool {
    let mut hits = 0;
    for (one, other) in ones.iter().zip(others) {
        hits |= u8::from(one | a.fold == a.byte) & u8::from(other | b.fold == b.byte);
    }
    hits != 0
}

/// Small letters throughout, except where that would turn a letter of another
/// script into an ASCII one: the Kelvin sign stays what it is.
pub(super) fn fold(text: &[u8]) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Owned(text.to_ascii_lowercase());
    }
    let mut folded = String::with_capacity(text.len());
    for character in String::from_utf8_lossy(text).chars() {
        let mut small = character.to_lowercase();
        match small.next() {
            Some(first) if first.is_ascii() && !character.is_ascii() => folded.push(character),
            first => folded.extend(first.into_iter().chain(small)),
        }
    }
    Cow::Owned(folded.into_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_a_plain_search_finds(
            hay in "[aAbB\\[{é ]{0,200}",
            text in "[ab\\[{ ]{1,4}",
            from in 0usize..20,
        ) {
            let expected = (from..hay.len().saturating_sub(text.len()) + 1).find(|at| {
                let there = hay.as_bytes().get(*at..*at + text.len());
                there.is_some_and(|there| there.eq_ignore_ascii_case(text.as_bytes()))
            });
            prop_assert_eq!(Folded::new(&text).find(hay.as_bytes(), from), expected);
        }
    }

    #[test]
    fn letters_of_other_scripts_stay_there() {
        assert_eq!(&*fold("ÄKa\u{212a}".as_bytes()), "äka\u{212a}".as_bytes());
    }
}
