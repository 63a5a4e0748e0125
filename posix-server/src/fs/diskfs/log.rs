//! The log: what was done to names and attributes, in order, until it is durable.
//!
//! Operations are numbered from 1 on. They are kept until the server says that they are durable, because a successor of the
//! server that does not know them is told again. Changes of the attributes of one inode are merged as long as they were not sent: the
//! operation that waits takes its values when it is sent. So whatever else touches the attributes of that inode ends the merging
//! ([`Log::close`]): what comes after it is an operation of its own.

use crate::fs::Inode;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::{Rc, Weak};
use alloc::vec::Vec;
use driver_protocol::files::entry::InodeFlags;
use driver_protocol::files::operation::{Operation, Set, Values};
use driver_protocol::files::{MAX_BUFFER_BYTES, MAX_OPERATIONS};

/// How much the log keeps before those who change something wait, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// What an operation takes besides its own bytes, about.
const ENTRY_BYTES: usize = 64;

enum Entry {
    /// Attributes, whose values are taken when they are sent.
    Attributes(Holder, Set),
    /// As it was or will be sent.
    Encoded(Box<[u8]>),
}

/// An inode whose values an entry will take. One without names lives no longer for that: it gives them when it goes.
enum Holder {
    Named(Rc<Inode>),
    Nameless(Weak<Inode>, u64),
}

impl Holder {
    fn new(inode: &Rc<Inode>) -> Self {
        if inode.links() > 0 {
            Self::Named(inode.clone())
        } else {
            Self::Nameless(Rc::downgrade(inode), inode.number())
        }
    }

    fn number(&self) -> u64 {
        match self {
            Self::Named(inode) => inode.number(),
            Self::Nameless(_, number) => *number,
        }
    }
}

impl Entry {
    fn len_bytes(&self) -> usize {
        match self {
            Self::Attributes(..) => ENTRY_BYTES + SET_ATTRIBUTES.encoded_bytes(),
            Self::Encoded(bytes) => ENTRY_BYTES + bytes.len(),
        }
    }
}

const SET_ATTRIBUTES: Operation<'static> = Operation::SetAttributes {
    inode: 0,
    set: Set::empty(),
    values: Values {
        mode: 0,
        uid: 0,
        gid: 0,
        flags: InodeFlags::empty(),
        size: 0,
        accessed: 0,
        modified: 0,
        changed: 0,
    },
};

/// Operations that go together.
#[derive(Debug)]
pub(super) struct Batch {
    /// The number of the first.
    pub(super) first: u64,
    /// How many.
    pub(super) count: u64,
    /// Their bytes.
    pub(super) bytes: Vec<u8>,
    /// Inodes that the log has no more use for. To be dropped where the log is not borrowed.
    pub(super) released: Vec<Rc<Inode>>,
}

/// What was done and is not known to be durable.
pub(super) struct Log {
    /// The number of the first entry.
    first: u64,
    entries: VecDeque<Entry>,
    /// How many of them were sent to this server.
    sent: usize,
    /// Attributes that can still be merged: inode, number.
    open: BTreeMap<u64, u64>,
    /// Files whose content must be on the disk before the operation of a number is sent; not of one that has gone.
    barriers: VecDeque<(u64, Weak<Inode>)>,
    len_bytes: usize,
}

impl Log {
    /// Nothing was done.
    pub(super) fn new() -> Self {
        Self {
            first: 1,
            entries: VecDeque::new(),
            sent: 0,
            open: BTreeMap::new(),
            barriers: VecDeque::new(),
            len_bytes: 0,
        }
    }

    /// The number of the last operation; 0 if there never was one.
    pub(super) fn last(&self) -> u64 {
        self.first - 1 + self.entries.len() as u64
    }

    /// The number of the last operation that was sent.
    pub(super) fn last_sent(&self) -> u64 {
        self.first - 1 + self.sent as u64
    }

    /// Whether something was not sent yet.
    pub(super) fn has_unsent(&self) -> bool {
        self.sent < self.entries.len()
    }

    /// Whether so much is kept that it is time to send it.
    pub(super) fn is_pressing(&self) -> bool {
        self.len_bytes > MAX_BYTES / 2
    }

    /// Whether nothing more should be added.
    pub(super) fn is_full(&self) -> bool {
        self.len_bytes > MAX_BYTES
    }

    /// Adds an operation; gives its number.
    pub(super) fn push(&mut self, operation: &Operation<'_>) -> u64 {
        let mut bytes = Vec::with_capacity(operation.encoded_bytes());
        operation.encode(&mut bytes);
        self.add(Entry::Encoded(bytes.into_boxed_slice()))
    }

    fn add(&mut self, entry: Entry) -> u64 {
        self.len_bytes += entry.len_bytes();
        self.entries.push_back(entry);
        self.last()
    }

