//! Sending and receiving.

use super::super::Outcome;
use super::control::{self, Writer};
use super::wait::{self, Attempt, Patience};
use super::{address, binder, find, socket_file, socket_of};
use crate::errno::{Errno, Result};
use crate::file::{OnExec, OpenFile};
use crate::net::address::UnixAddress;
use crate::net::common::Style;
use crate::net::inet::address as inet;
use crate::net::netlink::NetlinkSocket;
use crate::net::unix::{Attached, Received, Request, State, UnixSocket};
use crate::net::{Family, Socket};
use crate::process::Thread;
use crate::signal::{Signal, SignalInfo, deliver};
use crate::user::{MAX_RW_COUNT, UserBuffer, UserPtr};
use crate::wait::Listener;
use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use core::net::SocketAddr;
use linux_raw_sys::general::UIO_MAXIOV;
use linux_raw_sys::net;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The most bytes of control data in a message that is sent (`net.core.optmem_max`).
const MAX_CONTROL: u64 = 20_480;

/// `struct msghdr`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct MessageHeader {
    name: u64,
    name_length: i32,
    padding: u32,
    vectors: u64,
    vector_count: u64,
    control: u64,
    control_length: u64,
    flags: u32,
    more_padding: u32,
}

impl MessageHeader {
    /// `EMSGSIZE` for too many ranges.
    fn buffer(&self, thread: &Rc<Thread>) -> Result<UserBuffer> {
        if self.vector_count > u64::from(UIO_MAXIOV) {
            return Err(Errno::EMSGSIZE);
        }
        UserBuffer::from_io_vectors(&thread.space(), self.vectors, self.vector_count)
    }
}

// ---- sending ---------------------------------------------------------------------------------------------------------

/// Whom a message is for.
enum Target {
    /// The peer.
    Peer,
    /// The call names somebody, where only the peer can be meant.
    Excess,
    /// Who has this name.
    Unix(UnixAddress),
    /// Who has this port.
    Inet(SocketAddr),
}

/// A send under way.
struct Sending {
    file: Rc<OpenFile>,
    buffer: UserBuffer,
    /// Whom to.
    to: Target,
    /// The same, found.
    receiver: Option<Rc<UnixSocket>>,
    attached: Attached,
    flags: u32,
    done: u64,
}

impl Sending {
    fn unix(&mut self, thread: &Rc<Thread>, unix: &Rc<UnixSocket>) -> Result<usize> {
        let style = unix.common.style;
        if self.flags & net::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if style == Style::Stream {
            if matches!(self.to, Target::Excess) {
                let connected = unix.state() == State::Connected;
                return Err(if connected { Errno::EISCONN } else { Errno::EOPNOTSUPP });
            }
            return unix.send_stream(&mut self.buffer, &mut self.attached);
        }
        if style == Style::SeqPacket {
            unix.common.check_error()?;
            if unix.state() != State::Connected {
                return Err(Errno::ENOTCONN);
            }
        } else if let (Target::Unix(address), None) = (&self.to, &self.receiver) {
            self.receiver = Some(find(thread, style, address)?);
        }
        unix.send_message(self.receiver.as_ref(), &mut self.buffer, &mut self.attached)
    }

    fn send(&mut self, thread: &Rc<Thread>) -> Result<usize> {
        let file = self.file.clone();
        match socket_of(&file)?.family() {
            Family::Unix(unix) => self.unix(thread, unix),
            Family::Tcp(_) | Family::Udp(_) | Family::Netlink(_) if self.flags & net::MSG_OOB != 0 => {
                Err(Errno::EOPNOTSUPP)
            }
            Family::Tcp(tcp) => tcp.send(&mut self.buffer),
            Family::Netlink(netlink) => netlink.send(&mut self.buffer, thread.process.pid as u32),
            Family::Udp(udp) => {
                let to = if let Target::Inet(to) = self.to { Some(to) } else { None };
                udp.send(to, &mut self.buffer, binder(thread), self.attached.packet)
            }
        }
    }

    fn broken(&self, thread: &Rc<Thread>, socket: &Socket) {
        if socket.raises_pipe_signal() && self.flags & net::MSG_NOSIGNAL == 0 {
            // It is the caller itself that is told; if its queue is full, the error has to do.
            let _ = deliver::send_to_thread(thread, SignalInfo::from_kernel(Signal::PIPE));
        }
    }
}

