//! What `prctl(2)` and `personality(2)` set for a whole process.

/// The attributes of a process that a child begins with, too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `PR_SET_NO_NEW_PRIVS`: `execve` gives no rights any more.
    pub no_new_privileges: bool,
    /// `PR_SET_THP_DISABLE`.
    pub no_huge_pages: bool,
    /// `PR_MCE_KILL`: 0 late, 1 early, 2 as the system has it; `None` if it was not said.
    pub machine_check: Option<u8>,
    /// `PR_SET_SECUREBITS`.
    pub secure_bits: u8,
    /// Which capabilities `PR_CAPBSET_DROP` has taken out of the bounding set.
    pub dropped_bounds: u64,
    /// `PR_SET_IO_FLUSHER`.
    pub is_io_flusher: bool,
    /// What `personality` was given.
    pub personality: u32,
    /// Which `membarrier` commands it has registered for.
    pub barriers: u32,
}

impl Attributes {
    /// 1 if a capability is in the bounding set, else 0.
    pub fn bounding(&self, capability: u64) -> u64 {
        !self.dropped_bounds >> capability & 1
    }
}
