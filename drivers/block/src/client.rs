//! A disk as a program uses it.
//!
//! The life of a read: the caller names sectors and a place in a memory that it attached before; the request goes out with the
//! executor's next wait, together with all others; the driver has the device put the sectors there and answers. A request that the
//! driver did not live to answer is sent again, and its successor, which waits on the same channel, does it. Sectors may be read and
//! written twice, so the caller notices only the delay.
//!
//! A future that is dropped does not take its request back: until the driver has answered, that part of the memory is the device's.

use crate::client::permits::Permits;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::task::{Poll, Waker};
use driver_protocol::block::{
    Abilities, Description, MAX_BUFFERS, MAX_PAGES, MAX_REQUESTS, MAX_SECTORS, PAGE_BYTES, Request, SECTOR_BYTES,
    SectorRange, Transfer, WriteFlags,
};
use driver_protocol::{Refusal, Words};
use futures_util::future::join_all;

mod permits;

/// How long a request is sent again and again, in ns, before the disk counts as gone.
const PATIENCE_NS: u64 = 30_000_000_000;
/// The first pause before something is tried again, in ns; each is twice as long as the one before.
const FIRST_PAUSE_NS: u64 = 500_000;
/// The longest pause.
const LONGEST_PAUSE_NS: u64 = 250_000_000;

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockError {
    /// The disk could not do it (`EIO`).
    DeviceFailed,
    /// The sectors are not on the disk, or may not be written, or are not whole blocks.
    OutOfRange,
    /// That part of the memory does not exist, or all numbers of memories are in use.
    BadBuffer,
    /// The disk has no such request.
    Unsupported,
    /// The driver is gone, and no other has come.
    Gone,
}

impl fmt::Display for BlockError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DeviceFailed => "the disk failed",
            Self::OutOfRange => "there are no such sectors",
            Self::BadBuffer => "the buffer can't be used",
            Self::Unsupported => "the disk can't do that",
            Self::Gone => "the disk's driver is gone",
        })
    }
}

impl core::error::Error for BlockError {}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Whoever had the request ended before it answered, or nobody is there.
    PeerClosed,
    /// It could not be sent just now.
    Busy,
}

/// How requests travel to the driver, and how time passes.
pub trait Transport {
    /// What is attached.
    type Memory;

    /// Calls the driver. The memory, if there is one, is shown to it and stays the caller's.
    fn call(
        &self,
        label: u64,
        words: Words,
        memory: Option<&Self::Memory>,
    ) -> impl Future<Output = Result<(u64, Words), CallError>>;

    /// Time, in ns.
    fn now_ns(&self) -> u64;

    /// Waits.
    fn pause(&self, duration_ns: u64) -> impl Future<Output = ()>;
}

/// An attached memory: a client's name for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer(u64);

/// A memory that the driver knows, or knew.
struct Attached<M> {
    memory: Rc<M>,
    len_bytes: u64,
    /// How often it was attached. A request that finds it unknown attaches it again only if nobody else has meanwhile.
    generation: u64,
    /// Whether somebody is about to attach it, and who waits for that.
    is_being_attached: bool,
    waiting: Vec<Waker>,
}

struct Inner<T: Transport> {
    transport: T,
    description: Description,
    buffers: RefCell<[Option<Attached<T::Memory>>; MAX_BUFFERS as usize]>,
    next_id: Cell<u64>,
    permits: Permits,
}

/// A disk, or the part of one that a channel reaches. Clones are the same.
pub struct BlockClient<T: Transport>(Rc<Inner<T>>);

impl<T: Transport> Clone for BlockClient<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T: Transport> fmt::Debug for BlockClient<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("BlockClient").field("description", &self.0.description).finish_non_exhaustive()
    }
}

impl<T: Transport> BlockClient<T> {
    /// Asks the driver what the disk is.
    pub async fn connect(transport: T) -> Result<Self, BlockError> {
        let words = persist(&transport, Request::Describe, async || Err(BlockError::BadBuffer)).await?;
        let description = Description::decode(&words).ok_or(BlockError::DeviceFailed)?;
        Ok(Self(Rc::new(Inner {
            transport,
            description,
            buffers: RefCell::new([const { None }; MAX_BUFFERS as usize]),
            next_id: Cell::new(1),
            permits: Permits::new(MAX_REQUESTS),
        })))
    }