impl Attempt for Sending {
    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        loop {
            match self.send(thread) {
                Ok(count) => {
                    self.done += count as u64;
                    if self.buffer.is_empty() || count == 0 {
                        return Ok(self.done);
                    }
                }
                Err(Errno::EAGAIN) => return Err(Errno::EAGAIN),
                Err(_) if self.done > 0 => return Ok(self.done),
                Err(Errno::EPIPE) => {
                    self.broken(thread, socket_of(&self.file)?);
                    return Err(Errno::EPIPE);
                }
                Err(errno) => return Err(errno),
            }
        }
    }

    fn watch(&self, listener: &mut Listener) {
        wait::watch_file(&self.file, listener);
        if let Some(unix) = self.file.ops().socket().and_then(Socket::unix)
            && let Some(room) = unix.receiver_room(self.receiver.as_ref())
        {
            listener.watch(&room);
        }
    }

    fn give_up(&mut self, _thread: &Rc<Thread>, error: Errno) -> Result<u64> {
        if self.done > 0 { Ok(self.done) } else { Err(error) }
    }
}

/// How long a sending call waits.
fn send_patience(file: &OpenFile, flags: u32) -> Result<Patience> {
    if flags & net::MSG_DONTWAIT != 0 {
        return Ok(Patience::None);
    }
    Ok(Patience::of(file, socket_of(file)?.common().send_deadline_ns()))
}

/// `write` and its kin, for a file that is a socket.
pub(in super::super) fn write(thread: &Rc<Thread>, file: Rc<OpenFile>, buffer: UserBuffer) -> Outcome {
    let prepared = send_patience(&file, 0).map(|patience| {
        let attached = control::nothing(thread);
        (Sending { file, buffer, to: Target::Peer, receiver: None, attached, flags: 0, done: 0 }, patience)
    });
    wait::start(thread, prepared)
}

/// Where a message goes, by its address. `EINVAL`.
fn target(file: &OpenFile, address: &[u8]) -> Result<Target> {
    if address.is_empty() {
        return Ok(Target::Peer);
    }
    match socket_of(file)?.family() {
        // A connected socket of packets does not look at addresses; a stream refuses them without looking.
        Family::Unix(unix) => match unix.common.style {
            Style::SeqPacket => Ok(Target::Peer),
            Style::Stream => Ok(Target::Excess),
            Style::Datagram => UnixAddress::parse(address).map(Target::Unix),
        },
        Family::Tcp(_) | Family::Netlink(_) => Ok(Target::Peer),
        Family::Udp(udp) => inet::parse(udp.version, address, inet::Purpose::Send).map(Target::Inet),
    }
}

/// `sendto(socket, buffer, length, flags, address, address length)`.
pub(super) fn sendto(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = (|| {
        let buffer = UserBuffer::of_call(thread, args[1], args[2].min(MAX_RW_COUNT))?;
        let file = socket_file(thread, args[0])?;
        let address = if args[4] == 0 { vec![] } else { address::read(thread, args[4], args[5])? };
        let to = target(&file, &address)?;
        let flags = args[3] as u32;
        let patience = send_patience(&file, flags)?;
        let attached = control::nothing(thread);
        Ok((Sending { file, buffer, to, receiver: None, attached, flags, done: 0 }, patience))
    })();
    wait::start(thread, prepared)
}

/// Reads a message that is to be sent.
fn outgoing(thread: &Rc<Thread>, file: Rc<OpenFile>, pointer: &UserPtr, flags: u32) -> Result<Sending> {
    let header: MessageHeader = pointer.read()?;
    if header.name_length < 0 && header.name != 0 {
        return Err(Errno::EINVAL);
    }
    let name_length = header.name_length.min(crate::net::address::MAX_ADDRESS as i32);
    let address = if header.name == 0 { vec![] } else { address::read(thread, header.name, name_length as u64)? };
    let buffer = header.buffer(thread)?;
    if header.control_length > MAX_CONTROL {
        return Err(Errno::ENOBUFS);
    }
    let mut control = vec![0; header.control_length as usize];
    UserPtr::new(&thread.space(), header.control).read_bytes(&mut control)?;
    let attached = control::parse(thread, socket_of(&file)?, &control)?;
    if attached.files.iter().any(|file| file.ops().socket().is_some()) {
        let server = thread.server();
        server.net.expect_flight(&server.executor);
    }
    let to = target(&file, &address)?;
    Ok(Sending { file, buffer, to, receiver: None, attached, flags, done: 0 })
}

