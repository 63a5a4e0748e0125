//! `statfs`: what is told of a file system.

use super::{Arguments, Found, find};
use crate::calls::blocking::file;
use crate::calls::names::CURRENT_DIRECTORY;
use crate::errno::Result;
use crate::fs::MountFlags;
use crate::platform;
use crate::process::Thread;
use crate::user::UserPtr;
use alloc::rc::Rc;
use linux_raw_sys::general as linux;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// `struct statfs`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct StatFs {
    magic: u64,
    block_bytes: u64,
    blocks: u64,
    blocks_free: u64,
    blocks_available: u64,
    inodes: u64,
    inodes_free: u64,
    id: u64,
    name_max: u64,
    fragment_bytes: u64,
    flags: u64,
    spare: [u64; 4],
}

/// The flags of a mount as `statfs` shows them.
const SHOWN_FLAGS: [(MountFlags, u64); 7] = [
    (MountFlags::READ_ONLY, 0x1),
    (MountFlags::NO_SET_ID, 0x2),
    (MountFlags::NO_DEVICES, 0x4),
    (MountFlags::NO_EXECUTE, 0x8),
    (MountFlags::NO_ACCESS_TIME, 0x400),
    (MountFlags::NO_DIRECTORY_ACCESS_TIME, 0x800),
    (MountFlags::RELATIVE_ACCESS_TIME, 0x1000),
];

fn statfs_flags(found: &Found) -> u64 {
    /// `ST_VALID`: the flags mean something.
    const VALID: u64 = 0x20;
    /// `ST_NOSYMFOLLOW`.
    const NO_LINKS: u64 = 0x2000;
    let mut flags = found.place.as_ref().map(|place| place.mount.flags()).unwrap_or_default();
    flags.set(MountFlags::READ_ONLY, found.check_writable().is_err());
    let links = if flags.contains(MountFlags::NO_LINKS) { NO_LINKS } else { 0 };
    let shown = SHOWN_FLAGS.iter().filter(|(flag, _)| flags.contains(*flag));
    shown.fold(VALID | links, |all, (_, shown)| all | shown)
}

fn write_statfs(thread: &Rc<Thread>, pointer: u64, found: &Found) -> Result<u64> {
    let filesystem = found.inode.filesystem();
    let mut record = StatFs {
        magic: filesystem.kind().magic,
        block_bytes: platform::PAGE_SIZE,
        fragment_bytes: platform::PAGE_SIZE,
        id: filesystem.device().encoded(),
        name_max: u64::from(linux::NAME_MAX),
        flags: statfs_flags(found),
        ..StatFs::default()
    };
    if let Some(volume) = filesystem.volume() {
        let [blocks, free, available, inodes, inodes_free] = volume.free();
        let geometry = volume.geometry();
        (record.block_bytes, record.fragment_bytes) = (geometry.block_bytes, geometry.block_bytes);
        (record.blocks, record.blocks_free, record.blocks_available) = (blocks, free, available);
        (record.inodes, record.inodes_free) = (inodes, inodes_free);
        record.id = identity(geometry.uuid);
    } else if filesystem.is_stored() {
        let (total, free) = filesystem.pages();
        record.blocks = total;
        record.blocks_free = free;
        record.blocks_available = free;
        record.inodes = filesystem.max_inodes();
        record.inodes_free = filesystem.max_inodes().saturating_sub(filesystem.inodes());
    }
    UserPtr::of_call(thread, pointer).write(&record)?;
    Ok(0)
}

/// What `statfs` shows of a file system's UUID.
fn identity(uuid: [u8; 16]) -> u64 {
    let (halves, _) = uuid.as_chunks::<8>();
    halves.iter().fold(0, |all, half| all ^ u64::from_le_bytes(*half))
}

pub(super) fn statfs(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let found = find(thread, CURRENT_DIRECTORY, args[0], 0)?;
    write_statfs(thread, args[1], &found)
}

pub(super) fn fstatfs(thread: &Rc<Thread>, args: &Arguments) -> Result<u64> {
    let file = file(thread, args[0])?;
    write_statfs(thread, args[1], &Found::of(&file))
}