    /// What the disk is.
    pub fn description(&self) -> &Description {
        &self.0.description
    }

    /// Lets requests name the first `len_bytes` of a memory, which must not be managed.
    pub async fn attach(&self, memory: T::Memory, len_bytes: u64) -> Result<Buffer, BlockError> {
        let buffer = {
            let mut buffers = self.0.buffers.borrow_mut();
            let (slot, number) =
                buffers.iter_mut().zip(0..).find(|(slot, _)| slot.is_none()).ok_or(BlockError::BadBuffer)?;
            *slot = Some(Attached {
                memory: Rc::new(memory),
                len_bytes,
                generation: 0,
                is_being_attached: false,
                waiting: Vec::new(),
            });
            Buffer(number)
        };
        // Attaching is what the first request of a successor does, too.
        let mut patience = Patience::default();
        while self.0.generation(buffer)? == 0 {
            self.0.attach_again(buffer, 0).await?;
            patience.wait(&self.0.transport).await?;
        }
        Ok(buffer)
    }

    /// How often a memory was attached: once, and once again for each driver that came after the first and was asked for something.
    ///
    /// # Errors
    /// [`BlockError::BadBuffer`]: it is not attached.
    pub fn times_attached(&self, buffer: Buffer) -> Result<u64, BlockError> {
        self.0.generation(buffer)
    }

    /// Forgets a memory. When this is done, the device does not touch it any more.
    pub async fn detach(&self, buffer: Buffer) -> Result<(), BlockError> {
        let Buffer(number) = buffer;
        let request = Request::Detach { buffer: number };
        // A successor that knows no such buffer is as good.
        let result = match persist(&self.0.transport, request, async || Err(BlockError::BadBuffer)).await {
            Ok(_) | Err(BlockError::BadBuffer) => Ok(()),
            Err(error) => Err(error),
        };
        if let Some(slot) = self.0.buffers.borrow_mut().get_mut(number as usize) {
            *slot = None;
        }
        result
    }

    /// Reads `count` sectors from `first` on to `offset` (a multiple of [`SECTOR_BYTES`]) of an attached memory. Any number will do:
    /// what is too long for one request is several, under way at once.
    pub async fn read(&self, first: u64, count: u64, buffer: Buffer, offset: u64) -> Result<(), BlockError> {
        let range = self.checked(SectorRange { first, count })?;
        self.transfer(range, buffer, offset, |id, transfer| Request::Read { id, transfer }).await
    }

    /// Writes `count` sectors from `first` on from `offset` (a multiple of [`SECTOR_BYTES`]) of an attached memory.
    pub async fn write(
        &self,
        first: u64,
        count: u64,
        buffer: Buffer,
        offset: u64,
        flags: WriteFlags,
    ) -> Result<(), BlockError> {
        let range = self.writable(SectorRange { first, count })?;
        self.transfer(range, buffer, offset, |id, transfer| Request::Write { id, transfer, flags }).await
    }

    /// Makes durable what was written by requests that are done.
    pub async fn flush(&self) -> Result<(), BlockError> {
        if !self.0.description.abilities.contains(Abilities::FLUSH) {
            return Ok(());
        }
        let id = self.0.next_id();
        self.0.perform(Request::Flush { id }, None).await
    }

    /// Tells the disk that nobody needs what these sectors hold. Does nothing on a disk that has no use for that.
    pub async fn discard(&self, first: u64, count: u64) -> Result<(), BlockError> {
        let range = self.writable(SectorRange { first, count })?;
        if !self.0.description.abilities.contains(Abilities::DISCARD) {
            return Ok(());
        }
        let id = self.0.next_id();
        self.0.perform(Request::Discard { id, range }, None).await
    }