/// The flag by which Linux knows calls of 32-bit programs.
const MSG_CMSG_COMPAT: u32 = 0x8000_0000;

/// The flags of a call on message headers. `EINVAL` if they have what no program may say.
fn message_flags(flags: u64) -> Result<u32> {
    let flags = flags as u32;
    if flags & MSG_CMSG_COMPAT == 0 { Ok(flags) } else { Err(Errno::EINVAL) }
}

/// `sendmsg(socket, message, flags)`.
pub(super) fn sendmsg(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = (|| {
        let flags = message_flags(args[2])?;
        let file = socket_file(thread, args[0])?;
        let patience = send_patience(&file, flags)?;
        Ok((outgoing(thread, file, &UserPtr::new(&thread.space(), args[1]), flags)?, patience))
    })();
    wait::start(thread, prepared)
}

/// `struct mmsghdr`: a message, and how many bytes of it were sent or received.
const MESSAGE_STRIDE: u64 = 64;
/// Where the latter is.
const MESSAGE_COUNT_OFFSET: u64 = size_of::<MessageHeader>() as u64;

/// `sendmmsg(socket, messages, count, flags)`.
pub(super) fn sendmmsg(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let count = u64::from(args[2] as u32).min(u64::from(UIO_MAXIOV));
    let prepared = (|| {
        let flags = message_flags(args[3])?;
        let file = socket_file(thread, args[0])?;
        Ok((send_patience(&file, flags)?, file, flags))
    })();
    let (patience, file, flags) = match prepared {
        Ok(prepared) => prepared,
        Err(errno) => return Outcome::Return(Err(errno)),
    };
    let (thread, base) = (thread.clone(), UserPtr::new(&thread.space(), args[1]));
    Outcome::Block(Box::pin(async move {
        for index in 0..count {
            let sent = send_one(&thread, &file, &base, index, flags, patience).await;
            match sent {
                Ok(()) => {}
                Err(_) if index > 0 => return Ok(index),
                Err(errno) => return Err(errno),
            }
        }
        Ok(count)
    }))
}

async fn send_one(
    thread: &Rc<Thread>,
    file: &Rc<OpenFile>,
    base: &UserPtr,
    index: u64,
    flags: u32,
    patience: Patience,
) -> Result<()> {
    let pointer = base.offset(index * MESSAGE_STRIDE)?;
    let mut sending = outgoing(thread, file.clone(), &pointer, flags)?;
    let sent = wait::finish(thread, &mut sending, patience).await?;
    pointer.offset(MESSAGE_COUNT_OFFSET)?.write(&(sent as u32))
}

// ---- receiving -------------------------------------------------------------------------------------------------------

/// Where the answer of a receiving call goes, besides its result.
enum Answer {
    /// Nowhere.
    Nothing,
    /// The sender's address, to these pointers (`recvfrom`).
    Address([u64; 2]),
    /// Into a message header.
    Header(UserPtr, MessageHeader),
}

/// A receive under way.
struct Receiving {
    file: Rc<OpenFile>,
    buffer: UserBuffer,
    request: Request,
    got: Received,
    flags: u32,
    answer: Answer,
}

impl Receiving {
    fn new(file: Rc<OpenFile>, buffer: UserBuffer, flags: u32, answer: Answer) -> Self {
        let request = Request {
            peeks: flags & net::MSG_PEEK != 0,
            tells_full_length: flags & net::MSG_TRUNC != 0,
            wants_error: flags & net::MSG_ERRQUEUE != 0,
            waits_for_all: flags & net::MSG_WAITALL != 0,
            is_nonblocking: flags & (net::MSG_DONTWAIT | net::MSG_ERRQUEUE) != 0 || file.is_nonblocking(),
        };
        Self { file, buffer, request, got: Received::default(), flags, answer }
    }

