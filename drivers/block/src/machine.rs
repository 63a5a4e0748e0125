//! The client on its objects: a channel to the driver, an executor, memories.

use crate::client::{BlockClient, BlockError, Buffer, CallError, Transport};
use crate::gpt::ReadSectors;
use driver_protocol::Words;
use driver_protocol::block::SECTOR_BYTES;
use quire_api::executor::Buffers;
use quire_api::{ChannelEndpoint, Error, Executor, Memory, Message, Object, Rights};

/// What a driver may do with a client's memory: have the device read and write it.
const MEMORY_RIGHTS: Rights = Rights::READ.union(Rights::WRITE).union(Rights::MAP).union(Rights::TRANSFER);

/// The way to a driver.
#[derive(Debug)]
pub struct Connection {
    executor: Executor,
    channel: ChannelEndpoint,
}

/// A disk behind a channel.
pub type Disk = BlockClient<Connection>;

impl Connection {
    /// Takes the client's end of a channel that a driver serves. Needs `SEND`.
    pub fn new(executor: &Executor, channel: ChannelEndpoint) -> Self {
        Self { executor: executor.clone(), channel }
    }
}

impl Transport for Connection {
    type Memory = Memory;

    async fn call(&self, label: u64, words: Words, memory: Option<&Memory>) -> Result<(u64, Words), CallError> {
        let mut message = Message::new(label, words);
        if let Some(memory) = memory {
            let shown = memory.duplicate(MEMORY_RIGHTS).map_err(call_error)?;
            message = message.with_handle(0, shown.into_handle());
        }
        let answer = self.executor.call(&self.channel, message, Buffers::default()).await.map_err(call_error)?;
        Ok((answer.message.label, answer.message.words))
    }

    fn now_ns(&self) -> u64 {
        self.executor.now_ns()
    }

    async fn pause(&self, duration_ns: u64) {
        self.executor.sleep_ns(duration_ns).await;
    }
}

fn call_error(error: Error) -> CallError {
    if error == Error::PeerClosed { CallError::PeerClosed } else { CallError::Busy }
}

/// A disk whose sectors are read into the program's own bytes, by way of a memory: for the little that is looked at by the program
/// itself, such as a partition table.
#[derive(Debug)]
pub struct StagedDisk<'a> {
    disk: &'a Disk,
    memory: Memory,
    len_bytes: u64,
    buffer: Buffer,
}

impl<'a> StagedDisk<'a> {
    /// Attaches `memory`, which is `len_bytes` long. Needs `READ`, `WRITE`, `MAP`, `DUPLICATE` and `TRANSFER`.
    pub async fn new(disk: &'a Disk, memory: Memory, len_bytes: u64) -> Result<Self, BlockError> {
        let shown = memory.duplicate(Rights::all()).map_err(|_| BlockError::BadBuffer)?;
        let buffer = disk.attach(shown, len_bytes).await?;
        Ok(Self { disk, memory, len_bytes, buffer })
    }

    /// Gives the memory back.
    pub async fn detach(self) -> Result<(), BlockError> {
        self.disk.detach(self.buffer).await
    }
}

impl ReadSectors for StagedDisk<'_> {
    type Error = BlockError;

    async fn read(&self, first: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        let mut at = first;
        for part in buffer.chunks_mut(self.len_bytes as usize) {
            let count = part.len() as u64 / SECTOR_BYTES;
            self.disk.read(at, count, self.buffer, 0).await?;
            self.memory.read_exact(0, part).map_err(|_| BlockError::BadBuffer)?;
            at += count;
        }
        Ok(())
    }
}
