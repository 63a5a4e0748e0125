//! Typed pools: the kernel's objects live here and are named by [`Id`]s.
//!
//! An [`Id`] is an index and a generation, so a stale id is noticed instead of reaching another object. Memory for
//! slots is taken in chunks with fallible allocation and never moves, so growing costs no copy of what is there.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

/// Slots per chunk. A power of two, so that splitting an index is a shift and a mask.
const CHUNK: usize = 64;

/// Names an object of type `T` in its [`Pool`].
pub struct Id<T> {
    index: u32,
    generation: u32,
    marker: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// The slot number; unique among the live objects of one pool.
    pub fn index(self) -> u32 {
        self.index
    }

    /// Index and generation in one number, for those outside who have to name it; see [`Pool::find`].
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// An id that no pool has given out, for tests of code that only carries ids.
    #[cfg(test)]
    pub(crate) fn for_test(index: u32) -> Self {
        Self { index, generation: 0, marker: PhantomData }
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.index == other.index && self.generation == other.generation
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}
impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.index, self.generation)
    }
}

/// The pool could not grow: the kernel's own memory is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolExhausted;

#[derive(Debug)]
enum Slot<T> {
    Free { next: Option<u32>, generation: u32 },
    Used { value: T, generation: u32 },
}

/// A pool of `T`s with stable places and fallible growth.
#[derive(Debug)]
pub struct Pool<T> {
    /// Boxed, because the chunks must not move when their list grows.
    chunks: Vec<Box<[Slot<T>; CHUNK]>>,
    free: Option<u32>,
    len: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Pool<T> {
    /// An empty pool; takes no memory.
    pub const fn new() -> Self {
        Self { chunks: Vec::new(), free: None, len: 0 }
    }

    /// The number of live objects.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no object is alive.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes sure that the next `additional` insertions can't fail.
    ///
    /// # Errors
    /// [`PoolExhausted`] when there is no memory for more slots; nothing has changed then but spare capacity.
    pub fn reserve(&mut self, additional: usize) -> Result<(), PoolExhausted> {
        let mut spare = self.chunks.len() * CHUNK - self.len;
        while spare < additional {
            self.grow()?;
            spare += CHUNK;
        }
        Ok(())
    }

    /// Puts `value` into the pool.
    ///
    /// # Errors
    /// [`PoolExhausted`] when there is no memory for another slot; `value` is dropped.
    pub fn insert(&mut self, value: T) -> Result<Id<T>, PoolExhausted> {
        if self.free.is_none() {
            self.grow()?;
        }
        let index = self.free.ok_or(PoolExhausted)?;
        let slot = self.slot_mut(index).ok_or(PoolExhausted)?;
        let Slot::Free { next, generation } = *slot else { return Err(PoolExhausted) };
        *slot = Slot::Used { value, generation };
        self.free = next;
        self.len += 1;
        Ok(Id { index, generation, marker: PhantomData })
    }

    /// Takes the object out; its id is stale from now on. `None` if it was stale already.
    pub fn remove(&mut self, id: Id<T>) -> Option<T> {
        let free = self.free;
        let slot = self.slot_mut(id.index)?;
        match slot {
            Slot::Used { generation, .. } if *generation == id.generation => {}
            Slot::Used { .. } | Slot::Free { .. } => return None,
        }
        let vacant = Slot::Free { next: free, generation: id.generation.wrapping_add(1) };
        match core::mem::replace(slot, vacant) {
            Slot::Used { value, .. } => {
                self.free = Some(id.index);
                self.len -= 1;
                Some(value)
            }
            Slot::Free { .. } => None,
        }
    }

    /// The object, or `None` if the id is stale.
    #[inline(always)]
    pub fn get(&self, id: Id<T>) -> Option<&T> {
        match self.slot(id.index)? {
            Slot::Used { value, generation } if *generation == id.generation => Some(value),
            Slot::Used { .. } | Slot::Free { .. } => None,
        }
    }

    /// The object, to change it, or `None` if the id is stale.
    #[inline(always)]
    pub fn get_mut(&mut self, id: Id<T>) -> Option<&mut T> {
        match self.slot_mut(id.index)? {
            Slot::Used { value, generation } if *generation == id.generation => Some(value),
            Slot::Used { .. } | Slot::Free { .. } => None,
        }
    }

    /// The live object with this [number](Id::number), which may come from anybody.
    pub fn find(&self, number: u64) -> Option<Id<T>> {
        let id = Id { index: number as u32, generation: (number >> 32) as u32, marker: PhantomData };
        self.get(id).map(|_| id)
    }

    /// All live objects with their ids, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = (Id<T>, &T)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).zip(0u32..).filter_map(|(slot, index)| match slot {
            Slot::Used { value, generation } => {
                Some((Id { index, generation: *generation, marker: PhantomData }, value))
            }
            Slot::Free { .. } => None,
        })
    }

    /// The first live object in slot `index` or a later one, for scans that change the pool as they go.
    pub fn next_from(&self, index: u32) -> Option<(Id<T>, &T)> {
        let first = index as usize / CHUNK;
        let slots = self.chunks.iter().skip(first).flat_map(|chunk| chunk.iter()).zip((first * CHUNK) as u32..);
        slots.filter(|(_, at)| *at >= index).find_map(|(slot, index)| match slot {
            Slot::Used { value, generation } => {
                Some((Id { index, generation: *generation, marker: PhantomData }, value))
            }
            Slot::Free { .. } => None,
        })
    }

    // The inner index can't be out of bounds, and the compiler sees it: a look-up is one comparison for the chunk and one
    // for the generation.
    #[inline(always)]
    fn slot(&self, index: u32) -> Option<&Slot<T>> {
        let index = index as usize;
        self.chunks.get(index / CHUNK).map(|chunk| &chunk[index % CHUNK])
    }

    #[inline(always)]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot<T>> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK).map(|chunk| &mut chunk[index % CHUNK])
    }

    fn grow(&mut self) -> Result<(), PoolExhausted> {
        let first = u32::try_from(self.chunks.len() * CHUNK).map_err(|_| PoolExhausted)?;
        let end = first.checked_add(CHUNK as u32).ok_or(PoolExhausted)?;
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK).map_err(|_| PoolExhausted)?;
        self.chunks.try_reserve(1).map_err(|_| PoolExhausted)?;
        for index in first..end {
            let next = if index + 1 == end { self.free } else { Some(index + 1) };
            chunk.push(Slot::Free { next, generation: 0 });
        }
        let chunk: Box<[Slot<T>]> = chunk.into_boxed_slice();
        self.chunks.push(chunk.try_into().map_err(|_| PoolExhausted)?);
        self.free = Some(first);
        Ok(())
    }
}

