//! The lines of those who wait at words.
//!
//! All who wait stand in places of one list; those whose words have the same hash are linked in the order in which they came, so a
//! line is found by its word, and left from its middle, without a search. There are as many hashes as waiters, and which words share
//! one no program can know.

use super::Word;
use alloc::vec::Vec;

/// How many hashes there are at first, as a power of two.
const FEWEST_BITS: u32 = 6;

/// The index of no place.
const NONE: u32 = u32::MAX;

/// Where somebody stands. It does not name who comes to stand at the same index later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    index: u32,
    /// Counts all who ever came.
    number: u64,
}

impl Place {
    /// Where nobody stands.
    pub(super) const NOWHERE: Self = Self { index: NONE, number: 0 };
}

struct Stand<T> {
    word: Word,
    number: u64,
    /// Nobody stands here: then `next` is the next free one.
    who: Option<T>,
    previous: u32,
    next: u32,
}

/// The ends of a list of stands whose words have one hash.
#[derive(Clone, Copy)]
struct Ends {
    first: u32,
    last: u32,
}

const EMPTY: Ends = Ends { first: NONE, last: NONE };

/// Whether somebody is to be taken out of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// It is.
    Take,
    /// It stays; the next one is looked at.
    Pass,
    /// It stays, and so do all behind it.
    Stop,
}

/// Who waits at which word, in the order in which they came.
pub(super) struct Lines<T> {
    ends: Vec<Ends>,
    stands: Vec<Stand<T>>,
    free: u32,
    len: usize,
    next_number: u64,
    /// Odd, and not to be guessed.
    multiplier: u64,
}

impl<T> Lines<T> {
    /// No lines. The seed should be one that programs can't guess.
    pub(super) const fn new(seed: u64) -> Self {
        Self { ends: Vec::new(), stands: Vec::new(), free: NONE, len: 0, next_number: 0, multiplier: seed | 1 }
    }

    fn hash(&self, word: Word) -> usize {
        let (high, low) = match word {
            Word::Private { space, address } => (space, address),
            Word::Shared { memory, offset } => (!memory, offset),
        };
        // The upper bits of a product depend on all of its factors. The halves have factors of their own: else a program could choose
        // words that fall together whatever the seed.
        let factors = [self.multiplier, self.multiplier.wrapping_mul(self.multiplier).rotate_left(u64::BITS / 2) | 1];
        let mixed = high.wrapping_mul(factors[0]).wrapping_add(low.wrapping_mul(factors[1]));
        (mixed >> (u64::BITS - self.ends.len().ilog2())) as usize
    }

    /// Puts somebody last in the line of a word.
    pub(super) fn push(&mut self, word: Word, who: T) -> Place {
        if self.len >= self.ends.len() {
            self.grow();
        }
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        let stand = Stand { word, number, who: Some(who), previous: NONE, next: NONE };
        let index = self.take_free(stand);
        self.link_last(index);
        self.len += 1;
        Place { index, number }
    }

    fn take_free(&mut self, stand: Stand<T>) -> u32 {
        match self.stands.get_mut(self.free as usize) {
            Some(place) => {
                let index = self.free;
                self.free = place.next;
                *place = stand;
                index
            }
            None => {
                self.stands.push(stand);
                (self.stands.len() - 1) as u32
            }
        }
    }

    fn link_last(&mut self, index: u32) {
        let hash = self.hash(self.stands[index as usize].word);
        let last = core::mem::replace(&mut self.ends[hash].last, index);
        self.stands[index as usize].previous = last;
        self.stands[index as usize].next = NONE;
        match self.stands.get_mut(last as usize) {
            Some(before) => before.next = index,
            None => self.ends[hash].first = index,
        }
    }

    /// Links all anew, in the order of their places' numbers, with twice as many hashes.
    fn grow(&mut self) {
        let len = (self.ends.len() * 2).max(1 << FEWEST_BITS);
        self.ends.clear();
        self.ends.resize(len, EMPTY);
        let is_taken = |index: &u32| self.stands[*index as usize].who.is_some();
        let mut taken: Vec<u32> = (0..self.stands.len() as u32).filter(is_taken).collect();
        taken.sort_unstable_by_key(|index| self.stands[*index as usize].number);
        taken.into_iter().for_each(|index| self.link_last(index));
    }

