//! The call table: every call of the object API, once.
//!
//! The kernel's dispatcher checks handles by it, the stubs are written against it, and `docs/object-api.md` is made from it.

use crate::error::Error;
use crate::handle::{ObjectKind, Rights};

/// What an argument register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgumentKind {
    /// A handle to an object of this kind (`None`: of any kind), with at least these rights.
    Handle(Option<ObjectKind>, Rights),
    /// Like `Handle`, but [`Handle::NONE`](crate::Handle::NONE) is allowed.
    OptionalHandle(ObjectKind, Rights),
    /// A number.
    Value,
    /// The address of something in the caller's space.
    Pointer,
}

/// One argument of a call.
#[derive(Clone, Copy, Debug)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: ArgumentKind,
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct CallInfo {
    /// The call.
    pub call: Call,
    /// Its name in text.
    pub name: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// Its arguments, in the order of the registers.
    pub arguments: &'static [Argument],
    /// What `rdx` and `r8` hold on success.
    pub returns: &'static [&'static str],
    /// The errors it can return besides those that its arguments imply (`BadHandle`, `WrongKind`, `MissingRights` for a
    /// handle, `BadAddress` for a pointer).
    pub errors: &'static [Error],
}

macro_rules! argument {
    ($name:ident: value) => { Argument { name: stringify!($name), kind: ArgumentKind::Value } };
    ($name:ident: pointer) => { Argument { name: stringify!($name), kind: ArgumentKind::Pointer } };
    ($name:ident: any $($right:ident)*) => {
        Argument { name: stringify!($name), kind: ArgumentKind::Handle(None, argument!(@rights $($right)*)) }
    };
    ($name:ident: maybe $kind:ident $($right:ident)*) => {
        Argument {
            name: stringify!($name),
            kind: ArgumentKind::OptionalHandle(ObjectKind::$kind, argument!(@rights $($right)*)),
        }
    };
    ($name:ident: $kind:ident $($right:ident)*) => {
        Argument {
            name: stringify!($name),
            kind: ArgumentKind::Handle(Some(ObjectKind::$kind), argument!(@rights $($right)*)),
        }
    };
    (@rights $($right:ident)*) => { Rights::empty()$(.union(Rights::$right))* };
}

