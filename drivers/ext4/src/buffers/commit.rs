//! From finished operations to what is durable.

use super::{Block, Buffers, Copies, Health, Running, Transaction, TransactionId, write_home};
use crate::device::{Device, DeviceFailed};
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::ranges::Ranges;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// Most blocks of a transaction where no journal sets a limit.
const UNJOURNALED_BLOCKS: usize = 1024;
/// Blocks brought home at once, while a commit may have to wait.
const CHECKPOINT_BLOCKS: usize = 512;

/// A transaction that takes no more changes: what its blocks held when it closed.
pub(crate) struct Closed {
    pub(crate) id: TransactionId,
    /// By their numbers.
    pub(crate) blocks: Copies,
    pub(crate) revoked: Vec<u64>,
    pub(super) freed: Ranges,
}

impl Closed {
    pub(super) fn copy_of(&self, number: u64) -> Option<Rc<[u8]>> {
        let index = self.blocks.binary_search_by_key(&number, |(block, _)| *block).ok()?;
        self.blocks.get(index).map(|(_, bytes)| bytes.clone())
    }
}

/// Whether an operation may begin.
enum Room {
    Enough,
    /// The running transaction is full.
    AfterCommit,
    /// The log has to have room for so many blocks.
    AfterCheckpoint(usize),
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
                Room::AfterCommit => {
                    drop(alone);
                    self.commit().await?;
                }
                Room::AfterCheckpoint(wanted) => {
                    drop(alone);
                    self.make_room(wanted).await?;
                }
            }
        }
    }

    fn room_for(&self, credits: usize) -> Result<Room> {
        let state = self.state.borrow();
        let (blocks, revoked) = (state.running.blocks.len(), state.running.revoked.len());
        let cost = |blocks, revoked| match &self.journal {
            Some(journal) => journal.cost(blocks, revoked),
            None => blocks,
        };
        let (share, room) = match &self.journal {
            Some(journal) => (journal.share(), journal.room()),
            None => (UNJOURNALED_BLOCKS, usize::MAX),
        };
        if cost(credits, credits) > share {
            return Err(Error::Unsupported("an operation of more blocks than a transaction may have"));
        }
        let closed = state.closed.as_ref().map_or(0, |closed| cost(closed.blocks.len(), closed.revoked.len()));
        let wanted = cost(blocks + credits, revoked + credits);
        Ok(if wanted > share {
            Room::AfterCommit
        } else if wanted + closed > room {
            Room::AfterCheckpoint(wanted)
        } else {
            Room::Enough
        })
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
        let revoked = running.revoked.into_iter().collect();
        let closed = Rc::new(Closed { id: running.id, blocks, revoked, freed: running.freed });
        self.state.borrow_mut().closed = Some(closed.clone());
        closed
    }

    /// Makes a closed transaction durable.
    async fn write_closed(&self, closed: &Closed) -> Result<()> {
        let written = match &self.journal {
            Some(journal) => self.write_logged(journal, closed).await,
            None => self.write_in_place(closed).await,
        };
        if written.is_err() {
            return Err(self.give_up("a transaction").await);
        }
        let mut state = self.state.borrow_mut();
        state.closed = None;
        state.committed = closed.id;
        Ok(())
    }

    async fn write_logged(&self, journal: &Journal, closed: &Closed) -> Result<(), DeviceFailed> {
        let cost = journal.cost(closed.blocks.len(), closed.revoked.len());
        while journal.room() < cost && journal.is_in_use() {
            journal.checkpoint(&*self.device, CHECKPOINT_BLOCKS).await?;
        }
        journal.write(&*self.device, closed).await
    }

    async fn write_in_place(&self, closed: &Closed) -> Result<(), DeviceFailed> {
        write_home(&*self.device, &closed.blocks).await?;
        self.device.flush().await
    }

    /// Brings logged blocks home until the log has room for `wanted` more.
    async fn make_room(&self, wanted: usize) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let _writer = self.writer.lock().await;
        self.check_healthy()?;
        if let Some(closed) = self.closed() {
            self.write_closed(&closed).await?;
        }
        while journal.room() < wanted && journal.is_in_use() {
            self.bring_home(journal, CHECKPOINT_BLOCKS).await?;
        }
        Ok(())
    }

    async fn bring_home(&self, journal: &Journal, most: usize) -> Result<()> {
        match journal.checkpoint(&*self.device, most).await {
            Ok(()) => Ok(()),
            Err(DeviceFailed) => Err(self.give_up("logged blocks").await),
        }
    }

    /// Brings logged blocks home if there are many of them: for the time when nobody waits for a commit. A commit waits for one
    /// batch of it at most.
    ///
    /// # Errors
    /// [`Error::Device`]: a write failed just now; [`Error::ReadOnly`]: one has before.
    pub async fn tidy(&self) -> Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        while journal.is_crowded() {
            let _writer = self.writer.lock().await;
            self.check_healthy()?;
            self.bring_home(journal, CHECKPOINT_BLOCKS).await?;
        }
        Ok(())
    }

    /// Makes everything durable at its place, and marks the journal as empty. Operations may go on after it.
    ///
    /// # Errors
    /// [`Error::Device`]: a write failed just now; [`Error::ReadOnly`]: one has before.
    pub async fn settle_all(&self) -> Result<()> {
        self.commit().await?;
        let Some(journal) = &self.journal else { return Ok(()) };
        let _writer = self.writer.lock().await;
        self.check_healthy()?;
        if let Some(closed) = self.closed() {
            self.write_closed(&closed).await?;
        }
        match journal.empty(&*self.device).await {
            Ok(()) => Ok(()),
            Err(DeviceFailed) => Err(self.give_up("logged blocks").await),
        }
    }

    /// Ends all writing, with a note on the disk if that is possible.
    async fn give_up(&self, what: &str) -> Error {
        let error = self.fail(what);
        if let Some(journal) = &self.journal
            && journal.note_error(&*self.device).await.is_err()
        {
            log::warn!("ext4: the device did not take the note of its failure either");
        }
        error
    }

    /// Whether a write has failed, so that nothing is written any more.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.state.borrow().health == Health::Failed
    }
}
