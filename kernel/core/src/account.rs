//! Accounts: who pays for what.
//!
//! A charge counts in the account and in every ancestor, and is refused if any of them is at its limit. Charging
//! happens before the thing charged for is made; crediting after it is gone. An account outlives everything charged to
//! it: it is removed only when its use is zero and nobody refers to it. The record itself is charged to the parent, and the
//! tree is at most [`MAX_DEPTH`] deep, so that a charge is a bounded walk.

use crate::pool::{Id, Pool, PoolExhausted};

/// What can be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Frames of 4 KiB: pages of overlays, page tables, memory of queues.
    Frames,
    /// Bytes of the kernel's heap: objects, handle slots, tree nodes, queued messages.
    KernelBytes,
}

/// An amount of each [`Resource`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Frames of 4 KiB.
    pub frames: u64,
    /// Bytes of the kernel's heap.
    pub kernel_bytes: u64,
}

impl Usage {
    /// No limit on anything.
    pub const UNLIMITED: Self = Self { frames: u64::MAX, kernel_bytes: u64::MAX };

    fn of(&mut self, resource: Resource) -> &mut u64 {
        match resource {
            Resource::Frames => &mut self.frames,
            Resource::KernelBytes => &mut self.kernel_bytes,
        }
    }
}

/// A budget.
#[derive(Debug)]
pub struct Account {
    parent: Option<Id<Account>>,
    limit: Usage,
    used: Usage,
    /// Handles, child accounts and objects that refer to this account.
    references: u32,
    /// Accounts from here to the root, this one included.
    depth: u32,
}

impl Account {
    /// What may be used at most.
    pub fn limit(&self) -> Usage {
        self.limit
    }

    /// What is in use here and in all descendants.
    pub fn used(&self) -> Usage {
        self.used
    }

    /// The account that this one is part of.
    pub fn parent(&self) -> Option<Id<Account>> {
        self.parent
    }
}

/// How many accounts lie between an account and the root at most, both included.
pub const MAX_DEPTH: u32 = 16;
/// What the record of an account costs its parent, in bytes of kernel memory.
pub const ACCOUNT_BYTES: u64 = 128;
const _: () = assert!(size_of::<Account>() + 16 <= ACCOUNT_BYTES as usize);

/// Why an account could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateAccountError {
    /// The kernel has no memory for it.
    NoMemory,
    /// The parent, or an account above it, can't pay for the record.
    LimitReached,
    /// The tree would be more than [`MAX_DEPTH`] deep.
    TooDeep,
}

/// An account somewhere between the payer and the root is at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitReached;

/// The tree of accounts.
#[derive(Debug, Default)]
pub struct Accounts {
    pool: Pool<Account>,
}

impl Accounts {
    /// A tree without any account.
    pub const fn new() -> Self {
        Self { pool: Pool::new() }
    }

    /// Makes an account with one reference, which the caller owns. The parent, if any, gains a reference and pays
    /// [`ACCOUNT_BYTES`].
    ///
    /// # Errors
    /// Why it could not be made; nothing has changed then.
    pub fn create(&mut self, parent: Option<Id<Account>>, limit: Usage) -> Result<Id<Account>, CreateAccountError> {
        let depth = parent.map_or(1, |parent| self.pool[parent].depth.saturating_add(1));
        if depth > MAX_DEPTH {
            return Err(CreateAccountError::TooDeep);
        }
        self.pool.reserve(1).map_err(|PoolExhausted| CreateAccountError::NoMemory)?;
        if let Some(parent) = parent {
            self.charge(parent, Resource::KernelBytes, ACCOUNT_BYTES)
                .map_err(|LimitReached| CreateAccountError::LimitReached)?;
            self.retain(parent);
        }
        let account = Account { parent, limit, used: Usage::default(), references: 1, depth };
        self.pool.insert(account).map_err(|PoolExhausted| CreateAccountError::NoMemory)
    }

    /// Whether `account` is `ancestor` or lies below it.
    pub fn is_within(&self, account: Id<Account>, ancestor: Id<Account>) -> bool {
        let mut cursor = Some(account);
        while let Some(at) = cursor {
            if at == ancestor {
                return true;
            }
            cursor = self.pool[at].parent;
        }
        false
    }

    /// The account, or `None` if the id is stale.
    pub fn get(&self, id: Id<Account>) -> Option<&Account> {
        self.pool.get(id)
    }

    /// All accounts.
    pub fn iter(&self) -> impl Iterator<Item = (Id<Account>, &Account)> {
        self.pool.iter()
    }

    /// Changes the limit. A limit below the present use refuses all further charges but takes nothing away.
    pub fn set_limit(&mut self, id: Id<Account>, limit: Usage) {
        self.pool[id].limit = limit;
    }

