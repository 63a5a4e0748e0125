//! What sockets of all families have: a style, options, a pending error, and how far they are shut down.

use crate::errno::{Errno, Result};
use crate::platform;
use crate::wait::WaitQueue;
use bitflags::bitflags;
use core::cell::Cell;
use linux_raw_sys::net as linux;

/// How a socket carries data: its `type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Bytes without boundaries (`SOCK_STREAM`).
    Stream,
    /// Messages, each for itself (`SOCK_DGRAM`).
    Datagram,
    /// Messages of a connection (`SOCK_SEQPACKET`).
    SeqPacket,
}

impl Style {
    /// The number that `SO_TYPE` shows.
    pub fn number(self) -> u32 {
        match self {
            Self::Stream => linux::SOCK_STREAM,
            Self::Datagram => linux::SOCK_DGRAM,
            Self::SeqPacket => linux::SOCK_SEQPACKET,
        }
    }

    /// Whether it needs a connection.
    pub fn is_connected(self) -> bool {
        match self {
            Self::Stream | Self::SeqPacket => true,
            Self::Datagram => false,
        }
    }
}

bitflags! {
    /// The directions that are closed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Shutdown: u8 {
        /// Nothing more is received.
        const RECEIVE = 1;
        /// Nothing more is sent.
        const SEND = 2;
    }
}

