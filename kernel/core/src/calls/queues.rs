//! Queues and bindings.

use super::{CallResult, Caller, Outcome};
use crate::devices::Hardware;
use crate::object::{Capability, ObjectRef};
use crate::queue::Binding;
use quire_abi::{Error, Rights};

/// What the holder of a queue's rings may do with that memory: map and use it, but not change its size.
const RING_RIGHTS: Rights =
    Rights::DUPLICATE.union(Rights::TRANSFER).union(Rights::READ).union(Rights::WRITE).union(Rights::MAP);

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn queue_create(&mut self) -> CallResult {
        let account = self.object(0, Rights::USE)?;
        let (submissions, completions) = (self.value(1), self.value(2));
        self.reserve(2)?;
        let (queue, memory) = self.kernel.create_queue(self.m, account, self.table, submissions, completions)?;
        let queue = self.kernel.put(self.m, self.table, Capability::full(ObjectRef::Queue(queue)));
        let rings = Capability { object: ObjectRef::Memory(memory), rights: RING_RIGHTS };
        let memory = self.kernel.put(self.m, self.table, rings);
        Ok(Outcome::Values(queue.0.into(), memory.0.into()))
    }

    #[inline]
    pub(super) fn queue_wait(&mut self) -> CallResult {
        let queue = self.object(0, Rights::WAIT)?;
        let deadline = self.value(1);
        let parked = self.kernel.queue_wait(self.m, self.thread, queue, deadline)?;
        Ok(if parked { Outcome::Parked } else { Outcome::Done })
    }

    pub(super) fn queue_post(&mut self) -> CallResult {
        let queue = self.object(0, Rights::SEND)?;
        let (key, value) = (self.value(1), self.value(2));
        self.kernel.post_user(self.m, queue, key, value)?;
        Ok(Outcome::Done)
    }

    pub(super) fn object_bind(&mut self) -> CallResult {
        let object = self.capability(0, Rights::WAIT)?.object;
        let queue = self.object(1, Rights::SEND)?;
        let key = self.value(2);
        self.bind(object, Some(Binding { queue, key }))
    }

    pub(super) fn object_unbind(&mut self) -> CallResult {
        let object = self.capability(0, Rights::WAIT)?.object;
        if self.binding(object)?.is_none() {
            return Err(Error::NotFound);
        }
        self.bind(object, None)
    }

    fn binding(&self, object: ObjectRef) -> Result<Option<Binding>, Error> {
        match object {
            ObjectRef::Channel(id) => Ok(self.kernel.endpoints[id].binding),
            ObjectRef::Thread(id) => Ok(self.kernel.threads[id].binding),
            ObjectRef::Timer(id) => Ok(self.kernel.timers[id].binding),
            ObjectRef::Interrupt(id) => Ok(self.kernel.interrupts[id].binding),
            ObjectRef::Pager(id) => Ok(self.kernel.pagers[id].binding),
            ObjectRef::Account(_)
            | ObjectRef::Memory(_)
            | ObjectRef::Space(_)
            | ObjectRef::Table(_)
            | ObjectRef::Reply(_)
            | ObjectRef::Queue(_)
            | ObjectRef::IoPorts(_)
            | ObjectRef::Event(_)
            | ObjectRef::Dma(_)
            | ObjectRef::Log
            | ObjectRef::Hardware => Err(Error::WrongKind),
        }
    }

    fn bind(&mut self, object: ObjectRef, binding: Option<Binding>) -> CallResult {
        match object {
            ObjectRef::Channel(id) => self.kernel.bind_endpoint(self.m, id, binding)?,
            ObjectRef::Thread(id) => self.kernel.bind_thread(self.m, id, binding),
            ObjectRef::Timer(id) => self.kernel.bind_timer(self.m, id, binding),
            ObjectRef::Interrupt(id) => self.kernel.bind_interrupt(self.m, id, binding),
            ObjectRef::Pager(id) => self.kernel.bind_pager(self.m, id, binding),
            ObjectRef::Account(_)
            | ObjectRef::Memory(_)
            | ObjectRef::Space(_)
            | ObjectRef::Table(_)
            | ObjectRef::Reply(_)
            | ObjectRef::Queue(_)
            | ObjectRef::IoPorts(_)
            | ObjectRef::Event(_)
            | ObjectRef::Dma(_)
            | ObjectRef::Log
            | ObjectRef::Hardware => return Err(Error::WrongKind),
        }
        Ok(Outcome::Done)
    }
}
