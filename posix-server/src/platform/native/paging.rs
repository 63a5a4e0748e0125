//! Memories that a pager fills, and pages that are not there yet.
//!
//! The kernel never lets the server wait for a page: a copy ends before the first that is not there, and the page's pager is asked.
//! What ended so is noted here, because whoever copies knows only that less was moved than hoped for; and whoever runs a call looks
//! here when the call has come back (`calls::absence`).

use super::memory::{Account, Memory, Space};
use super::{Executor, errno};
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::platform::{Access, Successor};
use crate::ticket::Ticket;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};
use quire_api::abi::pager::PagerFlags;
use quire_api::abi::space::MAX_TRANSFER;
use quire_api::executor::Errand;
use quire_api::{AddressSpace, Error, Object, Rights};
use spin::Mutex;

/// The filling end of a memory.
pub struct Pager(pub(super) quire_api::Pager);

impl Memory {
    /// Makes a memory of `len_bytes` whose pages a pager has, who must have each ready in `deadline_ns`. `ENOMEM`.
    pub fn create_paged(
        account: &Account,
        len_bytes: u64,
        deadline_ns: u64,
        successor: Successor,
    ) -> Result<(Self, Pager)> {
        let mut flags = PagerFlags::empty();
        flags.set(PagerFlags::AWAIT_SUCCESSOR, successor == Successor::Awaited);
        let (object, pager) = quire_api::Pager::create(&account.0, len_bytes, deadline_ns, flags).map_err(errno)?;
        Ok((Self::new(object, len_bytes)?, Pager(pager)))
    }
}

impl Pager {
    /// Forgets the pages of a range that are as the pager has them.
    pub fn invalidate(&self, offset: u64, len_bytes: u64) {
        // What is not forgotten stays right.
        let _ = self.0.invalidate(offset, len_bytes);
    }

    /// A handle for who is to fill.
    pub(super) fn share(&self) -> core::result::Result<quire_api::Pager, Error> {
        self.0.duplicate(Rights::all())
    }
}

/// Whose page it is.
enum Side {
    Memory(Arc<quire_api::Memory>),
    Space(Arc<AddressSpace>),
}

/// What a copy would have touched next.
struct Range {
    side: Side,
    offset: u64,
    len_bytes: u64,
    access: Access,
}

/// What a call needs, and what is not there.
pub struct Absence(Missing);

enum Missing {
    /// Pages, because of which a copy ended, on one of these sides.
    Pages([Option<Range>; 2]),
    /// What the ticket is for.
    Other(Ticket),
}

/// Bytes that a call has left for a program, at a place whose page is not there yet.
pub struct Postponed {
    space: Arc<AddressSpace>,
    address: u64,
    bytes: Box<[u8]>,
    _charge: Charge,
}

/// What has been noted since somebody last looked.
#[derive(Default)]
pub struct Needs {
    /// What is not there: where the last copy ended, or what was noted last.
    pub absence: Option<Absence>,
    /// What is still to be written.
    pub postponed: Vec<Postponed>,
}

static NEEDS: Mutex<Needs> = Mutex::new(Needs { absence: None, postponed: Vec::new() });
static HAS_NEEDS: AtomicBool = AtomicBool::new(false);

/// How much one call may leave to be written later, in bytes.
const MAX_POSTPONED_BYTES: usize = 64 << 10;

/// Whether anything has been noted.
#[inline]
pub fn has_needs() -> bool {
    HAS_NEEDS.load(Ordering::Relaxed)
}

/// Takes what has been noted.
pub fn take_needs() -> Needs {
    HAS_NEEDS.store(false, Ordering::Relaxed);
    core::mem::take(&mut *NEEDS.lock())
}

/// Notes that a call needs what a ticket is for.
pub fn note_ticket(ticket: Ticket) {
    note(Missing::Other(ticket));
}

fn note(missing: Missing) {
    let before = NEEDS.lock().absence.replace(Absence(missing));
    HAS_NEEDS.store(true, Ordering::Relaxed);
    drop(before);
}

/// Whether a transfer ended for a page: it is not there yet, or nobody is there who has it, which a fetch will say too.
fn is_for_a_page(error: Error) -> bool {
    matches!(error, Error::NotPresent | Error::PeerClosed)
}

/// Notes why a transfer with a memory ended, if it was for a page.
pub(super) fn note_memory(error: Error, memory: &Memory, offset: u64, len_bytes: u64, access: Access) {
    if is_for_a_page(error) {
        note(Missing::Pages([Some(memory_range(memory, offset, len_bytes, access)), None]));
    }
}

/// The same for a transfer with a space.
pub(super) fn note_space(error: Error, space: &Space, address: u64, len_bytes: u64, access: Access) {
    if is_for_a_page(error) {
        note(Missing::Pages([Some(space_range(space, address, len_bytes, access)), None]));
    }
}