    /// Notes that attributes of an inode have changed; gives the number of the operation that will say so.
    pub(super) fn attributes(&mut self, inode: &Rc<Inode>, set: Set) -> u64 {
        let number = inode.number();
        if let Some(sequence) = self.open.get(&number).copied()
            && let Some(index) = sequence.checked_sub(self.first)
            && let Some(Entry::Attributes(_, before)) = self.entries.get_mut(index as usize)
        {
            *before |= set;
            return sequence;
        }
        let sequence = self.add(Entry::Attributes(Holder::new(inode), set));
        self.open.insert(number, sequence);
        sequence
    }

    /// What changes of an inode from now on is an operation of its own, and what has changed takes its values. What held it is returned, to
    /// be dropped where the log is not borrowed.
    pub(super) fn close(&mut self, inode: u64) -> Option<Rc<Inode>> {
        let sequence = self.open.remove(&inode)?;
        let entry = self.entries.get_mut(usize::try_from(sequence.checked_sub(self.first)?).ok()?)?;
        encode(entry, sequence, &mut self.open)
    }

    /// An inode has lost its last name: the log does not keep it alive any more. What held it is returned, to be dropped where the log is
    /// not borrowed.
    pub(super) fn let_go(&mut self, inode: u64) -> Option<Rc<Inode>> {
        let Entry::Attributes(holder, _) = self.open_entry(inode)? else { return None };
        let Holder::Named(file) = holder else { return None };
        let nameless = Holder::Nameless(Rc::downgrade(file), inode);
        match core::mem::replace(holder, nameless) {
            Holder::Named(file) => Some(file),
            Holder::Nameless(..) => None,
        }
    }

    /// An inode without names goes: what was to take its values later takes them now.
    pub(super) fn freeze(&mut self, inode: &Inode) {
        if let Some(entry) = self.open_entry(inode.number())
            && let Entry::Attributes(_, set) = entry
        {
            *entry = Entry::Encoded(encoded(inode, *set));
        }
        self.open.remove(&inode.number());
    }

    /// The entry about an inode that will still take its values.
    fn open_entry(&mut self, inode: u64) -> Option<&mut Entry> {
        let index = self.open.get(&inode)?.checked_sub(self.first)?;
        self.entries.get_mut(usize::try_from(index).ok()?)
    }

    /// The content of a file is to be on the disk before the next operation that will be added.
    pub(super) fn add_barrier(&mut self, inode: &Rc<Inode>) {
        self.barriers.push_back((self.last() + 1, Rc::downgrade(inode)));
    }

    /// The file whose content must be on the disk before the next operation is sent, if there is one.
    pub(super) fn take_barrier(&mut self) -> Option<Rc<Inode>> {
        let last = self.last_sent() + 1;
        while let Some((_, inode)) = self.barriers.pop_front_if(|(at, _)| *at <= last) {
            if let Some(inode) = inode.upgrade() {
                return Some(inode);
            }
        }
        None
    }

    /// Takes what is to be sent next; it stays in the log.
    pub(super) fn take_batch(&mut self) -> Option<Batch> {
        let first = self.last_sent() + 1;
        let barrier = self.barriers.front().map_or(u64::MAX, |(at, _)| *at);
        let mut batch = Batch { first, count: 0, bytes: Vec::new(), released: Vec::new() };
        while batch.count < MAX_OPERATIONS && first + batch.count < barrier {
            let index = self.sent + batch.count as usize;
            let Some(entry) = self.entries.get_mut(index) else { break };
            batch.released.extend(encode(entry, first + batch.count, &mut self.open));
            let Entry::Encoded(bytes) = entry else { break };
            if !batch.bytes.is_empty() && batch.bytes.len() + bytes.len() > MAX_BUFFER_BYTES {
                break;
            }
            batch.bytes.extend_from_slice(bytes);
            batch.count += 1;
        }
        self.sent += batch.count as usize;
        (batch.count > 0).then_some(batch)
    }

    /// Forgets what is durable.
    pub(super) fn forget_up_to(&mut self, durable: u64) {
        while self.first <= durable && self.sent > 0 {
            let Some(entry) = self.entries.pop_front() else { break };
            self.len_bytes = self.len_bytes.saturating_sub(entry.len_bytes());
            self.first += 1;
            self.sent -= 1;
        }
    }

    /// The server has applied what was sent only up to here: the rest is sent again.
    pub(super) fn sent_up_to(&mut self, applied: u64) {
        let applied = (applied + 1).saturating_sub(self.first) as usize;
        self.sent = self.sent.min(applied);
    }

    /// A server that knows all up to `durable` has to be sent the rest.
    pub(super) fn send_again_after(&mut self, durable: u64) {
        self.forget_up_to(durable);
        self.sent = 0;
    }

    /// Gives up: nothing will be sent any more. What it kept is returned, to be dropped where the log is not borrowed.
    pub(super) fn clear(&mut self) -> impl Sized + use<> {
        self.first = self.last() + 1;
        self.sent = 0;
        self.len_bytes = 0;
        self.open.clear();
        (core::mem::take(&mut self.entries), core::mem::take(&mut self.barriers))
    }
}