    fn patience(&self) -> Result<Patience> {
        if self.request.is_nonblocking {
            return Ok(Patience::None);
        }
        Ok(Patience::of(&self.file, socket_of(&self.file)?.common().receive_deadline_ns()))
    }

    /// The sender's address; empty if it has none.
    fn sender(&self) -> alloc::vec::Vec<u8> {
        match (self.file.ops().socket().map(Socket::family), self.got.from) {
            (Some(Family::Udp(udp)), Some(from)) => inet::encode(udp.version, from),
            (Some(Family::Netlink(_)), _) => NetlinkSocket::system_address(),
            _ => {
                let name = self.got.sender.as_ref().and_then(|sender| sender.name.borrow().clone());
                name.map(|name| address::unix(Some(name))).unwrap_or_default()
            }
        }
    }

    /// Tells the program what it has received.
    fn finish(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        match &self.answer {
            Answer::Nothing => {}
            Answer::Address([0, _]) => {}
            Answer::Address(pointers) => address::write(thread, &self.sender(), *pointers)?,
            Answer::Header(pointer, header) => self.write_header(thread, pointer, header)?,
        }
        Ok(self.got.result as u64)
    }

    fn write_header(&self, thread: &Rc<Thread>, pointer: &UserPtr, header: &MessageHeader) -> Result<()> {
        let on_exec = if self.flags & net::MSG_CMSG_CLOEXEC != 0 { OnExec::Close } else { OnExec::Keep };
        let mut control = Writer::new(UserPtr::new(&thread.space(), header.control), header.control_length);
        control.put_received(thread, socket_of(&self.file)?, &self.got, on_exec)?;
        let mut flags = self.flags & net::MSG_CMSG_CLOEXEC;
        if self.got.is_truncated {
            flags |= net::MSG_TRUNC;
        }
        if control.is_truncated {
            flags |= net::MSG_CTRUNC;
        }
        if self.got.error.is_some() {
            flags |= net::MSG_ERRQUEUE;
        }
        let sender = self.sender();
        let mut answered = *header;
        if header.name != 0 {
            let room = usize::try_from(header.name_length).unwrap_or(0);
            let part = sender.get(..room.min(sender.len())).unwrap_or_default();
            UserPtr::new(&thread.space(), header.name).write_bytes(part)?;
            answered.name_length = sender.len() as i32;
        }
        answered.flags = flags;
        answered.control_length = control.used();
        pointer.write(&answered)
    }
}

impl Attempt for Receiving {
    fn attempt(&mut self, thread: &Rc<Thread>) -> Result<u64> {
        let file = self.file.clone();
        if self.flags & net::MSG_OOB != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        socket_of(&file)?.receive(&mut self.buffer, self.request, &mut self.got)?;
        self.finish(thread)
    }

    fn watch(&self, listener: &mut Listener) {
        wait::watch_file(&self.file, listener);
    }

    fn give_up(&mut self, thread: &Rc<Thread>, error: Errno) -> Result<u64> {
        if self.got.count > 0 { self.finish(thread) } else { Err(error) }
    }
}

fn start_receiving(thread: &Rc<Thread>, prepared: Result<Receiving>) -> Outcome {
    let prepared = prepared.and_then(|receiving| {
        let patience = receiving.patience()?;
        Ok((receiving, patience))
    });
    wait::start(thread, prepared)
}

/// `read` and its kin, for a file that is a socket.
pub(in super::super) fn read(thread: &Rc<Thread>, file: Rc<OpenFile>, buffer: UserBuffer) -> Outcome {
    if buffer.is_empty() {
        return Outcome::Return(Ok(0));
    }
    start_receiving(thread, Ok(Receiving::new(file, buffer, 0, Answer::Nothing)))
}

/// `recvfrom(socket, buffer, length, flags, address, address length)`.
pub(super) fn recvfrom(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = (|| {
        let buffer = UserBuffer::of_call(thread, args[1], args[2].min(MAX_RW_COUNT))?;
        let file = socket_file(thread, args[0])?;
        Ok(Receiving::new(file, buffer, args[3] as u32, Answer::Address([args[4], args[5]])))
    })();
    start_receiving(thread, prepared)
}

