//! Events: sixty-four bits to raise and wait for.

use crate::account::Account;
use crate::devices::Hardware;
use crate::kernel::Kernel;
use crate::list::{Links, List};
use crate::object::{Header, Node, cost};
use crate::pool::Id;
use crate::queue::{Binding, Queue};
use crate::thread::{State, Wait};
use quire_abi::Error;

/// Sixty-four bits.
#[derive(Debug)]
pub struct Event {
    /// References and account.
    pub header: Header,
    /// Those that are set.
    pub bits: u64,
    /// Threads and [`Notice`]s that wait for bits.
    pub waiters: List<Node>,
}

/// A registration for one completion in a queue. Charged to the queue's account; gone when it completed, or
/// with the queue or the event.
#[derive(Debug)]
pub struct Notice {
    /// Who pays.
    pub account: Id<Account>,
    /// Its place among the event's waiters, or in the list of a queue that has no room.
    pub links: Links<Node>,
    /// Where it completes.
    pub binding: Binding,
    /// Any of these bits.
    pub mask: u64,
    /// How far it is.
    pub stage: NoticeStage,
}

/// How far a [`Notice`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeStage {
    /// It stands among this event's waiters.
    Waiting(Id<Event>),
    /// These bits of the mask were set; the queue had no room to say so yet.
    Fired(u64),
}

impl Kernel {
    /// Makes an event with no bit set.
    ///
    /// # Errors
    /// `NoMemory`, `AccountLimit`.
    pub fn create_event(&mut self, account: Id<Account>) -> Result<Id<Event>, Error> {
        self.charge(account, cost::EVENT)?;
        let event = Event { header: Header::new(account), bits: 0, waiters: List::new() };
        self.events.insert(event).map_err(|_| self.refund(account, cost::EVENT))
    }

    /// Sets bits, tells those who wait for one of them, then clears bits. Returns the bits after.
    pub(crate) fn update_event(&mut self, m: &mut impl Hardware, id: Id<Event>, set: u64, clear: u64) -> u64 {
        let bits = self.events[id].bits | set;
        self.events[id].bits = bits;
        let mut cursor = self.events[id].waiters.front();
        while let Some(node) = cursor {
            let waiters = self.events[id].waiters;
            cursor = waiters.after(self, node);
            let mask = self.event_mask(node);
            if bits & mask != 0 {
                self.leave_event(id, node);
                self.tell_event(m, node, bits & mask);
            }
        }
        let event = &mut self.events[id];
        event.bits &= !clear;
        event.bits
    }

    fn event_mask(&self, waiter: Node) -> u64 {
        match waiter {
            Node::Thread(thread) => match self.threads[thread].state {
                State::Waiting(Wait::Event { mask, .. }) => mask,
                State::Waiting(Wait::Call | Wait::Receive { .. } | Wait::Queue(_) | Wait::Page(_))
                | State::New
                | State::Ready
                | State::Running
                | State::Stopped
                | State::Dead => 0,
            },
            Node::Notice(notice) => self.notices[notice].mask,
            Node::Letter(_)
            | Node::Endpoint(_)
            | Node::Timer(_)
            | Node::Interrupt(_)
            | Node::Pager(_)
            | Node::Errand(_) => 0,
        }
    }

    /// Puts a waiter into the event's line.
    pub(crate) fn join_event(&mut self, id: Id<Event>, node: Node) {
        let mut waiters = self.events[id].waiters;
        waiters.push_back(self, node);
        self.events[id].waiters = waiters;
    }

    /// Takes a waiter out of the event's line.
    pub(crate) fn leave_event(&mut self, id: Id<Event>, node: Node) {
        let mut waiters = self.events[id].waiters;
        waiters.remove(self, node);
        self.events[id].waiters = waiters;
    }

    fn tell_event(&mut self, m: &mut impl Hardware, waiter: Node, bits: u64) {
        match waiter {
            Node::Thread(thread) => self.finish_wait(thread, Ok(Some(bits))),
            Node::Notice(notice) => {
                self.notices[notice].stage = NoticeStage::Fired(bits);
                let binding = self.notices[notice].binding;
                if !self.offer(m, binding, waiter) {
                    self.destroy_notice(notice);
                }
            }
            Node::Letter(_)
            | Node::Endpoint(_)
            | Node::Timer(_)
            | Node::Interrupt(_)
            | Node::Pager(_)
            | Node::Errand(_) => {}
        }
    }

    /// Registers for one completion in `queue`; at once if a bit of the mask is set already.
    pub(crate) fn notify_event(
        &mut self,
        m: &mut impl Hardware,
        event: Id<Event>,
        queue: Id<Queue>,
        key: u64,
        mask: u64,
    ) -> Result<(), Error> {
        let account = self.queues[queue].header.account;
        self.charge(account, cost::NOTICE)?;
        let notice = Notice {
            account,
            links: Links::new(),
            binding: Binding { queue, key },
            mask,
            stage: NoticeStage::Waiting(event),
        };
        let id = self.notices.insert(notice).map_err(|_| self.refund(account, cost::NOTICE))?;
        let bits = self.events[event].bits & mask;
        if bits == 0 {
            self.join_event(event, Node::Notice(id));
        } else {
            self.tell_event(m, Node::Notice(id), bits);
        }
        Ok(())
    }

    /// Frees a notice that stands in no line.
    pub(crate) fn destroy_notice(&mut self, id: Id<Notice>) {
        if let Some(notice) = self.notices.remove(id) {
            self.credit(notice.account, cost::NOTICE);
        }
    }

    /// Frees the notices of a queue that is going.
    pub(crate) fn destroy_notices_of(&mut self, queue: Id<Queue>) {
        let mut index = 0;
        while let Some((id, notice)) = self.notices.next_from(index) {
            index = id.index().saturating_add(1);
            if notice.binding.queue != queue {
                continue;
            }
            if let NoticeStage::Waiting(event) = notice.stage {
                self.leave_event(event, Node::Notice(id));
            }
            self.destroy_notice(id);
        }
    }

    pub(crate) fn destroy_event(&mut self, id: Id<Event>) {
        // Those who wait could never be told: threads learn that the other side is gone, notices go.
        while let Some(node) = self.events[id].waiters.front() {
            self.leave_event(id, node);
            match node {
                Node::Thread(thread) => self.finish_wait(thread, Err(Error::PeerClosed)),
                Node::Notice(notice) => self.destroy_notice(notice),
                Node::Letter(_)
                | Node::Endpoint(_)
                | Node::Timer(_)
                | Node::Interrupt(_)
                | Node::Pager(_)
                | Node::Errand(_) => {}
            }
        }
        if let Some(event) = self.events.remove(id) {
            self.credit(event.header.account, cost::EVENT);
        }
    }
}
