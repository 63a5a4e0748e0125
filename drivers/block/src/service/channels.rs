//! The channels of a disk: what each may reach, its memories, and what waits for room.

use super::ChannelId;
use super::disk::Client;
use super::jobs::Kind;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use driver_protocol::block::{Abilities, Description, MAX_BUFFERS, MAX_REQUESTS, SectorRange};
use driver_protocol::{ANSWERED, Refusal, Words};

/// A request that waits for room.
pub(super) struct Waiting<C> {
    pub(super) kind: Kind,
    pub(super) client: C,
}

/// An open channel.
pub(super) struct Channel<M, C> {
    range: SectorRange,
    is_read_only: bool,
    memories: [Option<M>; MAX_BUFFERS as usize],
    waiting: VecDeque<Waiting<C>>,
    /// How many of its requests the disk has.
    jobs: usize,
    /// Clients that wait until the disk has let go of what a number meant.
    leavers: Vec<(u64, C)>,
}

impl<M, C: Client> Channel<M, C> {
    pub(super) fn first_sector(&self) -> u64 {
        self.range.first
    }

    pub(super) fn sectors(&self) -> u64 {
        self.range.count
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// The disk, as the channel shows it.
    pub(super) fn describe(&self, disk: &Description) -> Description {
        let read_only = if self.is_read_only { Abilities::READ_ONLY } else { Abilities::empty() };
        Description { sectors: self.range.count, abilities: disk.abilities | read_only, ..*disk }
    }

    pub(super) fn is_full(&self) -> bool {
        self.jobs + self.waiting.len() + self.leavers.len() >= MAX_REQUESTS
    }

    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    #[inline]
    pub(super) fn memory(&self, buffer: u64) -> Option<&M> {
        self.memories.get(buffer as usize)?.as_ref()
    }

    /// Gives a number to a memory. If another had it, whoever attached that is gone, or wants nothing more to do with it: what waits
    /// and names it is refused, and the client waits until no job uses it, so that an old write can't overtake a new one.
    pub(super) fn attach(&mut self, buffer: u64, memory: M, client: C) {
        let Some(slot) = self.memories.get_mut(buffer as usize) else {
            return client.answer(Refusal::BadBuffer as u64, Words::default());
        };
        if slot.replace(memory).is_none() {
            return client.answer(ANSWERED, Words::default());
        }
        let waiting = core::mem::take(&mut self.waiting).into_iter();
        let (stale, rest): (VecDeque<_>, VecDeque<_>) =
            waiting.partition(|request| request.kind.buffer() == Some(buffer));
        self.waiting = rest;
        for request in stale {
            request.client.answer(Refusal::BadBuffer as u64, Words::default());
        }
        self.leavers.push((buffer, client));
    }

    /// Forgets a memory; the client waits until no job uses it. Gives the client back if there is no such memory.
    pub(super) fn detach(&mut self, buffer: u64, client: C) -> Result<(), C> {
        let known = self.memories.get_mut(buffer as usize).and_then(Option::take);
        if known.is_none() || self.is_full() {
            return Err(client);
        }
        self.leavers.push((buffer, client));
        Ok(())
    }

    pub(super) fn has_leavers(&self) -> bool {
        !self.leavers.is_empty()
    }

    pub(super) fn let_leavers_go(&mut self, is_used: impl Fn(u64) -> bool) {
        let can_go = |(buffer, _): &mut (u64, C)| !is_used(*buffer);
        for (_, client) in self.leavers.extract_if(.., can_go) {
            client.answer(ANSWERED, Words::default());
        }
    }

    pub(super) fn job_begins(&mut self) {
        self.jobs += 1;
    }

    pub(super) fn job_ends(&mut self) {
        self.jobs = self.jobs.saturating_sub(1);
    }
}

struct Entry<M, C> {
    generation: u32,
    channel: Option<Channel<M, C>>,
}

/// All channels.
pub(super) struct Channels<M, C> {
    entries: Vec<Entry<M, C>>,
    /// Channels with requests that wait, in the order of their turns. Some of them may have none any more.
    turns: VecDeque<usize>,
}

impl<M, C> Default for Channels<M, C> {
    fn default() -> Self {
        Self { entries: Vec::new(), turns: VecDeque::new() }
    }
}

impl<M, C: Client> Channels<M, C> {
    /// Opens a channel, if there are fewer than `most`.
    pub(super) fn open(&mut self, range: SectorRange, is_read_only: bool, most: usize) -> Option<ChannelId> {
        let channel = Channel {
            range,
            is_read_only,
            memories: [const { None }; MAX_BUFFERS as usize],
            waiting: VecDeque::new(),
            jobs: 0,
            leavers: Vec::new(),
        };
        let index = match self.entries.iter().position(|entry| entry.channel.is_none()) {
            Some(index) => index,
            None if self.entries.len() < most => {
                self.entries.push(Entry { generation: 0, channel: None });
                self.entries.len() - 1
            }
            None => return None,
        };
        let entry = self.entries.get_mut(index)?;
        entry.generation = entry.generation.wrapping_add(1);
        entry.channel = Some(channel);
        Some(ChannelId { index, generation: entry.generation })
    }

    #[inline]
    pub(super) fn get(&mut self, id: ChannelId) -> Option<&mut Channel<M, C>> {
        let entry = self.entries.get_mut(id.index)?;
        if entry.generation == id.generation { entry.channel.as_mut() } else { None }
    }

    pub(super) fn close(&mut self, id: ChannelId) {
        if let Some(entry) = self.entries.get_mut(id.index).filter(|entry| entry.generation == id.generation) {
            entry.channel = None;
        }
    }

    /// Has a request wait.
    pub(super) fn wait(&mut self, id: ChannelId, request: Waiting<C>) {
        let Some(channel) = self.get(id) else { return };
        let is_first = channel.waiting.is_empty();
        channel.waiting.push_back(request);
        if is_first {
            self.turns.push_back(id.index);
        }
    }

    /// The next request that waits, of the channel whose turn it is.
    pub(super) fn next_waiting(&mut self) -> Option<(ChannelId, Waiting<C>)> {
        while let Some(index) = self.turns.pop_front() {
            let Some(entry) = self.entries.get_mut(index) else { continue };
            let id = ChannelId { index, generation: entry.generation };
            let Some(channel) = &mut entry.channel else { continue };
            let Some(request) = channel.waiting.pop_front() else { continue };
            if !channel.waiting.is_empty() {
                self.turns.push_back(index);
            }
            return Some((id, request));
        }
        None
    }
}
