//! How objects live and go: references, handles as references, and tearing down without recursion.
//!
//! An object whose last reference goes is put on a list, linked through the objects' headers, so that neither memory nor
//! stack is needed to tear down whatever hangs on it: a table of tables, a message with a channel that holds a
//! message. [`Kernel::reap`] works the list off before the kernel is left.

use crate::account::Account;
use crate::devices::Hardware;
use crate::handles::HandleTable;
use crate::kernel::Kernel;
use crate::object::{Capability, Doomed, Header, ObjectRef, cost};
use crate::pool::Id;
use quire_abi::{Error, Handle};

impl Kernel {
    /// Adds a reference.
    pub fn retain(&mut self, object: ObjectRef) {
        match object {
            ObjectRef::Account(id) => self.memory.accounts.retain(id),
            ObjectRef::Memory(id) => self.memory.retain_memory(id),
            ObjectRef::Space(id) => self.memory.retain_space(id),
            ObjectRef::Thread(_)
            | ObjectRef::Table(_)
            | ObjectRef::Channel(_)
            | ObjectRef::Queue(_)
            | ObjectRef::Interrupt(_)
            | ObjectRef::IoPorts(_)
            | ObjectRef::Timer(_)
            | ObjectRef::Event(_)
            | ObjectRef::Pager(_)
            | ObjectRef::Dma(_) => {
                if let Some(header) = self.header(object) {
                    header.references = header.references.saturating_add(1);
                }
            }
            // One-shot: there is never a second reference. Log and hardware are always there.
            ObjectRef::Reply(_) | ObjectRef::Log | ObjectRef::Hardware => {}
        }
    }

    /// Drops a reference. The object goes with the last, at the latest in the next [`Kernel::reap`].
    #[inline]
    pub fn release(&mut self, m: &mut impl Hardware, object: ObjectRef) {
        match object {
            ObjectRef::Account(id) => self.memory.accounts.release(id),
            ObjectRef::Memory(id) => self.memory.release_memory(id),
            ObjectRef::Space(id) => {
                if self.memory.is_last_reference(id) {
                    // A processor may still have the tables loaded.
                    m.leave_root(self.memory.space_root(id));
                }
                self.memory.release_space(m, id);
            }
            ObjectRef::Reply(reply) => self.drop_reply(m, reply),
            ObjectRef::Thread(_)
            | ObjectRef::Table(_)
            | ObjectRef::Channel(_)
            | ObjectRef::Queue(_)
            | ObjectRef::Interrupt(_)
            | ObjectRef::IoPorts(_)
            | ObjectRef::Timer(_)
            | ObjectRef::Event(_)
            | ObjectRef::Pager(_)
            | ObjectRef::Dma(_) => {
                let Some(header) = self.header(object) else { return };
                header.references = header.references.saturating_sub(1);
                if header.references == 0 {
                    self.doom(object);
                }
            }
            ObjectRef::Log | ObjectRef::Hardware => {}
        }
    }

    /// The header of an object that has one here.
    fn header(&mut self, object: ObjectRef) -> Option<&mut Header> {
        match object {
            ObjectRef::Thread(id) => self.threads.get_mut(id).map(|object| &mut object.header),
            ObjectRef::Table(id) => self.tables.get_mut(id).map(|object| &mut object.header),
            ObjectRef::Channel(id) => self.endpoints.get_mut(id).map(|object| &mut object.header),
            ObjectRef::Queue(id) => self.queues.get_mut(id).map(|object| &mut object.header),
            ObjectRef::Interrupt(id) => self.interrupts.get_mut(id).map(|object| &mut object.header),
            ObjectRef::IoPorts(id) => self.io_ports.get_mut(id).map(|object| &mut object.header),
            ObjectRef::Timer(id) => self.timers.get_mut(id).map(|object| &mut object.header),
            ObjectRef::Event(id) => self.events.get_mut(id).map(|object| &mut object.header),
            ObjectRef::Pager(id) => self.pagers.get_mut(id).map(|object| &mut object.header),
            ObjectRef::Dma(id) => self.dma_spaces.get_mut(id).map(|object| &mut object.header),
            ObjectRef::Account(_)
            | ObjectRef::Memory(_)
            | ObjectRef::Space(_)
            | ObjectRef::Reply(_)
            | ObjectRef::Log
            | ObjectRef::Hardware => None,
        }
    }

    /// Puts an object on the list of things to be torn down (or, a table, emptied).
    pub(crate) fn doom(&mut self, object: ObjectRef) {
        let next = self.doomed;
        let Some(header) = self.header(object) else { return };
        if header.doomed.is_none() {
            header.doomed = Some(Doomed { next });
            self.doomed = Some(object);
        }
    }

    /// Tears down what nobody refers to any more. Cheap when there is nothing.
    #[inline(always)]
    pub fn reap(&mut self, m: &mut impl Hardware) {
        if self.doomed.is_some() {
            self.reap_all(m);
        }
    }

    #[inline(never)]
    fn reap_all(&mut self, m: &mut impl Hardware) {
        while let Some(object) = self.doomed {
            self.reap_one(m, object);
        }
    }

