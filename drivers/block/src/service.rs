//! What a disk's driver does for its clients, whatever the disk: a state machine that never waits, generic over the disk, over the
//! way to clients' memories and over the clients, so that all of it runs on the host.
//!
//! The life of a request: it comes on a channel and is checked against the channel's range. If the disk has room it becomes a *job*
//! with a *tag*; the pages of the client's memory are pinned, and their addresses handed to the disk. Without room it waits; channels
//! have their turns one after the other. The disk is told of all new jobs at once, at the end of [`Service::work`]. When it says that
//! a job is done, the pages are let go, and the client is answered. Nothing is allocated or copied for that.
//!
//! **A disk that fails** at more than one job (it answers nonsense, or a job takes longer than [`JOB_TIMEOUT_NS`]) is restarted, and is
//! given all jobs again; a job that has seen [`MAX_TRIES`] of that is refused. A disk that can't even be restarted has every request
//! refused, and is tried again every [`RETRY_NS`]: it may come back. Until then the pages that it may still write to stay pinned.

mod channels;
mod disk;
mod jobs;

pub use disk::{
    Client, Command, Direction, Disk, DiskFailed, Done, Frames, Limits, Outcome, Restart, Segment, Segments,
};

use alloc::vec::Vec;
use channels::{Channel, Channels, Waiting};
use driver_protocol::block::{Abilities, Description, MAX_CHANNELS, Request, SectorRange, WriteFlags};
use driver_protocol::{ANSWERED, Refusal, Words};
use jobs::{Job, Jobs, Kind};
use log::{error, warn};

/// How long a disk may take over one job, in ns, before it is restarted.
pub const JOB_TIMEOUT_NS: u64 = 15_000_000_000;
/// How often a job is given to a disk that had to be restarted.
pub const MAX_TRIES: u8 = 3;
/// When a disk that could not be restarted is tried again, in ns.
pub const RETRY_NS: u64 = 1_000_000_000;
/// How often the driver looks at a disk that owes something, in ns, in case an interrupt got lost.
const LOOK_NS: u64 = 100_000_000;
/// How often a disk is restarted without doing a single job in between, before it counts as one that can't be.
const MAX_RESTARTS: u8 = 4;

/// When [`Service::work`] wants to be called again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// At the next interrupt or request.
    AtEvent,
    /// Then too, but at this time at the latest, in ns.
    Before(u64),
}

/// Where the disk is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// It is being started again; to be asked again at this time.
    Restarting(u64),
    /// It could not be started again; to be tried again at this time.
    Failed(u64),
}

/// A channel, as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelId {
    index: usize,
    generation: u32,
}

/// The service of one disk.
pub struct Service<D: Disk, F: Frames, C: Client> {
    disk: D,
    frames: F,
    description: Description,
    limits: Limits,
    state: State,
    channels: Channels<F::Memory, C>,
    jobs: Jobs<F::Mapping, C>,
    /// What a disk that can't be restarted may still write to.
    stuck: Vec<F::Mapping>,
    /// Whether the disk was given jobs of which it has not been told.
    has_news: bool,
    next_look_ns: u64,
    /// How often the disk was restarted since it last did a job.
    restarts: u8,
}

impl<D: Disk, F: Frames, C: Client> Service<D, F, C> {
    /// Takes a disk that was started.
    pub fn new(disk: D, frames: F) -> Self {
        let (description, limits) = (disk.description(), disk.limits());
        Self {
            disk,
            frames,
            description,
            limits,
            state: State::Running,
            channels: Channels::default(),
            jobs: Jobs::new(limits.in_flight),
            stuck: Vec::new(),
            has_news: false,
            next_look_ns: 0,
            restarts: 0,
        }
    }

    /// What the disk is.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// The disk.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Opens a channel to a part of the disk.
    pub fn open(&mut self, range: SectorRange, writable: bool) -> Result<ChannelId, Refusal> {
        let block = self.description.block_sectors();
        let is_whole = range.first.is_multiple_of(block) && range.count.is_multiple_of(block);
        if !is_whole || !range.is_within(self.description.sectors) {
            return Err(Refusal::Unknown);
        }
        let is_read_only = !writable || self.description.abilities.contains(Abilities::READ_ONLY);
        self.channels.open(range, is_read_only, MAX_CHANNELS).ok_or(Refusal::Busy)
    }

