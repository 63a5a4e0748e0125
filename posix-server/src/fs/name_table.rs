//! Names of one directory, found by their hashes.
//!
//! Comparing hashes is cheaper than comparing names on each level of a tree. Names with the same hash are in a tree of their own, so
//! that choosing them with care gains nobody anything.

use super::dentry::Name;
use alloc::collections::BTreeMap;

/// Odd, with as many ones as zeroes in no order: multiplying by it moves each bit to many places.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

fn hash(name: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| {
        let product = (hash ^ word).wrapping_mul(MULTIPLIER);
        product ^ product >> 32
    };
    let (words, rest) = name.as_chunks::<8>();
    let hash = words.iter().fold(name.len() as u64, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    mix(hash, rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

/// Names with one hash.
enum Bucket<T> {
    One(Name, T),
    Many(BTreeMap<Name, T>),
}

/// What belongs to each of the names.
pub(super) struct NameTable<T> {
    buckets: BTreeMap<u64, Bucket<T>>,
    length: usize,
}

impl<T> Default for NameTable<T> {
    fn default() -> Self {
        Self { buckets: BTreeMap::new(), length: 0 }
    }
}

impl<T> NameTable<T> {
    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// What belongs to a name.
    pub(super) fn get(&self, name: &[u8]) -> Option<&T> {
        match self.buckets.get(&hash(name))? {
            Bucket::One(only, value) => (**only == *name).then_some(value),
            Bucket::Many(values) => values.get(name),
        }
    }

    /// Adds a name, which must not be there.
    pub(super) fn insert(&mut self, name: Name, value: T) {
        let key = hash(&name);
        self.length += 1;
        let bucket = match self.buckets.remove(&key) {
            None => Bucket::One(name, value),
            Some(Bucket::One(other, before)) => Bucket::Many(BTreeMap::from([(other, before), (name, value)])),
            Some(Bucket::Many(mut values)) => {
                values.insert(name, value);
                Bucket::Many(values)
            }
        };
        self.buckets.insert(key, bucket);
    }

    /// Takes a name away.
    pub(super) fn remove(&mut self, name: &[u8]) -> Option<T> {
        let key = hash(name);
        let (removed, is_empty) = match self.buckets.get_mut(&key)? {
            Bucket::One(only, _) if **only != *name => return None,
            Bucket::One(..) => (None, true),
            Bucket::Many(values) => (Some(values.remove(name)?), values.is_empty()),
        };
        self.length -= 1;
        let bucket = if is_empty { self.buckets.remove(&key) } else { None };
        match (removed, bucket) {
            (None, Some(Bucket::One(_, value))) => Some(value),
            (removed, _) => removed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn names_come_and_go() {
        let mut table = NameTable::default();
        let names: Vec<Name> = (0..300).map(|number| Name::from(alloc::format!("name{number}").as_bytes())).collect();
        names.iter().zip(0..).for_each(|(name, value)| table.insert(name.clone(), value));
        assert!(names.iter().zip(0..).all(|(name, value)| table.get(name) == Some(&value)));
        assert_eq!((table.len(), table.get(b"name").copied(), table.remove(b"name")), (300, None, None));
        assert!(names.iter().zip(0..).all(|(name, value)| table.remove(name) == Some(value)));
        assert_eq!((table.len(), table.buckets.len()), (0, 0));
    }

    #[test]
    fn names_with_the_same_hash_are_told_apart() {
        let mut table = NameTable::default();
        // A bucket as it would be if their hashes were the same.
        let both = BTreeMap::from([(Name::from(&b"a"[..]), 1), (Name::from(&b"b"[..]), 2)]);
        table.buckets.insert(hash(b"a"), Bucket::Many(both));
        table.length = 2;
        assert_eq!((table.get(b"a").copied(), table.remove(b"a")), (Some(1), Some(1)));
        assert_eq!((table.get(b"a"), table.len()), (None, 1));
    }

    #[test]
    fn length_and_order_count() {
        assert_ne!(hash(b"ab"), hash(b"ba"));
        assert_ne!(hash(b"a"), hash(b"a\0"));
        assert_ne!(hash(b"12345678"), hash(b"123456781"));
    }
}
