//! Accounts.

use super::{CallResult, Caller, Outcome};
use crate::account::{Account, Usage};
use crate::devices::Hardware;
use crate::object::ObjectRef;
use crate::pool::Id;
use quire_abi::Rights;
use quire_abi::system::{AccountInfo, AccountLimits};

impl<M: Hardware> Caller<'_, M> {
    pub(super) fn account_create(&mut self) -> CallResult {
        let parent = self.object(0, Rights::USE)?;
        let limits: AccountLimits = self.read(1)?;
        self.reserve(1)?;
        let account = self.kernel.create_account(Some(parent), usage(limits))?;
        self.give(ObjectRef::Account(account))
    }

    pub(super) fn account_info(&mut self) -> CallResult {
        let account: Id<Account> = self.object(0, Rights::READ)?;
        let Some(account) = self.kernel.memory.accounts.get(account) else { return Ok(Outcome::Done) };
        let info = AccountInfo { limit: limits(account.limit()), used: limits(account.used()) };
        self.write(1, &info)
    }

    pub(super) fn account_set_limits(&mut self) -> CallResult {
        let account = self.object(0, Rights::MANAGE)?;
        let limits: AccountLimits = self.read(1)?;
        self.kernel.memory.accounts.set_limit(account, usage(limits));
        Ok(Outcome::Done)
    }

    pub(super) fn account_kill(&mut self) -> CallResult {
        let account = self.object(0, Rights::MANAGE)?;
        Ok(Outcome::Value(self.kernel.kill_account(self.m, account)))
    }
}

fn usage(limits: AccountLimits) -> Usage {
    Usage { frames: limits.frames, kernel_bytes: limits.kernel_bytes }
}

fn limits(usage: Usage) -> AccountLimits {
    AccountLimits { frames: usage.frames, kernel_bytes: usage.kernel_bytes }
}
