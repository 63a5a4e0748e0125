//! Threads.

use super::{CallResult, Caller, Outcome};
use crate::devices::Hardware;
use crate::object::ObjectRef;
use crate::pool::Id;
use crate::schedule::PRIORITIES;
use crate::thread::{Name, State, Thread, VectorBlock, Wait};
use alloc::vec::Vec;
use quire_abi::space::USER_END;
use quire_abi::thread::{Reflection, RegisterClass, Registers, ThreadFlags, ThreadInfo};
use quire_abi::{Call, Error, Rights};
use zerocopy::IntoBytes;

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn thread_create(&mut self) -> CallResult {
        let account = self.object(0, Rights::USE)?;
        let space = self.object(1, Rights::USE)?;
        let table = self.object(2, Rights::USE)?;
        let flags = u32::try_from(self.value(3)).ok().and_then(ThreadFlags::from_bits).ok_or(Error::BadArgument)?;
        self.reserve(1)?;
        let thread = self.kernel.create_thread(self.m, account, space, table, flags)?;
        self.give(ObjectRef::Thread(thread))
    }

    pub(super) fn thread_start(&mut self) -> CallResult {
        let thread = self.object(0, Rights::MANAGE)?;
        let registers: Registers = self.read(1)?;
        self.kernel.start_thread(thread, &registers)?;
        Ok(Outcome::Done)
    }

    pub(super) fn thread_suspend(&mut self) -> CallResult {
        let thread = self.object(0, Rights::MANAGE)?;
        self.kernel.suspend(thread)?;
        Ok(Outcome::Done)
    }

    pub(super) fn thread_resume(&mut self) -> CallResult {
        let thread = self.object(0, Rights::MANAGE)?;
        self.kernel.resume(thread)?;
        Ok(Outcome::Done)
    }

    pub(super) fn thread_kill(&mut self) -> CallResult {
        let thread = self.object(0, Rights::MANAGE)?;
        self.kernel.kill_thread(self.m, thread);
        Ok(Outcome::Done)
    }

    pub(super) fn thread_exit(&mut self) -> CallResult {
        self.kernel.kill_thread(self.m, self.thread);
        Ok(Outcome::Parked)
    }

    pub(super) fn thread_yield(&mut self) -> CallResult {
        self.kernel.scheduler.give_way(self.kernel.cpu);
        Ok(Outcome::Done)
    }

    pub(super) fn thread_read_registers(&mut self) -> CallResult {
        let id: Id<Thread> = self.object(0, Rights::READ)?;
        let class = self.register_class()?;
        let (address, length) = (self.value(2), self.value(3));
        let thread = self.alive(id)?;
        if !thread.registers_are_readable() {
            return Err(Error::BadState);
        }
        match class {
            RegisterClass::General => {
                let registers = thread.context.registers;
                check_length(length, size_of::<Registers>())?;
                self.write_bytes(address, registers.as_bytes())?;
            }
            RegisterClass::Vector => {
                let mut area = self.kernel.threads[id].vector.take().ok_or(Error::BadState)?;
                self.m.flush_vector_state(id, &mut area);
                let result = self.write_vector(&area, address, length);
                self.kernel.threads[id].vector = Some(area);
                result?;
            }
        }
        Ok(Outcome::Done)
    }

    fn write_vector(&mut self, area: &[VectorBlock], address: u64, length: u64) -> Result<(), Error> {
        check_length(length, size_of_val(area))?;
        self.write_bytes(address, area.as_bytes())
    }

    pub(super) fn thread_write_registers(&mut self) -> CallResult {
        let id: Id<Thread> = self.object(0, Rights::WRITE)?;
        let class = self.register_class()?;
        let (address, length) = (self.value(2), self.value(3));
        let thread = self.alive(id)?;
        let is_writable = match class {
            RegisterClass::General => thread.registers_are_writable(),
            RegisterClass::Vector => thread.vector_is_writable(),
        };
        if !is_writable {
            return Err(Error::BadState);
        }
        match class {
            RegisterClass::General => {
                check_length(length, size_of::<Registers>())?;
                let registers: Registers = self.read_at(address)?;
                self.kernel.write_registers(self.m, id, &registers)?;
            }
            RegisterClass::Vector => {
                let old = self.kernel.threads[id].vector.as_ref().ok_or(Error::BadState)?;
                check_length(length, size_of_val(old.as_slice()))?;
                let area = self.read_vector(old.len(), address)?;
                if !self.m.vector_state_is_valid(&area) {
                    return Err(Error::BadArgument);
                }
                self.m.forget_vector_state(id);
                self.kernel.threads[id].vector = Some(area);
            }
        }
        Ok(Outcome::Done)
    }

    fn read_vector(&mut self, blocks: usize, address: u64) -> Result<Vec<VectorBlock>, Error> {
        let mut area = Vec::new();
        area.try_reserve_exact(blocks).map_err(|_| Error::NoMemory)?;
        area.resize(blocks, VectorBlock([0; 64]));
        self.read_bytes(address, area.as_mut_slice().as_mut_bytes())?;
        Ok(area)
    }

    fn register_class(&self) -> Result<RegisterClass, Error> {
        u32::try_from(self.value(1)).ok().and_then(RegisterClass::from_number).ok_or(Error::BadArgument)
    }

    /// A thread that has not ended.
    fn alive(&self, id: Id<Thread>) -> Result<&Thread, Error> {
        let thread = &self.kernel.threads[id];
        if thread.state == State::Dead { Err(Error::PeerClosed) } else { Ok(thread) }
    }

    pub(super) fn thread_set_space(&mut self) -> CallResult {
        let thread = self.object(0, Rights::MANAGE)?;
        let space = self.object(1, Rights::USE)?;
        self.kernel.set_space(self.m, thread, space)?;
        Ok(Outcome::Done)
    }

    pub(super) fn thread_set_exceptions(&mut self) -> CallResult {
        let id: Id<Thread> = self.object(0, Rights::MANAGE)?;
        let channel = if self.value(1) == 0 { None } else { Some(self.object(1, Rights::SEND)?) };
        self.alive(id)?;
        if let Some(channel) = channel {
            self.kernel.retain(ObjectRef::Channel(channel));
        }
        if let Some(old) = core::mem::replace(&mut self.kernel.threads[id].exceptions, channel) {
            self.kernel.release(self.m, ObjectRef::Channel(old));
        }
        Ok(Outcome::Done)
    }

    pub(super) fn thread_set_reflection(&mut self) -> CallResult {
        let id: Id<Thread> = self.object(0, Rights::MANAGE)?;
        let reflection: Reflection = self.read(1)?;
        self.alive(id)?;
        let in_user_half = |address: u64| address <= USER_END;
        let valid = reflection.entry < USER_END
            && reflection.native_start <= reflection.native_end
            && in_user_half(reflection.native_end);
        if !valid {
            return Err(Error::BadArgument);
        }
        let thread = &mut self.kernel.threads[id];
        thread.context.reflection = reflection;
        if thread.state == State::Running {
            // Its processor loads it on the next way out.
            let cpu = thread.cpu;
            self.kernel.scheduler.reconsider(cpu);
        }
        Ok(Outcome::Done)
    }

    pub(super) fn thread_set_priority(&mut self) -> CallResult {
        let id: Id<Thread> = self.object(0, Rights::MANAGE)?;
        let priority = u8::try_from(self.value(1)).map_err(|_| Error::BadArgument)?;
        if usize::from(priority) >= PRIORITIES {
            return Err(Error::BadArgument);
        }
        let current = self.alive(id)?.priority;
        if priority > current.max(self.kernel.threads[self.thread].priority) {
            return Err(Error::MissingRights);
        }
        let kernel = &mut *self.kernel;
        kernel.scheduler.set_priority(&mut kernel.threads, id, priority);
        Ok(Outcome::Done)
    }

    pub(super) fn thread_set_affinity(&mut self) -> CallResult {
        let id: Id<Thread> = self.object(0, Rights::MANAGE)?;
        let processors = self.value(1);
        self.alive(id)?;
        let kernel = &mut *self.kernel;
        if processors & kernel.scheduler.all() == 0 {
            return Err(Error::BadArgument);
        }
        kernel.scheduler.set_affinity(&mut kernel.threads, id, processors);
        Ok(Outcome::Done)
    }

    pub(super) fn thread_set_name(&mut self) -> CallResult {
        let id: Id<Thread> = self.object(0, Rights::MANAGE)?;
        let mut name = [0; crate::thread::NAME_BYTES];
        let len = usize::try_from(self.value(2)).map_err(|_| Error::BadArgument)?;
        let name = name.get_mut(..len).ok_or(Error::BadArgument)?;
        self.read_bytes(self.value(1), name)?;
        self.alive(id)?;
        self.kernel.threads[id].name = Name::new(name);
        Ok(Outcome::Done)
    }

    pub(super) fn thread_info(&mut self) -> CallResult {
        let id: Id<Thread> = self.object(0, Rights::READ)?;
        let thread = &self.kernel.threads[id];
        let uncounted_ns = match thread.state {
            State::Running => self.kernel.scheduler.uncounted_ns(thread.cpu, self.m.now_ns()),
            State::New | State::Ready | State::Stopped | State::Waiting(_) | State::Dead => 0,
        };
        let info = ThreadInfo {
            state: thread.public_state() as u32,
            suspended: thread.suspensions,
            run_time_ns: thread.run_time_ns.saturating_add(uncounted_ns),
            waiting_in: waiting_in(thread),
            affinity: thread.affinity,
            processor: thread.cpu as u32,
            reserved: 0,
        };
        self.write(1, &info)
    }
}

/// The call that a thread waits in: its number is still in `rax`, but for faulted threads, which are in none.
fn waiting_in(thread: &Thread) -> u64 {
    match thread.state {
        State::Waiting(Wait::Call) if thread.is_faulted() => 0,
        // Perhaps in none; perhaps in one that it is going to make again.
        State::Waiting(Wait::Page(_)) => 0,
        State::Waiting(Wait::Call | Wait::Receive { .. } | Wait::Queue(_) | Wait::Event { .. }) => {
            Call::from_number(thread.context.registers.rax).map_or(0, |call| call as u64)
        }
        State::New | State::Ready | State::Running | State::Stopped | State::Dead => 0,
    }
}

fn check_length(length: u64, expected: usize) -> Result<(), Error> {
    if length == expected as u64 { Ok(()) } else { Err(Error::BadArgument) }
}