impl Shutdown {
    /// What `shutdown(2)` means by a number. `EINVAL`.
    pub fn from_how(how: u32) -> Result<Self> {
        match how {
            linux::SHUT_RD => Ok(Self::RECEIVE),
            linux::SHUT_WR => Ok(Self::SEND),
            linux::SHUT_RDWR => Ok(Self::all()),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The same connection as the other end sees it.
    pub fn mirrored(self) -> Self {
        let mut other = Self::empty();
        other.set(Self::SEND, self.contains(Self::RECEIVE));
        other.set(Self::RECEIVE, self.contains(Self::SEND));
        other
    }
}

bitflags! {
    /// The options that are on or off.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Switches: u32 {
        /// `SO_DEBUG`.
        const DEBUG = 1;
        /// `SO_REUSEADDR`.
        const REUSE_ADDRESS = 1 << 1;
        /// `SO_DONTROUTE`.
        const DO_NOT_ROUTE = 1 << 2;
        /// `SO_BROADCAST`.
        const BROADCAST = 1 << 3;
        /// `SO_KEEPALIVE`.
        const KEEP_ALIVE = 1 << 4;
        /// `SO_OOBINLINE`.
        const OUT_OF_BAND_INLINE = 1 << 5;
        /// `SO_REUSEPORT`.
        const REUSE_PORT = 1 << 6;
        /// `SO_PASSCRED`.
        const PASS_CREDENTIALS = 1 << 7;
        /// `SO_PASSSEC`: without effect, there are no security labels.
        const PASS_SECURITY = 1 << 8;
        /// `SO_NO_CHECK`.
        const NO_CHECK = 1 << 9;
        /// `SO_RXQ_OVFL`: without effect, nothing overflows unnoticed.
        const OVERFLOW_COUNT = 1 << 10;
        /// `SO_TIMESTAMP`.
        const TIME_STAMP = 1 << 11;
        /// `SO_TIMESTAMPNS`.
        const TIME_STAMP_NS = 1 << 12;
        /// `SO_LINGER` is on.
        const LINGER = 1 << 13;
        /// `SO_LOCK_FILTER`.
        const LOCK_FILTER = 1 << 14;
        /// `SO_SELECT_ERR_QUEUE`.
        const SELECT_ERROR_QUEUE = 1 << 15;
        /// `SO_ZEROCOPY`: data is copied all the same.
        const ZERO_COPY = 1 << 16;
        /// `SO_WIFI_STATUS`.
        const WIFI_STATUS = 1 << 17;
        /// `SO_NOFCS`.
        const NO_CHECKSUM_AT_END = 1 << 18;
    }
}

/// The largest buffer that a program may ask for without privilege, in bytes (`net.core.wmem_max` and `rmem_max`).
pub const MAX_BUFFER: u32 = 212_992;
/// The smallest send buffer, in bytes.
const MIN_SEND_BUFFER: u32 = 4608;
/// The smallest receive buffer, in bytes.
const MIN_RECEIVE_BUFFER: u32 = 2304;

/// The number of the next socket, for `SO_COOKIE`.
static NEXT_COOKIE: core::sync::atomic::AtomicU64 = core::sync::atomic::AtomicU64::new(1);

/// What sockets of all families have.
#[derive(Debug)]
pub struct Common {
    /// How it carries data.
    pub style: Style,
    /// Woken when anything changes that a call may wait for.
    pub changed: WaitQueue,
    /// Options that are on or off.
    pub switches: Cell<Switches>,
    /// `SO_SNDBUF` as shown: twice what was asked for.
    pub send_buffer: Cell<u32>,
    /// `SO_RCVBUF` as shown.
    pub receive_buffer: Cell<u32>,
    /// `SO_RCVLOWAT`, in bytes.
    pub receive_low_water: Cell<u32>,
    /// `SO_RCVTIMEO`, in ns.
    pub receive_timeout_ns: Cell<Option<u64>>,
    /// `SO_SNDTIMEO`, in ns.
    pub send_timeout_ns: Cell<Option<u64>>,
    /// `SO_LINGER`, in seconds.
    pub linger_seconds: Cell<u32>,
    /// `SO_PRIORITY`.
    pub priority: Cell<u32>,
    /// `SO_TIMESTAMPING`.
    pub time_stamping: Cell<u32>,
    /// `SO_MARK`.
    pub mark: Cell<u32>,
    /// `SO_PEEK_OFF`; negative for off.
    pub peek_offset: Cell<i32>,
    /// `SO_COOKIE`.
    pub cookie: u64,
    /// The number of its file's inode; 0 before it has one.
    pub inode: Cell<u64>,
    shutdown: Cell<Shutdown>,
    error: Cell<Option<Errno>>,
}

impl Common {
    /// A new socket's.
    pub fn new(style: Style) -> Self {
        Self {
            style,
            changed: WaitQueue::new(),
            switches: Cell::new(Switches::empty()),
            send_buffer: Cell::new(MAX_BUFFER),
            receive_buffer: Cell::new(MAX_BUFFER),
            receive_low_water: Cell::new(1),
            receive_timeout_ns: Cell::new(None),
            send_timeout_ns: Cell::new(None),
            linger_seconds: Cell::new(0),
            priority: Cell::new(0),
            time_stamping: Cell::new(0),
            mark: Cell::new(0),
            peek_offset: Cell::new(-1),
            cookie: NEXT_COOKIE.fetch_add(1, core::sync::atomic::Ordering::Relaxed),
            inode: Cell::new(0),
            shutdown: Cell::new(Shutdown::empty()),
            error: Cell::new(None),
        }
    }

    /// Whether a switch is on.
    pub fn is_on(&self, switch: Switches) -> bool {
        self.switches.get().contains(switch)
    }

    /// A time of arrival, if the socket wants to know it.
    pub fn stamp(&self, time_ns: u64) -> Option<u64> {
        let wants = self.switches.get().intersects(Switches::TIME_STAMP | Switches::TIME_STAMP_NS);
        (wants || self.wants_software_stamps()).then_some(time_ns)
    }

    /// Whether `SO_TIMESTAMPING` asks for the system's own time stamps of what is received.
    pub fn wants_software_stamps(&self) -> bool {
        const WANTED: u32 = 1 << 3 | 1 << 4;
        self.time_stamping.get() & WANTED == WANTED
    }

    /// How far it is shut down.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.get()
    }

    /// Whether these directions are shut down.
    pub fn is_shut(&self, directions: Shutdown) -> bool {
        self.shutdown.get().contains(directions)
    }

    /// Shuts down more, and wakes whoever waits.
    pub fn shut(&self, directions: Shutdown) {
        self.shutdown.set(self.shutdown.get() | directions);
        self.changed.wake();
    }

    /// Takes all of that back: the socket is as new.
    pub fn reopen(&self) {
        self.shutdown.set(Shutdown::empty());
    }

