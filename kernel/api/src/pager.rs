//! Pagers: the filling end of managed memories.
//!
//! ```no_run
//! # use quire_api::{Account, Error, Executor, Memory};
//! # use quire_api::abi::pager::{PagerFlags, PagerRequest, PagerRequestKind};
//! # use quire_api::pager::Pager;
//! # async fn serve(executor: Executor, account: &Account, file: &Memory, len_bytes: u64) -> Result<(), Error> {
//! let (memory, pager) = Pager::create(account, len_bytes, 1_000_000_000, PagerFlags::empty())?;
//! let mut requests = executor.pager_requests(pager)?;
//! # drop(memory);
//! loop {
//!     let PagerRequest { kind, offset, length, .. } = requests.next().await?;
//!     match PagerRequestKind::from_number(kind) {
//!         Some(PagerRequestKind::Fill) => requests.pager().supply(offset, length, file, offset)?,
//!         Some(PagerRequestKind::Writeback) | None => requests.pager().fail(offset, length)?,
//!     };
//! }
//! # }
//! ```

use crate::account::Account;
use crate::handle::{Object, argument, object, owned};
use crate::memory::Memory;
use crate::raw::{handle_of, many_numbers, numbers, syscall3};
use quire_abi::pager::{MAX_REQUESTS, PagerFlags, PagerRequest};
use quire_abi::{Call, Error};

object! {
    /// The filling end of a managed memory.
    Pager
}

impl Pager {
    /// Makes a managed memory of `len_bytes` bytes, and its pager. Whoever needs a page waits for `deadline_ns` at most
    /// ([`u64::MAX`]: without end). Needs `USE`.
    pub fn create(
        account: &Account,
        len_bytes: u64,
        deadline_ns: u64,
        flags: PagerFlags,
    ) -> Result<(Memory, Self), Error> {
        let arguments = [argument(account), len_bytes, deadline_ns, u64::from(flags.bits()), 0, 0];
        let (memory, pager) = many_numbers(Call::MemoryCreateManaged, arguments).values()?;
        let memory = owned(handle_of(memory)).map(Memory::from_handle);
        let pager = owned(handle_of(pager)).map(Self::from_handle);
        Ok((memory?, pager?))
    }

    /// Takes requests, as many as there are and fit (at most [`MAX_REQUESTS`]); returns how many. Needs `READ`.
    pub fn receive(&self, requests: &mut [PagerRequest]) -> Result<usize, Error> {
        let count = requests.len().min(MAX_REQUESTS);
        // SAFETY: the call writes at most `count` requests there.
        let returned =
            unsafe { syscall3(Call::PagerReceive, [argument(self), requests.as_mut_ptr() as u64, count as u64]) };
        Ok(returned.value()?.min(count as u64) as usize)
    }

    /// Fills the missing pages of a range with those of `source` from `source_offset` on. Frames that `source` has alone are
    /// moved, and read as zeros there afterwards. Needs `WRITE`, and on the source `READ` and `WRITE`.
    pub fn supply(&self, offset: u64, len_bytes: u64, source: &Memory, source_offset: u64) -> Result<(), Error> {
        self.in_steps(offset, len_bytes, |done, at, left| {
            let source_at = source_offset.checked_add(done).ok_or(Error::OutOfRange)?;
            many_numbers(Call::PagerSupply, [argument(self), at, left, argument(source), source_at, 0]).value()
        })
    }

    /// Fills the missing pages of a range with zeros. Needs `WRITE`.
    pub fn supply_zeros(&self, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.in_steps(offset, len_bytes, |_, at, left| {
            many_numbers(Call::PagerSupply, [argument(self), at, left, 0, 0, 0]).value()
        })
    }

    /// Says that what was asked for a range can't be done. Needs `WRITE`.
    pub fn fail(&self, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.over(Call::PagerFail, offset, len_bytes)
    }

    /// Says that a range has been written back. Needs `WRITE`.
    pub fn written(&self, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.over(Call::PagerWritten, offset, len_bytes)
    }

    /// Forgets the clean pages of a range. Needs `WRITE`.
    pub fn invalidate(&self, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.over(Call::PagerInvalidate, offset, len_bytes)
    }

    fn over(&self, call: Call, offset: u64, len_bytes: u64) -> Result<(), Error> {
        self.in_steps(offset, len_bytes, |_, at, left| numbers(call, [argument(self), at, left]).value())
    }

    /// Repeats a call that tells how far it came until it has come to the end.
    fn in_steps(
        &self,
        offset: u64,
        len_bytes: u64,
        mut step: impl FnMut(u64, u64, u64) -> Result<u64, Error>,
    ) -> Result<(), Error> {
        let mut done = 0;
        while done < len_bytes {
            let at = offset.checked_add(done).ok_or(Error::OutOfRange)?;
            match step(done, at, len_bytes - done)? {
                0 => return Err(Error::OutOfRange),
                bytes => done += bytes,
            }
        }
        Ok(())
    }
}
