//! Unix sockets without system calls around them.

extern crate std;

use super::message::Name;
use super::*;
use crate::file::io::{SliceDestination, SliceSource};
use crate::fs::{Body, Inode};
use crate::net::rights::Rights;
use crate::net::{Family, Socket};
use linux_raw_sys::general::O_RDWR;
use std::vec;

fn maker() -> Identity {
    Identity { credentials: PeerCredentials { pid: 1, uid: 2, gid: 3 }, groups: Rc::from([]) }
}

fn pair(style: Style) -> (Rc<UnixSocket>, Rc<UnixSocket>) {
    UnixSocket::pair(&Rc::default(), style, &maker()).unwrap()
}

fn send(socket: &Rc<UnixSocket>, bytes: &[u8]) -> Result<usize> {
    let (mut from, mut attached) = (SliceSource::new(bytes), Attached::default());
    match socket.common.style {
        Style::Stream => socket.send_stream(&mut from, &mut attached),
        Style::Datagram | Style::SeqPacket => socket.send_message(None, &mut from, &mut attached),
    }
}

fn receive_as(socket: &UnixSocket, room: usize, request: Request) -> Result<(Vec<u8>, Received)> {
    let (mut buffer, mut got) = (vec![0; room], Received::default());
    let mut to = SliceDestination::new(&mut buffer);
    match socket.common.style {
        Style::Stream => socket.receive_stream(&mut to, request, &mut got)?,
        Style::Datagram | Style::SeqPacket => socket.receive_message(&mut to, request, &mut got)?,
    }
    Ok((to.filled().to_vec(), got))
}

fn receive(socket: &UnixSocket, room: usize) -> Result<Vec<u8>> {
    receive_as(socket, room, Request::default()).map(|(bytes, _)| bytes)
}

fn bind(socket: &Rc<UnixSocket>, name: &[u8]) -> Result<()> {
    let name: Name = name.into();
    socket.bind(Binding::Abstract(name.clone()), name)
}

/// An open file that is this socket.
fn file_of(socket: &Rc<UnixSocket>) -> Rc<OpenFile> {
    let filesystem = Inode::anonymous_for_tests().filesystem().clone();
    let inode = Inode::with_number(&filesystem, 9, 0o777, 0, 0, Body::Socket);
    OpenFile::new(Socket::new(Family::Unix(socket.clone())), inode, None, O_RDWR).unwrap()
}

fn send_files(domain: &Rc<Domain>, through: &Rc<UnixSocket>, files: &[&Rc<OpenFile>]) {
    let mut attached = Attached { files: files.iter().map(|file| (*file).clone()).collect(), ..Attached::default() };
    through.send_message(None, &mut SliceSource::new(b"x"), &mut attached).unwrap();
    assert!(domain.in_flight.has_sockets());
}

#[test]
fn a_stream_glues_and_splits() {
    let (one, other) = pair(Style::Stream);
    assert_eq!(receive(&other, 5), Err(Errno::EAGAIN));
    send(&one, b"hello ").unwrap();
    send(&one, b"world").unwrap();
    assert_eq!(receive(&other, 8).unwrap(), b"hello wo");
    assert_eq!(receive(&other, 8).unwrap(), b"rld");
}

#[test]
fn messages_keep_their_boundaries() {
    for style in [Style::Datagram, Style::SeqPacket] {
        let (one, other) = pair(style);
        send(&one, b"long message").unwrap();
        send(&one, b"").unwrap();
        let (bytes, got) = receive_as(&other, 4, Request { tells_full_length: true, ..Request::default() }).unwrap();
        assert_eq!((bytes.as_slice(), got.result, got.is_truncated), (&b"long"[..], 12, true));
        assert_eq!(receive(&other, 4).unwrap(), b"");
        assert_eq!(receive(&other, 4), Err(Errno::EAGAIN));
    }
}

#[test]
fn a_full_stream_is_writable_again_when_most_is_read() {
    let (one, other) = pair(Style::Stream);
    let sent = send(&one, &vec![7; 1 << 20]).unwrap();
    assert!(sent > 100_000 && sent < 1 << 20);
    assert_eq!(send(&one, b"x"), Err(Errno::EAGAIN));
    assert!(!one.readiness().contains(PollEvents::OUT));
    assert_eq!(receive(&other, sent + 1).unwrap().len(), sent);
    assert!(one.readiness().contains(PollEvents::OUT) && one.sender.under_way() == 0);
}

#[test]
fn a_closed_peer_ends_reading_and_breaks_writing() {
    let (one, other) = pair(Style::Stream);
    send(&other, b"last").unwrap();
    other.close();
    assert_eq!((receive(&one, 9).unwrap(), receive(&one, 9).unwrap()), (b"last".to_vec(), vec![]));
    assert_eq!(send(&one, b"x"), Err(Errno::EPIPE));
    assert!(one.readiness().contains(PollEvents::HANG_UP | PollEvents::READ_HANG_UP));
}

#[test]
fn what_a_closed_peer_had_not_read_resets_the_connection() {
    let (one, other) = pair(Style::Stream);
    send(&one, b"unread").unwrap();
    other.close();
    assert_eq!(receive(&one, 9), Err(Errno::ECONNRESET));
    assert_eq!(receive(&one, 9), Ok(vec![]));
}

