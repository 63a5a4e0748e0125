//! TCP and UDP without system calls around them.

extern crate std;

use super::*;
use crate::file::PollEvents;
use crate::file::io::{SliceDestination, SliceSource};
use crate::net::common::Shutdown;
use crate::net::unix::{Received, Request};
use alloc::rc::Rc;
use core::net::SocketAddr;
use std::vec;
use std::vec::Vec;
use tcp::{Binder, Phase};
use udp::Protocol;

const ROOT: Binder = Binder { user: 0, is_privileged: true };

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn listener(domain: &Rc<Domain>, version: Version, at: &str, backlog: u32) -> Rc<TcpSocket> {
    let socket = TcpSocket::new(domain, version).unwrap();
    socket.bind(address(at), ROOT).unwrap();
    socket.listen(backlog, ROOT).unwrap();
    socket
}

fn connected(domain: &Rc<Domain>) -> (Rc<TcpSocket>, Rc<TcpSocket>) {
    let listener = listener(domain, Version::V4, "127.0.0.1:80", 5);
    let client = TcpSocket::new(domain, Version::V4).unwrap();
    client.connect(address("127.0.0.1:80"), ROOT).unwrap();
    client.connected().unwrap();
    let server = listener.accept().unwrap();
    listener.close();
    (client, server)
}

fn receive(socket: &Rc<TcpSocket>, room: usize) -> Result<Vec<u8>> {
    let (mut buffer, mut got) = (vec![0; room], Received::default());
    let mut to = SliceDestination::new(&mut buffer);
    socket.receive(&mut to, Request::default(), &mut got)?;
    Ok(to.filled().to_vec())
}

fn send(socket: &Rc<TcpSocket>, bytes: &[u8]) -> Result<usize> {
    socket.send(&mut SliceSource::new(bytes))
}

#[test]
fn a_connection_carries_bytes_both_ways() {
    let (client, server) = connected(&Rc::default());
    assert_eq!(client.remote(), Ok(address("127.0.0.1:80")));
    assert_eq!(server.remote().ok(), client.local());
    send(&client, b"hello ").unwrap();
    send(&client, b"world").unwrap();
    assert_eq!(receive(&server, 8).unwrap(), b"hello wo");
    assert_eq!(receive(&server, 8).unwrap(), b"rld");
    assert_eq!(receive(&server, 8), Err(Errno::EAGAIN));
    server.shut_down(Shutdown::SEND).unwrap();
    assert_eq!(receive(&client, 8).unwrap(), b"");
    assert_eq!(send(&server, b"x"), Err(Errno::EPIPE));
}

#[test]
fn large_amounts_arrive_whole() {
    let (client, server) = connected(&Rc::default());
    let bytes: Vec<u8> = (0..500_000u32).map(|index| (index % 251) as u8).collect();
    let (mut from, mut received) = (SliceSource::new(&bytes), Vec::new());
    while received.len() < bytes.len() {
        match client.send(&mut from) {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(errno) => panic!("{errno}"),
        }
        received.extend(receive(&server, 10_007).unwrap());
    }
    assert_eq!(received, bytes);
}

#[test]
fn nobody_listens_is_refused() {
    let domain = Rc::default();
    let client = TcpSocket::new(&domain, Version::V4).unwrap();
    client.connect(address("127.0.0.1:80"), ROOT).unwrap();
    assert_eq!(client.connected(), Err(Errno::ECONNREFUSED));
    assert_eq!(client.connect(address("10.0.0.1:80"), ROOT), Err(Errno::ENETUNREACH));
    let _listener = listener(&domain, Version::V4, "127.0.0.1:80", 5);
    client.connect(address("0.0.0.0:80"), ROOT).unwrap();
    assert_eq!(client.connected(), Ok(()));
    assert_eq!(client.connect(address("127.0.0.1:80"), ROOT), Err(Errno::EISCONN));
}

#[test]
fn a_full_queue_makes_clients_wait() {
    let domain = Rc::default();
    let listener = listener(&domain, Version::V4, "127.0.0.1:80", 0);
    let clients: Vec<_> = (0..2).map(|_| TcpSocket::new(&domain, Version::V4).unwrap()).collect();
    clients.iter().for_each(|client| client.connect(address("127.0.0.1:80"), ROOT).unwrap());
    assert_eq!((clients[0].connected(), clients[1].connected()), (Ok(()), Err(Errno::EAGAIN)));
    let waits = clients[1].common.changed.listen();
    listener.accept().unwrap();
    assert!(waits.is_notified());
    assert_eq!(clients[1].connected(), Ok(()));
}

#[test]
fn a_dual_listener_hears_both_versions() {
    let domain = Rc::default();
    let listener = listener(&domain, Version::V6, "[::]:80", 5);
    for (version, to) in [(Version::V4, "127.0.0.1:80"), (Version::V6, "[::1]:80"), (Version::V6, "127.0.0.2:80")] {
        let client = TcpSocket::new(&domain, version).unwrap();
        client.connect(address(to), ROOT).unwrap();
        client.connected().unwrap();
        assert_eq!(listener.accept().unwrap().local(), Some(address(to)));
    }
}

#[test]
fn unread_bytes_reset_and_read_ones_do_not() {
    let (client, server) = connected(&Rc::default());
    send(&client, b"unread").unwrap();
    server.close();
    assert!(client.readiness().contains(PollEvents::ERROR | PollEvents::HANG_UP | PollEvents::OUT));
    assert_eq!((receive(&client, 1), receive(&client, 1)), (Err(Errno::ECONNRESET), Ok(vec![])));
    let (client, server) = connected(&Rc::default());
    server.close();
    assert_eq!(receive(&client, 1), Ok(vec![]));
    assert_eq!((send(&client, b"lost"), send(&client, b"x")), (Ok(4), Err(Errno::EPIPE)));
    assert_eq!(client.phase(), Phase::Over);
}

#[test]
fn datagrams_find_their_ports() {
    let domain = Rc::default();
    let receiver = UdpSocket::new(&domain, Version::V4, Protocol::Udp).unwrap();
    receiver.bind(address("127.0.0.1:53"), ROOT).unwrap();
    let sender = UdpSocket::new(&domain, Version::V6, Protocol::Udp).unwrap();
    assert_eq!(sender.send(None, &mut SliceSource::new(b"x"), ROOT, Packet::default()), Err(Errno::EDESTADDRREQ));
    sender.send(Some(address("127.0.0.1:53")), &mut SliceSource::new(b"query"), ROOT, Packet::default()).unwrap();
    let (mut buffer, mut got) = ([0; 9], Received::default());
    receiver.receive(&mut SliceDestination::new(&mut buffer), Request::default(), &mut got).unwrap();
    assert_eq!((got.count, got.from.map(|from| from.port())), (5, sender.local().map(|local| local.port())));
    sender.connect(Some(address("127.0.0.1:54")), ROOT).unwrap();
    sender.send(None, &mut SliceSource::new(b"x"), ROOT, Packet::default()).unwrap();
    assert_eq!(sender.send(None, &mut SliceSource::new(b"x"), ROOT, Packet::default()), Err(Errno::ECONNREFUSED));
}