/// Makes the entry with this number what is sent; gives the inode whose values it took.
fn encode(entry: &mut Entry, sequence: u64, open: &mut BTreeMap<u64, u64>) -> Option<Rc<Inode>> {
    let Entry::Attributes(holder, set) = entry else { return None };
    let number = holder.number();
    if open.get(&number) == Some(&sequence) {
        open.remove(&number);
    }
    let inode = match holder {
        Holder::Named(inode) => Some(inode.clone()),
        // One that has gone has given its values.
        Holder::Nameless(inode, _) => inode.upgrade(),
    };
    let bytes = inode.as_ref().map_or_else(Box::default, |inode| encoded(inode, *set));
    *entry = Entry::Encoded(bytes);
    inode
}

/// The operation that gives an inode the attributes that it has now.
fn encoded(inode: &Inode, set: Set) -> Box<[u8]> {
    let operation = Operation::SetAttributes { inode: inode.number(), set, values: values_of(inode) };
    let mut bytes = Vec::with_capacity(operation.encoded_bytes());
    operation.encode(&mut bytes);
    bytes.into_boxed_slice()
}

fn values_of(inode: &Inode) -> Values {
    let times = inode.recorded_times();
    Values {
        mode: inode.mode(),
        uid: inode.uid(),
        gid: inode.gid(),
        flags: InodeFlags::empty(),
        size: inode.size(),
        accessed: times.accessed,
        modified: times.modified,
        changed: times.changed,
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::fs::{Body, FileSystem, TMPFS};
    use driver_protocol::files::operation::operations;
    use std::vec;

    fn inode(number: u64) -> Rc<Inode> {
        Inode::with_number(&FileSystem::new(&TMPFS), number, 0o600, 0, 0, Body::Socket)
    }

    fn forget(inode: u64) -> Operation<'static> {
        Operation::Forget { inode }
    }

    fn sent(batch: &Batch) -> Vec<(u64, bool)> {
        operations(&batch.bytes)
            .map(|operation| (operation.inode(), matches!(operation, Operation::SetAttributes { .. })))
            .collect()
    }

    #[test]
    fn attributes_are_merged_until_they_are_sent_or_closed() {
        let (mut log, one, other) = (Log::new(), inode(11), inode(12));
        assert_eq!(log.attributes(&one, Set::MODE), 1);
        assert_eq!(log.attributes(&other, Set::MODE), 2);
        one.set_permissions(0o444);
        assert_eq!(log.attributes(&one, Set::SIZE), 1);
        log.close(11);
        assert_eq!(log.push(&forget(3)), 3);
        assert_eq!(log.attributes(&one, Set::UID), 4);
        let batch = log.take_batch().unwrap();
        assert_eq!((batch.first, batch.count), (1, 4));
        assert_eq!(sent(&batch), [(11, true), (12, true), (3, false), (11, true)]);
        let Some(Operation::SetAttributes { set, values, .. }) = operations(&batch.bytes).next() else { panic!() };
        assert_eq!((set, values.mode & 0o777), (Set::MODE | Set::SIZE, 0o444));
        assert_eq!((log.attributes(&one, Set::MODE), log.take_batch().unwrap().first), (5, 5));
        assert!(log.take_batch().is_none());
    }

    #[test]
    fn what_is_not_durable_is_sent_again() {
        let mut log = Log::new();
        (1..=5).for_each(|number| assert_eq!(log.push(&forget(number)), number));
        assert_eq!(log.take_batch().unwrap().count, 5);
        log.push(&forget(6));
        log.forget_up_to(2);
        log.send_again_after(3);
        let batch = log.take_batch().unwrap();
        assert_eq!((batch.first, sent(&batch)), (4, vec![(4, false), (5, false), (6, false)]));
        log.forget_up_to(6);
        assert_eq!((log.last(), log.last_sent(), log.len_bytes), (6, 6, 0));
    }

    #[test]
    fn a_barrier_divides_batches() {
        let (mut log, file) = (Log::new(), inode(11));
        log.push(&forget(1));
        log.add_barrier(&file);
        log.push(&forget(2));
        assert!(log.take_barrier().is_none());
        assert_eq!(log.take_batch().unwrap().count, 1);
        assert!(log.take_batch().is_none());
        assert!(Rc::ptr_eq(&log.take_barrier().unwrap(), &file));
        assert_eq!(log.take_batch().unwrap().first, 2);
    }

    #[test]
    fn a_batch_is_not_larger_than_what_goes_along() {
        let mut log = Log::new();
        let value = vec![7; 30 << 10];
        for _ in 0..5 {
            log.push(&Operation::SetXattr { inode: 1, name: b"user.a", value: &value, time: 0 });
        }
        let counts: Vec<u64> = core::iter::from_fn(|| log.take_batch().map(|batch| batch.count)).collect();
        assert_eq!(counts, [2, 2, 1]);
        assert!(!log.is_full() && !log.has_unsent());
    }
}
