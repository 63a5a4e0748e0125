//! Attributes of inodes, as the library and as the protocol have them.

use driver_protocol::files::entry::{Attributes, InodeFlags};
use ext4::{FileKind, Inode, Time};

const NS_PER_SECOND: i64 = 1_000_000_000;

/// A time of the protocol as one of the library.
pub(super) fn time(unix_ns: i64) -> Time {
    Time { seconds: unix_ns.div_euclid(NS_PER_SECOND), nanoseconds: unix_ns.rem_euclid(NS_PER_SECOND) as u32 }
}

/// A time of the library as one of the protocol; what does not fit becomes the nearest that does.
fn unix_ns(time: Time) -> i64 {
    time.seconds.saturating_mul(NS_PER_SECOND).saturating_add(i64::from(time.nanoseconds))
}

/// What the protocol says of an inode.
pub(super) fn of(inode: &Inode) -> Attributes {
    let created = unix_ns(inode.created);
    Attributes {
        inode: u64::from(inode.number),
        generation: inode.generation,
        mode: u32::from(inode.mode),
        uid: inode.uid,
        gid: inode.gid,
        links: u32::from(inode.links),
        flags: InodeFlags::from_bits_truncate(inode.flags),
        size: inode.size,
        blocks: inode.sectors,
        accessed: unix_ns(inode.accessed),
        modified: unix_ns(inode.modified),
        changed: unix_ns(inode.changed),
        born: if created == 0 { unix_ns(inode.changed) } else { created },
        device: inode.device().map_or(0, |(major, minor)| u64::from(major) << 32 | u64::from(minor)),
        has_xattrs: inode.has_attributes,
    }
}

/// What the protocol says of an inode that can't be read, by what its name says of it.
pub(super) fn unreadable(inode: u32, kind: Option<FileKind>) -> Attributes {
    let mode = u32::from(kind.map_or(0, FileKind::mode));
    Attributes { inode: u64::from(inode), mode, links: 0, ..Attributes::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_survive() {
        for ns in [0, -1, 1_700_000_000_123_456_789, i64::MAX, i64::MIN + NS_PER_SECOND] {
            assert_eq!(unix_ns(time(ns)), ns);
        }
    }
}
