//! What `/proc/net` shows.

use super::unix::{State, UnixSocket};
use crate::process::Server;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use linux_raw_sys::net::socket_state;

/// The flag of a socket that waits for connections (`__SO_ACCEPTCON`).
const ACCEPTS: u32 = 1 << 16;

/// `/proc/net/unix`: a line for each Unix socket. Addresses in the server's memory are nobody's business.
pub fn unix(server: &Server) -> Vec<u8> {
    let mut text = String::from("Num       RefCount Protocol Flags    Type St Inode Path\n").into_bytes();
    for socket in server.net.unix.names.all() {
        text.extend_from_slice(&line(&socket));
    }
    text
}

fn line(socket: &UnixSocket) -> Vec<u8> {
    let (flags, state) = match socket.state() {
        State::Listening => (ACCEPTS, socket_state::SS_UNCONNECTED),
        State::Connected => (0, socket_state::SS_CONNECTED),
        State::Unconnected | State::Closed => (0, socket_state::SS_UNCONNECTED),
    };
    let references = if socket.state() == State::Connected { 3 } else { 2 };
    let (style, inode) = (socket.common.style.number(), socket.common.inode.get());
    let mut start = String::new();
    // Writing to a string does not fail.
    let _ =
        write!(start, "{:016}: {references:08X} {:08X} {flags:08X} {style:04X} {:02X} {inode:5}", 0, 0, state as u32);
    let mut line = start.into_bytes();
    if let Some(name) = socket.name() {
        line.push(b' ');
        line.extend(shown_name(&name));
    }
    line.push(b'\n');
    line
}

/// A path without its zero; the zeroes of an abstract name as `@`.
fn shown_name(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    let is_path = name.first() != Some(&0);
    let length = if is_path { name.len().saturating_sub(1) } else { name.len() };
    name.iter().take(length).map(|byte| if *byte == 0 { b'@' } else { *byte })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::common::Style;
    use crate::net::unix::Name;
    use crate::net::unix::names::Binding;

    #[test]
    fn a_line_tells_type_state_and_name() {
        let socket = UnixSocket::new(&alloc::rc::Rc::default(), Style::Datagram).unwrap();
        let name = Name::from(*b"\0name");
        socket.bind(Binding::Abstract(name.clone()), name).unwrap();
        socket.common.inode.set(77);
        let text = String::from_utf8(line(&socket)).unwrap();
        assert_eq!(text, "0000000000000000: 00000002 00000000 00000000 0002 01    77 @name\n");
    }
}
