//! Where the calls of a thread lead: what a short way found out once, so that the next need not look it up again.
//!
//! A handle leads through the table, an endpoint and its peer to whoever takes the message: four look-ups that give the same in
//! nearly every call of a thread, which has one channel to its server, or one queue to wait in. So each thread remembers
//! the last of them. What it remembers holds as long as nothing has happened anywhere that could change such an answer: a handle to a
//! channel or a queue closed or sent away, an endpoint bound, unbound or gone ([`Kernel::forget_routes`]). That is rare
//! beside calls, so one number for the whole kernel says it, and nobody has to know who remembers what.

use crate::channel::Endpoint;
use crate::handles::HandleTable;
use crate::kernel::Kernel;
use crate::object::{Capability, ObjectRef};
use crate::pool::Id;
use crate::queue::{Binding, Queue};
use crate::thread::Thread;
use quire_abi::{Handle, Rights};

/// Where a handle leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Nowhere.
    None,
    /// A call arrives at this endpoint, which no queue has.
    Endpoint(Id<Endpoint>),
    /// A call completes here.
    Binding(Binding),
    /// It is an endpoint to receive at that has a peer and that no queue has.
    Receiver(Id<Endpoint>),
    /// It is a queue to wait in.
    Queue(Id<Queue>),
}

/// What a thread wants of a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Call,
    Receive,
    Wait,
}

/// A handle of a thread's, and where it leads.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// [`Kernel::route_epoch`] when this was found out.
    epoch: u64,
    /// The handle, as it is in a register.
    handle: u64,
    to: Destination,
}

impl Route {
    /// Leads nowhere.
    pub const fn new() -> Self {
        Self { epoch: 0, handle: 0, to: Destination::None }
    }

    /// Where `handle` leads, if that is known.
    #[inline(always)]
    pub(crate) fn of(&self, handle: u64, epoch: u64) -> Option<Destination> {
        (self.handle == handle && self.epoch == epoch).then_some(self.to)
    }
}

impl Default for Route {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel {
    /// What threads remember of where their handles lead may be wrong from now on.
    #[inline]
    pub(crate) fn forget_routes(&mut self) {
        self.route_epoch += 1;
    }

    /// A capability has left a table.
    #[inline]
    pub(crate) fn note_removed(&mut self, capability: Capability) {
        if matches!(capability.object, ObjectRef::Channel(_) | ObjectRef::Queue(_)) {
            self.forget_routes();
        }
    }

    /// Finds out where a thread's handle leads; it remembers that if it leads anywhere.
    #[inline(never)]
    pub(crate) fn find_route(&mut self, id: Id<Thread>, handle: u64, wanted: Use) -> Option<Destination> {
        let table = self.tables.get(self.threads.get(id)?.table)?;
        let to = self.destination(table, handle, wanted)?;
        self.threads.get_mut(id)?.route = Route { epoch: self.route_epoch, handle, to };
        Some(to)
    }

    fn destination(&self, table: &HandleTable, handle: u64, wanted: Use) -> Option<Destination> {
        let handle = u32::try_from(handle).ok().map(Handle)?;
        match wanted {
            Use::Call => {
                let end = self.endpoints.get(table.get(handle, Rights::SEND).ok()?)?.peer?;
                Some(match self.endpoints.get(end)?.binding {
                    Some(binding) => Destination::Binding(binding),
                    None => Destination::Endpoint(end),
                })
            }
            Use::Receive => {
                let end = table.get(handle, Rights::RECEIVE).ok()?;
                let line = self.endpoints.get(end)?;
                let is_open = line.binding.is_none() && line.peer.is_some();
                is_open.then_some(Destination::Receiver(end))
            }
            Use::Wait => Some(Destination::Queue(table.get(handle, Rights::WAIT).ok()?)),
        }
    }

    /// Panics if a thread remembers something that is not so.
    #[cfg(test)]
    pub(crate) fn check_routes(&self) {
        for (id, thread) in self.threads.iter() {
            let Some(to) = thread.route.of(thread.route.handle, self.route_epoch) else { continue };
            let wanted = match to {
                Destination::None => continue,
                Destination::Endpoint(_) | Destination::Binding(_) => Use::Call,
                Destination::Receiver(_) => Use::Receive,
                Destination::Queue(_) => Use::Wait,
            };
            // The table goes with the thread.
            let Some(table) = self.tables.get(thread.table) else { continue };
            assert_eq!(self.destination(table, thread.route.handle, wanted), Some(to), "a stale route of {id:?}");
        }
    }
}