#[test]
fn a_listener_takes_one_more_than_its_backlog() {
    let domain: Rc<Domain> = Rc::default();
    let listener = UnixSocket::new(&domain, Style::Stream).unwrap();
    assert_eq!(listener.listen(0, &maker()), Err(Errno::EINVAL));
    bind(&listener, b"\0name").unwrap();
    listener.listen(0, &maker()).unwrap();
    let client = UnixSocket::new(&domain, Style::Stream).unwrap();
    client.connect(&listener, &maker()).unwrap();
    let late = UnixSocket::new(&domain, Style::Stream).unwrap();
    assert_eq!(late.connect(&listener, &maker()), Err(Errno::EAGAIN));
    let waits = listener.room().listen();
    let server = listener.accept().unwrap();
    assert!(waits.is_notified());
    assert_eq!(client.connect(&listener, &maker()), Err(Errno::EISCONN));
    late.connect(&listener, &maker()).unwrap();
    assert_eq!(server.name().as_deref(), Some(&b"\0name"[..]));
    listener.close();
    assert_eq!(receive(&late, 1), Err(Errno::ECONNRESET));
    assert!(domain.names.find_abstract(Style::Stream, &Name::from(*b"\0name")).is_err());
}

#[test]
fn a_stranger_is_writable_again_when_a_message_was_taken() {
    let domain: Rc<Domain> = Rc::default();
    let receiver = UnixSocket::new(&domain, Style::Datagram).unwrap();
    let sender = UnixSocket::new(&domain, Style::Datagram).unwrap();
    sender.associate(Some(&receiver)).unwrap();
    let sent = (0..100).take_while(|_| send(&sender, b"x").is_ok()).count();
    assert_eq!(sent, MAX_QUEUED_DATAGRAMS as usize + 1);
    let waits = sender.common.changed.listen();
    assert!(!sender.readiness().contains(PollEvents::OUT));
    receive(&receiver, 1).unwrap();
    assert!(waits.is_notified() && sender.readiness().contains(PollEvents::OUT));
}

#[test]
fn a_ring_of_sockets_in_flight_is_collected() {
    let domain: Rc<Domain> = Rc::default();
    let (one, other) = UnixSocket::pair(&domain, Style::Datagram, &maker()).unwrap();
    let (file, other_file) = (file_of(&one), file_of(&other));
    send_files(&domain, &one, &[&file, &other_file]);
    send_files(&domain, &other, &[&file, &other_file]);
    domain.in_flight.collect();
    assert!(domain.in_flight.has_sockets(), "somebody still has them open");
    drop((file, other_file));
    assert!(one.state() == State::Connected && other.state() == State::Connected);
    domain.in_flight.collect();
    assert!(!domain.in_flight.has_sockets());
    assert_eq!((one.state(), other.state()), (State::Closed, State::Closed));
}

#[test]
fn what_can_still_be_received_is_not_collected() {
    let domain: Rc<Domain> = Rc::default();
    let (outside, inside) = UnixSocket::pair(&domain, Style::Datagram, &maker()).unwrap();
    let (one, other) = UnixSocket::pair(&domain, Style::Datagram, &maker()).unwrap();
    let keep = file_of(&inside);
    let (file, other_file) = (file_of(&one), file_of(&other));
    send_files(&domain, &one, &[&file, &other_file]);
    send_files(&domain, &outside, &[&other_file]);
    drop((file, other_file));
    domain.in_flight.collect();
    assert_eq!((one.state(), other.state()), (State::Connected, State::Connected));
    let (_, got) = receive_as(&inside, 1, Request::default()).unwrap();
    assert_eq!(got.files().len(), 1);
    drop((got, keep));
    domain.in_flight.collect();
    assert_eq!((one.state(), domain.in_flight.has_sockets()), (State::Closed, false));
}

#[test]
fn a_long_chain_of_sockets_in_flight_does_not_exhaust_the_stack() {
    let domain: Rc<Domain> = Rc::default();
    let (_, first) = UnixSocket::pair(&domain, Style::Datagram, &maker()).unwrap();
    let mut last = file_of(&first);
    for _ in 0..500 {
        let (one, other) = UnixSocket::pair(&domain, Style::Datagram, &maker()).unwrap();
        send_files(&domain, &one, &[&last]);
        last = file_of(&other);
        one.close();
    }
    drop(last);
    assert_eq!(first.state(), State::Closed);
    assert!(!domain.in_flight.has_sockets());
}

#[test]
fn a_user_has_a_limit_of_files_in_flight() {
    let register: Rc<crate::net::rights::InFlight> = Rc::default();
    let file = crate::file::tests::null_file();
    let send = |count: usize| Rights::send(&register, vec![file.clone(); count], 7, Some(3));
    let first = send(4).unwrap();
    assert_eq!(send(1).err(), Some(Errno::ETOOMANYREFS));
    drop(first);
    send(1).unwrap();
    assert_eq!(Rc::strong_count(&file), 1);
}