    fn reap_one(&mut self, m: &mut impl Hardware, object: ObjectRef) {
        let Some(header) = self.header(object) else {
            self.doomed = None;
            return;
        };
        let next = header.doomed.take().and_then(|doomed| doomed.next);
        let unused = header.references == 0;
        self.doomed = next;
        match object {
            ObjectRef::Table(id) => self.reap_table(m, id),
            _ if !unused => {}
            ObjectRef::Thread(id) => self.destroy_thread(m, id),
            ObjectRef::Channel(id) => self.destroy_endpoint(m, id),
            ObjectRef::Queue(id) => self.destroy_queue(m, id),
            ObjectRef::Interrupt(id) => self.destroy_interrupt(m, id),
            ObjectRef::IoPorts(id) => {
                if let Some(ports) = self.io_ports.remove(id) {
                    self.credit(ports.header.account, cost::IO_PORTS);
                }
            }
            ObjectRef::Timer(id) => self.destroy_timer(id),
            ObjectRef::Event(id) => self.destroy_event(id),
            ObjectRef::Pager(id) => self.destroy_pager(m, id),
            ObjectRef::Dma(id) => self.destroy_dma(m, id),
            ObjectRef::Account(_)
            | ObjectRef::Memory(_)
            | ObjectRef::Space(_)
            | ObjectRef::Reply(_)
            | ObjectRef::Log
            | ObjectRef::Hardware => {}
        }
    }

    // ---- handle tables ---------------------------------------------------------------------------------------------

    /// Makes an empty handle table.
    ///
    /// # Errors
    /// `NoMemory`, `AccountLimit`.
    pub fn create_table(&mut self, account: Id<Account>) -> Result<Id<HandleTable>, Error> {
        self.charge(account, cost::TABLE)?;
        self.tables.insert(HandleTable::new(account)).map_err(|_| self.refund(account, cost::TABLE))
    }

    /// Closes all handles of a table, and frees it if nobody refers to it.
    fn reap_table(&mut self, m: &mut impl Hardware, id: Id<HandleTable>) {
        let mut from = 0;
        while let Some(handle) = self.tables.get(id).and_then(|table| table.next_used(from)) {
            from = handle.index();
            let _ = self.close(m, id, handle);
        }
        let Some(table) = self.tables.get_mut(id) else { return };
        if table.header.references != 0 {
            return;
        }
        let (account, chunks) = (table.header.account, table.chunk_count() as u64);
        self.tables.remove(id);
        self.credit(account, cost::TABLE + chunks * cost::TABLE_CHUNK);
    }

    /// Makes sure that `count` handles fit the table.
    ///
    /// # Errors
    /// `Full`, `NoMemory`, `AccountLimit`.
    #[inline]
    pub(crate) fn reserve_handles(&mut self, table: Id<HandleTable>, count: usize) -> Result<(), Error> {
        let missing = self.tables[table].chunks_missing(count);
        for _ in 0..missing {
            let account = self.tables[table].header.account;
            self.charge(account, cost::TABLE_CHUNK)?;
            if let Err(error) = self.tables[table].grow() {
                self.credit(account, cost::TABLE_CHUNK);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Puts a capability, with the reference that it is, into a table that has room for it.
    #[inline]
    pub(crate) fn put(&mut self, m: &mut impl Hardware, table: Id<HandleTable>, capability: Capability) -> Handle {
        match self.tables[table].insert(capability) {
            Some(handle) => {
                if capability.object == ObjectRef::Table(table) {
                    // A table's handle to itself does not keep it alive.
                    self.release(m, capability.object);
                }
                handle
            }
            None => {
                debug_assert!(false, "reserved");
                self.release(m, capability.object);
                Handle::NONE
            }
        }
    }

    /// Takes a capability out of a table; the reference is the caller's.
    ///
    /// # Errors
    /// `BadHandle`.
    #[inline]
    pub(crate) fn take(&mut self, table: Id<HandleTable>, handle: Handle) -> Result<Capability, Error> {
        let capability = self.tables[table].remove(handle)?;
        self.note_removed(capability);
        if capability.object == ObjectRef::Table(table) {
            self.retain(capability.object);
        }
        Ok(capability)
    }

    /// Puts a capability, with the reference that it is, into a table. On an error the reference is dropped.
    ///
    /// # Errors
    /// `Full`, `NoMemory`, `AccountLimit`.
    pub fn install(
        &mut self,
        m: &mut impl Hardware,
        table: Id<HandleTable>,
        capability: Capability,
    ) -> Result<Handle, Error> {
        match self.reserve_handles(table, 1) {
            Ok(()) => Ok(self.put(m, table, capability)),
            Err(error) => {
                self.release(m, capability.object);
                Err(error)
            }
        }
    }

    /// Closes a handle.
    ///
    /// # Errors
    /// `BadHandle`.
    pub(crate) fn close(&mut self, m: &mut impl Hardware, table: Id<HandleTable>, handle: Handle) -> Result<(), Error> {
        let capability = self.tables[table].remove(handle)?;
        self.note_removed(capability);
        if capability.object != ObjectRef::Table(table) {
            self.release(m, capability.object);
        }
        Ok(())
    }
}