    /// Makes sectors read as zeroes. [`BlockError::Unsupported`] if the disk can't: then zeroes must be written.
    pub async fn write_zeroes(&self, first: u64, count: u64) -> Result<(), BlockError> {
        let range = self.writable(SectorRange { first, count })?;
        if !self.0.description.abilities.contains(Abilities::WRITE_ZEROES) {
            return Err(BlockError::Unsupported);
        }
        let id = self.0.next_id();
        self.0.perform(Request::WriteZeroes { id, range }, None).await
    }

    fn checked(&self, range: SectorRange) -> Result<SectorRange, BlockError> {
        let description = &self.0.description;
        let block = description.block_sectors();
        let is_whole = range.first.is_multiple_of(block) && range.count.is_multiple_of(block);
        if is_whole && range.is_within(description.sectors) { Ok(range) } else { Err(BlockError::OutOfRange) }
    }

    fn writable(&self, range: SectorRange) -> Result<SectorRange, BlockError> {
        if self.0.description.abilities.contains(Abilities::READ_ONLY) {
            return Err(BlockError::OutOfRange);
        }
        self.checked(range)
    }

    async fn transfer(
        &self,
        range: SectorRange,
        buffer: Buffer,
        offset: u64,
        request: impl Fn(u64, Transfer) -> Request,
    ) -> Result<(), BlockError> {
        self.0.check_part(buffer, offset, range.len_bytes())?;
        let whole = Transfer { range, buffer: buffer.0, offset };
        if whole.pages().is_some() {
            return self.0.perform(request(self.0.next_id(), whole), Some(buffer)).await;
        }
        let block = self.0.description.block_sectors();
        let parts = pieces(whole, block).map(|part| self.0.perform(request(self.0.next_id(), part), Some(buffer)));
        // All are waited for, also when one fails: the memory is the device's until then.
        join_all(parts).await.into_iter().collect()
    }
}

/// Cuts a transfer into such as one request may bear, each of whole blocks.
fn pieces(whole: Transfer, block_sectors: u64) -> impl Iterator<Item = Transfer> {
    let mut rest = whole;
    core::iter::from_fn(move || {
        let in_pages = (MAX_PAGES * PAGE_BYTES - rest.offset % PAGE_BYTES) / SECTOR_BYTES;
        let longest = in_pages.min(MAX_SECTORS);
        let longest = (longest - longest % block_sectors).max(block_sectors);
        let count = rest.range.count.min(longest);
        let piece = Transfer { range: SectorRange { count, ..rest.range }, ..rest };
        rest.range.first += count;
        rest.range.count -= count;
        rest.offset += count * SECTOR_BYTES;
        (count > 0).then_some(piece)
    })
}

impl<T: Transport> Inner<T> {
    fn next_id(&self) -> u64 {
        self.next_id.replace(self.next_id.get().wrapping_add(1))
    }

    /// Has a request done, whatever becomes of the driver.
    async fn perform(&self, request: Request, buffer: Option<Buffer>) -> Result<(), BlockError> {
        let _permit = self.permits.acquire().await;
        let generation = Cell::new(buffer.map_or(Ok(0), |buffer| self.generation(buffer))?);
        let attach = async || {
            let buffer = buffer.ok_or(BlockError::BadBuffer)?;
            self.attach_again(buffer, generation.get()).await?;
            generation.set(self.generation(buffer)?);
            Ok(())
        };
        persist(&self.transport, request, attach).await.map(|_| ())
    }

    fn with_buffer<R>(
        &self,
        buffer: Buffer,
        use_it: impl FnOnce(&mut Attached<T::Memory>) -> R,
    ) -> Result<R, BlockError> {
        let mut buffers = self.buffers.borrow_mut();
        let attached = buffers.get_mut(buffer.0 as usize).and_then(Option::as_mut);
        attached.map(use_it).ok_or(BlockError::BadBuffer)
    }

    fn generation(&self, buffer: Buffer) -> Result<u64, BlockError> {
        self.with_buffer(buffer, |attached| attached.generation)
    }

    fn check_part(&self, buffer: Buffer, offset: u64, len_bytes: u64) -> Result<(), BlockError> {
        let is_part = self.with_buffer(buffer, |attached| {
            offset.checked_add(len_bytes).is_some_and(|end| end <= attached.len_bytes)
        })?;
        if is_part && offset.is_multiple_of(SECTOR_BYTES) { Ok(()) } else { Err(BlockError::BadBuffer) }
    }

