//! What a handle names, and what all objects have in common: a count of references and somebody who pays.

use crate::account::Account;
use crate::channel::{Endpoint, Letter};
use crate::dma::DmaSpace;
use crate::errand::Errand;
use crate::event::{Event, Notice};
use crate::handles::HandleTable;
use crate::interrupt::Interrupt;
use crate::memory::{Memory, Space};
use crate::pager::Pager;
use crate::pool::Id;
use crate::ports::IoPorts;
use crate::queue::Queue;
use crate::thread::Thread;
use crate::timer::Timer;
use quire_abi::{ObjectKind, Rights};

/// The one-shot right to answer a call. There is never more than one to a call, so it needs no object of its own: it names
/// the caller, and a number that changes when the call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyRef {
    /// A parked thread, in its call number `serial`.
    Thread {
        /// Who called.
        thread: Id<Thread>,
        /// [`crate::thread::CallRecord::serial`] during that call.
        serial: u32,
    },
    /// A call that was made through a queue.
    Letter(Id<Letter>),
}

/// A reference to an object. Where it is kept (a handle table, a message under way), it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the variants are the object kinds")]
pub enum ObjectRef {
    Account(Id<Account>),
    Memory(Id<Memory>),
    Space(Id<Space>),
    Thread(Id<Thread>),
    Table(Id<HandleTable>),
    Channel(Id<Endpoint>),
    Reply(ReplyRef),
    Queue(Id<Queue>),
    Interrupt(Id<Interrupt>),
    IoPorts(Id<IoPorts>),
    Timer(Id<Timer>),
    Event(Id<Event>),
    Pager(Id<Pager>),
    Dma(Id<DmaSpace>),
    Log,
    Hardware,
}

impl ObjectRef {
    /// The kind, as the object API numbers it.
    pub const fn kind(self) -> ObjectKind {
        match self {
            Self::Account(_) => ObjectKind::Account,
            Self::Memory(_) => ObjectKind::Memory,
            Self::Space(_) => ObjectKind::AddressSpace,
            Self::Thread(_) => ObjectKind::Thread,
            Self::Table(_) => ObjectKind::HandleTable,
            Self::Channel(_) => ObjectKind::Channel,
            Self::Reply(_) => ObjectKind::Reply,
            Self::Queue(_) => ObjectKind::Queue,
            Self::Interrupt(_) => ObjectKind::Interrupt,
            Self::IoPorts(_) => ObjectKind::IoPorts,
            Self::Timer(_) => ObjectKind::Timer,
            Self::Event(_) => ObjectKind::Event,
            Self::Pager(_) => ObjectKind::Pager,
            Self::Dma(_) => ObjectKind::DmaSpace,
            Self::Log => ObjectKind::Log,
            Self::Hardware => ObjectKind::Hardware,
        }
    }

    /// A number that is the same for all handles to the object, and for no other object of its kind that is alive.
    pub fn number(self) -> u64 {
        match self {
            Self::Account(id) => id.index().into(),
            Self::Memory(id) => id.index().into(),
            Self::Space(id) => id.index().into(),
            Self::Thread(id) => id.index().into(),
            Self::Table(id) => id.index().into(),
            Self::Channel(id) => id.index().into(),
            Self::Reply(ReplyRef::Thread { thread, serial }) => u64::from(serial) << 32 | u64::from(thread.index()),
            Self::Reply(ReplyRef::Letter(id)) => 1 << 63 | u64::from(id.index()),
            Self::Queue(id) => id.index().into(),
            Self::Interrupt(id) => id.index().into(),
            Self::IoPorts(id) => id.index().into(),
            Self::Timer(id) => id.index().into(),
            Self::Event(id) => id.index().into(),
            Self::Pager(id) => id.index().into(),
            Self::Dma(id) => id.index().into(),
            Self::Log | Self::Hardware => 0,
        }
    }
}

/// All rights that mean something for a kind: what the maker of an object gets.
pub const fn full_rights(kind: ObjectKind) -> Rights {
    let common = Rights::DUPLICATE.union(Rights::TRANSFER);
    match kind {
        ObjectKind::Account => common.union(Rights::READ).union(Rights::MANAGE).union(Rights::USE),
        ObjectKind::Memory => common
            .union(Rights::READ)
            .union(Rights::WRITE)
            .union(Rights::EXECUTE)
            .union(Rights::MAP)
            .union(Rights::MANAGE),
        ObjectKind::AddressSpace => {
            common.union(Rights::READ).union(Rights::WRITE).union(Rights::MAP).union(Rights::MANAGE).union(Rights::USE)
        }
        ObjectKind::Thread => common.union(Rights::READ).union(Rights::WRITE).union(Rights::MANAGE).union(Rights::WAIT),
        ObjectKind::HandleTable => common.union(Rights::READ).union(Rights::WRITE).union(Rights::USE),
        ObjectKind::Channel => common.union(Rights::SEND).union(Rights::RECEIVE).union(Rights::WAIT),
        ObjectKind::Reply => Rights::TRANSFER.union(Rights::SEND).union(Rights::READ).union(Rights::WRITE),
        ObjectKind::Queue => common.union(Rights::WAIT).union(Rights::SEND),
        ObjectKind::Interrupt => common.union(Rights::WRITE).union(Rights::WAIT).union(Rights::MANAGE),
        ObjectKind::IoPorts => common.union(Rights::READ).union(Rights::WRITE),
        ObjectKind::Timer => common.union(Rights::WRITE).union(Rights::WAIT),
        ObjectKind::Event => common.union(Rights::SEND).union(Rights::WAIT),
        ObjectKind::DmaSpace => common.union(Rights::WRITE).union(Rights::MANAGE),
        ObjectKind::Pager => common.union(Rights::READ).union(Rights::WRITE).union(Rights::WAIT),
        ObjectKind::Log => common.union(Rights::WRITE),
        ObjectKind::Hardware => common.union(Rights::MANAGE),
    }
}

