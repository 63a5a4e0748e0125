//! Handle tables: capability spaces.
//!
//! A slot holds a [`Capability`] and a generation. A [`Handle`] names slot and generation, so a handle that was closed
//! doesn't reach what was put into its slot later. Slots are made in chunks, each charged to the table's account.
//!
//! # Who keeps a table alive
//! Handles to it in *other* tables, and the threads that run with it. A handle to a table in that very table does not
//! count. When the last thread that was started with a table has ended, the table is emptied: nobody can use those handles
//! any more, and those who wait for answers from that program are told at once. This also takes cycles of tables
//! apart.

use crate::account::Account;
use crate::object::{Capability, Header, Object, cost};
use crate::pool::Id;
use alloc::boxed::Box;
use alloc::vec::Vec;
use quire_abi::{Error, Handle, Rights};

/// Slots per chunk.
pub const CHUNK: usize = 64;
const _: () = assert!(size_of::<Slot>() * CHUNK <= cost::TABLE_CHUNK as usize);
/// The generations of a slot: as many as fit a handle, without 0, so that no handle is 0.
const LAST_GENERATION: u32 = (1 << (32 - Handle::INDEX_BITS)) - 1;

#[derive(Debug)]
struct Slot {
    generation: u32,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Free { next: Option<u32> },
    Used(Capability),
}

/// A capability space.
#[derive(Debug)]
#[expect(clippy::vec_box, reason = "growing must not copy the chunks: tables can have a million handles")]
pub struct HandleTable {
    /// References and account.
    pub header: Header,
    /// Started threads that run with it and have not ended.
    pub started_threads: u32,
    chunks: Vec<Box<[Slot; CHUNK]>>,
    free: Option<u32>,
    used: u32,
}

impl HandleTable {
    /// An empty table, whose record is charged to `account`.
    pub const fn new(account: Id<Account>) -> Self {
        Self { header: Header::new(account), started_threads: 0, chunks: Vec::new(), free: None, used: 0 }
    }

    /// How many handles are in it.
    pub fn len(&self) -> usize {
        self.used as usize
    }

    /// Whether no handle is in it.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// How many chunks of slots it has.
    pub fn chunk_count(&self) -> usize {
        self.chunks.len()
    }

    /// How many chunks must be added before `additional` handles fit.
    #[inline]
    pub fn chunks_missing(&self, additional: usize) -> usize {
        let spare = self.chunks.len() * CHUNK - self.used as usize;
        additional.saturating_sub(spare).div_ceil(CHUNK)
    }

    /// Adds a chunk, which the caller has charged to the table's account.
    ///
    /// # Errors
    /// `Full` when no more handles can be numbered, `NoMemory`.
    pub fn grow(&mut self) -> Result<(), Error> {
        let first = self.chunks.len() * CHUNK;
        if first + CHUNK > Handle::MAX_INDEX as usize + 1 {
            return Err(Error::Full);
        }
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK).map_err(|_| Error::NoMemory)?;
        self.chunks.try_reserve(1).map_err(|_| Error::NoMemory)?;
        let (first, end) = (first as u32, (first + CHUNK) as u32);
        for index in first..end {
            let next = if index + 1 == end { self.free } else { Some(index + 1) };
            chunk.push(Slot { generation: 1, content: Content::Free { next } });
        }
        let chunk: Box<[Slot]> = chunk.into_boxed_slice();
        self.chunks.push(chunk.try_into().map_err(|_| Error::NoMemory)?);
        self.free = Some(first);
        Ok(())
    }

    /// Puts `capability` into a free slot; `None` if there is none (see [`HandleTable::chunks_missing`]).
    #[inline(always)]
    pub fn insert(&mut self, capability: Capability) -> Option<Handle> {
        let index = self.free?;
        let slot = self.slot_mut(index)?;
        let Content::Free { next } = slot.content else { return None };
        slot.content = Content::Used(capability);
        let handle = Handle::new(index, slot.generation);
        self.free = next;
        self.used += 1;
        Some(handle)
    }

    /// What the handle names.
    ///
    /// # Errors
    /// `BadHandle`.
    #[inline(always)]
    pub fn lookup(&self, handle: Handle) -> Result<Capability, Error> {
        let index = handle.index() as usize;
        match self.chunks.get(index / CHUNK).map(|chunk| &chunk[index % CHUNK]) {
            Some(Slot { generation, content: Content::Used(capability) }) if *generation == handle.generation() => {
                Ok(*capability)
            }
            Some(_) | None => Err(Error::BadHandle),
        }
    }

    /// The object of type `T` that the handle names, if it carries all of `rights`.
    ///
    /// # Errors
    /// `BadHandle`, `WrongKind`, `MissingRights`, in this order.
    #[inline]
    pub fn get<T: Object>(&self, handle: Handle, rights: Rights) -> Result<Id<T>, Error> {
        let capability = self.lookup(handle)?;
        let id = T::from_ref(capability.object).ok_or(Error::WrongKind)?;
        if capability.rights.contains(rights) { Ok(id) } else { Err(Error::MissingRights) }
    }

    /// Takes a capability out; the handle names nothing from now on.
    ///
    /// # Errors
    /// `BadHandle`.
    #[inline(always)]
    pub fn remove(&mut self, handle: Handle) -> Result<Capability, Error> {
        let free = self.free;
        let slot = self.slot_mut(handle.index()).ok_or(Error::BadHandle)?;
        let Content::Used(capability) = slot.content else { return Err(Error::BadHandle) };
        if slot.generation != handle.generation() {
            return Err(Error::BadHandle);
        }
        slot.content = Content::Free { next: free };
        slot.generation = if slot.generation == LAST_GENERATION { 1 } else { slot.generation + 1 };
        self.free = Some(handle.index());
        self.used -= 1;
        Ok(capability)
    }

    /// Some handle at or after slot `from`, if there is any.
    pub fn next_used(&self, from: u32) -> Option<Handle> {
        self.used_from(from).next().map(|(handle, _)| handle)
    }

    /// The handles at or after slot `from`, with what they name.
    pub fn used_from(&self, from: u32) -> impl Iterator<Item = (Handle, Capability)> {
        let first_chunk = from as usize / CHUNK;
        let chunks = self.chunks.iter().zip((0u32..).step_by(CHUNK)).skip(first_chunk);
        let slots = chunks.flat_map(|(chunk, first)| chunk.iter().zip(first..));
        slots.skip(from as usize % CHUNK).filter_map(|(slot, index)| match slot.content {
            Content::Used(capability) => Some((Handle::new(index, slot.generation), capability)),
            Content::Free { .. } => None,
        })
    }

    /// All that is in it.
    pub fn iter(&self) -> impl Iterator<Item = Capability> {
        self.chunks.iter().flat_map(|chunk| chunk.iter()).filter_map(|slot| match slot.content {
            Content::Used(capability) => Some(capability),
            Content::Free { .. } => None,
        })
    }

    #[inline(always)]
    fn slot_mut(&mut self, index: u32) -> Option<&mut Slot> {
        let index = index as usize;
        self.chunks.get_mut(index / CHUNK).map(|chunk| &mut chunk[index % CHUNK])
    }
}