    /// Attaches a memory that the driver did not know, unless somebody has since it was attached for the `seen`-th time. That the
    /// driver dies meanwhile is no error: it will be found unknown again.
    async fn attach_again(&self, buffer: Buffer, seen: u64) -> Result<(), BlockError> {
        let Some(memory) = core::future::poll_fn(|context| self.poll_turn(buffer, seen, context.waker())).await? else {
            return Ok(());
        };
        let turn = Turn { inner: self, buffer };
        let (label, words) = Request::Attach { buffer: buffer.0 }.encode();
        let answer = self.transport.call(label, words, Some(&memory)).await;
        drop(turn);
        match answer.map(|(label, _)| Refusal::check(label)) {
            Ok(Ok(())) => self.with_buffer(buffer, |attached| attached.generation += 1),
            Ok(Err(Refusal::Busy)) | Err(CallError::PeerClosed | CallError::Busy) => Ok(()),
            Ok(Err(Refusal::DeviceFailed)) => Err(BlockError::DeviceFailed),
            Ok(Err(Refusal::Unknown | Refusal::BadBuffer)) => Err(BlockError::BadBuffer),
        }
    }

    /// Whose turn it is to attach a memory: the memory, or `None` if it has been attached meanwhile.
    fn poll_turn(&self, buffer: Buffer, seen: u64, waker: &Waker) -> Poll<Result<Option<Rc<T::Memory>>, BlockError>> {
        let polled = self.with_buffer(buffer, |attached| {
            if attached.generation != seen {
                Poll::Ready(None)
            } else if attached.is_being_attached {
                attached.waiting.push(waker.clone());
                Poll::Pending
            } else {
                attached.is_being_attached = true;
                Poll::Ready(Some(Rc::clone(&attached.memory)))
            }
        });
        match polled {
            Ok(poll) => poll.map(Ok),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// The turn to attach a memory; over, those who wait look again.
struct Turn<'a, T: Transport> {
    inner: &'a Inner<T>,
    buffer: Buffer,
}

impl<T: Transport> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        let waiting = self.inner.with_buffer(self.buffer, |attached| {
            attached.is_being_attached = false;
            core::mem::take(&mut attached.waiting)
        });
        waiting.into_iter().flatten().for_each(Waker::wake);
    }
}

/// Sends a request until it is answered. What names an unknown buffer is sent again after `attach`.
async fn persist<T: Transport>(
    transport: &T,
    request: Request,
    attach: impl AsyncFn() -> Result<(), BlockError>,
) -> Result<Words, BlockError> {
    let (label, words) = request.encode();
    let mut patience = Patience::default();
    loop {
        match transport.call(label, words, None).await {
            Ok((label, words)) => match Refusal::check(label) {
                Ok(()) => return Ok(words),
                Err(Refusal::DeviceFailed) => return Err(BlockError::DeviceFailed),
                Err(Refusal::Unknown) => return Err(BlockError::OutOfRange),
                Err(Refusal::BadBuffer) => attach().await?,
                Err(Refusal::Busy) => {}
            },
            Err(CallError::PeerClosed | CallError::Busy) => {}
        }
        patience.wait(transport).await?;
    }
}

/// How long somebody goes on trying.
#[derive(Default)]
struct Patience {
    began_ns: Option<u64>,
    next_pause_ns: u64,
}

impl Patience {
    /// Waits before the next attempt: not at all before the second.
    async fn wait<T: Transport>(&mut self, transport: &T) -> Result<(), BlockError> {
        let now_ns = transport.now_ns();
        let began_ns = *self.began_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(began_ns) > PATIENCE_NS {
            return Err(BlockError::Gone);
        }
        if self.next_pause_ns > 0 {
            transport.pause(self.next_pause_ns).await;
        }
        self.next_pause_ns = (self.next_pause_ns * 2).clamp(FIRST_PAUSE_NS, LONGEST_PAUSE_NS);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
