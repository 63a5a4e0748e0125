//! What the disk has been given to do.

use super::ChannelId;
use super::disk::{Client, Command, Direction, Limits, Segments};
use alloc::vec;
use alloc::vec::Vec;
use driver_protocol::block::{Abilities, Description, MAX_PAGES, PAGE_BYTES, SECTOR_BYTES, SectorRange, Transfer};

/// What a client wants done; sectors count from the start of its channel's range, and of a job from that of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read { transfer: Transfer },
    Write { transfer: Transfer, durable: bool },
    Flush,
    Discard { range: SectorRange },
    WriteZeroes { range: SectorRange },
}

impl Kind {
    pub(super) fn writes(self) -> bool {
        match self {
            Self::Write { .. } | Self::Discard { .. } | Self::WriteZeroes { .. } => true,
            Self::Read { .. } | Self::Flush => false,
        }
    }

    pub(super) fn range(self) -> Option<SectorRange> {
        match self {
            Self::Read { transfer } | Self::Write { transfer, durable: _ } => Some(transfer.range),
            Self::Discard { range } | Self::WriteZeroes { range } => Some(range),
            Self::Flush => None,
        }
    }

    /// The memory that it names.
    pub(super) fn buffer(self) -> Option<u64> {
        match self {
            Self::Read { transfer } | Self::Write { transfer, durable: _ } => Some(transfer.buffer),
            Self::Flush | Self::Discard { .. } | Self::WriteZeroes { .. } => None,
        }
    }

    /// The same, counted from the start of the disk. The range was checked.
    pub(super) fn on_disk(mut self, channel_first: u64) -> Self {
        match &mut self {
            Self::Read { transfer } | Self::Write { transfer, durable: _ } => transfer.range.first += channel_first,
            Self::Discard { range } | Self::WriteZeroes { range } => range.first += channel_first,
            Self::Flush => {}
        }
        self
    }
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// So many of its sectors are done.
    Sectors { done: u64 },
    /// All are; they are being made durable.
    FlushAfter,
}

/// A request that the disk is working at.
pub(super) struct Job<M, C> {
    pub(super) channel: ChannelId,
    kind: Kind,
    stage: Stage,
    /// Its pages, as long as they are pinned.
    pub(super) mapping: Option<M>,
    pub(super) began_ns: u64,
    /// How often the disk was restarted since.
    pub(super) tries: u8,
    pub(super) client: C,
}

impl<M, C: Client> Job<M, C> {
    pub(super) fn new(channel: ChannelId, kind: Kind, began_ns: u64, client: C) -> Self {
        Self { channel, kind, stage: Stage::Sectors { done: 0 }, mapping: None, began_ns, tries: 0, client }
    }

    /// The transfer that it is, if it is one.
    pub(super) fn transfer(&self) -> Option<(Transfer, Direction)> {
        match self.kind {
            Kind::Read { transfer } => Some((transfer, Direction::Read)),
            Kind::Write { transfer, durable } => Some((transfer, Direction::Write { durable })),
            Kind::Flush | Kind::Discard { .. } | Kind::WriteZeroes { .. } => None,
        }
    }

    /// What the disk is to do next for it.
    pub(super) fn next_command(&self, limits: &Limits) -> Command {
        let Stage::Sectors { done } = self.stage else { return FLUSH };
        let part = |range: SectorRange, longest: u64| SectorRange {
            first: range.first + done,
            count: (range.count - done).min(longest),
        };
        match self.kind {
            Kind::Read { transfer } => {
                Command { direction: Direction::Read, range: part(transfer.range, longest(transfer, done, limits)) }
            }
            Kind::Write { transfer, durable } => {
                let direction = Direction::Write { durable: durable && limits.durable_writes };
                Command { direction, range: part(transfer.range, longest(transfer, done, limits)) }
            }
            Kind::Flush => FLUSH,
            Kind::Discard { range } => {
                Command { direction: Direction::Discard, range: part(range, limits.discard_sectors) }
            }
            Kind::WriteZeroes { range } => {
                Command { direction: Direction::WriteZeroes, range: part(range, limits.zeroes_sectors) }
            }
        }
    }

