//! Accounts: budgets of frames and kernel memory.

use crate::handle::{Object, argument, create, object, owned};
use crate::raw::{numbers, syscall3};
use quire_abi::system::{AccountInfo, AccountLimits};
use quire_abi::{Call, Error};

object! {
    /// A budget. What a program makes is charged to one, and refused when it or one above it is at its limit.
    Account
}

/// No limit of its own.
pub const UNLIMITED: AccountLimits = AccountLimits { frames: u64::MAX, kernel_bytes: u64::MAX };

impl Account {
    /// Makes an account inside this one. Needs `USE`.
    pub fn create_child(&self, limits: &AccountLimits) -> Result<Self, Error> {
        let pointer = core::ptr::from_ref(limits) as u64;
        // SAFETY: the call reads one `AccountLimits` there.
        let returned = unsafe { syscall3(Call::AccountCreate, [argument(self), pointer, 0]) };
        owned(returned.handle()?).map(Self::from_handle)
    }

    /// Limits and usage. Needs `READ`.
    pub fn info(&self) -> Result<AccountInfo, Error> {
        let mut info = AccountInfo::default();
        let pointer = core::ptr::from_mut(&mut info) as u64;
        // SAFETY: the call writes one `AccountInfo` there.
        unsafe { syscall3(Call::AccountInfo, [argument(self), pointer, 0]) }.unit()?;
        Ok(info)
    }

    /// Changes the limits. Needs `MANAGE`.
    pub fn set_limits(&self, limits: &AccountLimits) -> Result<(), Error> {
        let pointer = core::ptr::from_ref(limits) as u64;
        // SAFETY: the call reads one `AccountLimits` there.
        unsafe { syscall3(Call::AccountSetLimits, [argument(self), pointer, 0]) }.unit()
    }

    /// Kills every thread charged to the account or to a descendant; returns how many. Needs `MANAGE`.
    pub fn kill(&self) -> Result<u64, Error> {
        numbers(Call::AccountKill, [argument(self), 0, 0]).value()
    }
}

/// Makes an object from an account and two numbers.
pub(crate) fn create_from<T: Object>(call: Call, account: &Account, first: u64, second: u64) -> Result<T, Error> {
    create(call, [argument(account), first, second, 0, 0, 0])
}
