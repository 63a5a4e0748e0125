//! How many things of each kind the server has (`/proc/quire/objects`).
//!
//! Whoever looks for what is not given back compares two readings: a kind whose number has grown is what somebody still holds. What is
//! counted has a field of type [`Counted`], which takes no room.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! kinds {
    ($($kind:ident: $label:literal,)*) => {
        /// What is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the variants say what they are")]
        pub enum Kind {
            $($kind,)*
        }

        /// How each kind is called, in the order of [`Kind`].
        const LABELS: &[&str] = &[$($label,)*];

        /// The types of the fields by which things are counted, one for each kind.
        #[expect(missing_docs, reason = "as the kinds")]
        pub mod counted {
            use super::{Counted, Kind};
            $(pub type $kind = Counted<{ Kind::$kind as usize }>;)*
        }
    };
}

kinds! {
    Process: "processes",
    Thread: "threads",
    Vm: "address_spaces",
    Block: "thread_blocks",
    Descriptors: "descriptor_tables",
    OpenFile: "open_files",
    FileSystem: "file_systems",
    Mount: "mounts",
    Inode: "inodes",
    Dentry: "names",
    Pipe: "pipes",
    Socket: "sockets",
    Terminal: "terminals",
    EpollItem: "epoll_items",
    Watch: "inotify_watches",
    Timer: "timers",
    Sleeper: "sleepers",
    FutexWaiter: "futex_waiters",
    IpcObject: "ipc_objects",
    Queue: "message_queues",
    Memory: "memories",
    Space: "kernel_spaces",
}

static ALIVE: [AtomicU64; LABELS.len()] = [const { AtomicU64::new(0) }; LABELS.len()];

/// The number of things of the kind with this index that are alive.
fn alive(kind: usize) -> Option<&'static AtomicU64> {
    ALIVE.get(kind)
}

/// One thing of a kind, counted as long as it lives.
#[derive(Debug)]
pub struct Counted<const KIND: usize>(());

impl<const KIND: usize> Default for Counted<KIND> {
    fn default() -> Self {
        if let Some(number) = alive(KIND) {
            number.fetch_add(1, Ordering::Relaxed);
        }
        Self(())
    }
}

impl<const KIND: usize> Drop for Counted<KIND> {
    fn drop(&mut self) {
        if let Some(number) = alive(KIND) {
            number.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Every kind with its number.
pub fn numbers() -> Vec<(&'static str, u64)> {
    LABELS.iter().zip(&ALIVE).map(|(label, number)| (*label, number.load(Ordering::Relaxed))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_are_counted_while_they_live() {
        let number = || alive(Kind::Queue as usize).unwrap().load(Ordering::Relaxed);
        let before = number();
        let things = [counted::Queue::default(), counted::Queue::default()];
        assert!(number() >= before + 2);
        drop(things);
        assert_eq!(size_of::<counted::Queue>(), 0);
        assert!(numbers().iter().any(|(label, _)| *label == "message_queues"));
    }
}
