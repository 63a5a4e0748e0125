//! The clock, timers, events.

use super::{CallResult, Caller, Outcome};
use crate::devices::Hardware;
use crate::event::Event;
use crate::object::{Node, ObjectRef};
use crate::pool::Id;
use crate::thread::Wait;
use quire_abi::{Error, Rights};

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn clock_read(&mut self) -> CallResult {
        Ok(Outcome::Value(self.m.now_ns()))
    }

    pub(super) fn timer_create(&mut self) -> CallResult {
        let account = self.object(0, Rights::USE)?;
        self.reserve(1)?;
        let timer = self.kernel.create_timer(account)?;
        self.give(ObjectRef::Timer(timer))
    }

    pub(super) fn timer_arm(&mut self) -> CallResult {
        let timer = self.object(0, Rights::WRITE)?;
        let deadline = self.value(1);
        self.kernel.arm_timer(self.m, timer, deadline)?;
        Ok(Outcome::Done)
    }

    pub(super) fn timer_cancel(&mut self) -> CallResult {
        let timer = self.object(0, Rights::WRITE)?;
        self.kernel.cancel_timer(timer);
        Ok(Outcome::Done)
    }

    pub(super) fn event_create(&mut self) -> CallResult {
        let account = self.object(0, Rights::USE)?;
        self.reserve(1)?;
        let event = self.kernel.create_event(account)?;
        self.give(ObjectRef::Event(event))
    }

    pub(super) fn event_update(&mut self) -> CallResult {
        let event = self.object(0, Rights::SEND)?;
        let (set, clear) = (self.value(1), self.value(2));
        Ok(Outcome::Value(self.kernel.update_event(self.m, event, set, clear)))
    }

    pub(super) fn event_wait(&mut self) -> CallResult {
        let event: Id<Event> = self.object(0, Rights::WAIT)?;
        let (mask, deadline) = (self.value(1), self.value(2));
        let bits = self.kernel.events[event].bits & mask;
        if bits != 0 {
            return Ok(Outcome::Value(bits));
        }
        self.kernel.check_deadline(self.m, deadline)?;
        self.kernel.join_event(event, Node::Thread(self.thread));
        self.kernel.park(self.thread, Wait::Event { event, mask }, deadline);
        Ok(Outcome::Parked)
    }

    pub(super) fn event_notify(&mut self) -> CallResult {
        let event = self.object(0, Rights::WAIT)?;
        let queue = self.object(1, Rights::SEND)?;
        let (key, mask) = (self.value(2), self.value(3));
        if mask == 0 {
            return Err(Error::BadArgument);
        }
        self.kernel.notify_event(self.m, event, queue, key, mask)?;
        Ok(Outcome::Done)
    }
}