macro_rules! calls {
    ($(
        $(#[doc = $doc:literal])+
        $number:literal $variant:ident = $name:ident($($argument:ident: [$($kind:tt)+]),*)
            -> ($($returns:literal),*) ! [$($error:ident),*];
    )+) => {
        /// A call's number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u64)]
        pub enum Call {
            $($(#[doc = $doc])+ $variant = $number,)+
        }

        impl Call {
            /// The call with this number.
            #[inline]
            pub const fn from_number(number: u64) -> Option<Self> {
                match number {
                    $($number => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Its line of the table.
            pub const fn info(self) -> &'static CallInfo {
                match self {
                    $(Self::$variant => {
                        const INFO: CallInfo = CallInfo {
                            call: Call::$variant,
                            name: stringify!($name),
                            doc: concat!($($doc, "\n"),+),
                            arguments: &[$(argument!($argument: $($kind)+)),*],
                            returns: &[$($returns),*],
                            errors: &[$(Error::$error),*],
                        };
                        &INFO
                    })+
                }
            }
        }

        /// Every call, in order of the numbers.
        pub const TABLE: &[&CallInfo] = &[$(Call::$variant.info(),)+];
    };
}

calls! {
    // ---- handles -------------------------------------------------------------------------------------------------
    /// Closes a handle. The object goes when nothing refers to it any more.
    1 HandleClose = handle_close(handle: [any]) -> () ! [];
    /// Makes another handle to the same object, with those of the rights that `rights` names. Not of a `Reply`: there is one.
    2 HandleDuplicate = handle_duplicate(handle: [any DUPLICATE], rights: [value])
        -> ("handle") ! [BadArgument, WrongKind, Full, NoMemory, AccountLimit];
    /// Tells an object's kind, the handle's rights (low and high 32 bits of the first value), and a number that is the
    /// same for all handles to the object.
    3 HandleInfo = handle_info(handle: [any]) -> ("kind | rights << 32", "object number") ! [];
    /// Makes an empty handle table. A table lives as long as threads run with it or handles in other tables name it; when the
    /// last thread that was started with it has ended, all its handles are closed.
    4 TableCreate = table_create(account: [Account USE]) -> ("handle table") ! [Full, NoMemory, AccountLimit];
    /// Puts a handle to the same object into another table, with those of the rights that `rights` names.
    5 TableInstall = table_install(table: [HandleTable WRITE], handle: [any TRANSFER], rights: [value])
        -> ("handle in that table") ! [BadArgument, WrongKind, Full, NoMemory, AccountLimit];
    /// Copies a handle out of another table into the caller's.
    6 TableExtract = table_extract(table: [HandleTable READ], handle_there: [value], rights: [value])
        -> ("handle") ! [BadArgument, WrongKind, NotFound, Full, NoMemory, AccountLimit];
    /// Closes a handle in another table.
    7 TableClose = table_close(table: [HandleTable WRITE], handle_there: [value]) -> () ! [NotFound];

    // ---- accounts ------------------------------------------------------------------------------------------------
    /// Makes an account inside another, with the `AccountLimits` at `limits`. `Full`: accounts nest 16 deep at most.
    16 AccountCreate = account_create(parent: [Account USE], limits: [pointer]) -> ("account") ! [Full, NoMemory, AccountLimit];
    /// Writes an `AccountInfo` to `info`.
    17 AccountInfo = account_info(account: [Account READ], info: [pointer]) -> () ! [];
    /// Changes the limits to the `AccountLimits` at `limits`.
    18 AccountSetLimits = account_set_limits(account: [Account MANAGE], limits: [pointer]) -> () ! [];
    /// Kills every thread charged to the account or to a descendant, closes all handles in tables that no thread runs with and
    /// refuses all messages that wait on endpoints charged there: nothing keeps itself alive.
    19 AccountKill = account_kill(account: [Account MANAGE]) -> ("threads killed") ! [];

    // ---- memories ------------------------------------------------------------------------------------------------
    /// Makes a memory of `length` bytes, which read as zero. `flags`: `MemoryFlags`.
    32 MemoryCreate = memory_create(account: [Account USE], length: [value], flags: [value])
        -> ("memory") ! [BadArgument, OutOfRange, Full, NoMemory, AccountLimit];
    /// Makes a memory of `length` bytes of physical memory from `physical_address`: device registers or firmware tables.
    /// Memory that the kernel has given out or keeps for itself is refused.
    33 MemoryCreatePhysical = memory_create_physical(hardware: [Hardware MANAGE], account: [Account USE],
        physical_address: [value], length: [value], flags: [value])
        -> ("memory") ! [BadArgument, Misaligned, OutOfRange, Full, NoMemory, AccountLimit];
    /// Makes a memory with the present contents of another; each page is copied when one of the two is next written. The
    /// cost does not depend on the size.
    34 MemorySnapshot = memory_snapshot(memory: [Memory READ], account: [Account USE]) -> ("memory") ! [BadState, Revoked, Full, NoMemory, AccountLimit];
    /// Makes a memory that is the slice of `length` bytes from `offset` of another, sharing its pages. The rights are
    /// those of `memory` plus MANAGE; whoever has MANAGE can revoke it.
    35 MemoryWindow = memory_window(memory: [Memory MAP], account: [Account USE], offset: [value], length: [value])
        -> ("memory") ! [Misaligned, OutOfRange, Revoked, Full, NoMemory, AccountLimit];
    /// Ends a window: its mappings vanish, its use fails with `Revoked`.
    36 MemoryRevoke = memory_revoke(window: [Memory MANAGE]) -> () ! [BadState];
    /// Changes the size. What is cut off is gone, also where it is mapped; what is added reads as zero.
    37 MemoryResize = memory_resize(memory: [Memory MANAGE WRITE], length: [value]) -> () ! [OutOfRange, BadState, Revoked, NoMemory];
    /// Reads `length` bytes from `offset` into the caller's `buffer`.
    38 MemoryRead = memory_read(memory: [Memory READ], offset: [value], buffer: [pointer], length: [value])
        -> ("bytes read") ! [OutOfRange, Revoked, NoMemory, AccountLimit];
    /// Writes `length` bytes from the caller's `buffer` at `offset`.
    39 MemoryWrite = memory_write(memory: [Memory WRITE], offset: [value], buffer: [pointer], length: [value])
        -> ("bytes written") ! [OutOfRange, Revoked, NoMemory, AccountLimit];
    /// Gives the frames of the range back; it reads as zero.
    40 MemoryDiscard = memory_discard(memory: [Memory WRITE], offset: [value], length: [value]) -> () ! [Misaligned, OutOfRange, BadState, Revoked, NoMemory];
    /// Writes a `MemoryInfo` to `info`.
    41 MemoryInfo = memory_info(memory: [Memory READ], info: [pointer]) -> () ! [Revoked];
    /// Copies `length` bytes between memories and address spaces (at least one of each pair of offsets is an address).
    /// Returns how many were copied before the first that could not be; none is an error that says which side's
    /// fault it was: `RemoteFault` for a space, `OutOfRange` for a memory.
    42 Copy = copy(to: [any WRITE], to_offset: [value], from: [any READ], from_offset: [value], length: [value])
        -> ("bytes copied") ! [WrongKind, OutOfRange, RemoteFault, Revoked, NoMemory, AccountLimit];

    // ---- address spaces ------------------------------------------------------------------------------------------
    /// Makes an empty address space.
    48 SpaceCreate = space_create(account: [Account USE]) -> ("address space") ! [Full, NoMemory, AccountLimit];
    /// Applies `count` `SpaceOp`s at `ops`, all or nothing. The second value is the address that a `FIND` chose; after
    /// an error `rdx` holds the index of the operation that failed.
    49 SpaceCommit = space_commit(space: [AddressSpace MAP], ops: [pointer], count: [value])
        -> ("operations applied", "address") ! [BadArgument, Misaligned, OutOfRange, Overlap, NotFound, BadHandle, WrongKind, MissingRights, Revoked, Full, NoMemory, AccountLimit];
    /// Writes a `RegionInfo` of the region that contains `address`, or of the next above, to `info`.
    50 SpaceQuery = space_query(space: [AddressSpace READ], address: [value], info: [pointer]) -> () ! [NotFound];
    /// Reads `length` bytes at `address` of the space into the caller's `buffer`, as its owner could. Returns how many were
    /// read before the first that could not be; none is `RemoteFault`.
    51 SpaceRead = space_read(space: [AddressSpace READ], address: [value], buffer: [pointer], length: [value])
        -> ("bytes read") ! [RemoteFault, NoMemory, AccountLimit];
    /// Writes the other way; regions that their owner can't write are refused.
    52 SpaceWrite = space_write(space: [AddressSpace WRITE], address: [value], buffer: [pointer], length: [value])
        -> ("bytes written") ! [RemoteFault, NoMemory, AccountLimit];
    /// Applies one operation, as `space_commit` does, without a record in memory. `operation` is its kind in bits 0 to 7, its
    /// protection in bits 8 to 15 and its flags in bits 16 to 31; `object` is a handle to a memory or a space, or 0.
    53 SpaceChange = space_change(space: [AddressSpace MAP], operation: [value], address: [value], length: [value], offset: [value], object: [value])
        -> ("operations applied", "address") ! [BadArgument, Misaligned, OutOfRange, Overlap, NotFound, BadHandle, WrongKind, MissingRights, Revoked, Full, NoMemory, AccountLimit];
    /// Replaces the 32-bit word at `address` of the space by `new` if it is `expected`, at once as threads on all processors see it.
    /// Returns what it was. Needs a page that its owner could write.
    54 SpaceExchange = space_exchange(space: [AddressSpace WRITE], address: [value], expected: [value], new: [value])
        -> ("word") ! [BadArgument, Misaligned, RemoteFault, NoMemory, AccountLimit];
    /// Writes a `SpaceInfo` to `info`.
    55 SpaceInfo = space_info(space: [AddressSpace READ], info: [pointer]) -> () ! [];

    // ---- pagers --------------------------------------------------------------------------------------------------
    /// Makes a managed memory of `length` bytes, and its pager. Whoever needs a page that is not there waits for at most
    /// `deadline` ns (`u64::MAX`: without end); `flags`: `PagerFlags::AWAIT_SUCCESSOR`. Requests come once the pager is bound to a
    /// queue; binding it anew begins all that was asked before anew.
    56 MemoryCreateManaged = memory_create_managed(account: [Account USE], length: [value], deadline: [value], flags: [value])
        -> ("memory", "pager") ! [BadArgument, OutOfRange, Full, NoMemory, AccountLimit];
    /// Takes up to `count` (at most `MAX_REQUESTS`) requests, as `PagerRequest`s at `requests`. What somebody waits for comes first.
    57 PagerReceive = pager_receive(pager: [Pager READ], requests: [pointer], count: [value]) -> ("requests") ! [BadArgument, PeerClosed];
    /// Fills missing pages from `offset` on with `length` bytes (whole pages) of the memory `source` from `source_offset` on, or with
    /// zeros if there is no source. Frames that an anonymous source has alone are moved: the source reads as zeros there
    /// afterwards. Others are copied. Pages that are there keep what they have. Returns how far it came, at most `MAX_SUPPLY`.
    58 PagerSupply = pager_supply(pager: [Pager WRITE], offset: [value], length: [value], source: [maybe Memory READ WRITE], source_offset: [value])
        -> ("bytes dealt with") ! [Misaligned, OutOfRange, BadState, PeerClosed, Revoked, NoMemory, AccountLimit];
    /// Says that the requests for a range can't be fulfilled: those who wait for pages of it get `PagerFailed` (a fault: the
    /// exception `NoData`), and pages that were being written back are dirty. Returns how far it came.
    59 PagerFail = pager_fail(pager: [Pager WRITE], offset: [value], length: [value])
        -> ("bytes dealt with") ! [Misaligned, OutOfRange, PeerClosed];
    /// Says that a range has been written back. Returns how far it came.
    60 PagerWritten = pager_written(pager: [Pager WRITE], offset: [value], length: [value])
        -> ("bytes dealt with") ! [Misaligned, OutOfRange, PeerClosed];
    /// Forgets the clean pages of a range, for which the pager will be asked again. Returns how far it came.
    61 PagerInvalidate = pager_invalidate(pager: [Pager WRITE], offset: [value], length: [value])
        -> ("bytes dealt with") ! [Misaligned, OutOfRange, PeerClosed];

    /// Lets private pages of address spaces that `account` or one below it pays for go to the managed `memory` when frames run short: its
    /// pager writes them back and fills them again as it would a file's. There is one swap memory, for good; who waits for memory waits for
    /// its pager, which therefore must have a deadline (else `BadState`), and may even be a program that is swapped itself.
    62 SwapSet = swap_set(hardware: [Hardware MANAGE], memory: [Memory READ WRITE MANAGE], account: [Account MANAGE])
        -> () ! [BadState, NoMemory, AccountLimit];

    // ---- threads -------------------------------------------------------------------------------------------------
    /// Makes a thread, not yet started. `flags`: `ThreadFlags`.
    64 ThreadCreate = thread_create(account: [Account USE], space: [AddressSpace USE], table: [HandleTable USE], flags: [value])
        -> ("thread") ! [BadArgument, Full, NoMemory, AccountLimit];
    /// Starts a new thread with the `Registers` at `registers`. Flags that user space may not set are ignored; an instruction
    /// pointer or segment base outside the user half is `BadArgument`.
    65 ThreadStart = thread_start(thread: [Thread MANAGE], registers: [pointer]) -> () ! [BadArgument, BadState];
    /// Stops a thread before its next instruction in user mode; a call that it waits in goes on waiting, but does not return
    /// before it is resumed. Nests. When the call returns, the thread's registers stand still.
    66 ThreadSuspend = thread_suspend(thread: [Thread MANAGE]) -> () ! [PeerClosed, BadState];
    /// Takes one suspension back.
    67 ThreadResume = thread_resume(thread: [Thread MANAGE]) -> () ! [PeerClosed, BadState];
    /// Ends a thread, whatever it is doing.
    68 ThreadKill = thread_kill(thread: [Thread MANAGE]) -> () ! [];
    /// Writes the registers of `class` of a thread that is suspended, faulted, new, or waiting in a call to `buffer`; `length` must be the size
    /// of the class.
    69 ThreadReadRegisters = thread_read_registers(thread: [Thread READ], class: [value], buffer: [pointer], length: [value])
        -> () ! [BadArgument, BadState, PeerClosed];
    /// Sets the registers of `class` of a thread that is suspended, faulted or new. General registers of a thread that
    /// waits in a call end that wait: the call never returns. Vector registers may be set while a thread waits in a call, which
    /// goes on.
    70 ThreadWriteRegisters = thread_write_registers(thread: [Thread WRITE], class: [value], buffer: [pointer], length: [value])
        -> () ! [BadArgument, BadState, PeerClosed];
    /// Moves a thread (suspended, faulted, new, or waiting in a call) to another space.
    71 ThreadSetSpace = thread_set_space(thread: [Thread MANAGE], space: [AddressSpace USE]) -> () ! [BadState, PeerClosed];
    /// Routes the thread's exceptions: they are called on `channel`, an endpoint whose peer answers.
    72 ThreadSetExceptions = thread_set_exceptions(thread: [Thread MANAGE], channel: [maybe Channel SEND]) -> () ! [PeerClosed];
    /// Routes the thread's foreign `syscall` instructions, by the `Reflection` at `reflection`.
    73 ThreadSetReflection = thread_set_reflection(thread: [Thread MANAGE], reflection: [pointer]) -> () ! [BadArgument, PeerClosed];
    /// Sets the priority, 0 (lowest) to 31. A thread can't be raised above the caller's own.
    74 ThreadSetPriority = thread_set_priority(thread: [Thread MANAGE], priority: [value]) -> () ! [BadArgument, MissingRights, PeerClosed];
    /// Writes a `ThreadInfo` to `info`.
    75 ThreadInfo = thread_info(thread: [Thread READ], info: [pointer]) -> () ! [];
    /// Ends the caller.
    76 ThreadExit = thread_exit() -> () ! [];
    /// Lets other threads of the same priority run first.
    77 ThreadYield = thread_yield() -> () ! [];
    /// Lets a thread run only on the processors whose bits are set in `processors`. Bits of processors that there are not are kept,
    /// but mean nothing; without any other, it is `BadArgument`. A thread that runs elsewhere moves at once.
    78 ThreadSetAffinity = thread_set_affinity(thread: [Thread MANAGE], processors: [value]) -> () ! [BadArgument, PeerClosed];

    // ---- channels ------------------------------------------------------------------------------------------------
    /// Makes a channel; returns its two endpoints.
    80 ChannelCreate = channel_create(account: [Account USE]) -> ("endpoint", "endpoint") ! [Full, NoMemory, AccountLimit];
    /// Calls: sends a message and waits for the answer. The message is in registers, both ways: `rsi` label, `rdx r10 r8 r9 r12
    /// r13 r14 r15` words. `Full`, `NoMemory`, `AccountLimit`: the receiver's table could not take the reply. Handles in the
    /// answer are dropped; to get them, call with a frame.
    81 ChannelCall = channel_call(channel: [Channel SEND], label: [value]) -> () ! [PeerClosed, BadArgument, Full, NoMemory, AccountLimit];
    /// Calls with the `CallFrame` at `frame`: handles and buffers too.
    82 ChannelCallFrame = channel_call_frame(channel: [Channel SEND], frame: [pointer])
        -> () ! [PeerClosed, BadArgument, BadHandle, MissingRights, Full, NoMemory, AccountLimit];
    /// Sends the `Message` at `message`, without an answer. The kernel keeps it until it is received, on the account of the
    /// sending thread; `Full` when 64 sent messages wait already. Neither end of a channel can be sent on itself.
    83 ChannelSend = channel_send(channel: [Channel SEND], message: [pointer])
        -> () ! [PeerClosed, BadArgument, BadHandle, MissingRights, Full, NoMemory, AccountLimit];
    /// Receives into the `Received` at `received`. `deadline` in ns since the kernel's start; 0 does not wait, `u64::MAX` waits without end.
    84 ChannelReceive = channel_receive(channel: [Channel RECEIVE], received: [pointer], deadline: [value])
        -> () ! [PeerClosed, WouldBlock, TimedOut, BadState, Full, NoMemory, AccountLimit];
    /// Answers a call with a message in registers, as `channel_call` has them. Uses the handle up.
    85 ChannelReply = channel_reply(reply: [Reply SEND], label: [value]) -> () ! [PeerClosed, BadArgument];
    /// Answers with the `Message` at `message`, handles too. Uses the handle up.
    86 ChannelReplyMessage = channel_reply_message(reply: [Reply SEND], message: [pointer])
        -> () ! [PeerClosed, BadArgument, BadHandle, MissingRights, Full, NoMemory, AccountLimit];
    /// Answers `reply` (if it is a handle) with the message in registers, then receives from `channel`; both in registers: in `rdi` the
    /// channel, `rsi` label, words as in `channel_call`, `rax` the call number and `rbx` the reply handle; out `rbx` the new reply
    /// handle, `rsi` label, words. A message with handles or buffers can be received this way too: its handles are dropped.
    87 ChannelReplyReceive = channel_reply_receive(channel: [Channel RECEIVE], label: [value])
        -> () ! [PeerClosed, BadArgument, BadState, Full, NoMemory, AccountLimit];
    /// Reads up to `length` bytes from `offset` of a waiting caller's send buffer.
    88 ReplyRead = reply_read(reply: [Reply READ], offset: [value], buffer: [pointer], length: [value])
        -> ("bytes read") ! [PeerClosed, OutOfRange, RemoteFault, NoMemory, AccountLimit];
    /// Writes up to `length` bytes at `offset` of a waiting caller's receive buffer.
    89 ReplyWrite = reply_write(reply: [Reply WRITE], offset: [value], buffer: [pointer], length: [value])
        -> ("bytes written") ! [PeerClosed, OutOfRange, RemoteFault, NoMemory, AccountLimit];

    // ---- queues --------------------------------------------------------------------------------------------------
    /// Makes a queue with rings of these sizes (powers of two), and the memory that holds them. Handles that complete in it are
    /// put into the handle table of the thread that makes it.
    96 QueueCreate = queue_create(account: [Account USE], submissions: [value], completions: [value])
        -> ("queue", "memory") ! [BadArgument, Full, NoMemory, AccountLimit];
    /// Takes the submissions, then waits until a completion is there, at most until `deadline` (as for `channel_receive`). A queue
    /// has one waiter. Returns without waiting when submissions are left in the ring: 64 are taken at once. `BadArgument`: the
    /// submission tail is more than a ring ahead.
    97 QueueWait = queue_wait(queue: [Queue WAIT], deadline: [value])
        -> () ! [WouldBlock, TimedOut, BadArgument, BadState, PeerClosed];
    /// Completes `Posted` with `key` and `value`.
    98 QueuePost = queue_post(queue: [Queue SEND], key: [value], value: [value]) -> () ! [Full];
    /// Binds an object to a queue: what happens to it completes there with `key`. Channels, interrupts, threads and timers can be
    /// bound to one queue each; binding again moves the binding.
    99 ObjectBind = object_bind(object: [any WAIT], queue: [Queue SEND], key: [value]) -> () ! [WrongKind, BadState, NoMemory, AccountLimit];
    /// Takes a binding back. Completions already in the ring stay there.
    100 ObjectUnbind = object_unbind(object: [any WAIT]) -> () ! [WrongKind, NotFound];

    // ---- time, events --------------------------------------------------------------------------------------------
    /// Time since the kernel's start, in ns.
    112 ClockRead = clock_read() -> ("ns") ! [];
    /// Makes a timer.
    113 TimerCreate = timer_create(account: [Account USE]) -> ("timer") ! [Full, NoMemory, AccountLimit];
    /// Arms it for the absolute time `deadline` in ns; replaces an earlier deadline. It completes in the queue that it is bound to.
    114 TimerArm = timer_arm(timer: [Timer WRITE], deadline: [value]) -> () ! [BadState];
    /// Disarms it.
    115 TimerCancel = timer_cancel(timer: [Timer WRITE]) -> () ! [];
    /// Makes an event with no bit set.
    116 EventCreate = event_create(account: [Account USE]) -> ("event") ! [Full, NoMemory, AccountLimit];
    /// Sets bits, then clears bits. Wakes those who wait for one that is set between.
    117 EventUpdate = event_update(event: [Event SEND], set: [value], clear: [value]) -> ("bits after") ! [];
    /// Waits until one of the bits in `mask` is set.
    118 EventWait = event_wait(event: [Event WAIT], mask: [value], deadline: [value])
        -> ("bits") ! [WouldBlock, TimedOut, PeerClosed];
    /// Completes once in `queue` with `key` when one of the bits in `mask` is set.
    119 EventNotify = event_notify(event: [Event WAIT], queue: [Queue SEND], key: [value], mask: [value])
        -> () ! [BadArgument, NoMemory, AccountLimit];

    // ---- hardware ------------------------------------------------------------------------------------------------
    /// Makes the interrupt with this global system interrupt number (ACPI 6.5, 5.2.12). Bound to a queue, it is unmasked.
    128 InterruptCreate = interrupt_create(hardware: [Hardware MANAGE], account: [Account USE], gsi: [value])
        -> ("interrupt") ! [OutOfRange, Overlap, Full, NoMemory, AccountLimit];
    /// Lets the next one in.
    129 InterruptAcknowledge = interrupt_acknowledge(interrupt: [Interrupt WRITE]) -> () ! [BadState];
    /// Makes a range of `count` I/O ports from `first`.
    130 IoPortsCreate = io_ports_create(hardware: [Hardware MANAGE], account: [Account USE], first: [value], count: [value])
        -> ("I/O ports") ! [OutOfRange, Overlap, Full, NoMemory, AccountLimit];
    /// Reads port `offset` of the range, `width` bytes (1, 2 or 4).
    131 IoPortsRead = io_ports_read(ports: [IoPorts READ], offset: [value], width: [value]) -> ("value") ! [BadArgument, OutOfRange];
    /// Writes it.
    132 IoPortsWrite = io_ports_write(ports: [IoPorts WRITE], offset: [value], width: [value], value: [value]) -> () ! [BadArgument, OutOfRange];
    /// Writes `length` bytes (at most 64), one after the other, to port `offset`: fills a device's FIFO with one call. Gives how
    /// many bytes this call has ever written to the range, so that who takes over from a program that ended knows how far that got.
    133 IoPortsWriteBytes = io_ports_write_bytes(ports: [IoPorts WRITE], offset: [value], buffer: [pointer], length: [value]) -> ("bytes written ever") ! [BadArgument, OutOfRange];
    /// Reads `length` bytes (at most 64), one after the other, from port `offset`: empties a device's FIFO with one call.
    134 IoPortsReadBytes = io_ports_read_bytes(ports: [IoPorts READ], offset: [value], buffer: [pointer], length: [value]) -> () ! [BadArgument, OutOfRange];

    /// Makes an interrupt that a device raises by writing a message (PCI 3.0, 6.8); it is delivered once for each message, and one that
    /// comes before the last is acknowledged is remembered. `requester`: the device's bus (bits 8 to 15), device (3 to 7) and function
    /// (0 to 2); where the machine can tell who writes, nobody else can raise it. `Full`: the machine has no vector left.
    135 InterruptCreateMessage = interrupt_create_message(hardware: [Hardware MANAGE], account: [Account USE], requester: [value])
        -> ("interrupt") ! [OutOfRange, Full, NoMemory, AccountLimit];
    /// Tells what message raises the interrupt: for the device's message table. `BadState`: it has a line of its own.
    136 InterruptMessage = interrupt_message(interrupt: [Interrupt MANAGE]) -> ("address", "data") ! [BadState];
    /// Makes an empty DMA space: what the device `requester` (as above) reaches of memory. `Overlap`: the device has one; `Full`: the
    /// machine can't confine more devices. When the last
    /// handle goes, so does all that is mapped: whoever keeps the last one closes it after the device was stopped.
    137 DmaCreate = dma_create(hardware: [Hardware MANAGE], account: [Account USE], requester: [value])
        -> ("DMA space") ! [OutOfRange, Overlap, Full, NoMemory, AccountLimit];
    /// Lets the device reach `length` bytes (whole pages, at most `MAX_DMA_PAGES`) of an anonymous or contiguous memory from `offset` on;
    /// `flags`: `DmaFlags`. Writes the device's address of each page, 8 bytes each, to `addresses`, and returns a number to unmap
    /// them by. The frames are pinned until then, whatever becomes of the memory: device and programs see the same bytes. Meanwhile
    /// there are no snapshots of the memory (`BadState`), and `pager_supply` copies these pages instead of moving them.
    138 DmaMap = dma_map(space: [DmaSpace WRITE], memory: [Memory READ], offset: [value], length: [value], addresses: [pointer], flags: [value])
        -> ("mapping") ! [BadArgument, Misaligned, OutOfRange, BadState, Revoked, Full, NoMemory, AccountLimit];
    /// Takes one `dma_map` back. The device must not use these addresses any more.
    139 DmaUnmap = dma_unmap(space: [DmaSpace WRITE], mapping: [value]) -> () ! [NotFound];

    /// Has bits of `event` set, by the bits of `mask`, when the device of the space was refused access to memory that was not mapped for it; only
    /// where the machine confines devices. A device that was refused once reaches nothing any more.
    140 DmaWatch = dma_watch(space: [DmaSpace MANAGE], event: [Event SEND], mask: [value]) -> () ! [];
    /// Tells how often the device was refused, and the last of the addresses (of its page; plus 1 if it was to be written).
    141 DmaRefused = dma_refused(space: [DmaSpace MANAGE]) -> ("times", "address") ! [];
    /// Writes a `HardwareInfo` to `info`.
    142 HardwareInfo = hardware_info(hardware: [Hardware MANAGE], info: [pointer]) -> () ! [];

    // ---- the system ----------------------------------------------------------------------------------------------
    /// Writes a `SystemInfo` to `info`.
    144 SystemInfo = system_info(info: [pointer]) -> () ! [];
    /// Writes `length` bytes (at most 64) of unpredictable data to `buffer`.
    145 EntropyRead = entropy_read(buffer: [pointer], length: [value]) -> () ! [BadArgument];
    /// Writes `length` bytes (at most 1024) of text to the kernel's log, at `level` (1 error to 5 trace).
    146 LogWrite = log_write(log: [Log WRITE], level: [value], text: [pointer], length: [value]) -> () ! [BadArgument];
    /// Writes what every thread waits for to the kernel's log.
    147 SystemDump = system_dump(log: [Log WRITE]) -> () ! [];
    /// Ends the machine; `how`: `Shutdown`.
    148 SystemShutdown = system_shutdown(hardware: [Hardware MANAGE], how: [value]) -> () ! [BadArgument];
    /// Does nothing. For measuring.
    149 Nothing = nothing() -> () ! [];
    /// Gives a thread a name of up to 32 bytes, shown in dumps.
    150 ThreadSetName = thread_set_name(thread: [Thread MANAGE], name: [pointer], length: [value]) -> () ! [BadArgument, PeerClosed];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_and_ascending() {
        assert!(TABLE.windows(2).all(|pair| (pair[0].call as u64) < pair[1].call as u64));
    }

    #[test]
    fn every_call_is_found_by_its_number_and_takes_at_most_six_arguments() {
        for info in TABLE {
            assert_eq!(Call::from_number(info.call as u64), Some(info.call));
            assert!(info.arguments.len() <= 6);
            assert!(info.returns.len() <= 2);
        }
    }
}