    /// The client of a channel is gone: what waits is forgotten, what the disk has goes on.
    pub fn close(&mut self, id: ChannelId) {
        self.channels.close(id);
    }

    /// Takes a request in. [`work`](Self::work) must be called afterwards, once for many.
    pub fn request(
        &mut self,
        now_ns: u64,
        id: ChannelId,
        (label, words): (u64, &Words),
        memory: Option<F::Memory>,
        client: C,
    ) {
        let Some(channel) = self.channels.get(id) else { return refuse(client, Refusal::Unknown) };
        let Some(request) = Request::decode(label, words) else { return refuse(client, Refusal::Unknown) };
        let kind = match request {
            Request::Describe => return client.answer(ANSWERED, channel.describe(&self.description).encode()),
            Request::Attach { buffer } => return self.attach(id, buffer, memory, client),
            Request::Detach { buffer } => return self.detach(id, buffer, client),
            Request::Read { id: _, transfer } => Kind::Read { transfer },
            Request::Write { id: _, transfer, flags } => {
                Kind::Write { transfer, durable: flags.contains(WriteFlags::DURABLE) }
            }
            Request::Flush { id: _ } => Kind::Flush,
            Request::Discard { id: _, range } => Kind::Discard { range },
            Request::WriteZeroes { id: _, range } => Kind::WriteZeroes { range },
        };
        match check(channel, kind, &self.description) {
            Err(refusal) => refuse(client, refusal),
            Ok(Check::AlreadyDone) => client.answer(ANSWERED, Words::default()),
            Ok(Check::Valid) if matches!(self.state, State::Failed(_)) => refuse(client, Refusal::DeviceFailed),
            Ok(Check::Valid) => self.accept(now_ns, id, kind, client),
        }
    }

    /// Begins a job, or has it wait for its turn.
    fn accept(&mut self, now_ns: u64, id: ChannelId, kind: Kind, client: C) {
        let Some(channel) = self.channels.get(id) else { return refuse(client, Refusal::Unknown) };
        if channel.is_full() {
            return refuse(client, Refusal::Busy);
        }
        if self.state == State::Running && !channel.is_waiting() && self.jobs.has_room() {
            self.begin(now_ns, id, kind, client);
        } else {
            self.channels.wait(id, Waiting { kind, client });
        }
    }

    /// Makes a request a job. There must be room.
    fn begin(&mut self, now_ns: u64, id: ChannelId, kind: Kind, client: C) {
        let Some(channel) = self.channels.get(id) else { return };
        let mut job = Job::new(id, kind.on_disk(channel.first_sector()), now_ns, client);
        let addresses = self.jobs.next_addresses();
        if let Some((transfer, direction)) = job.transfer() {
            let memory = channel.memory(transfer.buffer);
            let pages = transfer.pages().filter(|_| memory.is_some());
            let (Some(memory), Some((first, count))) = (memory, pages) else {
                return refuse(job.client, Refusal::BadBuffer);
            };
            let Some(addresses) = addresses.get_mut(..count as usize) else {
                return refuse(job.client, Refusal::BadBuffer);
            };
            match self.frames.map(memory, first, direction, addresses) {
                Ok(mapping) => job.mapping = Some(mapping),
                Err(refusal) => return refuse(job.client, refusal),
            }
        }
        channel.job_begins();
        let Some(tag) = self.jobs.add(job) else { return };
        if self.give(tag).is_err() {
            // It is the next `work` that restarts the disk.
            self.state = State::Failed(now_ns);
        }
    }

    /// Gives the next part of a job to the disk.
    fn give(&mut self, tag: u16) -> Result<(), DiskFailed> {
        let Some((job, addresses)) = self.jobs.get(tag) else { return Ok(()) };
        let command = job.next_command(&self.limits);
        let segments = job.segments(command.range, addresses, &self.limits);
        self.has_news = true;
        self.disk.submit(tag, &command, segments)
    }

