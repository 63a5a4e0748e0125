//! The model of address spaces: regions, and the pages that are the space's own.

use super::account::Account;
use super::memory::{Memory, Page, new_page, pieces, read_page};
use super::next_id;
use super::paging::note_space;
use crate::errno::{Errno, Result};
use crate::platform::{Access, Backing, Change, MAX_CHANGES, PAGE_SIZE, Protection, Sharing};
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

#[derive(Clone)]
enum Source {
    Zero,
    Memory(Memory, u64),
}

#[derive(Clone)]
struct Region {
    start: u64,
    end: u64,
    source: Source,
    sharing: Sharing,
    protection: Protection,
}

impl Region {
    fn cut(&self, start: u64, end: u64) -> Option<Self> {
        let (start, end) = (start.max(self.start), end.min(self.end));
        if start >= end {
            return None;
        }
        let source = match &self.source {
            Source::Zero => Source::Zero,
            Source::Memory(memory, offset) => Source::Memory(memory.clone(), offset + (start - self.start)),
        };
        Some(Self { start, end, source, ..self.clone() })
    }
}

#[derive(Clone, Default)]
struct SpaceState {
    regions: Vec<Region>,
    private: BTreeMap<u64, Page>,
}

impl SpaceState {
    fn region(&self, address: u64) -> Option<&Region> {
        self.regions.iter().find(|region| region.start <= address && address < region.end)
    }

    fn unmap(&mut self, start: u64, end: u64) {
        let kept = self.regions.iter().flat_map(|region| [region.cut(0, start), region.cut(end, u64::MAX)]);
        self.regions = kept.flatten().collect();
        self.discard(start, end);
    }

    fn discard(&mut self, start: u64, end: u64) {
        self.private.retain(|page, _| !(start..end).contains(&(page * PAGE_SIZE)));
    }

    fn protect(&mut self, start: u64, end: u64, protection: Protection) -> Result<()> {
        let changed: Vec<_> = self.regions.iter().filter_map(|region| region.cut(start, end)).collect();
        if changed.iter().map(|region| region.end - region.start).sum::<u64>() != end - start {
            return Err(Errno::ENOMEM);
        }
        let kept = self.regions.iter().flat_map(|region| [region.cut(0, start), region.cut(end, u64::MAX)]);
        let changed = changed.into_iter().map(|region| Some(Region { protection, ..region }));
        self.regions = kept.chain(changed).flatten().collect();
        Ok(())
    }

    fn read_piece(&self, page: u64, within: usize, out: &mut [u8]) -> bool {
        let Some(region) = self.region(page * PAGE_SIZE) else { return false };
        if region.protection.is_empty() {
            return false;
        }
        if self.private.contains_key(&page) {
            read_page(&self.private, page, within, out);
            return true;
        }
        match &region.source {
            Source::Zero => out.fill(0),
            Source::Memory(memory, offset) => {
                let at = page * PAGE_SIZE - region.start + offset;
                if at >= memory.len_bytes().next_multiple_of(PAGE_SIZE) {
                    return false;
                }
                out.fill(0);
                let there = (memory.len_bytes().saturating_sub(at + within as u64) as usize).min(out.len());
                return memory.read(at + within as u64, out) >= there;
            }
        }
        true
    }

    fn write_piece(&mut self, page: u64, within: usize, bytes: &[u8]) -> bool {
        let Some(region) = self.region(page * PAGE_SIZE) else { return false };
        if !region.protection.contains(Protection::WRITE) {
            return false;
        }
        if let (Sharing::Shared, Source::Memory(memory, offset)) = (region.sharing, &region.source) {
            let at = page * PAGE_SIZE - region.start + offset + within as u64;
            return memory.write(at, bytes) == bytes.len();
        }
        let mut content = new_page();
        if !self.read_piece(page, 0, &mut content[..]) {
            return false;
        }
        content[within..within + bytes.len()].copy_from_slice(bytes);
        self.private.insert(page, content);
        true
    }

    fn apply(&mut self, change: &Change<'_>) -> Result<()> {
        match *change {
            Change::Map { address, length, backing, sharing, protection, .. } => {
                let end = checked_range(address, length)?;
                let source = match backing {
                    Backing::Zero => Source::Zero,
                    Backing::Memory(memory, offset) => Source::Memory(memory.clone(), offset),
                };
                self.unmap(address, end);
                self.regions.push(Region { start: address, end, source, sharing, protection });
                Ok(())
            }
            Change::Unmap { address, length } => {
                let end = checked_range(address, length)?;
                self.unmap(address, end);
                Ok(())
            }
            Change::Protect { address, length, protection } => {
                let end = checked_range(address, length)?;
                self.protect(address, end, protection)
            }
            Change::Discard { address, length } => {
                let end = checked_range(address, length)?;
                self.discard(address, end);
                Ok(())
            }
            Change::Move { from, length, to } => self.relocate(from, length, to),
            Change::Clone(source) => {
                *self = source.0.state.borrow().clone();
                Ok(())
            }
        }
    }