/// The same for a copy between both; the access is the one to the memory.
pub(super) fn note_both(
    error: Error,
    (memory, offset): (&Memory, u64),
    (space, address): (&Space, u64),
    len_bytes: u64,
    access: Access,
) {
    if is_for_a_page(error) {
        let memory = memory_range(memory, offset, len_bytes, access);
        let space = space_range(space, address, len_bytes, access.opposite());
        note(Missing::Pages([Some(memory), Some(space)]));
    }
}

fn memory_range(memory: &Memory, offset: u64, len_bytes: u64, access: Access) -> Range {
    Range { side: Side::Memory(memory.object().clone()), offset, len_bytes: len_bytes.min(MAX_TRANSFER), access }
}

fn space_range(space: &Space, address: u64, len_bytes: u64, access: Access) -> Range {
    let side = Side::Space(space.0.object.clone());
    Range { side, offset: address, len_bytes: len_bytes.min(MAX_TRANSFER), access }
}

impl Space {
    /// Has bytes written as soon as the page is there, because of which a write has just ended here. False: it ended for
    /// another reason, or too much has been put off already.
    pub fn postpone(&self, address: u64, bytes: &[u8]) -> bool {
        if !has_needs() {
            return false;
        }
        let mut needs = NEEDS.lock();
        let is_here = needs.absence.as_ref().is_some_and(|absence| absence.is_store_to(&self.0.object));
        let postponed = needs.postponed.iter().fold(bytes.len(), |sum, one| sum.saturating_add(one.bytes.len()));
        if !is_here || postponed > MAX_POSTPONED_BYTES {
            return false;
        }
        let Ok(charge) = Charge::new(Budget::Open, bytes.len() as u64) else { return false };
        needs.absence = None;
        let (space, bytes) = (self.0.object.clone(), Box::from(bytes));
        needs.postponed.push(Postponed { space, address, bytes, _charge: charge });
        true
    }
}

impl Absence {
    fn is_store_to(&self, space: &Arc<AddressSpace>) -> bool {
        let Missing::Pages([Some(range), _]) = &self.0 else { return false };
        match &range.side {
            Side::Space(side) => Arc::ptr_eq(side, space) && range.access == Access::Write,
            Side::Memory(_) => false,
        }
    }
}

impl Executor {
    /// Waits until what a call needs is there. Of pages because of which a copy ended: `EIO` if those of a file can't be had, `EFAULT`
    /// if those of a program.
    pub async fn bring(&self, absence: Absence) -> Result<()> {
        match absence.0 {
            Missing::Pages(ranges) => self.bring_pages(ranges).await,
            Missing::Other(ticket) => ticket.ended().await,
        }
    }

    async fn bring_pages(&self, ranges: [Option<Range>; 2]) -> Result<()> {
        for range in ranges.into_iter().flatten() {
            let (fetched, refusal) = match &range.side {
                Side::Memory(memory) => {
                    (self.0.fetch(&**memory, range.offset, range.len_bytes, range.access.stores()), Errno::EIO)
                }
                Side::Space(space) => {
                    (self.0.fetch(&**space, range.offset, range.len_bytes, range.access.stores()), Errno::EFAULT)
                }
            };
            if is_refused(fetched).await {
                return Err(refusal);
            }
        }
        Ok(())
    }

    /// Writes what was put off. `EFAULT` if its page can't be had.
    pub async fn write_postponed(&self, postponed: Postponed) -> Result<()> {
        let Postponed { space, address, bytes, _charge } = postponed;
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let at = address.checked_add(done as u64).ok_or(Errno::EFAULT)?;
            match space.write(at, rest) {
                Ok(0) => return Err(Errno::EFAULT),
                Ok(count) => done += count,
                Err(Error::NotPresent) => {
                    self.0
                        .fetch(&*space, at, rest.len() as u64, true)
                        .map_err(|_| Errno::EFAULT)?
                        .await
                        .map_err(|_| Errno::EFAULT)?;
                }
                Err(_) => return Err(Errno::EFAULT),
            }
        }
        Ok(())
    }

    /// Has what was stored in a range of a memory until now written back. `EIO`.
    pub async fn write_back(&self, memory: &Memory, offset: u64, len_bytes: u64) -> Result<()> {
        let flush = self.0.write_back(memory.object(), offset, len_bytes).map_err(errno)?;
        flush.await.map_err(|_| Errno::EIO)
    }

    /// Has pages of a memory brought in that will be needed. Nobody waits for them.
    pub fn will_need(&self, memory: &Memory, offset: u64, len_bytes: u64) {
        drop(self.0.fetch(&**memory.object(), offset, len_bytes.min(MAX_TRANSFER), false));
    }
}

/// Whether a fetch ended because somebody can't have the page. A range that is too long for its object is none of those: the copy
/// that is tried again finds that out itself.
async fn is_refused(fetch: core::result::Result<Errand, Error>) -> bool {
    match fetch {
        Ok(fetch) => match fetch.await {
            Ok(()) | Err(Error::OutOfRange | Error::RemoteFault) => false,
            Err(_) => true,
        },
        Err(_) => true,
    }
}