    /// Does what can be done at `now_ns`: answers what is done, begins what waits, tells the disk.
    pub fn work(&mut self, now_ns: u64) -> Next {
        while self.advance(now_ns).is_err() {
            // Comes to an end: after MAX_RESTARTS the disk has failed.
            self.restart(now_ns);
        }
        match self.state {
            State::Restarting(at_ns) | State::Failed(at_ns) => Next::Before(at_ns),
            State::Running if self.jobs.is_empty() => Next::AtEvent,
            State::Running => Next::Before(self.next_look_ns),
        }
    }

    fn advance(&mut self, now_ns: u64) -> Result<(), DiskFailed> {
        match self.state {
            State::Running => {}
            State::Restarting(at_ns) | State::Failed(at_ns) if at_ns > now_ns => return Ok(()),
            State::Restarting(_) => self.go_on_restarting(now_ns),
            State::Failed(_) => self.restart(now_ns),
        }
        if self.state != State::Running {
            return Ok(());
        }
        if now_ns >= self.next_look_ns {
            self.next_look_ns = now_ns.saturating_add(LOOK_NS);
            self.look_for_timeouts(now_ns)?;
        }
        while let Some(Done { tag, outcome }) = self.disk.complete()? {
            self.complete(now_ns, tag, outcome)?;
        }
        self.begin_waiting(now_ns);
        if core::mem::take(&mut self.has_news) {
            self.disk.notify()?;
        }
        Ok(())
    }

    /// The disk is done with what it was given of a job.
    fn complete(&mut self, now_ns: u64, tag: u16, outcome: Outcome) -> Result<(), DiskFailed> {
        let Some((job, _)) = self.jobs.get(tag) else { return Err(DiskFailed) };
        let refusal = match outcome {
            Outcome::Done => None,
            Outcome::Failed => Some(Refusal::DeviceFailed),
            Outcome::Unsupported => Some(Refusal::Unknown),
        };
        let is_over = job.part_done(&self.limits, &self.description);
        job.began_ns = now_ns;
        self.restarts = 0;
        if refusal.is_none() && !is_over {
            return self.give(tag);
        }
        self.finish(tag, refusal);
        Ok(())
    }

    /// A job is over: its pages are let go, its client is answered.
    fn finish(&mut self, tag: u16, refusal: Option<Refusal>) {
        let Some(job) = self.jobs.remove(tag) else { return };
        if let Some(mapping) = job.mapping {
            self.frames.unmap(mapping);
        }
        match refusal {
            None => job.client.answer(ANSWERED, Words::default()),
            Some(refusal) => refuse(job.client, refusal),
        }
        let Some(channel) = self.channels.get(job.channel) else { return };
        channel.job_ends();
        if channel.has_leavers() {
            self.let_leavers_go(job.channel);
        }
    }

    /// Begins what waits, channel by channel, as long as there is room.
    fn begin_waiting(&mut self, now_ns: u64) {
        while self.state == State::Running && self.jobs.has_room() {
            let Some((id, Waiting { kind, client })) = self.channels.next_waiting() else { return };
            self.begin(now_ns, id, kind, client);
        }
    }

    fn attach(&mut self, id: ChannelId, buffer: u64, memory: Option<F::Memory>, client: C) {
        let (Some(channel), Some(memory)) = (self.channels.get(id), memory) else {
            return refuse(client, Refusal::BadBuffer);
        };
        if channel.is_full() {
            return refuse(client, Refusal::Busy);
        }
        channel.attach(buffer, memory, client);
        self.let_leavers_go(id);
    }

    fn detach(&mut self, id: ChannelId, buffer: u64, client: C) {
        let Some(channel) = self.channels.get(id) else { return };
        match channel.detach(buffer, client) {
            Ok(()) => self.let_leavers_go(id),
            Err(client) => refuse(client, Refusal::BadBuffer),
        }
    }

    /// Answers those who wait for the disk to be done with a memory.
    fn let_leavers_go(&mut self, id: ChannelId) {
        let jobs = &self.jobs;
        let Some(channel) = self.channels.get(id) else { return };
        channel.let_leavers_go(|buffer| jobs.uses(id, buffer));
    }