/// Reads where a received message is to go.
fn incoming(thread: &Rc<Thread>, file: Rc<OpenFile>, pointer: UserPtr, flags: u32) -> Result<Receiving> {
    let header: MessageHeader = pointer.read()?;
    if header.name_length < 0 && header.name != 0 {
        return Err(Errno::EINVAL);
    }
    let buffer = header.buffer(thread)?;
    Ok(Receiving::new(file, buffer, flags, Answer::Header(pointer, header)))
}

/// `recvmsg(socket, message, flags)`.
pub(super) fn recvmsg(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let pointer = UserPtr::new(&thread.space(), args[1]);
    let prepared = message_flags(args[2])
        .and_then(|flags| socket_file(thread, args[0]).and_then(|file| incoming(thread, file, pointer, flags)));
    start_receiving(thread, prepared)
}

/// `recvmmsg`: after the first message, it does not wait.
const MSG_WAITFORONE: u32 = 0x1_0000;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// `recvmmsg(socket, messages, count, flags, timeout)`.
pub(super) fn recvmmsg(thread: &Rc<Thread>, args: &[u64; 6]) -> Outcome {
    let prepared = (|| {
        message_flags(args[3])?;
        let timeout = UserPtr::new(&thread.space(), args[4]);
        let deadline_ns = if timeout.is_null() { None } else { Some(deadline(timeout.read()?)?) };
        let file = socket_file(thread, args[0])?;
        socket_of(&file)?.common().check_error()?;
        Ok((file, deadline_ns, timeout))
    })();
    let (file, deadline_ns, timeout) = match prepared {
        Ok(prepared) => prepared,
        Err(errno) => return Outcome::Return(Err(errno)),
    };
    let (count, flags) = (u64::from(args[2] as u32).min(u64::from(UIO_MAXIOV)), args[3] as u32);
    let (thread, base) = (thread.clone(), UserPtr::new(&thread.space(), args[1]));
    Outcome::Block(Box::pin(async move {
        let received = receive_many(&thread, &file, &base, count, flags, deadline_ns).await?;
        if let Some(deadline_ns) = deadline_ns {
            let left = deadline_ns.saturating_sub(crate::platform::now_ns());
            timeout.write(&[left / NS_PER_SECOND, left % NS_PER_SECOND])?;
        }
        Ok(received)
    }))
}

/// The end of a timeout that begins now. `EINVAL`.
fn deadline([seconds, ns]: [i64; 2]) -> Result<u64> {
    let (Ok(seconds), Ok(ns)) = (u64::try_from(seconds), u64::try_from(ns)) else { return Err(Errno::EINVAL) };
    if ns >= NS_PER_SECOND {
        return Err(Errno::EINVAL);
    }
    Ok(crate::platform::now_ns().saturating_add(seconds.saturating_mul(NS_PER_SECOND)).saturating_add(ns))
}

async fn receive_many(
    thread: &Rc<Thread>,
    file: &Rc<OpenFile>,
    base: &UserPtr,
    count: u64,
    flags: u32,
    deadline_ns: Option<u64>,
) -> Result<u64> {
    let mut flags = flags;
    for index in 0..count {
        match receive_one(thread, file, base, index, flags & !MSG_WAITFORONE).await {
            Ok(()) => {}
            Err(_) if index > 0 => return Ok(index),
            Err(errno) => return Err(errno),
        }
        if flags & MSG_WAITFORONE != 0 {
            flags |= net::MSG_DONTWAIT;
        }
        if deadline_ns.is_some_and(|deadline_ns| crate::platform::now_ns() >= deadline_ns) {
            return Ok(index + 1);
        }
    }
    Ok(count)
}

async fn receive_one(thread: &Rc<Thread>, file: &Rc<OpenFile>, base: &UserPtr, index: u64, flags: u32) -> Result<()> {
    let pointer = base.offset(index * MESSAGE_STRIDE)?;
    let mut receiving = incoming(thread, file.clone(), pointer.clone(), flags)?;
    let patience = receiving.patience()?;
    let received = wait::finish(thread, &mut receiving, patience).await?;
    pointer.offset(MESSAGE_COUNT_OFFSET)?.write(&(received as u32))
}
