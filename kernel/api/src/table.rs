//! Handle tables: capability spaces, which can be filled remotely.

use crate::account::{Account, create_from};
use crate::handle::{Object, argument, object, owned};
use crate::raw::numbers;
use quire_abi::{Call, Error, Handle, Rights};

object! {
    /// A capability space.
    HandleTable
}

impl HandleTable {
    /// Makes an empty table. Needs `USE`.
    pub fn create(account: &Account) -> Result<Self, Error> {
        create_from(Call::TableCreate, account, 0, 0)
    }

    /// Puts a handle to `object` into this table, with those of the rights that `rights` names; returns its number
    /// there. Needs `WRITE`, and `TRANSFER` on the object.
    pub fn install(&self, object: &impl Object, rights: Rights) -> Result<Handle, Error> {
        let arguments = [argument(self), argument(object), u64::from(rights.bits())];
        numbers(Call::TableInstall, arguments).handle()
    }

    /// Copies a handle out of this table into the caller's. Needs `READ`.
    pub fn extract<T: Object>(&self, handle_there: Handle, rights: Rights) -> Result<T, Error> {
        let arguments = [argument(self), u64::from(handle_there.0), u64::from(rights.bits())];
        owned(numbers(Call::TableExtract, arguments).handle()?).map(T::from_handle)
    }

    /// Closes a handle in this table. Needs `WRITE`.
    pub fn close(&self, handle_there: Handle) -> Result<(), Error> {
        numbers(Call::TableClose, [argument(self), u64::from(handle_there.0), 0]).unit()
    }
}
