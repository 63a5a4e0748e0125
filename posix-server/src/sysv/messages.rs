//! Message queues (`msgget(2)`, `msgop(2)`).

use super::table::now_s;
use crate::budget::{Charge, Kind as Budget};
use crate::errno::{Errno, Result};
use crate::process::Pid;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

/// The longest message, in bytes (`MSGMAX`).
pub const MAX_MESSAGE_BYTES: u64 = 8192;
/// What a new queue holds, in bytes (`MSGMNB`).
pub const QUEUE_BYTES: u64 = 16384;
/// How many queues there can be (`MSGMNI`).
pub const MAX_QUEUES: usize = 32000;

/// What a message takes of the server's memory besides its bytes, about; and a queue.
const OVERHEAD_BYTES: u64 = 96;
const QUEUE_CHARGE_BYTES: u64 = 512;

/// A message.
#[derive(Debug)]
pub struct Message {
    /// Its type, above 0.
    pub kind: i64,
    /// Its content.
    pub bytes: Vec<u8>,
    _charge: Charge,
}

impl Message {
    /// A message; it is charged. `ENOMEM`.
    pub fn new(kind: i64, bytes: Vec<u8>) -> Result<Self> {
        let charge = Charge::new(Budget::Contents, OVERHEAD_BYTES + bytes.len() as u64)?;
        Ok(Self { kind, bytes, _charge: charge })
    }
}

/// Which messages a receiver takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The first.
    Any,
    /// The first of this type.
    Kind(i64),
    /// The first of another type (`MSG_EXCEPT`).
    Other(i64),
    /// The first of the lowest type that is not above this.
    UpTo(i64),
}

impl Wanted {
    /// What `msgtyp` of `msgrcv` means.
    pub fn from_argument(kind: i64, excepts: bool) -> Self {
        match kind {
            0 => Self::Any,
            1.. if excepts => Self::Other(kind),
            1.. => Self::Kind(kind),
            _ => Self::UpTo(kind.checked_neg().unwrap_or(i64::MAX)),
        }
    }
}

/// Who did something last, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// In seconds since 1970 began; 0: never.
    pub time_s: i64,
    /// The process; 0: none.
    pub pid: Pid,
}

/// A queue.
pub struct Messages {
    messages: RefCell<VecDeque<Message>>,
    bytes: Cell<u64>,
    /// How many bytes it holds.
    pub most_bytes: Cell<u64>,
    /// The last `msgsnd`.
    pub sent: Cell<Last>,
    /// The last `msgrcv`.
    pub received: Cell<Last>,
    _charge: Charge,
}

impl Messages {
    /// An empty queue. `ENOSPC` if the server keeps too much already.
    pub fn new() -> Result<Self> {
        let charge = Charge::new(Budget::Names, QUEUE_CHARGE_BYTES).map_err(|_| Errno::ENOSPC)?;
        Ok(Self {
            messages: RefCell::default(),
            bytes: Cell::new(0),
            most_bytes: Cell::new(QUEUE_BYTES),
            sent: Cell::default(),
            received: Cell::default(),
            _charge: charge,
        })
    }

    /// How many messages there are, and how many bytes they have.
    pub fn filling(&self) -> (u64, u64) {
        (self.messages.borrow().len() as u64, self.bytes.get())
    }

    /// Puts a message in; gives it back if there is no room.
    pub fn send(&self, message: Message, sender: Pid) -> core::result::Result<(), Message> {
        let most = self.most_bytes.get();
        let length = message.bytes.len() as u64;
        let mut messages = self.messages.borrow_mut();
        // Empty messages count, too: there may not be more of them than bytes.
        if self.bytes.get() + length > most || messages.len() as u64 + 1 > most {
            return Err(message);
        }
        self.bytes.set(self.bytes.get() + length);
        messages.push_back(message);
        self.sent.set(Last { time_s: now_s(), pid: sender });
        Ok(())
    }

    /// Takes a message. `ENOMSG`; `E2BIG` if it is longer than `most` and may not be cut.
    pub fn receive(&self, wanted: Wanted, most: u64, may_cut: bool, receiver: Pid) -> Result<Message> {
        let mut messages = self.messages.borrow_mut();
        let index = Self::find(&messages, wanted).ok_or(Errno::ENOMSG)?;
        if messages.get(index).is_some_and(|message| message.bytes.len() as u64 > most) && !may_cut {
            return Err(Errno::E2BIG);
        }
        let mut message = messages.remove(index).ok_or(Errno::ENOMSG)?;
        self.bytes.set(self.bytes.get().saturating_sub(message.bytes.len() as u64));
        self.received.set(Last { time_s: now_s(), pid: receiver });
        message.bytes.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(message)
    }

    fn find(messages: &VecDeque<Message>, wanted: Wanted) -> Option<usize> {
        let mut found = messages.iter().enumerate();
        match wanted {
            Wanted::Any => (!messages.is_empty()).then_some(0),
            Wanted::Kind(kind) => found.find(|(_, message)| message.kind == kind).map(|(index, _)| index),
            Wanted::Other(kind) => found.find(|(_, message)| message.kind != kind).map(|(index, _)| index),
            Wanted::UpTo(most) => found
                .filter(|(_, message)| message.kind <= most)
                .min_by_key(|(index, message)| (message.kind, *index))
                .map(|(index, _)| index),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(kinds: &[i64]) -> Messages {
        let queue = Messages::new().unwrap();
        for kind in kinds {
            queue.send(Message::new(*kind, alloc::vec![b'x'; 4]).unwrap(), 1).unwrap();
        }
        queue
    }

    fn kind(queue: &Messages, wanted: Wanted) -> Result<i64> {
        queue.receive(wanted, 8, false, 1).map(|message| message.kind)
    }

    #[test]
    fn messages_are_taken_by_type() {
        let queue = queue(&[3, 1, 2, 1, 5]);
        assert_eq!(kind(&queue, Wanted::Kind(2)), Ok(2));
        assert_eq!(kind(&queue, Wanted::UpTo(2)), Ok(1));
        assert_eq!(kind(&queue, Wanted::Other(3)), Ok(1));
        assert_eq!(kind(&queue, Wanted::Kind(9)), Err(Errno::ENOMSG));
        assert_eq!((kind(&queue, Wanted::Any), kind(&queue, Wanted::Any)), (Ok(3), Ok(5)));
        assert_eq!(queue.filling(), (0, 0));
    }

    #[test]
    fn what_is_too_long_is_cut_only_if_it_may_be() {
        let queue = queue(&[1]);
        assert_eq!(queue.receive(Wanted::Any, 3, false, 1).err(), Some(Errno::E2BIG));
        assert_eq!(queue.receive(Wanted::Any, 3, true, 1).unwrap().bytes.len(), 3);
    }

    #[test]
    fn a_full_queue_takes_no_more() {
        let queue = queue(&[1]);
        queue.most_bytes.set(7);
        assert!(queue.send(Message::new(1, alloc::vec![0; 4]).unwrap(), 1).is_err());
        assert!(queue.send(Message::new(1, alloc::vec![0; 3]).unwrap(), 1).is_ok());
    }
}
