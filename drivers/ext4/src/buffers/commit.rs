//! From finished operations to what is durable.

use super::freed::Freed;
use super::{Block, Buffers, Health, Running, Transaction, TransactionId};
use crate::device::Device;
use crate::error::{Error, Result};
use alloc::collections::BTreeMap;
use alloc::rc::Rc;

/// Most blocks of a transaction where no journal sets a limit.
const UNJOURNALED_BLOCKS: usize = 1024;

/// A transaction that takes no more changes: what its blocks held when it closed.
pub(super) struct Closed {
    pub(super) id: TransactionId,
    pub(super) blocks: BTreeMap<u64, Rc<[u8]>>,
    pub(super) freed: Freed,
}

/// Whether an operation may begin.
enum Room {
    Enough,
    /// The running transaction is full.
    AfterCommit,
}

impl<D: Device> Buffers<D> {
    /// Opens an operation that changes or frees at most `credits` blocks. Waits for the operation before it, and until there is
    /// room for that many. Must not be called by who has an open one.
    ///
    /// # Errors
    /// [`Error::ReadOnly`]; [`Error::Device`]: making room failed; [`Error::Unsupported`]: more than any transaction can have.
    pub async fn begin(&self, credits: u32) -> Result<Transaction<'_, D>> {
        loop {
            let alone = self.operation.lock().await;
            self.check_writable()?;
            match self.room_for(credits as usize)? {
                Room::Enough => return Ok(Transaction::new(self, alone, credits)),
                Room::AfterCommit => drop(alone),
            }
            self.commit().await?;
        }
    }

    fn room_for(&self, credits: usize) -> Result<Room> {
        if credits > UNJOURNALED_BLOCKS {
            return Err(Error::Unsupported("an operation of more blocks than a transaction may have"));
        }
        let state = self.state.borrow();
        let held = state.running.blocks.len() + state.running.revoked.len();
        Ok(if held + credits <= UNJOURNALED_BLOCKS { Room::Enough } else { Room::AfterCommit })
    }

    /// Makes durable all that was finished before this call; callers that come together share one commit. Must not be called
    /// by who has an open operation. Dropped half-way, it is taken up by the next call.
    ///
    /// # Errors
    /// [`Error::Device`]: a write failed just now; [`Error::ReadOnly`]: one has before.
    pub async fn commit(&self) -> Result<TransactionId> {
        let Some(wanted) = self.last_changed() else { return Ok(self.committed()) };
        while self.committed() < wanted {
            let _writer = self.writer.lock().await;
            if self.committed() >= wanted {
                break;
            }
            self.check_healthy()?;
            let closed = match self.closed() {
                Some(closed) => closed,
                None => self.close().await,
            };
            self.write_closed(&closed).await?;
        }
        Ok(self.committed())
    }

    /// The last transaction with changes that are not durable.
    fn last_changed(&self) -> Option<TransactionId> {
        let state = self.state.borrow();
        let running = (!state.running.is_empty()).then_some(state.running.id);
        running.or_else(|| state.closed.as_ref().map(|closed| closed.id))
    }

    fn closed(&self) -> Option<Rc<Closed>> {
        self.state.borrow().closed.clone()
    }

    /// Closes the running transaction: the next operation joins the one after it.
    async fn close(&self) -> Rc<Closed> {
        let _alone = self.operation.lock().await;
        let seal = self.seal.borrow().clone();
        let running = {
            let mut state = self.state.borrow_mut();
            let next = Running::new(state.running.id.next());
            core::mem::replace(&mut state.running, next)
        };
        if let Some(seal) = seal {
            seal.seal(&running.blocks);
        }
        self.device.closing(running.id);
        let freeze = |(number, block): (&u64, &Block)| {
            block.set_dirty(false);
            (*number, block.bytes())
        };
        let blocks = running.blocks.iter().map(freeze).collect();
        let closed = Rc::new(Closed { id: running.id, blocks, freed: running.freed });
        self.state.borrow_mut().closed = Some(closed.clone());
        closed
    }

    async fn write_closed(&self, closed: &Closed) -> Result<()> {
        self.device.settle(closed.id).await.map_err(|_| self.fail("file data"))?;
        self.write_in_place(closed).await.map_err(|_| self.fail("metadata"))?;
        let mut state = self.state.borrow_mut();
        state.closed = None;
        state.committed = closed.id;
        Ok(())
    }

    async fn write_in_place(&self, closed: &Closed) -> Result<(), crate::DeviceFailed> {
        for (number, bytes) in &closed.blocks {
            self.device.write(self.sector_of(*number), bytes).await?;
        }
        self.device.flush().await
    }

    /// Whether a write has failed, so that nothing is written any more.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.state.borrow().health == Health::Failed
    }
}