    fn relocate(&mut self, from: u64, length: u64, to: u64) -> Result<()> {
        let end = checked_range(from, length)?;
        checked_range(to, length)?;
        let moved: Vec<_> = self.regions.iter().filter_map(|region| region.cut(from, end)).collect();
        let pages: Vec<_> = (from / PAGE_SIZE..end / PAGE_SIZE)
            .filter_map(|page| self.private.remove(&page).map(|bytes| (page, bytes)))
            .collect();
        self.unmap(from, end);
        self.regions.extend(moved.into_iter().map(|region| Region {
            start: region.start - from + to,
            end: region.end - from + to,
            ..region
        }));
        self.private.extend(pages.into_iter().map(|(page, bytes)| (page - from / PAGE_SIZE + to / PAGE_SIZE, bytes)));
        Ok(())
    }
}

fn checked_range(address: u64, length: u64) -> Result<u64> {
    let aligned = address.is_multiple_of(PAGE_SIZE) && length.is_multiple_of(PAGE_SIZE) && length != 0;
    let end = address.checked_add(length).filter(|end| *end <= 1 << 47);
    if aligned { end.ok_or(Errno::EINVAL) } else { Err(Errno::EINVAL) }
}

struct SpaceInner {
    id: u64,
    state: RefCell<SpaceState>,
}

/// An address space; a clone is the same space.
#[derive(Clone)]
pub struct Space(Rc<SpaceInner>);

impl Space {
    /// Makes an empty space. `ENOMEM`.
    pub fn create(_account: &Account) -> Result<Self> {
        Ok(Self(Rc::new(SpaceInner { id: next_id(), state: RefCell::default() })))
    }

    /// A number that is the same for all clones and for nothing else.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Pages that are private frames of the space.
    pub fn private_pages(&self) -> u64 {
        self.0.state.borrow().private.len() as u64
    }

    /// Applies the changes, all or nothing. `ENOMEM` if there is no memory, or a range to protect has a hole.
    pub fn commit(&self, changes: &[Change<'_>]) -> Result<()> {
        if changes.len() > MAX_CHANGES {
            return Err(Errno::EINVAL);
        }
        let mut next = self.0.state.borrow().clone();
        for change in changes {
            next.apply(change)?;
        }
        self.0.state.replace(next);
        Ok(())
    }

    /// Reads up to `buffer.len()` bytes at `address`; returns how many were read before the first that could not be.
    pub fn read(&self, address: u64, buffer: &mut [u8]) -> usize {
        let state = self.0.state.borrow();
        let mut done = 0;
        for (page, within, length) in pieces(address, buffer.len()) {
            if !state.read_piece(page, within, &mut buffer[done..done + length]) {
                note_space(self, Access::Read);
                break;
            }
            done += length;
        }
        done
    }

    /// Writes up to `bytes.len()` bytes at `address`; returns how many were written before the first that could not be.
    pub fn write(&self, address: u64, bytes: &[u8]) -> usize {
        let mut state = self.0.state.borrow_mut();
        let mut done = 0;
        for (page, within, length) in pieces(address, bytes.len()) {
            if !state.write_piece(page, within, &bytes[done..done + length]) {
                note_space(self, Access::Write);
                break;
            }
            done += length;
        }
        done
    }

    /// Writes a word if it is the expected one; returns what it was. `EFAULT`.
    pub fn compare_exchange(&self, address: u64, expected: u32, new: u32) -> Result<u32> {
        let mut found = [0; 4];
        if self.read(address, &mut found) != found.len() {
            return Err(Errno::EFAULT);
        }
        if u32::from_le_bytes(found) == expected && self.write(address, &new.to_le_bytes()) != found.len() {
            return Err(Errno::EFAULT);
        }
        Ok(u32::from_le_bytes(found))
    }

    /// Copies from a memory into the space; returns how many bytes.
    pub fn copy_from(&self, address: u64, memory: &Memory, offset: u64, length: u64) -> u64 {
        let mut done = 0;
        let mut page = new_page();
        while done < length {
            let count = (length - done).min(PAGE_SIZE) as usize;
            let read = memory.read(offset + done, &mut page[..count]);
            if read == 0 {
                break;
            }
            let written = self.write(address + done, &page[..read]);
            done += written as u64;
            if written < count {
                break;
            }
        }
        done
    }

    /// Copies from the space into a memory; returns how many bytes.
    pub fn copy_to(&self, memory: &Memory, offset: u64, address: u64, length: u64) -> u64 {
        let mut done = 0;
        let mut page = new_page();
        while done < length {
            let count = (length - done).min(PAGE_SIZE) as usize;
            let read = self.read(address + done, &mut page[..count]);
            if read == 0 {
                break;
            }
            let written = memory.write(offset + done, &page[..read]);
            done += written as u64;
            if written < count {
                break;
            }
        }
        done
    }
}