/// An object and what may be done with it: what a slot of a handle table holds, and what travels in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    /// The object.
    pub object: ObjectRef,
    /// The rights.
    pub rights: Rights,
}

/// What the holder of a reply may do.
const REPLY_RIGHTS: Rights = full_rights(ObjectKind::Reply);

impl Capability {
    /// The right to answer a call.
    #[inline(always)]
    pub const fn reply(reply: ReplyRef) -> Self {
        Self { object: ObjectRef::Reply(reply), rights: REPLY_RIGHTS }
    }

    /// With all rights of the object's kind.
    pub const fn full(object: ObjectRef) -> Self {
        Self { object, rights: full_rights(object.kind()) }
    }
}

/// A type of object that handles can name.
pub trait Object: Sized {
    /// The id, if `object` is of this type.
    fn from_ref(object: ObjectRef) -> Option<Id<Self>>;
}

macro_rules! objects {
    ($($variant:ident => $type:ty;)+) => {
        $(impl Object for $type {
            #[inline]
            fn from_ref(object: ObjectRef) -> Option<Id<Self>> {
                if let ObjectRef::$variant(id) = object { Some(id) } else { None }
            }
        })+
    };
}

objects! {
    Account => Account;
    Memory => Memory;
    Space => Space;
    Thread => Thread;
    Table => HandleTable;
    Channel => Endpoint;
    Queue => Queue;
    Interrupt => Interrupt;
    IoPorts => IoPorts;
    Timer => Timer;
    Event => Event;
    Pager => Pager;
    Dma => DmaSpace;
}

/// What all objects have in common.
#[derive(Debug)]
pub struct Header {
    /// Handles, messages and other objects that keep it alive.
    pub references: u32,
    /// Who paid for it.
    pub account: Id<Account>,
    /// It stands in the list of things to be torn down; the next in that list.
    pub doomed: Option<Doomed>,
}

/// Membership in the list of things to be torn down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// The next in the list.
    pub next: Option<ObjectRef>,
}

impl Header {
    /// A new object's: one reference, owned by whoever makes it.
    pub const fn new(account: Id<Account>) -> Self {
        Self { references: 1, account, doomed: None }
    }
}

/// Whatever can stand in a list of the kernel. An object is in one list at a time at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// Waits: for its call to be received, for a message, for an event; or, dead, for room in a queue to say so.
    Thread(Id<Thread>),
    /// Waits to be received; or, answered, for room in a queue.
    Letter(Id<Letter>),
    /// Waits for its event; or, fired, for room in a queue.
    Notice(Id<Notice>),
    /// Bound, with something to tell, waits for room in a queue.
    Endpoint(Id<Endpoint>),
    /// Bound and past its deadline, waits for room in a queue.
    Timer(Id<Timer>),
    /// Bound and raised, waits for room in a queue.
    Interrupt(Id<Interrupt>),
    /// Bound, with something to do, waits for room in a queue.
    Pager(Id<Pager>),
    /// Waits for a page; or, over, for room in a queue.
    Errand(Id<Errand>),
}

/// What each object costs its account in bytes of kernel memory: the record, its links, and a share of the pool.
pub mod cost {
    /// A thread, without vector state.
    pub const THREAD: u64 = 1024;
    /// A handle table without slots.
    pub const TABLE: u64 = 128;
    /// A chunk of [`crate::handles::CHUNK`] handle slots.
    pub const TABLE_CHUNK: u64 = 2560;
    /// One endpoint of a channel.
    pub const ENDPOINT: u64 = 192;
    /// A message under way that no parked thread stands for.
    pub const LETTER: u64 = 512;
    /// A queue without its rings.
    pub const QUEUE: u64 = 256;
    /// One frame of a queue's rings, besides the frame itself.
    pub const QUEUE_FRAME: u64 = 8;
    /// An event.
    pub const EVENT: u64 = 192;
    /// A registration with an event.
    pub const NOTICE: u64 = 192;
    /// A timer, its place in the order of deadlines included.
    pub const TIMER: u64 = 192;
    /// An interrupt.
    pub const INTERRUPT: u64 = 192;
    /// A range of I/O ports.
    pub const IO_PORTS: u64 = 96;
    /// A pager, without the memory that it fills.
    pub const PAGER: u64 = 192;
    /// A DMA space without what is mapped.
    pub const DMA_SPACE: u64 = 96;
    /// What was mapped by one call, without its pages.
    pub const DMA_MAPPING: u64 = 96;
    /// A page of that.
    pub const DMA_PAGE: u64 = 4;
    /// An errand, its place in the order of deadlines included.
    pub const ERRAND: u64 = 256;
}