    /// Takes somebody out of its line; `None` if nobody stands there any more.
    pub(super) fn leave(&mut self, place: Place) -> Option<T> {
        let stand = self.stands.get(place.index as usize)?;
        if stand.number != place.number || stand.who.is_none() {
            return None;
        }
        self.remove(place.index)
    }

    fn remove(&mut self, index: u32) -> Option<T> {
        let stand = &self.stands[index as usize];
        let (previous, next, hash) = (stand.previous, stand.next, self.hash(stand.word));
        match self.stands.get_mut(previous as usize) {
            Some(before) => before.next = next,
            None => self.ends[hash].first = next,
        }
        match self.stands.get_mut(next as usize) {
            Some(behind) => behind.previous = previous,
            None => self.ends[hash].last = previous,
        }
        let stand = &mut self.stands[index as usize];
        stand.next = core::mem::replace(&mut self.free, index);
        self.len -= 1;
        stand.who.take()
    }

    /// Takes those out of the line of a word, from the first on, whom `choose` wants, and gives each to `taken`.
    pub(super) fn take(&mut self, word: Word, mut choose: impl FnMut(&T) -> Choice, mut taken: impl FnMut(T)) {
        if self.len == 0 {
            return;
        }
        let mut index = self.ends[self.hash(word)].first;
        while let Some(stand) = self.stands.get(index as usize) {
            let next = stand.next;
            if stand.word == word
                && let Some(who) = &stand.who
            {
                match choose(who) {
                    Choice::Take => self.remove(index).into_iter().for_each(&mut taken),
                    Choice::Pass => {}
                    Choice::Stop => return,
                }
            }
            index = next;
        }
    }

    /// The first at a word.
    pub(super) fn first(&self, word: Word) -> Option<&T> {
        if self.len == 0 {
            return None;
        }
        let mut index = self.ends[self.hash(word)].first;
        while let Some(stand) = self.stands.get(index as usize) {
            if stand.word == word {
                return stand.who.as_ref();
            }
            index = stand.next;
        }
        None
    }

    /// Whether nobody waits.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;

    fn word(number: u64) -> Word {
        Word::Private { space: number / 10, address: 4 * number }
    }

    fn all_at(lines: &mut Lines<u64>, word: Word) -> Vec<u64> {
        let mut found = Vec::new();
        lines.take(
            word,
            |who| {
                found.push(*who);
                Choice::Pass
            },
            drop,
        );
        found
    }

    #[test]
    fn lines_are_what_a_list_for_each_word_would_be() {
        let mut lines = Lines::new(0x9e37_79b9_7f4a_7c15);
        let mut model: BTreeMap<u64, Vec<(u64, Place)>> = BTreeMap::new();
        let mut state = 1u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for who in 0..5000 {
            let at = random(37);
            let line = model.entry(at).or_default();
            match random(5) {
                0..3 => line.push((who, lines.push(word(at), who))),
                3 if !line.is_empty() => {
                    let (left, place) = line.remove(random(line.len() as u64) as usize);
                    assert_eq!(lines.leave(place), Some(left));
                    assert_eq!(lines.leave(place), None, "once");
                }
                _ => {
                    let mut taken = Vec::new();
                    lines.take(
                        word(at),
                        |who| if who % 2 == 0 { Choice::Take } else { Choice::Pass },
                        |who| taken.push(who),
                    );
                    let (even, odd) = line.iter().copied().partition(|(who, _)| who % 2 == 0);
                    *line = odd;
                    let even: Vec<(u64, Place)> = even;
                    assert_eq!(taken, even.iter().map(|(who, _)| *who).collect::<Vec<_>>());
                }
            }
            let expected: Vec<u64> = line.iter().map(|(who, _)| *who).collect();
            assert_eq!(lines.first(word(at)), expected.first());
            assert_eq!(all_at(&mut lines, word(at)), expected);
        }
        assert_eq!(lines.len, model.values().map(Vec::len).sum());
    }

    #[test]
    fn who_is_behind_a_stop_stays() {
        let mut lines = Lines::new(3);
        for who in 0..4u64 {
            lines.push(word(1), who);
        }
        let mut taken = Vec::new();
        lines.take(word(1), |who| if *who == 2 { Choice::Stop } else { Choice::Take }, |who| taken.push(who));
        assert_eq!((taken, all_at(&mut lines, word(1))), (Vec::from([0, 1]), Vec::from([2, 3])));
        assert_eq!(lines.leave(Place::NOWHERE), None);
    }
}