    /// Counts `amount` in the account and all its ancestors.
    ///
    /// # Errors
    /// [`LimitReached`] if any of them would exceed its limit; nothing is counted then.
    pub fn charge(&mut self, id: Id<Account>, resource: Resource, amount: u64) -> Result<(), LimitReached> {
        let mut cursor = Some(id);
        while let Some(at) = cursor {
            let account = &mut self.pool[at];
            let limit = *account.limit.of(resource);
            let used = account.used.of(resource);
            match used.checked_add(amount) {
                Some(sum) if sum <= limit => *used = sum,
                Some(_) | None => {
                    self.uncount(id, Some(at), resource, amount);
                    return Err(LimitReached);
                }
            }
            cursor = self.pool[at].parent;
        }
        Ok(())
    }

    /// Takes back what [`Accounts::charge`] counted. An account that nobody refers to goes with its last charge.
    pub fn credit(&mut self, id: Id<Account>, resource: Resource, amount: u64) {
        if amount == 0 {
            return;
        }
        self.uncount(id, None, resource, amount);
        if self.pool[id].references == 0 {
            self.collect(id);
        }
    }

    fn uncount(&mut self, from: Id<Account>, until: Option<Id<Account>>, resource: Resource, amount: u64) {
        let mut cursor = Some(from);
        while cursor != until {
            let Some(at) = cursor else { break };
            let account = &mut self.pool[at];
            let used = account.used.of(resource);
            debug_assert!(*used >= amount, "credited more than was charged");
            *used = used.saturating_sub(amount);
            cursor = account.parent;
        }
    }

    /// Adds a reference.
    pub fn retain(&mut self, id: Id<Account>) {
        self.pool[id].references += 1;
    }

    /// Drops a reference. The account goes when it was the last and nothing is charged any more, or else with the last credit.
    pub fn release(&mut self, id: Id<Account>) {
        let account = &mut self.pool[id];
        account.references = account.references.saturating_sub(1);
        self.collect(id);
    }

    /// Removes the account if nobody refers to it and nothing is charged to it, then its ancestors likewise.
    pub fn collect(&mut self, id: Id<Account>) {
        let mut cursor = Some(id);
        while let Some(at) = cursor {
            let Some(account) = self.pool.get(at) else { return };
            if account.references != 0 || account.used != Usage::default() {
                return;
            }
            cursor = account.parent;
            self.pool.remove(at);
            if let Some(parent) = cursor {
                self.uncount(parent, None, Resource::KernelBytes, ACCOUNT_BYTES);
                let parent = &mut self.pool[parent];
                parent.references = parent.references.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(frames: u64) -> Usage {
        Usage { frames, kernel_bytes: u64::MAX }
    }

    #[test]
    fn a_charge_counts_in_all_ancestors_or_in_none() {
        let mut accounts = Accounts::new();
        let root = accounts.create(None, frames(10)).unwrap();
        let child = accounts.create(Some(root), frames(100)).unwrap();
        accounts.charge(child, Resource::Frames, 8).unwrap();
        assert_eq!(accounts.charge(child, Resource::Frames, 3), Err(LimitReached));
        assert_eq!(accounts.get(child).unwrap().used().frames, 8);
        assert_eq!(accounts.get(root).unwrap().used().frames, 8);
        accounts.credit(child, Resource::Frames, 8);
        assert_eq!(accounts.get(root).unwrap().used().frames, 0);
    }

    #[test]
    fn an_account_stays_while_something_is_charged_to_it() {
        let mut accounts = Accounts::new();
        let root = accounts.create(None, Usage::UNLIMITED).unwrap();
        let child = accounts.create(Some(root), Usage::UNLIMITED).unwrap();
        accounts.charge(child, Resource::Frames, 1).unwrap();
        accounts.release(child);
        assert!(accounts.get(child).is_some());
        assert_eq!(accounts.get(root).unwrap().used().kernel_bytes, ACCOUNT_BYTES);
        accounts.credit(child, Resource::Frames, 1);
        assert!(accounts.get(child).is_none());
        assert_eq!(accounts.get(root).unwrap().used(), Usage::default());
    }

    #[test]
    fn the_tree_has_a_bounded_depth() {
        let mut accounts = Accounts::new();
        let mut id = accounts.create(None, Usage::UNLIMITED).unwrap();
        for _ in 1..MAX_DEPTH {
            id = accounts.create(Some(id), Usage::UNLIMITED).unwrap();
        }
        assert_eq!(accounts.create(Some(id), Usage::UNLIMITED), Err(CreateAccountError::TooDeep));
    }
}
