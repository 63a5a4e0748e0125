//! The model of budgets, which have no end.

use crate::errno::Result;

/// A budget.
#[derive(Clone, Default)]
pub struct Account;

impl Account {
    /// Makes a budget of so many frames for a process. `EAGAIN` if the server's own is used up.
    pub fn for_process(_frames: u64) -> Result<Self> {
        Ok(Self)
    }

    /// Makes a budget of so many frames for the contents of a file system.
    pub fn for_files(_frames: u64) -> Result<Self> {
        Ok(Self)
    }

    /// The budget for pages of files that can be had again.
    pub fn for_cache() -> Result<Self> {
        Ok(Self)
    }

    /// Changes how many frames it has.
    pub fn set_frames_limit(&self, _frames: u64) -> Result<()> {
        Ok(())
    }

    /// Whether hardly anything is left of it.
    pub fn is_full(&self) -> bool {
        false
    }

    /// Frames in use.
    pub fn used_frames(&self) -> u64 {
        0
    }
}
