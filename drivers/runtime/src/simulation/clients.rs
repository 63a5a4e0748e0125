//! Clients whose answers a test looks at.

use crate::service::{Client, ClientError};
use driver_protocol::{ANSWERED, Refusal, Words};
use std::cell::RefCell;
use std::rc::Rc;
use std::vec::Vec;

/// A client that was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The name that the test gave it.
    pub name: u64,
    /// The answer's label.
    pub label: u64,
    /// Its words.
    pub words: Words,
    /// What was written to its receive buffer.
    pub received: Vec<u8>,
}

impl Answered {
    /// Why the request was not served; `None` if it was.
    pub fn refusal(&self) -> Option<Refusal> {
        if self.label == ANSWERED { None } else { Refusal::check(self.label).err() }
    }
}

/// All answers so far, in their order. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Answers(Rc<RefCell<Vec<Answered>>>);

impl Answers {
    /// Takes the answers that came since the last call.
    pub fn take(&self) -> Vec<Answered> {
        self.0.take()
    }

    /// A client with this name and send buffer, and so much room for an answer.
    pub fn client(&self, name: u64, sends: &[u8], room_bytes: usize) -> SimulatedClient {
        let is_gone = false;
        SimulatedClient {
            name,
            sends: sends.to_vec(),
            room_bytes,
            received: RefCell::default(),
            answers: self.clone(),
            is_gone,
        }
    }

    /// A client that has died meanwhile.
    pub fn dead_client(&self, name: u64) -> SimulatedClient {
        SimulatedClient { is_gone: true, ..self.client(name, &[], 0) }
    }
}

/// A client.
#[derive(Debug)]
pub struct SimulatedClient {
    name: u64,
    sends: Vec<u8>,
    room_bytes: usize,
    received: RefCell<Vec<u8>>,
    answers: Answers,
    is_gone: bool,
}

impl Client for SimulatedClient {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, ClientError> {
        if self.is_gone {
            return Err(ClientError);
        }
        let rest = usize::try_from(offset).ok().and_then(|offset| self.sends.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<usize, ClientError> {
        if self.is_gone {
            return Err(ClientError);
        }
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(self.room_bytes);
        let count = bytes.len().min(self.room_bytes - at);
        let mut received = self.received.borrow_mut();
        let len = received.len().max(at + count);
        received.resize(len, 0);
        received[at..at + count].copy_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn answer(self, label: u64, words: Words) {
        let received = self.received.take();
        self.answers.0.borrow_mut().push(Answered { name: self.name, label, words, received });
    }
}