    /// Leaves an error for the next call.
    pub fn set_error(&self, error: Errno) {
        self.error.set(Some(error));
        self.changed.wake();
    }

    /// Whether an error is left.
    pub fn has_error(&self) -> bool {
        self.error.get().is_some()
    }

    /// Takes the error that is left.
    pub fn take_error(&self) -> Option<Errno> {
        self.error.take()
    }

    /// Fails with the error that is left, if there is one.
    pub fn check_error(&self) -> Result<()> {
        self.take_error().map_or(Ok(()), Err)
    }

    /// Sets `SO_SNDBUF`, which doubles what it is told.
    pub fn set_send_buffer(&self, asked: u32) {
        self.send_buffer.set(asked.min(i32::MAX as u32 / 2).saturating_mul(2).max(MIN_SEND_BUFFER));
        self.changed.wake();
    }

    /// Sets `SO_RCVBUF`, which doubles what it is told.
    pub fn set_receive_buffer(&self, asked: u32) {
        self.receive_buffer.set(asked.min(i32::MAX as u32 / 2).saturating_mul(2).max(MIN_RECEIVE_BUFFER));
    }

    /// When a receiving call that begins now gives up. `None`: never.
    pub fn receive_deadline_ns(&self) -> Option<u64> {
        self.receive_timeout_ns.get().map(|timeout| platform::now_ns().saturating_add(timeout))
    }

    /// When a sending call that begins now gives up. `None`: never.
    pub fn send_deadline_ns(&self) -> Option<u64> {
        self.send_timeout_ns.get().map(|timeout| platform::now_ns().saturating_add(timeout))
    }

    /// What a peek that begins now skips, in bytes.
    pub fn peek_skip(&self) -> usize {
        usize::try_from(self.peek_offset.get()).unwrap_or(0)
    }

    /// A peek has looked at so many bytes: the next begins behind them, if `SO_PEEK_OFF` is on.
    pub fn advance_peek(&self, bytes: usize) {
        let offset = self.peek_offset.get();
        if offset >= 0 {
            self.peek_offset.set(offset.saturating_add(i32::try_from(bytes).unwrap_or(i32::MAX)));
        }
    }

    /// So many bytes were taken: what is left has moved to the front.
    pub fn retreat_peek(&self, bytes: usize) {
        let offset = self.peek_offset.get();
        if offset >= 0 {
            self.peek_offset.set(offset.saturating_sub(i32::try_from(bytes).unwrap_or(i32::MAX)).max(0));
        }
    }

    /// How many bytes a stream's receiving call waits for.
    pub fn low_water(&self, wanted: usize, waits_for_all: bool) -> usize {
        let target = if waits_for_all { wanted } else { wanted.min(self.receive_low_water.get() as usize) };
        target.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffer_sizes_are_doubled_and_have_a_minimum() {
        let common = Common::new(Style::Stream);
        common.set_send_buffer(5000);
        common.set_receive_buffer(1);
        assert_eq!((common.send_buffer.get(), common.receive_buffer.get()), (10_000, MIN_RECEIVE_BUFFER));
        common.set_send_buffer(u32::MAX);
        assert_eq!(common.send_buffer.get(), i32::MAX as u32 - 1);
    }

    #[test]
    fn the_other_end_sees_a_shutdown_mirrored() {
        assert_eq!(Shutdown::SEND.mirrored(), Shutdown::RECEIVE);
        assert_eq!(Shutdown::all().mirrored(), Shutdown::all());
        assert_eq!(Shutdown::from_how(3), Err(Errno::EINVAL));
    }

    #[test]
    fn a_peek_offset_follows_what_is_taken() {
        let common = Common::new(Style::Stream);
        common.advance_peek(5);
        assert_eq!(common.peek_offset.get(), -1);
        common.peek_offset.set(2);
        common.advance_peek(5);
        common.retreat_peek(4);
        assert_eq!(common.peek_skip(), 3);
        common.retreat_peek(9);
        assert_eq!(common.peek_skip(), 0);
    }
}