impl<T> core::ops::Index<Id<T>> for Pool<T> {
    type Output = T;

    /// For ids whose object is kept alive by an invariant of the kernel (an object's account, a region's memory).
    /// Ids that came from outside go through [`Pool::get`].
    #[inline(always)]
    fn index(&self, id: Id<T>) -> &T {
        match self.get(id) {
            Some(value) => value,
            None => stale(id),
        }
    }
}

impl<T> core::ops::IndexMut<Id<T>> for Pool<T> {
    #[inline(always)]
    fn index_mut(&mut self, id: Id<T>) -> &mut T {
        match self.get_mut(id) {
            Some(value) => value,
            None => stale(id),
        }
    }
}

#[cold]
#[expect(clippy::panic, reason = "a stale internal id is a broken invariant of the kernel, not somebody's input")]
fn stale<T>(id: Id<T>) -> ! {
    panic!("stale id {id:?} in a pool of {}", core::any::type_name::<T>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_id_does_not_reach_the_next_tenant() {
        let mut pool = Pool::new();
        let first = pool.insert(1).unwrap();
        assert_eq!(pool.remove(first), Some(1));
        let second = pool.insert(2).unwrap();
        assert_eq!(first.index(), second.index());
        assert_eq!(pool.get(first), None);
        assert_eq!(pool.remove(first), None);
        assert_eq!(pool.get(second), Some(&2));
        assert_eq!((pool.find(second.number()), pool.find(first.number())), (Some(second), None));
        assert_eq!(pool.find(u64::MAX), None);
    }

    #[test]
    fn ids_stay_valid_while_the_pool_grows() {
        let mut pool = Pool::new();
        let ids: std::vec::Vec<_> = (0..1000).map(|n| pool.insert(n).unwrap()).collect();
        assert_eq!(pool.len(), 1000);
        assert!(ids.iter().enumerate().all(|(n, id)| pool[*id] == n));
        assert_eq!(pool.iter().count(), 1000);
    }
}
