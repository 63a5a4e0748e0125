//! Handles and handle tables.

use super::{CallResult, Caller, Outcome, handle, rights};
use crate::devices::Hardware;
use crate::handles::HandleTable;
use crate::object::{Capability, ObjectRef};
use crate::pool::Id;
use quire_abi::{Error, Rights};

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn handle_close(&mut self) -> CallResult {
        let handle = self.handle(0)?;
        self.kernel.close(self.m, self.table, handle)?;
        Ok(Outcome::Done)
    }

    pub(super) fn handle_duplicate(&mut self) -> CallResult {
        let capability = self.capability(0, Rights::DUPLICATE)?;
        let rights = rights(self.value(1))?;
        self.copy_to(self.table, capability, rights)
    }

    pub(super) fn handle_info(&mut self) -> CallResult {
        let Capability { object, rights } = self.capability(0, Rights::empty())?;
        let kind = u64::from(object.kind() as u32);
        Ok(Outcome::Values(kind | u64::from(rights.bits()) << 32, object.number()))
    }

    pub(super) fn table_create(&mut self) -> CallResult {
        let account = self.object(0, Rights::USE)?;
        self.reserve(1)?;
        let table = self.kernel.create_table(account)?;
        self.give(ObjectRef::Table(table))
    }

    pub(super) fn table_install(&mut self) -> CallResult {
        let table = self.object(0, Rights::WRITE)?;
        let capability = self.capability(1, Rights::TRANSFER)?;
        let rights = rights(self.value(2))?;
        self.copy_to(table, capability, rights)
    }

    pub(super) fn table_extract(&mut self) -> CallResult {
        let table: Id<HandleTable> = self.object(0, Rights::READ)?;
        let there = handle(self.value(1)).map_err(|_| Error::NotFound)?;
        let capability = self.kernel.tables[table].lookup(there).map_err(|_| Error::NotFound)?;
        let rights = rights(self.value(2))?;
        self.copy_to(self.table, capability, rights)
    }

    pub(super) fn table_close(&mut self) -> CallResult {
        let table = self.object(0, Rights::WRITE)?;
        let there = handle(self.value(1)).map_err(|_| Error::NotFound)?;
        self.kernel.close(self.m, table, there).map_err(|_| Error::NotFound)?;
        Ok(Outcome::Done)
    }

    /// Puts a second handle to an object into `table`. The right to answer a call can't be doubled.
    fn copy_to(&mut self, table: Id<HandleTable>, capability: Capability, rights: Rights) -> CallResult {
        if let ObjectRef::Reply(_) = capability.object {
            return Err(Error::WrongKind);
        }
        self.kernel.reserve_handles(table, 1)?;
        self.kernel.retain(capability.object);
        let copy = Capability { object: capability.object, rights: capability.rights & rights };
        let handle = self.kernel.put(self.m, table, copy);
        Ok(Outcome::Value(handle.0.into()))
    }
}