    /// Where the bytes of a part of it are, by the addresses of its pages.
    pub(super) fn segments<'a>(&self, part: SectorRange, addresses: &'a [u64], limits: &Limits) -> Segments<'a> {
        match (self.transfer(), self.stage) {
            (Some((transfer, _)), Stage::Sectors { done }) => {
                let offset = transfer.offset % PAGE_BYTES + done * SECTOR_BYTES;
                Segments::new(addresses, offset, part.len_bytes(), limits.segment_bytes)
            }
            (Some(_), Stage::FlushAfter) | (None, _) => Segments::NONE,
        }
    }

    /// What it was given last is done; whether all is.
    pub(super) fn part_done(&mut self, limits: &Limits, disk: &Description) -> bool {
        let part = self.next_command(limits).range.count;
        let Stage::Sectors { done } = &mut self.stage else { return true };
        *done += part;
        let is_all = self.kind.range().is_none_or(|range| *done >= range.count);
        let must_flush = matches!(self.kind, Kind::Write { durable: true, .. })
            && !limits.durable_writes
            && disk.abilities.contains(Abilities::FLUSH);
        if is_all && must_flush {
            self.stage = Stage::FlushAfter;
        }
        is_all && !must_flush
    }
}

const FLUSH: Command = Command { direction: Direction::Flush, range: SectorRange { first: 0, count: 0 } };

/// How many sectors of a transfer, after the first `done`, a disk takes whose transfers have a limited number of segments.
fn longest(transfer: Transfer, done: u64, limits: &Limits) -> u64 {
    let in_page = (transfer.offset + done * SECTOR_BYTES) % PAGE_BYTES;
    (limits.segments.max(1) * PAGE_BYTES - in_page) / SECTOR_BYTES
}

/// All jobs, by their tags.
pub(super) struct Jobs<M, C> {
    jobs: Vec<Option<Job<M, C>>>,
    /// Tags that are free. The last is the next to be used.
    free: Vec<u16>,
    /// The addresses of the pages of each.
    addresses: Vec<[u64; MAX_PAGES as usize]>,
}

impl<M, C> Jobs<M, C> {
    pub(super) fn new(count: u16) -> Self {
        Self {
            jobs: (0..count).map(|_| None).collect(),
            free: (0..count).rev().collect(),
            addresses: vec![[0; MAX_PAGES as usize]; usize::from(count)],
        }
    }

    pub(super) fn has_room(&self) -> bool {
        !self.free.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.free.len() == self.jobs.len()
    }

    /// The place for the addresses of the next job.
    pub(super) fn next_addresses(&mut self) -> &mut [u64] {
        let next = self.free.last().copied().unwrap_or_default();
        self.addresses.get_mut(usize::from(next)).map_or(&mut [], |addresses| &mut addresses[..])
    }

    /// Adds a job; its tag. `None` if there is no room.
    pub(super) fn add(&mut self, job: Job<M, C>) -> Option<u16> {
        let tag = self.free.pop()?;
        *self.jobs.get_mut(usize::from(tag))? = Some(job);
        Some(tag)
    }

    #[inline]
    pub(super) fn get(&mut self, tag: u16) -> Option<(&mut Job<M, C>, &[u64])> {
        let job = self.jobs.get_mut(usize::from(tag))?.as_mut()?;
        Some((job, self.addresses.get(usize::from(tag))?))
    }

    pub(super) fn peek(&self, tag: u16) -> Option<&Job<M, C>> {
        self.jobs.get(usize::from(tag))?.as_ref()
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = u16> {
        0..self.jobs.len() as u16
    }

    #[inline]
    pub(super) fn remove(&mut self, tag: u16) -> Option<Job<M, C>> {
        let job = self.jobs.get_mut(usize::from(tag))?.take()?;
        self.free.push(tag);
        Some(job)
    }
}

impl<M, C: Client> Jobs<M, C> {
    /// Whether a job of this channel uses that memory.
    pub(super) fn uses(&self, channel: ChannelId, buffer: u64) -> bool {
        self.jobs
            .iter()
            .flatten()
            .any(|job| job.channel == channel && job.transfer().is_some_and(|(transfer, _)| transfer.buffer == buffer))
    }
}
