//! `/proc/net`: headings, and what there is below them.

use crate::process::Server;
use alloc::vec::Vec;

/// `/proc/net/dev`: there are no interfaces.
pub(super) fn devices(_server: &Server) -> Vec<u8> {
    let heading = "Inter-|   Receive                                                |  Transmit\n \
                   face |bytes    packets errs drop fifo frame compressed multicast|\
                   bytes    packets errs drop fifo colls carrier compressed\n";
    heading.as_bytes().to_vec()
}

/// `/proc/net/tcp` and `/proc/net/udp`.
pub(super) fn sockets(_server: &Server) -> Vec<u8> {
    let heading = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode";
    alloc::format!("{heading:<149}\n").into_bytes()
}

/// The same for the longer addresses.
pub(super) fn long_sockets(_server: &Server) -> Vec<u8> {
    let addresses = "  sl  local_address                         remote_address                        ";
    let rest = "st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
    [addresses.as_bytes(), rest.as_bytes()].concat()
}

/// `/proc/net/unix`.
pub(super) fn local_sockets(server: &Server) -> Vec<u8> {
    crate::net::table::unix(server)
}

/// `/proc/net/route`.
pub(super) fn routes(_server: &Server) -> Vec<u8> {
    let heading = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
    alloc::format!("{heading:<127}\n").into_bytes()
}
