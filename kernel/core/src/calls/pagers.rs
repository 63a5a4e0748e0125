//! Managed memories and their pagers.

use super::{CallResult, Caller, Outcome};
use crate::devices::Hardware;
use crate::machine::PAGE_SIZE;
use crate::memory::{self, Memory, Presence};
use crate::object::{Capability, ObjectRef};
use crate::pager::{DeathPolicy, Pager};
use crate::pool::Id;
use quire_abi::pager::{MAX_REQUESTS, PagerFlags, PagerRequest, PagerRequestKind};
use quire_abi::space::MemoryInfo;
use quire_abi::{Error, Handle, Rights};

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn memory_create_managed(&mut self) -> CallResult {
        let account = self.object(0, Rights::USE)?;
        let (length, deadline) = (self.value(1), self.value(2));
        let flags = u32::try_from(self.value(3)).ok().and_then(PagerFlags::from_bits).ok_or(Error::BadArgument)?;
        if !PagerFlags::AWAIT_SUCCESSOR.contains(flags) {
            return Err(Error::BadArgument);
        }
        let policy = match flags.contains(PagerFlags::AWAIT_SUCCESSOR) {
            true => DeathPolicy::AwaitSuccessor,
            false => DeathPolicy::Fail,
        };
        self.reserve(2)?;
        let (memory, pager) = self.kernel.create_managed(account, length, deadline, policy)?;
        let memory = self.kernel.put(self.m, self.table, Capability::full(ObjectRef::Memory(memory)));
        let pager = self.kernel.put(self.m, self.table, Capability::full(ObjectRef::Pager(pager)));
        Ok(Outcome::Values(memory.0.into(), pager.0.into()))
    }

    pub(super) fn pager_receive(&mut self) -> CallResult {
        let pager = self.object(0, Rights::READ)?;
        let (address, count) = (self.value(1), self.value(2));
        if count > MAX_REQUESTS as u64 {
            return Err(Error::BadArgument);
        }
        self.kernel.paged_memory(pager)?;
        // What is taken is taken: so first make sure that it can be handed over.
        let bytes = [0; MAX_REQUESTS * size_of::<PagerRequest>()];
        self.write_bytes(address, &bytes[..count as usize * size_of::<PagerRequest>()])?;
        let mut taken = 0;
        while taken < count {
            let Some(request) = self.kernel.take_request(self.m, pager) else { break };
            let at = address + taken * size_of::<PagerRequest>() as u64;
            self.write_at(at, &record(request))?;
            taken += 1;
        }
        Ok(Outcome::Value(taken))
    }

    pub(super) fn pager_supply(&mut self) -> CallResult {
        let pager: Id<Pager> = self.object(0, Rights::WRITE)?;
        let (start, end) = self.page_range(1)?;
        let source_offset = self.value(4);
        if !source_offset.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Misaligned);
        }
        let source = match self.handle(3)? {
            Handle::NONE => None,
            _ => Some((self.object::<Memory>(3, Rights::READ | Rights::WRITE)?, source_offset / PAGE_SIZE)),
        };
        let done = self.kernel.supply(self.m, pager, (start, end - start), source)?;
        Ok(Outcome::Value(done * PAGE_SIZE))
    }

    pub(super) fn pager_fail(&mut self) -> CallResult {
        let pager = self.object(0, Rights::WRITE)?;
        let (start, end) = self.page_range(1)?;
        let until = self.kernel.fail_pages(self.m, pager, start, end)?;
        Ok(Outcome::Value((until - start) * PAGE_SIZE))
    }

    pub(super) fn pager_written(&mut self) -> CallResult {
        let pager = self.object(0, Rights::WRITE)?;
        let (start, end) = self.page_range(1)?;
        let until = self.kernel.written(self.m, pager, start, end)?;
        Ok(Outcome::Value((until - start) * PAGE_SIZE))
    }

    pub(super) fn pager_invalidate(&mut self) -> CallResult {
        let pager = self.object(0, Rights::WRITE)?;
        let (start, end) = self.page_range(1)?;
        let memory = self.kernel.paged_memory(pager)?;
        let until = self.kernel.memory.invalidate_pages(self.m, memory, start, end);
        Ok(Outcome::Value((until - start) * PAGE_SIZE))
    }

    pub(super) fn swap_set(&mut self) -> CallResult {
        self.authority(0, ObjectRef::Hardware, Rights::MANAGE)?;
        let memory = self.object(1, Rights::READ | Rights::WRITE | Rights::MANAGE)?;
        let account = self.object(2, Rights::MANAGE)?;
        // Whoever needs a frame waits for this pager, also who has never heard of it.
        let deadline_ns = self.kernel.pager_of(memory).map(|pager| self.kernel.pagers[pager].deadline_ns);
        if deadline_ns.is_none_or(|deadline_ns| deadline_ns == u64::MAX) {
            return Err(Error::BadState);
        }
        self.kernel.memory.set_swap(memory, account)?;
        Ok(Outcome::Done)
    }

    /// The pages of a range of bytes in arguments `index` and `index + 1`.
    fn page_range(&self, index: usize) -> Result<(u64, u64), Error> {
        let (offset, length) = (self.value(index), self.value(index + 1));
        if !offset.is_multiple_of(PAGE_SIZE) || !length.is_multiple_of(PAGE_SIZE) {
            return Err(Error::Misaligned);
        }
        let end = offset.checked_add(length).ok_or(Error::OutOfRange)?;
        Ok((offset / PAGE_SIZE, end / PAGE_SIZE))
    }

    /// What `memory_info` tells of managed memories only.
    pub(super) fn managed_part(&self, memory: Id<Memory>) -> MemoryInfo {
        let Some(info) = self.kernel.memory.managed_info(memory) else { return MemoryInfo::default() };
        let mut flags = PagerFlags::MANAGED;
        flags.set(PagerFlags::PRESENT, info.presence == Presence::Present);
        let origin = self.kernel.memory.managed_origin(memory, 0).map_or(memory, |(origin, _)| origin);
        let pager = self.kernel.pager_of(origin).map(|id| &self.kernel.pagers[id]);
        flags.set(PagerFlags::AWAIT_SUCCESSOR, pager.is_some_and(|pager| pager.policy == DeathPolicy::AwaitSuccessor));
        MemoryInfo {
            pager: flags.bits(),
            deadline_ns: pager.map_or(0, |pager| pager.deadline_ns),
            unwritten_pages: info.unwritten_pages,
            ..MemoryInfo::default()
        }
    }
}

fn record(request: memory::PagerRequest) -> PagerRequest {
    let (kind, start, end, ahead) = match request {
        memory::PagerRequest::Fill { start, end, ahead } => (PagerRequestKind::Fill, start, end, ahead),
        memory::PagerRequest::Writeback { start, end } => (PagerRequestKind::Writeback, start, end, 0),
    };
    PagerRequest {
        kind: kind as u32,
        reserved: 0,
        offset: start * PAGE_SIZE,
        length: (end - start) * PAGE_SIZE,
        read_ahead: ahead * PAGE_SIZE,
    }
}
