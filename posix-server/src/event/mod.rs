//! Files that are made to be waited for, and files that wait for others.
//!
//! | module | what |
//! |---|---|
//! | `counter` | `eventfd(2)` |
//! | `epoll` | `epoll(7)` |
//!
//! They have no names. All wait in [wait queues](crate::wait), as every file does.

pub mod counter;
pub mod epoll;

use alloc::rc::Rc;

/// An open file of this module that has calls of its own.
#[derive(Clone, Copy)]
pub enum EventFile<'a> {
    /// `epoll_create`.
    Epoll(&'a Rc<epoll::Epoll>),
}

impl<'a> EventFile<'a> {
    /// It as an epoll instance.
    pub fn epoll(self) -> Option<&'a Rc<epoll::Epoll>> {
        match self {
            Self::Epoll(epoll) => Some(epoll),
        }
    }
}