    fn look_for_timeouts(&mut self, now_ns: u64) -> Result<(), DiskFailed> {
        let deadline_ns = now_ns.saturating_sub(JOB_TIMEOUT_NS);
        if self.jobs.tags().any(|tag| self.jobs.peek(tag).is_some_and(|job| job.began_ns < deadline_ns)) {
            warn!("the disk takes too long");
            return Err(DiskFailed);
        }
        Ok(())
    }

    /// Restarts the disk.
    fn restart(&mut self, now_ns: u64) {
        warn!("the disk does not do what it should: it is restarted");
        self.has_news = false;
        self.restarts += 1;
        let result = if self.restarts <= MAX_RESTARTS { self.disk.restart() } else { Err(DiskFailed) };
        self.take_restart(now_ns, result);
    }

    fn go_on_restarting(&mut self, now_ns: u64) {
        let result = self.disk.restart_step();
        self.take_restart(now_ns, result);
    }

    fn take_restart(&mut self, now_ns: u64, result: Result<Restart, DiskFailed>) {
        match result {
            Ok(Restart::Done) => {
                self.state = State::Running;
                self.stuck.drain(..).for_each(|mapping| self.frames.unmap(mapping));
                self.give_all_again(now_ns);
            }
            Ok(Restart::AgainIn(ns)) => self.state = State::Restarting(now_ns.saturating_add(ns)),
            Err(DiskFailed) => {
                error!("the disk can't be restarted");
                self.restarts = 0;
                self.state = State::Failed(now_ns.saturating_add(RETRY_NS));
                self.fail_all();
            }
        }
    }

    /// The disk has forgotten its jobs.
    fn give_all_again(&mut self, now_ns: u64) {
        for tag in 0..self.limits.in_flight {
            let Some((job, _)) = self.jobs.get(tag) else { continue };
            job.began_ns = now_ns;
            job.tries += 1;
            if job.tries >= MAX_TRIES {
                self.finish(tag, Some(Refusal::DeviceFailed));
            } else if self.give(tag).is_err() {
                // The others will be given again after the next restart, which is due at once.
                self.state = State::Failed(now_ns);
                return;
            }
        }
    }

    /// The disk is out of reach: everybody hears of it. What it may still write to stays pinned.
    fn fail_all(&mut self) {
        for tag in 0..self.limits.in_flight {
            if let Some((job, _)) = self.jobs.get(tag) {
                self.stuck.extend(job.mapping.take());
                self.finish(tag, Some(Refusal::DeviceFailed));
            }
        }
        while let Some((_, waiting)) = self.channels.next_waiting() {
            refuse(waiting.client, Refusal::DeviceFailed);
        }
    }
}

/// What a request deserves.
enum Check {
    Valid,
    /// There is nothing to do.
    AlreadyDone,
}

fn check<M, C: Client>(channel: &Channel<M, C>, kind: Kind, disk: &Description) -> Result<Check, Refusal> {
    let abilities = disk.abilities;
    if kind.writes() && channel.is_read_only() {
        return Err(Refusal::Unknown);
    }
    if let Some(range) = kind.range() {
        let block = disk.block_sectors();
        let is_whole = range.first.is_multiple_of(block) && range.count.is_multiple_of(block);
        if !is_whole || !range.is_within(channel.sectors()) {
            return Err(Refusal::Unknown);
        }
    }
    match kind {
        Kind::Flush if !abilities.contains(Abilities::FLUSH) => Ok(Check::AlreadyDone),
        Kind::Discard { range: _ } if !abilities.contains(Abilities::DISCARD) => Ok(Check::AlreadyDone),
        Kind::WriteZeroes { range: _ } if !abilities.contains(Abilities::WRITE_ZEROES) => Err(Refusal::Unknown),
        Kind::Read { transfer } | Kind::Write { transfer, durable: _ } if channel.memory(transfer.buffer).is_none() => {
            Err(Refusal::BadBuffer)
        }
        Kind::Read { .. } | Kind::Write { .. } | Kind::Flush | Kind::Discard { .. } | Kind::WriteZeroes { .. } => {
            Ok(Check::Valid)
        }
    }
}

fn refuse(client: impl Client, refusal: Refusal) {
    client.answer(refusal as u64, Words::default());
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
