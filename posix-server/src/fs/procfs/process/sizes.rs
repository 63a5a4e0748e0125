//! How much memory a process has, in several ways of counting.

use super::subject::Subject;
use crate::errno::Result;
use crate::platform::{self, PAGE_SIZE, Protection, Sharing};
use crate::process::Process;
use crate::process::exhaustion::Weight;
use crate::vm::areas::{Area, Content};
use alloc::format;
use alloc::vec::Vec;

/// Sizes in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    /// All areas.
    pub all: u64,
    /// What is locked of them.
    pub locked: u64,
    /// What is in memory now.
    pub resident: u64,
    /// The most that ever was.
    pub peak_resident: u64,
    /// What can be written and is its own, but for the stack.
    pub data: u64,
    /// The first thread's stack.
    pub stack: u64,
    /// Code of the program.
    pub program: u64,
    /// Code of its libraries.
    pub libraries: u64,
}

impl Sizes {
    /// Those of a process.
    pub(super) fn of(process: &Process) -> Self {
        let executable = process.executable();
        let mut sizes = Self {
            resident: process.account.used_frames() * PAGE_SIZE,
            peak_resident: process.note_resident() * super::KIB,
            ..Self::default()
        };
        for area in process.vm().areas() {
            sizes.all += area.length();
            sizes.locked += area.locked_bytes();
            if let Some(kind) = sizes.kind(&area, executable.as_deref()) {
                *kind += area.length();
            }
        }
        sizes
    }

    /// The sum that an area belongs to.
    fn kind(&mut self, area: &Area, executable: Option<&crate::fs::Inode>) -> Option<&mut u64> {
        let is_code = area.protection.contains(Protection::EXECUTE);
        let is_data = area.protection.contains(Protection::WRITE) && area.sharing == Sharing::Private;
        match &area.content {
            Content::Stack => Some(&mut self.stack),
            Content::File(file, _) if is_code && executable.is_some_and(|inode| inode.is_same(&file.inode)) => {
                Some(&mut self.program)
            }
            Content::File(..) if is_code => Some(&mut self.libraries),
            Content::File(..)
            | Content::Anonymous
            | Content::Heap
            | Content::SharedAnonymous(..)
            | Content::Segment(..) => is_data.then_some(&mut self.data),
        }
    }
}

/// `statm`.
pub(super) fn in_pages(subject: &Subject) -> Result<Vec<u8>> {
    let sizes = subject.process().map(|process| Sizes::of(process)).unwrap_or_default();
    let pages = |bytes: u64| bytes / PAGE_SIZE;
    let (all, resident, program) = (pages(sizes.all), pages(sizes.resident), pages(sizes.program));
    Ok(format!("{all} {resident} 0 {program} 0 {} 0\n", pages(sizes.data + sizes.stack)).into_bytes())
}

/// `oom_score`: how soon it ends when memory is used up.
pub(super) fn badness(subject: &Subject) -> Result<Vec<u8>> {
    let score = subject.process().map_or(0, |process| Weight::of(process).score(platform::total_frames()));
    Ok(format!("{score}\n").into_bytes())
}
